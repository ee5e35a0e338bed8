import type { Kthread } from '../base/kthread.ts'
import { PagesIter, type IovIter, type IterPage, type PageRow } from './iov-iter.ts'
import type { Kernel } from './kernel.ts'

/** Bytes of a row of pages. */
export interface RowRange {
  /** bytes from the start of the row */
  readonly offset: number
  /** bytes, at least 1 */
  readonly length: number
}

/** ITER_BVEC of several ranges of one row, one after the other. */
export class PagesVectorIter implements IovIter {
  readonly #parts: readonly PagesIter[]
  /** the part the next byte lies in */
  #part = 0
  #count: number

  constructor(k: Kernel, pages: PageRow, ranges: readonly RowRange[]) {
    this.#parts = ranges.map(({ offset, length }) => new PagesIter(k, pages, offset, length))
    this.#count = ranges.reduce((sum, { length }) => sum + length, 0)
  }

  get count(): number {
    return this.#count
  }

  copyTo(bytes: Uint8Array): Kthread<number> {
    return this.#move(bytes, 'copyTo')
  }

  copyFrom(into: Uint8Array): Kthread<number> {
    return this.#move(into, 'copyFrom')
  }

  nextPage(): IterPage {
    return this.#parts[this.#part]!.nextPage()
  }

  /** `iov_iter_advance`: goes over bytes without touching them, at most `count`. */
  advance(bytes: number): void {
    this.#count -= bytes
    for (let left = bytes; left > 0;) {
      const part = this.#parts[this.#part]!
      const step = Math.min(left, part.count)
      part.advance(step)
      left -= step
      this.#skipEmpty()
    }
  }

  present(most: number): number {
    return Math.min(most, this.count)
  }

  *faultIn(): Kthread<boolean> {
    return this.count > 0
  }

  revert(bytes: number): void {
    this.#count += bytes
    for (let left = bytes; left > 0;) {
      if (this.#part === this.#parts.length || this.#parts[this.#part]!.done === 0) this.#part--
      const part = this.#parts[this.#part]!
      const step = Math.min(left, part.done)
      part.revert(step)
      left -= step
    }
  }

  *#move(buffer: Uint8Array, copy: 'copyTo' | 'copyFrom'): Kthread<number> {
    let moved = 0
    while (moved < buffer.length && this.#part < this.#parts.length) {
      moved += yield* this.#parts[this.#part]![copy](buffer.subarray(moved))
      this.#skipEmpty()
    }
    this.#count -= moved
    return moved
  }

  #skipEmpty(): void {
    while (this.#part < this.#parts.length && this.#parts[this.#part]!.count === 0) this.#part++
  }
}
