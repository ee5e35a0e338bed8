import { PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import type { Kernel } from '../mm/kernel.ts'
import { Mm } from '../mm/mm.ts'
import { HugePmd, PTE_ACCESSED, PTE_PRESENT, pmdIndex, pteSlot } from '../mm/page-table.ts'

/**
 * The processes outside the snapshot that map pages of the observed one, as one address space without
 * mappings: what counts is that the pages have a second user, not where he has them.
 */
export class UnseenProcess {
  readonly #kernel: Kernel
  #mm: Mm | null = null
  #next = PMD_SIZE

  constructor(kernel: Kernel) {
    this.#kernel = kernel
  }

  /** Maps an anonymous page once more. */
  share(pfn: number): void {
    const { memory } = this.#kernel
    const mm = this.#space()
    memory.get(pfn)
    memory.frames.mapcount[pfn]!++
    mm.rssAnon++
    mm.pageTable.leafFor(this.#next).set(pteSlot(this.#next), pfn, PTE_PRESENT | PTE_ACCESSED)
    this.#next += PAGE_SIZE
  }

  /** Maps an anonymous huge page once more, as a whole. */
  shareHuge(head: number, hugetlb: boolean): void {
    const { memory } = this.#kernel
    const mm = this.#space()
    const at = Math.ceil(this.#next / PMD_SIZE) * PMD_SIZE
    memory.get(head)
    memory.frames.addEntireMapcount(head, 1)
    mm.pageTable.setPmd(pmdIndex(at), new HugePmd(head, PTE_PRESENT | PTE_ACCESSED))
    if (hugetlb) mm.hugetlbPages += PTRS_PER_PTE
    else mm.rssAnon += PTRS_PER_PTE
    this.#next = at + PMD_SIZE
  }

  #space(): Mm {
    this.#mm ??= new Mm(this.#kernel, 'processes outside the snapshot')
    return this.#mm
  }
}
