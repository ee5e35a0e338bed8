import { MADV_COLD, MADV_COLLAPSE, MADV_DONTNEED, MADV_WILLNEED } from '../../mm/mman.ts'
import { READ_IMPLIES_EXEC } from '../../mm/mman.ts'
import { setAnonVmaName } from '../../mm/vma-name.ts'
import { processMadvise } from '../../task/process-madvise.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, answer, call, counted, value } from '../engine-context.ts'
import type { Generation, Shadow } from '../generation.ts'
import { arenaAddress, arenaRange, bytesText, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'

/** What belongs to a whole process: its program, its personality; names of its memory; advice by others. */
export type ImageStep =
  | { readonly op: 'exec' }
  | ExecManyStep
  /** READ_IMPLIES_EXEC */
  | { readonly op: 'personality'; readonly implies: boolean }
  /** PR_SET_VMA_ANON_NAME; the name is a letter, 0 takes it away */
  | ({ readonly op: 'nameMemory'; readonly letter: number } & Range)
  /** process_madvise on oneself or a child */
  | {
      readonly op: 'adviseOther'
      readonly of: number
      readonly advice: number
      readonly flags: number
      readonly local: readonly Range[]
    }

/** exec with so many arguments of `length` letters and one of `last`, under a soft RLIMIT_STACK of `stack` bytes */
interface ExecManyStep {
  readonly op: 'execMany'
  readonly count: number
  readonly length: number
  readonly last: number
  readonly stack: number
}

const ADDR_NO_RANDOMIZE = 0x40000
const PR_SET_VMA = 0x53564d41

const advices = [MADV_COLD, MADV_COLD, MADV_WILLNEED, MADV_DONTNEED, 99]

export const imageSteps: StepKinds<ImageStep> = {
  exec: {
    make(_generation, process) {
      process.rings.length = 0
      process.heap = null
      return { op: 'exec' }
    },
    text: () => 'exec',
    commands: () => oneCommand('exec'),
    follow(_world, self) {
      // what becomes of a userfaultfd and of who serves it is another matter
      if (self.uffds.size > 0) return false
      self.rings.clear()
      self.heap = false
      return true
    },
    run(engine, self) {
      self.exec(engine.capabilities)
      return OK
    },
  },
  execMany: {
    make: makeExecMany,
    text: ({ count, length, last, stack }) =>
      `exec with ${count} arguments of ${length} letters and one of ${last}, RLIMIT_STACK = ${bytesText(stack)}`,
    commands: ({ count, length, last, stack }) => oneCommand(`exec ${count} ${length} ${last} ${stack}`),
    follow(_world, self, step) {
      if (![step.count, step.length, step.last].every((n) => n >= 0 && n <= MOST_LETTERS)) return false
      if (self.uffds.size > 0 || (step.stack < ROOMY_STACK && stringBytes(step) <= step.stack)) return false
      // refused or not: what an exec takes away is not named any more
      self.rings.clear()
      self.heap = false
      return true
    },
    run: (engine, self, { count, length, last, stack }) => {
      const argv = ['pinscope-agent', ...Array<string>(count).fill('x'.repeat(length)), 'x'.repeat(last)]
      return counted(self.execWith(argv, stack, engine.capabilities))
    },
  },
  personality: {
    make: ({ random }) => ({ op: 'personality', implies: random.chance(60) }),
    text: ({ implies }) => `READ_IMPLIES_EXEC ${implies ? 'on' : 'off'}`,
    commands: ({ implies }) =>
      oneCommand(`sys personality ${ADDR_NO_RANDOMIZE | (implies ? READ_IMPLIES_EXEC : 0)}`),
    answer: 'nothing',
    run(_engine, self, { implies }) {
      self.personality = implies ? READ_IMPLIES_EXEC : 0
      return OK
    },
  },
  nameMemory: {
    make: (generation) => ({
      op: 'nameMemory',
      ...generation.range(),
      letter: generation.random.pick([0, 65, 65, 66, 91]),
    }),
    text: (step) =>
      `name ${rangeText(step)} ${step.letter === 0 ? 'nothing' : String.fromCharCode(step.letter)}`,
    commands(step) {
      const name = step.letter === 0 ? '0' : '&0'
      return {
        lines: [`put 0 ${step.letter}`, `sys prctl ${PR_SET_VMA} 0 ${arenaRange(step)} ${name}`],
        result: 1,
        sum: -1,
      }
    },
    run(engine, self, { at, length, letter }) {
      const name = letter === 0 ? null : String.fromCharCode(letter)
      return call(engine, self, setAnonVmaName(engine.k, self.space, addressOf(engine, at), length, name))
    },
  },
  adviseOther: {
    make(generation, process) {
      const { random, processes } = generation
      const children = processes.filter(({ parent }) => parent === process.number)
      const of = children.length > 0 && random.chance(70) ? random.pick(children).number : process.number
      return {
        op: 'adviseOther',
        of,
        advice: random.pick(generation.large ? advices : [...advices, MADV_COLLAPSE]),
        flags: random.chance(97) ? 0 : 1,
        local: Array.from({ length: random.between(0, 3) }, () => generation.range()),
      }
    },
    text: ({ of, advice, flags, local }) =>
      `process_madvise p${of} advice ${advice} flags ${flags} [${local.map(rangeText).join(', ')}]`,
    commands({ by, of, advice, flags, local }) {
      const who = of === by ? '#self' : `#p${of}`
      const words = local.map(({ at, length }) => `${arenaAddress(at)} ${length}`).join(' ')
      return {
        lines: [
          `put 0 ${words === '' ? '0' : words}`,
          `sys pidfd_open ${who} 0`,
          'let pidfd',
          `sys process_madvise $pidfd &0 ${local.length} ${advice} ${flags}`,
          'sys close $pidfd',
        ],
        result: 3,
        sum: -1,
      }
    },
    follow: (world, _self, { by, of }) => of === by || world.get(of)?.parent === by,
    run(engine, self, { of, advice, flags, local }) {
      const target = engine.processes.get(of)
      if (target === undefined) return DANGLING
      const ranges = local.map(({ at, length }) => ({ base: addressOf(engine, at), length }))
      const what = { target, ranges, count: ranges.length, advice, flags }
      const result = self.run(processMadvise(engine.k, what))
      return result < 0 ? answer(engine, result) : value(result)
    },
  },
}

const KIB = 1024
/** With less, what fits may still be too much once the program is set up, which then is killed (R-EXE-7). */
const ROOMY_STACK = 256 * KIB
/** arguments, and letters of one of them, at most */
const MOST_LETTERS = KIB * KIB
/** bytes of what the other side passes beside: the path, the name and the one variable, each with its end */
const BESIDE = 3 * 15
const POINTER = 8

function stringBytes({ count, length, last }: ExecManyStep): number {
  return BESIDE + count * (length + 1) + last + 1
}

/** Mostly as much as just fits, or just does not (R-EXE-3). */
function makeExecMany({ random }: Generation, process: Shadow): ExecManyStep {
  process.rings.length = 0
  process.heap = null
  if (random.chance(12)) {
    // the stack is full before the limit is reached (R-EXE-7)
    const stack = KIB * random.pick([16, 64])
    const last = stack - BESIDE + random.pick([0, 1, 4096, 40_000])
    return { op: 'execMany', count: 0, length: 0, last, stack }
  }
  const length = random.pick([0, 1, 30, 4095, 4096, 60_000, 131_071, 131_072])
  // not too many of the short ones
  const stack = KIB * random.pick(length < 1000 ? [256, 512, 1024] : [256, 512, 1024, 8192, 65_536])
  const limit = Math.max(Math.min(Math.floor(stack / 4), 6 * KIB * KIB), 128 * KIB)
  // the name, the last one and the variable have pointers, too
  const room = limit - BESIDE - 3 * POINTER - 1
  const count = Math.max(0, Math.floor(room / (length + 1 + POINTER)) - random.pick([0, 0, 0, 1]))
  const left = room - count * (length + 1 + POINTER)
  const last = random.chance(85)
    ? Math.max(0, left + random.pick([-1, 0, 0, 1, 1, 2]))
    : random.pick([0, 131_071, 131_072])
  return { op: 'execMany', count, length, last, stack }
}
