import { EINVAL, EPERM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, TASK_SIZE } from '../base/units.ts'
import { hugetlbUnreserve, pagesPerHuge } from './hugetlb.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { Leaf, pmdIndex, pteSlot, type PageTable } from './page-table.ts'
import { alignUp, asWord, isPageAligned } from './user-range.ts'
import { finishUprobes } from './uprobe-hooks.ts'
import { noteUnmap, takeChanges, tellChanges } from './userfaultfd-events.ts'
import { splitVma, splitVmaUnlimited } from './vma-merge.ts'
import { freeVma, unlinkAnonVmas } from './vma-link.ts'
import type { VmaTree } from './vma-tree.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { unchargeCommit, vmStatAccount } from './vm-accounting.ts'
import { VM_ACCOUNT, VM_GROWSDOWN, VM_LOCKED, VMH_SEALED } from './vm-flags.ts'
import { lockForWrite, tryWriteNow } from './write-lock.ts'
import { freePageTables, zapRange } from './zap.ts'

/**
 * munmap(2): removes every mapping in [addr, addr + len); holes are fine. The write lock becomes a read
 * lock while pages are unmapped. Pinned pages leave the page table and stay allocated (R-AS-146).
 * @param addr page aligned
 * @param len bytes, rounded up to pages
 * @returns 0, -EINVAL, -ENOMEM (map_count), -EPERM (sealed), -EINTR
 * @rule R-AS-59
 * @rule R-AS-120
 */
export function* munmap(k: Kernel, mm: Mm, addr: number, len: number): Kthread<number> {
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const start = asWord(addr)
  const end = start + alignUp(asWord(len))
  const { vmas } = guard
  const refused = checkUnmapRange(k, start, end - start)
  const first = refused < 0 ? null : firstOverlapping(vmas, start, end)
  const error = first === null ? refused : splitEdges(k, mm, vmas, first, start, end)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  if (first === null || error < 0) {
    guard.release()
    return error
  }
  if (isUnpopulated(mm.pageTable, start, end)) {
    noteUnmap(mm, first, start, end)
    detach(mm, vmas, first, end)
    finish(k, mm, vmas, first, start, end)
    const changes = takeChanges(mm)
    guard.release()
    yield* tellChanges(k, changes)
    return 0
  }
  yield* removeUnlocking(k, guard, first, start, end)
  return 0
}

/**
 * Removes VMAs whose edges `splitEdges` has cut, the pages under the read lock only. Ends the guard, and tells
 * userfaultfds.
 * @rule R-AS-120
 */
export function* removeUnlocking(
  k: Kernel,
  guard: MmapWriteGuard,
  first: Vma,
  start: number,
  end: number,
): Kthread<void> {
  const { mm, vmas } = guard
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  noteUnmap(mm, first, start, end)
  const next = detach(mm, vmas, first, end)
  const changes = takeChanges(mm)
  const stays = !k.release.mm.munmapAlwaysDowngrades && next !== null && (next.flags & VM_GROWSDOWN) !== 0
  const held = stays ? guard : guard.downgrade()
  yield* zapDetached(k, mm, first)
  finish(k, mm, vmas, first, start, end)
  held.release()
  yield* tellChanges(k, changes)
}

/**
 * `do_munmap` under a write lock that is kept.
 * @returns 0 or the errors of munmap(2)
 */
export function* doMunmap(k: Kernel, guard: MmapWriteGuard, addr: number, len: number): Kthread<number> {
  const length = alignUp(len)
  const error = checkUnmapRange(k, addr, length)
  if (error < 0) return error
  const { mm, vmas } = guard
  const end = addr + length
  const first = firstOverlapping(vmas, addr, end)
  if (first === null) return 0
  const refused = splitEdges(k, mm, vmas, first, addr, end)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  if (refused < 0) return refused
  noteUnmap(mm, first, addr, end)
  yield* removeDetached(k, mm, vmas, first, addr, end)
  return 0
}

/**
 * Removes VMAs whose edges `splitEdges` has cut: the point of destruction of MAP_FIXED.
 * @param later takes hugetlb VMAs, which still hold their files, instead of ending them now
 */
export function* removeDetached(
  k: Kernel,
  mm: Mm,
  vmas: VmaTree,
  first: Vma,
  start: number,
  end: number,
  later: Vma[] | null = null,
): Kthread<void> {
  detach(mm, vmas, first, end)
  if (!isUnpopulated(mm.pageTable, start, end)) yield* zapDetached(k, mm, first)
  finish(k, mm, vmas, first, start, end, later)
}

/** `find_vma_intersection`. */
export function firstOverlapping(vmas: VmaTree, start: number, end: number): Vma | null {
  const vma = vmas.find(start)
  return vma === null || vma.start >= end ? null : vma
}

function checkUnmapRange(k: Kernel, start: number, length: number): number {
  // @rule R-AS-59
  if (!isPageAligned(start)) {
    return refuse(k.current, EINVAL, 'R-AS-59', { address: start, why: 'the address is not page aligned' })
  }
  if (start < 0 || start > TASK_SIZE || length < 0 || length > TASK_SIZE - start) {
    return refuse(k.current, EINVAL, 'R-AS-59', { address: start, why: 'the range leaves user space' })
  }
  if (length === 0) return refuse(k.current, EINVAL, 'R-AS-59', { address: start, why: 'the length is zero' })
  return 0
}

