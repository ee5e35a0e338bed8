import { PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_HUGETLB, PG_KSM, PG_SWAPBACKED } from '../memory/page-flags.ts'
import type { Kernel } from '../mm/kernel.ts'
import {
  HugePmd,
  PTE_MARKER_GUARD,
  PTE_MARKER_POISON,
  PTE_MARKER_UFFD_WP,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_UFFD_WP,
  type PageTable,
  type PmdEntry,
} from '../mm/page-table.ts'
import type { FrameIds } from './frame-ids.ts'
import type { PageRun } from './observation.ts'
import type { Arena } from './range.ts'
import * as run from './run-builder.ts'

/**
 * The entries of a page table in the arena, as the other side's pagemap, kpageflags and kpagecount show them.
 * @param ksmShown the other side tells merged pages from others
 * @rule R-HUGE-38
 * @rule R-HUGE-57
 * @rule R-FLT-165
 */
export function viewPages(
  k: Kernel,
  pageTable: PageTable,
  arena: Arena,
  ids: FrameIds,
  ksmShown: boolean,
): readonly PageRun[] {
  const runs = new run.RunBuilder(ksmShown ? 0 : run.KSM)
  eachTable(pageTable, arena, (entry, page, from, to, pmd) => {
    if (entry instanceof HugePmd && (entry.bits & PTE_PRESENT) === 0) {
      // of a marker on a huge page only the protection is shown (R-FLT-126)
      if ((entry.bits & PTE_MARKER_UFFD_WP) === 0) return
      for (let slot = from; slot < to; slot++) runs.add(page + slot, run.UFFD_WP, null, 0, 0)
      return
    }
    if (entry instanceof HugePmd) {
      // one entry for 512 pages: where pagemap looks at the first page only (R-PM-2)
      const first = !k.isHugeZero(entry.pfn) && k.memory.frames.pageMapcount(entry.pfn) === 1
      // other places have the same table (R-HUGE-56)
      const isShared = k.release.fault.sharedTableIsNotOnce && pageTable.isShared(pmd)
      const once = isShared ? false : k.release.fault.onceOfHead ? first : null
      for (let slot = from; slot < to; slot++)
        addPage(runs, k, page + slot, entry.bits, entry.pfn + slot, once, ids)
      return
    }
    const { bits, pfn } = entry
    for (let slot = from; slot < to; slot++)
      if (bits[slot] !== 0) addPage(runs, k, page + slot, bits[slot]!, pfn[slot]!, null, ids)
  })
  return runs.runs()
}

/** Sees the frames of the arena again, those in the range `gone` left out. Addresses. */
export function keepFrames(
  pageTable: PageTable,
  arena: Arena,
  ids: FrameIds,
  gone: { readonly start: number; readonly end: number },
): void {
  eachTable(pageTable, arena, (entry, page, from, to) => {
    for (let slot = from; slot < to; slot++) {
      const huge = entry instanceof HugePmd
      const bits = huge ? entry.bits : entry.bits[slot]!
      if ((bits & PTE_PRESENT) === 0 || (bits & PTE_SPECIAL) !== 0) continue
      const address = arena.start + (page + slot) * PAGE_SIZE
      if (address < gone.start || address >= gone.end) ids.keep(huge ? entry.pfn + slot : entry.pfn[slot]!)
    }
  })
}

/** @param visit gets the slots of a table that lie in the arena; `page` is where its first slot lies, in pages */
function eachTable(
  pageTable: PageTable,
  { start, pages }: Arena,
  visit: (entry: PmdEntry, page: number, from: number, to: number, pmd: number) => void,
): void {
  const first = Math.floor(start / PMD_SIZE)
  const last = Math.ceil((start + pages * PAGE_SIZE) / PMD_SIZE)
  for (let i = pageTable.nextPmd(first, last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const page = (i * PMD_SIZE - start) / PAGE_SIZE
    visit(pageTable.pmd(i)!, page, Math.max(0, -page), Math.min(PTRS_PER_PTE, pages - page), i)
  }
}

/** @param once what bit 56 shows; null: whether this page is mapped exactly once */
function addPage(
  runs: run.RunBuilder,
  k: Kernel,
  page: number,
  bits: number,
  pfn: number,
  once: boolean | null,
  ids: FrameIds,
): void {
  const uffdWp = (bits & (PTE_UFFD_WP | PTE_MARKER_UFFD_WP)) !== 0 ? run.UFFD_WP : 0
  if ((bits & PTE_PRESENT) === 0) {
    const guard = (bits & PTE_MARKER_GUARD) !== 0 ? run.GUARD : 0
    runs.add(page, run.SWAP | uffdWp | guard, (bits & PTE_SWAP) !== 0 ? 'swap' : markerWord(k, bits), 0, 0)
    return
  }
  const present = run.PRESENT | uffdWp
  if ((bits & PTE_SPECIAL) !== 0) {
    runs.add(page, present, 0, run.ZERO, 0)
    return
  }
  if (k.isHugeZero(pfn)) {
    const part = pfn === k.hugeZeroPfn ? run.HEAD : run.TAIL
    runs.add(page, present | run.FILE, -1, part | run.THP | run.ZERO, 0)
    return
  }
  const { frames } = k.memory
  const head = frames.head(pfn)
  const mapCount = frames.pageMapcount(pfn)
  const traits =
    present | (frames.has(head, PG_ANON) ? 0 : run.FILE) | ((once ?? mapCount === 1) ? run.ONCE : 0)
  runs.add(page, traits, ids.of(pfn), pageFlags(k, pfn, head), mapCount)
}

/** The low half of a marker's entry (R-FLT-161). */
function markerWord(k: Kernel, bits: number): string {
  const mask =
    ((bits & PTE_MARKER_UFFD_WP) !== 0 ? 1 : 0) |
    ((bits & PTE_MARKER_POISON) !== 0 ? 2 : 0) |
    ((bits & PTE_MARKER_GUARD) !== 0 ? 4 : 0)
  return `0x${(mask * 32 + k.release.uffd.markerType).toString(16)}`
}

/**
 * kpageflags of a mapped page: what a page of a large folio shows is its head's or its own (R-PM-4). Whether it is
 * anonymous, mapped or huge is known to the head alone.
 * @rule R-FLT-167
 * @rule R-FLT-166
 */
function pageFlags(k: Kernel, pfn: number, head: number): number {
  const { frames } = k.memory
  const ofHead = k.release.fault.pageFlagsOfHead
  const word = ofHead ? head : pfn
  let flags = run.MMAP
  const anon = frames.has(head, PG_ANON)
  if (anon) flags |= run.ANON
  // of a folio's own flags its tails have none
  if ((ofHead || pfn === head) && frames.has(head, PG_SWAPBACKED)) flags |= run.SWAPBACKED
  if (frames.isLarge(head)) flags |= pfn === head ? run.HEAD : run.TAIL
  if (frames.has(head, PG_HUGETLB)) flags |= run.HUGE
  else if (frames.isLarge(head)) flags |= run.THP
  if (frames.has(head, PG_KSM)) flags |= run.KSM
  else if (anon && frames.has(word, PG_ANON_EXCLUSIVE)) flags |= run.EXCLUSIVE
  return flags
}
