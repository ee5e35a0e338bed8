import { EBUSY, EINVAL, ENOMEM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { canSync } from './file.ts'
import type { Kernel } from './kernel.ts'
import { MS_ASYNC, MS_INVALIDATE, MS_SYNC } from './mman.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { alignUp, asWord, isPageAligned, rangeEnd } from './user-range.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { VM_LOCKED, VM_SHARED } from './vm-flags.ts'
import { lockForRead } from './write-lock.ts'
import { writebackFile } from './writeback.ts'

/**
 * msync(2). VMAs in order: a hole is skipped and remembered, an error of a VMA ends the walk at once and
 * leaves the earlier ones written. MS_SYNC writes the dirty pages of shared file mappings, without
 * `mmap_lock`; MS_ASYNC and 0 only look.
 * @param addr page aligned
 * @param len bytes, rounded up to pages
 * @param flags MS_ASYNC, MS_INVALIDATE, MS_SYNC
 * @returns 0, -EINVAL, -ENOMEM (hole), -EBUSY
 * @rule R-AS-110
 */
export function* msync(k: Kernel, mm: Mm, addr: number, len: number, flags: number): Kthread<number> {
  const invalid = (why: string): number => refuse(k.current, EINVAL, 'R-AS-110', { why })
  const start = asWord(addr)
  if ((flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) !== 0) return invalid('msync with unknown flags')
  if (!isPageAligned(start)) return invalid('the address is not page aligned')
  if ((flags & (MS_ASYNC | MS_SYNC)) === (MS_ASYNC | MS_SYNC)) return invalid('MS_ASYNC and MS_SYNC together')
  const length = alignUp(asWord(len))
  if (length === 0) return 0
  const end = rangeEnd(start, length)
  if (end === null)
    return refuse(k.current, ENOMEM, 'R-AS-110', { address: start, why: 'the range wraps around' })
  const guard = (k.exploring ? null : mm.mmapLock.tryRead()) ?? (yield* lockForRead(k, mm))
  const walk = new SyncWalk(guard)
  const result = yield* walk.run(k, mm, start, end < 0 ? Infinity : end, flags)
  walk.guard.release()
  return result
}

/** One walk over a range; writing drops the lock in between, so the guard can change. */
class SyncWalk {
  guard: MmapReadGuard

  constructor(guard: MmapReadGuard) {
    this.guard = guard
  }

  *run(k: Kernel, mm: Mm, start: number, end: number, flags: number): Kthread<number> {
    let at = start
    let hole = -1
    for (;;) {
      const vma: Vma | null = at < 0 ? null : this.guard.vmas.find(at)
      if (vma === null || vma.start > at) {
        if (hole < 0) hole = at
        // without MS_SYNC or MS_INVALIDATE nothing behind the hole could come out differently
        if (vma === null || flags === MS_ASYNC || vma.start >= end) break
      }
      if ((flags & MS_INVALIDATE) !== 0 && (vma.flags & VM_LOCKED) !== 0) {
        return refuse(k.current, EBUSY, 'R-AS-110', {
          address: vma.start,
          vma: vmaFacts(vma),
          why: 'MS_INVALIDATE on a locked mapping',
        })
      }
      const from = Math.max(at, vma.start)
      const to = vma.end
      if ((flags & MS_SYNC) !== 0 && vma.file !== null && (vma.flags & VM_SHARED) !== 0) {
        const error = yield* this.#write(k, mm, vma, from, Math.min(to, end))
        if (error < 0) return error
      }
      at = to
      if (at >= end) break
    }
    if (hole === -1) return 0
    return refuse(k.current, ENOMEM, 'R-AS-110', { address: hole, why: 'a part of the range is not mapped' })
  }

  /** `vfs_fsync_range` of what the VMA shows of its file, without the lock. */
  *#write(k: Kernel, mm: Mm, vma: Vma, start: number, end: number): Kthread<number> {
    const file = vma.file!
    const { kind } = file.mapping
    if (!canSync(kind)) {
      return refuse(k.current, EINVAL, 'R-AS-110', {
        address: start,
        vma: vmaFacts(vma),
        why: 'this kind of file cannot be synced',
      })
    }
    const first = vma.pageIndex(start)
    file.get()
    this.guard.release()
    writebackFile(k, file.mapping, first, first + (end - start) / PAGE_SIZE)
    file.put()
    if (k.exploring) yield PREEMPT
    this.guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    return 0
  }
}
