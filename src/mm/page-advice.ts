import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import {
  PG_ANON,
  PG_DIRTY,
  PG_LOCKED,
  PG_LRU,
  PG_MLOCKED,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_UPTODATE,
} from '../memory/page-flags.ts'
import { mayHaveLargeFolios, splitFileFolio } from './file-folio.ts'
import { mayWriteInode } from './file.ts'
import { beginRead, readIntoCache } from './filemap.ts'
import { adviceSpares } from './folio-mappers.ts'
import { canSplitFolio, splitFolio } from './folio-split.ts'
import { splitHugePmd } from './huge-memory.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { unwatched } from './mmap-lock.ts'
import {
  HugePmd,
  Leaf,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_MARKER_POISON,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP,
  pmdIndex,
} from './page-table.ts'
import type { Vma } from './vma.ts'
import { discardHugePmd, reclaimFileFolio, reclaimPage } from './vmscan.ts'

/** What a piece of advice does with what it finds. Needs `mmap_lock` for read. */
interface AdviceVisitor {
  /** a present entry of a small page that is not special */
  page(leaf: Leaf, slot: number, pfn: number): void
  /**
   * A whole anonymous large folio that only this mm maps, by its PMD (`slot` null) or by 512 entries.
   * @returns false: it is to be split, and its pages to be looked at one by one
   */
  folio(head: number, entry: HugePmd | Leaf, slot: number | null, pmd: number): boolean
  /** pages that are present do not matter: folios stay whole */
  readonly absentOnly?: true
  /** MADV_FREE: of shared folios it spares others than COLD and PAGEOUT do (R-HUGE-67) */
  readonly lazyFree?: true
  /** an entry that is not present */
  nonpresent?(leaf: Leaf, slot: number): void
}

/**
 * MADV_COLD on one VMA: pages that nobody else maps lose what says that they were used.
 * @rule R-FLT-90
 */
export function adviseCold(k: Kernel, mm: Mm, vma: Vma, start: number, end: number): void {
  const { frames } = k.memory
  visitPages(k, mm, vma, start, end, {
    page(leaf, slot, pfn) {
      if (frames.mapcount[pfn] !== 1 || !frames.has(pfn, PG_LRU)) return
      leaf.bits[slot]! &= ~PTE_ACCESSED
      frames.clear(pfn, PG_REFERENCED)
    },
    folio(head, entry, slot) {
      clearBits(entry, slot, PTE_ACCESSED, frames.nrPages(head))
      frames.clear(head, PG_REFERENCED)
      return true
    },
  })
}

/**
 * MADV_PAGEOUT on one VMA: pages that nobody else maps are reclaimed, as far as swap space and their state allow.
 * @rule R-AS-169
 * @rule R-HUGE-37
 */
export function advisePageout(k: Kernel, mm: Mm, vma: Vma, start: number, end: number): void {
  const { frames } = k.memory
  // pages of a file are left to those who may write it
  const anonOnly = !vma.isAnonymous && !mayWriteInode(k.current, vma.file!.mapping)
  visitPages(k, mm, vma, start, end, {
    page(leaf, slot, pfn) {
      if (frames.mapcount[pfn] !== 1 || (frames.flags[pfn]! & (PG_LRU | PG_LOCKED)) !== PG_LRU) return
      if (anonOnly && !frames.has(pfn, PG_ANON)) return
      reclaimPage(k, mm, vma, leaf, slot)
    },
    folio(head, entry, _slot, pmd) {
      if (!frames.has(head, PG_ANON)) {
        if (!anonOnly) reclaimFileFolio(k, head)
        return true
      }
      if (entry instanceof Leaf || frames.has(head, PG_SWAPBACKED)) return false
      discardHugePmd(k, mm, vma, pmd, entry)
      return true
    },
  })
}

/**
 * MADV_FREE on one VMA of anonymous memory: its pages may be dropped until they are written again. They show it by
 * not being SWAPBACKED any more, which the kernel takes from them when a per-CPU batch is drained and which happens
 * at once here. What is swapped out is dropped now.
 * @rule R-FLT-73
 * @rule R-AS-170
 */
