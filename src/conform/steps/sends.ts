import {
  IORING_OP_SEND,
  IORING_OP_SEND_ZC,
  IORING_OP_WRITE,
  IORING_OP_WRITE_FIXED,
} from '../../io_uring/request.ts'
import { IORING_RECVSEND_FIXED_BUF, IORING_SEND_ZC_REPORT_USAGE } from '../../io_uring/net.ts'
import { BufferIter } from '../../mm/iov-iter.ts'
import { StreamSocket, makeDatagramPair, makeStreamPair } from '../../net/loopback.ts'
import type { Socket } from '../../task/socket.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, counted, type EngineContext } from '../engine-context.ts'
import type { EngineProcess } from '../engine-process.ts'
import { addUp } from '../pattern.ts'
import { arenaAddress, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'
import { enter, someMemory } from './requests.ts'
import { someRing } from './rings.ts'

const kindNames = ['udp', 'tcp', 'unix'] as const
const UDP = 0
const TCP = 1

/** Sends through connected pairs of sockets, by the program's own numbers. */
export type SendStep =
  /** `kind`: index of `kindNames` */
  | { readonly op: 'sockets'; readonly pair: number; readonly kind: number }
  /** one SEND or SEND_ZC; what reaches the receiver is received and added up */
  | ({
      readonly op: 'send'
      readonly ring: number
      readonly pair: number
      readonly opcode: number
      /** IORING_RECVSEND_* and IORING_SEND_ZC_* */
      readonly ioprio: number
      readonly slot: number
      readonly tag: number
    } & Range)
  /** the stream gets more than its reader has room for */
  | { readonly op: 'stall'; readonly pair: number }
  /** the reader reads until nothing is on its way, and adds up what it gets */
  | { readonly op: 'flow'; readonly pair: number }

/** What a process of the engine has of a pair. */
export interface EnginePair {
  readonly sender: Socket
  readonly receiver: Socket
  /** zeros that `stall` has sent, bytes */
  filler: number
}

const MOST_PAIRS = 3
/** bytes of a send: none of them waits for the reader, but on a stalled stream */
const MOST_BYTES = 16384
/** bytes that the engine's reader takes before it has read any; the kernel's has its own mind */
const ROOM = 65536
const CHUNK = 65536

const hasPair = {
  mayDangle: () => true,
  follow: (
    _world: unknown,
    self: { readonly pairs: ReadonlySet<number> },
    { pair }: { readonly pair: number },
  ): boolean => self.pairs.has(pair),
}

export const sendSteps: StepKinds<SendStep> = {
  sockets: {
    answer: 'nothing',
    creates: ({ pair }) => `pair ${pair}`,
    make(generation, process) {
      if (process.pairs.length >= MOST_PAIRS) return null
      const pair = generation.newName('pair')
      const kind = generation.random.pick([0, 0, 1, 1, 1, 2])
      process.pairs.push(pair)
      generation.pairKinds.set(pair, kind)
      return { op: 'sockets', pair, kind }
    },
    text: ({ pair, kind }) => `sockets ${pair} ${kindNames[kind]}`,
    commands: ({ pair, kind }, script) => {
      script.pairs.set(pair, { stalled: false })
      return oneCommand(`sockets k${pair} ${kindNames[kind]}`)
    },
    follow(_world, self, { pair }) {
      self.pairs.add(pair)
      return true
    },
    run({ k }, self, { pair, kind }) {
      const [sender, receiver] =
        kind === UDP ? makeDatagramPair(k) : makeStreamPair(k, { zeroCopy: kind === TCP, room: ROOM })
      self.pairs.set(pair, { sender, receiver, filler: 0 })
      return OK
    },
  },
  send: {
    mayDangle: () => true,
    follow: (_world, self, { ring, pair }) => self.rings.has(ring) && self.pairs.has(pair),
    make(generation, process) {
      const ring = someRing(generation, process)
      const { random } = generation
      if (ring === null || process.pairs.length === 0) return null
      const pair = random.pick(process.pairs)
      const opcode = random.chance(15) ? IORING_OP_SEND : IORING_OP_SEND_ZC
      // where a stalled stream refuses ordinary memory, the notification comes when the network likes
      const fixed =
        opcode === IORING_OP_SEND_ZC && (generation.pairKinds.get(pair) === TCP || random.chance(50))
      const report = opcode === IORING_OP_SEND_ZC && random.chance(60)
      const { at, length, slot } = someMemory(
        generation,
        ring,
        fixed ? IORING_OP_WRITE_FIXED : IORING_OP_WRITE,
      )
      let ioprio = (fixed ? IORING_RECVSEND_FIXED_BUF : 0) | (report ? IORING_SEND_ZC_REPORT_USAGE : 0)
      if (random.chance(4)) ioprio |= 2
      const less = Math.min(length, MOST_BYTES)
      return { op: 'send', ring, pair, opcode, ioprio, slot, tag: random.below(1000), at, length: less }
    },
    text(step) {
      const { ring, pair, opcode, ioprio, slot } = step
      const fixed = (ioprio & IORING_RECVSEND_FIXED_BUF) !== 0 ? ` of slot ${slot}` : ''
      const name = opcode === IORING_OP_SEND ? 'SEND' : 'SEND_ZC'
      return `ring ${ring}: ${name} to sockets ${pair}, memory ${rangeText(step)}${fixed}, ioprio ${ioprio}`
    },
    commands(step, script) {
      script.looseRings = true
      const { ring, pair, opcode, ioprio, slot, tag, at, length } = step
      const sqe = `sqe r${ring} ${opcode} $k${pair}.w ${arenaAddress(at)} ${length} 0 ${slot} 0 ${tag} 0 ${ioprio}`
      const stalled = script.pairs.get(pair)?.stalled ?? false
      // the notification of a stream comes with the acknowledgement
      const due = opcode === IORING_OP_SEND_ZC && !stalled ? 2 : 1
      const lines = [sqe, `submit r${ring} ${due}`]
      return stalled
        ? { lines, result: 1, sum: -1 }
        : { lines: [...lines, `flow k${pair}`], result: 1, sum: 2 }
    },
    run(engine, self, step) {
      const ring = self.rings.get(step.ring)
      const pair = self.pairs.get(step.pair)
      if (ring === undefined || pair === undefined) return DANGLING
      const { opcode, ioprio, slot, tag, at, length } = step
      const sqe = {
        opcode,
        fd: 0,
        addr: addressOf(engine, at),
        len: length,
        bufIndex: slot,
        userData: tag,
        ioprio,
      }
      const stalled = pair.filler > 0
      const done = enter(engine, self, ring, [sqe], () => pair.sender)
      return stalled ? done : { ...done, sum: flow(engine, self, pair) }
    },
  },
  stall: {
    ...hasPair,
    make({ random, pairKinds }, { pairs }) {
      const streams = pairs.filter((pair) => pairKinds.get(pair) === TCP)
      return streams.length === 0 ? null : { op: 'stall', pair: random.pick(streams) }
    },
    text: ({ pair }) => `stall sockets ${pair}`,
    commands({ pair }, script) {
      const state = script.pairs.get(pair)
      if (state !== undefined) state.stalled = true
      return oneCommand(`stall k${pair}`)
    },
    run(_engine, self, { pair: name }) {
      const pair = self.pairs.get(name)
      if (pair === undefined) return DANGLING
      const { sender } = pair
      if (!(sender instanceof StreamSocket)) throw new Error('only streams stall')
      while (sender.unsent === 0) {
        self.run(sender.send(new BufferIter(new Uint8Array(CHUNK)), null))
        pair.filler += CHUNK
      }
      return OK
    },
  },
  flow: {
    ...hasPair,
    make: ({ random }, { pairs }) => (pairs.length === 0 ? null : { op: 'flow', pair: random.pick(pairs) }),
    text: ({ pair }) => `flow of sockets ${pair}`,
    commands({ pair }, script) {
      const state = script.pairs.get(pair)
      if (state !== undefined) state.stalled = false
      return oneCommand(`flow k${pair}`, 0)
    },
    run(engine, self, { pair: name }) {
      const pair = self.pairs.get(name)
      if (pair === undefined) return DANGLING
      const sum = flow(engine, self, pair)
      return { ...counted(sum), sum }
    },
  },
}

/** Receives all there is. @returns the sum of the bytes without the zeros of `stall` */
function flow({ k }: EngineContext, self: EngineProcess, pair: EnginePair): number {
  const bytes = new Uint8Array(CHUNK)
  let sum = 0
  for (;;) {
    const n = self.run(pair.receiver.receive(new BufferIter(bytes)))
    if (n <= 0) break
    const skip = Math.min(n, pair.filler)
    pair.filler -= skip
    sum = addUp(sum, bytes.subarray(skip, n))
  }
  k.scheduler.runUntilIdle()
  return sum
}
