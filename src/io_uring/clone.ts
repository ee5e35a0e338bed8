import { EBADF, EBUSY, EEXIST, EFAULT, EINVAL, ENXIO, EOPNOTSUPP, EOVERFLOW } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import type { Kernel } from '../mm/kernel.ts'
import { BufferTable } from './buffer.ts'
import { IORING_MAX_REG_BUFFERS } from './buffer-table.ts'
import type { IoUring } from './io-uring.ts'
import { RsrcNode, removeNode } from './rsrc-node.ts'
import type { CloneBuffers } from './user-args.ts'

/** the source is given by its index among the registered rings */
export const IORING_REGISTER_SRC_REGISTERED = 1
/** slots of the destination may be taken */
export const IORING_REGISTER_DST_REPLACE = 2

const MAX_U32 = 0xffffffff

/**
 * IORING_REGISTER_CLONE_BUFFERS: slots of this ring hold buffers of another one as well: no pins, no charge, no
 * tags. What was charged is given back by whichever ring lets go last. `uring_lock` is held.
 * @returns 0, -EBUSY, -EFAULT, -EINVAL, -EBADF, -EOPNOTSUPP, -EEXIST, -ENXIO, -EOVERFLOW
 * @rule R-URING-71
 * @rule R-URING-72
 * @rule R-URING-73
 */
export function* cloneBuffers(k: Kernel, ring: IoUring, arg: CloneBuffers | null): Kthread<number> {
  const { cloneRanges } = k.release.ioUring
  const rule = cloneRanges ? 'R-URING-73' : 'R-URING-72'
  const refused = (errno: number, why: string): number => refuse(k.current, errno, rule, { why })
  const busy = 'the ring has a buffer table already'
  if (!cloneRanges && ring.buffers !== null) return refused(EBUSY, busy)
  if (arg === null) return refused(EFAULT, 'the structure cannot be read')
  const { source, flags = 0, srcOff = 0, dstOff = 0, nr = 0, pad = 0 } = arg
  const known = IORING_REGISTER_SRC_REGISTERED | (cloneRanges ? IORING_REGISTER_DST_REPLACE : 0)
  if ((flags & ~known) !== 0) return refused(EINVAL, 'a flag is not known')
  const replaces = (flags & IORING_REGISTER_DST_REPLACE) !== 0
  if (ring.buffers !== null && !replaces) return refused(EBUSY, busy)
  const reserved = cloneRanges ? pad : pad || srcOff || dstOff || nr
  if (reserved !== 0) return refused(EINVAL, 'a reserved field is not zero')
  if (source === 'other-file') return refused(EOPNOTSUPP, 'the source is not an io_uring')
  if (typeof source === 'string')
    return refused(source === 'bad-index' ? EINVAL : EBADF, 'there is no source ring')
  // seen on 6.18; 6.12 does not ask whose the source is
  if (cloneRanges && source !== ring && source.submitterTask !== null && source.submitterTask !== k.current)
    return refused(EEXIST, 'the source belongs to another task (SINGLE_ISSUER)')
  yield* lockBoth(ring, source)
  const result = cloneLocked(k, ring, source, { srcOff, dstOff, nr, replaces }, refused)
  if (source !== ring) source.uringLock.unlock()
  return result
}

/** Both locks, the older ring's first. The caller's own is let go meanwhile. */
function* lockBoth(ring: IoUring, source: IoUring): Kthread<void> {
  if (source === ring || source.uringLock.tryLock()) return
  ring.uringLock.unlock()
  for (const { uringLock } of [ring, source].sort((a, b) => a.id - b.id))
    if (!uringLock.tryLock()) yield* uringLock.lock()
}

interface Wanted {
  readonly srcOff: number
  readonly dstOff: number
  /** 0: all of the source */
  readonly nr: number
  readonly replaces: boolean
}

function cloneLocked(
  k: Kernel,
  ring: IoUring,
  source: IoUring,
  { srcOff, dstOff, nr, replaces }: Wanted,
  refused: (errno: number, why: string) => number,
): number {
  // @rule R-URING-75
  if (source.user !== ring.user || source.mmAccount !== ring.mmAccount)
    return refused(EINVAL, 'the two rings are charged to different accounts')
  if (nr === 0 && (srcOff !== 0 || dstOff !== 0))
    return refused(EINVAL, 'an offset is given without a number')
  const old = ring.buffers
  if (old !== null && !replaces) return refused(EBUSY, 'the ring has a buffer table by now')
  const from = source.buffers
  if (from === null) return refused(ENXIO, 'the source has no buffer table')
  const count = nr === 0 ? from.length : nr
  if (count > from.length) return refused(EINVAL, 'the source has fewer slots')
  if (srcOff + count > from.length) return refused(EOVERFLOW, 'the slots lie beyond the end of the source')
  if (dstOff + count > MAX_U32) return refused(EOVERFLOW, 'the last slot number does not fit 32 bits')
  if (dstOff + count > IORING_MAX_REG_BUFFERS)
    return refused(EINVAL, 'a buffer table has at most 16384 slots')
  fill(k, ring, from, old, { srcOff, dstOff, count })
  return 0
}

/** @rule R-URING-74 */
function fill(
  k: Kernel,
  ring: IoUring,
  from: BufferTable,
  old: BufferTable | null,
  { srcOff, dstOff, count }: { srcOff: number; dstOff: number; count: number },
): void {
  const table = new BufferTable(k.memory.frames, Math.max(old?.length ?? 0, dstOff + count))
  const cloned: (RsrcNode | null)[] = []
  for (let i = 0; i < count; i++) {
    const node = from.node(srcOff + i)
    cloned.push(node === null ? null : new RsrcNode(ring, node.buffer, 0))
  }
  for (let slot = (old?.length ?? 0) - 1; slot >= 0; slot--) {
    const kept = old!.take(slot)
    if (slot < dstOff || slot >= dstOff + count) table.install(slot, kept)
    else if (kept !== null) removeNode(k, kept)
  }
  cloned.forEach((node, i) => table.install(dstOff + i, node))
  ring.buffers = table
}
