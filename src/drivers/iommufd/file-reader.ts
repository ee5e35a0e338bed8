import type { Kthread } from '../../base/kthread.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import type { OpenFile } from '../../mm/file.ts'
import { folioAddPins } from '../../mm/gup-grab.ts'
import { memfdPinFolios } from '../../mm/gup-memfd.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { PageArray } from '../../mm/page-array.ts'

/**
 * Pins the pages of a memfd or hugetlb file: folio by folio, and then a pin for each page of them, because they are
 * given back page by page.
 * @rule R-IOMMUFD-15
 */
export class FileReader {
  /** one frame a page, filled by `pin` */
  readonly pages: PageArray
  readonly #kernel: Kernel
  readonly #file: OpenFile
  readonly #start: number
  readonly #folios: PageArray

  /** @param start page aligned, bytes of the file */
  constructor(k: Kernel, file: OpenFile, start: number, entries: number) {
    this.#kernel = k
    this.#file = file
    this.#start = start
    this.pages = new PageArray(entries)
    this.#folios = new PageArray(entries)
  }

  /** @returns pages, at least 1, or a negative errno */
  *pin(index: number, n: number): Kthread<number> {
    const k = this.#kernel
    const { frames } = k.memory
    const start = this.#start + index * PAGE_SIZE
    const stretch = { offset: 0 }
    const wanted = Math.min(n, this.pages.length)
    const end = start + wanted * PAGE_SIZE - 1
    const folios = yield* memfdPinFolios(k, this.#file, start, end, this.#folios, stretch)
    if (folios < 0) return folios
    let pages = 0
    let inside = stretch.offset / PAGE_SIZE
    for (let i = 0; i < folios; i++) {
      const first = this.#folios.pfns[i]! + inside
      const count = Math.min(wanted - pages, frames.nrPages(first) - inside)
      folioAddPins(k, first + 1, count - 1)
      for (let page = 0; page < count; page++) this.pages.pfns[pages++] = first + page
      inside = 0
    }
    return pages
  }

  // oxlint-disable-next-line require-yield -- holds nothing
  *destroy(): Kthread<void> {}
}
