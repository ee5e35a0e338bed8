import { Buddy, MAX_ORDER, type AllocContext, type ZoneSizes } from './buddy.ts'
import { Contents } from './contents.ts'
import { Frames } from './frames.ts'
import { IoSpace } from './io-space.ts'
import { ORDER_SHIFT, PG_BUDDY, PG_PERMANENT, PG_RESERVED } from './page-flags.ts'

/** A reference was dropped that nobody held, or a free page was referenced: always a bug in the caller. */
export class ReferenceError extends Error {
  constructor(what: string) {
    super(what)
    this.name = 'ReferenceError'
  }
}

/** Physical memory: descriptors, free lists and contents, with the life of a folio. */
export class Memory {
  readonly frames: Frames
  readonly buddy: Buddy
  readonly contents = new Contents()
  /** what devices show behind the end of memory */
  readonly io: IoSpace
  /** Takes back folios the buddy allocator does not own (hugetlb); returns whether it did. */
  takeBack: ((head: number) => boolean) | null = null
  /** Asked before every allocation; true makes it fail. For tests. */
  failAllocation: (() => boolean) | null = null

  /** @param nodes NUMA nodes that memory is divided into, by frame numbers, in equal parts */
  constructor(sizes: ZoneSizes, nodes = 1) {
    // pfn 0 stays unused so that 0 can mean "none"
    this.frames = new Frames(1 + sizes.normal + (sizes.movable ?? 0) + (sizes.cma ?? 0))
    this.buddy = new Buddy(this.frames, sizes, nodes)
    this.io = new IoSpace(this.frames.count, this.contents)
  }

  /**
   * A new folio with one reference, zeroed.
   * @returns the head pfn, or 0 when memory is exhausted
   */
  allocFolio(order: number, context: AllocContext): number {
    if (this.failAllocation !== null && this.failAllocation()) return 0
    const pfn =
      order > MAX_ORDER ? this.buddy.allocContiguous(order, context) : this.buddy.alloc(order, context)
    if (pfn === 0) return 0
    const { flags, refcount } = this.frames
    if (order !== 0) {
      const mark = order << ORDER_SHIFT
      const end = pfn + (1 << order)
      for (let page = pfn; page < end; page++) flags[page]! |= mark
    }
    refcount[pfn] = 1
    return pfn
  }

  /**
   * New single pages with one reference each, zeroed, as so many calls of `allocFolio(0, …)` would give.
   * @returns how many there were: `into[from…]` holds them; fewer than `n` when memory is exhausted
   */
  allocPages(into: Int32Array, from: number, n: number, context: AllocContext): number {
    if (this.failAllocation !== null && this.failAllocation()) return 0
    const got = this.buddy.allocRun(into, from, n, context)
    const { refcount } = this.frames
    for (let i = from; i < from + got; i++) refcount[into[i]!] = 1
    return got
  }

  /** `folio_get`: n plain references on the folio of a page. */
  get(pfn: number, n = 1): void {
    this.frames.refcount[this.frames.head(pfn)]! += n
  }

  /**
   * `folio_put`: drops n references; the last one frees the folio.
   * @rule R-FLT-1
   */
  put(pfn: number, n = 1): void {
    const { frames } = this
    const head = frames.head(pfn)
    const left = (frames.refcount[head]! -= n)
    if (left > 0) return
    if (left < 0) {
      frames.refcount[head]! += n
      throw new ReferenceError(`pfn ${head}: ${n} references dropped, ${left + n} held`)
    }
    this.free(head)
  }

  /** Frees a folio whose last reference is gone. */
  free(head: number): void {
    const { frames } = this
    const { flags } = frames
    if ((flags[head]! & (PG_RESERVED | PG_BUDDY)) !== 0)
      throw new ReferenceError(`pfn ${head}: freed, but reserved or free already`)
    if (this.takeBack !== null && this.takeBack(head)) return
    const order = frames.order(head)
    this.resetFolio(head)
    for (let page = head; page < head + (1 << order); page++) flags[page]! &= PG_PERMANENT
    this.buddy.release(head, order)
  }

  /** Clears counters, ownership and contents of a folio's pages; flags stay. */
  resetFolio(head: number): void {
    const { refcount, mapcount, mapping, index } = this.frames
    const end = head + this.frames.nrPages(head)
    if (end > head + 1) this.frames.uncounted.delete(head)
    for (let page = head; page < end; page++) {
      refcount[page] = 0
      mapcount[page] = 0
      mapping[page] = 0
      index[page] = 0
      this.contents.clear(page)
    }
  }
}
