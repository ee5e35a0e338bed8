import type { Kthread } from '../base/kthread.ts'
import { GUP_PIN_COUNTING_BIAS, type Frames } from '../memory/frames.ts'
import { ORDER_MASK, PG_DIRTY, PG_LOCKED } from '../memory/page-flags.ts'
import { dirtyFolio } from './dirty-blocks.ts'
import {
  MismatchedReleaseError,
  mappingReferences,
  noteSmallPins,
  pinIsCounted,
  pinLedger,
} from './gup-grab.ts'
import { observePins } from './gup-follow.ts'
import { countConsecutive } from './gup-plain.ts'
import type { Kernel } from './kernel.ts'
import type { PageArray } from './page-array.ts'

/**
 * `unpin_user_page`: releases one pin; the page is not dirtied.
 * @param pfn a page obtained by FOLL_PIN
 * @throws MismatchedReleaseError when nobody holds a pin on it
 * @rule R-GUP-66
 * @rule R-GUP-115
 */
export function unpinUserPage(k: Kernel, pfn: number): void {
  unpinFolio(k, pfn, 1)
}

/**
 * `unpin_user_pages`: releases the first `n` entries of an array.
 * @param n pages; a negative errno handed through by a careless caller warns and releases nothing
 * @throws MismatchedReleaseError when a page is not pinned
 * @throws TypeError for a null entry, where the kernel would crash
 * @rule R-GUP-66
 */
export function unpinUserPages(k: Kernel, pages: PageArray, n: number): void {
  if (n < 0) {
    k.warnOnce('unpin-errno', `unpin_user_pages: ${n} pages, an errno taken for a count`)
    return
  }
  checkCount(pages, n)
  unpinRange(k, pages.pfns, 0, n)
}

/** Releases pins of entries `from` to `to`: what is behind every array unpin. */
export function unpinRange(k: Kernel, pfns: Int32Array, from: number, to: number): void {
  if (k.observer !== null) observePins(k, pfns, from, to, 'unpin')
  const { refcount, flags } = k.memory.frames
  // a kernel that checks itself looks every page up in its ledger
  const checked = pinLedger(k) !== null
  for (let i = from; i < to; i++) {
    if (!checked) {
      const next = unpinSmall(pfns, i, to, refcount, flags, k.zeroPfn)
      k.pinReleased += next - i
      i = next
      if (i === to) return
    }
    const pfn = pfns[i]!
    if (pfn === 0) skipNull(k)
    else if ((flags[pfn]! & ORDER_MASK) === 0) releasePins(k, pfn, 1)
    else {
      const run = folioRun(pfns, i, to, pfn, k.memory.frames)
      releasePins(k, pfn, run)
      i += run - 1
    }
  }
}

/** How many entries from `i` on are consecutive pages of one large folio, no more than it has pins. */
function folioRun(pfns: Int32Array, i: number, to: number, pfn: number, frames: Frames): number {
  const head = frames.head(pfn)
  const most = Math.min(to - i, head + frames.nrPages(pfn) - pfn, frames.pincount(head))
  return countConsecutive(pfns, i, Math.max(1, most))
}

/**
 * The tight loop: small folios that keep other references. 0 references left frees, below 0 is a mismatch
 * or a count that wrapped; those, large folios and null entries end it.
 * @returns index of the first entry it did not settle
 */
function unpinSmall(
  pfns: Int32Array,
  from: number,
  to: number,
  refcount: Int32Array,
  flags: Uint32Array,
  zeroPfn: number,
): number {
  const orderMask = ORDER_MASK
  const bias = GUP_PIN_COUNTING_BIAS
  let i = from
  for (; i < to; i++) {
    const pfn = pfns[i]!
    if ((flags[pfn]! & orderMask) !== 0 || pfn === zeroPfn) break
    const left = refcount[pfn]! - bias
    if (left <= 0) break
    refcount[pfn] = left
  }
  return i
}

function unpinFolio(k: Kernel, pfn: number, n: number): void {
  if (pinIsCounted(k, pfn)) k.observer?.({ type: 'unpin', pfn, pages: n })
  releasePins(k, pfn, n)
}

/**
 * `gup_put_folio` for FOLL_PIN: drops `n` pins of a page's folio, freeing it with its last reference.
 * Says nothing to the observer.
 * @rule R-GUP-62
 * @rule R-GUP-65
 */
