import { PAGE_SIZE } from '../../base/units.ts'
import { ioUringEnter } from '../../io_uring/enter.ts'
import type { IoUring } from '../../io_uring/io-uring.ts'
import type { FdLookup, Sqe } from '../../io_uring/request.ts'
import {
  IORING_OP_NOP,
  IORING_OP_READ,
  IORING_OP_READ_FIXED,
  IORING_OP_WRITE,
  IORING_OP_WRITE_FIXED,
  IOSQE_BUFFER_SELECT,
  IOSQE_CQE_SKIP_SUCCESS,
} from '../../io_uring/request.ts'
import { fileRead } from '../../mm/file-io.ts'
import type { OpenFile } from '../../mm/file.ts'
import { BufferIter } from '../../mm/iov-iter.ts'
import type { FileDescription } from '../../task/fd-table.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, addressOf, answer, type Done, type EngineContext } from '../engine-context.ts'
import type { EngineProcess } from '../engine-process.ts'
import type { Generation } from '../generation.ts'
import type { Completion } from '../observation.ts'
import { addUp } from '../pattern.ts'
import { arenaAddress, bytesText, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'
import { readBackCommands, readBackOnEngine } from './files.ts'
import { onRing, someRing } from './rings.ts'

/** Requests submitted to a ring, and what comes of them. Completions carry the step's tag. */
export type RequestStep =
  /** one transfer between a file and memory; file 0 is a descriptor that is not open */
  | ({
      readonly op: 'transfer'
      readonly ring: number
      readonly opcode: number
      readonly file: number
      /** bytes into the file; -1: where it stands */
      readonly offset: number
      readonly slot: number
      readonly tag: number
    } & Range)
  /** one transfer between a pipe and memory, which waits where the pipe is empty or full */
  | ({
      readonly op: 'pipeTransfer'
      readonly ring: number
      readonly opcode: number
      readonly pipe: number
      readonly slot: number
      readonly tag: number
    } & Range)
  /** several requests at once, of which none transfers anything: keys of `idle` */
  | {
      readonly op: 'batch'
      readonly ring: number
      readonly tag: number
      readonly requests: readonly number[]
    }
  | { readonly op: 'completions'; readonly ring: number }

const names: Readonly<Record<number, string>> = {
  [IORING_OP_READ_FIXED]: 'READ_FIXED',
  [IORING_OP_WRITE_FIXED]: 'WRITE_FIXED',
  [IORING_OP_READ]: 'READ',
  [IORING_OP_WRITE]: 'WRITE',
}

const isFixed = (opcode: number): boolean =>
  opcode === IORING_OP_READ_FIXED || opcode === IORING_OP_WRITE_FIXED
const isWrite = (opcode: number): boolean => opcode === IORING_OP_WRITE_FIXED || opcode === IORING_OP_WRITE

/** An address of the kernel's half. */
const KERNEL_ADDRESS = -(2 ** 47)
/** descriptors of requests on the engine */
const TARGET = 0
const OWN_RING = 1
/** bytes of a file that are added up after a write */
const LOOKED_AT = 16 * PAGE_SIZE

/** Requests that complete without moving a byte. `ring`: on the descriptor of the ring itself. */
const idle: readonly (Omit<Sqe, 'userData'> & { readonly name: string; readonly onRing?: true })[] = [
  { name: 'NOP', opcode: IORING_OP_NOP },
  { name: 'no such operation', opcode: 200 },
  { name: 'no such slot', opcode: IORING_OP_READ_FIXED, bufIndex: 99, onRing: true },
  { name: 'not in the buffer', opcode: IORING_OP_WRITE_FIXED, len: 1, onRing: true },
  { name: 'no descriptor', opcode: IORING_OP_READ },
  { name: 'no such flag', opcode: IORING_OP_NOP, flags: 0x80 },
  { name: 'an address of the kernel', opcode: IORING_OP_WRITE, addr: KERNEL_ADDRESS, len: 8 },
  { name: 'WRITE that selects', opcode: IORING_OP_WRITE, flags: IOSQE_BUFFER_SELECT },
  { name: 'silent NOP', opcode: IORING_OP_NOP, flags: IOSQE_CQE_SKIP_SUCCESS },
  { name: 'no slot and no descriptor', opcode: IORING_OP_READ_FIXED, bufIndex: 99 },
]

export const requestSteps: StepKinds<RequestStep> = {
  transfer: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      if (ring === null) return null
      const { random, disks, directs } = generation
      const files = process.files.filter((file) => !directs.has(file))
      const file = files.length === 0 || random.chance(4) ? 0 : random.pick(files)
      const opcode = someOpcode(generation)
      const { at, length, slot } = someMemory(generation, ring, opcode)
      const offset = random.chance(4) ? -random.between(1, 2) : someOffset(generation)
      const tag = random.below(1000)
      const disk = disks.get(file)
      if (disk === undefined || !isWrite(opcode))
        return { op: 'transfer', ring, opcode, file, offset, slot, tag, at, length }
      // more than a page of a file in one go could become one large folio; a gap before it would be read ahead
      const from = Math.min(Math.max(offset, 0), disk.size)
      const most = PAGE_SIZE - (from % PAGE_SIZE)
      const less = Math.min(length, most)
      return { op: 'transfer', ring, opcode, file, offset: from, slot, tag, at, length: less }
    },
    text(step) {
      const { ring, opcode, file, offset, slot } = step
      const fixed = isFixed(opcode) ? ` of slot ${slot}` : ''
      const where = offset < 0 ? `${offset}` : bytesText(offset)
      return `ring ${ring}: ${names[opcode]} file ${file} at ${where}, memory ${rangeText(step)}${fixed}`
    },
    commands(step, script) {
      script.looseRings = true
      const { ring, opcode, file, offset, slot, tag, at, length } = step
      const fd = file === 0 ? '-1' : `$f${file}`
      const sqe = `sqe r${ring} ${opcode} ${fd} ${arenaAddress(at)} ${length} ${offset} ${slot} 0 ${tag}`
      const lines = [sqe, `submit r${ring} all`]
      if (!isWrite(opcode) || file === 0) return { lines, result: 1, sum: -1 }
      return { lines: [...lines, `fdsum f${file} 0 ${LOOKED_AT}`], result: 1, sum: 2 }
    },
    settle({ opcode, file, offset, length }, script) {
      const disk = script.disks.get(file)
      if (disk === undefined || !isWrite(opcode)) return []
      disk.size = Math.max(disk.size, offset + length)
      return readBackCommands(file, script)
    },
    run(engine, self, step) {
      const { opcode, file: name } = step
      const file = self.files.get(name)
      const done = submit(engine, self, step, file === undefined && name !== 0 ? null : (file ?? 'closed'))
      if (!isWrite(opcode) || file === undefined) return done
      readBackOnEngine(engine, file.mapping)
      // what cannot be read is not added up
      return file.readable ? { ...done, sum: sumOf(engine, self, file) } : done
    },
  },
  pipeTransfer: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      if (ring === null || process.pipes.length === 0) return null
      const { random } = generation
      const opcode = someOpcode(generation)
      const memory = someMemory(generation, ring, opcode)
      return {
        op: 'pipeTransfer',
        ring,
        opcode,
        pipe: random.pick(process.pipes),
        ...memory,
        tag: random.below(1000),
      }
    },
    text(step) {
      const { ring, opcode, pipe, slot } = step
      const fixed = isFixed(opcode) ? ` of slot ${slot}` : ''
      return `ring ${ring}: ${names[opcode]} pipe ${pipe}, memory ${rangeText(step)}${fixed}`
    },
    commands(step, script) {
      script.looseRings = true
      const { ring, opcode, pipe, slot, tag, at, length } = step
      const fd = `$q${pipe}.${isWrite(opcode) ? 'w' : 'r'}`
      const sqe = `sqe r${ring} ${opcode} ${fd} ${arenaAddress(at)} ${length} 0 ${slot} 0 ${tag}`
      return { lines: [sqe, `submit r${ring} 0`], result: 1, sum: -1 }
    },
    run(engine, self, step) {
      const end = self.pipes.get(`${step.pipe}${isWrite(step.opcode) ? 'w' : 'r'}`)
      return submit(engine, self, { ...step, offset: 0 }, end ?? null)
    },
  },
  batch: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      if (ring === null) return null
      const { random } = generation
      const requests = Array.from({ length: random.between(1, 4) }, () => random.below(idle.length))
      return { op: 'batch', ring, tag: random.below(1000), requests }
    },
    text: ({ ring, requests }) => `ring ${ring}: ${requests.map((key) => idle[key]!.name).join(', ')}`,
    commands({ ring, tag, requests }, script) {
      script.looseRings = true
      const lines = requests.map((key, i) => {
        const { opcode, addr = 0, len = 0, bufIndex = 0, flags = 0, onRing: own } = idle[key]!
        const fd = own === true ? `$r${ring}` : '-1'
        return `sqe r${ring} ${opcode} ${fd} ${addr} ${len} 0 ${bufIndex} ${flags} ${tag + i}`
      })
      // what a refused entry left in the queue goes as well: later steps find it empty
      const submits = requests.map(() => `submit r${ring} 0`)
      return { lines: [...lines, ...submits], result: lines.length, sum: -1 }
    },
    run(engine, self, { ring: name, tag, requests }) {
      const ring = self.rings.get(name)
      if (ring === undefined) return DANGLING
      const sqes = requests.map((key, i): Sqe => {
        const { name: _name, onRing: own, ...sqe } = idle[key]!
        return { ...sqe, fd: own === true ? OWN_RING : -1, userData: tag + i }
      })
      const lookup: FdLookup = (fd) => (fd === OWN_RING ? ring.file : null)
      const first = enter(engine, self, ring, sqes, lookup)
      const rest = requests.slice(1).flatMap(() => enter(engine, self, ring, [], lookup).completions!)
      return { ...first, completions: [...first.completions!, ...rest] }
    },
  },
  completions: {
    ...onRing,
    make(generation, process) {
      const ring = someRing(generation, process)
      return ring === null ? null : { op: 'completions', ring }
    },
    text: ({ ring }) => `ring ${ring}: completions`,
    commands: ({ ring }) => oneCommand(`cqes r${ring}`),
    run(engine, self, { ring: name }) {
      const ring = self.rings.get(name)
      if (ring === undefined) return DANGLING
      const completions = take(engine, self, ring)
      return { ...answer(engine, completions.length), completions }
    },
  },
}

