import { EINVAL, EOPNOTSUPP } from '../../base/errno.ts'
import { refuse } from '../../base/refusal.ts'
import type { Kernel } from '../../mm/kernel.ts'

export const IB_ACCESS_LOCAL_WRITE = 1 << 0
export const IB_ACCESS_REMOTE_WRITE = 1 << 1
export const IB_ACCESS_REMOTE_READ = 1 << 2
export const IB_ACCESS_REMOTE_ATOMIC = 1 << 3
export const IB_ACCESS_MW_BIND = 1 << 4
/** @public */
export const IB_ACCESS_ZERO_BASED = 1 << 5
export const IB_ACCESS_ON_DEMAND = 1 << 6
/** @public */
export const IB_ACCESS_HUGETLB = 1 << 7
export const IB_ACCESS_FLUSH_GLOBAL = 1 << 8
export const IB_ACCESS_FLUSH_PERSISTENT = 1 << 9
const FLUSH = IB_ACCESS_FLUSH_GLOBAL | IB_ACCESS_FLUSH_PERSISTENT
/** bits that a device may ignore (IB_UVERBS_ACCESS_OPTIONAL_RANGE) */
const OPTIONAL = 0x3ff00000
const KNOWN = (1 << 10) - 1

const WRITING = IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_ATOMIC | IB_ACCESS_MW_BIND

/** `ib_access_writable`: the device may write. */
export function isWritable(access: number): boolean {
  return (access & WRITING) !== 0
}

/**
 * `ib_check_mr_access`.
 * @param device what the device can do besides
 * @returns 0, -EINVAL or -EOPNOTSUPP
 * @rule R-UMEM-2
 */
export function checkMrAccess(
  k: Kernel,
  access: number,
  device: { readonly onDemand: boolean; readonly flush: boolean },
): number {
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-UMEM-2', { why })
  const remote = (access & (IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_ATOMIC)) !== 0
  if (remote && (access & IB_ACCESS_LOCAL_WRITE) === 0)
    return refused(EINVAL, 'REMOTE_WRITE and REMOTE_ATOMIC need LOCAL_WRITE')
  if ((access & ~(KNOWN | OPTIONAL)) !== 0) return refused(EINVAL, 'an access flag that is not known')
  if ((access & IB_ACCESS_ON_DEMAND) !== 0 && !device.onDemand)
    return refused(EOPNOTSUPP, 'the device cannot page on demand')
  if ((access & FLUSH) !== 0 && !device.flush) return refused(EOPNOTSUPP, 'the device cannot flush')
  return 0
}