/**
 * `-EPERM` for a sealed VMA.
 * @rule R-AS-116
 */
export function checkSealed(k: Kernel, vma: Vma): number {
  if ((vma.highFlags & VMH_SEALED) === 0) return 0
  return refuse(k.current, EPERM, 'R-AS-116', {
    address: vma.start,
    vma: vmaFacts(vma),
    why: 'the mapping is sealed',
  })
}

/**
 * Cuts the first and last VMA at the edges of [start, end) and looks at everything that could refuse the
 * removal. On an error nothing is removed, but a cut may stay (R-AS-60).
 * @rule R-AS-60
 */
export function splitEdges(k: Kernel, mm: Mm, vmas: VmaTree, first: Vma, start: number, end: number): number {
  if (first.start < start) {
    const sealed = end < first.end && mm.mapCount >= k.settings.maxMapCount ? 0 : checkSealed(k, first)
    if (sealed < 0) return sealed
    // punching a hole needs a VMA more than there is now
    const error =
      end < first.end
        ? splitVma(k, mm, vmas, first, start, true)
        : splitVmaUnlimited(k, mm, vmas, first, start, true)
    if (error < 0) return error
  }
  for (let vma: Vma | null = first; vma !== null && vma.start < end; vma = vma.next) {
    const sealed = checkSealed(k, vma)
    if (sealed < 0) return sealed
    if (vma.end > end) {
      const error = splitVmaUnlimited(k, mm, vmas, vma, end, false)
      if (error < 0) return error
    }
  }
  return 0
}

/** Pages of VMAs in [start, end), and those of them that are charged. */
export function countMapped(vmas: VmaTree, start: number, end: number, flag: number): number {
  let pages = 0
  for (let vma = firstOverlapping(vmas, start, end); vma !== null && vma.start < end; vma = vma.next) {
    if (flag !== 0 && (vma.flags & flag) === 0) continue
    pages += (Math.min(vma.end, end) - Math.max(vma.start, start)) / PAGE_SIZE
  }
  return pages
}

/**
 * Takes the VMAs from `first` up to `end` out of the tree: from here on nobody can find them. They stay
 * chained by `next`.
 * @returns the VMA behind them
 * @rule R-AS-145
 * @rule R-AS-96
 */
function detach(mm: Mm, vmas: VmaTree, first: Vma, end: number): Vma | null {
  let last: Vma | null = null
  let vma: Vma | null = first
  while (vma !== null && vma.start < end) {
    const following: Vma | null = vma.next
    vmas.remove(vma)
    mm.mapCount--
    if ((vma.flags & VM_LOCKED) !== 0) mm.lockedVm -= vma.pages
    if (last !== null) last.next = vma
    last = vma
    vma = following
  }
  return vma
}

/** No page-table entry in the range: nothing to zap. Looks at most at one leaf. */
function isUnpopulated(pageTable: PageTable, start: number, end: number): boolean {
  const low = pmdIndex(start)
  const high = pmdIndex(end - 1)
  if (low !== high) return pageTable.nextPmd(low, high + 1) < 0
  const entry = pageTable.pmd(low)
  if (entry === null) return true
  if (!(entry instanceof Leaf)) return false
  if (entry.used === 0) return true
  const { bits } = entry
  for (let slot = pteSlot(start), last = pteSlot(end - 1); slot <= last; slot++)
    if (bits[slot] !== 0) return false
  return true
}

function* zapDetached(k: Kernel, mm: Mm, first: Vma): Kthread<void> {
  for (let vma: Vma | null = first; vma !== null; vma = vma.next) {
    yield* zapRange(k, mm, vma, vma.start, vma.end, 'munmap')
  }
}

/**
 * What comes after the pages are gone: reverse maps, page tables, counters, files, charge, in this order.
 * @rule R-AS-61
 * @rule R-AS-145
 */
function finish(
  k: Kernel,
  mm: Mm,
  vmas: VmaTree,
  first: Vma,
  start: number,
  end: number,
  later: Vma[] | null = null,
): void {
  for (let vma: Vma | null = first; vma !== null; vma = vma.next) unlinkAnonVmas(vma)
  if (!mm.pageTable.empty) freePageTables(mm, vmas, start, end)
  let vma: Vma | null = first
  while (vma !== null) {
    const following: Vma | null = vma.next
    const { pages } = vma
    vmStatAccount(mm, vma.flags, -pages)
    if ((vma.flags & VM_ACCOUNT) !== 0) unchargeCommit(k, mm, pages)
    vma.next = null
    if (vma.isHugetlb) {
      const unit = pagesPerHuge(vma)
      const index = vma.pgoff / unit
      hugetlbUnreserve(k, vma, index, index + pages / unit)
    }
    if (later !== null && vma.isHugetlb) later.push(vma)
    else freeVma(vma)
    vma = following
  }
  k.observer?.({ type: 'unmap', mm: mm.id, start, end })
}
