import {
  IORING_REGISTER_BUFFERS2,
  IORING_REGISTER_BUFFERS_UPDATE,
  IORING_REGISTER_CLONE_BUFFERS,
  IORING_REGISTER_ENABLE_RINGS,
  IORING_REGISTER_PBUF_RING,
  IORING_UNREGISTER_PBUF_RING,
} from '../../io_uring/register.ts'
import { IORING_REGISTER_DST_REPLACE } from '../../io_uring/clone.ts'
import { ioUringSetup } from '../../io_uring/io-uring.ts'
import * as setup from '../../io_uring/setup-flags.ts'
import type { RegisterArgument } from '../../io_uring/user-args.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, answer } from '../engine-context.ts'
import { namedBits } from '../named-bits.ts'
import { arenaAddress, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'
import {
  MOST_RINGS,
  SETTLES_OF_AN_UPDATE,
  buffersText,
  iovec,
  iovecWords,
  late,
  onRing,
  register,
  replaceSlots,
  someBuffer,
  someRing,
} from './rings.ts'

/** What else rings do with buffers: tags, clones, rings of provided buffers; and rings of other kinds. */
export type RingBufferStep =
  | { readonly op: 'ringWith'; readonly ring: number; readonly entries: number; readonly setup: number }
  | { readonly op: 'enable'; readonly ring: number }
  /** the tags of the buffers are `tag`, `tag + 1`, …; an empty slot has none but where `tagEmpty` asks for trouble */
  | {
      readonly op: 'registerTags'
      readonly ring: number
      readonly tag: number
      readonly tagEmpty: boolean
      readonly buffers: readonly Range[]
    }
  | {
      readonly op: 'updateTags'
      readonly ring: number
      readonly slot: number
      readonly tag: number
      readonly buffers: readonly Range[]
    }
  | {
      readonly op: 'clone'
      readonly ring: number
      readonly from: number
      readonly replace: boolean
      readonly srcOff: number
      readonly dstOff: number
      readonly nr: number
    }
  | {
      readonly op: 'pbufRing'
      readonly ring: number
      readonly group: number
      readonly at: number
      readonly entries: number
      readonly mapped: boolean
    }
  | { readonly op: 'unregisterPbufRing'; readonly ring: number; readonly group: number }

const MOST_GROUPS = 3

const SETUPS: readonly number[] = [
  0,
  setup.IORING_SETUP_SUBMIT_ALL,
  setup.IORING_SETUP_SINGLE_ISSUER,
  setup.IORING_SETUP_SINGLE_ISSUER | setup.IORING_SETUP_DEFER_TASKRUN,
  setup.IORING_SETUP_R_DISABLED,
  setup.IORING_SETUP_R_DISABLED | setup.IORING_SETUP_SINGLE_ISSUER,
  setup.IORING_SETUP_COOP_TASKRUN,
  setup.IORING_SETUP_COOP_TASKRUN | setup.IORING_SETUP_TASKRUN_FLAG,
  setup.IORING_SETUP_CQE32 | setup.IORING_SETUP_SQE128,
  setup.IORING_SETUP_NO_SQARRAY,
  setup.IORING_SETUP_CLAMP,
]

export const ringBufferSteps: StepKinds<RingBufferStep> = {
  ringWith: {
    make(generation, { rings }) {
      if (rings.length >= MOST_RINGS) return null
      const { random } = generation
      const ring = generation.newName('ring')
      rings.push(ring)
      // bits at random are mostly refused, by whichever rule comes first
      const bits = random.chance(80) ? random.pick(SETUPS) : random.below(2 ** 19) & random.below(2 ** 19)
      return { op: 'ringWith', ring, entries: random.pick([1, 4, 8, 64]), setup: bits & ~NEVER }
    },
    text: ({ ring, entries, setup: bits }) =>
      `ring ${ring} of ${entries} entries, ${namedBits(bits, 'IORING_SETUP_', setup)}`,
    commands: ({ ring, entries, setup: bits }) => oneCommand(`ring r${ring} ${entries} ${bits}`),
    answer: 'nothing',
    creates: ({ ring }) => `ring ${ring}`,
    follow(_world, self, { ring }) {
      self.rings.add(ring)
      return true
    },
    run(engine, self, { ring, entries, setup: flags }) {
      const made = self.run(ioUringSetup(engine.k, { entries, flags }))
      if (typeof made === 'number') return answer(engine, made)
      self.rings.set(ring, made)
      return OK
    },
  },
  enable: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      return ring === null ? null : { op: 'enable', ring }
    },
    text: ({ ring }) => `ring ${ring} enable`,
    commands: ({ ring }) => oneCommand(`reg r${ring} ${IORING_REGISTER_ENABLE_RINGS} 0 0`),
    run: (engine, self, { ring }) => register(engine, self, ring, IORING_REGISTER_ENABLE_RINGS, null, 0),
  },
  registerTags: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      if (ring === null) return null
      const { random } = generation
      const count = random.between(1, 4)
      const buffers = Array.from({ length: count }, () =>
        random.chance(15) ? { at: 0, length: 0 } : someBuffer(generation),
      )
      generation.registered.set(ring, buffers)
      return { op: 'registerTags', ring, tag: 1000 + random.below(1000), tagEmpty: random.chance(5), buffers }
    },
    text: ({ ring, tag, buffers }) => `ring ${ring} register ${buffersText(buffers)} with tags from ${tag}`,
    commands: ({ ring, tag, tagEmpty, buffers }) => {
      const triples = buffers.map((range, i) => `${iovecWords(range)} ${tagOf(range, tag + i, tagEmpty)}`)
      return oneCommand(`bufs2 r${ring} 0 ${buffers.length} ${triples.join(' ')}`)
    },
    run(engine, self, { ring, tag, tagEmpty, buffers }) {
      const data = buffers.map((range) => iovec(engine, range))
      const tags = buffers.map((range, i) => tagOf(range, tag + i, tagEmpty))
      const arg: RegisterArgument = { type: 'rsrc-register', nr: data.length, data, tags }
      return register(engine, self, ring, IORING_REGISTER_BUFFERS2, arg, 32)
    },
  },
  updateTags: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      if (ring === null) return null
      const { random } = generation
      const buffers = Array.from({ length: random.between(1, 2) }, () =>
        random.chance(25) ? { at: 0, length: 0 } : someBuffer(generation),
      )
      const slot = random.below(4)
      replaceSlots(generation, ring, slot, buffers)
      return { op: 'updateTags', ring, slot, tag: 2000 + random.below(1000), buffers }
    },
    text: ({ ring, slot, tag, buffers }) =>
      `ring ${ring} update slot ${slot}: ${buffersText(buffers)} with tags from ${tag}`,
    commands: ({ ring, slot, tag, buffers }) =>
      oneCommand(
        `upd2 r${ring} ${slot} ${buffers.map((range, i) => `${iovecWords(range)} ${tagOf(range, tag + i, false)}`).join(' ')}`,
      ),
    settle: (_step, { releasesLate }) =>
      releasesLate ? Array<string>(SETTLES_OF_AN_UPDATE).fill('settle') : [],
    run(engine, self, { ring, slot, tag, buffers }) {
      const data = buffers.map((range) => iovec(engine, range))
      const tags = buffers.map((range, i) => tagOf(range, tag + i, false))
      const arg: RegisterArgument = { type: 'rsrc-update', offset: slot, nr: data.length, data, tags }
      return late(engine, register(engine, self, ring, IORING_REGISTER_BUFFERS_UPDATE, arg, 32))
    },
  },
  clone: {
    ...onRing,
    make(generation, { rings }) {
      if (rings.length === 0) return null
      const { random, registered } = generation
      const ring = random.pick(rings)
      const from = random.pick(rings)
      const plain = random.chance(50)
      const [srcOff, dstOff, nr] = plain ? [0, 0, 0] : [random.below(3), random.below(4), random.below(4)]
      const slots = registered.get(from)
      if (plain && slots !== undefined && !registered.has(ring)) registered.set(ring, [...slots])
      return { op: 'clone', ring, from, replace: random.chance(40), srcOff, dstOff, nr }
    },
    text: ({ ring, from, replace, srcOff, dstOff, nr }) =>
      `ring ${ring} clone ${nr === 0 ? 'all' : nr} of ring ${from} from ${srcOff} to ${dstOff}${replace ? ', replacing' : ''}`,
    commands({ ring, from, replace, srcOff, dstOff, nr }, script) {
      script.looseRings = true
      const flags = replace ? IORING_REGISTER_DST_REPLACE : 0
      return oneCommand(`clone r${ring} $r${from} ${flags} ${srcOff} ${dstOff} ${nr}`)
    },
    settle: (_step, { releasesLate }) =>
      releasesLate ? Array<string>(SETTLES_OF_AN_UPDATE).fill('settle') : [],
    follow: (_world, self, { ring, from }) => self.rings.has(ring) && self.rings.has(from),
    run(engine, self, { ring, from, replace, srcOff, dstOff, nr }) {
      const source = self.rings.get(from)
      if (source === undefined) return DANGLING
      const flags = replace ? IORING_REGISTER_DST_REPLACE : 0
      const arg: RegisterArgument = { type: 'clone-buffers', source, flags, srcOff, dstOff, nr }
      return register(engine, self, ring, IORING_REGISTER_CLONE_BUFFERS, arg, 1)
    },
  },
  pbufRing: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      if (ring === null) return null
      const { random } = generation
      const { page } = generation.pages(false)
      const odd = random.below(20)
      const at = odd === 0 ? page * generation.unit + 8 : page * generation.unit
      const entries = random.pick([1, 8, 256, 256, 512, 1024, 2048, 3, 0, 65536])
      return {
        op: 'pbufRing',
        ring,
        group: random.below(MOST_GROUPS),
        at: odd === 1 ? ADDRESS_ZERO : at,
        entries,
        mapped: random.chance(20),
      }
    },
    text: ({ ring, group, at, entries, mapped }) =>
      `ring ${ring} buffers of group ${group}: ${entries} entries ${mapped ? 'of the kernel' : `at ${at === ADDRESS_ZERO ? '0' : arenaAddress(at)}`}`,
    commands({ ring, group, at, entries, mapped }, script) {
      script.looseRings = true
      const address = at === ADDRESS_ZERO ? '0' : arenaAddress(at)
      return oneCommand(`pbuf r${ring} ${address} ${entries} ${group} ${mapped ? 1 : 0}`)
    },
    run(engine, self, { ring, group, at, entries, mapped }) {
      const ringAddr = at === ADDRESS_ZERO ? 0 : addressOf(engine, at)
      const arg: RegisterArgument = { type: 'buf-reg', ringAddr, entries, bgid: group, flags: mapped ? 1 : 0 }
      return register(engine, self, ring, IORING_REGISTER_PBUF_RING, arg, 1)
    },
  },
  unregisterPbufRing: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      return ring === null
        ? null
        : { op: 'unregisterPbufRing', ring, group: generation.random.below(MOST_GROUPS) }
    },
    text: ({ ring, group }) => `ring ${ring} no buffers of group ${group} any more`,
    commands: ({ ring, group }) => oneCommand(`unpbuf r${ring} ${group}`),
    run(engine, self, { ring, group }) {
      const arg: RegisterArgument = { type: 'buf-reg', ringAddr: 0, entries: 0, bgid: group }
      return register(engine, self, ring, IORING_UNREGISTER_PBUF_RING, arg, 1)
    },
  },
}

/** stands for address 0, which no place in the arena has */
const ADDRESS_ZERO = -1
/** rings that poll, and rings whose memory or descriptor the agent does not handle */
const NEVER =
  setup.IORING_SETUP_IOPOLL |
  setup.IORING_SETUP_SQPOLL |
  setup.IORING_SETUP_ATTACH_WQ |
  setup.IORING_SETUP_NO_MMAP |
  setup.IORING_SETUP_REGISTERED_FD_ONLY |
  setup.IORING_SETUP_CQSIZE

function tagOf({ at, length }: Range, tag: number, tagEmpty: boolean): number {
  return at === 0 && length === 0 && !tagEmpty ? 0 : tag
}
