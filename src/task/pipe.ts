import { EAGAIN, EBADF, EFAULT, EINTR, ENOMEM, EPIPE } from '../base/errno.ts'
import { WaitQueue, type Kthread } from '../base/kthread.ts'
import { Mutex } from '../base/locks.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { AddressSpace, OpenFile, PIPE } from '../mm/file.ts'
import { copyPageToIter, type IovIter } from '../mm/iov-iter.ts'
import type { Kernel, PageHolder } from '../mm/kernel.ts'
import type { FileDescription } from './fd-table.ts'

/** PIPE_DEF_BUFFERS: how many pieces a pipe holds */
export const PIPE_BUFFERS = 16

/** `struct pipe_buffer`: a piece of a page, on which the pipe holds one reference. */
export interface PipeBuffer {
  readonly pfn: number
  /** bytes, within the page; moves as bytes are read */
  offset: number
  /** bytes left */
  length: number
  /** PIPE_BUF_FLAG_CAN_MERGE: the page is the pipe's own, so that the next write may go on in it */
  readonly canMerge: boolean
}

/**
 * `struct pipe_inode_info`: up to 16 pieces of pages between those who write and those who read. Bytes stay in
 * the page they came in until somebody reads them.
 */
export class Pipe implements PageHolder {
  readonly kernel: Kernel
  readonly name: string
  /** oldest first; empty ones are left by writes that failed (R-PIPE-2) */
  readonly buffers: PipeBuffer[] = []
  /** open descriptions of each end */
  readers = 0
  writers = 0
  /** those who wait for bytes, or for the last writer to go */
  readonly readQueue: WaitQueue
  /** pipe->mutex: held while bytes are moved, also while that faults; not while waiting for bytes or room */
  readonly mutex: Mutex
  /** those who wait for room, or for the last reader to go */
  readonly writeQueue: WaitQueue

  /** @internal `makePipe` makes pipes */
  constructor(k: Kernel) {
    this.kernel = k
    this.name = `pipe ${k.nextId()}`
    this.readQueue = new WaitQueue(`${this.name} to read from`)
    this.writeQueue = new WaitQueue(`${this.name} to write to`)
    this.mutex = new Mutex(`mutex of ${this.name}`, k)
    k.holders.add(this)
  }

  get full(): boolean {
    return this.buffers.length >= PIPE_BUFFERS
  }

  /** bytes that can be read */
  get bytes(): number {
    return this.buffers.reduce((sum, { length }) => sum + length, 0)
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const { pfn } of this.buffers) visit(pfn, 1, 0)
  }

  /** An end was closed: the other side finds out, and with the second end the bytes go. */
  closed(): void {
    this.readQueue.wakeAll()
    this.writeQueue.wakeAll()
    if (this.readers + this.writers > 0) return
    for (const { pfn } of this.buffers.splice(0)) this.kernel.memory.put(pfn)
    this.kernel.holders.delete(this)
  }
}

/**
 * The open description of one end of a pipe.
 * @rule R-PIPE-5
 */
export class PipeEnd implements FileDescription {
  readonly pipe: Pipe
  readonly end: 'read' | 'write'
  /** O_NONBLOCK */
  nonblock: boolean
  #refs = 1
  #file: OpenFile | null = null

  constructor(pipe: Pipe, end: 'read' | 'write', nonblock: boolean) {
    this.pipe = pipe
    this.end = end
    this.nonblock = nonblock
    if (end === 'read') pipe.readers++
    else pipe.writers++
  }

  /**
   * What mmap(2) sees of it: a file without an mmap method, on a mount that may be without exec.
   * @rule R-AS-10.22
   */
  get file(): OpenFile {
    if (this.#file === null) {
      const mapping = new AddressSpace(this.pipe.kernel.nextId(), PIPE, 0)
      mapping.noexec = this.pipe.kernel.release.mm.pipesAreNoexec
      const reads = this.end === 'read'
      this.#file = new OpenFile(mapping, this.pipe.name, { readable: reads, writable: !reads })
    }
    return this.#file
  }

  get(): this {
    this.#refs++
    return this
  }

