import type { Kthread } from '../../base/kthread.ts'
import { pinIsCounted } from '../../mm/gup-grab.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { unpinUserPageRangeDirtyLock } from '../../mm/unpin.ts'

/**
 * Pinned pages as a device sees them: physically contiguous runs one after the other, each with the index of
 * its first page. What an IOMMU page table, an IOTLB or a scatterlist records; no page array remains.
 */
export class PageRuns {
  #index = new Int32Array(16)
  #pfn = new Int32Array(16)
  #count = new Int32Array(16)
  #length = 0
  #pages = 0

  /** runs */
  get length(): number {
    return this.#length
  }

  /** pages in all runs */
  get pages(): number {
    return this.#pages
  }

  /** Adds a run behind the last one; a run that continues the last one lengthens it. */
  push(pfn: number, count: number): void {
    const last = this.#length - 1
    if (last >= 0 && this.#pfn[last]! + this.#count[last]! === pfn) this.#count[last]! += count
    else this.#append(pfn, count)
    this.#pages += count
  }

  /** Adds the first `n` pages of an array. */
  pushPages(pfns: Int32Array, n: number): void {
    let last = this.#length - 1
    let next = last < 0 ? -1 : this.#pfn[last]! + this.#count[last]!
    for (let i = 0; i < n; i++) {
      const pfn = pfns[i]!
      if (pfn === next) this.#count[last]!++
      else {
        this.#append(pfn, 1)
        last++
      }
      next = pfn + 1
      this.#pages++
    }
  }

  #append(pfn: number, count: number): void {
    const n = this.#length++
    if (n === this.#pfn.length) {
      this.#index = grown(this.#index)
      this.#pfn = grown(this.#pfn)
      this.#count = grown(this.#count)
    }
    this.#index[n] = this.#pages
    this.#pfn[n] = pfn
    this.#count[n] = count
  }

  /** Visits runs in order. */
  forEach(visit: (pfn: number, count: number) => void): void {
    for (let i = 0; i < this.#length; i++) visit(this.#pfn[i]!, this.#count[i]!)
  }

  forEachPage(visit: (pfn: number) => void): void {
    this.forEach((pfn, count) => {
      for (let page = pfn; page < pfn + count; page++) visit(page)
    })
  }

  /** @returns the frame of a page by its index, 0 beyond the end */
  pfnAt(page: number): number {
    if (page < 0 || page >= this.#pages) return 0
    let [low, high] = [0, this.#length - 1]
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (this.#index[middle]! <= page) low = middle
      else high = middle - 1
    }
    return this.#pfn[low]! + page - this.#index[low]!
  }

  /** The frame of every page, in order. */
  toArray(): Int32Array {
    const pfns = new Int32Array(this.#pages)
    for (let i = 0, at = 0; i < this.#length; i++) {
      const [pfn, count] = [this.#pfn[i]!, this.#count[i]!]
      for (let page = 0; page < count; page++) pfns[at++] = pfn + page
    }
    return pfns
  }

  clear(): void {
    this.#length = 0
    this.#pages = 0
  }
}

function grown(array: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(array.length * 2)
  larger.set(array)
  return larger
}

/** For the audit: one pin on each page, but for pages that pins are not counted on (the zero page, R-GUP-63). */
export function visitPins(
  k: Kernel,
  runs: PageRuns,
  visit: (pfn: number, references: number, pins: number) => void,
): void {
  runs.forEachPage((pfn) => {
    if (pinIsCounted(k, pfn)) visit(pfn, 0, 1)
  })
}

/** Releases every run; with `makeDirty` the device may have written. */
export function* unpinRuns(k: Kernel, runs: PageRuns, makeDirty: boolean): Kthread<void> {
  const held: [pfn: number, count: number][] = []
  runs.forEach((pfn, count) => held.push([pfn, count]))
  runs.clear()
  for (const [pfn, count] of held) yield* unpinUserPageRangeDirtyLock(k, pfn, count, makeDirty)
}