export function adviseFree(k: Kernel, mm: Mm, vma: Vma, start: number, end: number): void {
  visitPages(k, mm, vma, start, end, {
    lazyFree: true,
    page(leaf, slot, pfn) {
      if (freesLazily(k, pfn)) clearBits(leaf, slot, PTE_DIRTY | PTE_ACCESSED, 1)
    },
    folio(head, entry, slot) {
      if (freesLazily(k, head))
        clearBits(entry, slot, PTE_DIRTY | PTE_ACCESSED, k.memory.frames.nrPages(head))
      return true
    },
    nonpresent(leaf, slot) {
      const bits = leaf.bits[slot]!
      if ((bits & PTE_SWAP) !== 0) {
        mm.swapents--
        k.swap.free(leaf.pfn[slot]!)
      } else if ((bits & PTE_MARKER_POISON) === 0) return
      leaf.set(slot, 0, 0)
    },
  })
}

/** The folio becomes one that may be dropped; false: it must keep its data. */
function freesLazily(k: Kernel, pfn: number): boolean {
  const { frames } = k.memory
  const head = frames.head(pfn)
  const large = frames.isLarge(head)
  if (frames.has(head, PG_SWAPCACHE | PG_DIRTY)) {
    // who shares the page has not said that its data may go
    if (!large && frames.mapcount[pfn] !== 1) return false
    if (frames.has(head, PG_SWAPCACHE) && !k.swap.freeCache(head)) return false
    frames.clear(head, PG_DIRTY)
  }
  const locked = frames.has(head, PG_MLOCKED)
  if (!frames.has(head, PG_ANON) || !frames.has(head, PG_LRU) || locked) return true
  for (let i = 0; i < frames.nrPages(head); i++) frames.clear(head + i, PG_SWAPBACKED | PG_REFERENCED)
  return true
}

function clearBits(entry: HugePmd | Leaf, slot: number | null, bits: number, pages: number): void {
  if (entry instanceof HugePmd) entry.bits &= ~bits
  else for (let i = 0; i < pages; i++) entry.bits[slot! + i]! &= ~bits
}

/**
 * MADV_WILLNEED on one VMA. Pages a file has on storage are read into its cache; memory files keep theirs. Swapped
 * anonymous pages come into the swap cache: who finds his page there and has no exclusive marker does not own it.
 * Nothing is mapped.
 * @rule R-FLT-96
 * @rule R-AS-103
 */
export function adviseWillNeed(k: Kernel, mm: Mm, vma: Vma, start: number, end: number): void {
  if (vma.file !== null) {
    readAhead(k, vma, start, end)
    return
  }
  visitPages(k, mm, vma, start, end, {
    absentOnly: true,
    page() {},
    folio: () => true,
    nonpresent(leaf, slot) {
      if ((leaf.bits[slot]! & PTE_SWAP) !== 0) readSwapCache(k, leaf.pfn[slot]!)
    },
  })
}

function readAhead(k: Kernel, vma: Vma, start: number, end: number): void {
  const { mapping } = vma.file!
  if (!mapping.kind.canWriteback || mapping.dax) return
  const first = vma.pageIndex(start)
  const last = Math.min(first + (end - start) / PAGE_SIZE, Math.ceil(mapping.size / PAGE_SIZE))
  if (!mapping.slowIo) readIntoCache(k, mapping, first, last)
  else
    for (let index = first; index < last; index++)
      if (mapping.pages.get(index) === 0) beginRead(k, mapping, index)
}

function readSwapCache(k: Kernel, entry: number): void {
  const { memory, swap } = k
  if (swap.cached(entry) !== 0) return
  const pfn = memory.allocFolio(0, { movable: true })
  if (pfn === 0) return
  memory.frames.set(pfn, PG_UPTODATE | PG_SWAPBACKED | PG_LRU)
  swap.read(entry, pfn)
  swap.addToCache(entry, pfn)
  memory.put(pfn)
}

