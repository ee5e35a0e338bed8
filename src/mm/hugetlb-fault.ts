import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PMD_SIZE } from '../base/units.ts'
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY } from '../memory/page-flags.ts'
import {
  FAULT_FLAG_UNSHARE,
  FAULT_FLAG_WRITE,
  VM_FAULT_HWPOISON_LARGE,
  VM_FAULT_SIGBUS,
  VM_FAULT_SIGSEGV,
} from './fault-flags.ts'
import { refuseFault } from './fault-refusal.ts'
import { NEEDS_USERFAULT, NEEDS_USERFAULT_MINOR, NEEDS_USERFAULT_WP } from './fault-sleep.ts'
import { pageCacheInsert } from './filemap.ts'
import {
  alignParts,
  allocHugetlb,
  copyHugetlbContents,
  hugetlbBits,
  makeHugetlbAnon,
  mapHugetlb,
  unmapHugetlb,
} from './hugetlb-map.ts'
import { firstPart, hugetlbFile, hugetlbIndex, isReservationOwner, pagesPerHuge } from './hugetlb-reserve.ts'
import type { Kernel } from './kernel.ts'
import { requireKnownEntry, waitForMigration } from './migration-entry.ts'
import type { Mm } from './mm.ts'
import { unwatched, type MmapReadGuard } from './mmap-lock.ts'
import { invalidateRange } from './mmu-notifier.ts'
import {
  HugePmd,
  pmdIndex,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_MARKER_POISON,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_UFFD_WP,
  PTE_WRITE,
} from './page-table.ts'
import { VM_MAYSHARE, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE, VMH_UFFD_MINOR } from './vm-flags.ts'
import { isUffdWpAsync } from './userfaultfd-context.ts'
import { handleUserfault } from './userfaultfd-fault.ts'
import type { Vma } from './vma.ts'

/**
 * A fault in a hugetlb VMA.
 * @returns VM_FAULT_*; as every fault, RETRY means that the guard may have been released
 * @throws Unmodelled for entries of a snapshot that may be under migration
 * @rule R-HUGE-45
 * @rule R-HUGE-55
 */
export function* hugetlbFault(
  k: Kernel,
  guard: MmapReadGuard,
  vma: Vma,
  address: number,
  flags: number,
): Kthread<number> {
  if (k.exploring) yield PREEMPT
  const { mm } = guard
  const pmd = firstPart(vma, pmdIndex(address))
  const entry = mm.pageTable.pmd(pmd)
  if (!(entry instanceof HugePmd)) return yield* noPage(k, guard, vma, address, flags)
  if ((entry.bits & PTE_MARKER_POISON) !== 0) {
    const why = 'the entry is marked poisoned'
    return refuseFault(k, VM_FAULT_HWPOISON_LARGE, 'R-HUGE-45', vma, address, why)
  }
  if ((entry.bits & PTE_MARKER_UFFD_WP) !== 0) return yield* noPage(k, guard, vma, address, flags)
  if ((entry.bits & PTE_MIGRATION) !== 0) {
    requireKnownEntry(entry.pfn, 'a huge page under migration', 'R-HUGE-45')
    yield* waitForMigration(k)
    return 0
  }
  const uffdWp = (entry.bits & PTE_UFFD_WP) !== 0 && (vma.flags & VM_UFFD_WP) !== 0
  if ((flags & FAULT_FLAG_WRITE) !== 0 && uffdWp) {
    if (!isUffdWpAsync(vma)) return yield* handleUserfault(k, guard, vma, address, flags, NEEDS_USERFAULT_WP)
    entry.bits &= ~PTE_UFFD_WP
  }
  if ((flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE)) !== 0 && (entry.bits & PTE_WRITE) === 0) {
    const code = writeProtected(k, mm, vma, address, entry, flags)
    alignParts(mm, vma, pmd)
    return code
  }
  entry.bits |= (flags & FAULT_FLAG_WRITE) !== 0 ? PTE_ACCESSED | PTE_DIRTY : PTE_ACCESSED
  alignParts(mm, vma, pmd)
  return 0
}

