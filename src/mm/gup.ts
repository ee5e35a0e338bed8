import { EFAULT, EINVAL } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, pageAlignDown } from '../base/units.ts'
import { walkLockless, walkLocklessExplored } from './gup-fast.ts'
import {
  FOLL_DUMP,
  FOLL_FAST_ONLY,
  FOLL_FORCE,
  FOLL_GET,
  FOLL_LONGTERM,
  FOLL_NOWAIT,
  FOLL_PIN,
  FOLL_REMOTE,
  FOLL_TOUCH,
  FOLL_UNLOCKABLE,
} from './gup-flags.ts'
import { GupCall } from './gup-follow.ts'
import { gupLongtermLocked } from './gup-longterm.ts'
import { getUserPagesLocked } from './gup-loop.ts'
import {
  REJECTED,
  checkFastFlags,
  checkFastRange,
  rejection,
  validateGupArgs,
  type GupEntry,
} from './gup-validate.ts'
import type { Kernel } from './kernel.ts'
import { LockedGuard } from './locked-guard.ts'
import type { Mm } from './mm.ts'
import { vmaLookup, type MmapReadGuard } from './mmap-lock.ts'
import { PageArray } from './page-array.ts'
import { putPage } from './unpin.ts'

export { fixupUserFault } from './fixup-user-fault.ts'
export { LockedGuard } from './locked-guard.ts'
export { PageArray } from './page-array.ts'

/*
 * The exported get/pin functions. Common to all of them:
 *
 * - `start` is an address in bytes; it need not be page aligned, the page that contains it is the first
 *   one (R-GUP-2). `nrPages` counts 4 KiB pages.
 * - Result (R-GUP-3): n > 0, the first n pages are held and stored in `pages`, n may be less than asked;
 *   negative, -errno and nothing is held; 0, nrPages was 0, FOLL_NOWAIT stopped the first page, or
 *   the arguments of a pin were invalid (R-GUP-8). Nobody unpins a partial result: it is the caller's.
 * - What stopped a call before its last page is in `k.current.refusal`, with the index of that page; a
 *   call that got all its pages leaves null there.
 * - No function takes or returns VMAs. Who needs one asks `vmaLookup(guard, address)` afterwards, under
 *   the same guard (R-GUP-113).
 * - A flag that the release does not have is a RangeError, because it has no number there (R-GUP-5).
 */

/**
 * `get_user_pages`: plain references to pages of current's mm. The lock is never dropped.
 * @param guard of current's mm
 * @param pages null to fault in only
 * @rule R-GUP-2
 * @rule R-GUP-3
 */
export function* getUserPages(
  k: Kernel,
  guard: MmapReadGuard,
  start: number,
  nrPages: number,
  flags: number,
  pages: PageArray | null,
): Kthread<number> {
  const mm = ofCurrent(k, guard)
  return yield* locked(k, 'get_user_pages', mm, start, nrPages, flags, FOLL_TOUCH, pages, guard)
}

/**
 * `get_user_pages_remote`: the same for any mm.
 * @param lock a plain guard keeps the lock; a LockedGuard lends it, and its guard is null afterwards if it
 *   was dropped (R-GUP-45)
 */
export function* getUserPagesRemote(
  k: Kernel,
  mm: Mm,
  start: number,
  nrPages: number,
  flags: number,
  pages: PageArray | null,
  lock: LockedGuard | MmapReadGuard,
): Kthread<number> {
  return yield* locked(
    k,
    'get_user_pages_remote',
    mm,
    start,
    nrPages,
    flags,
    FOLL_TOUCH | FOLL_REMOTE,
    pages,
    lock,
  )
}

/** `get_user_pages_unlocked`: takes the lock itself and may drop it while it waits. Note the argument order. */
export function* getUserPagesUnlocked(
  k: Kernel,
  start: number,
  nrPages: number,
  pages: PageArray | null,
  flags: number,
): Kthread<number> {
  return yield* unlocked(
    k,
    'get_user_pages_unlocked',
    start,
    nrPages,
    pages,
    flags,
    FOLL_TOUCH | FOLL_UNLOCKABLE,
  )
}

/**
 * `pin_user_pages`: pins pages of current's mm. The lock is never dropped, so FOLL_SAME_FILE means what it
 * says here (R-GUP-17).
 */
export function* pinUserPages(
  k: Kernel,
  guard: MmapReadGuard,
  start: number,
  nrPages: number,
  flags: number,
  pages: PageArray | null,
): Kthread<number> {
  const mm = ofCurrent(k, guard)
  return yield* locked(k, 'pin_user_pages', mm, start, nrPages, flags, FOLL_PIN, pages, guard)
}

/** `pin_user_pages_remote`: the same for any mm, with a lock that may be lent (`getUserPagesRemote`). */
export function* pinUserPagesRemote(
  k: Kernel,
  mm: Mm,
  start: number,
  nrPages: number,
  flags: number,
  pages: PageArray | null,
  lock: LockedGuard | MmapReadGuard,
): Kthread<number> {
  const own = FOLL_PIN | FOLL_TOUCH | FOLL_REMOTE
  return yield* locked(k, 'pin_user_pages_remote', mm, start, nrPages, flags, own, pages, lock)
}

