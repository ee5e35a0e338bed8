import type { Frames } from './frames.ts'
import {
  ORDER_MASK,
  ORDER_SHIFT,
  PG_BUDDY,
  PG_PERMANENT,
  ZONE_CMA,
  ZONE_MOVABLE,
  ZONE_NORMAL,
  ZONE_SHIFT,
  type Zone,
} from './page-flags.ts'

/** largest block the allocator keeps together: 4 MiB */
export const MAX_ORDER = 10

/** Where an allocation may come from. */
export interface AllocContext {
  /** user pages that may sit in ZONE_MOVABLE or CMA (`__GFP_MOVABLE`) */
  readonly movable: boolean
}

const MOVABLE_ZONES: readonly Zone[] = [ZONE_MOVABLE, ZONE_CMA, ZONE_NORMAL]
const NORMAL_ZONES: readonly Zone[] = [ZONE_NORMAL]

/** How much of the machine each zone holds, in pages. */
export interface ZoneSizes {
  readonly normal: number
  readonly movable?: number
  readonly cma?: number
}

/**
 * The buddy allocator. Free blocks are threaded through the frames' own `mapping` (next) and `index`
 * (previous) slots, which a free page has no other use for. Lists are LIFO: the result is a function of
 * the call sequence alone.
 */
export class Buddy {
  readonly #frames: Frames
  /** heads[zone * (MAX_ORDER + 1) + order] = first free block, 0 none */
  readonly #heads = new Int32Array(3 * (MAX_ORDER + 1))
  /** bit n set: zone has a free block of order n */
  readonly #nonEmpty = new Int32Array(3)
  readonly free = new Int32Array(3)
  readonly managed = new Int32Array(3)

  constructor(frames: Frames, sizes: ZoneSizes) {
    this.#frames = frames
    let pfn = 1
    const zones: readonly [Zone, number][] = [
      [ZONE_NORMAL, sizes.normal],
      [ZONE_MOVABLE, sizes.movable ?? 0],
      [ZONE_CMA, sizes.cma ?? 0],
    ]
    for (const [zone, pages] of zones) {
      const end = Math.min(pfn + pages, frames.count)
      this.managed[zone] = end - pfn
      this.#addRange(zone, pfn, end)
      pfn = end
    }
  }

