import { ENOMEM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { GUP_PIN_COUNTING_BIAS } from '../memory/frames.ts'
import { PG_HUGETLB, PG_PRIVATE, PG_SWAPCACHE, ZONE_CMA, ZONE_MOVABLE } from '../memory/page-flags.ts'
import { ReferenceError } from '../memory/memory.ts'
import { FOLL_GET, FOLL_LONGTERM, FOLL_PIN } from './gup-flags.ts'
import type { Kernel } from './kernel.ts'

/** A GET page was unpinned, or a pinned page was put: the count is off by 1023 from here on (R-GUP-65). */
export class MismatchedReleaseError extends ReferenceError {
  constructor(what: string) {
    super(what)
    this.name = 'MismatchedReleaseError'
  }
}

/**
 * Pins per small folio, kept only by kernels that check themselves (`checkStaleVmas`): the reference
 * count alone cannot tell 1024 GETs from one PIN.
 */
const pinLedgers = new WeakMap<Kernel, Map<number, number>>()

/** The ledger of a self-checking kernel, null otherwise. */
export function pinLedger(k: Kernel): Map<number, number> | null {
  if (!k.checkStaleVmas) return null
  let ledger = pinLedgers.get(k)
  if (ledger === undefined) {
    ledger = new Map()
    pinLedgers.set(k, ledger)
  }
  return ledger
}

/** Notes pins taken (n > 0) or released (n < 0) on a small folio. @throws MismatchedReleaseError */
export function noteSmallPins(ledger: Map<number, number>, pfn: number, n: number): void {
  const pins = (ledger.get(pfn) ?? 0) + n
  if (pins < 0)
    throw new MismatchedReleaseError(`pfn ${pfn}: unpinned, but nobody holds a FOLL_PIN on it (R-GUP-65)`)
  if (pins === 0) ledger.delete(pfn)
  else ledger.set(pfn, pins)
}

/** References a folio has for being mapped and cached: everything that is not GET, PIN or a transient hold. */
export function mappingReferences(k: Kernel, head: number): number {
  const { frames } = k.memory
  const nrPages = frames.nrPages(head)
  let references = frames.totalMapcount(head)
  const mapping = k.mappings.get(frames.mapping[head]!)
  if (mapping !== undefined) {
    const hugetlb = frames.has(head, PG_HUGETLB)
    const index = frames.index[head]!
    if (mapping.pages.get(index) === head || hugetlb) {
      references += hugetlb && !k.release.fault.hugetlbCachePerPage ? 1 : nrPages
    }
  }
  if (frames.has(head, PG_SWAPCACHE)) references += nrPages
  if (frames.has(head, PG_PRIVATE)) references++
  return references
}

/**
 * Is a FOLL_PIN counted on this page? The 4 KiB zero page is exempt on most releases; the huge one never.
 * @rule R-GUP-63
 * @rule R-COM-4
 */
export function pinIsCounted(k: Kernel, pfn: number): boolean {
  return pfn !== k.zeroPfn || k.release.gup.pinsZeroPage
}

/**
 * `try_grab_folio` for a page whose entry cannot change under us: takes `refs` references or pins.
 * @returns 0, or -ENOMEM when the count has overflown; neither GET nor PIN takes nothing
 * @rule R-GUP-60
 * @rule R-FLT-12
 */
export function tryGrabFolio(k: Kernel, pfn: number, refs: number, flags: number): number {
  if ((flags & (FOLL_GET | FOLL_PIN)) === 0) return 0
  const { frames } = k.memory
  const { refcount } = frames
  const head = frames.head(pfn)
  // @rule R-GUP-64
  if (refcount[head]! <= 0) {
    k.warnOnce(
      'gup-refcount',
      `pfn ${head}: reference count ${refcount[head]!}, no more references are given`,
    )
    return refuse(k.current, ENOMEM, 'R-GUP-60', { why: 'the reference count of the page has overflown' })
  }
  if ((flags & FOLL_GET) !== 0) refcount[head]! += refs
  else if (pinIsCounted(k, pfn)) addPins(k, head, refs)
  return 0
}

/** Counts `refs` new pins on a folio that already holds a reference of its own. */
function addPins(k: Kernel, head: number, refs: number): void {
  const { frames } = k.memory
  if (frames.isLarge(head)) {
    // @rule R-GUP-62
    // @rule R-HTL-2
    frames.refcount[head]! += refs
    frames.addPincount(head, refs)
  } else {
    frames.refcount[head]! += refs * GUP_PIN_COUNTING_BIAS
    const ledger = pinLedger(k)
    if (ledger !== null) noteSmallPins(ledger, head, refs)
  }
  k.pinAcquired += refs
}

/**
 * The grab of the lockless walk: the page may be freed, or become part of another folio, at any time.
 * @returns whether `refs` references or pins were taken
 * @rule R-GUP-61
 */
export function tryGrabFolioFast(k: Kernel, pfn: number, refs: number, flags: number): boolean {
  const { frames } = k.memory
  const head = frames.head(pfn)
  const pin = (flags & FOLL_PIN) !== 0
  const { fastPinnableTestFirst } = k.release.gup
  const longterm = pin && (flags & FOLL_LONGTERM) !== 0
  if (longterm && fastPinnableTestFirst && !isLongtermPinnable(k, head)) return false
  const count = frames.refcount[head]!
  if (count <= 0) {
    if (count < 0)
      k.warnOnce('gup-refcount', `pfn ${head}: reference count ${count}, no more references are given`)
    return false
  }
  if (!pin) {
    frames.refcount[head]! += refs
    return true
  }
  if (longterm && !fastPinnableTestFirst && !isLongtermPinnable(k, head)) return false
  addPins(k, head, refs)
  return true
}

/**
 * `folio_is_longterm_pinnable`: will this folio not stand in the way where it is?
 * @rule R-GUP-49
 */
export function isLongtermPinnable(k: Kernel, pfn: number): boolean {
  const zone = k.memory.frames.zone(pfn)
  if (zone === ZONE_CMA) return false
  if (pfn === k.zeroPfn) return true
  return zone !== ZONE_MOVABLE
}

/**
 * `folio_add_pins`: pins for further pages of a folio that a caller has pinned once and gives back page by page.
 * @param pfn the first of them
 * @rule R-GUP-97
 */
export function folioAddPins(k: Kernel, pfn: number, pages: number): void {
  if (pages === 0) return
  addPins(k, k.memory.frames.head(pfn), pages)
  k.observer?.({ type: 'pin', pfn, pages })
}

/**
 * `folio_add_pin`: one more pin on a folio that is pinned already. Does not count as acquired, though
 * its release counts as released.
 * @rule R-GUP-68
 */
export function folioAddPin(k: Kernel, pfn: number): void {
  const { frames } = k.memory
  const head = frames.head(pfn)
  if (!frames.maybeDmaPinned(head))
    k.warnOnce('folio-add-pin', `pfn ${head}: folio_add_pin on a folio that is not pinned`)
  if (!pinIsCounted(k, pfn)) return
  const acquired = k.pinAcquired
  addPins(k, head, 1)
  k.pinAcquired = acquired
}
