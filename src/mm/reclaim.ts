import { Unmodelled } from '../base/unmodelled.ts'
import { PTRS_PER_PTE } from '../base/units.ts'
import {
  PG_ANON,
  PG_DIRTY,
  PG_LOCKED,
  PG_LRU,
  PG_MLOCKED,
  PG_PRIVATE,
  PG_SWAPBACKED,
  PG_WRITEBACK,
} from '../memory/page-flags.ts'
import { mayWriteInode } from './file.ts'
import { pageCacheRemove } from './filemap.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { visitNormalPtes } from './normal-ptes.ts'
import { PTE_DIRTY, type HugePmd, type Leaf } from './page-table.ts'
import { removePage } from './rmap.ts'
import { isMappedOnlyBy } from './thp-fault.ts'
import type { Vma } from './vma.ts'
import { VMH_DROPPABLE } from './vm-flags.ts'
import { zapHugePmd } from './thp-map.ts'

/**
 * MADV_PAGEOUT on one VMA, in a machine without swap space. Pages that nobody else maps are reclaimed:
 * lazily freed ones are dropped, file pages leave the page table and, clean and unpinned, the cache too.
 * Anonymous pages have nowhere to go.
 * @throws Unmodelled for a huge page, which the kernel would split
 * @rule R-AS-169
 */
export function pageOut(k: Kernel, mm: Mm, vma: Vma, start: number, end: number): void {
  const { frames } = k.memory
  // pages of a file are left to those who may write it
  const anonOnly = !vma.isAnonymous && !mayWriteInode(k.current, vma.file!.mapping)
  visitNormalPtes(mm, start, end, {
    pte(leaf, slot, address) {
      const pfn = leaf.pfn[slot]!
      const head = frames.head(pfn)
      if (frames.isLarge(head)) {
        refuseLarge(k, mm, head)
        return
      }
      if ((frames.flags[pfn]! & (PG_LRU | PG_MLOCKED | PG_LOCKED)) !== PG_LRU) return
      if (frames.mapcount[pfn] !== 1) return
      if (frames.has(pfn, PG_ANON)) reclaimAnon(k, mm, vma, leaf, slot)
      else if (!anonOnly) reclaimFilePage(k, mm, vma, leaf, slot, vma.pageIndex(address))
    },
    huge(entry, pmd) {
      reclaimHuge(k, mm, vma, entry, pmd)
    },
  })
}

/** @rule R-AS-170 */
function reclaimAnon(k: Kernel, mm: Mm, vma: Vma, leaf: Leaf, slot: number): void {
  const { frames } = k.memory
  const pfn = leaf.pfn[slot]!
  if (frames.has(pfn, PG_SWAPBACKED)) return
  const droppable = (vma.highFlags & VMH_DROPPABLE) !== 0
  if (!droppable && ((leaf.bits[slot]! & PTE_DIRTY) !== 0 || frames.has(pfn, PG_DIRTY))) {
    // written since it was freed: an ordinary page again
    frames.set(pfn, PG_SWAPBACKED)
    return
  }
  if (frames.refcount[pfn] !== 1) return
  leaf.set(slot, 0, 0)
  removePage(k, mm, pfn)
}

function reclaimFilePage(k: Kernel, mm: Mm, vma: Vma, leaf: Leaf, slot: number, index: number): void {
  const { frames } = k.memory
  const pfn = leaf.pfn[slot]!
  if ((leaf.bits[slot]! & PTE_DIRTY) !== 0) frames.set(pfn, PG_DIRTY)
  leaf.set(slot, 0, 0)
  removePage(k, mm, pfn)
  if (frames.has(pfn, PG_DIRTY | PG_WRITEBACK)) return
  const owned = frames.has(pfn, PG_PRIVATE) ? 2 : 1
  if (frames.refcount[pfn] === owned) pageCacheRemove(k, vma.file!.mapping, index)
}

/** A huge page that was freed lazily goes as one; any other would be split to be reclaimed page by page. */
function reclaimHuge(k: Kernel, mm: Mm, vma: Vma, entry: HugePmd, pmd: number): void {
  const { frames } = k.memory
  if (k.isHugeZero(entry.pfn)) return
  if (!frames.has(entry.pfn, PG_ANON) || frames.has(entry.pfn, PG_SWAPBACKED)) {
    refuseLarge(k, mm, entry.pfn)
    return
  }
  if ((entry.bits & PTE_DIRTY) !== 0 || frames.has(entry.pfn, PG_DIRTY)) {
    for (let pfn = entry.pfn; pfn < entry.pfn + PTRS_PER_PTE; pfn++) frames.set(pfn, PG_SWAPBACKED)
    return
  }
  if (frames.refcount[entry.pfn] === 1) zapHugePmd(k, mm, vma, pmd, 'dontneed')
}

/** A folio with a pin or a plain reference, or one that others map, stays as it is. */
function refuseLarge(k: Kernel, mm: Mm, head: number): void {
  const { frames } = k.memory
  const total = frames.totalMapcount(head)
  if (frames.refcount[head] !== total || !isMappedOnlyBy(k, mm, head, total)) return
  throw new Unmodelled('a large folio split by reclaim', 'R-HUGE-26')
}
