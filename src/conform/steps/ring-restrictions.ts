import * as setup from '../../io_uring/setup-flags.ts'
import {
  IORING_OP_NOP,
  IORING_OP_READ,
  IORING_OP_READ_FIXED,
  IORING_OP_WRITE,
  IORING_OP_WRITE_FIXED,
  IOSQE_BUFFER_SELECT,
  IOSQE_CQE_SKIP_SUCCESS,
} from '../../io_uring/request.ts'
import {
  IORING_REGISTER_BUFFERS,
  IORING_REGISTER_BUFFERS2,
  IORING_REGISTER_BUFFERS_UPDATE,
  IORING_REGISTER_ENABLE_RINGS,
  IORING_REGISTER_PBUF_RING,
  IORING_REGISTER_RESTRICTIONS,
  IORING_UNREGISTER_BUFFERS,
  IORING_UNREGISTER_PBUF_RING,
} from '../../io_uring/register.ts'
import type { Restriction } from '../../io_uring/user-args.ts'
import type { Random } from '../random.ts'
import type { StepKinds } from '../step-kind.ts'
import { ringBufferSteps } from './ring-buffers.ts'
import { MOST_RINGS, onRing, register, someRing } from './rings.ts'

/** Rings that are made disabled, and what they may once they are enabled. */
export type RingRestrictionStep =
  | { readonly op: 'ringDisabled'; readonly ring: number; readonly entries: number; readonly setup: number }
  /** the first words of so many `struct io_uring_restriction`: kind, and in bits 16 to 23 what of it; null: none given */
  | { readonly op: 'restrict'; readonly ring: number; readonly restrictions: readonly number[] | null }

// kinds of restrictions
const REGISTER_OP = 0
const SQE_OP = 1
const SQE_FLAGS_ALLOWED = 2
const SQE_FLAGS_REQUIRED = 3
const UNKNOWN = 4
/** above those of every release */
const NO_OPCODE = 200

const SETUPS: readonly number[] = [
  setup.IORING_SETUP_R_DISABLED,
  setup.IORING_SETUP_R_DISABLED,
  setup.IORING_SETUP_R_DISABLED | setup.IORING_SETUP_SUBMIT_ALL,
  setup.IORING_SETUP_R_DISABLED | setup.IORING_SETUP_SINGLE_ISSUER,
  setup.IORING_SETUP_R_DISABLED | setup.IORING_SETUP_SINGLE_ISSUER | setup.IORING_SETUP_DEFER_TASKRUN,
  0,
]
const REGISTERS: readonly number[] = [
  IORING_REGISTER_BUFFERS,
  IORING_REGISTER_BUFFERS,
  IORING_UNREGISTER_BUFFERS,
  IORING_REGISTER_BUFFERS2,
  IORING_REGISTER_BUFFERS_UPDATE,
  IORING_REGISTER_PBUF_RING,
  IORING_UNREGISTER_PBUF_RING,
  IORING_REGISTER_ENABLE_RINGS,
  IORING_REGISTER_RESTRICTIONS,
]
const OPERATIONS: readonly number[] = [
  IORING_OP_NOP,
  IORING_OP_NOP,
  IORING_OP_READ,
  IORING_OP_WRITE,
  IORING_OP_READ_FIXED,
  IORING_OP_WRITE_FIXED,
]
const FLAGS: readonly number[] = [
  0,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_BUFFER_SELECT,
  IOSQE_CQE_SKIP_SUCCESS | IOSQE_BUFFER_SELECT,
  0x80,
]
/** restrictions a ring may have (R-URING-4), and one more */
const TOO_MANY = 104

