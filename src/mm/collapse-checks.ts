import { EAGAIN, EBUSY, EINVAL, ENOMEM } from '../base/errno.ts'
import { PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { unwatched, type MmapReadGuard } from './mmap-lock.ts'
import { VM_HUGETLB, VM_NOHUGEPAGE, VM_SPECIAL } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/** Who walks VMAs under a guard that MADV_COLLAPSE lets go and takes again. */
export interface GuardHolder {
  guard: MmapReadGuard
}

/** Why 2 MiB could not be collapsed; `goesOn`: the next 2 MiB are tried all the same. */
export interface Failure {
  readonly errno: number
  readonly why: string
  readonly goesOn?: true
}

export const NOTHING_THERE: Failure = { errno: EINVAL, why: 'there is no page table' }
export const NO_MEMORY: Failure = { errno: ENOMEM, why: 'there is no free huge page' }
export const VMA_CHANGED: Failure = { errno: EINVAL, why: 'the mapping does not hold a huge page here' }
export const UFFD_HOLE: Failure = { errno: EBUSY, why: 'a userfaultfd watches a page that is not there' }
/** the same as older releases tell it */
export const UFFD_HOLE_UNTOLD: Failure = { ...UFFD_HOLE, errno: EINVAL }
export const PROTECTED: Failure = { errno: EINVAL, why: 'a userfaultfd protects a page', goesOn: true }
export const SPECIAL: Failure = { errno: EINVAL, why: 'a page is not an ordinary one' }
export const NOT_PRESENT: Failure = { errno: EINVAL, why: 'an entry cannot be brought back from swap space' }
export const READ_ONLY: Failure = { errno: EINVAL, why: 'no page may be written to', goesOn: true }
export const LOCKED: Failure = { errno: EAGAIN, why: 'a page is locked', goesOn: true }
export const NOT_ON_LRU: Failure = { errno: EAGAIN, why: 'a page is not on an LRU list', goesOn: true }
export const NOTHING_CACHED: Failure = { errno: EINVAL, why: 'the file has no page there' }
export const COPIED: Failure = { errno: EINVAL, why: 'a private copy of a page is in the way' }
export const MARKED: Failure = { errno: EINVAL, why: 'an entry is a marker', goesOn: true }
export const REFERENCED: Failure = { errno: EAGAIN, why: 'somebody holds a reference or a pin', goesOn: true }

/**
 * `thp_vma_allowable_order` for those who insist. Null: the VMA may hold huge pages, and has room for one.
 * @rule R-HUGE-60
 */
export function whyNotCollapsible(vma: Vma): string | null {
  if ((vma.flags & VM_NOHUGEPAGE) !== 0) return 'the mapping is to have no huge pages'
  if (vma.mm !== null && vma.mm.thpDisabled) return 'the process is to have no huge pages'
  if ((vma.flags & (VM_SPECIAL | VM_HUGETLB)) !== 0) return 'this kind of mapping has no pages to collapse'
  if (vma.isAnonymous) {
    if (vma.anonVma === null) return 'nothing was ever written to the mapping'
  } else if (vma.file?.mapping.kind.shmem !== true)
    return 'the pages of this kind of file cannot be collapsed'
  else if (vma.pageIndex(0) % PTRS_PER_PTE !== 0) return 'the file is not mapped where huge pages fit'
  const first = Math.ceil(vma.start / PMD_SIZE) * PMD_SIZE
  return first + PMD_SIZE > vma.end ? 'no aligned 2 MiB lie inside the mapping' : null
}

/** The VMA at an address if it still may hold the huge page there (`hugepage_vma_revalidate`). */
export function revalidated(guard: MmapReadGuard, address: number): Vma | Failure {
  const found = guard.vmas.find(address)
  if (found === null || found.start > address || found.end < address + PMD_SIZE) return VMA_CHANGED
  const vma = unwatched(found)
  return whyNotCollapsible(vma) === null ? vma : VMA_CHANGED
}