/** @rule R-HUGE-46 */
function* noPage(k: Kernel, guard: MmapReadGuard, vma: Vma, address: number, flags: number): Kthread<number> {
  const { mm } = guard
  const { frames } = k.memory
  const { mapping } = vma.file!
  const pmd = firstPart(vma, pmdIndex(address))
  const index = hugetlbIndex(vma, address)
  const isPrivate = (vma.flags & VM_MAYSHARE) === 0
  if (vma.hugetlb?.unmapped === true) {
    return refuseFault(
      k,
      VM_FAULT_SIGBUS,
      'R-HUGE-48',
      vma,
      address,
      'the process the pages were reserved for took this one back',
    )
  }
  let head = mapping.pages.get(index)
  if (head !== 0) {
    if ((vma.highFlags & VMH_UFFD_MINOR) !== 0)
      return yield* handleUserfault(k, guard, vma, address, flags, NEEDS_USERFAULT_MINOR)
    k.memory.get(head)
  } else {
    if (index >= Math.floor(mapping.size / mapping.pageSize)) {
      return refuseFault(
        k,
        VM_FAULT_SIGBUS,
        'R-HUGE-46',
        vma,
        address,
        'the page lies beyond the end of the huge page file',
      )
    }
    if ((vma.flags & VM_UFFD_MISSING) !== 0) {
      return yield* handleUserfault(k, guard, vma, address, flags, NEEDS_USERFAULT)
    }
    head = allocForFault(k, vma, index, false)
    // @rule R-HTL-7
    if (head === 0) {
      return refuseFault(
        k,
        VM_FAULT_SIGBUS,
        'R-HUGE-46',
        vma,
        address,
        'the pool of huge pages is exhausted and nothing is reserved for this page',
      )
    }
    if (!isPrivate) {
      pageCacheInsert(k, mapping, index, head)
      hugetlbFile(k, mapping).reserved.add(index)
      frames.set(head, PG_DIRTY)
    } else makeHugetlbAnon(k, mm, vma, head, index)
  }
  // the marker's protection goes on; a write is announced when it is tried again
  const marked = mm.pageTable.pmd(pmd) !== null
  const bits = hugetlbBits(vma)
  mapHugetlb(k, mm, pmd, head, marked ? (bits & ~PTE_WRITE) | PTE_UFFD_WP : bits)
  if ((flags & FAULT_FLAG_WRITE) === 0 || !isPrivate || marked) return 0
  const code = writeProtected(k, mm, vma, address, mm.pageTable.pmd(pmd) as HugePmd, flags)
  alignParts(mm, vma, pmd)
  return code
}

/** A page for one index: from what was promised for it if anything was, otherwise from what is left over. */
export function allocForFault(k: Kernel, vma: Vma, index: number, avoidReserve: boolean): number {
  const file = hugetlbFile(k, vma.file!.mapping)
  if ((vma.flags & VM_MAYSHARE) !== 0) return allocHugetlb(k, file, file.reserved.has(index))
  const map = avoidReserve ? null : (vma.hugetlb?.map ?? null)
  const fromReserve = map !== null && map.has(index)
  const head = allocHugetlb(k, file, fromReserve)
  if (head !== 0 && fromReserve) map.take(index)
  return head
}

