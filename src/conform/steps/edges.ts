import { shmdt } from '../../ipc/shm.ts'
import type { Kthread } from '../../base/kthread.ts'
import { PAGE_SIZE, TASK_SIZE } from '../../base/units.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { madvise } from '../../mm/madvise.ts'
import { mincore } from '../../mm/mincore.ts'
import { mlock, munlock } from '../../mm/mlock.ts'
import {
  MADV_COLD,
  MAP_ABOVE4G,
  MAP_ANONYMOUS,
  MAP_DENYWRITE,
  MAP_DROPPABLE,
  MAP_EXECUTABLE,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_GROWSDOWN,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_STACK,
  MAP_SYNC,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  MAP_32BIT,
  PROT_EXEC,
  PROT_GROWSDOWN,
  PROT_GROWSUP,
  PROT_READ,
  PROT_SEM,
  PROT_WRITE,
} from '../../mm/mman.ts'
import type { Mm } from '../../mm/mm.ts'
import { mmap } from '../../mm/mmap.ts'
import { mprotect } from '../../mm/mprotect.ts'
import { mremap } from '../../mm/mremap.ts'
import { mseal } from '../../mm/mseal.ts'
import { msync } from '../../mm/msync.ts'
import { munmap } from '../../mm/munmap.ts'
import { remapFilePages } from '../../mm/remap-file-pages.ts'
import { accessUser } from '../../mm/user-access.ts'
import { oneCommand } from '../agent-commands.ts'
import { addressOf, call, signal, value } from '../engine-context.ts'
import { TOO_LONG, type Generation, type Shadow } from '../generation.ts'
import { arenaAddress, arenaRange, bytesText, exactText, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'
import { mapFlagsText, protText } from './space.ts'

/** What programs rarely ask for: addresses that are nobody's, flags nobody knows, stacks far above. */
export type EdgeStep =
  /** a call on memory outside of user space; numbers of the tables below */
  | { readonly op: 'edge'; readonly call: number; readonly where: number; readonly long: number }
  /** mmap with any flags */
  | ({
      readonly op: 'mmapOdd'
      readonly prot: number
      readonly flags: number
      readonly file: number | null
      readonly offset: number
    } & Range)
  /** mprotect with any bits */
  | ({ readonly op: 'mprotectOdd'; readonly prot: number } & Range)
  /** a mapping that grows down */
  | ({ readonly op: 'stack'; readonly locked: boolean; readonly readOnly: boolean } & Range)
  /** one byte, far below a stack perhaps */
  | { readonly op: 'reach'; readonly at: number; readonly write: boolean }

const PLACES: readonly number[] = [
  TASK_SIZE,
  2 ** 47,
  -(2 ** 47),
  -0xa00000,
  -2 * PAGE_SIZE,
  -PAGE_SIZE,
  -1,
  2 ** 62,
]
const LENGTHS: readonly number[] = [0, 1, PAGE_SIZE, 2 * PAGE_SIZE, 2 ** 47, -PAGE_SIZE, -1, 2 ** 62]

interface EdgeCall {
  /** agent words after `sys` */
  readonly words: (where: string, length: string) => string
  readonly body: (k: Kernel, mm: Mm, where: number, length: number, arena: number) => Kthread<number>
  readonly answer?: 'address'
}

const ANON = MAP_PRIVATE | MAP_ANONYMOUS

/** None of these can reach the memory of the agent itself from one of the places. */
const calls: readonly EdgeCall[] = [
  {
    words: (at, n) => `munmap ${at} ${n}`,
    body: (k, mm, at, n) => munmap(k, mm, at, n),
  },
  {
    words: (at, n) => `mprotect ${at} ${n} 1`,
    body: (k, mm, at, n) => mprotect(k, mm, at, n, 1),
  },
  {
    words: (at, n) => `madvise ${at} ${n} ${MADV_COLD}`,
    body: (k, mm, at, n) => madvise(k, mm, at, n, MADV_COLD),
  },
  { words: (at, n) => `mlock ${at} ${n}`, body: (k, mm, at, n) => mlock(k, mm, at, n) },
  { words: (at, n) => `munlock ${at} ${n}`, body: (k, mm, at, n) => munlock(k, mm, at, n) },
  { words: (at, n) => `msync ${at} ${n} 4`, body: (k, mm, at, n) => msync(k, mm, at, n, 4) },
  {
    words: (at, n) => `mincore ${at} ${n} @0`,
    body: (k, mm, at, n, arena) => mincore(k, mm, at, n, arena),
  },
  {
    words: (at, n) => `remap_file_pages ${at} ${n} 0 0 0`,
    body: (k, mm, at, n) => remapFilePages(k, mm, at, n, 0, 0, 0),
  },
  { words: (at, n) => `mseal ${at} ${n} 0`, body: (k, mm, at, n) => mseal(k, mm, at, n, 0) },
  {
    words: (at, n) => `mmap ${at} ${n} 3 ${ANON | MAP_FIXED} -1 0`,
    body: (k, mm, addr, length) =>
      mmap(k, mm, { addr, length, prot: 3, flags: ANON | MAP_FIXED, file: null, offset: 0 }),
    answer: 'address',
  },
  {
    words: (at, n) => `mmap ${at} ${n} 3 ${ANON | MAP_FIXED_NOREPLACE} -1 0`,
    body: (k, mm, addr, length) =>
      mmap(k, mm, { addr, length, prot: 3, flags: ANON | MAP_FIXED_NOREPLACE, file: null, offset: 0 }),
    answer: 'address',
  },
  {
    words: (at, n) => `mremap ${at} ${n} 4096 1 0`,
    body: (k, mm, at, n) => mremap(k, mm, at, n, PAGE_SIZE, MREMAP_MAYMOVE, 0),
    answer: 'address',
  },
  {
    words: (at, n) => `mremap @0 4096 ${n} ${MREMAP_MAYMOVE | MREMAP_FIXED} ${at}`,
    body: (k, mm, at, n, arena) => mremap(k, mm, arena, PAGE_SIZE, n, MREMAP_MAYMOVE | MREMAP_FIXED, at),
    answer: 'address',
  },
  { words: (at) => `shmdt ${at}`, body: (k, mm, at) => shmdt(k, mm, at) },
]

const callOf = (number: number): EdgeCall => calls[number % calls.length]!
const placeOf = (number: number): number => PLACES[number % PLACES.length]!
const lengthOf = (number: number): number => LENGTHS[number % LENGTHS.length]!

function edgeWords(step: Extract<EdgeStep, { op: 'edge' }>): string {
  return callOf(step.call).words(exactText(placeOf(step.where)), exactText(lengthOf(step.long)))
}

export const edgeSteps: StepKinds<EdgeStep> = {
  edge: {
    make: ({ random }) => ({
      op: 'edge',
      call: random.below(calls.length),
      where: random.below(PLACES.length),
      long: random.below(LENGTHS.length),
    }),
    text: edgeWords,
    commands: (step) => oneCommand(`sys ${edgeWords(step)}`),
    answer: 'address',
    run(engine, self, step) {
      const { body } = callOf(step.call)
      const { start } = engine.arena
      return call(engine, self, body(engine.k, self.space, placeOf(step.where), lengthOf(step.long), start))
    },
  },
  mmapOdd: {
    make: makeOddMmap,
    text(step) {
      const file = step.file === null ? '' : ` file ${step.file}+${bytesText(step.offset)}`
      return `mmap ${rangeText(step)} ${protText(step.prot)}(${step.prot}) ${mapFlagsText(step.flags)}(0x${step.flags.toString(16)})${file}`
    },
    commands(step) {
      const fd = step.file === null ? '-1' : `$f${step.file}`
      return oneCommand(`sys mmap ${arenaRange(step)} ${step.prot} ${step.flags} ${fd} ${step.offset}`)
    },
    answer: 'address',
    refusesTooLong: true,
    mayDangle: ({ file }) => file !== null,
    follow: (_world, self, { file }) => file === null || self.files.has(file),
    replaces: (step) => ((step.flags & MAP_FIXED) === 0 ? null : step),
    run(engine, self, step) {
      const file = step.file === null ? null : (self.files.get(step.file) ?? null)
      const { length, prot, flags, offset } = step
      const addr = addressOf(engine, step.at)
      return call(engine, self, mmap(engine.k, self.space, { addr, length, prot, flags, file, offset }))
    },
  },
  mprotectOdd: {
    make(generation) {
      const { random } = generation
      let prot = random.pick([0, PROT_READ, PROT_READ | PROT_WRITE, PROT_WRITE, PROT_READ | PROT_EXEC])
      for (const bit of [PROT_SEM, 0x10, 0x100, PROT_GROWSDOWN, PROT_GROWSUP])
        if (random.chance(20)) prot |= bit
      return { op: 'mprotectOdd', ...generation.range(), prot }
    },
    text: (step) => `mprotect ${rangeText(step)} ${protText(step.prot)}(0x${step.prot.toString(16)})`,
    commands: (step) => oneCommand(`sys mprotect ${arenaRange(step)} ${step.prot}`),
    run: (engine, self, { at, length, prot }) =>
      call(engine, self, mprotect(engine.k, self.space, addressOf(engine, at), length, prot)),
  },
  stack: {
    make(generation) {
      const { random, terrain } = generation
      const page = random.chance(50) ? random.below(terrain.busy) : random.pick([270, 300, 540, 560])
      const range = { at: page * PAGE_SIZE, length: random.between(1, 3) * PAGE_SIZE }
      generation.mapped(range)
      return { op: 'stack', ...range, locked: random.chance(10), readOnly: random.chance(15) }
    },
    text: (step) =>
      `stack ${rangeText(step)}${step.locked ? ' locked' : ''}${step.readOnly ? ' read-only' : ''}`,
    commands: (step) =>
      oneCommand(`sys mmap ${arenaRange(step)} ${stackProt(step)} ${stackFlags(step)} -1 0`),
    answer: 'address',
    replaces: (step) => step,
    run(engine, self, step) {
      const request = { prot: stackProt(step), flags: stackFlags(step), file: null, offset: 0 }
      const range = { addr: addressOf(engine, step.at), length: step.length }
      return call(engine, self, mmap(engine.k, self.space, { ...range, ...request }))
    },
  },
  reach: {
    make(generation) {
      const { random } = generation
      const { page, pages } = generation.pages(false)
      const below = random.pick([1, 1, 2, 3, 8, 16, 17, 100, 254, 255, 256, 257, 258, 300])
      const from = random.chance(80) ? page : page + pages
      return {
        op: 'reach',
        at: (from - below) * PAGE_SIZE + random.below(PAGE_SIZE),
        write: random.chance(60),
      }
    },
    text: ({ at, write }) => `${write ? 'write' : 'read'} ${arenaAddress(at)}`,
    commands: ({ at, write }) => oneCommand(`touch ${write ? 'w' : 'r'} ${arenaAddress(at)}`),
    run(engine, self, { at, write }) {
      const result = self.run(accessUser(engine.k, self.space, addressOf(engine, at), write))
      return result.ok ? value(0) : signal(result, at, 0)
    },
  },
}

function stackProt({ readOnly }: { readonly readOnly: boolean }): number {
  return readOnly ? PROT_READ : PROT_READ | PROT_WRITE
}

function stackFlags({ locked }: { readonly locked: boolean }): number {
  return ANON | MAP_FIXED | MAP_GROWSDOWN | (locked ? MAP_LOCKED : 0)
}

const ODD_FLAGS: readonly number[] = [
  MAP_SYNC,
  MAP_32BIT,
  MAP_ABOVE4G,
  MAP_GROWSDOWN,
  MAP_DENYWRITE,
  MAP_EXECUTABLE,
  MAP_LOCKED,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_NONBLOCK,
  MAP_STACK,
  MAP_FIXED_NOREPLACE,
  // nobody's
  0x800000,
  // MAP_UNINITIALIZED
  0x4000000,
]

function makeOddMmap(generation: Generation, process: Shadow): Extract<EdgeStep, { op: 'mmapOdd' }> {
  const { random } = generation
  const { at, length } = generation.range(true, TOO_LONG)
  const file = process.files.length > 0 && random.chance(60) ? random.pick(process.files) : null
  let flags: number = random.pick([
    MAP_SHARED,
    MAP_PRIVATE,
    MAP_PRIVATE,
    MAP_SHARED_VALIDATE,
    MAP_SHARED_VALIDATE,
    MAP_DROPPABLE,
    0,
    4,
  ])
  if (file === null ? random.chance(95) : random.chance(5)) flags |= MAP_ANONYMOUS
  if (random.chance(75)) flags |= MAP_FIXED
  for (let i = random.below(3); i > 0; i--) flags |= random.pick(ODD_FLAGS)
  const offset = file === null ? random.pick([0, 0, PAGE_SIZE, 1]) : oddOffset(generation)
  const prot = random.pick([0, 1, 3, 3, 3, 3, 2, 5, 7, 0x8 | 3, 0xffffff0])
  if (length > 0 && length <= 64 * PAGE_SIZE) generation.mapped({ at, length })
  return { op: 'mmapOdd', at, length, prot, flags, file, offset }
}

function oddOffset({ random }: Generation): number {
  if (random.chance(70)) return random.below(6) * PAGE_SIZE
  return random.pick([1, -PAGE_SIZE, -2 * PAGE_SIZE, 2 ** 52])
}
