import { EAGAIN, ENOMEM, EPERM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { AddressSpace } from './file.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import {
  VM_EXEC,
  VM_GROWSDOWN,
  VM_HUGETLB,
  VM_LOCKED,
  VM_NORESERVE,
  VM_SHARED,
  VM_WRITE,
} from './vm-flags.ts'

/**
 * Counts pages of VMAs into total_vm and their class; negative counts take them out.
 * @rule R-AS-140
 * @rule R-AS-141
 */
export function vmStatAccount(mm: Mm, flags: number, pages: number): void {
  // @rule R-ST-7
  if (pages < 0 && mm.totalVm > mm.hiwaterVm) mm.hiwaterVm = mm.totalVm
  mm.totalVm += pages
  if ((flags & VM_EXEC) !== 0 && (flags & (VM_WRITE | VM_GROWSDOWN)) === 0) mm.execVm += pages
  else if ((flags & VM_GROWSDOWN) !== 0) mm.stackVm += pages
  else if ((flags & (VM_WRITE | VM_SHARED)) === VM_WRITE) mm.dataVm += pages
}

/**
 * Private, writable, neither NORESERVE nor hugetlb: charged to the commit limit.
 * @rule R-AS-40
 */
export function isAccountable(flags: number): boolean {
  return (flags & (VM_NORESERVE | VM_HUGETLB | VM_SHARED | VM_WRITE)) === VM_WRITE
}

/** Pages of a byte limit, rounded down; Infinity stays. */
export function limitPages(bytes: number): number {
  return Math.floor(bytes / PAGE_SIZE)
}

function isDataMapping(flags: number): boolean {
  return (flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN)) === VM_WRITE
}

/**
 * `may_expand_vm` without a reason: do RLIMIT_AS and RLIMIT_DATA allow this many more pages?
 * @param pages may be negative: what is to be removed first counts as credit
 * @rule R-AS-50
 */
export function fitsVmLimits(k: Kernel, mm: Mm, flags: number, pages: number): boolean {
  const task = k.current
  const as = task.rlimit('as')
  if (as !== Infinity && mm.totalVm + pages > limitPages(as)) return false
  if (!isDataMapping(flags)) return true
  const data = task.rlimit('data')
  if (data === Infinity || mm.dataVm + pages <= limitPages(data)) return true
  if (data !== 0) return false
  const hard = task.hardRlimit === undefined ? Infinity : task.hardRlimit('data')
  return mm.dataVm + pages <= limitPages(hard)
}

/**
 * `may_expand_vm`.
 * @returns 0 or -ENOMEM
 * @rule R-AS-50
 */
export function mayExpandVm(k: Kernel, mm: Mm, flags: number, pages: number): number {
  if (fitsVmLimits(k, mm, flags, pages)) return 0
  const as = limitPages(k.current.rlimit('as'))
  if (mm.totalVm + pages > as) {
    return refuse(k.current, ENOMEM, 'R-AS-50', {
      needed: pages,
      used: mm.totalVm,
      limit: as,
      why: 'the address space would exceed RLIMIT_AS',
    })
  }
  return refuse(k.current, ENOMEM, 'R-AS-50', {
    needed: pages,
    used: mm.dataVm,
    limit: limitPages(k.current.rlimit('data')),
    why: 'private writable memory would exceed RLIMIT_DATA',
  })
}

/**
 * `security_vm_enough_memory_mm` without charging.
 * @returns 0 or -ENOMEM
 * @rule R-AS-49
 */
export function enoughMemory(k: Kernel, mm: Mm, pages: number): number {
  const { settings } = k
  if (settings.overcommit === 'always') return 0
  if (settings.overcommit === 'heuristic') {
    const total = settings.totalRamAndSwap
    if (total === null || pages <= total) return 0
    return refuse(k.current, ENOMEM, 'R-AS-49', {
      needed: pages,
      limit: total,
      why: 'one request for more memory than RAM and swap together',
    })
  }
  let allowed = settings.commitLimit
  if (!k.current.capable('CAP_SYS_ADMIN')) allowed -= settings.adminReserve
  allowed -= Math.min(Math.floor(mm.totalVm / 32), settings.userReserve)
  if (k.committed + pages < allowed) return 0
  return refuse(k.current, ENOMEM, 'R-AS-49', {
    needed: pages,
    used: k.committed,
    limit: allowed,
    why: 'committed memory would exceed the commit limit',
  })
}

/** Charges pages to the commit limit for a VMA of this mm. 0 or -ENOMEM. */
export function chargeCommit(k: Kernel, mm: Mm, pages: number): number {
  if (
    k.settings.overcommit !== 'always' &&
    !(k.settings.overcommit === 'heuristic' && k.settings.totalRamAndSwap === null)
  ) {
    const error = enoughMemory(k, mm, pages)
    if (error < 0) return error
  }
  mm.committed += pages
  k.committed += pages
  return 0
}

export function unchargeCommit(k: Kernel, mm: Mm, pages: number): void {
  mm.committed -= pages
  k.committed -= pages
}

/**
 * A shared anonymous object is charged its whole size when it is made, and until its last reference goes.
 * @returns 0 or -ENOMEM
 * @rule R-AS-40
 */
export function chargeObject(k: Kernel, mm: Mm, mapping: AddressSpace, pages: number): number {
  const error = enoughMemory(k, mm, pages)
  if (error < 0) return error
  mapping.committed = pages
  k.committed += pages
  return 0
}

/**
 * `can_do_mlock`.
 * @returns 0 or -EPERM
 */
export function canDoMlock(k: Kernel): number {
  // @rule R-AS-10.13
  if (k.current.rlimit('memlock') !== 0 || k.current.capable('CAP_IPC_LOCK')) return 0
  return refuse(k.current, EPERM, 'R-AS-10.13', {
    limit: 0,
    why: 'RLIMIT_MEMLOCK is 0 and CAP_IPC_LOCK is missing',
  })
}

/**
 * `mlock_future_ok`: may this many more pages be VM_LOCKED?
 * @param flags of the VMA; without VM_LOCKED the answer is yes
 * @returns 0 or -EAGAIN
 */
export function mlockFutureOk(k: Kernel, mm: Mm, flags: number, pages: number): number {
  if ((flags & VM_LOCKED) === 0) return 0
  // @rule R-AS-10.14
  const limit = limitPages(k.current.rlimit('memlock'))
  if (mm.lockedVm + pages <= limit || k.current.capable('CAP_IPC_LOCK')) return 0
  return refuse(k.current, EAGAIN, 'R-AS-10.14', {
    needed: pages,
    used: mm.lockedVm,
    limit,
    why: 'locked memory would exceed RLIMIT_MEMLOCK',
  })
}
