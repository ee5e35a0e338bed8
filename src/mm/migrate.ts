import { Unmodelled } from '../base/unmodelled.ts'
import { PTRS_PER_PTE } from '../base/units.ts'
import {
  ORDER_MASK,
  PG_HUGETLB,
  PG_LOCKED,
  PG_PERMANENT,
  PG_SWAPCACHE,
  PG_WRITEBACK,
  ZONE_NORMAL,
} from '../memory/page-flags.ts'
import { mappingReferences } from './gup-grab.ts'
import type { Kernel } from './kernel.ts'
import { HugePmd, PTE_PRESENT, PTE_SPECIAL, type Leaf } from './page-table.ts'

/** what a page keeps in its flag word when it moves: zone and order belong to the place */
const PLACE = (PG_PERMANENT | ORDER_MASK) >>> 0

/**
 * `migrate_pages`: moves folios out of the zones where nothing may stay, to where the calling task may
 * allocate (`memallocPin`). A folio with references beyond its mappings and its cache stays.
 *
 * The engine keeps no reverse map by page: one pass over all page tables finds the entries of the whole
 * list. Everything happens between two yields, so no migration entry is ever seen.
 *
 * @param heads folios, isolated by the caller, none twice
 * @returns folios that could not be moved
 * @throws Unmodelled for hugetlb pages and pages in the swap cache
 * @rule R-GUP-79
 * @rule R-FLT-140
 */
export function migratePages(k: Kernel, heads: readonly number[]): number {
  const { frames } = k.memory
  const moves = new Map<number, number>()
  let failed = 0
  for (const head of heads) {
    const word = frames.flags[head]!
    if ((word & PG_HUGETLB) !== 0) throw new Unmodelled('migration of a hugetlb page', 'R-GUP-50')
    if ((word & PG_SWAPCACHE) !== 0) throw new Unmodelled('migration of a page in the swap cache', 'R-GUP-50')
    const unexpected = frames.refcount[head] !== mappingReferences(k, head)
    const fails = k.dueFailure?.hits('migration') === true
    const busy = fails || unexpected || (word & (PG_LOCKED | PG_WRITEBACK)) !== 0
    const target = busy ? 0 : k.memory.allocFolio(frames.order(head), { movable: !k.current.memallocPin })
    if (target === 0) failed++
    else moves.set(head, target)
  }
  if (moves.size === 0) return failed
  for (const mm of k.mms) {
    const { pageTable } = mm
    for (let i = pageTable.nextPmd(0, 2 ** 26); i >= 0; i = pageTable.nextPmd(i + 1, 2 ** 26)) {
      const entry = pageTable.pmd(i)!
      if (entry instanceof HugePmd) {
        const target = moves.get(entry.pfn)
        if (target !== undefined && (entry.bits & PTE_PRESENT) !== 0) entry.pfn = target
      } else redirect(k, entry, moves)
    }
  }
  for (const [from, to] of moves) moveFolio(k, from, to)
  return failed
}

/** Lets every pte of one table that shows a moving page show its new place. */
function redirect(k: Kernel, leaf: Leaf, moves: ReadonlyMap<number, number>): void {
  const { frames } = k.memory
  for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
    if ((leaf.bits[slot]! & (PTE_PRESENT | PTE_SPECIAL)) !== PTE_PRESENT) continue
    const pfn = leaf.pfn[slot]!
    if (frames.zone(pfn) === ZONE_NORMAL) continue
    const head = frames.head(pfn)
    const target = moves.get(head)
    if (target !== undefined) leaf.pfn[slot] = target + (pfn - head)
  }
}

/**
 * Hands counters, identity and contents of a folio over and frees the old place.
 * @rule R-FLT-141
 */
function moveFolio(k: Kernel, from: number, to: number): void {
  const { memory } = k
  const { frames } = memory
  const { flags, mapcount, refcount } = frames
  const n = frames.nrPages(from)
  const mapping = k.mappings.get(frames.mapping[from]!)
  for (let i = 0; i < n; i++) {
    flags[to + i] = ((flags[to + i]! & PLACE) | (flags[from + i]! & ~PLACE)) >>> 0
    mapcount[to + i] = mapcount[from + i]!
    frames.mapping[to + i] = frames.mapping[from + i]!
    frames.index[to + i] = frames.index[from + i]!
    mapcount[from + i] = 0
    memory.contents.copy(from + i, to + i)
    const index = frames.index[from]! + i
    if (mapping !== undefined && mapping.pages.get(index) === from + i) mapping.pages.set(index, to + i)
  }
  refcount[to] = refcount[from]!
  if (n > 1) {
    frames.addEntireMapcount(to, frames.entireMapcount(from))
    frames.addEntireMapcount(from, -frames.entireMapcount(from))
  }
  refcount[from] = 1
  memory.put(from)
  k.observer?.({ type: 'migrate', from, to })
}
