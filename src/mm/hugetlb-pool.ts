import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE, PMD_SIZE, PUD_SIZE } from '../base/units.ts'
import { MAX_ORDER } from '../memory/buddy.ts'
import {
  PG_HUGETLB,
  PG_HUGETLB_RESERVED,
  PG_PERMANENT,
  ORDER_MASK,
  ZONE_NORMAL,
} from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'

/**
 * A limit of its own on top of the pool: what `mount -t hugetlbfs -o size=` sets. Pages reserved and
 * pages in use both count.
 * @rule R-HUGE-40
 */
export class HugetlbSubpool {
  /** huge pages */
  readonly max: number
  used = 0
  /** of those, promises that nobody can give back any more (R-HUGE-59) */
  orphaned = 0

  constructor(max: number) {
    this.max = max
  }

  take(pages: number): boolean {
    if (this.used + pages > this.max) return false
    this.used += pages
    return true
  }

  give(pages: number): void {
    this.used -= pages
  }
}

/**
 * The pool of huge pages of one size (`struct hstate`). Counts are huge pages, as in
 * /sys/kernel/mm/hugepages. Free pages carry PG_HUGETLB and have no reference.
 * @rule R-HUGE-40
 */
export class HugetlbPool {
  /** bytes */
  readonly pageSize: number
  /** 4 KiB pages in one huge page */
  readonly nrPages: number
  /** log2 of that */
  readonly order: number
  /** nr_hugepages, surplus included */
  total = 0
  /** resv_hugepages: promised and not yet handed out. Can be seen below zero (R-HUGE-52) */
  reserved = 0
  /** promises among `reserved` that no mapping and no file of ours will give back: other people's, or lost (R-HUGE-59) */
  orphaned = 0
  /** surplus_hugepages: pages beyond the configured number */
  surplus = 0
  /** nr_overcommit_hugepages: how many surplus pages there may be */
  overcommit = 0
  readonly #kernel: Kernel
  /** heads of the free pages, last freed is handed out first */
  readonly #free: number[] = []
  /** which folio counts against which subpool */
  readonly #subpools = new Map<number, HugetlbSubpool>()
  /** pages that do not count in `total`: made for a migration, or left behind by one */
  readonly #temporary = new Set<number>()

  /** @internal `hugetlbPool()` makes pools */
  constructor(kernel: Kernel, pageSize: number) {
    this.#kernel = kernel
    this.pageSize = pageSize
    this.nrPages = pageSize / PAGE_SIZE
    this.order = Math.log2(this.nrPages)
  }

  /** More than one block of the buddy allocator: made by resizing the pool only, never as surplus. */
  get isGigantic(): boolean {
    return this.order > MAX_ORDER
  }

  /** free_hugepages */
  get free(): number {
    return this.#free.length
  }

  /** Pages an allocation without reservation may take. */
  get available(): number {
    return this.free - this.reserved
  }

