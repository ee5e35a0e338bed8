import { EACCES, EBADF, EBADFD, EBUSY, EEXIST, EFAULT, EINVAL, ENXIO, EOPNOTSUPP } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import type { Kernel } from '../mm/kernel.ts'
import { buffersRegister, buffersRegister2, buffersUnregister, buffersUpdate } from './buffer-table.ts'
import { cloneBuffers } from './clone.ts'
import type { IoUring } from './io-uring.ts'
import { registerPbufRing, unregisterPbufRing } from './provided-buffers.ts'
import { IORING_SETUP_SINGLE_ISSUER } from './setup-flags.ts'
import type { BufReg, CloneBuffers, RegisterArgument, RsrcRegister, RsrcUpdate } from './user-args.ts'

// opcodes of io_uring_register(2) @rule R-URING-5
export const IORING_REGISTER_BUFFERS = 0
export const IORING_UNREGISTER_BUFFERS = 1
export const IORING_REGISTER_PROBE = 8
export const IORING_REGISTER_RESTRICTIONS = 11
export const IORING_REGISTER_ENABLE_RINGS = 12
export const IORING_REGISTER_BUFFERS2 = 15
export const IORING_REGISTER_BUFFERS_UPDATE = 16
export const IORING_REGISTER_PBUF_RING = 22
export const IORING_UNREGISTER_PBUF_RING = 23
export const IORING_REGISTER_CLONE_BUFFERS = 30
export const IORING_REGISTER_SEND_MSG_RING = 31
export const IORING_REGISTER_ZCRX_IFQ = 32
export const IORING_REGISTER_RESIZE_RINGS = 33
export const IORING_REGISTER_MEM_REGION = 34
export const IORING_REGISTER_QUERY = 35
export const IORING_REGISTER_USE_REGISTERED_RING = 2 ** 31

/** restrictions one ring may have; seen on 6.18 */
const IORING_MAX_RESTRICTIONS = 103

/** `!arg || nr_args != 1` is -EINVAL for these before anything else (R-URING-1 step 9) */
const ONE_STRUCTURE: readonly number[] = [
  IORING_REGISTER_PBUF_RING,
  IORING_UNREGISTER_PBUF_RING,
  IORING_REGISTER_CLONE_BUFFERS,
  IORING_REGISTER_ZCRX_IFQ,
  IORING_REGISTER_RESIZE_RINGS,
  IORING_REGISTER_MEM_REGION,
]

/**
 * What the descriptor (or the index of a registered ring) of a register call leads to: a ring, the number
 * −1, nothing, a file that is no ring, or an index no registered ring can have.
 */
export type RingFd = IoUring | 'minus-one' | 'closed' | 'other-file' | 'bad-index'

/**
 * io_uring_register(2), as far as registered buffers go.
 * @param ring what the descriptor leads to
 * @param opcode IORING_REGISTER_*, with or without USE_REGISTERED_RING
 * @param arg the decoded argument; its type must suit the opcode
 * @param nrArgs as passed; for BUFFERS2 and BUFFERS_UPDATE the byte size of the structure
 * @returns what the opcode returns, or a negative errno
 * @throws Unmodelled for opcodes outside the model
 * @rule R-URING-1
 * @rule R-URING-2
 */
export function* ioUringRegister(
  k: Kernel,
  ring: RingFd,
  opcode: number,
  arg: RegisterArgument,
  nrArgs: number,
): Kthread<number> {
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-URING-1', { why })
  const { ioUring } = k.release
  const registeredRing = ioUring.registeredRingOpcode && opcode >= IORING_REGISTER_USE_REGISTERED_RING
  const op = registeredRing ? opcode - IORING_REGISTER_USE_REGISTERED_RING : opcode
  if (op >= ioUring.lastOpcode) return refused(EINVAL, 'this release has no such opcode')
  if (ring === 'minus-one') {
    if (!ioUring.blindRegistration) return refused(EBADF, 'the descriptor is not open')
    if (op === IORING_REGISTER_SEND_MSG_RING || op === IORING_REGISTER_QUERY) {
      throw new Unmodelled(`io_uring_register opcode ${op} without a ring`, 'R-URING-1')
    }
    return refused(EINVAL, 'this opcode needs a ring')
  }
  if (ring === 'bad-index') return refused(EINVAL, 'no ring can be registered under this index')
  if (ring === 'closed') return refused(EBADF, 'the descriptor is not open')
  if (ring === 'other-file') return refused(EOPNOTSUPP, 'the descriptor is not an io_uring')

  if (k.exploring) yield PREEMPT
  // @rule R-URING-83
  if (!ring.uringLock.tryLock()) yield* ring.uringLock.lock()
  try {
    return yield* registerLocked(k, ring, op, arg, nrArgs)
  } finally {
    ring.uringLock.unlock()
  }
}

