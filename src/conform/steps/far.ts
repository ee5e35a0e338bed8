import { PAGE_SIZE } from '../../base/units.ts'
import { fileRead, fileWrite } from '../../mm/file-io.ts'
import { UserIter } from '../../mm/iov-iter.ts'
import { MAP_FIXED, MAP_GROWSDOWN, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE } from '../../mm/mman.ts'
import { mmap } from '../../mm/mmap.ts'
import { procRw, procRwAt } from '../../task/proc-file.ts'
import { procMemOpen } from '../../task/proc-mem.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, addressOf, call, counted } from '../engine-context.ts'
import { TOO_LONG } from '../generation.ts'
import { arenaAddress, arenaRange, exactText, rangeText, type Range } from '../range.ts'
import type { StepKind, StepKinds } from '../step-kind.ts'
import { onFile } from './files.ts'
import { endName } from './pipes.ts'
import { nameOf, reaches, relative } from './remote.ts'
import { mapFlagsText, protText } from './space.ts'

/** Places in files that no file reaches, addresses that are nobody's, descriptors that cannot be mapped. */
export type FarStep =
  /** pread */
  | ({ readonly op: 'farRead' } & FarIo)
  /** pwrite */
  | ({ readonly op: 'farWrite' } & FarIo)
  /** /proc/PID/mem; `seek`: with lseek and read or write, which take what pread calls negative */
  | {
      readonly op: 'farMem'
      readonly of: number
      readonly write: boolean
      readonly seek: boolean
      readonly at: number
      readonly where: number
      readonly long: number
    }
  /** mmap of an end of a pipe */
  | ({
      readonly op: 'mmapPipe'
      readonly pipe: number
      readonly end: number
      readonly prot: number
      readonly flags: number
      readonly offset: number
    } & Range)

/** `where` and `long`: numbers of the tables below. */
interface FarIo {
  readonly file: number
  readonly at: number
  readonly where: number
  readonly long: number
}

/** Where a file of ext4 must end, what lies beyond, what no offset passes, and negative ones. */
const OFFSETS: readonly number[] = [
  0xffffffff000,
  0xffffffff001,
  2 ** 44,
  2 ** 45 + 1,
  2 ** 63 - PAGE_SIZE,
  -1,
  -PAGE_SIZE,
  -(2 ** 63),
]
const ADDRESSES: readonly number[] = [
  -PAGE_SIZE,
  -PAGE_SIZE,
  -2 * PAGE_SIZE,
  -(2 ** 63),
  -(2 ** 47),
  2 ** 47,
  2 ** 47 - PAGE_SIZE,
  2 ** 62,
]
const LENGTHS: readonly number[] = [0, 1, 512, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE]

const of = (table: readonly number[], number: number): number => table[number % table.length]!

function farIo<Op extends 'farRead' | 'farWrite'>(
  op: Op,
  write: boolean,
): StepKind<{ readonly op: Op } & FarIo> {
  const call = write ? 'pwrite' : 'pread'
  return {
    ...onFile,
    make(generation, { files }) {
      if (files.length === 0) return null
      const { random, disks } = generation
      const onDisk = files.filter((file) => disks.has(file))
      return {
        op,
        file: random.pick(onDisk.length > 0 && random.chance(70) ? onDisk : files),
        at: generation.bytes().at,
        where: random.below(OFFSETS.length),
        long: random.below(LENGTHS.length),
      }
    },
    text({ file, at, where, long }) {
      const memory = rangeText({ at, length: of(LENGTHS, long) })
      return `${call} file ${file} at ${exactText(of(OFFSETS, where))} ${write ? 'from' : 'into'} ${memory}`
    },
    commands({ file, at, where, long }) {
      const memory = arenaRange({ at, length: of(LENGTHS, long) })
      return oneCommand(`sys ${call}64 $f${file} ${memory} ${exactText(of(OFFSETS, where))}`)
    },
    run(engine, self, { file, at, where, long }) {
      const open = self.files.get(file)
      if (open === undefined) return DANGLING
      const memory = { base: addressOf(engine, at), length: of(LENGTHS, long) }
      const iter = new UserIter(engine.k, self.space, [memory])
      return counted(self.run((write ? fileWrite : fileRead)(engine.k, open, of(OFFSETS, where), iter)))
    },
  }
}