  /**
   * Writing nr_hugepages: makes the pool `total` pages large as far as memory allows.
   * Shrinking takes free, unreserved pages; pages in use beyond the number become surplus.
   * @returns the pages of the pool afterwards, surplus not counted
   */
  resize(total: number): number {
    // surplus pages in use become ordinary ones first
    while (this.surplus > 0 && this.total - this.surplus < total) this.surplus--
    while (this.total - this.surplus < total && this.#grow()) this.total++
    while (this.total - this.surplus > total && this.available > 0) {
      this.#dissolve(this.#free.pop()!)
      this.total--
    }
    while (this.total - this.surplus > total) this.surplus++
    return this.total - this.surplus
  }

  /**
   * Promises n pages (`hugetlb_acct_memory`), growing the pool by surplus pages where that is allowed.
   * @returns whether the pool could
   * @rule R-HUGE-52
   */
  reserve(n: number): boolean {
    if (n > this.available + Math.max(0, this.overcommit - this.surplus)) return false
    while (n > this.available) {
      if (!this.#growSurplus()) {
        this.#returnSurplus(n)
        return false
      }
    }
    // with fewer promised than there should be (R-HUGE-52) that many need not be free
    if (n > this.free) {
      this.#returnSurplus(n)
      return false
    }
    this.reserved += n
    return true
  }

  /**
   * Promises made before the model begins: their pages are free, and nobody here gets them.
   * @param n huge pages; below zero while somebody's pinned page is unmapped
   */
  promiseOthers(n: number): void {
    this.reserved += n
    this.orphaned += n
  }

  /** Takes a promise of n pages back; surplus pages that were made for it leave the pool. */
  unreserve(n: number): void {
    this.reserved -= n
    this.#returnSurplus(n)
  }

  /**
   * A page for somebody, with one reference, zeroed.
   * @param fromReserve a promise made earlier is used up
   * @returns its head pfn; 0 when the pool is exhausted
   */
  alloc(fromReserve: boolean, subpool: HugetlbSubpool | null): number {
    if (!fromReserve && this.available <= 0 && !this.#growSurplus()) return 0
    let head = this.#dequeue()
    if (head === 0) {
      if (!this.#growSurplus()) return 0
      head = this.#dequeue()
      if (head === 0) return 0
    }
    if (fromReserve) this.reserved--
    if (subpool !== null) this.#subpools.set(head, subpool)
    this.#kernel.memory.frames.refcount[head] = 1
    return head
  }

  /**
   * `alloc_hugetlb_folio_nodemask`: a place for a page of the pool to move to: a free one that nobody was promised,
   * or one made for the purpose.
   * @param node where it is to be; anywhere without it
   * @returns its head pfn, with one reference; 0 when there is none
   * @rule R-HUGE-64
   */
  allocForMigration(node?: number): number {
    let head = this.available > 0 ? this.#dequeue(node) : 0
    if (head === 0) {
      if (this.isGigantic || !this.#grow(node)) return 0
      head = this.#free.pop()!
      this.#temporary.add(head)
    }
    this.#kernel.memory.frames.refcount[head] = 1
    return head
  }

  /** `move_hugetlb_state`: the new page takes the old one's place in the books. */
  endMigration(from: number, to: number): void {
    const subpool = this.#subpools.get(from)
    this.#subpools.delete(from)
    if (subpool !== undefined) this.#subpools.set(to, subpool)
    if (this.#temporary.delete(to)) this.#temporary.add(from)
  }

  /**
   * The last reference of one of our folios is gone: back to the free list, or to the buddy allocator
   * when the pool has surplus pages.
   */
  takeBack(head: number): void {
    const { memory } = this.#kernel
    const { frames } = memory
    const restore = frames.has(head, PG_HUGETLB_RESERVED)
    const subpool = this.#subpools.get(head)
    this.#subpools.delete(head)
    memory.resetFolio(head)
    const keep = (PG_PERMANENT | PG_HUGETLB | ORDER_MASK) >>> 0
    for (let pfn = head; pfn < head + this.nrPages; pfn++) frames.flags[pfn]! &= keep
    if (this.#temporary.delete(head)) {
      this.#dissolve(head)
      return
    }
    if (restore) this.reserved++
    else subpool?.give(1)
    if (this.surplus > 0) {
      this.surplus--
      this.total--
      this.#dissolve(head)
    } else this.#free.push(head)
  }

  /** The mount a page in use counts against. */
  subpoolOf(head: number): HugetlbSubpool | null {
    return this.#subpools.get(head) ?? null
  }

  #dequeue(node?: number): number {
    if (this.#kernel.dueFailure?.hits('allocation') === true) return 0
    const { memallocPin } = this.#kernel.current
    if (!memallocPin && node === undefined) return this.#free.pop() ?? 0
    // a longterm pin is allocating: nothing from zones whose pages must stay movable (R-GUP-50)
    const { frames, buddy } = this.#kernel.memory
    for (let i = this.#free.length - 1; i >= 0; i--) {
      const head = this.#free[i]!
      if (node !== undefined && buddy.nodeOf(head) !== node) continue
      if (!memallocPin || frames.zone(head) === ZONE_NORMAL) return this.#free.splice(i, 1)[0]!
    }
    return 0
  }

  #grow(node?: number): boolean {
    const { memory } = this.#kernel
    const movable = !this.#kernel.current.memallocPin
    const head = memory.allocFolio(this.order, node === undefined ? { movable } : { movable, node })
    if (head === 0) return false
    memory.frames.refcount[head] = 0
    const { flags } = memory.frames
    for (let pfn = head; pfn < head + this.nrPages; pfn++) flags[pfn]! |= PG_HUGETLB
    this.#free.push(head)
    return true
  }

  #growSurplus(): boolean {
    if (this.isGigantic || this.surplus >= this.overcommit || !this.#grow()) return false
    this.total++
    this.surplus++
    return true
  }

  #returnSurplus(n: number): void {
    for (let left = n; left > 0 && this.surplus > 0 && this.available > 0; left--) {
      this.surplus--
      this.total--
      this.#dissolve(this.#free.pop()!)
    }
  }

  /** Back to the buddy allocator. */
  #dissolve(head: number): void {
    const { memory } = this.#kernel
    const { flags } = memory.frames
    for (let pfn = head; pfn < head + this.nrPages; pfn++) flags[pfn]! &= PG_PERMANENT
    memory.buddy.release(head, this.order)
  }
}

/**
 * The pool of a page size, empty until somebody resizes it.
 * @param pageSize bytes; 2 MiB or 1 GiB
 * @throws Unmodelled for other sizes
 */
export function hugetlbPool(k: Kernel, pageSize: number = PMD_SIZE): HugetlbPool {
  if (pageSize !== PMD_SIZE && pageSize !== PUD_SIZE)
    throw new Unmodelled(`huge pages of ${pageSize} bytes`, 'R-HUGE-58')
  let pool = k.hugetlbPools.get(pageSize)
  if (pool === undefined) {
    const made = new HugetlbPool(k, pageSize)
    pool = made
    k.hugetlbPools.set(pageSize, made)
    k.memory.takeBack = (head) => {
      const { frames } = k.memory
      if (!frames.has(head, PG_HUGETLB)) return false
      hugetlbPool(k, frames.nrPages(head) * PAGE_SIZE).takeBack(head)
      return true
    }
  }
  return pool
}
