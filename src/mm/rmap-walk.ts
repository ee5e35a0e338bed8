import { PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { Leaf, PTE_NONPRESENT_KINDS, PTE_PRESENT } from './page-table.ts'

/** One pte that maps a page of a folio. */
export type PteVisitor = (mm: Mm, address: number, leaf: Leaf, slot: number) => void

/**
 * `rmap_walk_anon` over the ptes that map pages of one folio; its PMD entries have been split. The engine keeps no
 * reverse map by page: tables are looked at where an anonymous page was created first, which is where it is unless
 * it was moved, and everywhere else only when mappings are missing then.
 */
export function walkPtes(k: Kernel, head: number, visit: PteVisitor): void {
  const { frames } = k.memory
  let missing = frames.totalMapcount(head)
  const seen = new Set<Leaf>()
  const look = (mm: Mm, pmd: number): void => {
    const leaf = mm.pageTable.pmd(pmd)
    if (!(leaf instanceof Leaf) || seen.has(leaf)) return
    seen.add(leaf)
    missing -= visitTable(k, mm, pmd, leaf, head, visit)
  }
  // page numbers are known modulo 2^32
  for (let turn = 0; turn < 8 && missing > 0; turn++) {
    const pmd = Math.floor((turn * 2 ** 32 + frames.index[head]!) / PTRS_PER_PTE)
    for (const mm of k.mms) look(mm, pmd)
  }
  for (const mm of k.mms) {
    const { pageTable } = mm
    for (let i = pageTable.nextPmd(0, 2 ** 26); i >= 0 && missing > 0; i = pageTable.nextPmd(i + 1, 2 ** 26))
      look(mm, i)
  }
}

function visitTable(k: Kernel, mm: Mm, pmd: number, leaf: Leaf, head: number, visit: PteVisitor): number {
  const end = head + k.memory.frames.nrPages(head)
  const { pfn, bits } = leaf
  let found = 0
  for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
    if (pfn[slot]! < head || pfn[slot]! >= end) continue
    if ((bits[slot]! & (PTE_PRESENT | PTE_NONPRESENT_KINDS)) !== PTE_PRESENT) continue
    found++
    visit(mm, pmd * PMD_SIZE + slot * PAGE_SIZE, leaf, slot)
  }
  return found
}
