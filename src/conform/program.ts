import { isOp, stepKind, type Step } from './steps.ts'
import { newWorld } from './world.ts'

/** Of programs in files and of what a seed means; raised when either changes. */
export const PROGRAM_FORMAT = 2
/** Formats that can still be read: 1 had other seeds and the same steps. */
const READABLE: readonly unknown[] = [1, PROGRAM_FORMAT]

export interface Program {
  readonly formatVersion: typeof PROGRAM_FORMAT
  /** which arena and which settings it needs: a key of `themes` */
  readonly theme: string
  readonly steps: readonly Step[]
}

/** A file that holds no program; the message is one line. */
export class ProgramError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ProgramError'
  }
}

/**
 * Reads a program back from JSON.
 * @throws ProgramError
 */
export function parseProgram(value: unknown): Program {
  if (typeof value !== 'object' || value === null) throw new ProgramError('not an object')
  const { formatVersion, theme, steps } = value as Record<string, unknown>
  if (!READABLE.includes(formatVersion))
    throw new ProgramError(
      `format version ${String(formatVersion)}; this pinscope reads ${READABLE.join(' and ')}`,
    )
  if (typeof theme !== 'string') throw new ProgramError('"theme" is missing')
  if (!Array.isArray(steps)) throw new ProgramError('"steps" is missing')
  steps.forEach((step: unknown, i) => checkStep(step, i))
  return { formatVersion: PROGRAM_FORMAT, theme, steps: steps as Step[] }
}

/** Fields that may be lists of ranges. */
const LISTS: ReadonlySet<string> = new Set(['buffers', 'local', 'remote'])

const NUMBER_LISTS: ReadonlySet<string> = new Set(['requests', 'places', 'nodes', 'restrictions'])

function isRange(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const { at, length } = value as Record<string, unknown>
  return Number.isSafeInteger(at) && Number.isSafeInteger(length)
}

function checkStep(step: unknown, i: number): void {
  const fail = (what: string): never => {
    throw new ProgramError(`step ${i}: ${what}`)
  }
  if (typeof step !== 'object' || step === null) return fail('not an object')
  const { op, by, ...rest } = step as Record<string, unknown>
  if (!isOp(op)) fail(`unknown op ${JSON.stringify(op)}`)
  if (!Number.isSafeInteger(by)) fail('"by" is not a number')
  for (const [key, field] of Object.entries(rest)) {
    if (LISTS.has(key) && Array.isArray(field)) {
      if (!field.every(isRange)) fail(`"${key}" is not a list of ranges`)
    } else if (NUMBER_LISTS.has(key) && field !== null) {
      if (!Array.isArray(field) || !field.every(Number.isSafeInteger))
        fail(`"${key}" is not a list of numbers`)
    } else if (key === 'buffers') fail('"buffers" is not a list')
    else if (field !== null && typeof field !== 'boolean' && !Number.isSafeInteger(field))
      fail(`"${key}" is not a number`)
  }
}

/**
 * Leaves out steps that cannot be run: those that refer to what does not exist at that point (a process that
 * was not forked or is gone, a descriptor nobody opened) and those that reach out of the arena.
 */
export function runnable(steps: readonly Step[]): Step[] {
  const world = newWorld()
  const used = new Set<string>()
  return steps.filter((step) => {
    const self = world.get(step.by)
    if (self === undefined) return false
    const { creates, follow } = stepKind(step.op)
    const name = creates?.(step)
    if (name !== undefined && used.has(name)) return false
    if (name !== undefined) used.add(name)
    return staysInArena(step) && (follow?.(world, self, step) ?? true)
  })
}

/** Whether a program changes what belongs to the whole machine, so that no other one may do so at the same time. */
export function isMachineWide({ steps }: Program): boolean {
  return steps.some((step) => stepKind(step.op).machineWide?.(step) ?? false)
}

/** Whether a program has steps that may cost a machine something for good. */
export function mayHarm({ steps }: Program): boolean {
  return steps.some((step) => stepKind(step.op).mayHarm === true)
}

/** Bytes past the last page of the smallest arena that ranges may reach into. */
const ROOM = 256 * 2 ** 20
/** Longer than user space: refused by some calls before they touch anything. */
const TOO_LONG = 2 ** 47

/**
 * Whether a step leaves alone what the acting process has outside of the arena: on a real kernel that is its
 * own code and stack.
 */
function staysInArena(step: Step): boolean {
  if (!('at' in step) || !('length' in step)) return true
  const { at, length } = step
  if (at < -ROOM || at > ROOM) return false
  // a negative length is one that wraps around
  return length <= ROOM || (stepKind(step.op).refusesTooLong === true && length >= TOO_LONG)
}
