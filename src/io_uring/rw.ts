import { EAGAIN, EBADF, EINVAL } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { fileRead, fileWrite } from '../mm/file-io.ts'
import { OpenFile } from '../mm/file.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { FileDescription } from '../task/fd-table.ts'
import { PipeEnd, pipeRead, pipeWrite } from '../task/pipe.ts'
import { checkFixedRange, checkUserRange, fixedIter, takeBuffer, userIter } from './import.ts'
import { IoUringFile } from './io-uring.ts'
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
  const error = takeBuffer(k, request)
  return error < 0 || fixedImport === 'slot-first' ? error : checkFixedRange(k, request.buffer!, request)
}

/** READ and WRITE: from 6.12 on the address is looked at before the descriptor. @rule R-URING-93 */
export function preparePlain(k: Kernel, request: Request): number {
  noFlags(request)
  return k.release.ioUring.plainImportFirst ? checkUserRange(k, request) : 0
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
 * `io_read` and `io_write`: descriptor, memory, open mode, position, transfer.
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
  if (file instanceof PipeEnd) return yield* onPipe(k, file, iter, write)
  if (file instanceof IoUringFile) throw new Unmodelled('I/O on an io_uring descriptor', 'R-URING-93')
  if (!(file instanceof OpenFile))
    return refuse(k.current, EINVAL, 'R-URING-93', { why: 'this kind of file cannot be read or written' })
  const here = (sqe.off ?? 0) === -1
  const transfer = write ? fileWrite : fileRead
  const done = yield* transfer(k, file, here ? file.pos : (sqe.off ?? 0), iter)
  if (here && done > 0) file.pos += done
  return done
}

/** No table of registered files is modelled, so that every fixed descriptor is an empty one. */
function fileOf({ lookup, sqe }: Request): FileDescription | null {
  return ((sqe.flags ?? 0) & IOSQE_FIXED_FILE) !== 0 ? null : (lookup(sqe.fd ?? -1)?.get() ?? null)
}

function importMemory(k: Kernel, request: Request): IovIter | number {
  const { opcode } = request.sqe
  if (opcode !== IORING_OP_READ_FIXED && opcode !== IORING_OP_WRITE_FIXED) {
    const error = checkUserRange(k, request)
    return error < 0 ? error : userIter(k, request)
  }
  const taken = takeBuffer(k, request)
  if (taken < 0) return taken
  const error = checkFixedRange(k, request.buffer!, request)
  return error < 0 ? error : fixedIter(k, request.buffer!, request)
}

/**
 * A request on an empty or full pipe waits, with O_NONBLOCK too.
 * @rule R-URING-96
 */
function* onPipe(k: Kernel, file: PipeEnd, iter: IovIter, write: boolean): Kthread<number | Waits> {
  const result = yield* write ? pipeWrite(k, file, iter, true) : pipeRead(k, file, iter, true)
  if (result !== -EAGAIN) return result
  return { queue: write ? file.pipe.writeQueue : file.pipe.readQueue }
}
