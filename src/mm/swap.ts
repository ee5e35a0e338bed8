import type { Memory } from '../memory/memory.ts'
import { PG_ANON, PG_DIRTY, PG_SWAPCACHE } from '../memory/page-flags.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { PageHolder } from './kernel.ts'

interface SwapSlot {
  /** page-table entries and shmem files that name the slot */
  count: number
  /** the page in the swap cache, 0 none */
  pfn: number
  /** what was written out; null for a page of zeros or unknown content */
  bytes: Uint8Array | null
  /** of memory with tags (R-MTE-11) */
  tags: Uint8Array | null
}

/**
 * Swap space: slots with a count of the entries that name them, and the swap cache.
 *
 * The cache holds one reference per page (R-FLT-1), so the area is one of the kernel's page holders. Without
 * `swapon` there is no room and nothing is swapped out; slots that a snapshot or a test names exist all the same.
 */
export class SwapArea implements PageHolder {
  readonly name = 'swap cache'
  readonly #memory: Memory
  readonly #slots = new Map<number, SwapSlot>()
  readonly #slotOfPage = new Map<number, number>()
  /** slots that were given back; the next page goes into one of them */
  readonly #reusable: number[] = []
  #lastSlot = 0
  #total = 0

  constructor(memory: Memory) {
    this.#memory = memory
  }

  /** Slots in use. */
  get used(): number {
    return this.#slots.size
  }

  /** Slots there are; 0: no swap is configured. */
  get total(): number {
    return this.#total
  }

  /** `vm_swap_full`: more than half is in use, so that pages brought in give their slots back at once. */
  get full(): boolean {
    return this.#total > 0 && (this.#total - this.used) * 2 < this.#total
  }

  /** Whether so many pages can be swapped out. */
  hasRoom(pages: number): boolean {
    return this.used + pages <= this.#total
  }

  /** Adds a device of so many slots (pages). */
  swapon(slots: number): void {
    this.#total += slots
  }

  /** No more room; slots in use stay until they are emptied (swapoff.ts). */
  close(): void {
    this.#total = 0
  }

  /** A new slot named by one entry, room or not. `bytes`: the page's content, at most 4096; null for zeros. */
  allocate(bytes: Uint8Array | null = null): number {
    const slot = this.#reusable.pop() ?? ++this.#lastSlot
    this.#slots.set(slot, {
      count: 1,
      pfn: 0,
      bytes: bytes === null ? null : bytes.slice(0, PAGE_SIZE),
      tags: null,
    })
    return slot
  }

  /**
   * `folio_alloc_swap`: a slot for a page, named by nothing yet, with the page in the swap cache, dirty.
   * @returns false when there is no room
   */
  addPage(pfn: number): boolean {
    if (!this.hasRoom(1)) return false
    const slot = this.allocate()
    this.#slots.get(slot)!.count = 0
    this.addToCache(slot, pfn)
    this.#memory.frames.set(pfn, PG_DIRTY)
    return true
  }

  /** How many entries name a slot. */
  count(slot: number): number {
    return this.#slots.get(slot)?.count ?? 0
  }

  /** One more entry names the slot (fork, swap-out). */
  duplicate(slot: number): void {
    this.#get(slot).count++
  }

  /** One entry fewer; a slot without entries and without a mapped cached page is gone. */
  free(slot: number): void {
    const entry = this.#get(slot)
    entry.count--
    if (entry.count > 0) return
    if (entry.pfn === 0) this.#release(slot)
    else this.dropUnmapped(entry.pfn)
  }

  /** The page the swap cache has for a slot, 0 none. */
  cached(slot: number): number {
    return this.#get(slot).pfn
  }

  /** The slot of a page in the swap cache, 0 when it is not there. */
  slotOf(pfn: number): number {
    return this.#slotOfPage.get(pfn) ?? 0
  }

  /** Fills a page with what the slot holds. */
  read(slot: number, pfn: number): void {
    const { bytes, tags } = this.#get(slot)
    const { contents } = this.#memory
    if (bytes !== null) contents.write(pfn, 0, bytes)
    if (tags !== null) contents.tags.restore(pfn, tags)
  }

  addToCache(slot: number, pfn: number): void {
    this.#get(slot).pfn = pfn
    this.#slotOfPage.set(pfn, slot)
    this.#memory.get(pfn)
    this.#memory.frames.set(pfn, PG_SWAPCACHE)
  }

  /** `swap_writepage`: the slot holds what the page holds; the page is clean. */
  writePage(pfn: number): void {
    const slot = this.#get(this.slotOf(pfn))
    slot.bytes = this.#memory.contents.snapshot(pfn)
    slot.tags = this.#memory.contents.tags.snapshot(pfn)
    this.#memory.frames.clear(pfn, PG_DIRTY)
  }

  /** `delete_from_swap_cache`: the slot stays as long as entries name it, the page loses the cache's reference. */
  removeFromCache(pfn: number): void {
    const slot = this.slotOf(pfn)
    const entry = this.#get(slot)
    entry.pfn = 0
    this.#slotOfPage.delete(pfn)
    if (entry.count === 0) this.#release(slot)
    this.#memory.frames.clear(pfn, PG_SWAPCACHE)
    this.#memory.put(pfn)
  }

  /** A page of the cache is in another frame now; its references have been taken along. */
  moveCached(from: number, to: number): void {
    const slot = this.slotOf(from)
    this.#get(slot).pfn = to
    this.#slotOfPage.delete(from)
    this.#slotOfPage.set(to, slot)
  }

  /** `folio_free_swap`: takes a page out of the cache, dirty, unless entries still name its slot. */
  freeCache(pfn: number): boolean {
    const slot = this.slotOf(pfn)
    if (slot === 0 || this.#get(slot).count > 0) return false
    this.#memory.frames.set(pfn, PG_DIRTY)
    this.removeFromCache(pfn)
    return true
  }

  /** `free_swap_cache`: nobody maps the page any more and no entry names it, so nobody will look for it. */
  dropUnmapped(pfn: number): void {
    const { frames } = this.#memory
    if (frames.has(pfn, PG_ANON) && frames.mapcount[pfn] !== 0) return
    this.freeCache(pfn)
  }

  /** Takes every page out of the cache whose slot nobody names. */
  dropCache(): void {
    for (const pfn of this.#slotOfPage.keys()) this.freeCache(pfn)
  }

  /** Every slot in use, with the number of entries that name it and its page in the cache. */
  forEachSlot(visit: (slot: number, count: number, pfn: number) => void): void {
    for (const [slot, { count, pfn }] of this.#slots) visit(slot, count, pfn)
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const pfn of this.#slotOfPage.keys()) visit(pfn, 1, 0)
  }

  #release(slot: number): void {
    this.#slots.delete(slot)
    this.#reusable.push(slot)
  }

  #get(slot: number): SwapSlot {
    const entry = this.#slots.get(slot)
    if (entry === undefined) throw new RangeError(`swap slot ${slot} is not in use`)
    return entry
  }
}
