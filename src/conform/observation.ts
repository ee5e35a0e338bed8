import type { Program } from './program.ts'

/**
 * What can be seen after a step, in one shape for both sides. Kernel and engine may differ in ids (frame
 * ids, file ids); `compare.ts` matches those up. `null` means: cannot be seen.
 */

/** How a step came out. */
export type Outcome =
  /** a count or an address; addresses inside the arena count from its start */
  | { readonly kind: 'value'; readonly value: number }
  /** an address outside the arena: where the two sides place things differs */
  | { readonly kind: 'outside' }
  | { readonly kind: 'errno'; readonly errno: number }
  | {
      readonly kind: 'signal'
      readonly signal: string
      readonly code: number
      readonly at: number
      readonly done: number
    }
  /** a reference that an earlier failure left empty */
  | { readonly kind: 'dangling' }

/** An io_uring completion: user_data and result. */
export type Completion = readonly [userData: number, result: number]

/** One mapping that overlaps the arena. Page numbers count from the arena's start. */
export interface MappingView {
  readonly first: number
  readonly end: number
  readonly perms: string
  /** pages */
  readonly offset: number
  /** an id of the observing side; 0 without a file */
  readonly file: number
  readonly name: string
  /** VmFlags mnemonics without `sd` */
  readonly flags: string
  /** kB */
  readonly rss: number
  readonly anonymous: number
  readonly huge: number
  readonly hugetlb: number
  readonly swap: number
}

/** Entries of the page table that are not none and look alike, so many in a row. */
export interface PageRun {
  readonly page: number
  readonly pages: number
  readonly present: boolean
  readonly swap: boolean
  readonly file: boolean
  readonly uffdWp: boolean
  readonly guard: boolean
  /** bit 56: mapped exactly once */
  readonly once: boolean
  /**
   * Frame id of the observing side, 0 zero page, -1 huge zero page, text for a marker; null: not visible.
   * Frames count on: of an id above 0 the second page has the next one, and so on.
   */
  readonly id: number | string | null
  /** names of kpageflags; null: not visible */
  readonly flags: string | null
  readonly mapCount: number | null
}

export interface ProcessView {
  readonly process: number
  readonly maps: readonly MappingView[]
  readonly pages: readonly PageRun[]
  /** kB, against the start of the program */
  readonly size: number
  readonly locked: number
  readonly pinned: number
  /** null: not exact on this kernel */
  readonly swap: number | null
  /** ring → registered buffers, `OFFSET/LENGTH` with the offset from the arena's start; null: not visible */
  readonly rings: Readonly<Record<number, readonly string[] | null>>
  /** userfaultfd events its thread answered during the step: `event flags page result` */
  readonly uffd: readonly string[]
}

/** Huge pages of 2 MiB on the whole machine. */
export interface HugePool {
  readonly free: number
  /** promised and not yet handed out; below zero while a pinned page is unmapped (R-HUGE-52) */
  readonly reserved: number
}

export interface Observation {
  readonly outcome: Outcome
  /** bytes loaded, added up; only for steps that load */
  readonly sum: number | null
  /** in their order; only for steps that take them */
  readonly completions: readonly Completion[] | null
  /** pin counters of the machine during the step; null: not visible */
  readonly acquired: number | null
  readonly released: number | null
  /** null: not looked at */
  readonly pool: HugePool | null
  /** the acting process first, then the others in order of their numbers */
  readonly processes: readonly ProcessView[]
}

/**
 * The engine cannot take part from here on: it has no model of the step, it broke, or the step does the
 * machine it runs on a harm that stays: then it is not run on the kernel either.
 */
export type Unanswerable =
  { readonly unmodelled: string } | { readonly broken: string } | { readonly harmful: string }

/** One side of the comparison: the engine or a kernel. */
export interface Driver {
  /** Runs a program from an empty arena; stops early after an `Unanswerable`. */
  run(program: Program): Promise<readonly (Observation | Unanswerable)[]>
}

/** Names of the kpageflags bits that are compared (R-AG-7), in the order of their numbers. */
export const PAGE_FLAG_BITS: readonly (readonly [bit: number, name: string])[] = [
  [11, 'MMAP'],
  [12, 'ANON'],
  [14, 'SWAPBACKED'],
  [15, 'HEAD'],
  [16, 'TAIL'],
  [17, 'HUGE'],
  [21, 'KSM'],
  [22, 'THP'],
  [24, 'ZERO'],
  [34, 'EXCLUSIVE'],
]

/** The id of the page `by` pages further on in a run. */
export function idAfter(id: PageRun['id'], by: number): PageRun['id'] {
  return typeof id === 'number' && id > 0 ? id + by : id
}

/** One page of a run. */
export function pageOfRun(run: PageRun, page: number): PageRun {
  return { ...run, page, pages: 1, id: idAfter(run.id, page - run.page) }
}
