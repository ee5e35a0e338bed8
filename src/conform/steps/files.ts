import { EINVAL } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../base/units.ts'
import { SHMEM, regularFileKind, type AddressSpace, type OpenFile } from '../../mm/file.ts'
import { PG_DIRTY } from '../../memory/page-flags.ts'
import { createFile, newCachedPage, readIntoCache } from '../../mm/filemap.ts'
import { hugetlbFileSetup } from '../../mm/hugetlb.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { sealAsMade } from '../../mm/memfd-seals.ts'
import { fallocateHole, ftruncate } from '../../mm/truncate.ts'
import { eachPage, oneCommand, type Commands, type ScriptState } from '../agent-commands.ts'
import { DANGLING, OK, answer, call, type Done, type EngineContext } from '../engine-context.ts'
import type { EngineProcess } from '../engine-process.ts'
import type { Generation, Shadow } from '../generation.ts'
import { pattern } from '../pattern.ts'
import { bytesText } from '../range.ts'
import type { By, StepKind, StepKinds } from '../step-kind.ts'
import type { World, WorldProcess } from '../world.ts'

/** Files by the program's own numbers, and what changes them. */
export type FileStep =
  /** a memory file with content made from the seed, null: never written */
  | { readonly op: 'memfd'; readonly file: number; readonly size: number; readonly seed: number | null }
  /** a memory file of 2 MiB pages */
  | { readonly op: 'hugefd'; readonly file: number; readonly size: number }
  /** a file of the disk's filesystem, written and synced */
  | { readonly op: 'disk'; readonly file: number; readonly size: number; readonly seed: number }
  | { readonly op: 'close'; readonly file: number }
  | { readonly op: 'ftruncate'; readonly file: number; readonly size: number }
  | { readonly op: 'punch'; readonly file: number; readonly offset: number; readonly length: number }

const MFD_HUGETLB = 4
const O_RDWR = 0x2
const O_RDWR_CREAT = 0x42
export const SYS_FADVISE64 = 221
const POSIX_FADV_RANDOM = 1
const MOST_FILES = 3

/** What steps that make a file have in common. */
export const newFile = {
  answer: 'nothing',
  creates: ({ file }: { readonly file: number }) => `file ${file}`,
  follow(_world: World, self: WorldProcess, { file }: { readonly file: number }) {
    self.files.add(file)
    return true
  },
} satisfies Partial<StepKind<{ readonly file: number }>>

/** What steps about a file have in common. */
export const onFile = {
  mayDangle: () => true,
  follow: (_world: World, self: WorldProcess, { file }: { readonly file: number }) => self.files.has(file),
} satisfies Partial<StepKind<{ readonly file: number }>>

