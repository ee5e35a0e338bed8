import { EACCES, EINVAL, ENODEV, EOPNOTSUPP, EOVERFLOW, EPERM, ETXTBSY } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { F_SEAL_FUTURE_WRITE, F_SEAL_WRITE, type OpenFile } from './file.ts'
import type { Kernel } from './kernel.ts'
import {
  MAP_32BIT,
  MAP_ABOVE4G,
  MAP_ANONYMOUS,
  MAP_DENYWRITE,
  MAP_DROPPABLE,
  MAP_EXECUTABLE,
  MAP_FIXED,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_HUGE_1GB,
  MAP_HUGE_2MB,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_STACK,
  MAP_SYNC,
  MAP_TYPE,
  PROT_EXEC,
  PROT_WRITE,
} from './mman.ts'
import {
  VM_DONTDUMP,
  VM_GROWSDOWN,
  VM_MAYEXEC,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_NORESERVE,
  VM_SHARED,
  VM_WIPEONFORK,
  VM_WRITE,
} from './vm-flags.ts'

/** what MAP_SHARED_VALIDATE accepts (R-AS-15) */
const LEGACY_MAP_MASK =
  MAP_SHARED |
  MAP_PRIVATE |
  MAP_FIXED |
  MAP_ANONYMOUS |
  MAP_DENYWRITE |
  MAP_EXECUTABLE |
  MAP_GROWSDOWN |
  MAP_LOCKED |
  MAP_NORESERVE |
  MAP_POPULATE |
  MAP_NONBLOCK |
  MAP_STACK |
  MAP_HUGETLB |
  MAP_32BIT |
  MAP_HUGE_2MB |
  MAP_HUGE_1GB

/**
 * Steps 15 to 25 of mmap: what a file allows.
 * @param vmFlags so far
 * @param pages length of the mapping
 * @returns the VMA's flags (bit 31 never set), or -errno
 * @rule R-AS-10
 * @rule R-AS-15
 */
export function fileFlags(
  k: Kernel,
  vmFlags: number,
  flags: number,
  prot: number,
  file: OpenFile,
  pgoff: number,
  pages: number,
): number {
  const task = k.current
  const { mapping } = file
  const { kind } = mapping
  // everything that is a regular file ends at 2^63 - 1, devices and pipes at 2^64 - 1
  const isRegular = kind.canWriteback || kind.shmem || kind.hugetlb || kind.secretmem
  const ends = isRegular ? pgoff < 0 || pgoff > 2 ** 51 - 1 - pages : pgoff < 0 && pgoff + pages >= 0
  if (ends) {
    // @rule R-AS-10.15
    return refuse(task, EOVERFLOW, 'R-AS-10.15', { why: 'offset and length pass the largest file offset' })
  }
  let result = vmFlags
  const type = flags & MAP_TYPE
  if (type === MAP_SHARED || type === MAP_SHARED_VALIDATE) {
    const legacy = LEGACY_MAP_MASK | (k.release.mm.hasAbove4G ? MAP_ABOVE4G : 0)
    const mask = kind.pageMkwrite || mapping.dax ? legacy | MAP_SYNC : legacy
    if (type === MAP_SHARED_VALIDATE && (flags & ~MAP_TYPE & ~mask) !== 0) {
      // @rule R-AS-10.16
      return refuse(task, EOPNOTSUPP, 'R-AS-10.16', {
        why: 'MAP_SHARED_VALIDATE with a flag the file does not know',
      })
    }
    if ((prot & PROT_WRITE) !== 0) {
      // @rule R-AS-10.17
      if (!file.writable) {
        return refuse(task, EACCES, 'R-AS-10.17', {
          why: 'a shared writable mapping of a file not opened for writing',
        })
      }
      // @rule R-AS-10.18
      if (mapping.swapFile) return refuse(task, ETXTBSY, 'R-AS-10.18', { why: 'the file is in use as swap' })
    }
    // @rule R-AS-10.19
    if (mapping.appendOnly && file.writable) {
      return refuse(task, EACCES, 'R-AS-10.19', { why: 'the file is append-only and opened for writing' })
    }
    result |= VM_SHARED | VM_MAYSHARE
    // @rule R-AS-20
    if (!file.writable) result &= ~(VM_MAYWRITE | VM_SHARED)
  } else if (type !== MAP_PRIVATE) {
    // @rule R-AS-10.24
    return refuse(task, EINVAL, 'R-AS-10.24', { why: 'neither MAP_SHARED nor MAP_PRIVATE' })
  }
  // @rule R-AS-10.20
  if (!file.readable) return refuse(task, EACCES, 'R-AS-10.20', { why: 'the file is not opened for reading' })
  if (mapping.noexec) {
    // @rule R-AS-10.21
    if ((prot & PROT_EXEC) !== 0) {
      return refuse(task, EPERM, 'R-AS-10.21', { why: 'the file lies on a mount without exec' })
    }
    result &= ~VM_MAYEXEC
  }
  // @rule R-AS-10.22
  if (!kind.mappable) return refuse(task, ENODEV, 'R-AS-10.22', { why: 'this kind of file cannot be mapped' })
  // @rule R-AS-10.23
  if ((vmFlags & VM_GROWSDOWN) !== 0) {
    return refuse(task, EINVAL, 'R-AS-10.23', { why: 'MAP_GROWSDOWN with a file' })
  }
  return mapping.seals === 0 ? result : sealedFlags(k, result, mapping.seals)
}