function someOpcode({ random }: Generation): number {
  return random.pick([
    IORING_OP_READ_FIXED,
    IORING_OP_READ_FIXED,
    IORING_OP_READ_FIXED,
    IORING_OP_WRITE_FIXED,
    IORING_OP_WRITE_FIXED,
    IORING_OP_WRITE_FIXED,
    IORING_OP_READ,
    IORING_OP_WRITE,
  ])
}

function someOffset({ random }: Generation): number {
  switch (random.below(4)) {
    case 0:
      return 0
    case 1:
      return random.below(8) * PAGE_SIZE
    default:
      return random.below(8 * PAGE_SIZE)
  }
}

/** Mostly what a slot was registered with: all of it, a part, its borders, nothing. */
export function someMemory(
  generation: Generation,
  ring: number,
  opcode: number,
): Range & { readonly slot: number } {
  const { random } = generation
  const slots = generation.registered.get(ring) ?? []
  const slot = slots.length === 0 || random.chance(5) ? random.below(5) : random.below(slots.length)
  const buffer = slots[slot]
  if (!isFixed(opcode) || buffer === undefined || random.chance(8)) return { ...generation.bytes(), slot }
  const { at, length } = buffer
  const from = random.below(Math.max(1, length))
  switch (random.below(9)) {
    case 0:
    case 1:
      return { at, length, slot }
    case 2:
      return { at: at + from, length: length - from, slot }
    case 3:
      return { at: at + from, length: length - from + 1, slot }
    case 4:
      return { at: at - 1, length: 1 + random.below(2), slot }
    case 5:
      return { at: at + length + random.below(2), length: random.below(2), slot }
    case 6:
      return { at: at + from, length: 0, slot }
    default:
      return { at: at + from, length: 1 + random.below(Math.max(1, length - from)), slot }
  }
}

