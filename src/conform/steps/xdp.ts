import type { Kernel } from '../../mm/kernel.ts'
import { SOL_XDP, XDP_UMEM_REG, XskSocket, xskCreate } from '../../net/xsk.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, answer, call, type Done, type EngineContext } from '../engine-context.ts'
import type { EngineProcess } from '../engine-process.ts'
import { arenaRange, bytesText, rangeText, type Range } from '../range.ts'
import type { StepKind, StepKinds } from '../step-kind.ts'
import type { World, WorldProcess } from '../world.ts'

/** AF_XDP sockets by the program's own numbers, and the packet memory registered with them. */
export type XdpStep =
  | { readonly op: 'xskSocket'; readonly socket: number }
  | ({ readonly op: 'xskRegister' } & Umem)
  | { readonly op: 'xskClose'; readonly socket: number }

/** Packet memory and the socket it is for. */
export interface Umem extends Range {
  readonly socket: number
  /** bytes of a frame */
  readonly chunk: number
  readonly headroom: number
  /** XDP_UMEM_* */
  readonly flags: number
}

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

/** What steps that make a socket have in common. */
export const newSocket = {
  answer: 'nothing',
  creates: ({ socket }: { readonly socket: number }) => `socket ${socket}`,
  follow(_world: World, self: WorldProcess, { socket }: { readonly socket: number }) {
    self.xsks.add(socket)
    return true
  },
} satisfies Partial<StepKind<{ readonly socket: number }>>

export const xdpSteps: StepKinds<XdpStep> = {
  xskSocket: {
    ...newSocket,
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
    run: (engine, self, { socket }) => makeSocket(engine, self, socket),
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
    text: umemText,
    commands: (step) => oneCommand(umemCommand(step)),
    run: (engine, self, step) => registerUmem(engine, self, step, REG_BYTES),
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

export function umemText(umem: Umem): string {
  const { socket, chunk, headroom, flags } = umem
  return `AF_XDP socket ${socket} umem ${rangeText(umem)}, frames of ${bytesText(chunk)}, headroom ${headroom}, flags ${flags}`
}

export function umemCommand(umem: Umem): string {
  const { socket, chunk, headroom, flags } = umem
  return `xdp-reg x${socket} ${arenaRange(umem)} ${chunk} ${headroom} ${flags}`
}

/** @param bytes of the structure that are passed */
export function registerUmem(engine: EngineContext, self: EngineProcess, umem: Umem, bytes: number): Done {
  const open = self.xsks.get(umem.socket)
  if (open === undefined) return DANGLING
  const { at, length, chunk, headroom, flags } = umem
  const reg = { addr: addressOf(engine, at), len: length, chunkSize: chunk, headroom, flags: flags >>> 0 }
  return call(engine, self, open.setsockopt(SOL_XDP, XDP_UMEM_REG, reg, bytes))
}

export function makeSocket(
  engine: EngineContext,
  self: EngineProcess,
  socket: number,
  type?: number,
  protocol?: number,
): Done {
  const made = self.runNow(() => xskCreate(engine.k, type, protocol))
  if (typeof made === 'number') return answer(engine, made)
  self.xsks.set(socket, made)
  return OK
}

/** What closed sockets release some time later is released now: the other side waits for it. @rule R-XDP-12 */
export function settleSockets(k: Kernel): void {
  for (const [owner, work] of k.delayedWork) {
    if (!(owner instanceof XskSocket)) continue
    k.delayedWork.delete(owner)
    work()
  }
}