function visitPages(
  k: Kernel,
  mm: Mm,
  maybeWatched: Vma,
  start: number,
  end: number,
  visitor: AdviceVisitor,
): void {
  const vma = unwatched(maybeWatched)
  const { pageTable } = mm
  const last = Math.ceil(end / PMD_SIZE)
  for (let i = pageTable.nextPmd(pmdIndex(start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const base = i * PMD_SIZE
    const from = Math.max(start, base)
    const to = Math.min(end, base + PMD_SIZE)
    const entry = pageTable.pmd(i)
    if (entry instanceof HugePmd && visitor.absentOnly === true) continue
    if (entry instanceof HugePmd && !splits(k, mm, vma, i, entry, to - from === PMD_SIZE, visitor)) continue
    const leaf = pageTable.pmd(i)
    if (leaf instanceof Leaf)
      visitLeaf(k, mm, leaf, (from - base) / PAGE_SIZE, (to - base) / PAGE_SIZE, i, visitor)
  }
}

/**
 * One huge entry: advised as a whole, or split.
 * @returns true: the pages are small now and to be looked at
 * @rule R-HUGE-26
 */
function splits(
  k: Kernel,
  mm: Mm,
  vma: Vma,
  pmd: number,
  entry: HugePmd,
  whole: boolean,
  visitor: AdviceVisitor,
): boolean {
  const head = entry.pfn
  const { frames } = k.memory
  const anon = frames.has(head, PG_ANON)
  if ((entry.bits & PTE_PRESENT) === 0 || k.isHugeZero(head) || !(anon || canBeSplit(k, head))) return false
  if (adviceSpares(k, mm, head, null, visitor.lazyFree === true)) return false
  if (whole && visitor.folio(head, entry, null, pmd)) return false
  // it is mapped nowhere then
  if (!anon) return splitFileFolio(k, head, null)
  if (!canSplitFolio(k, head)) return false
  splitHugePmd(k, mm, vma, pmd)
  return splitForAdvice(k, head, whole)
}

function visitLeaf(
  k: Kernel,
  mm: Mm,
  leaf: Leaf,
  first: number,
  end: number,
  pmd: number,
  visitor: AdviceVisitor,
): void {
  const { frames } = k.memory
  // up to 6.6 no folio is advised as a whole here, and one that is left alone ends the table
  const pageByPage = k.release.fault.largeFolioSharing === 'page'
  for (let slot = first; slot < end; slot++) {
    const bits = leaf.bits[slot]!
    if ((bits & PTE_PRESENT) === 0) {
      if (bits !== 0) visitor.nonpresent?.(leaf, slot)
      continue
    }
    if ((bits & PTE_SPECIAL) !== 0 || visitor.absentOnly === true) continue
    const pfn = leaf.pfn[slot]!
    if (frames.isLarge(pfn)) {
      const head = frames.head(pfn)
      const run = folioRun(k, leaf, slot, end)
      const whole = run === frames.nrPages(head) && !pageByPage
      const kept =
        adviceSpares(k, mm, head, pfn, visitor.lazyFree === true) ||
        (whole && visitor.folio(head, leaf, slot, pmd)) ||
        !(frames.has(head, PG_ANON) ? splitForAdvice(k, head, whole) : splitFileFolio(k, head, null))
      if (kept && pageByPage) return
      if (kept) {
        slot += run - 1
        continue
      }
      // looked at again, as a page of its own or the zero page
      slot--
      continue
    }
    visitor.page(leaf, slot, pfn)
  }
}

/**
 * A folio that is advised in part, or paged out. What there is room for is swapped out as a whole, and split in this
 * model only: its pages of zeros stay pages.
 * @rule R-HUGE-37
 */
function splitForAdvice(k: Kernel, head: number, whole: boolean): boolean {
  return splitFolio(k, head, whole && k.swap.hasRoom(k.memory.frames.nrPages(head)))
}

/** It is cached by a file that lets its large folios be split. */
function canBeSplit(k: Kernel, head: number): boolean {
  const mapping = k.mappings.get(k.memory.frames.mapping[head]!)
  return mapping !== undefined && mayHaveLargeFolios(mapping)
}

/** How many entries from `slot` on show consecutive pages of one folio. */
function folioRun(k: Kernel, leaf: Leaf, slot: number, end: number): number {
  const { frames } = k.memory
  const pfn = leaf.pfn[slot]!
  const most = Math.min(end - slot, frames.head(pfn) + frames.nrPages(pfn) - pfn)
  let run = 1
  while (run < most && (leaf.bits[slot + run]! & PTE_PRESENT) !== 0 && leaf.pfn[slot + run] === pfn + run)
    run++
  return run
}
