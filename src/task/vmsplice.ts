import { EAGAIN, EBADF, EFAULT, EINTR, EINVAL, EPIPE } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { UserIter } from '../mm/iov-iter.ts'
import { iovIterGetPages } from '../mm/iov-iter-pages.ts'
import { importIovec, type IovecArray } from '../mm/iovec.ts'
import type { Kernel } from '../mm/kernel.ts'
import { putPage } from '../mm/unpin.ts'
import type { FileDescription } from './fd-table.ts'
import { PipeEnd, pipeRead, sleepOn, type Pipe } from './pipe.ts'

export const SPLICE_F_MOVE = 1
export const SPLICE_F_NONBLOCK = 2
export const SPLICE_F_MORE = 4
/** the pages are the pipe's from now on; matters to splice(2) into a file only */
export const SPLICE_F_GIFT = 8
const SPLICE_F_ALL = 15

/** pages looked up at once */
const PAGES_PER_LOOP = 16

/**
 * vmsplice(2). Into the writing end: the pipe takes references to the pages the vectors show now; what is stored
 * into them later is what will be read. Out of the reading end: bytes are copied, as by readv(2).
 *
 * O_NONBLOCK of the pipe does not matter, only SPLICE_F_NONBLOCK does.
 * @param count entries of `iovecs`
 * @returns bytes; -EINVAL, -EBADF, -EFAULT, -EPIPE (SIGPIPE is the caller's), -EAGAIN, -EINTR
 * @rule R-PIPE-3
 */
export function* vmsplice(
  k: Kernel,
  file: FileDescription | null,
  iovecs: IovecArray,
  count: number,
  flags: number,
): Kthread<number> {
  if ((flags & ~SPLICE_F_ALL) !== 0)
    return refuse(k.current, EINVAL, 'R-PIPE-3', { why: 'an unknown SPLICE_F_* bit' })
  if (!(file instanceof PipeEnd))
    return refuse(k.current, EBADF, 'R-PIPE-3', { why: 'the descriptor is no end of a pipe' })
  const vector = importIovec(k, iovecs, count, 'R-PIPE-3')
  if (typeof vector === 'number') return vector
  const { mm } = k.current
  if (mm === null) throw new Error('vmsplice: a kernel thread has no user memory')
  const iter = new UserIter(k, mm, vector.entries)
  if (iter.count === 0) return 0
  const nonblock = (flags & SPLICE_F_NONBLOCK) !== 0
  if (file.end === 'read') return yield* pipeRead(k, file, iter, nonblock, true)
  const { pipe } = file
  const ready = yield* waitForSpace(k, pipe, nonblock)
  if (ready < 0) return ready
  const done = yield* pagesToPipe(k, pipe, iter)
  pipe.mutex.unlock()
  if (done > 0) pipe.readQueue.wakeAll()
  return done
}

/** @returns 0 with the pipe locked, or -errno */
function* waitForSpace(k: Kernel, pipe: Pipe, nonblock: boolean): Kthread<number> {
  for (;;) {
    if (!pipe.mutex.tryLock()) yield* pipe.mutex.lock()
    if (pipe.readers > 0 && !pipe.full) return 0
    pipe.mutex.unlock()
    if (pipe.readers === 0)
      return refuse(k.current, EPIPE, 'R-PIPE-3', { why: 'nobody can read from the pipe any more' })
    if (nonblock) return refuse(k.current, EAGAIN, 'R-PIPE-3', { why: 'all places of the pipe are taken' })
    const interrupted = yield* sleepOn(k, pipe.writeQueue)
    if (interrupted) return -EINTR
  }
}

/**
 * Fills the places of the pipe, a page in each. Pages are looked up in batches of 16; those for which there is no
 * place are let go, but they have been faulted in.
 * @returns bytes, -EFAULT where not even the first page could be had
 * @rule R-PIPE-4
 */
function* pagesToPipe(k: Kernel, pipe: Pipe, iter: UserIter): Kthread<number> {
  let done = 0
  while (iter.count > 0) {
    const taken = yield* iovIterGetPages(k, iter, { maxPages: PAGES_PER_LOOP, intoUser: false })
    if (typeof taken === 'number') {
      if (done > 0) return done
      const { refusal } = k.current
      return refuse(k.current, EFAULT, 'R-PIPE-4', { why: 'not even the first page could be had' }, refusal)
    }
    const { pages, count, bytes } = taken
    let inBatch = 0
    for (let i = 0; i < count; i++) {
      const pfn = pages.pfns[i]!
      if (pipe.full) {
        putPage(k, pfn)
        continue
      }
      const offset = i === 0 ? taken.offset : 0
      const length = Math.min(PAGE_SIZE - offset, bytes - inBatch)
      pipe.buffers.push({ pfn, offset, length, canMerge: false })
      inBatch += length
    }
    done += inBatch
    if (inBatch < bytes) return done
  }
  return done
}
