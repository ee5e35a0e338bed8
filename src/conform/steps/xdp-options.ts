import {
  SOCK_RAW,
  SOL_XDP,
  XDP_MAX_TX_SKB_BUDGET,
  XDP_RX_RING,
  XDP_TX_RING,
  XDP_UMEM_COMPLETION_RING,
  XDP_UMEM_FILL_RING,
  XDP_UMEM_REG,
} from '../../net/xsk.ts'
import { DANGLING, call } from '../engine-context.ts'
import { oneCommand } from '../agent-commands.ts'
import type { StepKinds } from '../step-kind.ts'
import {
  MOST_SOCKETS,
  makeSocket,
  newSocket,
  onSocket,
  registerUmem,
  umemCommand,
  umemText,
  type Umem,
} from './xdp.ts'

/** AF_XDP asked for what few ask for: sockets of other types and protocols, other options, short lengths. */
export type XdpOptionStep =
  | {
      readonly op: 'xskSocketOf'
      readonly socket: number
      readonly type: number
      readonly protocol: number
    }
  /** the first bytes of a registration */
  | ({ readonly op: 'xskRegisterPart'; readonly bytes: number } & Umem)
  /** an option that takes a number, or none that is known; `given`: not a null pointer */
  | {
      readonly op: 'xskOption'
      readonly socket: number
      readonly level: number
      readonly option: number
      readonly value: number
      readonly bytes: number
      readonly given: boolean
    }

const SOL_SOCKET = 1
const SOCK_NONBLOCK = 0o4000
/** slots of a ring, at most: its memory is the kernel's */
const MOST_SLOTS = 4096

const types: readonly number[] = [SOCK_RAW, SOCK_RAW, SOCK_RAW, SOCK_RAW | SOCK_NONBLOCK, 1, 2, 0, 10, 11, -1]
const options: readonly number[] = [
  XDP_RX_RING,
  XDP_TX_RING,
  XDP_TX_RING,
  XDP_UMEM_FILL_RING,
  XDP_UMEM_COMPLETION_RING,
  XDP_MAX_TX_SKB_BUDGET,
  XDP_MAX_TX_SKB_BUDGET,
  1,
  7,
  8,
  99,
]

export const xdpOptionSteps: StepKinds<XdpOptionStep> = {
  xskSocketOf: {
    ...newSocket,
    make(generation, { xsks }) {
      if (xsks.length >= MOST_SOCKETS) return null
      const { random } = generation
      const socket = generation.newName('socket')
      const type = random.pick(types)
      const protocol = random.pick([0, 0, 0, 1, 255, -1])
      // what is hardly made is not worked on
      if ((type & ~SOCK_NONBLOCK) === SOCK_RAW && protocol === 0) xsks.push(socket)
      return { op: 'xskSocketOf', socket, type, protocol }
    },
    text: ({ socket, type, protocol }) => `AF_XDP socket ${socket} of type ${type}, protocol ${protocol}`,
    commands({ socket, type, protocol }, script) {
      script.sockets = true
      return oneCommand(`xdp-socket x${socket} ${type} ${protocol}`)
    },
    run: (engine, self, { socket, type, protocol }) => makeSocket(engine, self, socket, type, protocol),
  },
  xskRegisterPart: {
    ...onSocket,
    // R-XDP-10
    mayHarm: true,
    make(generation, { xsks }) {
      if (xsks.length === 0) return null
      const { random } = generation
      return {
        op: 'xskRegisterPart',
        socket: random.pick(xsks),
        ...generation.range(),
        chunk: random.pick([4096, 4096, 4096, 2048, 1024]),
        headroom: random.pick([0, 0, 256, 4096]),
        flags: random.pick([0, 1, 8, -1]),
        bytes: random.pick([0, 8, 23, 24, 24, 28, 31, 31, 32, 40, -1]),
      }
    },
    text: (step) => `${umemText(step)}: ${step.bytes} bytes of it`,
    commands: (step) => oneCommand(`${umemCommand(step)} ${step.bytes}`),
    run: (engine, self, step) => registerUmem(engine, self, step, step.bytes),
  },
  xskOption: {
    ...onSocket,
    make(generation, { xsks }) {
      if (xsks.length === 0) return null
      const { random } = generation
      return {
        op: 'xskOption',
        socket: random.pick(xsks),
        level: random.chance(90) ? SOL_XDP : random.pick([0, 6, 282, -1]),
        option: random.pick(options),
        value: random.pick([1, 8, 64, 64, 64, 32, 31, 65, 0, 3, -1]),
        bytes: random.pick([4, 4, 4, 4, 4, 8, 3, 0, -1]),
        given: random.chance(95),
      }
    },
    text: ({ socket, level, option, value, bytes, given }) =>
      `AF_XDP socket ${socket} option ${option} of level ${level}: ${given ? value : 'nothing'}, ${bytes} bytes`,
    commands: ({ socket, level, option, value, bytes, given }) => ({
      lines: [
        `put 0 ${value}`,
        `sys setsockopt $x${socket} ${level} ${option} ${given ? '&0' : '0'} ${bytes}`,
      ],
      result: 1,
      sum: -1,
    }),
    follow: (world, self, step) =>
      step.level !== SOL_SOCKET &&
      step.option !== XDP_UMEM_REG &&
      step.value <= MOST_SLOTS &&
      (onSocket.follow?.(world, self, step) ?? true),
    run(engine, self, { socket, level, option, value, bytes, given }) {
      const open = self.xsks.get(socket)
      if (open === undefined) return DANGLING
      const passed = given ? value >>> 0 : 'unreadable'
      return call(engine, self, open.setsockopt(level, option, passed, bytes))
    },
  },
}
