import type { Fact } from './compare.ts'
import type { Job } from './job.ts'
import type { Finding } from './lockstep.ts'
import {
  count,
  count2,
  kindOf,
  type Counts2,
  type Found,
  type Incident,
  type ProgramResult,
} from './result.ts'
import type { Worker } from './worker.ts'

export interface RunSummary {
  programs: number
  steps: number
  /** programs that showed a difference */
  differing: number
  /** one for each kind of difference */
  readonly found: Found[]
  readonly facts: Set<Fact>
  /** programs that had the pin counters to themselves and were compared in them */
  machineWide: number
  /** reason → programs that ended early because the engine has no model of a step */
  readonly unmodelled: Map<string, number>
  /** id → programs in which the kernel took that freedom */
  readonly allowed: Map<string, number>
  /** what one run of a program showed and the next one did not: somebody else disturbed the kernel's side */
  readonly unsteady: Unsteady[]
  /** programs that ended the agent or the kernel, each time */
  readonly deaths: Incident[]
  /** programs in which the agent or the kernel ended, but not when they were run again */
  readonly accidents: Incident[]
  /** step → outcome → how often, as the kernel answered */
  readonly answers: Counts2
  /** rules by which the engine refused something */
  readonly refusals: Set<string>
  /** ms spent in the engine, and by the agents at work; of all workers together */
  time: { engine: number; kernel: number }
}

/** A difference that went away. */
export interface Unsteady {
  /** theme and seed, or the name in its file */
  readonly name: string
  readonly finding: Finding
  /** in a counter of the whole machine, which other processes change as well */
  readonly machineWide: boolean
}

/** What a run tells while it goes on. */
export interface RunEvents {
  /** a new kind of difference, after shrinking */
  readonly onFound?: (found: Found) => void
  /** a difference that did not show again, counters of the whole machine aside */
  readonly onUnsteady?: (name: string, seed: number | null, finding: Finding) => void
}

/**
 * Runs programs on the kernel and on the engine and compares them. Results are taken in the order of the jobs, so
 * that a run finds the same whatever the number of its workers.
 */
export class ConformRun {
  readonly summary: RunSummary = {
    programs: 0,
    steps: 0,
    differing: 0,
    found: [],
    facts: new Set(),
    machineWide: 0,
    unmodelled: new Map(),
    allowed: new Map(),
    unsteady: [],
    deaths: [],
    accidents: [],
    answers: new Map(),
    refusals: new Set(),
    time: { engine: 0, kernel: 0 },
  }
  readonly #workers: readonly Worker[]
  readonly #events: RunEvents
  readonly #kinds = new Map<string, Found>()
  /** results that came before the one whose turn it is */
  readonly #early = new Map<number, { readonly result: ProgramResult; readonly worker: Worker }>()
  #turn = 0
  #taking: Promise<void> | null = null
  #failure: unknown = null
  /** a difference that is being run again */
  #looking: { readonly result: ProgramResult; readonly finding: Finding } | null = null
  #abandoned = false

  constructor(workers: readonly Worker[], events: RunEvents = {}) {
    this.#workers = workers
    this.#events = events
  }

  /**
   * Runs jobs until there are no more or `stop` says so.
   * @throws what a worker throws; the summary has what came before
   */
  async run(jobs: Iterable<Job>, stop: () => boolean = () => false): Promise<RunSummary> {
    const iterator = jobs[Symbol.iterator]()
    const poll = (): Job | null => {
      if (this.#failure !== null || stop()) return null
      const next = iterator.next()
      return next.done === true ? null : next.value
    }
    const source = { poll, more: () => Promise.resolve(false) }
    try {
      await Promise.all(
        this.#workers.map((worker) => worker.work(source, (result) => this.#take(result, worker))),
      )
      while (this.#taking !== null) await this.#taking
      if (this.#failure !== null && !this.#abandoned) throw this.#failure
      this.#takeTimes()
    } catch (error) {
      this.abandon()
      throw error
    }
    this.#failure = 'over'
    return this.summary
  }

  /**
   * Nobody waits for the workers any more: takes what they have said so far. A difference that was not run again yet
   * counts as it was first seen.
   */
  abandon(): RunSummary {
    if (this.#abandoned) return this.summary
    this.#abandoned = true
    this.#failure ??= 'over'
    this.#takeTimes()
    if (this.#looking !== null) this.#found(this.#looking.result, this.#looking.finding, false)
    for (const [, { result }] of [...this.#early].sort(([a], [b]) => a - b)) {
      this.#count(result)
      if (result.finding !== null && !this.#isKnown(result.finding))
        this.#found(result, result.finding, false)
    }
    return this.summary
  }

  #takeTimes(): void {
    this.summary.time = { engine: 0, kernel: 0 }
    for (const { time } of this.#workers) {
      this.summary.time.engine += time.engine
      this.summary.time.kernel += time.kernel
    }
  }

  #take(result: ProgramResult, worker: Worker): void {
    if (this.#abandoned) return
    this.#early.set(result.index, { result, worker })
    this.#taking ??= this.#takeAll()
      .catch((error: unknown) => void (this.#failure ??= error))
      .finally(() => (this.#taking = null))
  }

  async #takeAll(): Promise<void> {
    for (let next; !this.#abandoned && (next = this.#early.get(this.#turn)) !== undefined; this.#turn++) {
      this.#early.delete(this.#turn)
      await this.#one(next.result, next.worker)
    }
  }

  async #one(result: ProgramResult, worker: Worker): Promise<void> {
    this.#count(result)
    const { finding } = result
    if (finding === null || this.#isKnown(finding)) return
    this.#looking = { result, finding }
    const examination = await worker.examine(result, finding)
    if (this.#abandoned) return
    this.#looking = null
    const { name, seed } = result
    for (const gone of examination.unsteady) {
      this.summary.unsteady.push({ name, finding: gone, machineWide: false })
      this.#events.onUnsteady?.(name, seed, gone)
    }
    // it may have turned out to be another one
    const now = examination.finding
    if (now !== null && !this.#isKnown(now)) this.#found(result, now, true)
  }

  #count(result: ProgramResult): void {
    const { summary } = this
    const { name } = result
    if (result.death !== null) {
      summary.deaths.push({ name, message: result.death })
      return
    }
    summary.programs++
    summary.steps += result.steps
    if (result.machineWide) summary.machineWide++
    for (const fact of result.facts) summary.facts.add(fact)
    for (const rule of result.refusals) summary.refusals.add(rule)
    for (const id of result.allowed) count(summary.allowed, id)
    for (const [op, outcomes] of result.answers)
      for (const [outcome, n] of outcomes) count2(summary.answers, op, outcome, n)
    if (result.accident !== null) summary.accidents.push({ name, message: result.accident })
    if (result.unmodelled !== null) count(summary.unmodelled, result.unmodelled)
    for (const finding of result.disturbances) summary.unsteady.push({ name, finding, machineWide: true })
  }

  #found({ name, seed, saved }: ProgramResult, finding: Finding, examined: boolean): void {
    this.summary.differing++
    const found: Found = { name, seed, finding, saved, examined, programs: 1 }
    this.#kinds.set(kindOf(finding), found)
    this.summary.found.push(found)
    this.#events.onFound?.(found)
  }

  /** Counts one more program with a difference that is known. */
  #isKnown(finding: Finding): boolean {
    const known = this.#kinds.get(kindOf(finding))
    if (known === undefined) return false
    this.summary.differing++
    known.programs++
    return true
  }
}
