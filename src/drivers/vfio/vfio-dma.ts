import { PAGE_SIZE } from '../../base/units.ts'
import { PG_RESERVED } from '../../memory/page-flags.ts'
import type { CurrentTask, Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { PageRuns } from '../../task/device/runs.ts'

/** A page that a mediated device has pinned (`struct vfio_pfn`). */
export interface VfioPfn {
  readonly pfn: number
  refs: number
}

/** `struct vfio_dma`: one MAP_DMA of a container. */
export class VfioDma {
  readonly iova: number
  vaddr: number
  /** bytes asked for */
  readonly size: number
  readonly read: boolean
  readonly write: boolean
  /** CAP_IPC_LOCK when it was mapped, for good */
  lockCap: boolean
  /** whose limit counts: the group leader that mapped it */
  task: CurrentTask
  mm: Mm
  /** pages this dma has charged to its mm */
  lockedVm = 0
  /** its address is being updated (R-VFIO-10) */
  vaddrInvalid = false
  /** pinned and in the IOMMU's tables */
  iommuMapped = false
  /** what the IOMMU's tables hold from `iova` on: the only record of what is pinned */
  readonly runs = new PageRuns()
  /** page of the dma → what mediated devices have pinned of it */
  readonly pfnList = new Map<number, VfioPfn>()
  /** one bit a page, while dirty pages are tracked */
  bitmap: Uint8Array | null = null

  constructor(k: Kernel, iova: number, vaddr: number, size: number, prot: { read: boolean; write: boolean }) {
    this.iova = iova
    this.vaddr = vaddr
    this.size = size
    this.read = prot.read
    this.write = prot.write
    this.lockCap = k.current.capable('CAP_IPC_LOCK')
    this.task = k.current
    this.mm = k.current.mm!
  }

  get end(): number {
    return this.iova + this.size
  }

  get pages(): number {
    return this.size / PAGE_SIZE
  }

  setDirty(page: number): void {
    if (this.bitmap !== null) this.bitmap[page >> 3]! |= 1 << (page & 7)
  }
}

/**
 * `is_invalid_reserved_pfn`: no page structure behind it, or one that nobody counts. Never charged, never unpinned.
 * @rule R-VFIO-6
 */
export function isReservedPfn(k: Kernel, pfn: number): boolean {
  const { frames } = k.memory
  return pfn >= frames.count || (frames.has(pfn, PG_RESERVED) && !k.isHugeZero(pfn))
}

/** Runs without their reserved pages, which may lie between others: what is pinned. */
export function* pinnedRuns(
  k: Kernel,
  runs: PageRuns,
): Generator<{ readonly page: number; readonly pfn: number; readonly count: number }, void, void> {
  const all: [pfn: number, count: number][] = []
  runs.forEach((pfn, count) => all.push([pfn, count]))
  let page = 0
  for (const [pfn, count] of all) {
    for (let i = 0; i < count;) {
      const reserved = isReservedPfn(k, pfn + i)
      let n = 1
      while (i + n < count && isReservedPfn(k, pfn + i + n) === reserved) n++
      if (!reserved) yield { page: page + i, pfn: pfn + i, count: n }
      i += n
    }
    page += count
  }
}

/** The dmas of a container, sorted by IOVA; they never overlap. */
export class DmaList {
  #sorted: VfioDma[] = []
  /** what has been removed from the front stays before this index for a while: all of 65,535 go one by one */
  #first = 0

  get length(): number {
    return this.#sorted.length - this.#first
  }

  [Symbol.iterator](): IterableIterator<VfioDma> {
    return this.#sorted.slice(this.#first).values()
  }

  /** `vfio_find_dma`: the first one that overlaps [start, start + size); size 0 stands for one byte. */
  find(start: number, size: number): VfioDma | null {
    const at = this.#firstEndingAfter(start)
    const dma = this.#sorted[at]
    return dma !== undefined && dma.iova < start + Math.max(size, 1) ? dma : null
  }

  insert(dma: VfioDma): void {
    this.#sorted.splice(this.#firstEndingAfter(dma.iova), 0, dma)
  }

  remove(dma: VfioDma): void {
    const at = this.#sorted.indexOf(dma, this.#first)
    if (at !== this.#first) this.#sorted.splice(at, 1)
    else if (++this.#first * 2 > this.#sorted.length) {
      this.#sorted = this.#sorted.slice(this.#first)
      this.#first = 0
    }
  }

  #firstEndingAfter(iova: number): number {
    let [low, high] = [this.#first, this.#sorted.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#sorted[middle]!.end > iova) high = middle
      else low = middle + 1
    }
    return low
  }
}
