import { EBADF, EFAULT, EINVAL } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import type { Kernel } from '../mm/kernel.ts'
import { findBuffer } from './import.ts'
import type { Request } from './request.ts'

/** the result is `len` */
export const IORING_NOP_INJECT_RESULT = 1 << 0
/** looks the descriptor up */
export const IORING_NOP_FILE = 1 << 1
/** looks the buffer slot up */
export const IORING_NOP_FIXED_BUFFER = 1 << 3

/** @rule R-URING-95 */
export function prepareNop(k: Kernel, { sqe }: Request): number {
  if (((sqe.opFlags ?? 0) & ~k.release.ioUring.nopFlags) === 0) return 0
  return refuse(k.current, EINVAL, 'R-URING-95', { why: 'this release has no such flag of NOP' })
}

/** @rule R-URING-95 */
export function* issueNop(k: Kernel, request: Request): Kthread<number> {
  const { sqe } = request
  const flags = sqe.opFlags ?? 0
  if ((flags & IORING_NOP_FILE) !== 0) {
    request.file = request.lookup(sqe.fd ?? -1)?.get() ?? null
    if (request.file === null)
      return refuse(k.current, EBADF, 'R-URING-95', { why: 'the descriptor is not open' })
  }
  if ((flags & IORING_NOP_FIXED_BUFFER) !== 0) {
    const node = findBuffer(request)
    if (node === null)
      return refuse(k.current, EFAULT, 'R-URING-95', { why: 'there is no buffer in this slot' })
    request.hold(node)
  }
  return (flags & IORING_NOP_INJECT_RESULT) === 0 ? 0 : (sqe.len ?? 0) | 0
}
