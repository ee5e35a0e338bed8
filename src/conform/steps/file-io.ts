import { EFAULT } from '../../base/errno.ts'
import { PAGE_SIZE, TASK_SIZE } from '../../base/units.ts'
import { fileRead, fileWrite } from '../../mm/file-io.ts'
import { openAgain } from '../../mm/filemap.ts'
import { BufferIter, UserIter } from '../../mm/iov-iter.ts'
import { MAX_RW_COUNT } from '../../mm/iovec.ts'
import { dropIdlePages } from '../../mm/truncate.ts'
import { writebackFile } from '../../mm/writeback.ts'
import { oneCommand, type Commands, type ScriptState } from '../agent-commands.ts'
import { DANGLING, OK, addressOf, counted, type Done, type EngineContext } from '../engine-context.ts'
import type { EngineProcess } from '../engine-process.ts'
import type { Generation, Shadow } from '../generation.ts'
import { addUp } from '../pattern.ts'
import { arenaRange, bytesText, rangeText, type Range } from '../range.ts'
import type { StepKind, StepKinds } from '../step-kind.ts'
import type { World, WorldProcess } from '../world.ts'
import {
  nameFile,
  onFile,
  readBackCommands,
  SYS_FADVISE64,
  readBackOnEngine,
  withoutReadAhead,
} from './files.ts'

/** Reading and writing files. */
export type FileIoStep =
  /** opens a disk file once more, with O_DIRECT */
  | { readonly op: 'direct'; readonly file: number; readonly of: number }
  /** opens a disk file once more, for reading only or for writing only */
  | { readonly op: 'reopen'; readonly file: number; readonly of: number; readonly writes: boolean }
  | ({ readonly op: 'pread'; readonly file: number; readonly offset: number } & Range)
  | ({ readonly op: 'pwrite'; readonly file: number; readonly offset: number } & Range)
  | { readonly op: 'fsync'; readonly file: number }
  /** reads all of a file through the page cache and adds it up */
  | { readonly op: 'fileSum'; readonly file: number }

const O_RDONLY = 0
const O_WRONLY = 1
const O_RDWR_DIRECT = 0x4002
const SECTOR = 512
const POSIX_FADV_DONTNEED = 4

interface OpenedAgain {
  readonly file: number
  readonly of: number
}

/** What opening a disk file once more has in common, whatever for. */
const openedAgain = {
  answer: 'nothing',
  mayDangle: () => true,
  creates: ({ file }: OpenedAgain) => `file ${file}`,
  follow(_world: World, self: WorldProcess, { file, of }: OpenedAgain) {
    if (!self.files.has(of)) return false
    self.files.add(file)
    return true
  },
} satisfies Partial<StepKind<OpenedAgain>>

/** The first disk file of a process, and the number of a file that is to be the same one; null: there is none. */
function sameDiskFile(generation: Generation, process: Shadow): OpenedAgain | null {
  const { disks } = generation
  const of = process.files.find((each) => disks.has(each))
  const file = of === undefined ? null : nameFile(generation, process)
  if (of === undefined || file === null) return null
  disks.set(file, disks.get(of)!)
  return { file, of }
}

/** @param flags O_* */
function openAgainCommands({ file, of }: OpenedAgain, script: ScriptState, flags: number): Commands {
  const disk = script.disks.get(of)
  if (disk !== undefined) script.disks.set(file, disk)
  const open = `open f${file} disk f${disk?.path ?? of} ${flags}`
  return { lines: [open, withoutReadAhead(`f${file}`)], result: 0, sum: -1 }
}

function openAgainOnEngine(
  engine: EngineContext,
  self: EngineProcess,
  { file, of }: OpenedAgain,
  access: Parameters<typeof openAgain>[3],
): Done {
  const open = self.files.get(of)
  if (open === undefined) return DANGLING
  self.files.set(file, openAgain(engine.k, open.mapping, open.path, access))
  return OK
}

