import { runnable, type Program } from './program.ts'
import type { Range } from './range.ts'
import type { Step } from './steps.ts'

/** Whether a program still shows what is being looked for. */
export type StillFails = (program: Program) => Promise<boolean>

/**
 * The shortest program found that still fails: steps are left out in ever smaller groups, then numbers are
 * made smaller, until nothing helps any more.
 * @param tries programs that may be run for it
 */
export async function shrink(program: Program, stillFails: StillFails, tries = 600): Promise<Program> {
  let best = program
  let left = tries
  const attempt = async (steps: readonly Step[]): Promise<boolean> => {
    if (left <= 0) return false
    left--
    const candidate = { ...best, steps: runnable(steps) }
    if (!(await stillFails(candidate))) return false
    best = candidate
    return true
  }
  for (let before = -1; before !== JSON.stringify(best).length && left > 0;) {
    before = JSON.stringify(best).length
    for (let size = Math.ceil(best.steps.length / 2); size >= 1; size = Math.floor(size / 2)) {
      for (let at = best.steps.length - size; at >= 0; at -= size) {
        const { steps } = best
        if (at + size <= steps.length) await attempt([...steps.slice(0, at), ...steps.slice(at + size)])
      }
    }
    for (let i = 0; i < best.steps.length; i++) {
      for (const simpler of simplerSteps(best.steps[i]!)) {
        const steps = [...best.steps]
        steps[i] = simpler
        if (await attempt(steps)) i = Math.max(-1, i - 1)
        if (best.steps[i] === simpler) break
      }
    }
  }
  return best
}

const NAMES = new Set(['by', 'file', 'ring', 'child', 'of', 'pipe'])

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
      const ranges = field as readonly Range[]
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
