import { PAGE_SIZE } from '../base/units.ts'

/**
 * Arithmetic on addresses and lengths as user space passes them: 64-bit words, where ours are doubles.
 * A word from 2^63 up is held as the negative number with the same bits (-1 is 2^64 - 1), which keeps
 * the ends of the range exact where it matters.
 */
const TWO_63 = 2 ** 63
const TWO_64 = 2 ** 64

/** A caller's number as a word: values from 2^63 up become negative, fractions of -1 do not exist. */
export function asWord(value: number): number {
  if (value < TWO_63) return value
  return value >= TWO_64 ? -1 : value - TWO_64
}

/** Unsigned size of a word, for comparisons (exact below 2^53). */
export function unsigned(word: number): number {
  return word < 0 ? word + TWO_64 : word
}

/** Rounds a word down to a page. */
export function alignDown(word: number): number {
  return Math.floor(word / PAGE_SIZE) * PAGE_SIZE
}

/** PAGE_ALIGN: rounds a word up to a page; -1 … -4095 wrap to 0. */
export function alignUp(word: number): number {
  return Math.ceil(word / PAGE_SIZE) * PAGE_SIZE + 0
}

export function isPageAligned(word: number): boolean {
  return Math.floor(word / PAGE_SIZE) * PAGE_SIZE === word
}

/**
 * The end of a range of words, or null where it wraps around 2^64.
 * @param start word
 * @param length word
 */
export function rangeEnd(start: number, length: number): number | null {
  const end = start + length
  // 2^64 itself is 0: below every start but 0
  if (start >= 0 && length >= 0) return end
  if (start >= 0) return end < 0 ? end : null
  return length >= 0 && end < 0 ? end : null
}
