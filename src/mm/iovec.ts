import { EFAULT, EINVAL } from '../base/errno.ts'
import { refuse, type RefusalSink } from '../base/refusal.ts'
import { TASK_SIZE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import { asWord, unsigned } from './user-range.ts'

/**
 * `struct iovec` as the caller wrote it. Both fields are 64-bit values read as signed: an address or a
 * length from 2^63 up is negative, so that the interesting ones near 2^64 stay exact (−4096 is the last
 * page). Values from 2^63 up given as positive numbers mean the same.
 */
export interface Iovec {
  readonly base: number
  /** bytes */
  readonly length: number
}

/** User memory that cannot be read: copying it gives -EFAULT. */
export type Unreadable = 'unreadable'

/** `struct iovec[]` in user memory. What lies beyond its end cannot be read. */
export type IovecArray = readonly (Iovec | Unreadable)[] | Unreadable

/** Element of an array in user memory. */
export function elementAt<T>(
  array: readonly (T | Unreadable)[] | Unreadable | null,
  index: number,
): T | Unreadable {
  return array === null || array === 'unreadable' ? 'unreadable' : (array[index] ?? 'unreadable')
}

/** Entries of one vector, at most. */
export const UIO_MAXIOV = 1024
/** Bytes of one transfer, at most: INT_MAX rounded down to a page. */
export const MAX_RW_COUNT = 0x7ffff000

/**
 * `iovec_from_user`: copies a vector in, entry by entry; the first one that cannot be read or has an
 * impossible length decides. Addresses are not looked at.
 * @param count an unsigned long: may be more than there are
 * @returns the entries with signed fields, -EINVAL or -EFAULT
 * @rule R-PVM-1.2
 * @rule R-PVM-1.4
 */
export function iovecFromUser(
  sink: RefusalSink,
  array: IovecArray,
  count: number,
  rule: string,
): Iovec[] | number {
  if (unsigned(asWord(count)) > UIO_MAXIOV)
    return refuse(sink, EINVAL, rule, { why: 'a vector has at most 1024 entries' })
  const entries: Iovec[] = []
  for (let i = 0; i < count; i++) {
    const entry = elementAt(array, i)
    if (entry === 'unreadable') return refuse(sink, EFAULT, rule, { why: 'the vector cannot be read' })
    const { base, length } = { base: asWord(entry.base), length: asWord(entry.length) }
    if (length < 0)
      return refuse(sink, EINVAL, rule, { address: unsigned(base), why: 'a length has its top bit set' })
    entries.push({ base, length })
  }
  return entries
}

/**
 * `access_ok`: a range is user memory as a whole.
 * @param base signed word
 * @param length bytes, not negative
 */
export function accessOk(base: number, length: number): boolean {
  return base >= 0 && base + length <= TASK_SIZE
}

/**
 * `import_iovec`: a vector for the caller's own memory. Ranges must be user memory; what exceeds
 * MAX_RW_COUNT in sum is silently left out. A vector of one entry is cut first and looked at then, except on
 * older releases.
 * @returns the entries, no longer than what may be transferred, and their sum; -EINVAL or -EFAULT
 * @rule R-PVM-1.2
 */
export function importIovec(
  k: Kernel,
  array: IovecArray,
  count: number,
  rule: string,
): { readonly entries: readonly Iovec[]; readonly total: number } | number {
  const copied = iovecFromUser(k.current, array, count, rule)
  if (typeof copied === 'number') return copied
  const cutFirst = copied.length === 1 && k.release.remote.cutsSingleIovec
  const entries: Iovec[] = []
  let total = 0
  for (const { base, length } of copied) {
    const cut = Math.min(length, MAX_RW_COUNT - total)
    if (!accessOk(base, cutFirst ? cut : length)) {
      return refuse(k.current, EFAULT, rule, { address: unsigned(base), why: 'the range is not user memory' })
    }
    entries.push({ base, length: cut })
    total += cut
  }
  return { entries, total }
}
