import { EBADF, EFAULT, EFBIG, EINVAL, EIO } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { PG_DIRTY } from '../memory/page-flags.ts'
import { Bio, SECTOR_SIZE, submitAndWait, type Direction } from './bio.ts'
import type { AddressSpace, OpenFile } from './file.ts'
import { UserIter, type IovIter } from './iov-iter.ts'
import type { Kernel } from './kernel.ts'
import { MAX_FILE_BYTES, storageOf, type FileStorage } from './storage.ts'
import { dropIdlePages, invalidatePages } from './truncate.ts'
import { writebackFile } from './writeback.ts'

/** One call under way. */
interface DirectIo {
  readonly k: Kernel
  readonly mapping: AddressSpace
  readonly storage: FileStorage
  readonly iter: IovIter
  readonly direction: Direction
  /** bytes for blocks that have no place yet: they are there only when the whole call succeeds */
  readonly unwritten: { readonly offset: number; readonly bytes: Uint8Array }[]
  /** end of the file before, bytes */
  readonly size: number
  /** where the call begins in the file, bytes */
  readonly offset: number
  /** a write that stopped early: blocks that have a place now and nothing in it, from the first one on */
  abandoned: { readonly start: number; readonly end: number } | null
}

/** `ext4_buffered_write_iter`: the rest of a direct write that stopped early. */
export type FallBack = (offset: number) => Kthread<number>

/**
 * read(2) of a file opened with O_DIRECT: from the disk into the pages of the caller, past the page cache. What
 * the cache has of the range is written first. Holes and what lies beyond the end are zeroed by ordinary stores.
 * @param offset bytes into the file
 * @param iter where the bytes go; all of it is written, also what lies beyond the end of the file
 * @returns bytes, 0 at the end of the file; -EBADF, -EINVAL (alignment), -EFAULT even where a part has arrived
 * @rule R-DIO-1
 */
export function* directRead(k: Kernel, file: OpenFile, offset: number, iter: IovIter): Kthread<number> {
  const { mapping } = file
  if (!file.readable) return refused(k, EBADF, 'R-DIO-1', 'the file is not open for reading')
  if (offset < 0) return refused(k, EINVAL, 'R-DIO-1', 'the position is negative')
  const { size } = mapping
  if (iter.count === 0 || offset >= size) return 0
  // @rule R-DIO-5
  writebackFile(k, mapping, ...pagesOf(offset, iter.count))
  const storage = storageOf(k, mapping)
  const io: DirectIo = {
    k,
    mapping,
    storage,
    iter,
    direction: 'read',
    unwritten: [],
    size,
    offset,
    abandoned: null,
  }
  const done = yield* eachRun(io)
  // @rule R-DIO-8
  return done < 0 ? done : Math.min(done, size - offset)
}

/**
 * write(2) of a file opened with O_DIRECT: from the pages of the caller to the disk. The page cache gives up the
 * range before and, because the call itself may have brought pages back, after it.
 * @param offset bytes into the file
 * @param fallBack writes the rest of `iter` through the page cache
 * @returns bytes; -EBADF, -EINVAL (alignment), -EFBIG, -EFAULT even where a part has been written
 * @rule R-DIO-1
 */
export function* directWrite(
  k: Kernel,
  file: OpenFile,
  offset: number,
  iter: IovIter,
  fallBack: FallBack,
): Kthread<number> {
  const { mapping } = file
  if (!file.writable) return refused(k, EBADF, 'R-DIO-1', 'the file is not open for writing')
  if (offset < 0) return refused(k, EINVAL, 'R-DIO-1', 'the position is negative')
  if (iter.count === 0) return 0
  if (offset >= MAX_FILE_BYTES)
    return refused(k, EFBIG, 'R-DIO-1', 'the position lies beyond what a file can hold')
  const reach = offset + iter.count
  const pages = pagesOf(offset, iter.count)
  writebackFile(k, mapping, ...pages)
  yield* invalidatePages(k, mapping, ...pages)
  const storage = storageOf(k, mapping)
  const { size } = mapping
  const io: DirectIo = {
    k,
    mapping,
    storage,
    iter,
    direction: 'write',
    unwritten: [],
    size,
    offset,
    abandoned: null,
  }
  const done = yield* eachRun(io)
  // @rule R-DIO-7
  if (done < 0) {
    // @rule R-DIO-14
    if (reach > storage.end) storage.free(Math.ceil(size / PAGE_SIZE), Infinity)
    return done
  }
  for (const { offset: at, bytes } of io.unwritten) storage.write(at, bytes)
  if (io.abandoned !== null) storage.allocateUnknown(io.abandoned.start, io.abandoned.end)
  // a write that stopped before its first byte (R-DIO-12) has reached its position all the same
  mapping.size = Math.max(size, offset + done)
  storage.end = Math.max(storage.end, offset + done)
  if (done > 0) yield* invalidatePages(k, mapping, ...pagesOf(offset, done))
  if (iter.count === 0) return done
  // @rule R-DIO-12
  const rest = yield* fallBack(offset + done)
  if (rest < 0) return rest
  const cached = pagesOf(offset + done, rest)
  writebackFile(k, mapping, ...cached)
  dropIdlePages(k, mapping, ...cached)
  return done + rest
}

