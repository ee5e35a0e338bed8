import { PG_DIRTY } from '../memory/page-flags.ts'
import type { AddressSpace } from './file.ts'
import { newCachedPage, pageCacheRemove } from './filemap.ts'
import type { Kernel } from './kernel.ts'

/**
 * `shmem_writeout`: the page of a memory file goes to swap space. Only the cache holds it: page tables are
 * left without an entry, and the file remembers the slot.
 * @returns false when there is no room; the page stays, dirty
 * @rule R-FLT-95
 */
export function shmemSwapOut(k: Kernel, mapping: AddressSpace, index: number): boolean {
  const pfn = mapping.pages.get(index)
  const { swap } = k
  if (!swap.addPage(pfn)) return false
  const slot = swap.slotOf(pfn)
  swap.duplicate(slot)
  swap.writePage(pfn)
  mapping.swapped.set(index, slot)
  pageCacheRemove(k, mapping, index)
  swap.removeFromCache(pfn)
  return true
}

/**
 * `shmem_swapin_folio`: brings a page of a memory file back into its cache, dirty.
 * @returns the pfn; 0 when memory is exhausted
 * @rule R-FLT-43
 */
export function shmemSwapIn(k: Kernel, mapping: AddressSpace, index: number): number {
  const slot = mapping.swapped.get(index)!
  const pfn = newCachedPage(k, mapping, index)
  if (pfn === 0) return 0
  k.swap.read(slot, pfn)
  k.memory.frames.set(pfn, PG_DIRTY)
  forget(k, mapping, index, slot)
  return pfn
}

/** `shmem_undo_range`, the swapped part: gives back the slots of pages [start, end). */
export function shmemFreeSwap(k: Kernel, mapping: AddressSpace, start = 0, end = Infinity): void {
  for (const [index, slot] of mapping.swapped) {
    if (index >= start && index < end) forget(k, mapping, index, slot)
  }
}

function forget(k: Kernel, mapping: AddressSpace, index: number, slot: number): void {
  mapping.swapped.delete(index)
  k.swap.free(slot)
}
