import { EINTR } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PG_LOCKED } from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'

/** `folio_trylock`. @returns false: somebody has it */
export function tryLockFolio(k: Kernel, head: number): boolean {
  const { frames } = k.memory
  if (frames.has(head, PG_LOCKED)) return false
  frames.set(head, PG_LOCKED)
  return true
}

/**
 * `folio_lock_killable` for a page that belongs to no file.
 * @param rule of the caller, for the reason
 * @returns 0 with the lock, -EINTR without: the caller is being killed
 */
export function* lockFolioKillable(k: Kernel, head: number, rule: string): Kthread<number> {
  while (!tryLockFolio(k, head)) {
    if (k.fatalSignalPending)
      return refuse(k.current, EINTR, rule, { why: 'killed while waiting for the lock of a page' })
    yield { queue: k.migrationDone, what: `lock of page ${head}`, signals: 'fatal' }
  }
  return 0
}

/** `folio_unlock`: whoever waits for the page goes on. */
export function unlockFolio(k: Kernel, head: number): void {
  k.memory.frames.clear(head, PG_LOCKED)
  k.migrationDone.wakeAll()
}
