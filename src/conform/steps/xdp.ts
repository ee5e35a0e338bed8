import type { Kthread } from '../../base/kthread.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { SOL_XDP, XDP_UMEM_REG, XskSocket, xskCreate } from '../../net/xsk.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, answer, call } from '../engine-context.ts'
import { arenaRange, bytesText, rangeText, type Range } from '../range.ts'
import type { StepKind, StepKinds } from '../step-kind.ts'
import type { World, WorldProcess } from '../world.ts'

/** AF_XDP sockets by the program's own numbers, and the packet memory registered with them. */
export type XdpStep =
  | { readonly op: 'xskSocket'; readonly socket: number }
  | ({
      readonly op: 'xskRegister'
      readonly socket: number
      /** bytes of a frame */
      readonly chunk: number
      readonly headroom: number
      /** XDP_UMEM_* */
      readonly flags: number
    } & Range)
  | { readonly op: 'xskClose'; readonly socket: number }

export const MOST_SOCKETS = 3
/** bytes of struct xdp_umem_reg as the agent passes it */
const REG_BYTES = 32

const chunks: readonly number[] = [4096, 4096, 4096, 2048, 2048, 1024, 3000, 8192, 0]
const headrooms: readonly number[] = [0, 0, 0, 0, 256, 1300, 1792, 2048, 3840, 4096]

/** What steps about a socket have in common. */
export const onSocket = {
  mayDangle: () => true,
  machineWide: () => true,
  follow: (_world: World, self: WorldProcess, { socket }: { readonly socket: number }) =>
    self.xsks.has(socket),
} satisfies Partial<StepKind<{ readonly socket: number }>>

export const xdpSteps: StepKinds<XdpStep> = {
  xskSocket: {
    make(generation, { xsks }) {
      if (xsks.length >= MOST_SOCKETS) return null
      const socket = generation.newName('socket')
      xsks.push(socket)
      return { op: 'xskSocket', socket }
    },
    text: ({ socket }) => `AF_XDP socket ${socket}`,
    commands({ socket }, script) {
      script.sockets = true
      return oneCommand(`xdp-socket x${socket}`)
    },
    answer: 'nothing',
    creates: ({ socket }) => `socket ${socket}`,
    follow(_world, self, { socket }) {
      self.xsks.add(socket)
      return true
    },
    run(engine, self, { socket }) {
      const made = self.run(create(engine.k))
      if (typeof made === 'number') return answer(engine, made)
      self.xsks.set(socket, made)
      return OK
    },
  },
  xskRegister: {
    ...onSocket,
    // R-XDP-10
    mayHarm: true,
    make(generation, { xsks }) {
      if (xsks.length === 0) return null
      const { random } = generation
      return {
        op: 'xskRegister',
        socket: random.pick(xsks),
        ...generation.range(),
        chunk: random.pick(chunks),
        headroom: random.pick(headrooms),
        flags: random.pick([0, 0, 0, 0, 0, 1, 1, 2, 3, 8]),
      }
    },
    text: (step) =>
      `AF_XDP socket ${step.socket} umem ${rangeText(step)}, frames of ${bytesText(step.chunk)}, headroom ${step.headroom}, flags ${step.flags}`,
    commands: (step) =>
      oneCommand(`xdp-reg x${step.socket} ${arenaRange(step)} ${step.chunk} ${step.headroom} ${step.flags}`),
    run(engine, self, { socket, at, length, chunk, headroom, flags }) {
      const open = self.xsks.get(socket)
      if (open === undefined) return DANGLING
      const reg = { addr: addressOf(engine, at), len: length, chunkSize: chunk, headroom, flags }
      return call(engine, self, open.setsockopt(SOL_XDP, XDP_UMEM_REG, reg, REG_BYTES))
    },
  },
  xskClose: {
    ...onSocket,
    make({ random }, { xsks }) {
      if (xsks.length === 0) return null
      return { op: 'xskClose', socket: xsks.splice(random.below(xsks.length), 1)[0]! }
    },
    text: ({ socket }) => `close AF_XDP socket ${socket}`,
    commands: ({ socket }) => oneCommand(`close x${socket}`),
    settle: () => ['settle'],
    follow: (_world, self, { socket }) => self.xsks.delete(socket),
    run(engine, self, { socket }) {
      const open = self.xsks.get(socket)
      if (open === undefined) return DANGLING
      self.xsks.delete(socket)
      open.file.put()
      settleSockets(engine.k)
      return OK
    },
  },
}

// oxlint-disable-next-line require-yield -- it never sleeps, and has to be run as the process
function* create(k: Kernel): Kthread<XskSocket | number> {
  return xskCreate(k)
}

/** What closed sockets release some time later is released now: the other side waits for it. @rule R-XDP-12 */
export function settleSockets(k: Kernel): void {
  for (const [owner, work] of k.delayedWork) {
    if (!(owner instanceof XskSocket)) continue
    k.delayedWork.delete(owner)
    work()
  }
}