export const fileIoSteps: StepKinds<FileIoStep> = {
  direct: {
    ...openedAgain,
    // direct I/O pins
    machineWide: () => true,
    make(generation, process) {
      const opened = sameDiskFile(generation, process)
      if (opened === null) return null
      generation.directs.add(opened.file)
      return { op: 'direct', ...opened }
    },
    text: ({ file, of }) => `open disk file ${of} with O_DIRECT as file ${file}`,
    commands: (step, script) => openAgainCommands(step, script, O_RDWR_DIRECT),
    run: (engine, self, step) =>
      openAgainOnEngine(engine, self, step, { readable: true, writable: true, direct: true }),
  },
  reopen: {
    ...openedAgain,
    make(generation, process) {
      const opened = sameDiskFile(generation, process)
      return opened === null ? null : { op: 'reopen', ...opened, writes: generation.random.chance(50) }
    },
    text: ({ file, of, writes }) =>
      `open disk file ${of} for ${writes ? 'writing' : 'reading'} only as file ${file}`,
    commands: (step, script) => openAgainCommands(step, script, step.writes ? O_WRONLY : O_RDONLY),
    run: (engine, self, step) =>
      openAgainOnEngine(engine, self, step, { readable: !step.writes, writable: step.writes }),
  },
  pread: {
    ...onFile,
    refusesTooLong: true,
    make: (generation, process) => {
      const transfer = someTransfer(generation, process.files)
      return transfer === null ? null : { op: 'pread', ...transfer }
    },
    text: (step) => `pread file ${step.file} at ${bytesText(step.offset)} into ${rangeText(step)}`,
    commands: (step) => oneCommand(`sys pread64 $f${step.file} ${arenaRange(step)} ${step.offset}`),
    run(engine, self, { file, at, length, offset }) {
      const open = self.files.get(file)
      if (open === undefined) return DANGLING
      const memory = userMemory(addressOf(engine, at), length)
      if (memory === null) return counted(-EFAULT)
      return counted(self.run(fileRead(engine.k, open, offset, new UserIter(engine.k, self.space, [memory]))))
    },
  },
  pwrite: {
    ...onFile,
    refusesTooLong: true,
    make: (generation, process) => {
      const transfer = someTransfer(generation, process.files)
      if (transfer === null) return null
      const { file, offset } = transfer
      if (generation.directs.has(file)) {
        // one that stops in a block goes on in the page cache (R-DIO-12): more than a page would be a large folio
        const length = offset % PAGE_SIZE === 0 ? transfer.length : Math.min(transfer.length, PAGE_SIZE)
        return { op: 'pwrite', ...transfer, length }
      }
      const disk = generation.disks.get(file)
      if (disk === undefined) return { op: 'pwrite', ...transfer }
      // more than a page of a file in one go could become one large folio; a gap before it would be read ahead
      const at = Math.min(offset, disk.size)
      const length = Math.min(transfer.length, PAGE_SIZE - (at % PAGE_SIZE))
      return { op: 'pwrite', ...transfer, offset: at, length }
    },
    text: (step) => `pwrite file ${step.file} at ${bytesText(step.offset)} from ${rangeText(step)}`,
    commands: (step) => oneCommand(`sys pwrite64 $f${step.file} ${arenaRange(step)} ${step.offset}`),
    settle({ file, offset, length }, script) {
      const disk = script.disks.get(file)
      if (disk === undefined || length <= 0) return []
      disk.size = Math.max(disk.size, offset + length)
      const { start, end } = pagesOf(offset, length)
      const drop = `sys ${SYS_FADVISE64} $f${file} ${start * PAGE_SIZE} ${(end - start) * PAGE_SIZE} ${POSIX_FADV_DONTNEED}`
      return [drop, ...readBackCommands(file, script)]
    },
    run(engine, self, { file, at, length, offset }) {
      const open = self.files.get(file)
      if (open === undefined) return DANGLING
      const memory = userMemory(addressOf(engine, at), length)
      const done =
        memory === null
          ? -EFAULT
          : self.run(fileWrite(engine.k, open, offset, new UserIter(engine.k, self.space, [memory])))
      if (length > 0) {
        const { start, end } = pagesOf(offset, length)
        // POSIX_FADV_DONTNEED begins with that
        writebackFile(engine.k, open.mapping, start, end)
        dropIdlePages(engine.k, open.mapping, start, end)
      }
      readBackOnEngine(engine, open.mapping)
      return counted(done)
    },
  },
  fileSum: {
    ...onFile,
    answer: 'nothing',
    make(generation, { files }) {
      const buffered = files.filter((file) => !generation.directs.has(file))
      return buffered.length === 0 ? null : { op: 'fileSum', file: generation.random.pick(buffered) }
    },
    text: ({ file }) => `sum of file ${file}`,
    commands: ({ file }) => oneCommand(`fdsum f${file} 0 ${WHOLE}`, 0),
    run({ k }, self, { file }) {
      const open = self.files.get(file)
      if (open === undefined) return DANGLING
      const bytes = new Uint8Array(WHOLE)
      const done = self.run(fileRead(k, open, 0, new BufferIter(bytes)))
      return done < 0 ? counted(done) : { ...OK, sum: addUp(0, bytes.subarray(0, done)) }
    },
  },
  fsync: {
    ...onFile,
    make: ({ random }, { files }) => (files.length === 0 ? null : { op: 'fsync', file: random.pick(files) }),
    text: ({ file }) => `fsync file ${file}`,
    commands: ({ file }) => oneCommand(`sys fsync $f${file}`),
    run({ k }, self, { file }) {
      const open = self.files.get(file)
      if (open === undefined) return DANGLING
      writebackFile(k, open.mapping)
      return OK
    },
  },
}