/** @rule R-HUGE-47 */
function writeProtected(k: Kernel, mm: Mm, vma: Vma, address: number, entry: HugePmd, flags: number): number {
  const { frames } = k.memory
  const head = entry.pfn
  const isUnshare = (flags & FAULT_FLAG_UNSHARE) !== 0
  // @rule R-HUGE-49
  if (!isUnshare && (vma.flags & VM_WRITE) === 0 && !k.release.gup.forceWritesHugetlb) {
    const why = 'a forced write to a read-only huge page mapping is not supported'
    return refuseFault(k, VM_FAULT_SIGSEGV, 'R-HUGE-49', vma, address, why)
  }
  if ((vma.flags & VM_MAYSHARE) !== 0) {
    if (!isUnshare) entry.bits |= PTE_WRITE | PTE_DIRTY | PTE_ACCESSED
    return 0
  }
  const isAnon = frames.has(head, PG_ANON)
  // the pages of the mapping itself count, references of others do not
  if (isAnon && frames.entireMapcount(head) === 1) return reuse(k, vma, entry, isUnshare)
  if (isUnshare && !isAnon && !k.release.fault.unshareCopiesFilePages) return 0

  const isOwner = isReservationOwner(vma)
  const copy = allocForFault(k, vma, hugetlbIndex(vma, address), isOwner && isAnon)
  if (copy === 0) {
    if (isOwner && isAnon) {
      takeFromOthers(k, vma, address, head)
      return reuse(k, vma, entry, isUnshare)
    }
    return refuseFault(
      k,
      VM_FAULT_SIGBUS,
      'R-HUGE-48',
      vma,
      address,
      'copying the shared huge page needs another one and the pool is exhausted',
    )
  }
  if (mm.notifiers !== null)
    invalidateRange(mm, pmdIndex(address) * PMD_SIZE, (pmdIndex(address) + 1) * PMD_SIZE)
  makeHugetlbAnon(k, mm, vma, copy, hugetlbIndex(vma, address))
  copyHugetlbContents(k, head, copy)
  frames.addEntireMapcount(head, -1)
  k.memory.put(head)
  frames.addEntireMapcount(copy, 1)
  entry.pfn = copy
  entry.bits = hugetlbBits(vma) | (isUnshare ? 0 : writeBits(vma))
  k.observer?.({ type: 'cow', mm: mm.id, address, from: head, to: copy })
  return 0
}

function writeBits(vma: Vma): number {
  return (vma.flags & VM_WRITE) === 0 ? PTE_DIRTY : PTE_DIRTY | PTE_WRITE
}

function reuse(k: Kernel, vma: Vma, entry: HugePmd, isUnshare: boolean): number {
  k.memory.frames.set(entry.pfn, PG_ANON_EXCLUSIVE)
  if (!isUnshare) entry.bits |= PTE_ACCESSED | writeBits(vma)
  return 0
}

/**
 * The owner was promised its pages: when there is none for a copy, those who only inherited the page lose it, and find
 * SIGBUS instead from then on. Each mapping of this place in the file is looked for it at the owner's address, whatever
 * its own is: where a process has several, the first one is marked although another may have shown the page.
 * @throws Unmodelled where which is first is not known, and where the page cannot be had back
 * @rule R-HUGE-48
 */
function takeFromOthers(k: Kernel, maybeWatched: Vma, address: number, head: number): void {
  const owner = unwatched(maybeWatched)
  const { mapping } = owner.file!
  const index = hugetlbIndex(owner, address)
  const pmd = firstPart(owner, pmdIndex(address))
  const losers = new Map<Mm, Vma[]>()
  for (const vma of mapping.mappers) {
    const { mm } = vma
    if (vma === owner || mm === null || (vma.flags & VM_MAYSHARE) !== 0 || isReservationOwner(vma)) continue
    const base = Math.floor(vma.pgoff / pagesPerHuge(vma))
    if (index < base || index >= base + (vma.end - vma.start) / mapping.pageSize) continue
    const entry = mm.pageTable.pmd(pmd)
    if (!(entry instanceof HugePmd) || entry.pfn !== head) continue
    if (mm === owner.mm) throw new Unmodelled('a huge page that its owner takes from itself', 'R-HUGE-48')
    losers.set(mm, [...(losers.get(mm) ?? []), vma])
  }
  for (const [mm, vmas] of losers) {
    const [first, second] = vmas.sort((a, b) => a.pgoff - b.pgoff) as [Vma, Vma | undefined]
    if (first.pgoff === second?.pgoff)
      throw new Unmodelled('which of several mappings of a huge page loses it', 'R-HUGE-48')
    first.hugetlb = { map: null, unmapped: true }
    unmapHugetlb(k, mm, first, pmd, false)
    const start = pmd * PMD_SIZE
    k.observer?.({ type: 'zap', mm: mm.id, start, end: start + mapping.pageSize })
  }
  if (k.memory.frames.entireMapcount(head) > 1)
    throw new Unmodelled('a huge page that somebody has moved, and its owner wants back', 'R-HUGE-48')
}
