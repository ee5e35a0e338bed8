import type { Refusal } from '../base/refusal.ts'
import { rootRefusal } from '../base/refusal.ts'
import type { ReleaseName } from '../base/release.ts'
import { DeadlockError } from '../base/scheduler.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE, TASK_SIZE, pageAlign, pageAlignDown } from '../base/units.ts'
import type { Snapshot } from '../host/snapshot.ts'
import { HugePmd, PTE_PRESENT, pmdIndex, pteSlot, type PageTable } from '../mm/page-table.ts'
import type { Answer, Verdict } from './answer.ts'
import { chargeAssumptions } from './charge-assumptions.ts'
import {
  pagesOf,
  type Charges,
  type Outcome,
  type Request,
  type RequestOptions,
  type RequestRange,
} from './request.ts'
import type { Doubt, Guesses } from './restoration.ts'
import { restore, type Restored } from './restore.ts'
import { undecided, verdictOf } from './verdict.ts'

/** One request to one process on one release. */
export interface Question {
  readonly snapshot: Snapshot
  readonly release: ReleaseName
  readonly request: Request
  readonly range: RequestRange
  readonly options: RequestOptions
}

/** What one release says to it under one set of guesses. */
export interface Asked {
  readonly verdict: Verdict
  readonly pinned: Answer['pinned']
  readonly faultedIn: number
  readonly copied: number
  /** null where the request charges nothing or did not get as far as a charge */
  readonly memlock: Answer['memlock']
  readonly kernelLog: readonly string[]
  readonly assumptions: readonly string[]
  readonly doubts: readonly Doubt[]
}

/** Changes the restored process before the request is made; how a hint is tried. Returns < 0 when it cannot. */
export type Preparation = (restored: Restored) => number

/**
 * Builds the process anew in an engine of that release and runs the real caller's code on it. Where the
 * engine stops (`Unmodelled`), or the request would sleep for ever, the verdict says so.
 * @returns null when the preparation could not be made
 */
export function ask(question: Question, guesses: Guesses, prepare?: Preparation): Asked | null {
  try {
    const { request, range } = question
    const window = {
      start: pageAlignDown(range.start),
      end: pageAlign(range.start + Math.min(range.length, request.longest)),
    }
    const restored = restore(question.snapshot, question.release, window, guesses)
    if (prepare !== undefined && prepare(restored) < 0) return null
    return run(question, restored)
  } catch (error) {
    if (!(error instanceof Unmodelled)) throw error
    return { ...unanswered, verdict: undecided(error.message, error.rule) }
  }
}

const unanswered = {
  pinned: null,
  faultedIn: 0,
  copied: 0,
  memlock: null,
  kernelLog: [],
  assumptions: [],
  doubts: [],
}

function run({ snapshot, release, request, range, options }: Question, restored: Restored): Asked {
  const { kernel, task, mm, doubts } = restored
  const assumptions = [
    ...restored.assumptions,
    ...(request.notes?.(snapshot, release, range, options) ?? []),
    ...filtered(snapshot, request),
  ]
  const before = countersOf(restored)
  const logged = kernel.warnings.length
  const presentBefore = countPresent(mm.pageTable, range)
  let copied = 0
  kernel.observer = (event) => {
    if (event.type === 'cow') copied++
  }
  task.refusal = null
  let outcome: Outcome
  try {
    outcome = kernel.run(task, request.run(restored, range, options))
  } catch (error) {
    if (error instanceof DeadlockError) {
      const verdict = undecided(
        `the request would sleep until somebody serves it: ${waitsOf(error)}`,
        'R-GUP-34',
      )
      return { ...unanswered, verdict, assumptions, doubts }
    }
    if (error instanceof Unmodelled)
      return { ...unanswered, verdict: undecided(error.message, error.rule), assumptions, doubts }
    throw error
  } finally {
    kernel.observer = null
  }
  const verdict = verdictOf(outcome, task.refusal, range)
  const ok = verdict.ok === true
  const memlock =
    request.charges === null
      ? null
      : memlockOf(restored, request.charges, before, ok ? null : task.refusal, pagesOf(range))
  const limited = memlock !== null && !memlock.exempt && memlock.limit !== null
  return {
    verdict,
    pinned: ok ? countHeld(restored, outcome, range) : null,
    faultedIn: Math.max(0, countPresent(mm.pageTable, range) - presentBefore),
    copied,
    memlock,
    kernelLog: kernel.warnings.slice(logged).map(({ message }) => message),
    assumptions:
      limited && request.charges?.wholeFolios === true
        ? [...assumptions, ...chargeAssumptions(snapshot, range)]
        : assumptions,
    doubts,
  }
}

