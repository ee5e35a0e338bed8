import { describe, expect, it } from 'vitest'
import { generate } from '../../src/conform/generate.ts'
import { PROGRAM_FORMAT, ProgramError, parseProgram, runnable } from '../../src/conform/program.ts'
import { stepText, type Step } from '../../src/conform/steps.ts'
import { themes, type ThemeName } from '../../src/conform/themes.ts'

const names = Object.keys(themes) as ThemeName[]

describe('programs', () => {
  it.each(names)('of theme %s are the same for the same seed, and survive JSON', (theme) => {
    const program = generate(7, theme, 40)
    expect(generate(7, theme, 40)).toEqual(program)
    expect(generate(8, theme, 40)).not.toEqual(program)
    expect(parseProgram(JSON.parse(JSON.stringify(program)))).toEqual(program)
  })

  it.each(names)('of theme %s use every step the theme has', (theme) => {
    const seen = new Set<string>()
    for (let seed = 0; seed < 60; seed++) for (const { op } of generate(seed, theme, 40).steps) seen.add(op)
    expect([...seen].sort()).toEqual(Object.keys(themes[theme].weights).sort())
  })

  it.each(names)('of theme %s can be read by people', (theme) => {
    for (const step of generate(3, theme, 40).steps)
      expect(stepText(step)).not.toMatch(/undefined|NaN|\[object/)
  })

  it('steps that refer to nothing are left out', () => {
    const steps: Step[] = [
      { by: 1, op: 'load', at: 0 },
      { by: 0, op: 'fork', child: 1 },
      { by: 1, op: 'load', at: 0 },
      { by: 0, op: 'ftruncate', file: 1, size: 0 },
      { by: 0, op: 'memfd', file: 1, size: 4096, seed: null },
      { by: 1, op: 'close', file: 1 },
      { by: 0, op: 'memfd', file: 1, size: 4096, seed: null },
      { by: 1, op: 'reap', child: 1 },
      { by: 0, op: 'reap', child: 1 },
      { by: 1, op: 'load', at: 0 },
      { by: 0, op: 'mem', of: 1, write: false, seed: 0, at: 0, length: 1 },
    ]
    expect(runnable(steps)).toEqual([steps[1], steps[2], steps[4], steps[8]])
  })

  it('steps that would reach the memory of the agent itself are left out', () => {
    const at = (op: 'munmap' | 'mlock', length: number): Step => ({ by: 0, op, at: 0, length })
    expect(
      runnable([at('munmap', 2 ** 46), at('munmap', 2 ** 47), at('mlock', 2 ** 47), at('mlock', -1)]),
    ).toEqual([at('munmap', 2 ** 47), at('mlock', -1)])
  })

  it.each([
    [null, 'not an object'],
    [{ formatVersion: 99, theme: 'basic', steps: [] }, 'format version 99'],
    [{ formatVersion: PROGRAM_FORMAT, steps: [] }, '"theme"'],
    [{ formatVersion: PROGRAM_FORMAT, theme: 'basic' }, '"steps"'],
    [
      { formatVersion: PROGRAM_FORMAT, theme: 'basic', steps: [{ op: 'jump', by: 0 }] },
      'step 0: unknown op "jump"',
    ],
    [
      { formatVersion: PROGRAM_FORMAT, theme: 'basic', steps: [{ op: 'load', by: 0, at: 'x' }] },
      '"at" is not a number',
    ],
  ])('a file with %j is refused', (value, message) => {
    expect(() => parseProgram(value)).toThrow(ProgramError)
    expect(() => parseProgram(value)).toThrow(message)
  })
})
