import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import type { Mm } from './mm.ts'
import { HugePmd, Leaf, PTE_PRESENT, PTE_SPECIAL, pmdIndex } from './page-table.ts'

/** What advice about pages does with each of them. */
export interface PteVisitor {
  /** a present entry of an ordinary page, the zero page not among them */
  pte(leaf: Leaf, slot: number, address: number): void
  /** one entry for 2 MiB, all of which lie in the range */
  huge(entry: HugePmd, pmd: number): void
}

/** Shows a visitor every present page of [start, end); it may clear the entry it is shown. */
export function visitNormalPtes(mm: Mm, start: number, end: number, visitor: PteVisitor): void {
  const { pageTable } = mm
  const last = Math.ceil(end / PMD_SIZE)
  for (let i = pageTable.nextPmd(pmdIndex(start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const base = i * PMD_SIZE
    const from = Math.max(start, base)
    const to = Math.min(end, base + PMD_SIZE)
    const entry = pageTable.pmd(i)
    if (entry instanceof HugePmd) {
      if (to - from === PMD_SIZE && (entry.bits & PTE_PRESENT) !== 0) visitor.huge(entry, i)
    } else if (entry instanceof Leaf) {
      for (let address = from; address < to; address += PAGE_SIZE) {
        const slot = (address - base) / PAGE_SIZE
        if ((entry.bits[slot]! & (PTE_PRESENT | PTE_SPECIAL)) === PTE_PRESENT)
          visitor.pte(entry, slot, address)
      }
    }
  }
}