export const fileSteps: StepKinds<FileStep> = {
  memfd: {
    ...newFile,
    make(generation, process) {
      const file = nameFile(generation, process)
      if (file === null) return null
      const size = smallSize(generation)
      const seed = generation.random.below(256)
      return { op: 'memfd', file, size, seed: generation.random.chance(60) ? seed : null }
    },
    text: ({ file, size, seed }) =>
      `memfd file ${file} of ${bytesText(size)}${seed === null ? ' (holes)' : ''}`,
    commands: ({ file, size, seed }) =>
      oneCommand(`memfd f${file} 0 ${size}${seed === null ? '' : ` ${seed}`}`),
    run({ k }, self, { file, size, seed }) {
      const made = createFile(k, SHMEM, { path: `/memfd:f${file} (deleted)`, size })
      sealAsMade(k, made.mapping, 0)
      if (seed !== null) self.run(writeWhole(k, made.mapping, seed))
      return keep(self, file, made)
    },
  },
  hugefd: {
    ...newFile,
    make(generation, process) {
      const file = nameFile(generation, process)
      if (file === null) return null
      return { op: 'hugefd', file, size: generation.random.between(1, 3) * generation.unit }
    },
    text: ({ file, size }) => `hugefd file ${file} of ${bytesText(size)}`,
    commands: ({ file, size }) => oneCommand(`memfd f${file} ${MFD_HUGETLB} ${size}`),
    machineWide: () => true,
    run(engine, self, { file, size }) {
      if (size % PMD_SIZE !== 0) return answer(engine, -EINVAL)
      const name = `/memfd:f${file} (deleted)`
      return keep(self, file, hugetlbFileSetup(engine.k, { size, pageSize: PMD_SIZE, name, noreserve: true }))
    },
  },
  disk: {
    ...newFile,
    make(generation, process) {
      const file = nameFile(generation, process)
      if (file === null) return null
      // where writes are of many pages, some find it empty
      const { bulk } = generation.terrain
      const size = bulk === true && generation.random.chance(60) ? 0 : smallSize(generation)
      generation.disks.set(file, { size })
      return { op: 'disk', file, size, seed: generation.random.below(256) }
    },
    text: ({ file, size }) => `disk file ${file} of ${bytesText(size)}`,
    commands: writtenByPages,
    run({ k }, self, { file, size, seed }) {
      const made = createFile(k, regularFileKind('ext4'), { path: `disk/f${file}`, size })
      self.run(writeWhole(k, made.mapping, seed))
      return keep(self, file, made)
    },
  },
  close: {
    ...onFile,
    make(generation, process) {
      if (process.files.length === 0) return null
      return { op: 'close', file: process.files.splice(generation.random.below(process.files.length), 1)[0]! }
    },
    text: ({ file }) => `close file ${file}`,
    commands: ({ file }) => oneCommand(`close f${file}`),
    follow: (_world, self, { file }) => self.files.delete(file),
    run(_engine, self, { file }) {
      const open = self.files.get(file)
      self.files.delete(file)
      open?.put()
      return open === undefined ? DANGLING : OK
    },
  },
  ftruncate: {
    ...onFile,
    make({ random, unit, large, disks }, { files }) {
      if (files.length === 0) return null
      const file = random.pick(files)
      const disk = disks.get(file)
      if (disk?.bulk === true) {
        const pages = random.pick([0, 100, 256, 511, 512, 513, 1024, random.below(1100)])
        disk.size = pages * PAGE_SIZE - (pages > 0 && random.chance(30) ? random.below(PAGE_SIZE) : 0)
        return { op: 'ftruncate', file, size: disk.size }
      }
      const huge = large && disk === undefined
      const size = random.chance(70)
        ? random.between(0, huge ? 3 : 10) * (huge ? unit : PAGE_SIZE)
        : random.below(10 * PAGE_SIZE)
      if (disk !== undefined) disk.size = size
      return { op: 'ftruncate', file, size }
    },
    text: ({ file, size }) => `ftruncate file ${file} to ${bytesText(size)}`,
    commands: ({ file, size }) => oneCommand(`sys ftruncate $f${file} ${size}`),
    settle({ file, size }, script) {
      const disk = script.disks.get(file)
      if (disk !== undefined) disk.size = size
      return readBackCommands(file, script)
    },
    run: (engine, self, { file, size }) =>
      changed(engine, self, file, (open) => ftruncate(engine.k, open, size)),
  },
  punch: {
    ...onFile,
    make(generation, { files }) {
      if (files.length === 0) return null
      const { random, disks } = generation
      const file = random.pick(files)
      if (disks.get(file)?.bulk === true) {
        const odd = random.chance(75) ? 0 : random.below(PAGE_SIZE)
        const offset = random.pick([0, 256, 512, random.below(600), random.below(1100)]) * PAGE_SIZE + odd
        const pages = random.pick([1, 1, 2, 100, 256, 512, random.between(1, 600)])
        return {
          op: 'punch',
          file,
          offset,
          length: pages * PAGE_SIZE - (odd > 0 ? random.below(PAGE_SIZE) : 0),
        }
      }
      const whole = disks.has(file) ? PAGE_SIZE : generation.unit
      const unit = random.chance(70) ? whole : 1000
      const offset = random.below(unit > PAGE_SIZE ? 3 : 10) * unit
      return { op: 'punch', file, offset, length: random.between(1, 5) * unit }
    },
    text: ({ file, offset, length }) => `punch file ${file} at ${bytesText(offset)} for ${bytesText(length)}`,
    commands: ({ file, offset, length }) => oneCommand(`sys fallocate $f${file} 3 ${offset} ${length}`),
    settle: ({ file }, script) => readBackCommands(file, script),
    run: (engine, self, { file, offset, length }) =>
      changed(engine, self, file, (open) => fallocateHole(engine.k, open, offset, length)),
  },
}

