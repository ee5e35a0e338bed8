import { PAGE_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import {
  PG_DIRTY,
  PG_LRU,
  PG_MLOCKED,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
} from '../memory/page-flags.ts'
import { beginRead, readIntoCache } from './filemap.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { visitNormalPtes } from './normal-ptes.ts'
import { PTE_ACCESSED, PTE_DIRTY, PTE_SWAP, pmdIndex, Leaf, pteSlot } from './page-table.ts'
import type { Vma } from './vma.ts'

/**
 * MADV_COLD on one VMA: pages that nobody else maps lose what says that they were used.
 * @rule R-AS-103
 */
export function coolPages(k: Kernel, mm: Mm, start: number, end: number): void {
  const { frames } = k.memory
  visitNormalPtes(mm, start, end, {
    pte(leaf, slot) {
      const head = frames.head(leaf.pfn[slot]!)
      if (!frames.has(head, PG_LRU) || frames.totalMapcount(head) !== 1) return
      leaf.bits[slot]! &= ~PTE_ACCESSED
      frames.clear(head, PG_REFERENCED)
    },
    huge(entry) {
      if (k.isHugeZero(entry.pfn) || frames.totalMapcount(frames.head(entry.pfn)) !== 1) return
      entry.bits &= ~PTE_ACCESSED
      frames.clear(entry.pfn, PG_REFERENCED)
    },
  })
}

/**
 * MADV_FREE on one VMA of anonymous memory: its pages may be dropped until they are written again. They show
 * it by not being SWAPBACKED any more, which the kernel takes from them when a per-CPU batch is drained and
 * which happens at once here. What is swapped out is dropped now.
 * @rule R-AS-105
 */
export function freeLazily(k: Kernel, mm: Mm, start: number, end: number): void {
  const { frames } = k.memory
  visitNormalPtes(mm, start, end, {
    pte(leaf, slot) {
      const pfn = leaf.pfn[slot]!
      const head = frames.head(pfn)
      if (frames.has(head, PG_SWAPCACHE | PG_DIRTY)) {
        // somebody else's data may still have to be written
        if (frames.totalMapcount(head) !== 1) return
        if (frames.has(head, PG_SWAPCACHE) && !k.swap.freeCache(head)) return
        frames.clear(head, PG_DIRTY)
      }
      leaf.bits[slot]! &= ~(PTE_DIRTY | PTE_ACCESSED)
      markLazilyFree(k, head)
    },
    huge(entry) {
      if (k.isHugeZero(entry.pfn) || frames.totalMapcount(entry.pfn) !== 1) return
      frames.clear(entry.pfn, PG_DIRTY)
      entry.bits &= ~(PTE_DIRTY | PTE_ACCESSED)
      markLazilyFree(k, entry.pfn)
    },
  })
  dropSwapped(k, mm, start, end)
}

function markLazilyFree(k: Kernel, head: number): void {
  const { frames } = k.memory
  if (!frames.has(head, PG_LRU) || frames.has(head, PG_MLOCKED | PG_SWAPCACHE)) return
  const end = head + frames.nrPages(head)
  for (let pfn = head; pfn < end; pfn++) frames.clear(pfn, PG_SWAPBACKED | PG_REFERENCED)
}

function dropSwapped(k: Kernel, mm: Mm, start: number, end: number): void {
  for (let address = start; mm.swapents > 0 && address < end; address += PAGE_SIZE) {
    const leaf = mm.pageTable.pmd(pmdIndex(address))
    if (!(leaf instanceof Leaf)) {
      address += (PTRS_PER_PTE - 1 - pteSlot(address)) * PAGE_SIZE
      continue
    }
    const slot = pteSlot(address)
    if ((leaf.bits[slot]! & PTE_SWAP) === 0) continue
    k.swap.free(leaf.pfn[slot]!)
    mm.swapents--
    leaf.set(slot, 0, 0)
  }
}

/**
 * MADV_WILLNEED on one VMA: the pages its file has on storage are read into the cache. Memory files keep
 * theirs, and nothing is mapped.
 * @rule R-AS-103
 */
export function readAhead(k: Kernel, vma: Vma, start: number, end: number): void {
  const { mapping } = vma.file!
  if (!mapping.kind.canWriteback || mapping.dax) return
  const first = vma.pageIndex(start)
  const last = Math.min(first + (end - start) / PAGE_SIZE, Math.ceil(mapping.size / PAGE_SIZE))
  if (!mapping.slowIo) readIntoCache(k, mapping, first, last)
  else
    for (let index = first; index < last; index++)
      if (mapping.pages.get(index) === 0) beginRead(k, mapping, index)
}
