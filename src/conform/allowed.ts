import { MADV_FREE } from '../mm/mman.ts'
import type { Difference } from './compare.ts'
import type { Program } from './program.ts'

/** One freedom the kernel takes, so that neither answer is wrong. Each is narrow; none covers a whole fact. */
export interface AllowedDifference {
  /** short name, shown with its count after a run */
  readonly id: string
  /** why the kernel may answer either way, and by which rule */
  readonly reason: string
  /** what follows from it differs as well: the program is not compared any further */
  readonly ends?: true
  /** @param step index of the step after which the difference was seen */
  readonly covers: (difference: Difference, program: Program, step: number) => boolean
}

/** All of them. */
export const allowedDifferences: readonly AllowedDifference[] = [
  {
    id: 'lazy-free-batch',
    reason:
      "MADV_FREE marks pages as lazily freeable (SWAPBACKED goes) when a per-CPU batch is drained, at a time of the kernel's own (R-AS-105, R-AG-9); nothing else shows it",
    covers: ({ what, page }, program, step) =>
      what === 'flags' &&
      page?.engine?.flags !== undefined &&
      page.kernel?.flags?.replace(' SWAPBACKED', '') === page.engine?.flags &&
      page.kernel.flags.includes('ANON') &&
      program.steps.slice(0, step + 1).some((each) => each.op === 'madvise' && each.advice === MADV_FREE),
  },
]

/** The freedom a difference falls under, null for a real difference. */
export function allowedBy(difference: Difference, program: Program, step: number): AllowedDifference | null {
  return allowedDifferences.find(({ covers }) => covers(difference, program, step)) ?? null
}
