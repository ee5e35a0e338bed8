import { PAGE_SHIFT, PAGE_SIZE } from '../base/units.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import type { Frames } from '../memory/frames.ts'
import type { PageRow } from '../mm/iov-iter.ts'
import type { UserStruct } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import type { PageArray } from '../mm/page-array.ts'
import type { RsrcNode } from './rsrc-node.ts'

/** What coalescing made of the pages of one buffer (coalesce.ts). */
export interface Segments {
  /** the pinned pages, one FOLL_PIN reference each: every page, or one page of each folio */
  readonly pages: PageArray
  /** how many entries of `pages` are used */
  readonly nrPins: number
  /** log2 of the bytes one entry stands for; 12 when nothing was coalesced */
  readonly folioShift: number
  /** pages were joined that do not lie one after the other (R-URING-38) */
  readonly disordered: boolean
}

/** Whose counters a buffer is charged to: its ring's (R-URING-7). */
export interface Account {
  /** null: not limited */
  readonly user: UserStruct | null
  readonly mmAccount: Mm
}

/**
 * `struct io_mapped_ubuf`: one registered buffer. Owns `nrPins` pins and the charge of `acctPages`.
 * Immutable once made, but for the nodes that hold it.
 */
export class RegisteredBuffer {
  /** user address of its first byte, unsigned */
  readonly ubuf: number
  /** bytes */
  readonly length: number
  /** pages its range touches (R-URING-22) */
  readonly nrPages: number
  readonly segments: Segments
  /** pages it charged; the charge leaves with it, whoever else still pins the folio (R-URING-46) */
  readonly acctPages: number
  readonly account: Account
  /** what holds it: slots, and requests after the slot was emptied; of several rings when it was cloned */
  readonly nodes = new Set<RsrcNode>()

  constructor(
    ubuf: number,
    length: number,
    nrPages: number,
    segments: Segments,
    acctPages: number,
    account: Account,
  ) {
    this.ubuf = ubuf
    this.length = length
    this.nrPages = nrPages
    this.segments = segments
    this.acctPages = acctPages
    this.account = account
  }

  /** Its pages one after the other, as I/O uses them. */
  row(frames: Frames): PageRow {
    return { pfnAt: (page) => this.pfnAt(frames, page) }
  }

  /**
   * The frame the kernel would use for a page of the buffer.
   * @param page index within the buffer, 0-based
   * @throws Unmodelled for a buffer whose pages were joined in the wrong order
   */
  pfnAt(frames: Frames, page: number): number {
    const { pages, folioShift, disordered } = this.segments
    if (disordered) throw new Unmodelled('I/O on a buffer whose pages were joined out of order', 'R-URING-38')
    if (folioShift === PAGE_SHIFT) return pages.pfns[page]!
    const first = pages.pfns[0]!
    const perFolio = 2 ** (folioShift - PAGE_SHIFT)
    const at = first - frames.head(first) + page
    const folio = Math.floor(at / perFolio)
    return folio === 0 ? first + page : frames.head(pages.pfns[folio]!) + (at % perFolio)
  }

  /** Visits the pfns of the pages it pins. */
  forEachPin(visit: (pfn: number) => void): void {
    const { pages, nrPins } = this.segments
    for (let i = 0; i < nrPins; i++) visit(pages.pfns[i]!)
  }
}

/** Heads of the large folios of a buffer, each once. */
export function largeHeads(frames: Frames, segments: Segments): Set<number> {
  const heads = new Set<number>()
  let last = 0
  const { pfns } = segments.pages
  for (let i = 0; i < segments.nrPins; i++) {
    const pfn = pfns[i]!
    if (!frames.isLarge(pfn)) continue
    const head = frames.head(pfn)
    if (head !== last) heads.add(head)
    last = head
  }
  return heads
}

/** The buffer table of a ring: 1 to 16384 slots. Protected by `uring_lock`. */
export class BufferTable {
  /** null: empty slot */
  readonly #nodes: (RsrcNode | null)[]
  /** head of a large folio → in how many buffers of the table it occurs (R-URING-44) */
  readonly #heads = new Map<number, number>()
  readonly #frames: Frames

  constructor(frames: Frames, slots: number) {
    this.#frames = frames
    this.#nodes = new Array<RsrcNode | null>(slots).fill(null)
  }

  get length(): number {
    return this.#nodes.length
  }

  /** What is in a slot; null for an empty slot and beyond the table. */
  node(slot: number): RsrcNode | null {
    return this.#nodes[slot] ?? null
  }

  /** The buffer in a slot; null for an empty slot and beyond the table. */
  buffer(slot: number): RegisteredBuffer | null {
    return this.node(slot)?.buffer ?? null
  }

  hasHead(head: number): boolean {
    return this.#heads.has(head)
  }

  /** Fills an empty slot. */
  install(slot: number, node: RsrcNode | null): void {
    this.#nodes[slot] = node
    if (node === null) return
    for (const head of largeHeads(this.#frames, node.buffer.segments))
      this.#heads.set(head, (this.#heads.get(head) ?? 0) + 1)
  }

  /** Empties a slot. @returns what was in it */
  take(slot: number): RsrcNode | null {
    const taken = this.node(slot)
    this.#nodes[slot] = null
    if (taken === null) return null
    for (const head of largeHeads(this.#frames, taken.buffer.segments)) {
      const left = this.#heads.get(head)! - 1
      if (left === 0) this.#heads.delete(head)
      else this.#heads.set(head, left)
    }
    return taken
  }
}

/**
 * Pages from the floor of the first byte to the ceiling of the last.
 * @param base user address, signed
 * @param length bytes
 * @rule R-URING-22
 */
export function pagesSpanned(base: number, length: number): number {
  return Math.ceil((base + length) / PAGE_SIZE) - Math.floor(base / PAGE_SIZE)
}
