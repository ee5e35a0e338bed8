/** The engine as another release, against that very kernel in QEMU. */
import { describe, expect, it } from 'vitest'
import { startGuestOracle } from '../../src/conform/guest-oracle.ts'
import { themesOff, type KernelOracle } from '../../src/conform/kernel-oracle.ts'
import { randomJobs } from '../../src/conform/job.ts'
import { ConformRun } from '../../src/conform/run.ts'
import { themes, type ThemeName } from '../../src/conform/themes.ts'
import { LocalWorker } from '../../src/conform/worker.ts'
import { HostError } from '../../src/host/host-error.ts'

describe('the engine against the kernel of a guest', () => {
  it('agrees on random programs on 6.12', { timeout: 180_000 }, async ({ skip }) => {
    if (process.env['PINSCOPE_GUESTS'] !== '1')
      return skip('PINSCOPE_GUESTS=1 boots Debian kernels, fetched the first time')
    const all = Object.keys(themes) as ThemeName[]
    let oracle: KernelOracle
    try {
      oracle = await startGuestOracle('6.12', all)
    } catch (error) {
      if (error instanceof HostError) return skip(error.message)
      throw error
    }
    try {
      expect(oracle.hello.release).toMatch(/^6\.12\./)
      const off = themesOff(oracle.hello, all)
      const jobs = randomJobs(
        40_000,
        20,
        all.filter((name) => !off.has(name)),
        20,
      )
      const { programs, steps, found, deaths } = await new ConformRun([new LocalWorker(oracle)]).run(jobs)
      expect(found.map(({ name, finding }) => `${name}: ${finding.difference.sentence}`)).toEqual([])
      expect(deaths).toEqual([])
      expect(programs).toBe(20)
      expect(steps).toBeGreaterThan(20 * 15)
    } finally {
      await oracle.stop()
    }
  })
})
