import { EACCES, EBADF, EBADFD, EEXIST, EINVAL, EOPNOTSUPP } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { IoUring } from './io-uring.ts'
import { operation } from './operations.ts'
import {
  IOSQE_BUFFER_SELECT,
  IOSQE_IO_DRAIN,
  IOSQE_IO_HARDLINK,
  IOSQE_IO_LINK,
  Request,
  completeAll,
  runWoken,
  type FdLookup,
  type Finished,
  type Sqe,
} from './request.ts'
import type { RingFd } from './register.ts'
import {
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_IOPOLL,
  IORING_SETUP_SQPOLL,
  IORING_SETUP_SUBMIT_ALL,
} from './setup-flags.ts'

const VALID_SQE_FLAGS = 0x7f
const ORDERED = IOSQE_IO_DRAIN | IOSQE_IO_LINK | IOSQE_IO_HARDLINK

/**
 * io_uring_enter(2): takes entries off the submission queue (`ring.sqes`) and tries each; with `getEvents` it
 * also makes room for completions that found the queue full. It does not wait: requests that cannot go on
 * wait by themselves, and the caller looks at `ring.cqes`.
 * @param ring what the descriptor leads to
 * @param toSubmit entries, at most
 * @param lookup what descriptors in the entries lead to
 * @returns entries taken, also those that failed; -EBADF, -EOPNOTSUPP, -EBADFD, -EEXIST
 * @throws Unmodelled for polled rings and operations outside the model
 * @rule R-URING-92
 */
export function* ioUringEnter(
  k: Kernel,
  ring: RingFd,
  toSubmit: number,
  getEvents: boolean,
  lookup: FdLookup,
): Kthread<number> {
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-URING-92', { why })
  if (ring === 'other-file') return refused(EOPNOTSUPP, 'the descriptor is not an io_uring')
  if (typeof ring === 'string') return refused(EBADF, 'the descriptor is not open')
  if (ring.disabled) return refused(EBADFD, 'the ring is not enabled yet')
  if (toSubmit > 0 && (ring.flags & (IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL)) !== 0)
    throw new Unmodelled('requests on a polled ring (IOPOLL, SQPOLL)', 'R-URING-92')
  if (toSubmit > 0 && ring.submitterTask !== null && ring.submitterTask !== k.current)
    return refused(EEXIST, 'the ring belongs to another task (SINGLE_ISSUER)')
  if (k.exploring) yield PREEMPT
  if (!ring.uringLock.tryLock()) yield* ring.uringLock.lock()
  const deferred = (ring.flags & IORING_SETUP_DEFER_TASKRUN) !== 0
  let taken: number
  ring.submitting = true
  try {
    taken = yield* submit(k, ring, toSubmit, lookup)
  } finally {
    for (const notification of ring.failedSends.splice(0)) notification.put()
    ring.submitting = false
    ring.uringLock.unlock()
  }
  if (!deferred) ring.postDue()
  if (getEvents) {
    if (deferred) yield* runDeferred(ring)
    ring.flushOverflow()
  }
  return taken
}

function* runDeferred(ring: IoUring): Kthread<void> {
  const finished: Finished[] = []
  for (const request of ring.deferred.splice(0)) yield* runWoken(request, finished)
  completeAll(finished)
  ring.postDue()
}

/**
 * `io_submit_sqes`: an entry that is refused before it is tried ends the batch, but for SUBMIT_ALL.
 * @rule R-URING-92
 */
function* submit(k: Kernel, ring: IoUring, toSubmit: number, lookup: FdLookup): Kthread<number> {
  const all = (ring.flags & IORING_SETUP_SUBMIT_ALL) !== 0
  const finished: Finished[] = []
  let taken = 0
  while (taken < toSubmit && ring.sqes.length > 0) {
    taken++
    const sqe = ring.sqes.shift()!
    const request = new Request(k, ring, sqe, lookup)
    const error = prepare(k, request)
    if (error < 0) {
      request.complete(error)
      if (!all) break
      continue
    }
    if (k.exploring) yield PREEMPT
    yield* request.run(operation(sqe.opcode)!.issue, finished)
  }
  completeAll(finished)
  return taken
}

/**
 * `io_init_req` and the operation's own preparation.
 * @returns 0, or the negative errno the request fails with
 * @rule R-URING-92
 */
function prepare(k: Kernel, request: Request): number {
  const { ring, sqe } = request
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-URING-92', { why })
  const flags = sqe.flags ?? 0
  const { opcode } = sqe
  if (opcode >= k.release.ioUring.lastOperation) return refused(EINVAL, 'this release has no such operation')
  if ((flags & ~VALID_SQE_FLAGS) !== 0) return refused(EINVAL, 'there is no such flag of a request')
  const op = operation(opcode)
  if (op === null) throw new Unmodelled(`io_uring operation ${opcode}`, 'R-URING-92')
  if ((flags & IOSQE_BUFFER_SELECT) !== 0) {
    if (!op.bufferSelect) return refused(EOPNOTSUPP, 'the operation does not select buffers')
    throw new Unmodelled('requests that select a provided buffer', 'R-URING-76')
  }
  const forbidden = restriction(k, ring, sqe)
  if (forbidden < 0) return forbidden
  if ((flags & ORDERED) !== 0) throw new Unmodelled('linked and drained requests', 'R-URING-92')
  if ((sqe.ioprio ?? 0) !== 0 && op.ioprio === 'none')
    return refused(EINVAL, 'the operation has no I/O priority')
  if ((sqe.ioprio ?? 0) !== 0 && op.ioprio === 'priority')
    throw new Unmodelled('I/O priorities of requests', 'R-URING-92')
  return op.prepare(k, request)
}

/** @rule R-URING-4 */
function restriction(k: Kernel, ring: IoUring, { opcode, flags = 0 }: Sqe): number {
  const { restrictions } = ring
  if (!ring.restricted || restrictions === null) return 0
  const { sqeOps, sqeFlagsAllowed, sqeFlagsRequired } = restrictions
  const missing = (flags & sqeFlagsRequired) !== sqeFlagsRequired
  if (sqeOps.has(opcode) && !missing && (flags & ~(sqeFlagsAllowed | sqeFlagsRequired)) === 0) return 0
  return refuse(k.current, EACCES, 'R-URING-4', {
    why: 'the ring is restricted and this request is not allowed',
  })
}
