import { PAGE_SHIFT, PAGE_SIZE } from '../base/units.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import type { Frames } from '../memory/frames.ts'
import type { PageArray } from '../mm/page-array.ts'

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

/**
 * `struct io_mapped_ubuf`: one registered buffer. Owns `nrPins` pins and the charge of `acctPages`.
 * Immutable once made.
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

  constructor(ubuf: number, length: number, nrPages: number, segments: Segments, acctPages: number) {
    this.ubuf = ubuf
    this.length = length
    this.nrPages = nrPages
    this.segments = segments
    this.acctPages = acctPages
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
  readonly #buffers: (RegisteredBuffer | null)[]
  readonly #tags: Float64Array
  /** head of a large folio → in how many buffers of the table it occurs (R-URING-44) */
  readonly #heads = new Map<number, number>()
  readonly #frames: Frames

  constructor(frames: Frames, slots: number) {
    this.#frames = frames
    this.#buffers = new Array<RegisteredBuffer | null>(slots).fill(null)
    this.#tags = new Float64Array(slots)
  }

  get length(): number {
    return this.#buffers.length
  }

  /** The buffer in a slot; null for an empty slot and beyond the table. */
  buffer(slot: number): RegisteredBuffer | null {
    return this.#buffers[slot] ?? null
  }

  tag(slot: number): number {
    return this.#tags[slot] ?? 0
  }

  hasHead(head: number): boolean {
    return this.#heads.has(head)
  }

  /** Fills an empty slot; the tag of an empty slot is 0. */
  install(slot: number, buffer: RegisteredBuffer | null, tag: number): void {
    this.#buffers[slot] = buffer
    this.#tags[slot] = tag
    if (buffer === null) return
    for (const head of largeHeads(this.#frames, buffer.segments))
      this.#heads.set(head, (this.#heads.get(head) ?? 0) + 1)
  }

  /** Empties a slot. @returns what was in it */
  take(slot: number): { buffer: RegisteredBuffer | null; tag: number } {
    const taken = { buffer: this.buffer(slot), tag: this.tag(slot) }
    this.#buffers[slot] = null
    this.#tags[slot] = 0
    if (taken.buffer === null) return taken
    for (const head of largeHeads(this.#frames, taken.buffer.segments)) {
      const left = this.#heads.get(head)! - 1
      if (left === 0) this.#heads.delete(head)
      else this.#heads.set(head, left)
    }
    return taken
  }

  forEach(visit: (buffer: RegisteredBuffer, slot: number) => void): void {
    this.#buffers.forEach((buffer, slot) => {
      if (buffer !== null) visit(buffer, slot)
    })
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