/** A filter is a program that nobody can read from outside: what it refuses is refused before all else. */
function filtered({ process: { seccomp } }: Snapshot, request: Request): readonly string[] {
  if (request.bySomebodyElse === true || seccomp === undefined || seccomp === 0) return []
  return [
    seccomp === 1
      ? 'the process is in strict seccomp mode: a system call other than read, write, _exit and sigreturn kills it before the kernel looks at the request'
      : 'the system calls of the process pass a seccomp filter, which lets this one through (those of containers often refuse io_uring: EPERM)',
  ]
}

function waitsOf(error: DeadlockError): string {
  return error.waiters.map((w) => w.what).join(', ')
}

type Counters = Readonly<Record<Charges['budget'], number>>

function countersOf({ kernel, task, mm }: Restored): Counters {
  return {
    'user->locked_vm': kernel.user(task.uid).lockedVm,
    'mm->locked_vm': mm.lockedVm,
    'mm->pinned_vm': mm.pinnedVm,
  }
}

/**
 * The arithmetic of RLIMIT_MEMLOCK. What a ring charges for its own memory belongs to what the request needs.
 * @param pages of the request: what those who are exempt would charge otherwise
 * @returns null where a refusal came before any charge
 * @rule R-URING-42
 * @rule R-REP-1
 */
function memlockOf(
  restored: Restored,
  { budget, liftedBy, wholeFolios, pageByPage }: Charges,
  before: Counters,
  refusal: Refusal | null,
  pages: number,
): Answer['memlock'] {
  const { task } = restored
  const root = refusal === null ? null : rootRefusal(refusal)
  // who may lock nothing at all is told so before anything is counted (R-DRV-5)
  if (root !== null && root.needed === undefined && root.limit === undefined) return null
  const limit = task.rlimit('memlock')
  const exempt = liftedBy !== null && task.capable(liftedBy)
  const after = countersOf(restored)
  const used = before[budget]
  // a ring without a user still counts in VmPin; other devices then count what they hold
  const unlimited = wholeFolios === true ? after['mm->pinned_vm'] - before['mm->pinned_vm'] : pages
  const charged = exempt ? unlimited : after[budget] - used
  return {
    needed:
      root === null ? charged : pageByPage ? pages : (root.needed ?? pages) + (root.used ?? used) - used,
    used,
    limit: limit === Infinity ? null : Math.floor(limit / PAGE_SIZE),
    exempt,
    capability: task.lockCapability,
    budget,
    liftedBy,
  }
}

function countHeld(restored: Restored, outcome: Outcome, range: RequestRange): NonNullable<Answer['pinned']> {
  const { frames } = restored.kernel.memory
  const heads = new Set<number>()
  outcome.holder?.forEachReference((pfn) => {
    if (frames.isLarge(pfn)) heads.add(frames.head(pfn))
  })
  return { pages: pagesOf(range), hugePages: heads.size }
}

/** Pages of the range that have a present entry. */
function countPresent(table: PageTable, range: RequestRange): number {
  const start = pageAlignDown(range.start)
  const end = Math.min(pageAlign(range.start + range.length), TASK_SIZE)
  if (start >= end) return 0
  const limit = pmdIndex(end - 1) + 1
  let present = 0
  for (
    let index = table.nextPmd(pmdIndex(start), limit);
    index >= 0;
    index = table.nextPmd(index + 1, limit)
  ) {
    const entry = table.pmd(index)!
    const first = index === pmdIndex(start) ? pteSlot(start) : 0
    const last = index === pmdIndex(end - 1) ? pteSlot(end - 1) : 511
    if (entry instanceof HugePmd) {
      present += last - first + 1
      continue
    }
    for (let slot = first; slot <= last; slot++) if ((entry.bits[slot]! & PTE_PRESENT) !== 0) present++
  }
  return present
}