/** Page indices that [offset, offset + length) touches. */
function pagesOf(offset: number, length: number): [start: number, end: number] {
  return [Math.floor(offset / PAGE_SIZE), Math.ceil((offset + length) / PAGE_SIZE)]
}

function refused(k: Kernel, errno: number, rule: string, why: string): number {
  return refuse(k.current, errno, rule, { why })
}

/**
 * Goes through the file run by run: blocks on the disk, holes.
 * @returns bytes, or -errno with a part of them moved
 * @rule R-DIO-2
 */
function* eachRun(io: DirectIo): Kthread<number> {
  const { iter, direction, storage, offset } = io
  let done = 0
  /** the first block of the run, of which a part may have been moved already */
  let first = 0
  let behind = 0
  storage.requireKnownPlaces(...pagesOf(offset, iter.count))
  while (iter.count > 0) {
    const at = offset + done
    const index = Math.floor(at / PAGE_SIZE)
    const { allocated, end } = storage.runAt(index)
    if (index >= behind) first = index
    behind = end
    const delayed = allocated || direction === 'write' ? Infinity : firstDelayed(io, index, end)
    // @rule R-DIO-13
    if (delayed === index)
      return refused(io.k, EIO, 'R-DIO-13', 'the cache has reserved room for the block and not written it')
    const length = Math.min(Math.min(end, delayed) * PAGE_SIZE - at, iter.count)
    if (direction === 'write') storage.takeReserved(index, Math.ceil((at + length) / PAGE_SIZE))
    const moved =
      allocated || direction === 'write' ? yield* transferRun(io, at, length) : yield* zeroRun(io, length)
    if (moved === -EFAULT && stopsEarly(io, at)) {
      abandonRest(io, first, at, length)
      return done
    }
    if (moved < 0) return moved
    done += moved
  }
  return done
}

/**
 * A run of new blocks behind the end of the file gets its place as a whole before anything is moved, and keeps it
 * when its write stops early. The block it stopped in is zeroed, in the others the disk has what it had. In a run
 * that begins before the end the block it stopped in stays a hole for readers.
 * @rule R-DIO-14
 * @rule R-DIO-12
 */
function abandonRest(io: DirectIo, first: number, at: number, length: number): void {
  const stopped = Math.floor(at / PAGE_SIZE)
  if (first * PAGE_SIZE < io.size) {
    while (io.unwritten.length > 0 && io.unwritten.at(-1)!.offset >= stopped * PAGE_SIZE) io.unwritten.pop()
    return
  }
  io.storage.allocate(stopped, stopped + 1)
  io.abandoned = { start: stopped + 1, end: Math.ceil((at + length) / PAGE_SIZE) }
}

/** The first page of a hole that has been written to in the cache and has no place on the disk yet. */
function firstDelayed({ k, mapping, storage }: DirectIo, start: number, end: number): number {
  const { frames } = k.memory
  let first = storage.firstReserved(start, end)
  mapping.pages.forEach(
    (index, pfn) => {
      if (index < first && frames.has(frames.head(pfn), PG_DIRTY)) first = index
    },
    start,
    end,
  )
  return first
}

/**
 * Whether memory that cannot be had ends a write without failing it: the rest of a new block is being zeroed then,
 * and that success is what counts.
 * @rule R-DIO-12
 */
function stopsEarly({ k, direction, storage, size }: DirectIo, at: number): boolean {
  if (direction === 'read' || at % PAGE_SIZE === 0 || !k.release.fault.directWriteStopsEarly) return false
  return at >= size || !storage.has(Math.floor(at / PAGE_SIZE))
}