/** null: the process has enough */
export function nameFile(generation: Generation, { files }: Shadow): number | null {
  if (files.length >= MOST_FILES) return null
  const file = generation.newName('file')
  files.push(file)
  return file
}

export function smallSize({ random }: Generation): number {
  return random.chance(70) ? random.between(1, 8) * PAGE_SIZE : random.between(1, 6 * PAGE_SIZE)
}

function keep(self: EngineProcess, name: number, file: OpenFile): Done {
  self.files.set(name, file)
  return OK
}

/** Written page by page, so that every page is a folio of its own; no read-ahead from then on. */
function writtenByPages({ file, size, seed }: By<FileStep & { op: 'disk' }>, script: ScriptState): Commands {
  script.disks.set(file, { path: file, size })
  const f = `f${file}`
  const writes = eachPage(size, (at, length) => {
    const page = at / PAGE_SIZE
    return `fdfill ${f} ${at} ${length} ${(seed + 17 * page) & 255}`
  })
  const open = `open ${f} disk ${f} ${O_RDWR_CREAT}`
  return { lines: [open, ...writes, `sys fsync $${f}`, withoutReadAhead(f)], result: 0, sum: -1 }
}

/** No page is read but the one that is asked for, through this open file. */
export function withoutReadAhead(name: string): string {
  return `sys ${SYS_FADVISE64} $${name} 0 0 ${POSIX_FADV_RANDOM}`
}

/**
 * Pages of a disk file that a change of its size, a hole or direct I/O took out of the cache are read in again one
 * by one, without read-ahead: what is cached, and in folios of which size, is then the same on both sides.
 */
export function readBackCommands(file: number, { disks }: ScriptState): string[] {
  const disk = disks.get(file)
  if (disk === undefined) return []
  const open = `open back disk f${disk.path} ${O_RDWR}`
  return [open, withoutReadAhead('back'), `fdpages back ${disk.size}`, 'close back']
}

/** What `readBackCommands` does. */
export function readBackOnEngine({ k }: EngineContext, mapping: AddressSpace): void {
  if (mapping.kind.canWriteback) readIntoCache(k, mapping, 0, Math.ceil(mapping.size / PAGE_SIZE))
}

/** A change of a file's size or content, and what `readBackCommands` does. */
function changed(
  engine: EngineContext,
  self: EngineProcess,
  name: number,
  change: (file: OpenFile) => Kthread<number>,
): Done {
  const file = self.files.get(name)
  if (file === undefined) return DANGLING
  const done = call(engine, self, change(file))
  readBackOnEngine(engine, file.mapping)
  return done
}

/** write(2) over a whole new file, and fsync: every page is in the cache, with the pattern in it. */
export function* writeWhole(k: Kernel, mapping: AddressSpace, seed: number): Kthread<void> {
  for (let done = 0; done < mapping.size; done += PAGE_SIZE) {
    const pfn = newCachedPage(k, mapping, done / PAGE_SIZE)
    if (pfn === 0) throw new RangeError('the file does not fit into the memory of the engine')
    k.memory.contents.write(pfn, 0, pattern(seed, done, Math.min(PAGE_SIZE, mapping.size - done)))
    // a disk file is synced afterwards
    if (mapping.kind.shmem) k.memory.frames.set(pfn, PG_DIRTY)
  }
}