/**
 * What write seals of a memfd do to a shared mapping before anything is unmapped; the rest is
 * `sealedInMethod` (mmap-region.ts).
 * @rule R-AS-21
 */
function sealedFlags(k: Kernel, vmFlags: number, seals: number): number {
  if ((vmFlags & VM_SHARED) === 0) return vmFlags
  const { mm } = k.release
  if (!mm.sealedSharedReadAllowed) return vmFlags
  const early = mm.futureWriteSealInMethod ? F_SEAL_WRITE : F_SEAL_WRITE | F_SEAL_FUTURE_WRITE
  if ((seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) === 0) return vmFlags
  if ((vmFlags & VM_WRITE) === 0) return vmFlags & ~VM_MAYWRITE
  if ((seals & early) === 0) return vmFlags
  return writeSealed(k)
}

/** @rule R-AS-10.25 */
export function writeSealed(k: Kernel): number {
  return refuse(k.current, EPERM, 'R-AS-10.25', { why: 'the memfd is sealed against writing' })
}

/**
 * Step 26 of mmap.
 * @rule R-AS-10.26
 * @rule R-AS-18
 * @rule R-AS-22
 * @rule R-AS-16
 */
export function anonymousFlags(k: Kernel, vmFlags: number, flags: number): number {
  switch (flags & MAP_TYPE) {
    case MAP_SHARED:
      if ((vmFlags & VM_GROWSDOWN) !== 0) {
        return refuse(k.current, EINVAL, 'R-AS-10.26', { why: 'MAP_GROWSDOWN with shared memory' })
      }
      return vmFlags | VM_SHARED | VM_MAYSHARE
    case MAP_PRIVATE:
      return vmFlags
    case MAP_DROPPABLE:
      if (!k.release.mm.hasMseal) break
      // VM_LOCKED of mlockall(MCL_FUTURE) is no refusal; the VMA loses it later
      if ((flags & (MAP_LOCKED | MAP_GROWSDOWN)) !== 0) {
        return refuse(k.current, EINVAL, 'R-AS-10.26', { why: 'droppable memory that is locked or growable' })
      }
      return vmFlags | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP
  }
  return refuse(k.current, EINVAL, 'R-AS-10.26', { why: 'neither MAP_SHARED nor MAP_PRIVATE' })
}
