import { EINVAL } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import type { Kernel } from '../mm/kernel.ts'

// IORING_SETUP_*, io_uring_setup(2)
export const IORING_SETUP_IOPOLL = 1 << 0
export const IORING_SETUP_SQPOLL = 1 << 1
export const IORING_SETUP_SQ_AFF = 1 << 2
export const IORING_SETUP_CQSIZE = 1 << 3
export const IORING_SETUP_CLAMP = 1 << 4
export const IORING_SETUP_ATTACH_WQ = 1 << 5
export const IORING_SETUP_R_DISABLED = 1 << 6
export const IORING_SETUP_SUBMIT_ALL = 1 << 7
export const IORING_SETUP_COOP_TASKRUN = 1 << 8
export const IORING_SETUP_TASKRUN_FLAG = 1 << 9
export const IORING_SETUP_SQE128 = 1 << 10
export const IORING_SETUP_CQE32 = 1 << 11
export const IORING_SETUP_SINGLE_ISSUER = 1 << 12
export const IORING_SETUP_DEFER_TASKRUN = 1 << 13
export const IORING_SETUP_NO_MMAP = 1 << 14
export const IORING_SETUP_REGISTERED_FD_ONLY = 1 << 15
export const IORING_SETUP_NO_SQARRAY = 1 << 16
export const IORING_SETUP_HYBRID_IOPOLL = 1 << 17
export const IORING_SETUP_CQE_MIXED = 1 << 18

export const IORING_MAX_ENTRIES = 32768
export const IORING_MAX_CQ_ENTRIES = 2 * IORING_MAX_ENTRIES

/** What io_uring_setup(2) is given. */
export interface SetupParams {
  /** submission queue entries asked for */
  readonly entries: number
  /** IORING_SETUP_* */
  readonly flags?: number
  /** completion queue entries, looked at with IORING_SETUP_CQSIZE only */
  readonly cqEntries?: number
  /** a reserved field is not 0 */
  readonly reserved?: number
  /** the parameter block cannot be read */
  readonly unreadable?: boolean
  /** called through the 32-bit system call */
  readonly compat?: boolean
  /** with NO_MMAP: user addresses of the memory for the rings (cq_off.user_addr) and for the entries (sq_off.user_addr) */
  readonly ringsAddr?: number
  readonly sqesAddr?: number
}

/** Queue sizes after rounding. */
export interface QueueSizes {
  readonly sq: number
  readonly cq: number
}

/**
 * Which flags exist and go together, and how many entries there may be. The combinations beyond
 * R-URING-6's own were seen on 6.18 and are taken to hold on every release that has the flags.
 * @returns the queue sizes, or -EINVAL
 * @throws Unmodelled for rings without a descriptor and rings that share another ring's workers
 * @rule R-URING-3
 * @rule R-URING-6
 */
export function checkSetup(k: Kernel, params: SetupParams): QueueSizes | number {
  const { entries, flags = 0, cqEntries = 0 } = params
  const has = (flag: number): boolean => (flags & flag) !== 0
  const invalid = (why: string): number => refuse(k.current, EINVAL, 'R-URING-6', { why })

  if ((params.reserved ?? 0) !== 0) return invalid('a reserved field is not zero')
  if ((flags & ~k.release.ioUring.setupFlags) !== 0) return invalid('this release has no such setup flag')
  if (entries === 0 || (entries > IORING_MAX_ENTRIES && !has(IORING_SETUP_CLAMP))) {
    return invalid('a ring has 1 to 32768 entries')
  }
  if (has(IORING_SETUP_REGISTERED_FD_ONLY) && !has(IORING_SETUP_NO_MMAP)) {
    return invalid('REGISTERED_FD_ONLY needs NO_MMAP')
  }
  if (has(IORING_SETUP_SQPOLL)) {
    const notify = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_DEFER_TASKRUN
    if (has(notify)) return invalid('SQPOLL does not go with flags about how the submitting task is notified')
  }
  if (has(IORING_SETUP_TASKRUN_FLAG) && !has(IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN)) {
    return invalid('TASKRUN_FLAG needs COOP_TASKRUN or DEFER_TASKRUN')
  }
  if (has(IORING_SETUP_DEFER_TASKRUN) && !has(IORING_SETUP_SINGLE_ISSUER))
    return invalid('DEFER_TASKRUN needs SINGLE_ISSUER')
  if (has(IORING_SETUP_HYBRID_IOPOLL) && !has(IORING_SETUP_IOPOLL))
    return invalid('HYBRID_IOPOLL needs IOPOLL')
  if (has(IORING_SETUP_CQE_MIXED) && has(IORING_SETUP_CQE32))
    return invalid('CQE_MIXED and CQE32 exclude each other')

  const sq = roundUpToPowerOfTwo(Math.min(entries, IORING_MAX_ENTRIES))
  let cq = 2 * sq
  if (has(IORING_SETUP_CQSIZE)) {
    if (cqEntries === 0 || (cqEntries > IORING_MAX_CQ_ENTRIES && !has(IORING_SETUP_CLAMP))) {
      return invalid('the completion queue has 1 to 65536 entries')
    }
    cq = roundUpToPowerOfTwo(Math.min(cqEntries, IORING_MAX_CQ_ENTRIES))
    if (cq < sq) return invalid('the completion queue is smaller than the submission queue')
  }
  if (has(IORING_SETUP_REGISTERED_FD_ONLY))
    throw new Unmodelled('a ring without a descriptor (REGISTERED_FD_ONLY)', 'R-URING-6')
  if (has(IORING_SETUP_ATTACH_WQ))
    throw new Unmodelled('a ring attached to another ring (ATTACH_WQ)', 'R-URING-6')
  return { sq, cq }
}

/**
 * What is only seen when the poller would be started, with the memory of the rings in place.
 * @returns 0 or -EINVAL
 * @rule R-URING-6
 */
export function checkPoller(k: Kernel, { flags = 0 }: SetupParams): number {
  if ((flags & (IORING_SETUP_SQ_AFF | IORING_SETUP_SQPOLL)) !== IORING_SETUP_SQ_AFF) return 0
  return refuse(k.current, EINVAL, 'R-URING-6', { why: 'SQ_AFF needs SQPOLL' })
}

/** Bytes of the memory that program and kernel share. */
export interface RingMemory {
  /** completion queue and the indices of the submission queue */
  readonly rings: number
  readonly sqEntries: number
}

/** @rule R-URING-8 */
export function ringMemory({ sq, cq }: QueueSizes, flags: number): RingMemory {
  const cqeSize = (flags & IORING_SETUP_CQE32) !== 0 ? 32 : 16
  const sqeSize = (flags & IORING_SETUP_SQE128) !== 0 ? 128 : 64
  const sqArray = (flags & IORING_SETUP_NO_SQARRAY) !== 0 ? 0 : 4 * sq
  return { rings: Math.ceil((64 + cqeSize * cq) / 64) * 64 + sqArray, sqEntries: sqeSize * sq }
}

function roundUpToPowerOfTwo(n: number): number {
  return n <= 1 ? 1 : 2 ** (32 - Math.clz32(n - 1))
}