export const farSteps: StepKinds<FarStep> = {
  farRead: farIo('farRead', false),
  farWrite: farIo('farWrite', true),
  farMem: {
    make(generation, process) {
      const { random } = generation
      return {
        op: 'farMem',
        of: relative(generation, process),
        write: random.chance(50),
        seek: random.chance(60),
        at: generation.bytes().at,
        where: random.below(ADDRESSES.length),
        long: random.below(LENGTHS.length),
      }
    },
    text(step) {
      const how = `${step.seek ? '' : 'p'}${step.write ? 'write' : 'read'}`
      const range = rangeText({ at: step.at, length: of(LENGTHS, step.long) })
      return `/proc/p${step.of}/mem ${how} at ${exactText(of(ADDRESSES, step.where))}, memory ${range}`
    },
    commands(step) {
      const what = `${exactText(of(ADDRESSES, step.where))} ${of(LENGTHS, step.long)} ${arenaAddress(step.at)}`
      const seek = step.seek ? ' seek' : ''
      return oneCommand(`mem ${step.write ? 'w' : 'r'} ${nameOf(step.of, step.by)} ${what}${seek}`)
    },
    follow: (world, _self, { by, of: other }) => reaches(world, by, other),
    run(engine, self, step) {
      const { k } = engine
      const target = engine.processes.get(step.of)
      if (target === undefined) return DANGLING
      const file = self.run(procMemOpen(k, target))
      if (typeof file === 'number') return counted(file)
      const user = addressOf(engine, step.at)
      const where = of(ADDRESSES, step.where)
      const length = of(LENGTHS, step.long)
      if (!step.seek) return counted(self.run(procRwAt(k, file, step.write, user, length, where)))
      file.position = self.run(file.seek(k, where < 0 ? where + 2 ** 64 : where))
      return counted(self.run(procRw(k, file, step.write, user, length)))
    },
  },
  mmapPipe: {
    make(generation, process) {
      if (process.pipes.length === 0) return null
      const { random } = generation
      let flags: number = random.pick([
        MAP_SHARED,
        MAP_SHARED,
        MAP_PRIVATE,
        MAP_PRIVATE,
        MAP_SHARED_VALIDATE,
        0,
      ])
      if (random.chance(60)) flags |= MAP_FIXED
      if (random.chance(10)) flags |= random.pick([MAP_GROWSDOWN, 0x800000])
      return {
        op: 'mmapPipe',
        ...generation.range(true, TOO_LONG),
        pipe: random.pick(process.pipes),
        end: random.chance(75) ? 0 : 1,
        prot: random.pick([0, 1, 1, 1, 3, 3, 2, 5]),
        flags,
        offset: random.chance(70) ? 0 : random.pick([PAGE_SIZE, 1, -PAGE_SIZE, -2 * PAGE_SIZE, 2 ** 52]),
      }
    },
    text: (step) =>
      `mmap ${rangeText(step)} ${protText(step.prot)} ${mapFlagsText(step.flags)} the ${step.end === 0 ? 'reading' : 'writing'} end of pipe ${step.pipe} at ${exactText(step.offset)}`,
    commands: (step) =>
      oneCommand(
        `sys mmap ${arenaRange(step)} ${step.prot} ${step.flags} $q${step.pipe}.${step.end === 0 ? 'r' : 'w'} ${exactText(step.offset)}`,
      ),
    answer: 'address',
    refusesTooLong: true,
    mayDangle: () => true,
    follow: (_world, self, { pipe, end }) => self.pipes.has(endName(pipe, end === 1)),
    replaces: (step) => ((step.flags & MAP_FIXED) === 0 ? null : step),
    run(engine, self, step) {
      const end = self.pipes.get(endName(step.pipe, step.end === 1))
      if (end === undefined) return DANGLING
      const { length, prot, flags, offset } = step
      const request = { addr: addressOf(engine, step.at), length, prot, flags, file: end.file, offset }
      return call(engine, self, mmap(engine.k, self.space, request))
    },
  },
}