interface Transfer extends Range {
  readonly ring: number
  readonly opcode: number
  readonly offset: number
  readonly slot: number
  readonly tag: number
}

/**
 * Queues one request and submits what is queued.
 * @param file null: its descriptor was never made, so that nothing is queued
 */
function submit(
  engine: EngineContext,
  self: EngineProcess,
  { ring: name, opcode, offset, slot, tag, at, length }: Transfer,
  file: FileDescription | 'closed' | null,
): Done {
  const ring = self.rings.get(name)
  if (ring === undefined) return DANGLING
  const addr = addressOf(engine, at)
  const sqe: Sqe = { opcode, fd: TARGET, addr, len: length, off: offset, bufIndex: slot, userData: tag }
  return enter(engine, self, ring, file === null ? [] : [sqe], () => (file === 'closed' ? null : file))
}

/** What the agent does: takes what is there, submits all that is queued, takes what comes of it. */
export function enter(
  engine: EngineContext,
  self: EngineProcess,
  ring: IoUring,
  sqes: readonly Sqe[],
  lookup: FdLookup,
): Done {
  const before = take(engine, self, ring)
  // the agent finds the queue full where there is no room
  for (const sqe of sqes) if (ring.sqes.length < ring.sizes.sq) ring.sqes.push(sqe)
  const done = self.run(ioUringEnter(engine.k, ring, ring.sqes.length, true, lookup))
  engine.k.scheduler.runUntilIdle()
  return { ...answer(engine, done), completions: [...before, ...take(engine, self, ring)] }
}

/** All completions, also those that wait for room. */
function take(engine: EngineContext, self: EngineProcess, ring: IoUring): Completion[] {
  const taken: Completion[] = []
  for (let before = -1; before !== taken.length;) {
    before = taken.length
    self.run(ioUringEnter(engine.k, ring, 0, true, () => null))
    engine.k.scheduler.runUntilIdle()
    for (const { userData, res } of ring.cqes.splice(0)) taken.push([userData, res])
  }
  return taken
}

function sumOf({ k }: EngineContext, self: EngineProcess, file: OpenFile): number {
  const bytes = new Uint8Array(LOOKED_AT)
  const n = self.run(fileRead(k, file, 0, new BufferIter(bytes)))
  return addUp(0, bytes.subarray(0, Math.max(0, n)))
}
