import { describe, expect, it } from 'vitest'
import { EngineDriver } from '../../src/conform/engine-driver.ts'
import { compareRuns, type Finding } from '../../src/conform/lockstep.ts'
import type { Observation } from '../../src/conform/observation.ts'
import { PROGRAM_FORMAT, type Program } from '../../src/conform/program.ts'
import { nothingOf, type Examination, type ProgramResult } from '../../src/conform/result.ts'
import { ConformRun } from '../../src/conform/run.ts'
import type { JobSource, Worker } from '../../src/conform/worker.ts'
import { namedJobs, type Job } from '../../src/conform/job.ts'
import { engineSetup } from './setup.ts'

const program: Program = {
  formatVersion: PROGRAM_FORMAT,
  theme: 'basic',
  steps: [
    { by: 0, op: 'mmap', at: 0, length: 8192, prot: 3, flags: 0x32, file: null, offset: 0 },
    { by: 0, op: 'munlock', at: 0, length: 0 },
  ],
}

/** A kernel that answers ENOMEM at a step. */
function findingAt(step: number): Finding {
  const engine = new EngineDriver(engineSetup).runNow(program) as Observation[]
  const kernel = engine.with(step, { ...engine[step]!, outcome: { kind: 'errno', errno: 12 } })
  return compareRuns(program, kernel, engine).finding!
}

/** A worker that answers some jobs, in an order of its own, and never ends an examination. */
class SlowWorker implements Worker {
  readonly time = { engine: 1, kernel: 2 }
  readonly #answers: ReadonlyMap<string, Partial<ProgramResult>>
  readonly #order: readonly string[]

  constructor(answers: ReadonlyMap<string, Partial<ProgramResult>>, order: readonly string[]) {
    this.#answers = answers
    this.#order = order
  }

  work(jobs: JobSource, done: (result: ProgramResult) => void): Promise<void> {
    const given: Job[] = []
    for (let job; (job = jobs.poll()) !== null;) given.push(job)
    for (const name of this.#order) {
      const job = given.find((each) => each.name === name)!
      done({ ...nothingOf(job), steps: 2, ...this.#answers.get(name) })
    }
    return new Promise(() => {})
  }

  examine(): Promise<Examination> {
    return new Promise(() => {})
  }
}

describe('a run that is abandoned', () => {
  it('keeps what was found, also what was being looked into and what came early', async () => {
    const names = ['a', 'b', 'c', 'd', 'e']
    const answers = new Map([
      ['b', { finding: findingAt(0) }],
      ['c', { finding: findingAt(0) }],
      ['e', { finding: findingAt(1) }],
    ])
    const found: string[] = []
    // d never ends
    const worker = new SlowWorker(answers, ['a', 'b', 'e', 'c'])
    const run = new ConformRun([worker], { onFound: ({ name }) => void found.push(name) })
    void run.run(namedJobs(names.map((name) => ({ name, program }))))
    await new Promise((resolve) => setImmediate(resolve))
    expect(run.summary).toMatchObject({ programs: 2, differing: 0 })

    const summary = run.abandon()
    expect(summary).toMatchObject({ programs: 4, steps: 8, differing: 3, time: { engine: 1, kernel: 2 } })
    expect(summary.found.map(({ name, examined, programs }) => ({ name, examined, programs }))).toEqual([
      { name: 'b', examined: false, programs: 2 },
      { name: 'e', examined: false, programs: 1 },
    ])
    expect(found).toEqual(['b', 'e'])
    expect(run.abandon()).toBe(summary)
    expect(summary.programs).toBe(4)
  })
})
