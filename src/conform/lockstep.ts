import { allowedBy } from './allowed.ts'
import { Correspondence, type Difference, type Fact } from './compare.ts'
import type { Observation, Unanswerable } from './observation.ts'
import type { Program } from './program.ts'

/** The two sides after the step at which they first differ. */
export interface Finding {
  readonly program: Program
  /** index of the step */
  readonly step: number
  readonly difference: Difference
  readonly kernel: Observation
  /** null: the engine broke */
  readonly engine: Observation | null
}

/** How one program went. */
export interface Comparison {
  readonly finding: Finding | null
  /** differences in counters of the whole machine, where no run so far has agreed */
  readonly disturbed: readonly Finding[]
  /** steps compared */
  readonly steps: number
  /** why the engine stopped, or was stopped before a harmful step; null when it went to the end */
  readonly unmodelled: string | null
  /** freedoms of the kernel that were used: their ids */
  readonly allowed: ReadonlySet<string>
  readonly facts: ReadonlySet<Fact>
}

/**
 * Compares what both sides showed, step by step, up to the first difference. Counters of the whole machine do
 * not end it: whoever else counts there disturbs one run of a program, and hardly the next one at the same step.
 * @param agreed counters (step and name) that an earlier run of the program agreed in; takes those of this run
 */
export function compareRuns(
  program: Program,
  kernel: readonly Observation[],
  engine: readonly (Observation | Unanswerable)[],
  agreed = new Set<string>(),
): Comparison {
  const pairs = new Correspondence()
  const allowed = new Set<string>()
  const disturbed: Finding[] = []
  const ended = (steps: number, rest: Partial<Comparison>): Comparison => ({
    finding: null,
    disturbed,
    steps,
    unmodelled: null,
    allowed,
    facts: pairs.seen,
    ...rest,
  })
  for (const [i, theirs] of kernel.entries()) {
    const ours = engine[i]
    if (ours === undefined) return ended(i, {})
    if ('broken' in ours) return ended(i, { finding: broken(program, i, theirs, ours.broken) })
    if ('unmodelled' in ours) return ended(i, { unmodelled: ours.unmodelled })
    if ('harmful' in ours) return ended(i, { unmodelled: ours.harmful })
    const counters = new Set(MACHINE_WIDE.map((what) => `${i} ${what}`))
    for (const difference of pairs.differences(theirs, ours)) {
      const finding = { program, step: i, difference, kernel: theirs, engine: ours }
      const freedom = allowedBy(difference, program, i)
      if (freedom === null && isMachineWide(difference)) {
        const counter = `${i} ${difference.what}`
        counters.delete(counter)
        if (!agreed.has(counter)) disturbed.push(finding)
        continue
      }
      if (freedom === null) return ended(i + 1, { finding })
      allowed.add(freedom.id)
      if (freedom.ends) return ended(i + 1, {})
    }
    for (const counter of counters) agreed.add(counter)
  }
  pairs.seen.add("the engine's own books")
  const last = engine[kernel.length]
  if (last !== undefined && 'harmful' in last) return ended(kernel.length, { unmodelled: last.harmful })
  if (last !== undefined && 'broken' in last)
    return ended(kernel.length, { finding: broken(program, kernel.length - 1, kernel.at(-1)!, last.broken) })
  return ended(kernel.length, {})
}

/** `what` of differences in counters that other processes change as well */
const MACHINE_WIDE = ['acquired', 'released', 'free', 'reserved']

export function isMachineWide({ fact }: Difference): boolean {
  return fact === 'pin counters' || fact === 'the pool of huge pages'
}

function broken(program: Program, step: number, kernel: Observation, why: string): Finding {
  const what = why.split('\n', 2).join(' ').replaceAll(/\d+/g, 'N')
  const difference: Difference = {
    fact: "the engine's own books",
    what,
    sentence: why,
    process: null,
    page: null,
  }
  return { program, step, difference, kernel, engine: null }
}
