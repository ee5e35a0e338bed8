import type { Memory } from '../memory/memory.ts'
import { PG_ANON, PG_SWAPCACHE } from '../memory/page-flags.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { PageHolder } from './kernel.ts'

interface SwapSlot {
  /** page-table entries that name the slot */
  count: number
  /** the page in the swap cache, 0 none */
  pfn: number
  /** what was written out; null for a page of zeros or unknown content */
  readonly bytes: Uint8Array | null
}

/**
 * Swap space as page tables see it: slots with a count of the entries that name them, and the swap
 * cache. Nothing is ever swapped out here; slots come from snapshots and tests.
 *
 * The cache holds one reference per page (R-FLT-1), so the area is one of the kernel's page holders.
 */
export class SwapArea implements PageHolder {
  readonly name = 'swap cache'
  readonly #memory: Memory
  readonly #slots = new Map<number, SwapSlot>()
  readonly #slotOfPage = new Map<number, number>()
  #lastSlot = 0

  constructor(memory: Memory) {
    this.#memory = memory
  }

  /** Slots in use. */
  get used(): number {
    return this.#slots.size
  }

  /** A new slot named by one entry. `bytes`: the page's content, at most 4096; null for zeros. */
  allocate(bytes: Uint8Array | null = null): number {
    const slot = ++this.#lastSlot
    this.#slots.set(slot, { count: 1, pfn: 0, bytes: bytes === null ? null : bytes.slice(0, PAGE_SIZE) })
    return slot
  }

  /** How many entries name a slot. */
  count(slot: number): number {
    return this.#slots.get(slot)?.count ?? 0
  }

  /** One more entry names the slot (fork). */
  duplicate(slot: number): void {
    this.#get(slot).count++
  }

  /** One entry fewer; a slot without entries and without a mapped cached page is gone. */
  free(slot: number): void {
    const entry = this.#get(slot)
    entry.count--
    if (entry.count > 0) return
    if (entry.pfn === 0) this.#slots.delete(slot)
    else this.dropUnmapped(entry.pfn)
  }

  /** The page the swap cache has for a slot, 0 none. */
  cached(slot: number): number {
    return this.#get(slot).pfn
  }

  /** Fills a page with what the slot holds. */
  read(slot: number, pfn: number): void {
    const { bytes } = this.#get(slot)
    if (bytes !== null) this.#memory.contents.write(pfn, 0, bytes)
  }

  addToCache(slot: number, pfn: number): void {
    this.#get(slot).pfn = pfn
    this.#slotOfPage.set(pfn, slot)
    this.#memory.get(pfn)
    this.#memory.frames.set(pfn, PG_SWAPCACHE)
  }

  /** `folio_free_swap`: takes a page out of the cache unless entries still name its slot. */
  freeCache(pfn: number): boolean {
    const slot = this.#slotOfPage.get(pfn)
    if (slot === undefined || this.#get(slot).count > 0) return false
    this.#slots.delete(slot)
    this.#slotOfPage.delete(pfn)
    this.#memory.frames.clear(pfn, PG_SWAPCACHE)
    this.#memory.put(pfn)
    return true
  }

  /** `free_swap_cache`: nobody maps the page any more and no entry names it, so nobody will look for it. */
  dropUnmapped(pfn: number): void {
    const { frames } = this.#memory
    if (frames.has(pfn, PG_ANON) && frames.mapcount[pfn] !== 0) return
    this.freeCache(pfn)
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const pfn of this.#slotOfPage.keys()) visit(pfn, 1, 0)
  }

  #get(slot: number): SwapSlot {
    const entry = this.#slots.get(slot)
    if (entry === undefined) throw new RangeError(`swap slot ${slot} is not in use`)
    return entry
  }
}
