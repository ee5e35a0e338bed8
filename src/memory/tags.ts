import { PAGE_SIZE } from '../base/units.ts'

/** Bytes that share a tag. */
export const MTE_GRANULE_SIZE = 16
export const MTE_GRANULES_PER_PAGE = PAGE_SIZE / MTE_GRANULE_SIZE

/**
 * What memory of an arm64 machine with MTE has beside its bytes: a tag of 4 bits for every 16 of them. A page of
 * tags 0 costs nothing.
 */
export class Tags {
  readonly #tags = new Map<number, Uint8Array>()

  /** Copies tags out of one page, one a byte. `granule + into.length` must not exceed the page. */
  read(pfn: number, granule: number, into: Uint8Array): void {
    const tags = this.#tags.get(pfn)
    if (tags === undefined) into.fill(0)
    else into.set(tags.subarray(granule, granule + into.length))
  }

  /** Only the low 4 bits of a byte count. */
  write(pfn: number, granule: number, from: Uint8Array): void {
    let tags = this.#tags.get(pfn)
    if (tags === undefined) {
      tags = new Uint8Array(MTE_GRANULES_PER_PAGE)
      this.#tags.set(pfn, tags)
    }
    for (let i = 0; i < from.length; i++) tags[granule + i] = from[i]! & 15
  }

  copy(from: number, to: number): void {
    if (this.#tags.size > 0) this.restore(to, this.snapshot(from))
  }

  /** A copy of a page's tags, null for zeros. */
  snapshot(pfn: number): Uint8Array | null {
    return this.#tags.get(pfn)?.slice() ?? null
  }

  restore(pfn: number, tags: Uint8Array | null): void {
    if (tags === null) this.#tags.delete(pfn)
    else this.#tags.set(pfn, tags.slice())
  }

  /** Nothing has been tagged. */
  get empty(): boolean {
    return this.#tags.size === 0
  }

  /** The page has tags other than 0, or had. */
  has(pfn: number): boolean {
    return this.#tags.has(pfn)
  }

  clear(pfn: number): void {
    if (this.#tags.size > 0) this.#tags.delete(pfn)
  }
}
