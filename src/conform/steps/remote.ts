import { BufferIter } from '../../mm/iov-iter.ts'
import type { IovecArray } from '../../mm/iovec.ts'
import { procRwAt, procTransfer } from '../../task/proc-file.ts'
import { procMemOpen } from '../../task/proc-mem.ts'
import { processVmRw } from '../../task/process-vm-access.ts'
import { ptraceAttach, ptraceDetach, ptracePeekWord, ptracePokeData } from '../../task/ptrace.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, addressOf, value, type Done, type EngineContext } from '../engine-context.ts'
import type { Generation, Shadow } from '../generation.ts'
import { addUp, pattern } from '../pattern.ts'
import { arenaAddress, arenaRange, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'
import type { World } from '../world.ts'

/** What one process does to the memory of another one of the program, or to its own. */
export type RemoteStep =
  /** /proc/PID/mem, in one call */
  | ({
      readonly op: 'mem'
      readonly of: number
      readonly write: boolean
      readonly seed: number
      /** where the bytes come from or go to; null: memory outside of the arena, which is filled and summed up */
      readonly local?: number | null
    } & Range)
  | ProcessVmStep
  | {
      readonly op: 'ptrace'
      readonly of: number
      readonly at: number
      /** of the word that is stored; null: PEEK */
      readonly seed: number | null
    }

interface ProcessVmStep {
  readonly op: 'processVm'
  /** null: a pid that nobody has */
  readonly of: number | null
  readonly write: boolean
  readonly flags: number
  readonly local: readonly Range[]
  readonly remote: readonly Range[]
  /** how much larger the counts are than the lists; the entries behind them are {0, 0} */
  readonly moreLocal: number
  readonly moreRemote: number
  /** the vectors themselves cannot be read */
  readonly badLocal: boolean
  readonly badRemote: boolean
}

/** bytes of memory the agent has outside of the arena */
const MOST_BYTES = 32768
const SYS_PROCESS_VM_READV = 310
const SYS_PROCESS_VM_WRITEV = 311
/** where the agent keeps the second vector in its scratch memory */
const SECOND_VECTOR = 16384
/** bytes before and behind the arena where ranges may begin */
const NEAR = 256 * 2 ** 20
/** an address where no vector can be read */
const NOWHERE = 8
/** addresses that are nobody's: the end of user memory, and kernel memory */
export const BEYOND: readonly number[] = [2 ** 47 - 4096, 2 ** 47, -4096]

export const remoteSteps: StepKinds<RemoteStep> = {
  mem: {
    make(generation, process) {
      const { random } = generation
      const of = relative(generation, process)
      const { at, length } = generation.bytes()
      const body = { op: 'mem', of, write: random.chance(60), seed: random.below(256), at } as const
      if (random.chance(50)) return { ...body, length: Math.min(length, MOST_BYTES) }
      return {
        ...body,
        length: random.chance(80) ? length : longer(generation),
        local: generation.bytes().at,
      }
    },
    text(step) {
      const { local = null } = step
      const own = local === null ? '' : ` ${step.write ? 'from' : 'to'} ${arenaAddress(local)}`
      return `/proc/p${step.of}/mem ${step.write ? 'write' : 'read'} ${rangeText(step)}${own}`
    },
    commands(step) {
      const transfer = `mem ${step.write ? 'w' : 'r'} ${nameOf(step.of, step.by)} ${arenaRange(step)}`
      const { local = null } = step
      if (local !== null) return oneCommand(`${transfer} ${arenaAddress(local)}`)
      const prepare = `fill &0 ${step.length} ${step.write ? step.seed : 0}`
      if (step.write) return { lines: [prepare, `${transfer} &0`], result: 1, sum: -1 }
      return { lines: [prepare, `${transfer} &0`, `sum &0 ${step.length}`], result: 1, sum: 2 }
    },
    follow: (world, _self, { by, of }) => reaches(world, by, of),
    run(engine, self, { of, write, seed, at, length, local = null }) {
      const target = engine.processes.get(of)
      if (target === undefined) return DANGLING
      const address = addressOf(engine, at)
      const file = self.run(procMemOpen(engine.k, target))
      if (typeof file === 'number') return count(file)
      if (local !== null)
        return count(self.run(procRwAt(engine.k, file, write, addressOf(engine, local), length, address)))
      const buffer = pattern(write ? seed : 0, 0, length)
      const iter = new BufferIter(buffer)
      const done = count(self.run(procTransfer(engine.k, file, write, iter, address)))
      return write ? done : { ...done, sum: addUp(0, buffer) }
    },
  },
  processVm: {
    make: makeProcessVm,
    machineWide: () => true,
    text(step) {
      const vector = (list: readonly Range[], more: number, bad: boolean): string =>
        bad ? 'unreadable' : `[${list.map(rangeText).join(', ')}]${more === 0 ? '' : `+${more}`}`
      const of = step.of === null ? 'nobody' : `p${step.of}`
      const local = vector(step.local, step.moreLocal, step.badLocal)
      const remote = vector(step.remote, step.moreRemote, step.badRemote)
      const flags = step.flags === 0 ? '' : ` flags ${step.flags}`
      return `process_vm_${step.write ? 'writev' : 'readv'} ${of} ${local} ${step.write ? '→' : '←'} ${remote}${flags}`
    },
    commands(step) {
      const { by, of, flags } = step
      const pid = of === null ? '-1' : `#${nameOf(of, by)}`
      const number = step.write ? SYS_PROCESS_VM_WRITEV : SYS_PROCESS_VM_READV
      const local = `${step.badLocal ? NOWHERE : '&0'} ${step.local.length + step.moreLocal}`
      const remote = `${step.badRemote ? NOWHERE : `&${SECOND_VECTOR}`} ${step.remote.length + step.moreRemote}`
      return {
        lines: [
          `put 0 ${vectorWords(step.local)}`,
          `put ${SECOND_VECTOR} ${vectorWords(step.remote)}`,
          `sys ${number} ${pid} ${local} ${remote} ${flags}`,
        ],
        result: 2,
        sum: -1,
      }
    },
    follow: (world, _self, { by, of, local, remote }) =>
      [...local, ...remote].every(isHarmless) && (of === null || reaches(world, by, of)),
    run(engine, self, step) {
      const target = step.of === null ? null : engine.processes.get(step.of)
      if (target === undefined) return DANGLING
      const call = {
        pid: target === null ? -1 : target.pid,
        local: step.badLocal ? ('unreadable' as const) : vector(engine, step.local),
        localCount: step.local.length + step.moreLocal,
        remote: step.badRemote ? ('unreadable' as const) : vector(engine, step.remote),
        remoteCount: step.remote.length + step.moreRemote,
        flags: step.flags,
      }
      return count(self.run(processVmRw(engine.k, call, step.write)))
    },
  },
  ptrace: {
    make(generation, process) {
      const { random } = generation
      const children = generation.processes.filter(({ parent }) => parent === process.number)
      if (children.length === 0 && !random.chance(5)) return null
      const of = children.length === 0 ? process.number : random.pick(children).number
      // words that lie on two pages, too
      const at = generation.address() - (random.chance(30) ? random.below(8) : 0)
      return { op: 'ptrace', of, at, seed: random.chance(40) ? null : random.below(256) }
    },
    text: ({ of, at, seed }) =>
      `ptrace ${seed === null ? 'PEEK' : 'POKE'} p${of} ${arenaAddress(at)}${seed === null ? '' : ` seed ${seed}`}`,
    commands({ by, of, at, seed }) {
      const what = `${nameOf(of, by)} ${arenaAddress(at)}`
      if (seed === null) return oneCommand(`ptrace peek ${what}`, 0)
      return oneCommand(`ptrace poke ${what} ${wordText(word(seed))}`)
    },
    follow: (world, _self, { by, of }) => of === by || world.get(of)?.parent === by,
    run(engine, self, { of, at, seed }) {
      const target = engine.processes.get(of)
      if (target === undefined) return DANGLING
      const { k } = engine
      const bytes = seed === null ? new Uint8Array(8) : word(seed)
      // oxlint-disable-next-line require-yield
      const attached = self.run(
        (function* () {
          return ptraceAttach(k, target.pid)
        })(),
      )
      if (attached < 0) return count(attached)
      const access = seed === null ? ptracePeekWord : ptracePokeData
      const done = count(self.run(access(k, target.pid, addressOf(engine, at), bytes)))
      // oxlint-disable-next-line require-yield
      self.run(
        (function* () {
          ptraceDetach(k, target.pid)
        })(),
      )
      return seed === null && done.outcome.kind === 'value' ? { ...done, sum: Number(wordText(bytes)) } : done
    },
  },
}

/** A child, the parent, or the process itself. */
export function relative({ random, processes }: Generation, process: Shadow): number {
  const near = processes.filter(
    ({ number, parent }) => parent === process.number || number === process.parent,
  )
  return near.length > 0 && random.chance(70) ? random.pick(near).number : process.number
}

export function reaches(world: World, by: number, of: number): boolean {
  return of === by || world.get(of)?.parent === by || (world.has(of) && world.get(by)?.parent === of)
}

/** What the agent `by` calls a process. */
export function nameOf(of: number, by: number): string {
  if (of === by) return 'self'
  return of < by ? 'parent' : `p${of}`
}

function longer({ random, unit }: Generation): number {
  return random.pick([9, 16, 33]) * unit - random.pick([0, 0, 1, 100])
}

function makeProcessVm(generation: Generation, process: Shadow): ProcessVmStep {
  const { random } = generation
  const entries = (remote: boolean): Range[] => {
    const n = random.pick([1, 1, 1, 2, 3])
    return Array.from({ length: n }, () => entry(generation, remote))
  }
  const odd = random.below(100)
  return {
    op: 'processVm',
    of: odd === 0 ? null : relative(generation, process),
    write: random.chance(50),
    flags: odd === 1 ? random.pick([1, 2, 2 ** 31]) : 0,
    local: odd === 2 ? [] : entries(false),
    remote: odd === 3 ? [] : entries(true),
    moreLocal: odd === 4 ? 1024 : 0,
    moreRemote: odd === 5 ? 1024 : 0,
    badLocal: odd === 6 || odd === 7,
    badRemote: odd === 7 || odd === 8,
  }
}

/** Mostly memory that may be there; borders, nothing at all, and ranges that no memory is long enough for. */
function entry(generation: Generation, remote: boolean): Range {
  const { random } = generation
  const range = random.chance(60) ? generation.bytes() : generation.range()
  switch (random.below(40)) {
    case 0:
      return { ...range, length: 0 }
    case 1:
      return { ...range, length: random.pick([2 ** 31, 2 ** 40, 2 ** 47]) }
    case 2:
      return { at: random.pick(BEYOND) - ARENA_START, length: random.pick([0, 8, 16]) }
    case 3:
    case 4:
      return remote ? { ...range, length: longer(generation) } : range
    default:
      return range
  }
}

/** Near the arena, or where no process can have anything: on a real kernel the rest is the agent's own. */
export function isHarmless({ at }: Range): boolean {
  return Math.abs(at) <= NEAR || BEYOND.includes(at + ARENA_START)
}

/** Where every agent has its arena: for addresses that are meant absolutely. */
export const ARENA_START = 2 ** 44

function vector(engine: EngineContext, list: readonly Range[]): IovecArray {
  return list.map(({ at, length }) => ({ base: addressOf(engine, at), length }))
}

function vectorWords(list: readonly Range[]): string {
  return list.length === 0 ? '0 0' : list.map(arenaRange).join(' ')
}

function count(result: number): Done {
  return result < 0 ? { outcome: { kind: 'errno', errno: -result } } : value(result)
}

function word(seed: number): Uint8Array {
  return Uint8Array.from({ length: 8 }, (_, i) => (seed + 31 * i) & 255)
}

/** A machine word the way the agent writes it. */
function wordText(bytes: Uint8Array): string {
  return `0x${[...bytes]
    .reverse()
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('')}`
}
