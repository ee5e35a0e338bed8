import type { Terrain } from '../generation.ts'
import type { Op } from '../steps.ts'

/** What programs of one kind are made of. */
export interface Theme extends Omit<Terrain, 'locks'> {
  /** what it is about, for --help and reports */
  readonly about: string
  /** pages of the arena */
  readonly arenaPages: number
  /** how often each step occurs */
  readonly weights: Partial<Record<Op, number>>
  /** transparent huge pages for memory that asks for them */
  readonly thp?: true
  /** needs swap space */
  readonly swap?: true
  /** needs KSM */
  readonly ksm?: true
  /** free pages of 2 MiB it needs in the pool */
  readonly hugePages?: number
}
