import type { ReleaseName } from '../base/release.ts'
import type { GuestSeries } from '../host/guest/kernel.ts'
import type { OracleHello } from '../host/oracle-reply.ts'
import type { Job } from './job.ts'
import type { Finding } from './lockstep.ts'
import type { CoverageGrain } from './rule-coverage.ts'
import type { Examination, ProgramResult } from './result.ts'
import type { ThemeName } from './themes.ts'

/** Which kernel a thread talks to. */
export interface ThreadTask {
  readonly kernel: 'host' | GuestSeries
  readonly themes: readonly ThemeName[]
  /** the processor of its agents; null: any */
  readonly cpu: number | null
  /** how closely is looked which tagged code of the engine is run */
  readonly coverage: CoverageGrain
}

/** What a thread has found to talk to. */
export interface OtherSide {
  readonly hello: OracleHello
  readonly release: ReleaseName
}

export type Time = { readonly engine: number; readonly kernel: number }

export type ToThread =
  | { readonly job: Job }
  | { readonly examine: ProgramResult; readonly finding: Finding }
  /** asks for `reached` */
  | { readonly reached: true }
  /** end the agents, then the thread */
  | { readonly stop: true }

export type FromThread =
  | { readonly ready: OtherSide }
  /** words of a shell line to be run when everything is over, however it ends */
  | { readonly atEnd: readonly string[] }
  /** index of the job whose program the engine begins, -1 for one of an examination; null: it has ended it */
  | { readonly engine: number | null }
  | { readonly result: ProgramResult; readonly time: Time }
  | { readonly examination: Examination; readonly time: Time }
  /** places of `enginePlaces()` that were come to since the last time */
  | { readonly reached: readonly number[] }
  /** the kernel's side cannot go on: one line */
  | { readonly failed: string }
