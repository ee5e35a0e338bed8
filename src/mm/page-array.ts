/**
 * The out-array of page references GUP fills: page frame numbers, 0 = null entry.
 *
 * A result n > 0 makes entries 0..n−1 the caller's; entries from n on are unspecified and may hold
 * leftovers (R-GUP-3).
 */
export class PageArray {
  /** pfns; 0 null */
  readonly pfns: Int32Array
  /** capacity in pages */
  readonly length: number

  /** @param length capacity in pages */
  constructor(length: number) {
    this.pfns = new Int32Array(length)
    this.length = length
  }
}
