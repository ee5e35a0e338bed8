import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { FOLL_WRITE } from './gup-flags.ts'
import { PageArray, getUserPagesFast, pinUserPagesFast } from './gup.ts'
import type { UserIter } from './iov-iter.ts'
import type { Kernel } from './kernel.ts'

/** Pages behind the next bytes of an iterator, which has moved over them. */
export interface IterPages {
  readonly pages: PageArray
  /** entries of `pages` that are held, one reference or pin each */
  readonly count: number
  /** where the bytes begin in the first page */
  readonly offset: number
  /** how many bytes lie in the pages */
  readonly bytes: number
}

/** How much of an iterator is wanted, and which way the data will go. */
export interface IterRequest {
  readonly maxPages: number
  /** bytes; default: what the iterator has */
  readonly maxBytes?: number
  /** data will go into user memory: the pages must be writable */
  readonly intoUser: boolean
}

/**
 * `iov_iter_get_pages2`: takes plain references to the pages behind the next bytes, within one range of the
 * iterator. What cannot be had ends it early; the pages before it count.
 * @returns the pages, or -errno when not even the first one could be had
 * @rule R-PIPE-4
 */
export function iovIterGetPages(
  k: Kernel,
  iter: UserIter,
  request: IterRequest,
): Kthread<IterPages | number> {
  return take(k, iter, request, getUserPagesFast)
}

/**
 * `iov_iter_extract_pages`: the same with pins, for those who read or write the content of the pages (R-GUP-99).
 * Releases before the conversion take references here as well.
 * @rule R-DIO-4
 */
export function iovIterExtractPages(
  k: Kernel,
  iter: UserIter,
  request: IterRequest,
): Kthread<IterPages | number> {
  return take(k, iter, request, k.release.gup.directIoPins ? pinUserPagesFast : getUserPagesFast)
}

function* take(
  k: Kernel,
  iter: UserIter,
  { maxPages, maxBytes = iter.count, intoUser }: IterRequest,
  call: typeof getUserPagesFast,
): Kthread<IterPages | number> {
  const { address } = iter
  const offset = address % PAGE_SIZE
  const wanted = Math.min(iter.rangeLeft, maxBytes)
  const nrPages = Math.min(maxPages, Math.ceil((offset + wanted) / PAGE_SIZE))
  const pages = new PageArray(nrPages)
  const count = yield* call(k, address - offset, nrPages, intoUser ? FOLL_WRITE : 0, pages)
  if (count < 0) return count
  const bytes = Math.min(wanted, count * PAGE_SIZE - offset)
  iter.advance(bytes)
  return { pages, count, offset, bytes }
}
