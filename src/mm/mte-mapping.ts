import { EINVAL } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import type { OpenFile } from './file.ts'
import type { Kernel } from './kernel.ts'
import { PROT_MTE } from './mman.ts'
import { VMH_MTE } from './vm-flags.ts'

/**
 * PROT_MTE of mmap and mprotect, on machines that know it: anonymous memory and files in memory can have tags, hugetlb memory
 * on some releases.
 * @param file of the mapping
 * @returns VMH_MTE, 0 when it was not asked for, or -EINVAL
 * @rule R-MTE-9
 */
export function mteFlag(k: Kernel, prot: number, file: OpenFile | null): number {
  if ((prot & PROT_MTE) === 0 || !k.settings.mte) return 0
  const hugetlb = k.release.remote.hugetlbHasTags && file?.mapping.kind.hugetlb === true
  if (file === null || file.mapping.kind.shmem || hugetlb) return VMH_MTE
  return refuse(k.current, EINVAL, 'R-MTE-9', {
    why: 'only memory without a file, and tmpfs files, have tags',
  })
}
