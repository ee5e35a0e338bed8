import { EAGAIN, EBADF } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import { iovecFromUser } from '../mm/iovec.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { FileDescription } from '../task/fd-table.ts'
import { PipeEnd } from '../task/pipe.ts'
import { Socket } from '../task/socket.ts'
import { vfsRead, vfsWrite } from '../task/read-write.ts'
import { checkFixedRange, checkUserRange, fixedMemory, isEmptySlot, takeBuffer, userIter } from './import.ts'
import { IoUringFile } from './ring-file.ts'
import {
  IORING_OP_READ_FIXED,
  IORING_OP_WRITE_FIXED,
  IOSQE_FIXED_FILE,
  type Request,
  type Waits,
} from './request.ts'

/**
 * READ_FIXED and WRITE_FIXED before they are tried. What is checked already here, before the descriptor is
 * looked up, differs: the slot until 6.12, the range on 6.12 only.
 * @rule R-URING-57
 */
export function prepareFixed(k: Kernel, request: Request): number {
  noFlags(request)
  const { fixedImport } = k.release.ioUring
  if (fixedImport === 'issue') return 0
  // an empty slot is one, and shows only when the range is looked at
  if (fixedImport === 'slot-first' && isEmptySlot(request)) return 0
  const error = takeBuffer(k, request)
  return error < 0 || fixedImport === 'slot-first' ? error : checkFixedRange(k, request.buffer!, request)
}

/** READ and WRITE: from 6.12 on the address is looked at before the descriptor. @rule R-URING-93 */
export function preparePlain(k: Kernel, request: Request): number {
  noFlags(request)
  return k.release.ioUring.plainImportFirst ? checkUserRange(k, request) : 0
}

/**
 * READV_FIXED and WRITEV_FIXED: the vector is copied before the descriptor and the slot are looked at.
 * @rule R-URING-103
 */
export function prepareVector(k: Kernel, request: Request): number {
  noFlags(request)
  const { iovecs = 'unreadable', len = 0 } = request.sqe
  const copied = iovecFromUser(k.current, iovecs, len, 'R-URING-103')
  if (typeof copied === 'number') return copied
  request.vector = copied
  return 0
}

function noFlags({ sqe }: Request): void {
  if ((sqe.opFlags ?? 0) !== 0) throw new Unmodelled('RWF_* flags of a request', 'R-URING-93')
}

export function issueRead(k: Kernel, request: Request): Kthread<number | Waits> {
  return issue(k, request, false)
}

export function issueWrite(k: Kernel, request: Request): Kthread<number | Waits> {
  return issue(k, request, true)
}

/**
 * `io_read` and `io_write`: descriptor, memory, open mode, position, transfer. On an empty or full pipe the
 * request waits, with O_NONBLOCK too.
 * @rule R-URING-57
 * @rule R-URING-93
 */
function* issue(k: Kernel, request: Request, write: boolean): Kthread<number | Waits> {
  const { sqe } = request
  request.file ??= fileOf(request)
  const { file } = request
  if (file === null) return refuse(k.current, EBADF, 'R-URING-57', { why: 'the descriptor is not open' })
  const iter = importMemory(k, request)
  if (typeof iter === 'number') return iter
  if (file instanceof Socket) throw new Unmodelled('READ and WRITE on a socket', 'R-URING-101')
  if (file instanceof IoUringFile) throw new Unmodelled('I/O on an io_uring descriptor', 'R-URING-93')
  const offset = (sqe.off ?? 0) === -1 ? null : (sqe.off ?? 0)
  const done = yield* (write ? vfsWrite : vfsRead)(k, file, offset, iter, true)
  // @rule R-URING-96
  if (done === -EAGAIN && file instanceof PipeEnd)
    return { queue: write ? file.pipe.writeQueue : file.pipe.readQueue }
  return done
}

/** What the request's descriptor leads to. No table of registered files is modelled: a fixed one is always empty. */
export function fileOf({ lookup, sqe }: Request): FileDescription | null {
  return ((sqe.flags ?? 0) & IOSQE_FIXED_FILE) !== 0 ? null : (lookup(sqe.fd ?? -1)?.get() ?? null)
}

function importMemory(k: Kernel, request: Request): IovIter | number {
  const { opcode } = request.sqe
  if (request.vector === null && opcode !== IORING_OP_READ_FIXED && opcode !== IORING_OP_WRITE_FIXED) {
    const error = checkUserRange(k, request)
    return error < 0 ? error : userIter(k, request)
  }
  return fixedMemory(k, request)
}
