import { setTimeout as sleep } from 'node:timers/promises'
import type { AtEnd } from '../host/oracle-settings.ts'
import type { Job } from './job.ts'
import type { Finding } from './lockstep.ts'
import { nothingOf, type Examination, type ProgramResult } from './result.ts'
import type { OtherSide, ThreadTask, Time } from './worker-messages.ts'
import { WorkerThread, type Report, type ThreadEnd } from './worker-thread.ts'
import type { JobSource, Worker } from './worker.ts'

/** Jobs a thread has been given and not answered: enough that it never waits for the next one. */
const QUEUED = 6
/** ms a thread may take to say what its engine came to */
const PATIENCE = 2000

interface Work {
  readonly jobs: JobSource
  readonly done: (result: ProgramResult) => void
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

interface Question {
  readonly result: ProgramResult
  readonly finding: Finding
  readonly resolve: (examination: Examination) => void
  readonly reject: (error: unknown) => void
}

/** A worker in a thread of its own. When the engine hangs in it or runs out of memory, another thread goes on. */
export class ThreadWorker implements Worker {
  readonly #task: ThreadTask
  readonly #atEnd: AtEnd
  #thread: WorkerThread
  /** given to the thread, by index */
  readonly #given = new Map<number, Job>()
  #work: Work | null = null
  #question: Question | null = null
  /** of threads that are gone, and of this one */
  #before: Time = { engine: 0, kernel: 0 }
  #now: Time = { engine: 0, kernel: 0 }
  /** places of `enginePlaces()` that any of its threads came to */
  readonly #reached = new Set<number>()
  #asked: (() => void) | null = null

  /** Starts the thread. */
  constructor(task: ThreadTask, atEnd: AtEnd) {
    this.#task = task
    this.#atEnd = atEnd
    this.#thread = this.#newThread()
  }

  /** When its first agent runs. @throws HostError */
  get ready(): Promise<OtherSide> {
    return this.#thread.ready
  }

  get time(): Time {
    return {
      engine: this.#before.engine + this.#now.engine,
      kernel: this.#before.kernel + this.#now.kernel,
    }
  }

  work(jobs: JobSource, done: (result: ProgramResult) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#work = { jobs, done, resolve, reject }
      this.#fill()
    })
  }

  examine(result: ProgramResult, finding: Finding): Promise<Examination> {
    return new Promise((resolve, reject) => {
      this.#question = { result, finding, resolve, reject }
      this.#thread.tell({ examine: result, finding })
    })
  }

  /** Places of `enginePlaces()` that were come to; without those of late when the thread does not answer. */
  async reached(): Promise<ReadonlySet<number>> {
    const answer = new Promise<void>((resolve) => (this.#asked = resolve))
    this.#thread.tell({ reached: true })
    await Promise.race([answer, sleep(PATIENCE, undefined, { ref: false })])
    return this.#reached
  }

  /** Ends its agents and the thread. */
  stop(): Promise<void> {
    return this.#thread.stop()
  }

  #newThread(): WorkerThread {
    return new WorkerThread(
      this.#task,
      this.#atEnd,
      (report) => this.#take(report),
      (end) => this.#replace(end),
    )
  }

  /** Gives the thread what it has room for; when there is nothing left to do, the work is done. */
  #fill(): void {
    if (this.#work === null) return
    for (let job; this.#given.size < QUEUED && (job = this.#work.jobs.poll()) !== null;) {
      this.#given.set(job.index, job)
      this.#thread.tell({ job })
    }
    if (this.#given.size === 0) this.#work.resolve()
  }

  #take(report: Report): void {
    if ('reached' in report) {
      for (const place of report.reached) this.#reached.add(place)
      this.#asked?.()
      return
    }
    this.#now = report.time
    if ('examination' in report) {
      const question = this.#question
      this.#question = null
      question?.resolve(report.examination)
      return
    }
    this.#given.delete(report.result.index)
    this.#work?.done(report.result)
    this.#fill()
  }

  #replace(end: ThreadEnd): void {
    const question = this.#question
    if ('error' in end) {
      this.#work?.reject(end.error)
      question?.reject(end.error)
      return
    }
    this.#before = this.time
    this.#now = { engine: 0, kernel: 0 }
    this.#thread = this.#newThread()
    const job = this.#given.get(end.job)
    this.#given.delete(end.job)
    for (const other of this.#given.values()) this.#thread.tell({ job: other })
    if (job !== undefined) this.#work?.done({ ...nothingOf(job), death: end.message })
    if (question !== null && job !== undefined)
      this.#thread.tell({ examine: question.result, finding: question.finding })
    else if (question !== null) {
      // a shorter program did it: the long one will have to do
      this.#question = null
      question.resolve({ finding: question.finding, unsteady: [] })
    }
    this.#fill()
  }
}
