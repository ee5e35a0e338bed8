import { ENOMEM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse, type RefusalFacts } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PG_LOCKED, ZONE_MASK } from '../memory/page-flags.ts'
import { FOLL_LONGTERM } from './gup-flags.ts'
import type { GupCall } from './gup-follow.ts'
import { isLongtermPinnable } from './gup-grab.ts'
import { getUserPagesLocked } from './gup-loop.ts'
import type { Kernel } from './kernel.ts'
import { isolateFolio, migratePages } from './migrate.ts'
import { waitForMigration } from './migration-entry.ts'
import { unpinRange } from './unpin.ts'

/** The kernel's loop has no bound (R-GUP-51); a folio that is still in the way after so many rounds stays. */
const MAX_ROUNDS = 32

/**
 * `__gup_longterm_locked`: without FOLL_LONGTERM the locked loop; with it, pages that may not be pinned
 * for long where they are get moved first, and the whole range is walked again.
 *
 * @param at index of the first page, in the request and in `call.pages`
 * @throws Unmodelled `livelock possible` where the kernel would go round for ever
 * @rule R-GUP-50
 * @rule R-FLT-143
 */
export function* gupLongtermLocked(
  call: GupCall,
  start: number,
  nrPages: number,
  flags: number,
  at: number,
): Kthread<number> {
  const walk = (): Kthread<number> => getUserPagesLocked(call, start, nrPages, flags, at)
  if ((flags & FOLL_LONGTERM) === 0) return yield* walk()
  return yield* pinWhereItMayStay(call.k, walk, call.pages!.pfns, at, { address: start, page: at })
}

/**
 * Pins a range again and again until everything in it is where a long-term pin may keep it, moving away what is not.
 * @param walk pins the range into `pfns` from `at` on. @returns how many, or -errno
 * @param facts of a refusal
 * @returns what the last walk did, or -ENOMEM when something cannot be moved
 * @throws Unmodelled when it would never end
 */
export function* pinWhereItMayStay(
  k: Kernel,
  walk: () => Kthread<number>,
  pfns: Int32Array,
  at: number,
  facts: RefusalFacts,
): Kthread<number> {
  const { current } = k
  const outer = current.memallocPin
  current.memallocPin = true
  try {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const pinned = yield* walk()
      if (pinned <= 0) return pinned
      if (k.exploring) yield PREEMPT
      const movable: number[] = []
      const inTheWay = collectUnpinnable(k, pfns, at, at + pinned, movable)
      if (inTheWay === 0) return pinned
      const error = yield* moveAway(k, pfns, at, at + pinned, movable, facts)
      if (error < 0) return error
    }
  } finally {
    current.memallocPin = outer
  }
  // @rule R-GUP-51
  throw new Unmodelled(
    'livelock possible: a page that may not be pinned for long can never be moved away',
    'R-GUP-51',
  )
}

/**
 * Something among what was pinned may not stay where it is: all of it is unpinned, and what could be isolated moved.
 * Whoever pins walks its range again afterwards.
 * @param pfns [from, to): one pin each
 * @param facts of the refusal
 * @returns 0, or -ENOMEM when something stays; nothing is pinned either way
 * @rule R-GUP-50
 */
function* moveAway(
  k: Kernel,
  pfns: Int32Array,
  from: number,
  to: number,
  movable: readonly number[],
  facts: RefusalFacts,
): Kthread<number> {
  const moving = movable.length === 0 && isBeingMoved(k, pfns, from, to)
  // @rule R-GUP-52
  unpinRange(k, pfns, from, to)
  pfns.fill(0, from, to)
  // whoever moves them now will be done
  if (moving) yield* waitForMigration(k)
  if ((yield* migratePages(k, movable)).left.length > 0) {
    return refuse(k.current, ENOMEM, 'R-GUP-50', {
      ...facts,
      why: 'a page in a movable zone or in CMA could not be moved away for a long-term pin: somebody else holds it',
    })
  }
  if (k.exploring) yield PREEMPT
  return 0
}

/**
 * Counts the distinct folios that are in the way; those that can be isolated go to `movable`.
 * @rule R-GUP-49
 */
function collectUnpinnable(k: Kernel, pfns: Int32Array, from: number, to: number, movable: number[]): number {
  const { frames } = k.memory
  let seen: Set<number> | null = null
  for (let i = from; (i = firstOutsideNormal(pfns, i, to, frames.flags)) < to; i++) {
    if (isLongtermPinnable(k, pfns[i]!)) continue
    const head = frames.head(pfns[i]!)
    seen ??= new Set()
    if (seen.has(head)) continue
    seen.add(head)
    if (isolateFolio(k, head)) movable.push(head)
  }
  return seen === null ? 0 : seen.size
}

/** Somebody else has isolated one of the pages that are in the way. */
function isBeingMoved(k: Kernel, pfns: Int32Array, from: number, to: number): boolean {
  const { frames } = k.memory
  for (let i = from; i < to; i++)
    if (!isLongtermPinnable(k, pfns[i]!) && frames.has(frames.head(pfns[i]!), PG_LOCKED)) return true
  return false
}

/** Nothing in ZONE_NORMAL is ever in the way: skips to the first page that is somewhere else. */
function firstOutsideNormal(pfns: Int32Array, from: number, to: number, words: Uint32Array): number {
  const zoneMask = ZONE_MASK | 0
  let i = from
  while (i < to && (words[pfns[i]!]! & zoneMask) === 0) i++
  return i
}
