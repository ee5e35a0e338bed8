import { EINVAL, ENOMEM, ENOSYS } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { finishUprobes } from './uprobe-hooks.ts'
import { alignUp, asWord, isPageAligned, rangeEnd } from './user-range.ts'
import { changedShape, vmaModify } from './vma-merge.ts'
import { VMH_SEALED } from './vm-flags.ts'
import { lockForWrite, tryWriteNow } from './write-lock.ts'

/**
 * mseal(2), 6.10 on: fixes mappings for good. All or nothing for holes.
 * @param addr page aligned
 * @param len bytes, rounded up to pages
 * @param flags 0
 * @returns 0, -EINVAL, -ENOMEM, -EINTR; -ENOSYS on a release that has no such call
 * @rule R-AS-115
 */
export function* mseal(k: Kernel, mm: Mm, addr: number, len: number, flags: number): Kthread<number> {
  if (!k.release.mm.hasMseal)
    return refuse(k.current, ENOSYS, 'R-AS-115', { why: `${k.release.name} has no mseal` })
  const start = asWord(addr)
  const word = asWord(len)
  const length = alignUp(word)
  if (flags !== 0) return refuse(k.current, EINVAL, 'R-AS-115', { why: 'mseal has no flags' })
  if (!isPageAligned(start)) {
    return refuse(k.current, EINVAL, 'R-AS-115', { address: start, why: 'the address is not page aligned' })
  }
  if (length < 0 || (word !== 0 && length === 0) || rangeEnd(start, length) === null) {
    return refuse(k.current, EINVAL, 'R-AS-115', { address: start, why: 'the range wraps around' })
  }
  if (length === 0) return 0
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const end = start + length
  const hole = firstHole(guard, start, end)
  const result =
    hole < end
      ? refuse(k.current, ENOMEM, 'R-AS-115', { address: hole, why: 'nothing is mapped here' })
      : sealRange(k, guard, start, end)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  guard.release()
  return result
}

/** Address of the first unmapped byte of a range; its end when there is none. */
function firstHole(guard: MmapWriteGuard, start: number, end: number): number {
  let at = start
  while (at < end) {
    const vma = at < 0 ? null : guard.vmas.find(at)
    if (vma === null || vma.start > at) return at
    at = vma.end
  }
  return end
}

/** @rule R-AS-117 */
function sealRange(k: Kernel, guard: MmapWriteGuard, start: number, end: number): number {
  const { mm, vmas } = guard
  let at = start
  while (at < end) {
    const vma = vmas.find(at)!
    const to = Math.min(vma.end, end)
    if ((vma.highFlags & VMH_SEALED) === 0) {
      const sealed = changedShape(vma, { highFlags: vma.highFlags | VMH_SEALED })
      const target = vmaModify(k, mm, vmas, vma, at, to, sealed)
      if (typeof target === 'number') return target
    }
    at = to
  }
  return 0
}
