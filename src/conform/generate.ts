import { sample } from 'fast-check'
import { ProgramArbitrary } from './program-arbitrary.ts'
import type { Program } from './program.ts'
import type { ThemeName } from './themes.ts'

/**
 * A program made from a seed: the same seed, theme and length always give the same steps, within one
 * `PROGRAM_FORMAT`.
 * @param seed 32 bits
 */
export function generate(seed: number, theme: ThemeName, count: number): Program {
  return sample(new ProgramArbitrary(theme, count), { seed, numRuns: 1 })[0]!
}
