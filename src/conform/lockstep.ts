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
  /** steps compared */
  readonly steps: number
  /** why the engine stopped, or was stopped before a harmful step; null when it went to the end */
  readonly unmodelled: string | null
  /** freedoms of the kernel that were used: their ids */
  readonly allowed: ReadonlySet<string>
  readonly facts: ReadonlySet<Fact>
}

/** Compares what both sides showed, step by step, up to the first difference. */
export function compareRuns(
  program: Program,
  kernel: readonly Observation[],
  engine: readonly (Observation | Unanswerable)[],
): Comparison {
  const pairs = new Correspondence()
  const allowed = new Set<string>()
  const ended = (steps: number, rest: Partial<Comparison>): Comparison => ({
    finding: null,
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
    for (const difference of pairs.differences(theirs, ours)) {
      const freedom = allowedBy(difference, program, i)
      if (freedom === null)
        return ended(i + 1, { finding: { program, step: i, difference, kernel: theirs, engine: ours } })
      allowed.add(freedom.id)
      if (freedom.ends) return ended(i + 1, {})
    }
  }
  pairs.seen.add("the engine's own books")
  const last = engine[kernel.length]
  if (last !== undefined && 'harmful' in last) return ended(kernel.length, { unmodelled: last.harmful })
  if (last !== undefined && 'broken' in last)
    return ended(kernel.length, { finding: broken(program, kernel.length - 1, kernel.at(-1)!, last.broken) })
  return ended(kernel.length, {})
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