/** most bytes of a disk file */
const LONGEST = 16 * PAGE_SIZE
/** more than any file of a program has */
const WHOLE = 32 * PAGE_SIZE

function pagesOf(offset: number, length: number): { start: number; end: number } {
  return { start: Math.floor(offset / PAGE_SIZE), end: Math.ceil((offset + length) / PAGE_SIZE) }
}

/** The memory of a read or write; null where it is none, as a whole. */
export function userMemory(base: number, length: number): { base: number; length: number } | null {
  if (length < 0 || base + length > TASK_SIZE) return null
  return { base, length: Math.min(length, MAX_RW_COUNT) }
}

function someTransfer(
  generation: Generation,
  files: readonly number[],
): (Range & { file: number; offset: number }) | null {
  if (files.length === 0) return null
  const { random } = generation
  const direct = files.filter((file) => generation.directs.has(file))
  const file = random.pick(direct.length > 0 && random.chance(70) ? direct : files)
  if (!generation.directs.has(file)) {
    const offset = random.chance(50) ? random.below(10) * PAGE_SIZE : random.below(9 * PAGE_SIZE)
    return { file, ...generation.bytes(), offset }
  }
  const unit = random.chance(75) ? PAGE_SIZE : random.chance(90) ? SECTOR : 100
  const offset = unit === PAGE_SIZE ? random.below(9) * PAGE_SIZE : random.below(64) * unit
  const range = random.chance(4) ? generation.range() : generation.bytes()
  // memory that is no multiple of a sector must lie in one page, or the disk may or may not take it (R-DIO-3)
  const step = random.chance(60) ? PAGE_SIZE : SECTOR
  const at = Math.floor(range.at / step) * step
  const length = range.length < PAGE_SIZE && random.chance(90) ? SECTOR * random.between(1, 12) : range.length
  if (random.chance(5)) {
    const inPage = random.below(PAGE_SIZE - SECTOR)
    return { file, offset, at: Math.floor(range.at / PAGE_SIZE) * PAGE_SIZE + inPage, length: SECTOR }
  }
  const whole = random.chance(90) ? Math.floor(length / SECTOR) * SECTOR : length
  if (whole >= TASK_SIZE) return { file, offset, at, length: whole }
  // one read-ahead brings in all of the file, whatever the device's size for it is; and where it ends with a part of
  // a sector, what lies beside that on the disk is refused with it (R-DIO-4)
  const most = (offset + whole) % SECTOR === 0 ? LONGEST - offset : PAGE_SIZE - (offset % PAGE_SIZE)
  return { file, offset, at, length: Math.min(whole, most) }
}
