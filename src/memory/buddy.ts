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
  /** from this node alone (`__GFP_THISNODE`); without it from the lowest one that has any */
  readonly node?: number
}

const MOVABLE_ZONES: readonly Zone[] = [ZONE_MOVABLE, ZONE_CMA, ZONE_NORMAL]
const NORMAL_ZONES: readonly Zone[] = [ZONE_NORMAL]

/** How much of the machine each zone holds, in pages. */
export interface ZoneSizes {
  readonly normal: number
  readonly movable?: number
  readonly cma?: number
}

const NR_ZONES = 3

/**
 * The buddy allocator. Every node has the pages from a multiple of the largest block on, and lists of its own for
 * each zone; the processor that everything runs on belongs to node 0. Free blocks are threaded through the frames' own `mapping` (next) and `index`
 * (previous) slots, which a free page has no other use for. Lists are LIFO: the result is a function of
 * the call sequence alone.
 */
export class Buddy {
  readonly #frames: Frames
  /** how many nodes memory is divided into */
  readonly nodes: number
  readonly #nodePages: number
  /** heads[(node * NR_ZONES + zone) * (MAX_ORDER + 1) + order] = first free block, 0 none */
  readonly #heads: Int32Array
  /** bit n set: the zone of the node has a free block of order n */
  readonly #nonEmpty: Int32Array
  /** pages of each zone, on all nodes */
  readonly free = new Int32Array(NR_ZONES)
  readonly managed = new Int32Array(NR_ZONES)

  constructor(frames: Frames, sizes: ZoneSizes, nodes = 1) {
    this.#frames = frames
    this.nodes = nodes
    this.#nodePages = Math.max(1, Math.floor((frames.count / nodes) >>> MAX_ORDER)) << MAX_ORDER
    this.#heads = new Int32Array(nodes * NR_ZONES * (MAX_ORDER + 1))
    this.#nonEmpty = new Int32Array(nodes * NR_ZONES)
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

  /** `page_to_nid` */
  nodeOf(pfn: number): number {
    return Math.min(Math.floor(pfn / this.#nodePages), this.nodes - 1)
  }

  /** Which lists hold the free blocks of a zone around a page. */
  #listsOf(zone: Zone, pfn: number): number {
    return this.nodes === 1 ? zone : this.nodeOf(pfn) * NR_ZONES + zone
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
    const lists = this.#listsOf(zone, pfn)
    const slot = lists * (MAX_ORDER + 1) + order
    const next = this.#heads[slot]!
    flags[pfn] = (flags[pfn]! & PG_PERMANENT) | PG_BUDDY | (order << ORDER_SHIFT)
    mapping[pfn] = next
    index[pfn] = 0
    if (next !== 0) index[next] = pfn
    this.#heads[slot] = pfn
    this.#nonEmpty[lists]! |= 1 << order
  }

  #unlink(zone: Zone, pfn: number, order: number): void {
    const { flags, mapping, index } = this.#frames
    const lists = this.#listsOf(zone, pfn)
    const slot = lists * (MAX_ORDER + 1) + order
    const next = mapping[pfn]!
    const previous = index[pfn]!
    if (next !== 0) index[next] = previous
    if (previous !== 0) mapping[previous] = next
    else {
      this.#heads[slot] = next
      if (next === 0) this.#nonEmpty[lists]! &= ~(1 << order)
    }
    flags[pfn]! &= ~(PG_BUDDY | ORDER_MASK)
    mapping[pfn] = 0
    index[pfn] = 0
  }

  #takeFrom(node: number, zone: Zone, order: number): number {
    const lists = node * NR_ZONES + zone
    const candidates = this.#nonEmpty[lists]! & -(1 << order)
    if (candidates === 0) return 0
    let have = 31 - Math.clz32(candidates & -candidates)
    const pfn = this.#heads[lists * (MAX_ORDER + 1) + have]!
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
  alloc(order: number, { movable, node }: AllocContext): number {
    const zones = movable ? MOVABLE_ZONES : NORMAL_ZONES
    for (let at = node ?? 0; at <= (node ?? this.nodes - 1); at++) {
      for (const zone of zones) {
        const pfn = this.#takeFrom(at, zone, order)
        if (pfn !== 0) return pfn
      }
    }
    return 0
  }

  /**
   * Takes single pages, in the order in which so many calls of `alloc(0, …)` would hand them out.
   * @returns how many there were: `into[from…]` holds them
   */
  allocRun(into: Int32Array, from: number, n: number, { movable, node }: AllocContext): number {
    let at = from
    const end = from + n
    const zones = movable ? MOVABLE_ZONES : NORMAL_ZONES
    for (let on = node ?? 0; on <= (node ?? this.nodes - 1); on++) {
      for (const zone of zones) {
        const lists = on * NR_ZONES + zone
        while (at < end && this.#nonEmpty[lists] !== 0) {
          const have = 31 - Math.clz32(this.#nonEmpty[lists]! & -this.#nonEmpty[lists]!)
          // a block that is wanted whole need not be taken apart
          const order = Math.min(have, 31 - Math.clz32(end - at))
          const pfn = this.#takeFrom(on, zone, order)
          for (let i = 0; i < 1 << order; i++) into[at + i] = pfn + i
          at += 1 << order
        }
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
      const node = this.nodeOf(first)
      if (node !== (context.node ?? node) || node !== this.nodeOf(first + pages - 1)) continue
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
      for (let node = 0; node < this.nodes; node++) {
        for (let order = 0; order <= MAX_ORDER; order++) {
          let pfn = this.#heads[(node * NR_ZONES + zone) * (MAX_ORDER + 1) + order]!
          for (; pfn !== 0; pfn = this.#frames.mapping[pfn]!) visit(pfn, order, zone)
        }
      }
    }
  }
}
