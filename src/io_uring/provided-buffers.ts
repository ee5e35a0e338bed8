import { EEXIST, EFAULT, EINVAL, ENOENT } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { IoUring } from './io-uring.ts'
import { freeRegion, kernelRegion, userRegion } from './region.ts'
import { signed64, unsigned64, type BufReg } from './user-args.ts'

/** the ring of descriptors is memory of the kernel, to be mapped */
export const IOU_PBUF_RING_MMAP = 1

/** bytes of struct io_uring_buf */
const DESCRIPTOR_BYTES = 16
const MAX_ENTRIES = 1 << 16

/**
 * IORING_REGISTER_PBUF_RING: a ring of buffer descriptors, 16 bytes each. Only the ring is pinned, never the
 * buffers it lists.
 * @param arg null when it cannot be read
 * @returns 0, -EFAULT, -EINVAL, -EEXIST, -ENOMEM, -EOVERFLOW or what pinning gives
 * @rule R-URING-76
 * @rule R-URING-77
 */
export function* registerPbufRing(k: Kernel, ring: IoUring, arg: BufReg | null): Kthread<number> {
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-URING-77', { why })
  if (arg === null) return refused(EFAULT, 'the structure cannot be read')
  const { bgid, entries, flags = 0 } = arg
  const { pbufFlags, pbufEntriesFirst } = k.release.ioUring
  if ((arg.resv ?? 0) !== 0 || (flags & ~pbufFlags) !== 0)
    return refused(EINVAL, 'a reserved field is not zero, or a flag is not known')
  const mapped = (flags & IOU_PBUF_RING_MMAP) !== 0
  if (!pbufEntriesFirst) {
    const error = checkAddress(k, signed64(arg.ringAddr), mapped)
    if (error < 0) return error
  }
  if (entries === 0 || (entries & (entries - 1)) !== 0)
    return refused(EINVAL, 'the number of entries is not a power of two')
  if (entries >= MAX_ENTRIES) return refused(EINVAL, 'a ring of buffers has at most 32768 entries')
  if (bgid < k.release.ioUring.groupsMadeAtOnce) ring.hasGroups = true
  if (ring.groups.has(bgid)) return refused(EEXIST, 'there is a group of buffers of this number')
  const bytes = entries * DESCRIPTOR_BYTES
  const region = mapped
    ? kernelRegion(k, ring.user, Math.ceil(bytes / PAGE_SIZE))
    : yield* userRegion(k, ring.user, signed64(arg.ringAddr), bytes)
  if (typeof region === 'number') return region
  ring.groups.set(bgid, region)
  return 0
}

/** Until 6.12 the address comes first, and has to be 0 for memory of the kernel. */
function checkAddress(k: Kernel, address: number, mapped: boolean): number {
  const refused = (errno: number, why: string): number =>
    refuse(k.current, errno, 'R-URING-77', { address: unsigned64(address), why })
  if (mapped) return address === 0 ? 0 : refused(EINVAL, 'memory of the kernel has no address')
  if (address === 0) return refused(EFAULT, 'the ring of buffers has no address')
  return address % PAGE_SIZE === 0 ? 0 : refused(EINVAL, 'the ring of buffers does not begin with a page')
}

/**
 * IORING_UNREGISTER_PBUF_RING: pages are unpinned at once; mappings of kernel pages stay.
 * @returns 0, -EFAULT, -EINVAL or -ENOENT
 * @rule R-URING-78
 */
export function unregisterPbufRing(k: Kernel, ring: IoUring, arg: BufReg | null): number {
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-URING-78', { why })
  if (arg === null) return refused(EFAULT, 'the structure cannot be read')
  if ((arg.resv ?? 0) !== 0 || (arg.flags ?? 0) !== 0) return refused(EINVAL, 'a reserved field is not zero')
  const region = ring.groups.get(arg.bgid)
  if (region === undefined) {
    const isKnown = ring.hasGroups && arg.bgid < k.release.ioUring.groupsMadeAtOnce
    if (isKnown) return refused(EINVAL, 'the group of buffers has no ring')
    return refused(ENOENT, 'there is no group of buffers of this number')
  }
  ring.groups.delete(arg.bgid)
  freeRegion(k, ring.user, region)
  return 0
}
