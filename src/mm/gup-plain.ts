import { GUP_PIN_COUNTING_BIAS } from '../memory/frames.ts'
import {
  ORDER_MASK,
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_REFERENCED,
  PG_SECRETMEM,
  ZONE_MASK,
} from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'

/*
 * The two tight loops of GUP, over pages about which there is nothing to decide: entries that permit the
 * access, small folios outside the zones and kinds some rule looks at. Both paths run them over a whole
 * page table first and treat the page they stop at one by one, with every rule. They are functions of
 * typed arrays and numbers, so that nothing else is touched per page.
 */

/** How many entries from `slot` on, at most `limit`, have exactly the bits `wanted` among `relevant`. */
export function countMatching(
  bits: Uint16Array,
  slot: number,
  limit: number,
  relevant: number,
  wanted: number,
): number {
  const end = slot + limit
  let i = slot
  while (i < end && (bits[i]! & relevant) === wanted) i++
  return i - slot
}

/** What a flag word must look like for `grabPlain`. */
export interface PlainPages {
  readonly mask: number
  readonly value: number
}

const OUT_OF_THE_ORDINARY = ORDER_MASK | ZONE_MASK | PG_SECRETMEM | 0

/** any small folio in ZONE_NORMAL: for accesses through entries that need no decision about the page */
export const PLAIN_SMALL: PlainPages = { mask: OUT_OF_THE_ORDINARY, value: 0 }

/** exclusive anonymous pages only: no unsharing and no test of the mapping can stop those (R-GUP-26, R-GUP-58) */
export const PLAIN_EXCLUSIVE: PlainPages = {
  mask: OUT_OF_THE_ORDINARY | PG_ANON | PG_ANON_EXCLUSIVE,
  value: PG_ANON | PG_ANON_EXCLUSIVE,
}

/**
 * Takes one reference or pin on each of `pfns[from..to)` until a page is not plain.
 * @param step 1 for FOLL_GET, the pin bias for FOLL_PIN
 * @param mark PG_REFERENCED to mark the pages accessed, or 0
 * @returns index of the first page not taken
 */
function grabLoop(
  pfns: Int32Array,
  from: number,
  to: number,
  refcount: Int32Array,
  words: Uint32Array,
  step: number,
  mask: number,
  value: number,
  mark: number,
): number {
  // one comparison for the common page: plain and marked already
  const maskAll = mask | mark
  const valueAll = value | mark
  let i = from
  for (; i < to; i++) {
    const pfn = pfns[i]!
    const word = words[pfn]!
    if (refcount[pfn]! <= 0) break
    if ((word & maskAll) !== valueAll) {
      if ((word & mask) !== value) break
      words[pfn] = word | mark
    }
    refcount[pfn]! += step
  }
  return i
}

/**
 * Takes references (pins when `pin`) on plain pages and counts them as acquired.
 * @param touch mark the pages accessed
 * @returns index of the first page not taken
 * @rule R-GUP-62
 */
export function grabPlain(
  k: Kernel,
  pfns: Int32Array,
  from: number,
  to: number,
  pin: boolean,
  pages: PlainPages,
  touch: boolean,
): number {
  const { refcount, flags } = k.memory.frames
  const step = pin ? GUP_PIN_COUNTING_BIAS : 1
  const end = grabLoop(
    pfns,
    from,
    to,
    refcount,
    flags,
    step,
    pages.mask,
    pages.value,
    touch ? PG_REFERENCED : 0,
  )
  if (pin) k.pinAcquired += end - from
  return end
}

/** How many of `pfns[at…]`, at most `most`, are consecutive numbers; at least 1. */
export function countConsecutive(pfns: Int32Array, at: number, most: number): number {
  const end = at + most
  let pfn = pfns[at]! + 1
  let i = at + 1
  for (; i + 4 <= end; i += 4, pfn += 4) {
    const differs =
      (pfns[i]! - pfn) | (pfns[i + 1]! - pfn - 1) | (pfns[i + 2]! - pfn - 2) | (pfns[i + 3]! - pfn - 3)
    if (differs !== 0) break
  }
  while (i < end && pfns[i] === pfn) {
    i++
    pfn++
  }
  return i - at
}
