import { PAGE_SIZE } from '../base/units.ts'
import { Tags } from './tags.ts'

const WORDS = PAGE_SIZE / 4
const ZEROS = new Uint32Array(WORDS)

/**
 * What is in the pages. A frame has bytes only after somebody stored some: a page of zeros costs
 * nothing.
 */
export class Contents {
  /** of machines that tag memory */
  readonly tags = new Tags()
  readonly #bytes = new Map<number, Uint8Array>()

  /** Copies bytes out of one page. `offset + into.length` must not exceed the page. */
  read(pfn: number, offset: number, into: Uint8Array): void {
    const bytes = this.#bytes.get(pfn)
    if (bytes === undefined) into.fill(0)
    else into.set(bytes.subarray(offset, offset + into.length))
  }

  write(pfn: number, offset: number, from: Uint8Array): void {
    let bytes = this.#bytes.get(pfn)
    if (bytes === undefined) {
      bytes = new Uint8Array(PAGE_SIZE)
      this.#bytes.set(pfn, bytes)
    }
    bytes.set(from, offset)
  }

  /** `copy_user_page`: the whole page, and its tags. */
  copy(from: number, to: number): void {
    const bytes = this.#bytes.get(from)
    if (bytes === undefined) this.#bytes.delete(to)
    else this.#bytes.set(to, bytes.slice())
    this.tags.copy(from, to)
  }

  /** A copy of the whole page, null for zeros. */
  snapshot(pfn: number): Uint8Array | null {
    return this.#bytes.get(pfn)?.slice() ?? null
  }

  /** The same bytes in both pages. */
  equal(one: number, other: number): boolean {
    const [a, b] = [this.#words(one), this.#words(other)]
    for (let i = 0; i < WORDS; i++) if (a[i] !== b[i]) return false
    return true
  }

  /** Nothing but zeros, and no tags. */
  isZero(pfn: number): boolean {
    const bytes = this.#bytes.get(pfn)
    if (this.tags.has(pfn)) return false
    return bytes === undefined || this.#words(pfn).every((word) => word === 0)
  }

  /** A number that equal pages share; others seldom do. */
  checksum(pfn: number): number {
    const words = this.#words(pfn)
    let sum = 0
    for (let i = 0; i < WORDS; i++) sum = (Math.imul(sum, 31) + words[i]!) | 0
    return sum
  }

  #words(pfn: number): Uint32Array {
    const bytes = this.#bytes.get(pfn)
    return bytes === undefined ? ZEROS : new Uint32Array(bytes.buffer, bytes.byteOffset, WORDS)
  }

  /** Back to zeros: a page is cleared when it is freed. */
  clear(pfn: number): void {
    if (this.#bytes.size > 0) this.#bytes.delete(pfn)
    this.tags.clear(pfn)
  }

  /** The bytes of a frame that is no memory: they stay whose they are. */
  attach(pfn: number, bytes: Uint8Array): void {
    this.#bytes.set(pfn, bytes)
  }

  detach(pfn: number): void {
    this.#bytes.delete(pfn)
  }

  /** Whether a frame has bytes: one that is no memory has them while its device is there. */
  has(pfn: number): boolean {
    return this.#bytes.has(pfn)
  }

  /** Pages that hold bytes of their own. */
  get stored(): number {
    return this.#bytes.size
  }
}
