import { PAGE_SIZE } from '../base/units.ts'

/** Of programs in files and of what a seed means; raised when either changes. */
export const PROGRAM_FORMAT = 1

/** A piece of user memory. Bytes; `at` counts from the start of the arena and may lie outside of it. */
export interface Range {
  readonly at: number
  readonly length: number
}

/**
 * One thing a process of a program does. Numbers are what the system call gets (PROT_*, MAP_*, …), addresses
 * are bytes from the start of the arena. Files, rings and processes are numbers of the program's own.
 */
export type Step = { readonly by: number } & StepBody

export type StepBody =
  | ({
      readonly op: 'mmap'
      readonly prot: number
      readonly flags: number
      /** null: fd -1 */
      readonly file: number | null
      /** bytes into the file */
      readonly offset: number
    } & Range)
  | ({ readonly op: 'munmap' } & Range)
  | ({ readonly op: 'mprotect'; readonly prot: number } & Range)
  | ({
      readonly op: 'mremap'
      readonly newLength: number
      readonly flags: number
      readonly to: number
    } & Range)
  | ({ readonly op: 'madvise'; readonly advice: number } & Range)
  | ({ readonly op: 'mlock' } & Range)
  | ({ readonly op: 'mlock2'; readonly flags: number } & Range)
  | ({ readonly op: 'munlock' } & Range)
  | ({ readonly op: 'mseal' } & Range)
  | { readonly op: 'mlockall'; readonly flags: number }
  | { readonly op: 'munlockall' }
  /** loads one byte */
  | { readonly op: 'load'; readonly at: number }
  /** one write fault: adds 0 to a byte */
  | { readonly op: 'touch'; readonly at: number }
  /** stores bytes made from the seed */
  | ({ readonly op: 'fill'; readonly seed: number } & Range)
  /** loads bytes and adds them up */
  | ({ readonly op: 'sum' } & Range)
  /** a memory file with content made from the seed, null: never written */
  | { readonly op: 'memfd'; readonly file: number; readonly size: number; readonly seed: number | null }
  /** a memory file of 2 MiB pages */
  | { readonly op: 'hugefd'; readonly file: number; readonly size: number }
  /** a file of the disk's filesystem, written and synced */
  | { readonly op: 'disk'; readonly file: number; readonly size: number; readonly seed: number }
  | { readonly op: 'close'; readonly file: number }
  | { readonly op: 'ftruncate'; readonly file: number; readonly size: number }
  | { readonly op: 'punch'; readonly file: number; readonly offset: number; readonly length: number }
  | { readonly op: 'fork'; readonly child: number }
  | { readonly op: 'reap'; readonly child: number }
  | { readonly op: 'ring'; readonly ring: number; readonly entries: number }
  | { readonly op: 'closeRing'; readonly ring: number }
  | { readonly op: 'register'; readonly ring: number; readonly buffers: readonly Range[] }
  | { readonly op: 'registerEmpty'; readonly ring: number; readonly slots: number }
  | {
      readonly op: 'update'
      readonly ring: number
      readonly slot: number
      readonly buffers: readonly Range[]
    }
  | { readonly op: 'unregister'; readonly ring: number }
  /** RLIMIT_MEMLOCK, soft */
  | { readonly op: 'memlock'; readonly bytes: number }
  /** CAP_IPC_LOCK in the effective set */
  | { readonly op: 'ipcLock'; readonly on: boolean }
  /** /proc/PID/mem of another process of the program, or of itself */
  | ({ readonly op: 'mem'; readonly of: number; readonly write: boolean; readonly seed: number } & Range)

export type Op = StepBody['op']

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

const ops: readonly Op[] = [
  'mmap',
  'munmap',
  'mprotect',
  'mremap',
  'madvise',
  'mlock',
  'mlock2',
  'munlock',
  'mseal',
  'mlockall',
  'munlockall',
  'load',
  'touch',
  'fill',
  'sum',
  'memfd',
  'hugefd',
  'disk',
  'close',
  'ftruncate',
  'punch',
  'fork',
  'reap',
  'ring',
  'closeRing',
  'register',
  'registerEmpty',
  'update',
  'unregister',
  'memlock',
  'ipcLock',
  'mem',
] as Op[]

/**
 * Reads a program back from JSON.
 * @throws ProgramError
 */
