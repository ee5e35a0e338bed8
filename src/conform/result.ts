import type { Fact } from './compare.ts'
import type { Job } from './job.ts'
import type { Finding } from './lockstep.ts'

/** How one program went, as plain data. */
export interface ProgramResult {
  readonly index: number
  /** theme and seed, or the name in its file */
  readonly name: string
  readonly seed: number | null
  /** the file it was saved in as a difference: it is shown as it stands, and not shortened */
  readonly saved: string | null
  /** steps compared */
  readonly steps: number
  readonly facts: ReadonlySet<Fact>
  /** it had the pin counters to itself */
  readonly machineWide: boolean
  /** why the engine stopped, or was stopped before a harmful step; null when it went to the end */
  readonly unmodelled: string | null
  /** freedoms of the kernel that were used: their ids */
  readonly allowed: ReadonlySet<string>
  /** step → outcome → how often, as the kernel answered */
  readonly answers: Counts2
  /** rules by which the engine refused something */
  readonly refusals: ReadonlySet<string>
  readonly finding: Finding | null
  /** differences in counters of the whole machine that another run did not show */
  readonly disturbances: readonly Finding[]
  /** of everything the engine showed, where there is a finding */
  readonly engineDigest: string
  /** it ended the agent or the kernel, twice: one sentence */
  readonly death: string | null
  /** it ended the agent or the kernel, but not when it was run again: one sentence */
  readonly accident: string | null
}

/** What a request's completion counts as among the outcomes of its step, before the number of its errno. */
export const COMPLETION = 'completion '

/** How often, by two names. */
export type Counts2 = Map<string, Map<string, number>>

/** What was found out about a difference by running its program again. */
export interface Examination {
  /** the shortest program with the same kind of difference; null: it did not show again and again */
  readonly finding: Finding | null
  /** what one run showed and the next one did not */
  readonly unsteady: readonly Finding[]
}

/** A difference that was found, shortened. */
export interface Found {
  /** theme and seed, or the name in its file */
  readonly name: string
  readonly seed: number | null
  readonly finding: Finding
  /** the file it comes from */
  readonly saved: string | null
  /** false: the run ended before the program was run again and shortened */
  readonly examined: boolean
  /** programs that showed the same kind of difference */
  programs: number
}

/** A program and what happened to it. */
export interface Incident {
  readonly name: string
  /** one sentence */
  readonly message: string
}

/** Differences of one kind most likely have one cause. */
export function kindOf({ program, step, difference }: Finding): string {
  const { fact, what, page } = difference
  const { op, ...rest } = program.steps[step]!
  const advice = 'advice' in rest ? rest.advice : ''
  const side = page === null ? '' : `${page.kernel === null}${page.engine === null}`
  return [fact, what, op, advice, side].join('|')
}

export function count(counts: Map<string, number>, key: string, n = 1): void {
  counts.set(key, (counts.get(key) ?? 0) + n)
}

/** Adds to a count by two names. */
export function count2(counts: Counts2, first: string, second: string, n = 1): void {
  let own = counts.get(first)
  if (own === undefined) counts.set(first, (own = new Map()))
  count(own, second, n)
}

/** The result of a job that came to nothing. */
export function nothingOf({ index, name, seed, saved }: Job): ProgramResult {
  return {
    index,
    name,
    seed,
    saved,
    steps: 0,
    facts: new Set(),
    machineWide: false,
    unmodelled: null,
    allowed: new Set(),
    answers: new Map(),
    refusals: new Set(),
    finding: null,
    disturbances: [],
    engineDigest: '',
    death: null,
    accident: null,
  }
}
