import { EINTR } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard, MmapWriteGuard } from './mmap-lock.ts'

/**
 * `mmap_write_lock_killable` of a system call where the lock was not free (`tryWriteNow`).
 * @returns the guard, or -EINTR when a fatal signal came first
 */
export function* lockForWrite(k: Kernel, mm: Mm): Kthread<MmapWriteGuard | number> {
  if (k.exploring) yield PREEMPT
  const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.writeKillable())
  return typeof guard === 'number' ? interrupted(k) : guard
}

/** The write lock when it is free and nobody explores interleavings; otherwise `yield* lockForWrite`. */
export function tryWriteNow(k: Kernel, mm: Mm): MmapWriteGuard | null {
  return k.exploring ? null : mm.mmapLock.tryWrite()
}

/** `mmap_read_lock` of a system call. */
export function* lockForRead(k: Kernel, mm: Mm): Kthread<MmapReadGuard> {
  if (k.exploring) yield PREEMPT
  return mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
}

// @rule R-AS-10
function interrupted(k: Kernel): number {
  return refuse(k.current, EINTR, 'R-AS-10', { why: 'a fatal signal came while waiting for mmap_lock' })
}
