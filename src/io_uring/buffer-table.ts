import { EBUSY, EFAULT, EINTR, EINVAL, ENXIO, EOVERFLOW } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import type { Kernel } from '../mm/kernel.ts'
import { BufferTable } from './buffer.ts'
import type { IoUring } from './io-uring.ts'
import type { LastHead } from './memlock.ts'
import { Generation, RsrcNode, releaseGenerations, releaseTable, removeNode } from './rsrc-node.ts'
import { sqeBufferRegister } from './rsrc.ts'
import {
  copyIovec,
  elementAt,
  validateIovec,
  type Iovec,
  type IovecArray,
  type RsrcRegister,
  type RsrcUpdate,
  type TagArray,
} from './user-args.ts'

/** slots a table may have */
export const IORING_MAX_REG_BUFFERS = 1 << 14

const IORING_RSRC_REGISTER_SPARSE = 1
/** bytes of struct io_uring_rsrc_register and of struct io_uring_rsrc_update2 */
const RSRC_STRUCT_BYTES = 32

const EMPTY: Iovec = { base: 0, length: 0 }

/**
 * IORING_REGISTER_BUFFERS, and the common part of BUFFERS2 (`io_sqe_buffers_register`). All or nothing:
 * a failing entry releases the earlier ones, leaves no table and posts no tags. `uring_lock` is held.
 * @param data null makes empty slots
 * @param tags null: no tags
 * @returns 0, -EBUSY, -EINVAL, -EFAULT, -ENOMEM, -EOPNOTSUPP or what pinning gives
 * @rule R-URING-11
 * @rule R-URING-15
 */
export function* buffersRegister(
  k: Kernel,
  ring: IoUring,
  data: IovecArray | null,
  nr: number,
  tags: TagArray | null,
): Kthread<number> {
  const { copiesTagsPerEntry, chargesSeeSameCall } = k.release.ioUring
  if (ring.buffers !== null)
    return refuse(k.current, EBUSY, 'R-URING-11', { why: 'the ring has a buffer table already' })
  if (nr === 0 || nr > IORING_MAX_REG_BUFFERS) {
    return refuse(k.current, EINVAL, 'R-URING-11', { why: 'a buffer table has 1 to 16384 slots' })
  }
  if (!copiesTagsPerEntry && tags !== null) {
    for (let i = 0; i < nr; i++) if (elementAt(tags, i) === 'unreadable') return refuseTags(k)
  }
  const table = new BufferTable(k.memory.frames, nr)
  if (chargesSeeSameCall) ring.buffers = table
  const last: LastHead = { head: 0 }
  for (let slot = 0; slot < nr; slot++) {
    const error = yield* registerEntry(k, ring, table, { data, tags, slot, last })
    if (error < 0) {
      releaseTable(k, table, false)
      ring.buffers = null
      return error
    }
  }
  ring.buffers = table
  return 0
}

interface Entry {
  readonly data: IovecArray | null
  readonly tags: TagArray | null
  readonly slot: number
  readonly last: LastHead
}

/** @rule R-URING-13 */
function* registerEntry(
  k: Kernel,
  ring: IoUring,
  table: BufferTable,
  { data, tags, slot, last }: Entry,
): Kthread<number> {
  const iovec = data === null ? EMPTY : copyIovec(k, ring.compat, data, slot)
  if (typeof iovec === 'number') return iovec
  const invalid = validateIovec(k, iovec)
  if (invalid < 0) return invalid
  const tag = tags === null ? 0 : elementAt(tags, slot)
  if (tag === 'unreadable') return refuseTags(k)
  if (iovec.base === 0 && tag !== 0) return refuseTagOfEmptySlot(k)
  const buffer = yield* sqeBufferRegister(k, ring, iovec, last)
  if (typeof buffer === 'number') return buffer
  table.install(slot, buffer === null ? null : new RsrcNode(ring, buffer, tag))
  return 0
}

function refuseTags(k: Kernel): number {
  return refuse(k.current, EFAULT, 'R-URING-11', { why: 'the tag array cannot be read' })
}

function refuseTagOfEmptySlot(k: Kernel): number {
  return refuse(k.current, EINVAL, 'R-URING-13', { why: 'an empty slot cannot have a tag' })
}

/**
 * IORING_REGISTER_BUFFERS2.
 * @param size nr_args: bytes of the structure
 * @rule R-URING-10
 */
export function* buffersRegister2(
  k: Kernel,
  ring: IoUring,
  arg: RsrcRegister | null,
  size: number,
): Kthread<number> {
  const invalid = (why: string): number => refuse(k.current, EINVAL, 'R-URING-10', { why })
  if (size !== RSRC_STRUCT_BYTES) return invalid('the structure has 32 bytes')
  if (arg === null) return refuse(k.current, EFAULT, 'R-URING-10', { why: 'the structure cannot be read' })
  const { flags = 0, resv2 = 0 } = arg
  if (arg.nr === 0 || resv2 !== 0) return invalid('the number of slots is zero, or a reserved field is not')
  if ((flags & ~IORING_RSRC_REGISTER_SPARSE) !== 0) return invalid('a flag other than SPARSE is set')
  if ((flags & IORING_RSRC_REGISTER_SPARSE) !== 0 && arg.data !== null)
    return invalid('a sparse table is given buffers')
  return yield* buffersRegister(k, ring, arg.data, arg.nr, arg.tags ?? null)
}

