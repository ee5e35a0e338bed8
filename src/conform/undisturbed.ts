import { compareRuns, type Comparison, type Finding } from './lockstep.ts'
import type { BothSides, Sides } from './sides.ts'
import type { Program } from './program.ts'

/** of one program, until what it shows is the same again and again */
export const MOST_RUNS = 12

/** What a program came to when nobody else counted. */
export interface Undisturbed {
  readonly comparison: Comparison
  /** differences in counters of the whole machine that another run did not show */
  readonly disturbances: readonly Finding[]
  /** of the first run */
  readonly both: BothSides
}

/**
 * Runs a program until each counter of the whole machine has agreed at each step at least once; one that never
 * does is a difference like any other. The engine has no such excuse: it must show the same in every run.
 * @param first a run that has been made
 * @throws AgentDied
 */
export async function undisturbed(
  sides: Sides,
  program: Program,
  job: number,
  first: BothSides | null = null,
): Promise<Undisturbed> {
  const both = first ?? (await sides.run(program, job))
  const agreed = new Set<string>()
  const disturbances: Finding[] = []
  let comparison = compareRuns(program, both.kernel, both.engine, agreed)
  for (let runs = 1; runs < MOST_RUNS && comparison.disturbed.length > 0; runs++) {
    const { disturbed } = comparison
    const again = await sides.run(program, job)
    if (!sameEngine(again, both))
      return { comparison: { ...comparison, finding: fickle(disturbed[0]!) }, disturbances, both }
    comparison = compareRuns(program, again.kernel, again.engine, agreed)
    disturbances.push(...disturbed.filter(({ step, difference }) => agreed.has(`${step} ${difference.what}`)))
  }
  const [finding] = comparison.disturbed
  const result = finding === undefined ? comparison : { ...comparison, finding, steps: finding.step + 1 }
  return { comparison: result, disturbances, both }
}

function sameEngine(a: BothSides, b: BothSides): boolean {
  return JSON.stringify(a.engine) === JSON.stringify(b.engine)
}

/** The engine did not show the same twice: that is the difference, whatever it was before. */
export function fickle(finding: Finding): Finding {
  return {
    ...finding,
    difference: {
      fact: "the engine's own books",
      what: 'not the same twice',
      sentence: `the engine does not show the same when it runs the program again (before: ${finding.difference.sentence})`,
      process: null,
      page: null,
    },
  }
}
