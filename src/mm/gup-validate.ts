import { EINVAL, EFAULT, EOVERFLOW } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import type { GupSwitches } from '../base/releases/gup.ts'
import { PAGE_SIZE, TASK_SIZE } from '../base/units.ts'
import {
  FOLL_FAST_ONLY,
  FOLL_FLAGS,
  FOLL_FORCE,
  FOLL_GET,
  FOLL_HONOR_NUMA_FAULT,
  FOLL_LONGTERM,
  FOLL_MADV_POPULATE,
  FOLL_NOFAULT,
  FOLL_PCI_P2PDMA,
  FOLL_PIN,
  FOLL_REMOTE,
  FOLL_TOUCH,
  FOLL_TRIED,
  FOLL_UNLOCKABLE,
  FOLL_WRITE,
} from './gup-flags.ts'
import type { Kernel } from './kernel.ts'
import type { PageArray } from './page-array.ts'

/** Which exported function is asked: 6.1 validates each in its own way, and rejections differ (R-GUP-8). */
export type GupEntry =
  | 'get_user_pages'
  | 'get_user_pages_remote'
  | 'get_user_pages_unlocked'
  | 'get_user_pages_fast'
  | 'get_user_pages_fast_only'
  | 'pin_user_pages'
  | 'pin_user_pages_remote'
  | 'pin_user_pages_unlocked'
  | 'pin_user_pages_fast'

/** Returned by `validateGupArgs` when the call was rejected; what the caller sees is `rejection()`. */
export const REJECTED = -1

/** Everything GUP alone may set (R-GUP-7.1). */
const INTERNAL_FLAGS =
  FOLL_TOUCH | FOLL_TRIED | FOLL_REMOTE | FOLL_PIN | FOLL_FAST_ONLY | FOLL_UNLOCKABLE | FOLL_MADV_POPULATE

const unknownFlags = new WeakMap<GupSwitches, number>()

/** External flags that have no number on this release: a call with one cannot be written there. */
function flagsUnknownTo(gup: GupSwitches): number {
  let mask = unknownFlags.get(gup)
  if (mask === undefined) {
    mask = 0
    for (const [name, bit] of Object.entries(FOLL_FLAGS)) {
      if ((gup.flagValues[name] ?? null) === null && (bit & INTERNAL_FLAGS) === 0) mask |= bit
    }
    unknownFlags.set(gup, mask)
  }
  return mask
}

/**
 * The validator every exported get/pin function runs first.
 *
 * @param caller flags the caller passed
 * @param own flags the wrapper adds
 * @returns the combined flags, or REJECTED with the reason recorded and the warning given
 * @throws RangeError for a flag the release does not have
 * @rule R-GUP-7
 */
export function validateGupArgs(
  k: Kernel,
  entry: GupEntry,
  caller: number,
  own: number,
  pages: PageArray | null,
  locked: boolean,
): number {
  const { gup } = k.release
  // @rule R-GUP-5
  if ((caller & flagsUnknownTo(gup)) !== 0)
    throw new RangeError(
      `${flagNames(caller & flagsUnknownTo(gup))} does not exist on ${k.release.name} (R-GUP-5)`,
    )
  if (gup.perWrapperValidation) return validateForWrapper(k, entry, caller, own, pages, locked)

  // @rule R-GUP-7.1
  const tested = gup.touchTolerated
    ? FOLL_PIN | FOLL_TRIED | FOLL_UNLOCKABLE | FOLL_REMOTE | FOLL_FAST_ONLY
    : INTERNAL_FLAGS
  if ((caller & tested) !== 0)
    return reject(k, entry, 'the caller passed a flag that only GUP itself may set')
  // @rule R-GUP-7.2
  const flags = caller | own | (locked ? FOLL_UNLOCKABLE : 0)
  if ((flags & FOLL_PIN) !== 0 && (flags & FOLL_GET) !== 0)
    return reject(k, entry, 'FOLL_GET and FOLL_PIN exclude each other')
  if ((flags & (FOLL_LONGTERM | FOLL_PIN)) === FOLL_LONGTERM)
    return reject(k, entry, 'FOLL_LONGTERM needs FOLL_PIN')
  if ((flags & (FOLL_GET | FOLL_PIN)) !== 0 && pages === null)
    return reject(k, entry, 'references were asked for without an array to put the pages in')
  if ((flags & FOLL_LONGTERM) !== 0 && (flags & FOLL_PCI_P2PDMA) !== 0) {
    return reject(k, entry, 'FOLL_LONGTERM and FOLL_PCI_P2PDMA exclude each other')
  }
  return flags
}

