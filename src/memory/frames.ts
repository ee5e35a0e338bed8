import { HPAGE_PMD_ORDER } from '../base/units.ts'
import { ORDER_SHIFT, ZONE_SHIFT, type Zone } from './page-flags.ts'

/** GUP_PIN_COUNTING_BIAS: what one FOLL_PIN adds to the reference count of a small folio (R-GUP-60). */
export const GUP_PIN_COUNTING_BIAS = 1024

/**
 * Physical memory's descriptors, our `mem_map`: a struct of arrays indexed by page frame number.
 *
 * 20 bytes a frame. The arrays are sized once for the machine's memory; the host commits them as they
 * are touched, so frames never used cost address space only, and hot loops may keep the arrays in
 * locals for as long as they like.
 *
 * Two counters of large folios live in tail slots that have no use of their own, as in the kernel:
 * `refcount[head + 1]` is `_pincount`, `mapcount` of the head counts ptes of the head page, and
 * `refcount[head + 2]` counts entire (PMD or hugetlb) mappings. Tail pages have no reference count.
 * @rule R-HUGE-1
 * @rule R-HUGE-2
 */
export class Frames {
  /** number of frames; pfn 0 is never handed out, so 0 can mean "none" */
  readonly count: number
  /** references of the folio, on its head (R-FLT-1); signed 32 bit, overflow is visible as negative */
  readonly refcount: Int32Array
  /**
   * page-table entries that map this very page; entire mappings are counted apart
   * @rule R-FLT-7
   */
  readonly mapcount: Int32Array
  /** PG_* bits, order, zone: see page-flags.ts */
  readonly flags: Uint32Array
  /** id of the address space (page cache) or of the anon_vma; 0 none. Free pages: next free */
  readonly mapping: Int32Array
  /** page index in the file, or page number of the address the anonymous page was created for, modulo 2^32. Free pages: previous free */
  readonly index: Uint32Array
  /** ids of the address spaces that map a large folio, by its first page, and of which it keeps no count (R-HUGE-20) */
  readonly uncounted = new Map<number, Set<number>>()
  /** 0, 1, 2, … once somebody has asked for consecutive numbers: copying them is quicker than counting */
  #numbers: Int32Array | null = null

  /** @param count frames of physical memory */
  constructor(count: number) {
    this.count = count
    this.refcount = new Int32Array(count)
    this.mapcount = new Int32Array(count)
    this.flags = new Uint32Array(count)
    this.mapping = new Int32Array(count)
    this.index = new Uint32Array(count)
  }

  /** Writes `n` consecutive frame numbers from `first` on to `into[at…]`: the pages of one huge entry. */
  writeNumbers(into: Int32Array, at: number, first: number, n: number): void {
    if (n < 16) {
      for (let i = 0; i < n; i++) into[at + i] = first + i
      return
    }
    let numbers = this.#numbers
    if (numbers === null) {
      numbers = new Int32Array(this.count)
      for (let i = 0; i < numbers.length; i++) numbers[i] = i
      this.#numbers = numbers
    }
    into.set(numbers.subarray(first, first + n), at)
  }

  order(pfn: number): number {
    return (this.flags[pfn]! >>> ORDER_SHIFT) & 0x1f
  }

  zone(pfn: number): Zone {
    return (this.flags[pfn]! >>> ZONE_SHIFT) as Zone
  }

  /** The first page of the folio a page belongs to (`page_folio`). */
  head(pfn: number): number {
    const order = (this.flags[pfn]! >>> ORDER_SHIFT) & 0x1f
    return order === 0 ? pfn : pfn & -(1 << order)
  }

  /** More than one page: counts pins exactly (R-GUP-62). */
  isLarge(pfn: number): boolean {
    return ((this.flags[pfn]! >>> ORDER_SHIFT) & 0x1f) !== 0
  }

  /** Pages of the folio. */
  nrPages(pfn: number): number {
    return 1 << ((this.flags[pfn]! >>> ORDER_SHIFT) & 0x1f)
  }

  /** `_pincount` of a large folio. */
  pincount(head: number): number {
    return this.refcount[head + 1]!
  }

  addPincount(head: number, n: number): void {
    this.refcount[head + 1]! += n
  }

  /** PMD or hugetlb mappings of the whole folio; smaller ones than 2 MiB have none, and no slot for the count. */
  entireMapcount(head: number): number {
    return this.order(head) < HPAGE_PMD_ORDER ? 0 : this.refcount[head + 2]!
  }

  addEntireMapcount(head: number, n: number): void {
    this.refcount[head + 2]! += n
  }

  /** Mappings of one page: its ptes and the entire mappings of its folio (R-HUGE-2). */
  pageMapcount(pfn: number): number {
    const own = this.mapcount[pfn]!
    return this.isLarge(pfn) ? own + this.entireMapcount(this.head(pfn)) : own
  }

  /** All mappings of the folio (R-HUGE-2, "total map"). */
  totalMapcount(head: number): number {
    const n = this.nrPages(head)
    if (n === 1) return this.mapcount[head]!
    let total = this.entireMapcount(head)
    for (let pfn = head; pfn < head + n; pfn++) total += this.mapcount[pfn]!
    return total
  }

  /**
   * `folio_maybe_dma_pinned`: exact for large folios; for small ones 1024 plain references look the same.
   * @rule R-GUP-70
   * @rule R-FLT-5
   */
  maybeDmaPinned(pfn: number): boolean {
    const head = this.head(pfn)
    if (this.isLarge(head)) return this.refcount[head + 1]! > 0
    return this.refcount[head]! >>> 0 >= GUP_PIN_COUNTING_BIAS
  }

  has(pfn: number, flag: number): boolean {
    return (this.flags[pfn]! & flag) !== 0
  }

  set(pfn: number, flag: number): void {
    this.flags[pfn]! |= flag
  }

  clear(pfn: number, flag: number): void {
    this.flags[pfn]! &= ~flag
  }
}
