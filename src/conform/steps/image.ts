import { MADV_COLD, MADV_COLLAPSE, MADV_DONTNEED, MADV_WILLNEED } from '../../mm/mman.ts'
import { READ_IMPLIES_EXEC } from '../../mm/mman.ts'
import { setAnonVmaName } from '../../mm/vma-name.ts'
import { processMadvise } from '../../task/process-madvise.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, answer, call, value } from '../engine-context.ts'
import { arenaAddress, arenaRange, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'

/** What belongs to a whole process: its program, its personality; names of its memory; advice by others. */
export type ImageStep =
  | { readonly op: 'exec' }
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
