import { IORING_NOTIF_USAGE_ZC_COPIED } from '../io_uring/notification.ts'
import { digest, examine } from './examine.ts'
import { programOf, type Job } from './job.ts'
import { AgentDied } from './kernel-driver.ts'
import type { Finding } from './lockstep.ts'
import type { Observation } from './observation.ts'
import { isMachineWide, type Program } from './program.ts'
import {
  COMPLETION,
  count2,
  nothingOf,
  type Counts2,
  type Examination,
  type ProgramResult,
} from './result.ts'
import { Sides, type OracleSource, type UnderWay } from './sides.ts'
import { undisturbed } from './undisturbed.ts'

/** Programs the kernel has while the engine runs one. */
const AHEAD = 2

/** Where a worker gets its jobs from. */
export interface JobSource {
  /** The next job, null when there is none at the moment. */
  poll(): Job | null
  /** Waits for another one; false: there will be none. */
  more(): Promise<boolean>
}

/** Something that runs programs on both sides and compares them: here, or in a thread. */
export interface Worker {
  /** Runs jobs until there are no more. Results come in the order of the jobs. */
  work(jobs: JobSource, done: (result: ProgramResult) => void): Promise<void>
  /** Runs the program of a difference again and finds the shortest one. May be asked for while it works. */
  examine(result: ProgramResult, finding: Finding): Promise<Examination>
  /** ms so far: in the engine, and the agents at work. */
  readonly time: { readonly engine: number; readonly kernel: number }
}

/** A worker of this thread. */
export class LocalWorker implements Worker {
  readonly #sides: Sides
  /** what is being shortened: hundreds of runs, one after the other, which would each wait for whole programs */
  #examining: Promise<unknown> | null = null

  /** @param onEngine is told the job of each program the engine begins (-1: an examination), null when it has ended */
  constructor(source: OracleSource, onEngine: (job: number | null) => void = () => {}) {
    this.#sides = new Sides(source)
    this.#sides.onEngine = onEngine
  }

  get time(): { readonly engine: number; readonly kernel: number } {
    return this.#sides.time
  }

  async examine(result: ProgramResult, finding: Finding): Promise<Examination> {
    const examination = examine(this.#sides, result, finding)
    // whoever asked hears of an error; the work only waits for the end
    const ended = examination.then(
      () => {},
      () => {},
    )
    this.#examining = ended
    await ended
    if (this.#examining === ended) this.#examining = null
    return examination
  }

  async work(jobs: JobSource, done: (result: ProgramResult) => void): Promise<void> {
    const underWay: { readonly job: Job; readonly program: Program; readonly sent: UnderWay }[] = []
    for (;;) {
      if (underWay.length === 0) await this.#examining
      const mayBegin = (): boolean => underWay.length <= AHEAD && this.#examining === null
      for (let job; mayBegin() && (job = jobs.poll()) !== null;) {
        const program = programOf(job)
        underWay.push({ job, program, sent: await this.#sides.send(program, job.index) })
      }
      const first = underWay.shift()
      if (first !== undefined) done(await this.#finish(first.job, first.program, first.sent))
      else if (this.#examining === null && !(await jobs.more())) return
    }
  }

  async #finish(job: Job, program: Program, sent: UnderWay): Promise<ProgramResult> {
    try {
      return await this.#compared(job, program, sent, null)
    } catch (error) {
      if (!(error instanceof AgentDied)) throw error
      return this.#afterDeath(job, program, error.message)
    }
  }

  /** Whether the program ended the kernel's side, or somebody else did. */
  async #afterDeath(job: Job, program: Program, message: string): Promise<ProgramResult> {
    try {
      return await this.#compared(job, program, await this.#sides.send(program, job.index), message)
    } catch (error) {
      if (!(error instanceof AgentDied)) throw error
      return { ...nothingOf(job), machineWide: isMachineWide(program), death: error.message }
    }
  }

  async #compared(
    job: Job,
    program: Program,
    sent: UnderWay,
    accident: string | null,
  ): Promise<ProgramResult> {
    const both = await sent.result()
    const { comparison, disturbances } = await undisturbed(this.#sides, program, job.index, both)
    const { steps, facts, unmodelled, allowed, finding } = comparison
    return {
      ...nothingOf(job),
      steps,
      facts,
      machineWide: isMachineWide(program),
      unmodelled,
      allowed,
      answers: answersOf(program, both.kernel),
      refusals: both.refusals,
      finding,
      disturbances,
      engineDigest: finding === null ? '' : digest(both.engine),
      accident,
    }
  }
}

function answersOf({ steps }: Program, kernel: readonly Observation[]): Counts2 {
  const answers: Counts2 = new Map()
  for (const [i, { outcome, completions }] of kernel.entries()) {
    const answer =
      outcome.kind === 'errno'
        ? String(outcome.errno)
        : outcome.kind === 'signal'
          ? outcome.signal
          : outcome.kind === 'dangling'
            ? 'dangling'
            : 'ok'
    count2(answers, steps[i]!.op, answer)
    for (const [, result] of completions ?? [])
      // a notification that reports a copy is no errno
      if (result < 0 && result !== IORING_NOTIF_USAGE_ZC_COPIED)
        count2(answers, steps[i]!.op, `${COMPLETION}${-result}`)
  }
  return answers
}
