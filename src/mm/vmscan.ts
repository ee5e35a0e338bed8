import { Unmodelled } from '../base/unmodelled.ts'
import { GUP_PIN_COUNTING_BIAS } from '../memory/frames.ts'
import {
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_DIRTY,
  PG_MLOCKED,
  PG_PRIVATE,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
} from '../memory/page-flags.ts'
import { unmapCached } from './file-folio.ts'
import { pageCacheRemove } from './filemap.ts'
import { mappingReferences } from './gup-grab.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import {
  PTE_DIRTY,
  PTE_MARKER_UFFD_WP,
  PTE_SWAP,
  PTE_SWAP_EXCLUSIVE,
  PTE_UFFD_WP,
  type HugePmd,
  type Leaf,
  PTE_SOFT_CLEAN,
} from './page-table.ts'
import { shmemSwapOut } from './shmem-swap.ts'
import { isOnDisk } from './storage.ts'
import { zapHugePmd } from './thp-map.ts'
import { VMH_DROPPABLE } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/**
 * `shrink_folio_list` for one small page that is mapped by this entry and nowhere else: it is unmapped and
 * its frame given back, as far as its state allows. Who called has made sure that it is on an LRU list.
 * @rule R-FLT-91
 */
export function reclaimPage(k: Kernel, mm: Mm, vma: Vma, leaf: Leaf, slot: number): void {
  const pfn = leaf.pfn[slot]!
  const { frames } = k.memory
  if (frames.has(pfn, PG_MLOCKED)) return
  if (!frames.has(pfn, PG_ANON)) reclaimFilePage(k, mm, leaf, slot, pfn)
  else if (frames.has(pfn, PG_SWAPBACKED)) swapOut(k, mm, leaf, slot, pfn)
  else discard(k, mm, vma, leaf, slot, pfn)
}

/**
 * @rule R-FLT-92
 * @rule R-FLT-93
 */
function swapOut(k: Kernel, mm: Mm, leaf: Leaf, slot: number, pfn: number): void {
  const { memory, swap } = k
  const { frames } = memory
  // @rule R-GUP-78
  if (isPinned(k, pfn)) return
  if (!frames.has(pfn, PG_SWAPCACHE) && !swap.addPage(pfn)) return
  const entry = swap.slotOf(pfn)
  const bits = leaf.bits[slot]!
  // @rule R-FLT-11
  const exclusive = frames.has(pfn, PG_ANON_EXCLUSIVE) ? PTE_SWAP_EXCLUSIVE : 0
  frames.clear(pfn, PG_ANON_EXCLUSIVE)
  if ((bits & PTE_DIRTY) !== 0) frames.set(pfn, PG_DIRTY)
  swap.duplicate(entry)
  leaf.set(slot, entry, PTE_SWAP | exclusive | (bits & (PTE_UFFD_WP | PTE_SOFT_CLEAN)))
  mm.updateHiwaterRss()
  mm.rssAnon--
  mm.swapents++
  unmapped(k, pfn)
  // whoever else holds the page will find it in the swap cache
  if (frames.refcount[pfn] !== 1) return
  if (frames.has(pfn, PG_DIRTY)) swap.writePage(pfn)
  swap.removeFromCache(pfn)
}

/**
 * A page that was freed lazily: dropped when nobody has written to it since, else an ordinary anonymous page
 * again. Droppable memory goes even when it was written.
 * @rule R-FLT-73
 * @rule R-AS-170
 * @rule R-AS-22
 */
function discard(k: Kernel, mm: Mm, vma: Vma, leaf: Leaf, slot: number, pfn: number): void {
  const { frames } = k.memory
  const droppable = (vma.highFlags & VMH_DROPPABLE) !== 0
  if ((leaf.bits[slot]! & PTE_DIRTY) !== 0) frames.set(pfn, PG_DIRTY)
  const referenced = frames.refcount[pfn] !== 1
  const written = frames.has(pfn, PG_DIRTY) || (referenced && k.release.fault.failedDiscardSwapbacks)
  if (written && !droppable) {
    frames.set(pfn, PG_SWAPBACKED)
    return
  }
  if (referenced) return
  leaf.set(slot, 0, 0)
  mm.updateHiwaterRss()
  mm.rssAnon--
  unmapped(k, pfn)
}

/**
 * The same for a huge page mapped by its PMD; who called knows that only this mm maps it.
 * @rule R-AS-170
 */
export function discardHugePmd(k: Kernel, mm: Mm, vma: Vma, pmd: number, entry: HugePmd): void {
  const { frames } = k.memory
  const head = entry.pfn
  const droppable = (vma.highFlags & VMH_DROPPABLE) !== 0
  if (!droppable && ((entry.bits & PTE_DIRTY) !== 0 || frames.has(head, PG_DIRTY))) {
    for (let i = 0; i < frames.nrPages(head); i++) frames.set(head + i, PG_SWAPBACKED)
  } else if (frames.refcount[head] === 1) zapHugePmd(k, mm, vma, pmd, 'dontneed')
}

/** A page of a file loses its entry whoever holds it; the page itself goes when it is clean and nobody does. */
function reclaimFilePage(k: Kernel, mm: Mm, leaf: Leaf, slot: number, pfn: number): void {
  const { frames } = k.memory
  const mapping = k.mappings.get(frames.mapping[pfn]!)
  if (mapping === undefined) return
  const bits = leaf.bits[slot]!
  if ((bits & PTE_DIRTY) !== 0) frames.set(pfn, PG_DIRTY)
  leaf.set(slot, 0, (bits & PTE_UFFD_WP) !== 0 ? PTE_MARKER_UFFD_WP : 0)
  mm.updateHiwaterRss()
  if (frames.has(pfn, PG_SWAPBACKED)) mm.rssShmem--
  else mm.rssFile--
  unmapped(k, pfn)
  const index = frames.index[pfn]!
  if (isPinned(k, pfn)) return
  const expected = frames.has(pfn, PG_PRIVATE) ? 2 : 1
  if (frames.refcount[pfn] !== expected) return
  if (!frames.has(pfn, PG_DIRTY)) pageCacheRemove(k, mapping, index)
  // dirty pages of other files wait for writeback
  else if (mapping.kind.shmem) shmemSwapOut(k, mapping, index)
}

/**
 * The same for a large folio of a disk file, which only this mm maps: all its entries go, and the folio when it is
 * clean and nobody holds it.
 * @throws Unmodelled for one of a memory file
 * @rule R-HUGE-31.6
 */
export function reclaimFileFolio(k: Kernel, head: number): void {
  const { frames } = k.memory
  const mapping = k.mappings.get(frames.mapping[head]!)
  if (mapping === undefined || frames.has(head, PG_MLOCKED)) return
  if (!isOnDisk(mapping)) throw new Unmodelled('MADV_PAGEOUT of a large page of a file', 'R-HUGE-37')
  const first = frames.index[head]!
  unmapCached(k, mapping, first, first + frames.nrPages(head))
  const held = frames.refcount[head] !== mappingReferences(k, head)
  if (!held && !frames.has(head, PG_DIRTY)) pageCacheRemove(k, mapping, first)
}

/** The entry's count and reference go. */
function unmapped(k: Kernel, pfn: number): void {
  const { frames } = k.memory
  frames.mapcount[pfn]!--
  frames.clear(pfn, PG_MLOCKED)
  k.memory.put(pfn)
}

/** @rule R-GUP-75 */
function isPinned(k: Kernel, pfn: number): boolean {
  return k.memory.frames.refcount[pfn]! >>> 0 >= GUP_PIN_COUNTING_BIAS
}
