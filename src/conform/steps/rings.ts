import { ioUringSetup } from '../../io_uring/io-uring.ts'
import {
  IORING_REGISTER_BUFFERS,
  IORING_REGISTER_BUFFERS2,
  IORING_REGISTER_BUFFERS_UPDATE,
  IORING_UNREGISTER_BUFFERS,
  ioUringRegister,
} from '../../io_uring/register.ts'
import type { Iovec, RegisterArgument } from '../../io_uring/user-args.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, answer, call, type Done, type EngineContext } from '../engine-context.ts'
import type { EngineProcess } from '../engine-process.ts'
import type { Generation, Shadow } from '../generation.ts'
import { arenaRange, rangeText, type Range } from '../range.ts'
import type { StepKind, StepKinds } from '../step-kind.ts'
import type { World, WorldProcess } from '../world.ts'

/** io_uring instances by the program's own numbers, and the buffers registered with them. */
export type RingStep =
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

export const MOST_RINGS = 2
const REGISTER_SPARSE = 1
/** each takes 40 ms or more: together longer than the second after which a replaced buffer is released */
export const SETTLES_OF_AN_UPDATE = 40

/** What steps about a ring have in common. */
export const onRing = {
  mayDangle: () => true,
  machineWide: () => true,
  follow: (_world: World, self: WorldProcess, { ring }: { readonly ring: number }) => self.rings.has(ring),
} satisfies Partial<StepKind<{ readonly ring: number }>>

export const ringSteps: StepKinds<RingStep> = {
  ring: {
    make(generation, { rings }) {
      if (rings.length >= MOST_RINGS) return null
      const ring = generation.newName('ring')
      rings.push(ring)
      return { op: 'ring', ring, entries: generation.random.pick([1, 4, 8, 64]) }
    },
    text: ({ ring, entries }) => `ring ${ring} of ${entries} entries`,
    commands: ({ ring, entries }) => oneCommand(`ring r${ring} ${entries} 0`),
    answer: 'nothing',
    creates: ({ ring }) => `ring ${ring}`,
    follow(_world, self, { ring }) {
      self.rings.add(ring)
      return true
    },
    run(engine, self, { ring, entries }) {
      const made = self.run(ioUringSetup(engine.k, { entries }))
      if (typeof made === 'number') return answer(engine, made)
      self.rings.set(ring, made)
      return OK
    },
  },
  closeRing: {
    ...onRing,
    make({ random }, { rings }) {
      if (rings.length === 0) return null
      return { op: 'closeRing', ring: rings.splice(random.below(rings.length), 1)[0]! }
    },
    text: ({ ring }) => `close ring ${ring}`,
    commands: ({ ring }) => oneCommand(`close r${ring}`),
    settle: (_step, { looseRings }) => (looseRings ? ['settle'] : []),
    follow: (_world, self, { ring }) => self.rings.delete(ring),
    run(_engine, self, { ring }) {
      const open = self.rings.get(ring)
      self.rings.delete(ring)
      open?.file.put()
      return open === undefined ? DANGLING : OK
    },
  },
  register: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      if (ring === null) return null
      const { random } = generation
      const count = random.chance(70) ? 1 : random.between(2, 4)
      const buffers = Array.from({ length: count }, () => someBuffer(generation))
      generation.registered.set(ring, buffers)
      return { op: 'register', ring, buffers }
    },
    text: ({ ring, buffers }) => `ring ${ring} register ${buffersText(buffers)}`,
    commands: ({ ring, buffers }) => oneCommand(`bufs r${ring} ${buffers.map(iovecWords).join(' ')}`),
    run(engine, self, { ring, buffers }) {
      const iovecs = buffers.map((range) => iovec(engine, range))
      const { length } = buffers
      return register(engine, self, ring, IORING_REGISTER_BUFFERS, { type: 'iovecs', iovecs }, length)
    },
  },
  registerEmpty: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      return ring === null ? null : { op: 'registerEmpty', ring, slots: generation.random.between(1, 4) }
    },
    text: ({ ring, slots }) => `ring ${ring} register ${slots} empty slots`,
    commands: ({ ring, slots }) => oneCommand(`bufs2 r${ring} ${REGISTER_SPARSE} ${slots}`),
    run(engine, self, { ring, slots }) {
      const arg: RegisterArgument = { type: 'rsrc-register', nr: slots, flags: REGISTER_SPARSE, data: null }
      return register(engine, self, ring, IORING_REGISTER_BUFFERS2, arg, 32)
    },
  },
  update: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      if (ring === null) return null
      const { random } = generation
      const count = random.chance(70) ? 1 : 2
      const buffers = Array.from({ length: count }, () =>
        random.chance(20) ? { at: 0, length: 0 } : someBuffer(generation),
      )
      const slot = random.below(4)
      replaceSlots(generation, ring, slot, buffers)
      return { op: 'update', ring, slot, buffers }
    },
    text: ({ ring, slot, buffers }) => `ring ${ring} update slot ${slot}: ${buffersText(buffers)}`,
    commands: ({ ring, slot, buffers }) =>
      oneCommand(`upd r${ring} ${slot} ${buffers.map(iovecWords).join(' ')}`),
    settle: (_step, { releasesLate }) =>
      releasesLate ? Array<string>(SETTLES_OF_AN_UPDATE).fill('settle') : [],
    run(engine, self, { ring, slot, buffers }) {
      const data = buffers.map((range) => iovec(engine, range))
      const arg: RegisterArgument = { type: 'rsrc-update', offset: slot, nr: data.length, data }
      return late(engine, register(engine, self, ring, IORING_REGISTER_BUFFERS_UPDATE, arg, 32))
    },
  },
  unregister: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      return ring === null ? null : { op: 'unregister', ring }
    },
    text: ({ ring }) => `ring ${ring} unregister`,
    commands: ({ ring }) => oneCommand(`unreg r${ring}`),
    run(engine, self, { ring: name }) {
      const ring = self.rings.get(name)
      if (ring === undefined) return DANGLING
      const body = ioUringRegister(engine.k, ring, IORING_UNREGISTER_BUFFERS, null, 0)
      // a kernel that waits for requests in flight is interrupted (docs/oracle-protocol.md)
      return answer(engine, self.runWithAlarm(body))
    },
  },
}