export const ringRestrictionSteps: StepKinds<RingRestrictionStep> = {
  ringDisabled: {
    make(generation, { rings }) {
      if (rings.length >= MOST_RINGS) return null
      const { random } = generation
      const ring = generation.newName('ring')
      rings.push(ring)
      return { op: 'ringDisabled', ring, entries: random.pick([1, 4, 8]), setup: random.pick(SETUPS) }
    },
    text: (step) => ringBufferSteps.ringWith.text(asRing(step)),
    commands: (step, script) => ringBufferSteps.ringWith.commands({ by: step.by, ...asRing(step) }, script),
    answer: 'nothing',
    creates: ({ ring }) => `ring ${ring}`,
    follow(_world, self, { ring }) {
      self.rings.add(ring)
      return true
    },
    run: (engine, self, step) => ringBufferSteps.ringWith.run(engine, self, { by: step.by, ...asRing(step) }),
  },
  restrict: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      if (ring === null) return null
      const { random } = generation
      const odd = random.below(40)
      if (odd === 0) return { op: 'restrict', ring, restrictions: null }
      const count = odd === 1 ? TOO_MANY - random.below(2) : random.between(0, 8)
      return { op: 'restrict', ring, restrictions: Array.from({ length: count }, () => someWord(random)) }
    },
    text({ ring, restrictions }) {
      if (restrictions === null) return `ring ${ring} restrict without an argument`
      if (restrictions.length > 20) return `ring ${ring} restrict to ${restrictions.length} entries`
      return `ring ${ring} restrict to [${restrictions.map(wordText).join(', ')}]`
    },
    commands({ ring, restrictions }) {
      const put = `put 0 ${(restrictions ?? []).map((word) => `${word} 0`).join(' ')}`
      const given = restrictions !== null && restrictions.length > 0
      const nr = restrictions?.length ?? 0
      const reg = `reg r${ring} ${IORING_REGISTER_RESTRICTIONS} ${restrictions === null ? 0 : '&0'} ${nr}`
      return { lines: given ? [put, reg] : [reg], result: given ? 1 : 0, sum: -1 }
    },
    run(engine, self, { ring, restrictions }) {
      const arg =
        restrictions === null
          ? null
          : ({ type: 'restrictions', restrictions: restrictions.map(restrictionOf) } as const)
      return register(engine, self, ring, IORING_REGISTER_RESTRICTIONS, arg, restrictions?.length ?? 0)
    },
  },
}

type Disabled = Pick<RingRestrictionStep & { op: 'ringDisabled' }, 'ring' | 'entries' | 'setup'>

function asRing({ ring, entries, setup: flags }: Disabled): Disabled & { readonly op: 'ringWith' } {
  return { op: 'ringWith', ring, entries, setup: flags }
}

function someWord(random: Random): number {
  switch (random.below(20)) {
    case 0:
      return wordOf(random.pick([SQE_FLAGS_REQUIRED, SQE_FLAGS_REQUIRED, UNKNOWN]), random.pick(FLAGS))
    case 1:
    case 2:
    case 3:
      return wordOf(SQE_FLAGS_ALLOWED, random.pick(FLAGS))
    default:
      break
  }
  const odd = random.below(60)
  if (random.chance(60)) return wordOf(REGISTER_OP, odd === 0 ? NO_OPCODE : random.pick(REGISTERS))
  return wordOf(SQE_OP, odd === 0 ? NO_OPCODE : random.pick(OPERATIONS))
}

const wordOf = (kind: number, what: number): number => kind + what * 0x10000
const kindOf = (word: number): number => word % 0x10000
const whatOf = (word: number): number => Math.floor(word / 0x10000) % 0x100

function restrictionOf(word: number): Restriction {
  const what = whatOf(word)
  switch (kindOf(word)) {
    case REGISTER_OP:
      return { allow: 'register-op', opcode: what }
    case SQE_OP:
      return { allow: 'sqe-op', opcode: what }
    case SQE_FLAGS_ALLOWED:
      return { allow: 'sqe-flags', flags: what }
    case SQE_FLAGS_REQUIRED:
      return { allow: 'sqe-flags-required', flags: what }
    default:
      return { allow: 'unknown' }
  }
}

function wordText(word: number): string {
  const names = ['register', 'operation', 'flags', 'required flags']
  return `${names[kindOf(word)] ?? `kind ${kindOf(word)}`} ${whatOf(word)}`
}
