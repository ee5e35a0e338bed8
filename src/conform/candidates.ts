import { runnable, type Program } from './program.ts'
import type { Range } from './range.ts'
import type { Step } from './steps.ts'

/** How far the search for a shorter program has come. */
export interface Place {
  /** steps that are left out at once; 0: numbers are made smaller, in the step `at` */
  readonly size: number
  readonly at: number
  /** something was found since the search began from the start */
  readonly found: boolean
}

/** A program that is shorter or simpler, and where the search goes on when it fails like the one before. */
export interface Candidate {
  readonly program: Program
  readonly next: Place
}

/**
 * Simpler programs: steps are left out in ever smaller groups, then numbers are made smaller, over and over
 * until nothing helps any more.
 * @param from where to begin; null: from the start
 */
export function* candidates(program: Program, from: Place | null): Generator<Candidate> {
  const start = (found: boolean): Place => {
    const size = Math.ceil(program.steps.length / 2)
    return { size, at: program.steps.length - size, found }
  }
  let place = from ?? start(false)
  for (;;) {
    yield* leavingOut(program, place)
    yield* simplifying(program, place.size === 0 ? place.at : 0)
    if (!place.found) return
    place = start(false)
  }
}

function* leavingOut(program: Program, { size: largest, at: first }: Place): Generator<Candidate> {
  const { steps } = program
  for (let size = largest, at = first; size >= 1; size = Math.floor(size / 2), at = steps.length - size) {
    for (; at >= 0; at -= size) {
      if (at + size > steps.length) continue
      const left = [...steps.slice(0, at), ...steps.slice(at + size)]
      yield { program: withSteps(program, left), next: { size, at: at - size, found: true } }
    }
  }
}

function* simplifying(program: Program, first: number): Generator<Candidate> {
  for (const [i, step] of program.steps.entries()) {
    if (i < first) continue
    for (const simpler of simplerSteps(step))
      yield {
        program: withSteps(program, program.steps.with(i, simpler)),
        next: { size: 0, at: i, found: true },
      }
  }
}

function withSteps(program: Program, steps: readonly Step[]): Program {
  return { ...program, steps: runnable(steps) }
}

const NAMES = new Set([
  'by',
  'file',
  'ring',
  'child',
  'of',
  'pipe',
  'from',
  'opcode',
  'setup',
  'uffd',
  'gives',
  'copyMode',
  'request',
  'mode',
  'features',
])

/** The step with one number made simpler. */
function* simplerSteps(step: Step): Generator<Step> {
  for (const [key, field] of Object.entries(step)) {
    if (NAMES.has(key)) continue
    if (typeof field === 'number' && key !== 'flags' && key !== 'prot' && key !== 'advice') {
      for (const value of simplerNumbers(field)) yield { ...step, [key]: value } as Step
    }
    if (key === 'flags' && typeof field === 'number') {
      for (let bit = 4; bit < 25; bit++) {
        const mask = 2 ** bit
        if ((field & mask) !== 0 && mask !== 0x10 && mask !== 0x20)
          yield { ...step, flags: field - mask } as Step
      }
    }
    if (Array.isArray(field)) {
      if (field.length > 1 && typeof field[0] === 'number') {
        for (let j = 0; j < field.length; j++) yield { ...step, [key]: field.toSpliced(j, 1) } as Step
        continue
      }
      const ranges = field.filter((range) => typeof range === 'object') as Range[]
      for (const list of simplerLists(ranges)) yield { ...step, [key]: list } as Step
    }
  }
}

/** The list without one of its ranges, or with one that has a simpler place or length. */
function* simplerLists(ranges: readonly Range[]): Generator<readonly Range[]> {
  if (ranges.length > 1) for (let i = 0; i < ranges.length; i++) yield ranges.toSpliced(i, 1)
  for (const [i, range] of ranges.entries()) {
    for (const at of simplerNumbers(range.at)) yield ranges.with(i, { ...range, at })
    for (const length of simplerNumbers(range.length)) yield ranges.with(i, { ...range, length })
  }
}

function* simplerNumbers(n: number): Generator<number> {
  const page = 4096
  if (n > 0 && n % page !== 0) {
    yield Math.floor(n / page) * page
    yield Math.ceil(n / page) * page
  }
  if (n > page) {
    yield page
    yield Math.floor(n / 2 / page) * page
    yield n - page
  }
  if (n > 0) yield 0
}