/** After an update time passes: what a release gives back late is gone before anybody looks. */
export function late(engine: EngineContext, done: Done): Done {
  engine.k.settle()
  return done
}

/** The generator remembers what is in which slot. */
export function replaceSlots(
  { registered }: Generation,
  ring: number,
  slot: number,
  buffers: readonly Range[],
): void {
  const slots = registered.get(ring)
  if (slots === undefined || slot + buffers.length > slots.length) return
  buffers.forEach((buffer, i) => (slots[slot + i] = buffer))
}

export function someRing({ random }: Generation, { rings }: Shadow): number | null {
  return rings.length === 0 ? null : random.pick(rings)
}

/** What is registered: whole huge pages as well. */
export function someBuffer(generation: Generation): Range {
  if (!generation.large || generation.random.chance(50)) return generation.bytes()
  const { page, pages } = generation.pages(false)
  return { at: page * generation.unit, length: Math.min(pages, 3) * generation.unit }
}

/** An empty slot is asked for by address 0. */
const isEmpty = ({ at, length }: Range): boolean => at === 0 && length === 0

export function iovec(engine: EngineContext, range: Range): Iovec {
  return { base: isEmpty(range) ? 0 : addressOf(engine, range.at), length: range.length }
}

export function iovecWords(range: Range): string {
  return isEmpty(range) ? '0 0' : arenaRange(range)
}

export function buffersText(list: readonly Range[]): string {
  return `[${list.map(rangeText).join(', ')}]`
}

export function register(
  engine: EngineContext,
  self: EngineProcess,
  name: number,
  opcode: number,
  arg: RegisterArgument,
  nr: number,
): Done {
  const ring = self.rings.get(name)
  return ring === undefined ? DANGLING : call(engine, self, ioUringRegister(engine.k, ring, opcode, arg, nr))
}
