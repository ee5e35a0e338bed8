import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { candidates, type Candidate, type Place } from '../../src/conform/candidates.ts'
import { EngineDriver } from '../../src/conform/engine-driver.ts'
import { generate } from '../../src/conform/generate.ts'
import { ProgramArbitrary } from '../../src/conform/program-arbitrary.ts'
import { PROGRAM_FORMAT, parseProgram, runnable } from '../../src/conform/program.ts'
import { engineSetup } from './setup.ts'

describe('ProgramArbitrary', () => {
  it('makes programs that can be run, for any property', () => {
    fc.assert(
      fc.property(new ProgramArbitrary('fork-pins', 30), (program) => {
        expect(runnable(program.steps)).toEqual(program.steps)
        expect(parseProgram(JSON.parse(JSON.stringify(program)))).toEqual(program)
      }),
      { numRuns: 50 },
    )
  })

  it('is shortened by fast-check to what a property does not hold for', () => {
    const forks = fc.property(
      new ProgramArbitrary('fork', 40),
      ({ steps }) => steps.filter(({ op }) => op === 'fork').length < 2,
    )
    const { failed, counterexample } = fc.check(forks, { seed: 5 })
    expect(failed).toBe(true)
    expect(counterexample![0].steps.map(({ op }) => op)).toEqual(['fork', 'fork'])
  })

  it('offers only programs that can be run, and comes to an end', () => {
    let program = generate(3, 'limits', 40)
    let place: Place | null = null
    for (let accepted = 0; ; accepted++) {
      const offered: readonly Candidate[] = [...candidates(program, place)]
      for (const each of offered) expect(runnable(each.program.steps)).toEqual(each.program.steps)
      const last = offered.at(-1)
      // always the last one: the search has to get past everything
      if (last === undefined || last.program.steps.length === 0) return
      expect(accepted).toBeLessThan(2000)
      program = last.program
      place = last.next
    }
  })

  it('a property about the engine: it shows the same when it runs a program again', () => {
    const driver = new EngineDriver(engineSetup)
    fc.assert(
      fc.property(new ProgramArbitrary('pins', 25), (program) => {
        expect(driver.runNow(program)).toEqual(driver.runNow(program))
      }),
      { numRuns: 25 },
    )
  })
})

describe('a seed', () => {
  it('means the same program as long as PROGRAM_FORMAT is the same: raise it when this changes', () => {
    const { formatVersion, steps } = generate(7, 'basic', 4)
    expect(formatVersion).toBe(PROGRAM_FORMAT)
    const mmap = (at: number, length: number) =>
      ({ by: 0, op: 'mmap', at, length, prot: 3, flags: 0x32, file: null, offset: 0 }) as const
    expect(steps).toEqual([
      mmap(0, 20480),
      mmap(0, 16384),
      mmap(8192, 40960),
      { by: 0, op: 'load', at: 60900 },
    ])
  })
})
