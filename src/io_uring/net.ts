import { EAGAIN, EBADF, EFAULT, EINVAL, EMSGSIZE, ENOTSOCK, EOPNOTSUPP } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { UserIter, type IovIter } from '../mm/iov-iter.ts'
import { UIO_MAXIOV, importIovec, iovecFromUser } from '../mm/iovec.ts'
import type { Kernel } from '../mm/kernel.ts'
import { Socket } from '../task/socket.ts'
import { checkUserRange, fixedMemory, isEmptySlot, takeBuffer, userIter } from './import.ts'
import { IORING_CQE_F_SOCK_NONEMPTY } from './io-uring.ts'
import { Notification } from './notification.ts'
import {
  IORING_OP_SENDMSG_ZC,
  IOSQE_CQE_SKIP_SUCCESS,
  type Request,
  type Sqe,
  type Waits,
} from './request.ts'
import { fileOf } from './rw.ts'

// IORING_RECVSEND_* and IORING_SEND_* in ioprio
/** waits until the socket has room, or bytes, before it tries */
export const IORING_RECVSEND_POLL_FIRST = 1 << 0
/** from the registered buffer in slot `buf_index` */
export const IORING_RECVSEND_FIXED_BUF = 1 << 2
/** the notification says whether bytes were copied */
export const IORING_SEND_ZC_REPORT_USAGE = 1 << 3
/** several provided buffers at once */
const IORING_RECVSEND_BUNDLE = 1 << 4
/** `addr` and `len` are a vector */
const IORING_SEND_VECTORIZED = 1 << 5

const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000

/** Flags of sendmsg(2) and recvmsg(2) that change nothing here: no signal is sent, and no send has to wait. */
function plainMessage({ sqe }: Request): void {
  if (((sqe.opFlags ?? 0) & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) !== 0)
    throw new Unmodelled('MSG_* flags of a request other than DONTWAIT and NOSIGNAL', 'R-URING-104')
  if ((sqe.off ?? 0) !== 0) throw new Unmodelled('a send to an address', 'R-URING-99')
}

/** Looks at the flags in `ioprio`. @returns 0 or -EINVAL */
function checkFlags(k: Kernel, { sqe }: Request, known: number, unmodelled: number, rule: string): number {
  const flags = sqe.ioprio ?? 0
  if ((flags & ~(known | unmodelled)) !== 0)
    return refuse(k.current, EINVAL, rule, { why: 'the operation has no such flag on this release' })
  if ((flags & unmodelled) !== 0) throw new Unmodelled('bundles, vectors or POLL_FIRST of a request', rule)
  return 0
}

/** SEND before it is tried. @rule R-URING-104 */
export function prepareSend(k: Kernel, request: Request): number {
  plainMessage(request)
  const { bundleFlag, vectorFlag } = messageFlags(k)
  // none of the requests of the model selects a buffer
  const bundle = k.release.ioUring.bundlesNeedSelection ? 0 : bundleFlag
  const error = checkFlags(k, request, IORING_RECVSEND_POLL_FIRST, bundle | vectorFlag, 'R-URING-104')
  return error < 0 ? error : checkMessage(k, request)
}

/** RECV before it is tried. @rule R-URING-104 */
export function prepareRecv(k: Kernel, request: Request): number {
  plainMessage(request)
  const { bundleFlag } = messageFlags(k)
  const error = checkFlags(k, request, 0, IORING_RECVSEND_POLL_FIRST | bundleFlag, 'R-URING-104')
  return error < 0 ? error : checkMessage(k, request)
}

function checkMessage(k: Kernel, request: Request): number {
  const { rejectsLongMessages, messagesImportFirst } = k.release.ioUring
  if (rejectsLongMessages && (request.sqe.len ?? 0) >= 2 ** 31)
    return refuse(k.current, EINVAL, 'R-URING-104', { why: 'the length has its top bit set' })
  return messagesImportFirst ? checkUserRange(k, request) : 0
}

function messageFlags(k: Kernel): { readonly bundleFlag: number; readonly vectorFlag: number } {
  const { bundles, vectorizedSends } = k.release.ioUring
  return {
    bundleFlag: bundles ? IORING_RECVSEND_BUNDLE : 0,
    vectorFlag: vectorizedSends ? IORING_SEND_VECTORIZED : 0,
  }
}

/**
 * SEND_ZC and SENDMSG_ZC before they are tried. Whatever is wrong, a notification follows, but where the entry asks
 * for no completion of success, or (6.1) has flags that do not exist. What else is looked at already here differs.
 * @rule R-URING-99
 */
export function prepareSendZc(k: Kernel, request: Request): number {
  const { ring, sqe } = request
  const { ioUring } = k.release
  const refused = (why: string): number => refuse(k.current, EINVAL, 'R-URING-99', { why })
  if (((sqe.flags ?? 0) & IOSQE_CQE_SKIP_SUCCESS) !== 0)
    return refused('a send that does not copy cannot do without its completions')
  plainMessage(request)
  const late = ioUring.sendNotification === 'late'
  if (!late) request.notification = new Notification(k, ring, sqe.userData ?? 0)
  const known = IORING_RECVSEND_POLL_FIRST | IORING_RECVSEND_FIXED_BUF | IORING_SEND_ZC_REPORT_USAGE
  const error = checkFlags(k, request, known, messageFlags(k).vectorFlag, 'R-URING-99')
  if (error < 0) return error
  const notification = (request.notification ??= new Notification(k, ring, sqe.userData ?? 0))
  const report = ((sqe.ioprio ?? 0) & IORING_SEND_ZC_REPORT_USAGE) !== 0
  if (!late) notification.report = report
  const isMessage = sqe.opcode === IORING_OP_SENDMSG_ZC
  const fixed = isFixed(sqe)
  if (fixed && !isMessage && ioUring.sendsTakeSlotFirst && !isEmptySlot(request)) {
    const taken = takeBuffer(k, request, notification)
    if (taken < 0) return taken
  }
  notification.report = report
  if (fixed && isMessage && !ioUring.fixedMessages)
    return refused('this release cannot send a message from a registered buffer')
  const imported = ioUring.messagesImportFirst ? importMemory(k, request) : 0
  return imported < 0 || !ioUring.chargesSendsFirst ? imported : charge(k, request)
}