  put(): void {
    if (--this.#refs > 0) return
    if (this.end === 'read') this.pipe.readers--
    else this.pipe.writers--
    this.pipe.closed()
  }
}

/** pipe2(2). Both ends have one reference, the caller's. */
export function makePipe(k: Kernel, nonblock = false): { read: PipeEnd; write: PipeEnd } {
  const pipe = new Pipe(k)
  return { read: new PipeEnd(pipe, 'read', nonblock), write: new PipeEnd(pipe, 'write', nonblock) }
}

/**
 * read(2) of a pipe: what there is, as far as it is wanted; sleeps only while there is nothing. A piece that
 * cannot be stored completely stays whole.
 * @param nonblock answer -EAGAIN instead of sleeping
 * @param splices vmsplice(2): what was copied is answered when an empty piece comes, which read(2) passes over
 * @returns bytes, 0 when nothing is left and nobody writes; -EBADF, -EFAULT, -EAGAIN, -EINTR
 * @rule R-PIPE-1
 */
export function* pipeRead(
  k: Kernel,
  file: PipeEnd,
  iter: IovIter,
  nonblock: boolean = file.nonblock,
  splices = false,
): Kthread<number> {
  const { pipe } = file
  if (file.end !== 'read') return refuse(k.current, EBADF, 'R-PIPE-1', { why: 'this end is for writing' })
  if (iter.count === 0) return 0
  for (;;) {
    if (!pipe.mutex.tryLock()) yield* pipe.mutex.lock()
    const done = yield* takeBytes(k, pipe, iter, splices)
    pipe.mutex.unlock()
    if (done !== 0 || pipe.writers === 0) return done
    if (nonblock) return -EAGAIN
    const interrupted = yield* sleepOn(k, pipe.readQueue)
    if (interrupted) return -EINTR
  }
}

function* takeBytes(k: Kernel, pipe: Pipe, iter: IovIter, splices: boolean): Kthread<number> {
  let done = 0
  while (pipe.buffers.length > 0 && iter.count > 0) {
    const buffer = pipe.buffers[0]!
    if (splices && buffer.length === 0 && done > 0) return done
    const bytes = Math.min(buffer.length, iter.count)
    if ((yield* copyPageToIter(k, buffer.pfn, buffer.offset, bytes, iter)) < bytes) {
      if (done > 0) return done
      return refuse(k.current, EFAULT, 'R-PIPE-1', { why: 'the memory to read into cannot be written' })
    }
    done += bytes
    buffer.offset += bytes
    buffer.length -= bytes
    if (buffer.length > 0) continue
    const wasFull = pipe.full
    pipe.buffers.shift()
    k.memory.put(buffer.pfn)
    if (wasFull) pipe.writeQueue.wakeAll()
  }
  return done
}

/**
 * write(2) to a pipe. What is not a multiple of a page may go on in the page of the last write; the rest takes
 * pages of its own, one for each 4096 bytes. Sleeps while all 16 places are taken.
 * @param nonblock stop when there is no room, with -EAGAIN where nothing was written
 * @returns bytes; -EBADF, -EPIPE (SIGPIPE is the caller's), -EFAULT, -EAGAIN, -EINTR, -ENOMEM
 * @rule R-PIPE-2
 */
export function* pipeWrite(
  k: Kernel,
  file: PipeEnd,
  iter: IovIter,
  nonblock: boolean = file.nonblock,
): Kthread<number> {
  const { pipe } = file
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-PIPE-2', { why })
  if (file.end !== 'write') return refused(EBADF, 'this end is for reading')
  if (iter.count === 0) return 0
  let done = 0
  for (let first = true; ; first = false) {
    if (!pipe.mutex.tryLock()) yield* pipe.mutex.lock()
    const before = iter.count
    const error = yield* addBytes(k, pipe, iter, first)
    pipe.mutex.unlock()
    // also when nothing was written: who waits looks, and waits again
    pipe.readQueue.wakeAll()
    done += before - iter.count
    if (error < 0) return done > 0 ? done : error
    if (iter.count === 0) return done
    if (nonblock) return done > 0 ? done : -EAGAIN
    const interrupted = yield* sleepOn(k, pipe.writeQueue)
    if (interrupted) return done > 0 ? done : -EINTR
  }
}

/** Moves bytes into the pipe until it is full. @returns 0, or a negative errno where it stopped for another reason */
function* addBytes(k: Kernel, pipe: Pipe, iter: IovIter, mayMerge: boolean): Kthread<number> {
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-PIPE-2', { why })
  if (pipe.readers === 0) return refused(EPIPE, 'nobody can read from the pipe any more')
  const unreadable = 'the memory to write from cannot be read'
  if (mayMerge && !(yield* merge(k, pipe, iter, iter.count % PAGE_SIZE))) return refused(EFAULT, unreadable)
  const scratch = new Uint8Array(PAGE_SIZE)
  while (iter.count > 0 && !pipe.full) {
    const pfn = k.memory.allocFolio(0, { movable: false })
    if (pfn === 0) return -ENOMEM
    const bytes = scratch.subarray(0, Math.min(PAGE_SIZE, iter.count))
    const copied = yield* iter.copyFrom(bytes)
    const whole = copied === bytes.length
    if (whole || k.release.fault.failedPipeWriteTakesPlace) {
      k.memory.contents.write(pfn, 0, bytes.subarray(0, copied))
      pipe.buffers.push({ pfn, offset: 0, length: whole ? copied : 0, canMerge: true })
    } else k.memory.put(pfn)
    if (whole) continue
    iter.revert(copied)
    return refused(EFAULT, unreadable)
  }
  return 0
}

/** Appends the odd bytes of a write to the newest piece where they fit. @returns false where they cannot be read */
function* merge(k: Kernel, pipe: Pipe, iter: IovIter, odd: number): Kthread<boolean> {
  const last = pipe.buffers.at(-1)
  if (odd === 0 || last === undefined || !last.canMerge) return true
  const end = last.offset + last.length
  if (end + odd > PAGE_SIZE) return true
  const bytes = new Uint8Array(odd)
  const copied = yield* iter.copyFrom(bytes)
  if (copied < odd) {
    iter.revert(copied)
    return false
  }
  k.memory.contents.write(last.pfn, end, bytes)
  last.length += odd
  return true
}

/** @returns whether a signal ended the sleep */
export function* sleepOn(k: Kernel, queue: WaitQueue): Kthread<boolean> {
  yield { queue, what: queue.name, signals: 'any' }
  return k.current.signalPending || k.fatalSignalPending
}
