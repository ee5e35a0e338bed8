import { asyncProperty, check } from 'fast-check'
import { ProgramArbitrary } from './program-arbitrary.ts'
import type { Program } from './program.ts'
import { isThemeName } from './themes.ts'

/** Whether a program still shows what is being looked for. */
export type StillFails = (program: Program) => Promise<boolean>

/**
 * The shortest program found that still fails, by fast-check's search over what `candidates` offers.
 * @param tries programs that may be run for it
 * @param patience ms after which what was found has to do: a program whose kernel has to be asked again and again
 * would hold up the whole run
 */
export async function shrink(
  program: Program,
  stillFails: StillFails,
  { tries = 400, patience = 90_000 } = {},
): Promise<Program> {
  let best = program
  let left = tries
  const end = performance.now() + patience
  let failure: { readonly error: unknown } | null = null
  // fast-check would take an error of ours for a program that fails
  const fails = async (candidate: Program): Promise<boolean> => {
    if (failure !== null || left-- <= 0 || performance.now() > end) return false
    try {
      return await stillFails(candidate)
    } catch (error) {
      failure = { error }
      return false
    }
  }
  const theme = isThemeName(program.theme) ? program.theme : 'basic'
  const property = asyncProperty(new ProgramArbitrary(theme, program.steps.length), async (candidate) => {
    // what is to be shortened is known to fail
    if (candidate !== program && !(await fails(candidate))) return true
    best = candidate
    return false
  })
  await check(property, { examples: [[program]], numRuns: 1, seed: 0 })
  if (failure !== null) throw (failure as { readonly error: unknown }).error
  return best
}