export function parseProgram(value: unknown): Program {
  if (typeof value !== 'object' || value === null) throw new ProgramError('not an object')
  const { formatVersion, theme, steps } = value as Record<string, unknown>
  if (formatVersion !== PROGRAM_FORMAT)
    throw new ProgramError(`format version ${String(formatVersion)}; this pinscope reads ${PROGRAM_FORMAT}`)
  if (typeof theme !== 'string') throw new ProgramError('"theme" is missing')
  if (!Array.isArray(steps)) throw new ProgramError('"steps" is missing')
  steps.forEach((step: unknown, i) => checkStep(step, i))
  return { formatVersion, theme, steps: steps as Step[] }
}

function checkStep(step: unknown, i: number): void {
  const fail = (what: string): never => {
    throw new ProgramError(`step ${i}: ${what}`)
  }
  if (typeof step !== 'object' || step === null) return fail('not an object')
  const { op, by, buffers, ...rest } = step as Record<string, unknown>
  if (!ops.includes(op as Op)) fail(`unknown op ${JSON.stringify(op)}`)
  if (!Number.isSafeInteger(by)) fail('"by" is not a number')
  for (const [key, field] of Object.entries(rest)) {
    if (field !== null && typeof field !== 'boolean' && !Number.isSafeInteger(field))
      fail(`"${key}" is not a number`)
  }
  if (buffers !== undefined && !Array.isArray(buffers)) fail('"buffers" is not a list')
}

/**
 * Leaves out steps that cannot be run: those that refer to what does not exist at that point (a process that
 * was not forked or is gone, a descriptor nobody opened) and those that reach out of the arena.
 */
export function runnable(steps: readonly Step[]): Step[] {
  const processes = new Map<number, Process>([[0, { parent: null, files: new Set(), rings: new Set() }]])
  const used = new Set<string>()
  return steps.filter((step) => {
    const self = processes.get(step.by)
    if (self === undefined) return false
    const name = newName(step)
    if (name !== null && used.has(name)) return false
    if (name !== null) used.add(name)
    if (!staysInArena(step)) return false
    return follow(processes, self, step)
  })
}

/** Bytes past the last page of the smallest arena that ranges may reach into. */
const ROOM = 256 * 2 ** 20
/** Longer than user space: refused by these calls before they touch anything. */
const TOO_LONG = 2 ** 47

/**
 * Whether a step leaves alone what the acting process has outside of the arena: on a real kernel that is its
 * own code and stack.
 */
function staysInArena(step: Step): boolean {
  if (!('at' in step) || !('length' in step)) return true
  const { at, length } = step
  if (at < -ROOM || at > ROOM) return false
  if (step.op === 'mmap' || step.op === 'munmap' || step.op === 'mremap')
    return length <= ROOM || length >= TOO_LONG
  // a negative length is one that wraps around
  return length <= ROOM
}

/** What a step makes a name for; names are used once in a program. */
function newName(step: Step): string | null {
  switch (step.op) {
    case 'memfd':
    case 'hugefd':
    case 'disk':
      return `file ${step.file}`
    case 'fork':
      return `process ${step.child}`
    case 'ring':
      return `ring ${step.ring}`
    default:
      return null
  }
}

interface Process {
  readonly parent: number | null
  readonly files: Set<number>
  readonly rings: Set<number>
}

/** Applies one step to what exists. @returns whether everything it names is there */
function follow(processes: Map<number, Process>, self: Process, step: Step): boolean {
  switch (step.op) {
    case 'mmap':
      return step.file === null || self.files.has(step.file)
    case 'memfd':
    case 'hugefd':
    case 'disk':
      self.files.add(step.file)
      return true
    case 'close':
      return self.files.delete(step.file)
    case 'ftruncate':
    case 'punch':
      return self.files.has(step.file)
    case 'fork': {
      const { files, rings } = self
      processes.set(step.child, { parent: step.by, files: new Set(files), rings: new Set(rings) })
      return true
    }
    case 'reap': {
      const child = processes.get(step.child)
      if (child === undefined || child.parent !== step.by) return false
      if ([...processes.values()].some(({ parent }) => parent === step.child)) return false
      processes.delete(step.child)
      return true
    }
    case 'ring':
      self.rings.add(step.ring)
      return true
    case 'closeRing':
      return self.rings.delete(step.ring)
    case 'register':
    case 'registerEmpty':
    case 'update':
    case 'unregister':
      return self.rings.has(step.ring)
    case 'mem':
      return step.of === step.by || processes.get(step.of)?.parent === step.by
    default:
      return true
  }
}

/** `@3`, `@3+100`, `@-1`: an address the way the agent and reports write it. */
export function arenaAddress(at: number): string {
  const page = Math.floor(at / PAGE_SIZE)
  const rest = at - page * PAGE_SIZE
  if (page < 0) return `@0-${-at}`
  return rest === 0 ? `@${page}` : `@${page}+${rest}`
}