/** @rule R-GUP-9 */
function validateForWrapper(
  k: Kernel,
  entry: GupEntry,
  caller: number,
  own: number,
  pages: PageArray | null,
  locked: boolean,
): number {
  const flags = caller | own | (locked ? FOLL_UNLOCKABLE : 0)
  if (entry === 'get_user_pages_unlocked') {
    if ((caller & FOLL_LONGTERM) !== 0) return reject(k, entry, 'FOLL_LONGTERM needs FOLL_PIN')
    return flags
  }
  if (entry.startsWith('get_')) {
    if ((caller & (FOLL_PIN | FOLL_LONGTERM)) !== 0)
      return reject(k, entry, 'FOLL_PIN and FOLL_LONGTERM belong to pin_user_pages')
    return flags
  }
  if ((caller & FOLL_GET) !== 0) return reject(k, entry, 'FOLL_GET and FOLL_PIN exclude each other')
  if (pages === null)
    return reject(k, entry, 'references were asked for without an array to put the pages in')
  if (entry === 'pin_user_pages_unlocked' && (caller & FOLL_LONGTERM) !== 0)
    return reject(k, entry, 'FOLL_LONGTERM cannot drop the lock')
  if (entry === 'pin_user_pages_remote' && locked && (caller & FOLL_LONGTERM) !== 0)
    return reject(k, entry, 'FOLL_LONGTERM cannot drop the lock')
  return flags
}

function reject(k: Kernel, entry: GupEntry, why: string): number {
  k.warnOnce(`gup-args:${why}`, `${entry}: ${why}`)
  refuse(k.current, EINVAL, k.release.gup.perWrapperValidation ? 'R-GUP-9' : 'R-GUP-7', { why })
  return REJECTED
}

/**
 * What a rejected call returns: the asymmetry of R-GUP-8.
 * @rule R-GUP-8
 * @rule R-COM-11
 */
export function rejection(k: Kernel, entry: GupEntry): number {
  const { gup } = k.release
  switch (entry) {
    case 'pin_user_pages':
    case 'pin_user_pages_remote':
    case 'pin_user_pages_unlocked':
      return gup.badPinArgumentsGiveZero ? 0 : -EINVAL
    case 'get_user_pages_fast_only':
      return gup.fastOnlyHidesErrors ? 0 : -EINVAL
    default:
      return -EINVAL
  }
}

/**
 * The entry checks of *_fast up to the address range.
 * @param start rounded down to a page already
 * @param nrPages a C int: may be negative
 * @returns null to go on, else what the call returns
 * @rule R-GUP-10
 */
export function checkFastRange(k: Kernel, start: number, nrPages: number): number | null {
  const { gup } = k.release
  const length = nrPages * PAGE_SIZE
  // a negative count is a huge unsigned one: its sum with start wraps unless start is small
  const wraps = nrPages < 0 ? start + length >= 0 : start + length >= 2 ** 64
  if (wraps) {
    const errno = gup.fastOverflowIsError ? EOVERFLOW : EFAULT
    const result = refuse(k.current, errno, 'R-GUP-10', {
      address: start,
      page: 0,
      why: 'the range wraps around the address space',
    })
    return gup.fastOverflowIsError ? result : 0
  }
  if (nrPages < 0 || start + length > TASK_SIZE) {
    return refuse(k.current, EFAULT, 'R-GUP-10', {
      address: start,
      page: 0,
      why: 'the range is not user memory',
    })
  }
  return null
}

/**
 * The first check of *_fast: the flags the lockless walk understands.
 * @returns 0 or -EINVAL
 * @rule R-GUP-10
 */
export function checkFastFlags(k: Kernel, flags: number): number {
  const known =
    FOLL_WRITE |
    FOLL_LONGTERM |
    FOLL_FORCE |
    FOLL_PIN |
    FOLL_GET |
    FOLL_FAST_ONLY |
    FOLL_NOFAULT |
    FOLL_PCI_P2PDMA |
    FOLL_HONOR_NUMA_FAULT
  if ((flags & ~known) === 0) return 0
  k.warnOnce('gup-fast-flags', `*_user_pages_fast: ${flagNames(flags & ~known)} is not accepted here`)
  return refuse(k.current, EINVAL, 'R-GUP-10', { why: 'a flag that the fast functions do not accept' })
}

function flagNames(flags: number): string {
  return Object.entries(FOLL_FLAGS)
    .filter(([, bit]) => (flags & bit) !== 0)
    .map(([name]) => name)
    .join('|')
}
