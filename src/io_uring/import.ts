import { EFAULT } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, TASK_SIZE } from '../base/units.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { MAX_RW_COUNT } from '../mm/file-io.ts'
import { PagesIter, UserIter, type IovIter } from '../mm/iov-iter.ts'
import type { Kernel } from '../mm/kernel.ts'
import { PagesVectorIter, type RowRange } from '../mm/pages-vector-iter.ts'
import type { RegisteredBuffer } from './buffer.ts'
import type { Request } from './request.ts'
import type { RsrcNode } from './rsrc-node.ts'
import { signed64, unsigned64, type Iovec } from './user-args.ts'

/** What is in the slot that a request names; null: no table, beyond it, or an empty slot. */
export function findBuffer({ ring, sqe }: Request): RsrcNode | null {
  // while UNREGISTER waits the table counts as empty
  return ring.quiescing ? null : (ring.buffers?.node(sqe.bufIndex ?? 0) ?? null)
}

/** Whether a request names a slot of the table that has nothing in it. */
export function isEmptySlot(request: Request): boolean {
  const { ring, sqe } = request
  const slots = ring.quiescing ? 0 : (ring.buffers?.length ?? 0)
  return (sqe.bufIndex ?? 0) < slots && findBuffer(request) === null
}

/** Who holds a registered buffer while it is worked on: a request, or the notification of a send. */
export interface BufferHolder {
  readonly buffer: RegisteredBuffer | null
  hold(node: RsrcNode): void
}

/**
 * Takes the buffer a request names, for as long as its holder lasts.
 * @returns 0 or -EFAULT, even for length 0
 * @rule R-URING-55
 */
export function takeBuffer(k: Kernel, request: Request, holder: BufferHolder = request): number {
  if (holder.buffer !== null) return 0
  const node = findBuffer(request)
  if (node === null)
    return refuse(k.current, EFAULT, 'R-URING-55', { why: 'there is no buffer in this slot' })
  holder.hold(node)
  return 0
}

/**
 * `io_import_fixed`, the check: the range must lie in the buffer. What is mapped at these addresses now is
 * never looked at.
 * @returns 0 or -EFAULT
 * @rule R-URING-56
 */
export function checkFixedRange(k: Kernel, buffer: RegisteredBuffer, { sqe }: Request): number {
  return checkInside(k, buffer, signed64(sqe.addr ?? 0), sqe.len ?? 0)
}

function checkInside(k: Kernel, buffer: RegisteredBuffer, address: number, length: number): number {
  const { ubuf } = buffer
  if (address >= 0 && address >= ubuf && address + length <= ubuf + buffer.length) return 0
  return refuse(k.current, EFAULT, 'R-URING-56', {
    address: unsigned64(address),
    why: 'the range does not lie in the registered buffer',
  })
}

/**
 * The pinned pages behind a range of the buffer.
 * @throws Unmodelled for a buffer whose pages were joined out of order (R-URING-38)
 * @rule R-URING-60
 * @rule R-URING-61
 * @rule R-URING-62
 */
function fixedIter(k: Kernel, buffer: RegisteredBuffer, { sqe }: Request): IovIter {
  const offset = (buffer.ubuf % PAGE_SIZE) + ((sqe.addr ?? 0) - buffer.ubuf)
  return new PagesIter(k, buffer.row(k.memory.frames), offset, sqe.len ?? 0)
}

/** bytes of a vector from which on memory for its description may be short */
const LONG_VECTOR = 768 << 20

/**
 * The pinned pages behind a vector, of which every entry lies in the buffer and has bytes.
 * @param iovecs with signed fields
 * @returns -EFAULT where one does not
 * @throws Unmodelled for more than 768 MiB
 * @rule R-URING-103
 */
function fixedVectorIter(k: Kernel, buffer: RegisteredBuffer, iovecs: readonly Iovec[]): IovIter | number {
  const total = iovecs.reduce((sum, { length }) => sum + length, 0)
  if (total > LONG_VECTOR)
    throw new Unmodelled('a vector of more than 768 MiB in a registered buffer', 'R-URING-103')
  const first = buffer.ubuf % PAGE_SIZE
  const ranges: RowRange[] = []
  for (const { base, length } of iovecs) {
    if (length === 0)
      return refuse(k.current, EFAULT, 'R-URING-103', {
        address: unsigned64(base),
        why: 'an entry of a vector in a registered buffer is empty',
      })
    const error = checkInside(k, buffer, base, length)
    if (error < 0) return error
    ranges.push({ offset: first + (base - buffer.ubuf), length })
  }
  return new PagesVectorIter(k, buffer.row(k.memory.frames), ranges)
}

/**
 * The registered buffer a request names, taken for its holder, and the pinned pages behind its range or vector.
 * @returns -EFAULT without a buffer, or beyond it
 */
export function fixedMemory(k: Kernel, request: Request, holder: BufferHolder = request): IovIter | number {
  const taken = takeBuffer(k, request, holder)
  if (taken < 0) return taken
  const buffer = holder.buffer!
  if (request.vector !== null) return fixedVectorIter(k, buffer, request.vector)
  const error = checkFixedRange(k, buffer, request)
  return error < 0 ? error : fixedIter(k, buffer, request)
}

/**
 * `import_ubuf`: user memory must lie below the kernel's; whether anything is mapped shows later.
 * @returns 0 or -EFAULT
 * @rule R-URING-93
 */
export function checkUserRange(k: Kernel, { sqe }: Request): number {
  const address = signed64(sqe.addr ?? 0)
  if (address >= 0 && address + plainLength(sqe.len ?? 0) <= TASK_SIZE) return 0
  return refuse(k.current, EFAULT, 'R-URING-93', {
    address: unsigned64(address),
    why: 'the memory does not lie in user space',
  })
}

/** The memory of the submitter at the address of the request. */
export function userIter(k: Kernel, { sqe, task }: Request): IovIter {
  if (task.mm === null) throw new Error('a request of a task without an address space')
  return new UserIter(k, task.mm, [{ base: sqe.addr ?? 0, length: plainLength(sqe.len ?? 0) }])
}

function plainLength(length: number): number {
  return Math.min(length, MAX_RW_COUNT)
}
