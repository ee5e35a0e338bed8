import type { CoverageGrain } from './rule-coverage.ts'
import type { RulePlace } from './rule-places.ts'

/** How many of the engine's rules a run came to. */
export interface RuleTally {
  readonly counted: CoverageGrain
  readonly reached: number
  readonly of: number
  /** the others, and where their tags stand: places of the engine */
  readonly unreached: ReadonlyMap<string, readonly RulePlace[]>
}

/** @param reached places that were come to, as indexes */
export function ruleTally(
  places: readonly RulePlace[],
  reached: ReadonlySet<number>,
  counted: CoverageGrain,
): RuleTally {
  const rules = new Map<string, RulePlace[]>()
  const met = new Set<string>()
  for (const [i, place] of places.entries()) {
    rules.set(place.rule, [...(rules.get(place.rule) ?? []), place])
    if (reached.has(i)) met.add(place.rule)
  }
  const unreached = new Map([...rules].filter(([rule]) => !met.has(rule)))
  return { counted, reached: met.size, of: rules.size, unreached }
}
