import { compareRuns, type Comparison, type Finding } from './lockstep.ts'
import type { BothSides, Sides } from './sides.ts'
import type { Program } from './program.ts'

/** of one program, until what it shows is the same again and again */
export const MOST_RUNS = 12

/** runs in which a counter of the whole machine differs by the same number, so that it is the program's doing */
const ENOUGH = 4

/** What a program came to when nobody else counted. */
export interface Undisturbed {
  readonly comparison: Comparison
  /** differences in counters of the whole machine that another run did not show */
  readonly disturbances: readonly Finding[]
  /** of the first run */
  readonly both: BothSides
}

/**
 * Runs a program until each counter of the whole machine has agreed at each step at least once. What differs by
 * the same number again and again is a difference like any other; other people's numbers change. The engine has no such excuse: it must show the same in every run.
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
  const numbers = new Map<string, { readonly sentence: string; readonly times: number }>()
  let comparison = compareRuns(program, both.kernel, both.engine, agreed)
  for (let runs = 1; runs < MOST_RUNS && comparison.disturbed.length > 0; runs++) {
    const { disturbed } = comparison
    for (const finding of disturbed) {
      const { sentence } = finding.difference
      const before = numbers.get(counterOf(finding))
      const times = before?.sentence === sentence ? before.times + 1 : 1
      if (times === ENOUGH)
        return { comparison: { ...comparison, finding, steps: finding.step + 1 }, disturbances, both }
      numbers.set(counterOf(finding), { sentence, times })
    }
    const again = await sides.run(program, job)
    if (!sameEngine(again, both))
      return { comparison: { ...comparison, finding: fickle(disturbed[0]!) }, disturbances, both }
    comparison = compareRuns(program, again.kernel, again.engine, agreed)
    disturbances.push(...disturbed.filter((finding) => agreed.has(counterOf(finding))))
  }
  return { comparison, disturbances: [...disturbances, ...comparison.disturbed], both }
}

/** As `compareRuns` calls it. */
function counterOf({ step, difference }: Finding): string {
  return `${step} ${difference.what}`
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