/** `pin_user_pages_unlocked`: takes the lock itself and may drop it while it waits. Note the argument order. */
export function* pinUserPagesUnlocked(
  k: Kernel,
  start: number,
  nrPages: number,
  pages: PageArray | null,
  flags: number,
): Kthread<number> {
  return yield* unlocked(
    k,
    'pin_user_pages_unlocked',
    start,
    nrPages,
    pages,
    flags,
    FOLL_PIN | FOLL_TOUCH | FOLL_UNLOCKABLE,
  )
}

/**
 * `get_user_pages_fast`: without the lock as far as the page tables allow, the rest with it.
 * An error after the first page is hidden behind the count (R-GUP-4).
 * @rule R-GUP-4
 */
export function* getUserPagesFast(
  k: Kernel,
  start: number,
  nrPages: number,
  flags: number,
  pages: PageArray,
): Kthread<number> {
  return yield* fast(k, 'get_user_pages_fast', start, nrPages, flags, FOLL_GET, pages)
}

/** `pin_user_pages_fast`: as `getUserPagesFast`, with pins. */
export function* pinUserPagesFast(
  k: Kernel,
  start: number,
  nrPages: number,
  flags: number,
  pages: PageArray | null,
): Kthread<number> {
  return yield* fast(k, 'pin_user_pages_fast', start, nrPages, flags, FOLL_PIN, pages)
}

/**
 * `get_user_pages_fast_only`: what can be had without sleeping, also in atomic context.
 * @returns pages; -errno for bad arguments, which 6.1 reports as 0 (R-GUP-1)
 * @rule R-GUP-1
 */
export function getUserPagesFastOnly(
  k: Kernel,
  start: number,
  nrPages: number,
  flags: number,
  pages: PageArray,
): number {
  const entry = 'get_user_pages_fast_only'
  const all = validateGupArgs(k, entry, flags, FOLL_GET | FOLL_FAST_ONLY, pages, false)
  if (all === REJECTED) return rejection(k, entry)
  const first = pageAlignDown(start)
  const early = beginFast(k, first, nrPages, all, pages)
  if (early !== null) return early < 0 && k.release.gup.fastOnlyHidesErrors ? 0 : early
  return walkLockless(k, currentMm(k), first, nrPages, all, pages.pfns)
}

/** The part of the *_fast functions before the walk. @returns null to go on */
function beginFast(
  k: Kernel,
  start: number,
  nrPages: number,
  flags: number,
  pages: PageArray,
): number | null {
  k.current.refusal = null
  const refused = checkFastFlags(k, flags)
  if (refused !== 0) return refused
  // @rule R-GUP-72
  if ((flags & FOLL_PIN) !== 0) currentMm(k).hasPinned = true
  const early = checkFastRange(k, start, nrPages)
  if (early !== null) return early
  // @rule R-GUP-11
  if (nrPages === 0) {
    k.warnOnce('gup-empty-fast', 'empty fast range: kernel behaviour unmodelled, 0 returned')
    return 0
  }
  checkRoom(pages, nrPages)
  return null
}

/** @rule R-GUP-10 */
function* fast(
  k: Kernel,
  entry: GupEntry,
  start: number,
  nrPages: number,
  callerFlags: number,
  own: number,
  pages: PageArray | null,
): Kthread<number> {
  const flags = validateGupArgs(k, entry, callerFlags, own, pages, false)
  if (flags === REJECTED || pages === null) return rejection(k, entry)
  const first = pageAlignDown(start)
  const early = beginFast(k, first, nrPages, flags, pages)
  if (early !== null) return early
  const mm = currentMm(k)
  const taken = k.exploring
    ? yield* walkLocklessExplored(k, mm, first, nrPages, flags, pages.pfns)
    : walkLockless(k, mm, first, nrPages, flags, pages.pfns)
  if (taken === nrPages) return taken
  const rest = first + taken * PAGE_SIZE
  const result = yield* slowPart(k, mm, rest, nrPages - taken, flags, pages, taken)
  if (result < 0) return taken > 0 ? taken : result
  if (taken + result === nrPages) k.current.refusal = null
  return taken + result
}

/** The pages the walk did not get, with the lock taken and released inside. */
function* slowPart(
  k: Kernel,
  mm: Mm,
  start: number,
  nrPages: number,
  flags: number,
  pages: PageArray,
  at: number,
): Kthread<number> {
  // @rule R-GUP-54
  if ((flags & FOLL_LONGTERM) !== 0 && !k.release.gup.longtermFastMayUnlock) {
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    const result = yield* gupLongtermLocked(
      new GupCall(k, mm, pages, new LockedGuard(guard)),
      start,
      nrPages,
      flags,
      at,
    )
    guard.release()
    return result
  }
  const call = new GupCall(k, mm, pages, new LockedGuard(null))
  return yield* gupLongtermLocked(call, start, nrPages, flags | FOLL_TOUCH | FOLL_UNLOCKABLE, at)
}

