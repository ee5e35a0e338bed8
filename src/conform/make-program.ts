import { Generation, type Shadow } from './generation.ts'
import { PROGRAM_FORMAT, runnable, type Program } from './program.ts'
import type { Random } from './random.ts'
import { stepKind, type Op, type Step } from './steps.ts'
import { makeMmap } from './steps/space.ts'
import { themeOf, type Theme, type ThemeName } from './themes.ts'

/** Steps that make something to work on; where a theme has them, they mostly come first. */
const OPENING = [
  'memfd',
  'disk',
  'direct',
  'hugefd',
  'ring',
  'ringWith',
  'pipe',
  'uffd',
] as const satisfies readonly Op[]

/** Makes up a program. */
export function makeProgram(random: Random, theme: ThemeName, count: number): Program {
  return { formatVersion: PROGRAM_FORMAT, theme, steps: runnable(makeSteps(random, themeOf(theme), count)) }
}

function makeSteps(random: Random, theme: Theme, count: number): Step[] {
  const generation = new Generation(random, { ...theme, locks: theme.weights.mlock !== undefined })
  const steps: Step[] = []
  const push = (process: Shadow, op: Op): void => {
    const body = stepKind(op).make(generation, process)
    if (body !== null) steps.push({ by: process.number, ...body })
  }
  const first = generation.processes[0]!
  for (const op of OPENING) if (theme.weights[op] !== undefined && random.chance(70)) push(first, op)
  for (let i = random.between(1, 3); i > 0; i--) steps.push({ by: 0, ...makeMmap(generation, first, true) })
  // and something to transfer to
  if (theme.weights.registerTags !== undefined && random.chance(60)) push(first, 'registerTags')
  while (steps.length < count) {
    const process = random.chance(60) ? first : random.pick(generation.processes)
    push(process, random.weighted<Op>(theme.weights))
  }
  return steps
}
