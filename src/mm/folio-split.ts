import { ORDER_MASK, PG_ANON, PG_ANON_EXCLUSIVE } from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { HugePmd } from './page-table.ts'
import { isMappedOnlyBy } from './thp-fault.ts'
import { splitHugePmd } from './thp-map.ts'

/**
 * `split_folio` of an anonymous folio whose PMD entries have been split already: its pages become folios of
 * their own, in place; those that nobody maps are freed.
 * @returns false, and nothing has changed: somebody holds a reference beyond the mappings
 * @rule R-HUGE-26
 */
export function splitFolio(k: Kernel, head: number): boolean {
  if (!canSplitFolio(k, head)) return false
  const { memory } = k
  const { flags, refcount, mapcount, mapping } = memory.frames
  const pages = memory.frames.nrPages(head)
  const common = (flags[head]! & ~(PG_ANON_EXCLUSIVE | ORDER_MASK)) >>> 0
  const owner = mapping[head]!
  for (let pfn = head; pfn < head + pages; pfn++) {
    flags[pfn] = (common | (flags[pfn]! & PG_ANON_EXCLUSIVE)) >>> 0
    refcount[pfn] = mapcount[pfn]!
    mapping[pfn] = owner
  }
  for (let pfn = head; pfn < head + pages; pfn++) if (refcount[pfn] === 0) memory.free(pfn)
  return true
}

/** `split_huge_page`: the same wherever the folio is mapped as a whole. */
export function splitFolioEverywhere(k: Kernel, head: number): boolean {
  if (!canSplitFolio(k, head)) return false
  for (const mm of k.mms) {
    const { pageTable } = mm
    for (let i = pageTable.nextPmd(0, 2 ** 26); i >= 0; i = pageTable.nextPmd(i + 1, 2 ** 26)) {
      const entry = pageTable.pmd(i)
      if (entry instanceof HugePmd && entry.pfn === head) splitHugePmd(k, mm, null, i)
    }
  }
  return splitFolio(k, head)
}

/**
 * `can_split_folio`: all references are mappings.
 * @rule R-HUGE-27
 */
export function canSplitFolio(k: Kernel, head: number): boolean {
  const { frames } = k.memory
  return frames.has(head, PG_ANON) && frames.refcount[head] === frames.totalMapcount(head)
}

/** `folio_maybe_mapped_shared`: not all mappings of a large folio are in this mm. */
export function isMappedShared(k: Kernel, mm: Mm, head: number): boolean {
  return !isMappedOnlyBy(k, mm, head, k.memory.frames.totalMapcount(head))
}
