import { PAGE_SIZE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { PageArray } from './page-array.ts'
import { vmPageProt } from './page-prot.ts'
import { PTE_ACCESSED, pteSlot } from './page-table.ts'
import { addFilePage } from './rmap.ts'
import type { Vma } from './vma.ts'

/**
 * `vm_insert_pages`: a driver shows its pages from the start of a mapping, as far as the mapping reaches; what
 * lies beyond them stays empty.
 * @rule R-URING-98
 */
export function vmInsertPages(k: Kernel, mm: Mm, vma: Vma, pages: PageArray): void {
  const end = Math.min(vma.end, vma.start + pages.length * PAGE_SIZE)
  for (let address = vma.start; address < end; address += PAGE_SIZE) {
    const pfn = pages.pfns[(address - vma.start) / PAGE_SIZE]!
    addFilePage(k, mm, vma, pfn)
    mm.pageTable.leafFor(address).set(pteSlot(address), pfn, vmPageProt(vma) | PTE_ACCESSED)
  }
}
