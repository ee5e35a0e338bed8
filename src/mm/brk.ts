import { ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, TASK_SIZE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { firstOverlapping, removeUnlocking, splitEdges } from './munmap.ts'
import { readImpliesExec } from './personality.ts'
import { mmPopulate } from './populate.ts'
import { finishUprobes } from './uprobe-hooks.ts'
import { alignUp, asWord } from './user-range.ts'
import { insertVma } from './vma-link.ts'
import { mergeNewRange } from './vma-merge.ts'
import { chargeCommit, mayExpandVm, mlockFutureOk, vmStatAccount } from './vm-accounting.ts'
import { Vma } from './vma.ts'
import { VM_ACCOUNT, VM_EXEC, VM_LOCKED, VM_MAY_ALL, VM_READ, VM_WRITE } from './vm-flags.ts'
import { lockForWrite, tryWriteNow } from './write-lock.ts'

/**
 * brk(2) as the kernel has it: returns the end of the heap, which is the old one when it refused (the
 * reason is in `current.refusal`).
 * @param brk bytes; wanted end
 * @returns the end of the heap after the call, or -EINTR
 * @rule R-AS-77
 */
export function* brk(k: Kernel, mm: Mm, brk: number): Kthread<number> {
  const wanted = asWord(brk)
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const old = mm.brk
  const end = alignUp(old)
  const error = moveBrk(k, guard, wanted)
  // @rule R-AS-78
  const shrinks =
    error === 0 && alignUp(wanted) < end ? firstOverlapping(guard.vmas, alignUp(wanted), end) : null
  if (shrinks !== null) yield* removeUnlocking(k, guard, shrinks, alignUp(wanted), end)
  else {
    if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
    guard.release()
  }
  if (error === 0 && (mm.defFlags & VM_LOCKED) !== 0 && alignUp(wanted) > end) {
    yield* mmPopulate(k, mm, end, alignUp(wanted) - end, true)
  }
  return error < 0 ? old : wanted
}

/** Checks and moves `mm.brk`; a heap that shrinks is cut but not yet unmapped. 0 or a negative errno. */
function moveBrk(k: Kernel, guard: MmapWriteGuard, wanted: number): number {
  const { mm, vmas } = guard
  const refused = (why: string): number => refuse(k.current, ENOMEM, 'R-AS-77', { address: wanted, why })
  if (wanted < mm.startBrk || wanted < 0) return refused('the end would lie below the start of the heap')
  if (wanted > TASK_SIZE) return refused('the end would lie above user space')
  if (wanted - mm.startBrk + mm.dataSegment > k.current.rlimit('data'))
    return refused('the heap would exceed RLIMIT_DATA')
  const oldEnd = alignUp(mm.brk)
  const newEnd = alignUp(wanted)
  if (newEnd === oldEnd) {
    mm.brk = wanted
    return 0
  }
  if (newEnd < oldEnd) {
    // @rule R-AS-78
    const first = firstOverlapping(vmas, newEnd, oldEnd)
    if (first === null) return refused('nothing is mapped where the heap is to shrink')
    const error = splitEdges(k, mm, vmas, first, newEnd, oldEnd)
    if (error === 0) mm.brk = wanted
    return error
  }
  // @rule R-AS-79
  const above = vmas.find(oldEnd)
  if (above !== null && newEnd + PAGE_SIZE > vmas.guardedStart(above))
    return refused('another mapping is in the way')
  const error = growHeap(k, guard, oldEnd, newEnd, above)
  if (error < 0) return error
  mm.brk = wanted
  return 0
}

/**
 * `do_brk_flags`. Only the VMA below may take the new pages in.
 * @rule R-AS-79
 */
function growHeap(k: Kernel, guard: MmapWriteGuard, start: number, end: number, above: Vma | null): number {
  const { mm, vmas } = guard
  const pages = (end - start) / PAGE_SIZE
  // @rule R-AS-6
  const executable = readImpliesExec(k.current) ? VM_EXEC : 0
  const flags = VM_READ | VM_WRITE | executable | VM_MAY_ALL | VM_ACCOUNT | mm.defFlags | k.newVmaFlags
  const locked = mlockFutureOk(k, mm, mm.defFlags, pages)
  if (locked < 0) return locked
  const fits = mayExpandVm(k, mm, flags, pages)
  if (fits < 0) return fits
  if (mm.mapCount > k.settings.maxMapCount) {
    return refuse(k.current, ENOMEM, 'R-AS-52', {
      used: mm.mapCount,
      limit: k.settings.maxMapCount,
      why: 'the process has more mappings than vm.max_map_count',
    })
  }
  const charged = chargeCommit(k, mm, pages)
  if (charged < 0) return charged
  const below = above === null ? vmas.last : above.previous
  // what ends where the heap begins is no part of it
  const previous = below !== null && below.end > mm.startBrk ? below : null
  const shape = { flags, highFlags: 0, file: null, uffd: null, policy: null, anonName: null }
  if (mergeNewRange(k, mm, vmas, previous, null, start, end, start / PAGE_SIZE, shape, null) === null) {
    insertVma(mm, vmas, new Vma(start, end, flags, start / PAGE_SIZE), below, above)
  }
  vmStatAccount(mm, flags, pages)
  if ((flags & VM_LOCKED) !== 0) mm.lockedVm += pages
  k.observer?.({ type: 'map', mm: mm.id, start, end })
  return 0
}