  #addRange(zone: Zone, start: number, end: number): void {
    const { flags } = this.#frames
    const blocks: [number, number][] = []
    for (let pfn = start; pfn < end;) {
      let order = 0
      while (order < MAX_ORDER && (pfn & (1 << order)) === 0 && pfn + (2 << order) <= end) order++
      blocks.push([pfn, order])
      pfn += 1 << order
    }
    if (zone !== ZONE_NORMAL) for (let pfn = start; pfn < end; pfn++) flags[pfn] = (zone << ZONE_SHIFT) >>> 0
    // pushed from the top, so that low frames are handed out first
    for (const [pfn, order] of blocks.reverse()) this.#push(zone, pfn, order)
    this.free[zone] = end - start
  }

  #push(zone: Zone, pfn: number, order: number): void {
    const { flags, mapping, index } = this.#frames
    const slot = zone * (MAX_ORDER + 1) + order
    const next = this.#heads[slot]!
    flags[pfn] = (flags[pfn]! & PG_PERMANENT) | PG_BUDDY | (order << ORDER_SHIFT)
    mapping[pfn] = next
    index[pfn] = 0
    if (next !== 0) index[next] = pfn
    this.#heads[slot] = pfn
    this.#nonEmpty[zone]! |= 1 << order
  }

  #unlink(zone: Zone, pfn: number, order: number): void {
    const { flags, mapping, index } = this.#frames
    const slot = zone * (MAX_ORDER + 1) + order
    const next = mapping[pfn]!
    const previous = index[pfn]!
    if (next !== 0) index[next] = previous
    if (previous !== 0) mapping[previous] = next
    else {
      this.#heads[slot] = next
      if (next === 0) this.#nonEmpty[zone]! &= ~(1 << order)
    }
    flags[pfn]! &= ~(PG_BUDDY | ORDER_MASK)
    mapping[pfn] = 0
    index[pfn] = 0
  }

  #takeFrom(zone: Zone, order: number): number {
    const candidates = this.#nonEmpty[zone]! & -(1 << order)
    if (candidates === 0) return 0
    let have = 31 - Math.clz32(candidates & -candidates)
    const pfn = this.#heads[zone * (MAX_ORDER + 1) + have]!
    this.#unlink(zone, pfn, have)
    while (have > order) {
      have--
      this.#push(zone, pfn + (1 << have), have)
    }
    this.free[zone]! -= 1 << order
    return pfn
  }

  /**
   * Takes 2^order naturally aligned pages. Movable requests prefer ZONE_MOVABLE, then CMA, then NORMAL.
   * @returns the first pfn, or 0 when no zone the context allows has a block
   */
  alloc(order: number, context: AllocContext): number {
    if (context.movable) {
      const pfn = this.#takeFrom(ZONE_MOVABLE, order) || this.#takeFrom(ZONE_CMA, order)
      if (pfn !== 0) return pfn
    }
    return this.#takeFrom(ZONE_NORMAL, order)
  }

  /**
   * Takes single pages, in the order in which so many calls of `alloc(0, …)` would hand them out.
   * @returns how many there were: `into[from…]` holds them
   */
  allocRun(into: Int32Array, from: number, n: number, context: AllocContext): number {
    let at = from
    const end = from + n
    const zones = context.movable ? MOVABLE_ZONES : NORMAL_ZONES
    for (const zone of zones) {
      while (at < end && this.#nonEmpty[zone] !== 0) {
        const have = 31 - Math.clz32(this.#nonEmpty[zone]! & -this.#nonEmpty[zone]!)
        // a block that is wanted whole need not be taken apart
        const order = Math.min(have, 31 - Math.clz32(end - at))
        const pfn = this.#takeFrom(zone, order)
        for (let i = 0; i < 1 << order; i++) into[at + i] = pfn + i
        at += 1 << order
      }
    }
    return at - from
  }

  /**
   * `alloc_contig_pages`: 2^order aligned pages, more than one block, all of which are free.
   * @returns the first pfn, or 0 when there is no such place
   */
  allocContiguous(order: number, context: AllocContext): number {
    const pages = 1 << order
    const frames = this.#frames
    for (let first = pages; first + pages <= frames.count; first += pages) {
      if (!this.#isFree(first, first + pages, context)) continue
      for (let pfn = first; pfn < first + pages;) {
        const have = frames.order(pfn)
        const zone = frames.zone(pfn)
        this.#unlink(zone, pfn, have)
        this.free[zone]! -= 1 << have
        pfn += 1 << have
      }
      return first
    }
    return 0
  }

  /** Every page of the range is free, in zones the context allows. */
  #isFree(first: number, end: number, { movable }: AllocContext): boolean {
    const frames = this.#frames
    for (let pfn = first; pfn < end; pfn += 1 << frames.order(pfn)) {
      if (!frames.has(pfn, PG_BUDDY) || (!movable && frames.zone(pfn) !== ZONE_NORMAL)) return false
    }
    return true
  }

  /** Gives 2^order pages back and joins buddies. */
  release(first: number, wanted: number): void {
    const order = Math.min(wanted, MAX_ORDER)
    for (let pfn = first; pfn < first + (1 << wanted); pfn += 1 << order) this.#releaseBlock(pfn, order)
  }

  #releaseBlock(pfn: number, order: number): void {
    const frames = this.#frames
    const { flags } = frames
    const zone = frames.zone(pfn)
    this.free[zone]! += 1 << order
    let block = pfn
    let size = order
    for (; size < MAX_ORDER; size++) {
      const buddy = block ^ (1 << size)
      if (buddy === 0 || buddy + (1 << size) > frames.count) break
      const word = flags[buddy]!
      if ((word & PG_BUDDY) === 0 || ((word >>> ORDER_SHIFT) & 0x1f) !== size || frames.zone(buddy) !== zone)
        break
      this.#unlink(zone, buddy, size)
      block &= ~(1 << size)
    }
    this.#push(zone, block, size)
  }

  /** Visits every free block, for the audit. */
  forEachFreeBlock(visit: (pfn: number, order: number, zone: Zone) => void): void {
    for (const zone of [ZONE_NORMAL, ZONE_MOVABLE, ZONE_CMA] as const) {
      for (let order = 0; order <= MAX_ORDER; order++) {
        let pfn = this.#heads[zone * (MAX_ORDER + 1) + order]!
        for (; pfn !== 0; pfn = this.#frames.mapping[pfn]!) visit(pfn, order, zone)
      }
    }
  }
}