export function releasePins(k: Kernel, pfn: number, n: number): void {
  if (!pinIsCounted(k, pfn)) return
  const { memory } = k
  const { frames } = memory
  const head = frames.head(pfn)
  if (frames.isLarge(head)) {
    if (frames.pincount(head) < n)
      throw new MismatchedReleaseError(
        `pfn ${pfn}: ${n} pins released, ${frames.pincount(head)} held (R-GUP-65)`,
      )
    frames.addPincount(head, -n)
    k.pinReleased += n
    memory.put(head, n)
    return
  }
  const ledger = pinLedger(k)
  if (ledger !== null) noteSmallPins(ledger, head, -n)
  const count = frames.refcount[head]!
  const dropped = n * GUP_PIN_COUNTING_BIAS
  k.pinReleased += n
  // a wrapped count comes back the way it went (R-GUP-64)
  if (count < 0) {
    frames.refcount[head] = count - dropped
    return
  }
  if (count < dropped) {
    k.pinReleased -= n
    throw new MismatchedReleaseError(
      `pfn ${pfn}: unpinned, but its ${count} references hold no pin (R-GUP-65)`,
    )
  }
  memory.put(head, dropped)
}

function skipNull(k: Kernel): void {
  if (k.release.gup.unpinSkipsNull) return
  throw new TypeError('unpin_user_pages: null entry, which this release dereferences (R-GUP-66)')
}

function checkCount(pages: PageArray, n: number): void {
  if (n > pages.length) throw new RangeError(`${n} pages of an array of ${pages.length}`)
}

/**
 * `unpin_user_pages_dirty_lock`: as `unpinUserPages`; with `makeDirty` every folio that is not dirty yet
 * is locked and dirtied before its pins go. That path checks neither for an errno nor for null entries.
 * @throws RangeError for a negative `n` with `makeDirty`, where the kernel would run off the array
 * @throws TypeError for a null entry with `makeDirty`, on every release
 * @rule R-GUP-66
 * @rule R-GUP-67
 */
export function* unpinUserPagesDirtyLock(
  k: Kernel,
  pages: PageArray,
  n: number,
  makeDirty: boolean,
): Kthread<void> {
  if (!makeDirty) {
    unpinUserPages(k, pages, n)
    return
  }
  if (n < 0) throw new RangeError(`unpin_user_pages_dirty_lock: ${n} pages (R-GUP-66)`)
  checkCount(pages, n)
  const { frames } = k.memory
  const { pfns } = pages
  for (let i = 0; i < n;) {
    const pfn = pfns[i]!
    if (pfn === 0) throw new TypeError('unpin_user_pages_dirty_lock: null entry (R-GUP-66)')
    const head = frames.head(pfn)
    let run = 1
    while (i + run < n && pfns[i + run] !== 0 && frames.head(pfns[i + run]!) === head) run++
    if (!frames.has(head, PG_DIRTY)) yield* dirtyLock(k, head)
    if (k.observer !== null) observePins(k, pfns, i, i + run, 'unpin')
    releasePins(k, pfn, run)
    i += run
  }
}

/**
 * `unpin_user_page_range_dirty_lock`: `n` consecutive pages from `pfn` on, one pin each, grouped by folio.
 * @rule R-GUP-66
 */
export function* unpinUserPageRangeDirtyLock(
  k: Kernel,
  pfn: number,
  n: number,
  makeDirty: boolean,
): Kthread<void> {
  const { frames } = k.memory
  for (let page = pfn; page < pfn + n;) {
    const head = frames.head(page)
    const run = Math.min(pfn + n, head + frames.nrPages(head)) - page
    if (makeDirty && !frames.has(head, PG_DIRTY)) yield* dirtyLock(k, head)
    unpinFolio(k, page, run)
    page += run
  }
}

/**
 * `set_page_dirty_lock`: waits for the folio's lock, so that truncate and writeback are not in between.
 * @rule R-GUP-117
 */
export function* dirtyLock(k: Kernel, head: number): Kthread<void> {
  const { frames } = k.memory
  while (frames.has(head, PG_LOCKED)) {
    // what belongs to no file is being moved, or a device holds it
    const queue = k.mappings.get(frames.mapping[head]!)?.io ?? k.migrationDone
    yield { queue, what: `lock of page ${head}`, signals: 'none' }
  }
  dirtyFolio(k, head)
}

/**
 * `put_page` of a page obtained by FOLL_GET.
 * @throws MismatchedReleaseError when all its other references are pins and mappings
 * @rule R-GUP-65
 */
export function putPage(k: Kernel, pfn: number): void {
  const ledger = pinLedger(k)
  if (ledger !== null) {
    const { frames } = k.memory
    const head = frames.head(pfn)
    const pins = frames.isLarge(head)
      ? frames.pincount(head)
      : (ledger.get(head) ?? 0) * GUP_PIN_COUNTING_BIAS
    if (pins > 0 && frames.refcount[head]! - pins - mappingReferences(k, head) < 1) {
      throw new MismatchedReleaseError(`pfn ${pfn}: put_page, but it is held by FOLL_PIN only (R-GUP-65)`)
    }
  }
  k.memory.put(pfn)
}

/** `put_page` for the first `n` entries of a FOLL_GET result. */
export function putPages(k: Kernel, pages: PageArray, n: number): void {
  checkCount(pages, n)
  for (let i = 0; i < n; i++) putPage(k, pages.pfns[i]!)
}