/** The functions whose caller holds the lock. */
function* locked(
  k: Kernel,
  entry: GupEntry,
  mm: Mm,
  start: number,
  nrPages: number,
  callerFlags: number,
  own: number,
  pages: PageArray | null,
  lock: LockedGuard | MmapReadGuard,
): Kthread<number> {
  const lent = lock instanceof LockedGuard
  const holder = lent ? lock : new LockedGuard(lock)
  // @rule R-GUP-7.2
  if (holder.guard === null || !holder.guard.held) throw new Error(`${entry}: mmap_lock is not held`)
  if (holder.guard.mm !== mm) throw new Error(`${entry}: the guard belongs to another mm`)
  const flags = validateGupArgs(k, entry, callerFlags, own, pages, lent)
  if (flags === REJECTED) return rejection(k, entry)
  return yield* finish(k, new GupCall(k, mm, pages, holder), start, nrPages, flags)
}

/** The functions that take the lock themselves. */
function* unlocked(
  k: Kernel,
  entry: GupEntry,
  start: number,
  nrPages: number,
  pages: PageArray | null,
  callerFlags: number,
  own: number,
): Kthread<number> {
  const flags = validateGupArgs(k, entry, callerFlags, own, pages, false)
  if (flags === REJECTED) return rejection(k, entry)
  return yield* finish(k, new GupCall(k, currentMm(k), pages, new LockedGuard(null)), start, nrPages, flags)
}

function* finish(k: Kernel, call: GupCall, start: number, nrPages: number, flags: number): Kthread<number> {
  if (call.pages !== null) checkRoom(call.pages, nrPages)
  k.current.refusal = null
  const result = yield* gupLongtermLocked(call, start, nrPages, flags, 0)
  if (result === nrPages) k.current.refusal = null
  return result
}

/**
 * `get_dump_page`: one page for a core dump; what was never touched is a hole and is not created.
 * @returns the pfn with a FOLL_GET reference, or 0 for a hole
 * @rule R-GUP-90
 */
export function* getDumpPage(k: Kernel, address: number): Kthread<number> {
  // @rule R-DMP-3
  // @rule R-DMP-7
  const flags = FOLL_FORCE | FOLL_DUMP | FOLL_GET | (k.release.gup.dumpPageMayUnlock ? FOLL_UNLOCKABLE : 0)
  const page = new PageArray(1)
  const call = new GupCall(k, currentMm(k), page, new LockedGuard(null))
  const result = yield* getUserPagesLocked(call, address, 1, flags, 0)
  // @rule R-DMP-2
  return result === 1 ? page.pfns[0]! : 0
}

/**
 * `get_user_page_vma_remote`: one page, and the promise that its VMA can be looked up: after a result
 * > 0, `vmaLookup(guard, lookedUp)` is not null. The VMA itself is not handed out; it would outlive the
 * lock too easily.
 * @param lookedUp the address as the caller has it, where GUP looks past tag bits in it that the look-up does not
 *   (R-MTE-10)
 * @returns the pfn with a FOLL_GET reference; -errno, nothing held
 * @rule R-GUP-96
 * @rule R-COM-23
 */
export function* getUserPageVmaRemote(
  k: Kernel,
  guard: MmapReadGuard,
  address: number,
  flags: number,
  lookedUp = address,
): Kthread<number> {
  if ((flags & FOLL_NOWAIT) !== 0) {
    k.warnOnce('gup-vma-nowait', 'get_user_page_vma_remote: FOLL_NOWAIT')
    return refuse(k.current, EINVAL, 'R-GUP-96', {
      address,
      page: 0,
      why: 'FOLL_NOWAIT is not accepted here',
    })
  }
  const page = new PageArray(1)
  const result = yield* getUserPagesRemote(k, guard.mm, address, 1, flags, page, guard)
  if (result < 0) return result
  if (result === 0)
    return refuse(k.current, EFAULT, 'R-GUP-96', { address, page: 0, why: 'no page and no error' })
  // @rule R-GUP-113
  if (vmaLookup(guard, lookedUp) === null) {
    k.warnOnce('gup-vma-gone', 'no VMA after a GUP call that kept the lock')
    putPage(k, page.pfns[0]!)
    return refuse(k.current, EINVAL, 'R-GUP-113', {
      address,
      page: 0,
      why: 'no VMA although the lock was never dropped',
    })
  }
  return page.pfns[0]!
}

function currentMm(k: Kernel): Mm {
  const { mm } = k.current
  if (mm === null) throw new Error('get_user_pages of current: a kernel thread has no mm')
  return mm
}

function ofCurrent(k: Kernel, guard: MmapReadGuard): Mm {
  const mm = currentMm(k)
  if (guard.mm !== mm)
    throw new Error('get_user_pages of current: the guard belongs to another mm, use the remote function')
  return mm
}

function checkRoom(pages: PageArray, nrPages: number): void {
  if (nrPages > pages.length) throw new RangeError(`${nrPages} pages asked for, room for ${pages.length}`)
}
