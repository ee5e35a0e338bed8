import type { NamedProgram } from './failure-file.ts'
import { generate } from './generate.ts'
import type { Program } from './program.ts'
import type { ThemeName } from './themes.ts'

/** A program to run: one that is at hand, or one that is made from a seed where it is run. */
export interface Job {
  /** place in the run: results are merged in this order */
  readonly index: number
  /** theme and seed, or the name in its file */
  readonly name: string
  readonly seed: number | null
  /** the file it was saved in as a difference: it is shown as it stands, and not shortened */
  readonly saved: string | null
  readonly program: Program | { readonly theme: ThemeName; readonly seed: number; readonly steps: number }
}

/** Random programs: seed, seed + 1, …, the themes in turn. */
export function* randomJobs(
  seed: number,
  steps: number,
  names: readonly ThemeName[],
  count: number,
): Generator<Job> {
  for (let index = 0; index < count; index++) {
    const theme = names[index % names.length]!
    const own = (seed + Math.floor(index / names.length)) % 2 ** 32
    const name = `${theme}-${own}`
    yield { index, name, seed: own, saved: null, program: { theme, seed: own, steps } }
  }
}

export function* namedJobs(
  programs: readonly (Omit<NamedProgram, 'saved'> & { readonly saved?: string | null })[],
): Generator<Job> {
  for (const [index, { name, program, saved = null }] of programs.entries())
    yield { index, name, seed: null, saved, program }
}

/** What a job is about. */
export function programOf({ program }: Job): Program {
  return 'formatVersion' in program ? program : generate(program.seed, program.theme, program.steps)
}
