import { readdirSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readPrograms } from '../../src/conform/failure-file.ts'
import { startHostOracle } from '../../src/conform/host-oracle.ts'
import { themesOff, type KernelOracle } from '../../src/conform/kernel-oracle.ts'
import { namedJobs, randomJobs } from '../../src/conform/job.ts'
import { ConformRun, type RunSummary } from '../../src/conform/run.ts'
import { isThemeName, themes, type ThemeName } from '../../src/conform/themes.ts'
import { LocalWorker } from '../../src/conform/worker.ts'
import { HostError } from '../../src/host/host-error.ts'

/** ms; runs of other people may be on this machine too */
const timeout = 120_000
const corpora = path.join(import.meta.dirname, '..', 'conformance')
let oracle: KernelOracle | null = null
let why = ''

beforeAll(async () => {
  try {
    oracle = await startHostOracle(Object.keys(themes) as ThemeName[])
    if (!oracle.hello.release.startsWith('6.18.')) why = `this is Linux ${oracle.hello.release}, not 6.18`
  } catch (error) {
    if (!(error instanceof HostError)) throw error
    why = error.message
  }
})
afterAll(() => oracle?.stop())

/** What differed, in words, so that a failure of the test says it. */
function differences(summary: RunSummary): string[] {
  return summary.found.map(
    ({ name, finding }) => `${name} step ${finding.step}: ${finding.difference.sentence}`,
  )
}

describe('the engine against the kernel of this machine', () => {
  it.for(readdirSync(corpora))('agrees on every program of %s', { timeout }, async (file, { skip }) => {
    if (oracle === null || why !== '') return skip(why)
    const programs = readPrograms(path.join(corpora, file))
    const named = programs.map(({ program }) => program.theme).filter(isThemeName)
    const [off] = themesOff(oracle.hello, named)
    if (off !== undefined) return skip(off.join(': '))
    const summary = await new ConformRun([new LocalWorker(oracle)]).run(namedJobs(programs))
    expect(differences(summary)).toEqual([])
    expect(summary.programs).toBe(programs.length)
  })

  it('agrees on random programs of every theme', { timeout }, async ({ skip }) => {
    if (oracle === null || why !== '') return skip(why)
    const all = Object.keys(themes) as ThemeName[]
    const off = themesOff(oracle.hello, all)
    const on = all.filter((name) => !off.has(name))
    const summary = await new ConformRun([new LocalWorker(oracle)]).run(randomJobs(20_000, 40, on, 110))
    expect(differences(summary)).toEqual([])
    expect(summary.steps).toBeGreaterThan(110 * 30)
  })

  it(
    'would find an engine that is wrong: one that behaves like another release',
    { timeout },
    async ({ skip }) => {
      if (oracle === null || why !== '') return skip(why)
      const { agent, setup } = await oracle.of('space')
      const wrong = { agent, framesVisible: true, setup: { ...setup, release: '6.1' as const } }
      const summary = await new ConformRun([new LocalWorker({ of: () => Promise.resolve(wrong) })]).run(
        randomJobs(1, 40, ['space'], 40),
      )
      const [found] = summary.found
      expect(summary.differing).toBeGreaterThan(0)
      expect(found?.finding.program.steps.length).toBeLessThan(10)
    },
  )
})