/** A hole is read: zeros, stored by the kernel. Neither alignment nor pins matter. */
function* zeroRun(io: DirectIo, length: number): Kthread<number> {
  const zeros = new Uint8Array(Math.min(length, PAGE_SIZE))
  let done = 0
  while (done < length) {
    const part = zeros.subarray(0, Math.min(zeros.length, length - done))
    const copied = yield* io.iter.copyTo(part)
    done += copied
    if (copied < part.length) break
  }
  return done > 0 ? done : refused(io.k, EFAULT, 'R-DIO-2', 'the memory to read into cannot be written')
}

/** Moves as much of a run as can be had, bio by bio. @returns bytes, or -errno where nothing could be moved */
function* transferRun(io: DirectIo, offset: number, length: number): Kthread<number> {
  const { k, iter } = io
  // @rule R-DIO-2
  if (offset % SECTOR_SIZE !== 0 || length % SECTOR_SIZE !== 0)
    return refused(
      k,
      EINVAL,
      'R-DIO-2',
      'position and length must be multiples of the sector size, 512 bytes',
    )
  if (!(iter instanceof UserIter)) return yield* copyRun(io, offset, length)
  // @rule R-DIO-3
  if (k.release.fault.directChecksMemoryFirst && !iter.isAligned(SECTOR_SIZE))
    return refused(k, EINVAL, 'R-DIO-3', 'address and length of the memory must be multiples of 512 bytes')
  let done = 0
  while (done < length) {
    const bio = new Bio(k, io.direction)
    const submitted = submittedPages(io, offset + done)
    const error = yield* bio.fill(iter, length - done)
    if (error < 0) return done > 0 ? done : error
    if (submitted !== null) yield* refuseRace(io, submitted, bio)
    if (k.exploring) yield PREEMPT
    const at = offset + done
    const result = yield* submitAndWait(k, bio, io.mapping, (from, buffer) =>
      moveBytes(io, at + from, buffer),
    )
    if (result < 0) return result
    done += bio.bytes
  }
  return done
}

/** Pages of the file whose blocks earlier parts of a write are on their way to. */
interface Submitted {
  readonly start: number
  readonly end: number
  /** those that were in the cache before, with what the blocks had */
  readonly cached: ReadonlySet<number>
}

function submittedPages({ direction, mapping, offset }: DirectIo, at: number): Submitted | null {
  if (direction === 'read' || at === offset) return null
  const [start, end] = pagesOf(offset, at - offset)
  const cached = new Set<number>()
  mapping.pages.forEach((_, pfn) => cached.add(pfn), start, end)
  return { start, end, cached }
}

/**
 * The parts of a write are all under way before the first is waited for. Memory that is a page of the file itself,
 * read in from a block that is being written, has either content.
 * @throws Unmodelled
 * @rule R-DIO-15
 */
function* refuseRace(io: DirectIo, { start, end, cached }: Submitted, bio: Bio): Kthread<void> {
  const { k, mapping } = io
  const { frames } = k.memory
  let race = false
  bio.forEachReference((pfn) => {
    const index = frames.index[pfn]!
    race ||= frames.mapping[pfn] === mapping.id && index >= start && index < end && !cached.has(pfn)
  })
  if (!race) return
  yield* bio.release()
  throw new Unmodelled('a direct write from a page of its file that it has written before', 'R-DIO-15')
}

/** Pages that are held already (a registered buffer), or memory of the kernel: nothing is taken. */
function* copyRun(io: DirectIo, offset: number, length: number): Kthread<number> {
  const bytes = new Uint8Array(SECTOR_SIZE)
  for (let done = 0; done < length; done += SECTOR_SIZE) {
    if (io.direction === 'write') yield* io.iter.copyFrom(bytes)
    moveBytes(io, offset + done, bytes)
    if (io.direction === 'read') yield* io.iter.copyTo(bytes)
  }
  return length
}

/** Between the disk and a buffer, which may lie across blocks. */
function moveBytes(io: DirectIo, offset: number, buffer: Uint8Array): void {
  const { storage, unwritten } = io
  for (let done = 0; done < buffer.length;) {
    const at = offset + done
    const part = buffer.subarray(done, done + PAGE_SIZE - (at % PAGE_SIZE))
    if (io.direction === 'read') storage.read(at, part)
    else if (storage.has(Math.floor(at / PAGE_SIZE))) storage.write(at, part)
    else unwritten.push({ offset: at, bytes: part.slice() })
    done += part.length
  }
}