/** `__io_uring_register`, with `uring_lock` held. */
function* registerLocked(
  k: Kernel,
  ring: IoUring,
  op: number,
  arg: RegisterArgument,
  nrArgs: number,
): Kthread<number> {
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-URING-1', { why })
  if (ring.dying) return refused(ENXIO, 'the ring is going away')
  if (ring.submitterTask !== null && ring.submitterTask !== k.current) {
    return refuse(k.current, EEXIST, 'R-URING-3', { why: 'the ring belongs to another task (SINGLE_ISSUER)' })
  }
  if (ring.restricted && ring.restrictions?.registerOps.has(op) !== true) {
    return refuse(k.current, EACCES, 'R-URING-4', {
      why: 'the ring is restricted and this opcode is not allowed',
    })
  }
  if (ONE_STRUCTURE.includes(op) && (arg === null || nrArgs !== 1)) {
    return refused(EINVAL, 'the opcode takes exactly one structure')
  }
  switch (op) {
    case IORING_REGISTER_BUFFERS: {
      if (arg === null) return refused(EFAULT, 'the iovec array is a null pointer')
      const iovecs = arg === 'unreadable' ? arg : typed(op, arg, 'iovecs').iovecs
      return yield* buffersRegister(k, ring, iovecs, nrArgs, null)
    }
    case IORING_UNREGISTER_BUFFERS:
      if (arg !== null || nrArgs !== 0) return refused(EINVAL, 'the opcode takes no argument')
      return yield* buffersUnregister(k, ring)
    case IORING_REGISTER_BUFFERS2:
      return yield* buffersRegister2(k, ring, structure<RsrcRegister>(op, arg, 'rsrc-register'), nrArgs)
    case IORING_REGISTER_BUFFERS_UPDATE:
      return yield* buffersUpdate(k, ring, structure<RsrcUpdate>(op, arg, 'rsrc-update'), nrArgs)
    case IORING_REGISTER_RESTRICTIONS:
      return registerRestrictions(k, ring, arg, nrArgs)
    case IORING_REGISTER_ENABLE_RINGS:
      if (arg !== null || nrArgs !== 0) return refused(EINVAL, 'the opcode takes no argument')
      return enableRings(k, ring)
    case IORING_REGISTER_PBUF_RING:
      return yield* registerPbufRing(k, ring, structure<BufReg>(op, arg, 'buf-reg'))
    case IORING_UNREGISTER_PBUF_RING:
      return unregisterPbufRing(k, ring, structure<BufReg>(op, arg, 'buf-reg'))
    case IORING_REGISTER_CLONE_BUFFERS:
      return yield* cloneBuffers(k, ring, structure<CloneBuffers>(op, arg, 'clone-buffers'))
    default:
      throw new Unmodelled(`io_uring_register opcode ${op}`, 'R-URING-1')
  }
}

type Typed = Exclude<RegisterArgument, null | 'unreadable'>

function typed<T extends Typed['type']>(op: number, arg: Typed, type: T): Extract<Typed, { type: T }> {
  if (arg.type !== type)
    throw new TypeError(`opcode ${op} of io_uring_register takes ${type}, not ${arg.type}`)
  return arg as Extract<Typed, { type: T }>
}

/** The structure, or null where it cannot be read. */
function structure<T extends RsrcRegister | RsrcUpdate | BufReg | CloneBuffers>(
  op: number,
  arg: RegisterArgument,
  type: T['type'],
): T | null {
  return arg === null || arg === 'unreadable' ? null : (typed(op, arg, type) as T)
}

/**
 * IORING_REGISTER_RESTRICTIONS: only while the ring is disabled, once, and all or nothing.
 * @rule R-URING-4
 */
function registerRestrictions(k: Kernel, ring: IoUring, arg: RegisterArgument, nr: number): number {
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-URING-4', { why })
  if (!ring.disabled) return refused(EBADFD, 'the ring is enabled already')
  if (ring.restrictions !== null) return refused(EBUSY, 'the ring has restrictions already')
  if (arg === null || nr > IORING_MAX_RESTRICTIONS)
    return refused(EINVAL, 'no restrictions are given, or too many')
  const given =
    arg === 'unreadable' ? [] : typed(IORING_REGISTER_RESTRICTIONS, arg, 'restrictions').restrictions
  if (given.length < nr) return refused(EFAULT, 'the restrictions cannot be read')
  const registerOps = new Set<number>()
  const sqeOps = new Set<number>()
  let sqeFlagsAllowed = 0
  let sqeFlagsRequired = 0
  for (const restriction of given.slice(0, nr)) {
    if (restriction.allow === 'unknown') return refused(EINVAL, 'a restriction of unknown kind')
    if (restriction.allow === 'register-op') {
      if (restriction.opcode >= k.release.ioUring.lastOpcode)
        return refused(EINVAL, 'this release has no such opcode')
      registerOps.add(restriction.opcode)
    } else if (restriction.allow === 'sqe-op') {
      if (restriction.opcode >= k.release.ioUring.lastOperation)
        return refused(EINVAL, 'this release has no such operation')
      sqeOps.add(restriction.opcode)
    } else if (restriction.allow === 'sqe-flags') sqeFlagsAllowed = restriction.flags
    else sqeFlagsRequired = restriction.flags
  }
  ring.restrictions = { registerOps, sqeOps, sqeFlagsAllowed, sqeFlagsRequired }
  return 0
}

/**
 * IORING_REGISTER_ENABLE_RINGS: restrictions come into force, and with SINGLE_ISSUER the ring is the
 * caller's from now on. Buffers registered before stay.
 * @rule R-URING-3
 * @rule R-URING-4
 */
function enableRings(k: Kernel, ring: IoUring): number {
  if (!ring.disabled) return refuse(k.current, EBADFD, 'R-URING-4', { why: 'the ring is enabled already' })
  if ((ring.flags & IORING_SETUP_SINGLE_ISSUER) !== 0) ring.submitterTask ??= k.current
  ring.restricted = ring.restrictions !== null
  ring.disabled = false
  return 0
}
