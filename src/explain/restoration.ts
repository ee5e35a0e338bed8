import type { ReleaseName } from '../base/release.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import { UnseenProcess } from './unseen-process.ts'

/** What nobody can see and an answer may hang on; `settle` tries each both ways. */
export interface Guesses {
  /** 2 MiB of resident memory that may be one huge page are one */
  readonly hugePages: boolean
  /** files that may be on fs-DAX are */
  readonly dax: boolean
}

export type Doubt = keyof Guesses

/** Bytes [start, end). */
export interface Window {
  readonly start: number
  readonly end: number
}

/** A process being rebuilt: where it is put, what is guessed on the way, and what the guesses were. */
export class Restoration {
  readonly kernel: Kernel
  readonly mm: Mm
  readonly release: ReleaseName
  readonly guesses: Guesses
  /** the request's range */
  readonly range: Window
  /** whoever else maps the pages */
  readonly others: UnseenProcess
  readonly #assumptions = new Set<string>()
  readonly #doubts = new Set<Doubt>()

  constructor(kernel: Kernel, mm: Mm, release: ReleaseName, range: Window, guesses: Guesses) {
    this.kernel = kernel
    this.mm = mm
    this.release = release
    this.range = range
    this.guesses = guesses
    this.others = new UnseenProcess(kernel)
  }

  /** Notes what the answer takes for granted. */
  assume(assumption: string): void {
    this.#assumptions.add(assumption)
  }

  /** Notes that a guess was needed in the range. */
  doubt(doubt: Doubt): void {
    this.#doubts.add(doubt)
  }

  inRange({ start, end }: Window): boolean {
    return start < this.range.end && this.range.start < end
  }

  get assumptions(): readonly string[] {
    return [...this.#assumptions]
  }

  get doubts(): readonly Doubt[] {
    return [...this.#doubts]
  }
}

/** `restore` sizes memory for the range and its copies, so this is a bug of ours. */
export function machineTooSmall(): Error {
  return new Error('the restored machine is too small for its own snapshot')
}
