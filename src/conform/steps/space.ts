import { PAGE_SIZE } from '../../base/units.ts'
import { madvise } from '../../mm/madvise.ts'
import * as mman from '../../mm/mman.ts'
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_STACK,
  MREMAP_DONTUNMAP,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
} from '../../mm/mman.ts'
import { mmap } from '../../mm/mmap.ts'
import { mprotect } from '../../mm/mprotect.ts'
import { mremap } from '../../mm/mremap.ts'
import { mseal } from '../../mm/mseal.ts'
import { munmap } from '../../mm/munmap.ts'
import { oneCommand } from '../agent-commands.ts'
import { addressOf, call } from '../engine-context.ts'
import { TOO_LONG, type Generation, type Shadow } from '../generation.ts'
import { namedBits } from '../named-bits.ts'
import { arenaAddress, arenaRange, bytesText, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'

/** Calls that change the address space. Numbers are what the system call gets (PROT_*, MAP_*, …). */
export type SpaceStep =
  | MmapStep
  | ({ readonly op: 'munmap' } & Range)
  | ({ readonly op: 'mprotect'; readonly prot: number } & Range)
  | MremapStep
  | ({ readonly op: 'madvise'; readonly advice: number } & Range)
  | ({ readonly op: 'mseal' } & Range)

type MmapStep = {
  readonly op: 'mmap'
  readonly prot: number
  readonly flags: number
  /** null: fd -1 */
  readonly file: number | null
  /** bytes into the file */
  readonly offset: number
} & Range

type MremapStep = {
  readonly op: 'mremap'
  readonly newLength: number
  readonly flags: number
  readonly to: number
} & Range

const RW = 3

export const spaceSteps: StepKinds<SpaceStep> = {
  mmap: {
    make: (generation, process) => makeMmap(generation, process),
    text(step) {
      const file = step.file === null ? '' : ` file ${step.file}+${bytesText(step.offset)}`
      return `mmap ${rangeText(step)} ${protText(step.prot)} ${mapFlagsText(step.flags)}${file}`
    },
    commands(step) {
      const fd = step.file === null ? '-1' : `$f${step.file}`
      return oneCommand(`sys mmap ${arenaRange(step)} ${step.prot} ${step.flags} ${fd} ${step.offset}`)
    },
    answer: 'address',
    refusesTooLong: true,
    mayDangle: ({ file }) => file !== null,
    machineWide: ({ flags }) => (flags & MAP_HUGETLB) !== 0,
    isMade: (self, { file }) => file === null || self.files.has(file),
    follow: (_world, self, { file }) => file === null || self.files.has(file),
    replaces(step) {
      const replacing = (step.flags & MAP_FIXED) !== 0 && (step.flags & MAP_FIXED_NOREPLACE) === 0
      return replacing ? step : null
    },
    run(engine, self, step) {
      const file = step.file === null ? null : self.files.get(step.file)!
      const { length, prot, flags, offset } = step
      const addr = addressOf(engine, step.at)
      return call(engine, self, mmap(engine.k, self.space, { addr, length, prot, flags, file, offset }))
    },
  },
  munmap: {
    make: (generation) => ({ op: 'munmap', ...generation.range(false, TOO_LONG) }),
    text: (step) => `munmap ${rangeText(step)}`,
    commands: (step) => oneCommand(`sys munmap ${arenaRange(step)}`),
    refusesTooLong: true,
    run: (engine, self, { at, length }) =>
      call(engine, self, munmap(engine.k, self.space, addressOf(engine, at), length)),
  },
  mprotect: {
    make: (generation) => ({
      op: 'mprotect',
      ...generation.range(),
      prot: generation.random.pick([0, 1, 1, RW, RW, RW, 2, 5, 7]),
    }),
    text: (step) => `mprotect ${rangeText(step)} ${protText(step.prot)}`,
    commands: (step) => oneCommand(`sys mprotect ${arenaRange(step)} ${step.prot}`),
    run: (engine, self, { at, length, prot }) =>
      call(engine, self, mprotect(engine.k, self.space, addressOf(engine, at), length, prot)),
  },
  mremap: {
    make: makeMremap,
    text(step) {
      const to = (step.flags & MREMAP_FIXED) === 0 ? '' : ` to ${arenaAddress(step.to)}`
      const flags = namedBits(step.flags, 'MREMAP_')
      return `mremap ${rangeText(step)} → ${bytesText(step.newLength)} ${flags}${to}`
    },
    commands: (step) =>
      oneCommand(`sys mremap ${arenaRange(step)} ${step.newLength} ${step.flags} ${arenaAddress(step.to)}`),
    answer: 'address',
    refusesTooLong: true,
    replaces: ({ flags, to, newLength }) =>
      (flags & MREMAP_FIXED) === 0 ? null : { at: to, length: newLength },
    run(engine, self, { at, length, newLength, flags, to }) {
      const [from, target] = [addressOf(engine, at), addressOf(engine, to)]
      return call(engine, self, mremap(engine.k, self.space, from, length, newLength, flags, target))
    },
  },
  madvise: {
    make: (generation) => ({
      op: 'madvise',
      ...generation.range(),
      advice: generation.random.pick(generation.terrain.advice),
    }),
    text: (step) => `madvise ${rangeText(step)} ${adviceText(step.advice)}`,
    // ksmd, while it runs for another program, would merge these pages too
    machineWide: ({ advice }) => advice === mman.MADV_MERGEABLE,
    // a huge page may be made where the small pages of another one were, those of a file being unmapped everywhere
    replaces: (step) => (step.advice === mman.MADV_COLLAPSE ? 'anywhere' : null),
    commands: (step) => oneCommand(`sys madvise ${arenaRange(step)} ${step.advice}`),
    run: (engine, self, { at, length, advice }) =>
      call(engine, self, madvise(engine.k, self.space, addressOf(engine, at), length, advice)),
  },
  mseal: {
    make: (generation) => ({ op: 'mseal', ...generation.range() }),
    text: (step) => `mseal ${rangeText(step)}`,
    commands: (step) => oneCommand(`sys mseal ${arenaRange(step)}`),
    run: (engine, self, { at, length }) =>
      call(engine, self, mseal(engine.k, self.space, addressOf(engine, at), length, 0)),
  },
}

/** @param roomy one of the first: large, writable and where it is wanted */
export function makeMmap(generation: Generation, process: Shadow, roomy = false): MmapStep {
  const { random, unit, terrain } = generation
  let { at, length } = generation.range(true, TOO_LONG)
  if (roomy) {
    const half = terrain.busy / 2
    at = random.below(half) * unit
    length = random.between(Math.min(4, half), half) * unit
  }
  let kind = random.weighted(terrain.maps)
  if (kind === 'file' && process.files.length === 0) kind = 'private'
  const prot = roomy ? RW : random.pick([RW, RW, RW, RW, RW, 1, 0, 2, 7])
  let flags = kind === 'private' ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_ANONYMOUS
  if (kind === 'hugetlb') flags = (random.chance(70) ? MAP_PRIVATE : MAP_SHARED) | MAP_ANONYMOUS | MAP_HUGETLB
  let file: number | null = null
  let offset = 0
  if (kind === 'file') {
    file = random.pick(process.files)
    offset = random.chance(60) ? 0 : random.between(0, unit === PAGE_SIZE ? 8 : 2) * unit
    flags = random.chance(50) ? MAP_SHARED : MAP_PRIVATE
    if (random.chance(3)) offset += 1
  }
  const place = random.below(100)
  if (roomy || place < 70) flags |= MAP_FIXED
  else if (place < 82) flags |= MAP_FIXED_NOREPLACE
  const extra = random.below(100)
  if (roomy) {
    // nothing unusual
  } else if (extra < 8) flags |= MAP_POPULATE
  else if (extra < 10) flags |= MAP_POPULATE | MAP_NONBLOCK
  else if (extra < 13) flags |= MAP_NORESERVE
  else if (extra < 15) flags |= MAP_STACK
  else if (extra < 16) flags |= MAP_GROWSDOWN
  else if (extra < 20 && terrain.locks) flags |= MAP_LOCKED
  if (length > 0 && length <= 64 * unit) generation.mapped({ at, length })
  return { op: 'mmap', at, length, prot, flags, file, offset }
}

function makeMremap(generation: Generation): MremapStep {
  const { random, unit, terrain } = generation
  const { at, length } = generation.range(false, TOO_LONG)
  const pages = Math.min(64, Math.max(0, Math.floor(length / unit)))
  const grown = random.chance(40)
    ? pages + random.between(1, 4)
    : random.chance(50)
      ? pages
      : random.between(1, Math.max(1, pages))
  let flags: number = random.pick([
    0,
    0,
    MREMAP_MAYMOVE,
    MREMAP_MAYMOVE | MREMAP_FIXED,
    MREMAP_MAYMOVE | MREMAP_FIXED,
  ])
  if (random.chance(20)) flags |= MREMAP_DONTUNMAP
  if (random.chance(2)) flags |= 8
  const newLength = ((flags & MREMAP_DONTUNMAP) !== 0 && random.chance(80) ? pages : grown) * unit
  const to = random.below(unit === PAGE_SIZE ? terrain.busy + 8 : terrain.busy) * unit
  if ((flags & MREMAP_FIXED) !== 0 && newLength > 0) generation.mapped({ at: to, length: newLength })
  return { op: 'mremap', at, length, newLength, flags, to }
}

/** `rw-` */
export function protText(bits: number): string {
  return `${(bits & 1) !== 0 ? 'r' : '-'}${(bits & 2) !== 0 ? 'w' : '-'}${(bits & 4) !== 0 ? 'x' : '-'}`
}

/** `PRIVATE|ANONYMOUS` */
export function mapFlagsText(flags: number): string {
  const type = ['0', 'SHARED', 'PRIVATE', 'SHARED_VALIDATE'][flags & 15] ?? `type${flags & 15}`
  const names = Object.entries(mman)
    .filter(([name, bit]) => name.startsWith('MAP_') && typeof bit === 'number' && bit > 15)
    .filter(([name, bit]) => !/TYPE|SHIFT|HUGE_/.test(name) && (flags & (bit as number)) !== 0)
    .map(([name]) => name.slice(4))
  return [type, ...names].join('|')
}

function adviceText(n: number): string {
  const found = Object.entries(mman).find(([name, value]) => name.startsWith('MADV_') && value === n)
  return found === undefined ? `advice ${n}` : found[0].slice(5)
}