/**
 * IORING_REGISTER_BUFFERS_UPDATE.
 * @param size nr_args: bytes of the structure
 * @returns entries done when there is at least one, else a negative errno; the errno of a later entry is lost
 * @rule R-URING-17
 * @rule R-URING-18
 */
export function* buffersUpdate(
  k: Kernel,
  ring: IoUring,
  arg: RsrcUpdate | null,
  size: number,
): Kthread<number> {
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-URING-17', { why })
  if (size !== RSRC_STRUCT_BYTES) return refused(EINVAL, 'the structure has 32 bytes')
  if (arg === null) return refused(EFAULT, 'the structure cannot be read')
  const { offset, nr, resv = 0, resv2 = 0 } = arg
  if (nr === 0 || resv !== 0 || resv2 !== 0)
    return refused(EINVAL, 'the number of slots is zero, or a reserved field is not')
  if (offset + nr > 0xffffffff) return refused(EOVERFLOW, 'the last slot number does not fit 32 bits')
  const table = ring.buffers
  if (table === null) return refused(ENXIO, 'the ring has no buffer table')
  if (ring.quiescing || offset + nr > table.length)
    return refused(EINVAL, 'the slots lie beyond the end of the table')
  const last: LastHead = { head: 0 }
  for (let done = 0; done < nr; done++) {
    const error = yield* updateEntry(k, ring, table, arg, done, last)
    if (error < 0) return done > 0 ? done : error
  }
  return nr
}

/**
 * The new buffer is pinned and charged before the old one is released: while it lasts both count.
 * @rule R-URING-19
 * @rule R-URING-54
 */
function* updateEntry(
  k: Kernel,
  ring: IoUring,
  table: BufferTable,
  arg: RsrcUpdate,
  index: number,
  last: LastHead,
): Kthread<number> {
  const iovec = copyIovec(k, ring.compat, arg.data, index)
  if (typeof iovec === 'number') return iovec
  const tags = arg.tags ?? null
  const tag = tags === null ? 0 : elementAt(tags, index)
  if (tag === 'unreadable')
    return refuse(k.current, EFAULT, 'R-URING-17', { why: 'the tag array cannot be read' })
  const invalid = validateIovec(k, iovec)
  if (invalid < 0) return invalid
  if (iovec.base === 0 && tag !== 0) return refuseTagOfEmptySlot(k)
  const buffer = yield* sqeBufferRegister(k, ring, iovec, last)
  if (typeof buffer === 'number') return buffer
  const old = table.take(arg.offset + index)
  table.install(arg.offset + index, buffer === null ? null : new RsrcNode(ring, buffer, tag))
  if (k.exploring) yield PREEMPT
  if (old !== null) removeNode(k, old)
  return 0
}

/**
 * IORING_UNREGISTER_BUFFERS. Until 6.12 the kernel first waits for the requests that use buffers, without
 * `uring_lock`; later it does not, and what requests still use goes with them.
 * @returns 0, -ENXIO, or -EINTR when a signal ended the wait: the table stays
 * @rule R-URING-21
 */
export function* buffersUnregister(k: Kernel, ring: IoUring): Kthread<number> {
  const table = ring.buffers
  if (table === null || ring.quiescing)
    return refuse(k.current, ENXIO, 'R-URING-21', { why: 'the ring has no buffer table' })
  if (k.release.ioUring.unregisterQuiesces) {
    const error = yield* quiesce(k, ring)
    if (error < 0) return error
  }
  ring.buffers = null
  releaseTable(k, table, k.release.ioUring.unregisterPostsTags)
  return 0
}

/**
 * `io_rsrc_ref_quiesce`: sleeps until every request that uses a buffer is done. Meanwhile the table cannot be
 * used and cannot be replaced.
 */
function* quiesce(k: Kernel, ring: IoUring): Kthread<number> {
  ring.quiescing = true
  if (ring.generations.at(-1)!.requests > 0) ring.generations.push(new Generation())
  releaseGenerations(k, ring)
  let error = 0
  while (ring.generations.length > 1 && error === 0) {
    ring.uringLock.unlock()
    const { quiesceQueue: queue } = ring
    yield { queue, what: queue.name, signals: 'any' }
    if (!ring.uringLock.tryLock()) yield* ring.uringLock.lock()
    if (ring.generations.length > 1 && (k.current.signalPending || k.fatalSignalPending))
      error = refuse(k.current, EINTR, 'R-URING-21', {
        why: 'a signal ended the wait for requests in flight',
      })
  }
  ring.quiescing = false
  return error
}