/**
 * Looks at the address of ordinary memory, or copies the header and vector of a message.
 * @returns 0 or a negative errno
 */
function importMemory(k: Kernel, request: Request): number {
  const fixed = isFixed(request.sqe)
  if (request.sqe.opcode === IORING_OP_SENDMSG_ZC) return copyMessage(k, request, fixed)
  return fixed ? 0 : checkUserRange(k, request)
}

/** @rule R-URING-50 */
function charge(k: Kernel, { sqe, vector, notification }: Request): number {
  if (isFixed(sqe)) return 0
  if (sqe.opcode !== IORING_OP_SENDMSG_ZC) return notification!.charge(sqe.len ?? 0)
  if (!k.release.ioUring.chargesMessages) return 0
  return notification!.charge(vector!.reduce((sum, { length }) => sum + length, 0))
}

function isFixed({ ioprio = 0 }: Sqe): boolean {
  return (ioprio & IORING_RECVSEND_FIXED_BUF) !== 0
}

/** `copy_msghdr_from_user` and the vector. @returns 0 or a negative errno */
function copyMessage(k: Kernel, request: Request, fixed: boolean): number {
  const message = request.sqe.message ?? 'unreadable'
  if (message === 'unreadable')
    return refuse(k.current, EFAULT, 'R-URING-99', { why: 'the message header cannot be read' })
  const { iovecs, count } = message
  if (count > UIO_MAXIOV)
    return refuse(k.current, k.release.ioUring.longMessageEmsgsize ? EMSGSIZE : EINVAL, 'R-URING-99', {
      why: 'a message has at most 1024 entries',
    })
  if (fixed) {
    const copied = iovecFromUser(k.current, iovecs, count, 'R-URING-99')
    if (typeof copied === 'number') return copied
    request.vector = copied
    return 0
  }
  const imported = importIovec(k, iovecs, count, 'R-URING-99')
  if (typeof imported === 'number') return imported
  request.vector = imported.entries
  return 0
}

/**
 * SEND_ZC and SENDMSG_ZC: descriptor, for a message the registered buffer, kind of socket, what was not looked at
 * before, for SEND_ZC the registered buffer, transfer.
 * @rule R-URING-99
 * @rule R-URING-59
 */
export function* issueSendZc(k: Kernel, request: Request): Kthread<number> {
  const { sqe, notification } = request
  const { messagesImportFirst, chargesSendsFirst } = k.release.ioUring
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-URING-99', { why })
  request.file ??= fileOf(request)
  if (request.file === null) return refused(EBADF, 'the descriptor is not open')
  let iter = sqe.opcode === IORING_OP_SENDMSG_ZC && isFixed(sqe) ? zcMemory(k, request) : null
  if (typeof iter === 'number') return iter
  if (!(request.file instanceof Socket)) return refused(ENOTSOCK, 'the descriptor is no socket')
  if (!request.file.zeroCopy) return refused(EOPNOTSUPP, 'this kind of socket copies what it sends')
  let error = messagesImportFirst ? 0 : importMemory(k, request)
  if (error === 0 && !chargesSendsFirst) error = charge(k, request)
  if (error < 0) return error
  iter ??= zcMemory(k, request)
  return typeof iter === 'number' ? iter : yield* request.file.send(iter, notification)
}

/** @rule R-URING-58 */
function zcMemory(k: Kernel, request: Request): IovIter | number {
  const { sqe, task, vector, notification } = request
  if (isFixed(sqe)) return fixedMemory(k, request, notification!)
  if (vector === null) return userIter(k, request)
  if (task.mm === null) throw new Error('a request of a task without an address space')
  return new UserIter(k, task.mm, vector)
}

/** @rule R-URING-104 */
export function* issueSend(k: Kernel, request: Request): Kthread<number> {
  const file = socketOf(k, request)
  return typeof file === 'number' ? file : yield* file.send(userIter(k, request), null)
}

/** A RECV that finds nothing waits, unless it was told not to. @rule R-URING-104 */
export function* issueRecv(k: Kernel, request: Request): Kthread<number | Waits> {
  const file = socketOf(k, request)
  if (typeof file === 'number') return file
  const done = yield* file.receive(userIter(k, request))
  if (done === -EAGAIN && ((request.sqe.opFlags ?? 0) & MSG_DONTWAIT) === 0) return { queue: file.readQueue }
  if (done >= 0 && file.nonEmpty) request.cqeFlags = IORING_CQE_F_SOCK_NONEMPTY
  return done
}

function socketOf(k: Kernel, request: Request): Socket | number {
  request.file ??= fileOf(request)
  const { file } = request
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-URING-104', { why })
  if (file === null) return refused(EBADF, 'the descriptor is not open')
  if (!(file instanceof Socket)) return refused(ENOTSOCK, 'the descriptor is no socket')
  const error = k.release.ioUring.messagesImportFirst ? 0 : checkUserRange(k, request)
  return error < 0 ? error : file
}
