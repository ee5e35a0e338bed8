/** What a run finds does not hang on how many workers it has, and what it saves shows the same again. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readPrograms, saveFailure } from '../../src/conform/failure-file.ts'
import { openHostOracle } from '../../src/conform/host-oracle.ts'
import { namedJobs, randomJobs } from '../../src/conform/job.ts'
import type { KernelOracle } from '../../src/conform/kernel-oracle.ts'
import { ConformRun, type RunSummary } from '../../src/conform/run.ts'
import type { OracleSource } from '../../src/conform/sides.ts'
import { LocalWorker } from '../../src/conform/worker.ts'
import { HostError } from '../../src/host/host-error.ts'
import { run as command } from '../cli/run.ts'

/** ms; runs of other people may be on this machine too */
const timeout = 180_000
/** the machine's settings stay as they are: these programs do not depend on them */
const nothingAtEnd = { atEnd: () => {} }
const directory = mkdtempSync(path.join(tmpdir(), 'pinscope-test-'))
const oracles: KernelOracle[] = []
let why = ''

beforeAll(async () => {
  try {
    for (let i = 0; i < 2; i++) oracles.push(await openHostOracle(nothingAtEnd, null))
    if (!oracles[0]!.hello.release.startsWith('6.18.'))
      why = `this is Linux ${oracles[0]!.hello.release}, not 6.18`
  } catch (error) {
    if (!(error instanceof HostError)) throw error
    why = error.message
  }
})
afterAll(async () => {
  await Promise.all(oracles.map((oracle) => oracle.stop()))
  rmSync(directory, { recursive: true })
})

/** An engine with bugs: it does what another release did. */
function wrong(oracle: KernelOracle): OracleSource {
  return {
    of: async (theme) => {
      const own = await oracle.of(theme)
      return { ...own, setup: { ...own.setup, release: '6.1' } }
    },
  }
}

const programs = (): ReturnType<typeof randomJobs> => randomJobs(31, 40, ['space', 'basic'], 40)

/** What a run says about its programs. */
function outcome(summary: RunSummary): unknown {
  return {
    programs: summary.programs,
    steps: summary.steps,
    differing: summary.differing,
    found: summary.found.map(({ name, seed, examined, programs: same, finding }) => ({
      name,
      seed,
      examined,
      same,
      step: finding.step,
      difference: finding.difference.sentence,
      program: finding.program,
    })),
    unmodelled: summary.unmodelled,
    answers: summary.answers,
    refusals: [...summary.refusals].sort(),
  }
}

describe('a wrong engine', () => {
  it(
    'shows the same differences to one worker and to two, and the saved ones again',
    { timeout },
    async ({ skip }) => {
      if (why !== '') return skip(why)
      const [one, two] = oracles.map((oracle) => new LocalWorker(wrong(oracle)))
      const alone = await new ConformRun([one!]).run(programs())
      expect(alone.found.length).toBeGreaterThan(1)
      expect(alone.unsteady.filter(({ machineWide }) => !machineWide)).toEqual([])
      const together = await new ConformRun([one!, two!]).run(programs())
      expect(outcome(together)).toEqual(outcome(alone))

      for (const { name, seed, finding } of alone.found) {
        const file = saveFailure(directory, name, seed, finding)
        const saved = readPrograms(file)
        expect(saved).toEqual([{ name, program: finding.program, saved: file }])
        const again = await new ConformRun([two!]).run(namedJobs(saved))
        expect(again.found.map((found) => found.finding)).toEqual([finding])
        // the engine as it is has none of these bugs
        const right = await new ConformRun([new LocalWorker(oracles[0]!)]).run(namedJobs(saved))
        expect([right.programs, right.differing]).toEqual([1, 0])
      }
      const file = path.join(directory, `${alone.found[0]!.name}.json`)
      const { code, stdout } = await command(['conform', '--replay', file, '--json'])
      const steps = alone.found[0]!.finding.program.steps.length
      expect(JSON.parse(stdout)).toMatchObject({ seed: null, programs: 1, steps, differences: 0 })
      expect(code).toBe(0)
    },
  )
})
