import { EACCES, EINVAL, ENOMEM, EOPNOTSUPP } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { F_SEAL_FUTURE_WRITE, F_SEAL_WRITE, type OpenFile } from './file.ts'
import { hugetlbReserve } from './hugetlb.ts'
import type { Kernel } from './kernel.ts'
import { writeSealed } from './mmap-flags.ts'
import type { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { noteUnmap } from './userfaultfd-events.ts'
import { countMapped, firstOverlapping, removeDetached, splitEdges } from './munmap.ts'
import { prepareSecretmem } from './secretmem.ts'
import { shmemFileSetup } from './shmem.ts'
import { finishUprobes, uprobeMmap } from './uprobe-hooks.ts'
import { freeVma, insertVma } from './vma-link.ts'
import { mergeNewRange } from './vma-merge.ts'
import { Vma } from './vma.ts'
import {
  chargeCommit,
  chargeObject,
  isAccountable,
  mayExpandVm,
  unchargeCommit,
  vmStatAccount,
} from './vm-accounting.ts'
import {
  VM_ACCOUNT,
  VM_DONTEXPAND,
  VM_EXEC,
  VM_HUGETLB,
  VM_LOCKED,
  VM_LOCKED_MASK,
  VM_MAYWRITE,
  VM_SHARED,
  VM_SPECIAL,
  VM_SYNC,
  VM_WRITE,
  VMH_DROPPABLE,
} from './vm-flags.ts'

/**
 * `mmap_region` where nothing is mapped in [start, start + len).
 * @returns start, or -errno
 * @rule R-AS-46
 */
export function mapFreeRange(
  k: Kernel,
  guard: MmapWriteGuard,
  start: number,
  len: number,
  flags: number,
  highFlags: number,
  pgoff: number,
  file: OpenFile | null,
): number {
  const { mm } = guard
  if (k.release.mm.checksAfterUnmap === 'none') {
    const error = checkMdwe(k, mm, flags)
    if (error < 0) return error
  }
  const error = mayExpandVm(k, mm, flags, len / PAGE_SIZE)
  if (error < 0) return error
  if (!isCharged(flags, file)) return addMapping(k, guard, start, len, flags, highFlags, pgoff, file)
  const refused = chargeCommit(k, mm, len / PAGE_SIZE)
  return refused < 0 ? refused : addMapping(k, guard, start, len, flags | VM_ACCOUNT, highFlags, pgoff, file)
}

/**
 * `mmap_region` over existing mappings (MAP_FIXED), which it replaces. Which checks run only after the
 * old range is gone depends on the release (R-AS-47).
 * @param first VMA that overlaps
 * @returns start, or -errno
 * @rule R-AS-46
 */
export function* mapOverRange(
  k: Kernel,
  guard: MmapWriteGuard,
  first: Vma,
  start: number,
  len: number,
  flags: number,
  highFlags: number,
  pgoff: number,
  file: OpenFile | null,
): Kthread<number> {
  const charged = isCharged(flags, file)
  if (k.release.mm.checksAfterUnmap === 'none') {
    const error = checkMdwe(k, guard.mm, flags)
    if (error < 0) return error
  }
  // replaced mappings keep their files, and with them what those were promised, until the new one has its own
  const later: Vma[] = []
  const { mm } = guard
  const locked = mm.lockedVm
  const error = yield* replace(k, guard, first, start, start + len, flags, charged, later)
  // @rule R-AS-47
  const stillLocked = k.release.mm.checksAfterUnmap === 'none' ? locked - mm.lockedVm : 0
  const newFlags = charged ? flags | VM_ACCOUNT : flags
  const mapped =
    error < 0 ? error : addMapping(k, guard, start, len, newFlags, highFlags, pgoff, file, stillLocked)
  // @rule R-AS-48
  for (const vma of later) freeVma(vma)
  return mapped
}

/** hugetlb has an accounting of its own; its VMA gets VM_HUGETLB later. */
function isCharged(flags: number, file: OpenFile | null): boolean {
  return isAccountable(flags) && (file === null || !file.mapping.kind.hugetlb)
}

/**
 * Merges the new range into a neighbour or gives it a VMA. Its pages are charged already.
 * @param stillLocked pages of replaced mappings that locked_vm counts until the new one is there
 */
function addMapping(
  k: Kernel,
  guard: MmapWriteGuard,
  start: number,
  len: number,
  vmFlags: number,
  highFlags: number,
  pgoff: number,
  file: OpenFile | null,
  stillLocked = 0,
): number {
  const { mm, vmas } = guard
  const pages = len / PAGE_SIZE
  const end = start + len
  let flags = vmFlags | k.newVmaFlags
  if (file !== null && file.mapping.kind.secretmem) {
    const added = prepareSecretmem(k, mm, flags, pages + stillLocked)
    if (added < 0) {
      if ((flags & VM_ACCOUNT) !== 0) unchargeCommit(k, mm, pages)
      return added
    }
    flags |= added
  }
  const next = vmas.find(start)
  const previous = next === null ? vmas.last : next.previous
  const shape = { flags, highFlags, file, uffd: null, policy: null, anonName: null }
  // @rule R-AS-131
  const merged = mergeNewRange(k, mm, vmas, previous, next, start, end, pgoff, shape, null)
  if (merged === null) {
    const vma = new Vma(start, end, flags, pgoff, file === null ? null : file.get(), highFlags)
    let error = file === null && (flags & VM_SHARED) === 0 ? 0 : callMmap(k, mm, vma)
    if (error === 0 && k.release.mm.checksAfterUnmap === 'commit-seal-mdwe') error = checkMdwe(k, mm, flags)
    if (error < 0) {
      vma.file?.put()
      if ((flags & VM_ACCOUNT) !== 0) unchargeCommit(k, mm, pages)
      return error
    }
    insertVma(mm, vmas, vma, previous, next)
    flags = vma.flags
    if ((flags & VM_LOCKED) !== 0) {
      if (losesLock(vma)) vma.flags &= ~VM_LOCKED_MASK
      else mm.lockedVm += pages
    }
    uprobeMmap(k, mm, vma)
  } else {
    if ((flags & VM_LOCKED) !== 0) mm.lockedVm += pages
    uprobeMmap(k, mm, merged)
  }
  vmStatAccount(mm, flags, pages)
  k.observer?.({ type: 'map', mm: mm.id, start, end })
  return start
}

/** Checks and removal of the old mappings of a fixed range, the commit charge included. */
function* replace(
  k: Kernel,
  guard: MmapWriteGuard,
  first: Vma,
  start: number,
  end: number,
  flags: number,
  charges: boolean,
  later: Vma[],
): Kthread<number> {
  const { mm, vmas } = guard
  const pages = (end - start) / PAGE_SIZE
  // pages about to go count as credit
  const credit = countMapped(vmas, start, end, 0)
  if (k.release.mm.checksAfterUnmap === 'none') {
    const refused = splitEdges(k, mm, vmas, first, start, end)
    if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
    if (refused < 0) return refused
    // the first VMA may have been cut: what is inside starts here
    const inside = firstOverlapping(vmas, start, end)!
    const error = mayExpandVm(k, mm, flags, pages - credit)
    if (error < 0) return error
    if (charges) {
      const charged = countMapped(vmas, start, end, VM_ACCOUNT)
      const short = chargeCommit(k, mm, pages - charged)
      if (short < 0) return short
      // the removal below gives those pages back although the new mapping has taken them over
      mm.committed += charged
      k.committed += charged
    }
    noteUnmap(mm, inside, start, end)
    yield* removeDetached(k, mm, vmas, inside, start, end, later)
    return 0
  }
  const error = mayExpandVm(k, mm, flags, pages - credit)
  if (error < 0) return error
  const refused = splitEdges(k, mm, vmas, first, start, end)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  // @rule R-AS-48
  if (refused < 0 && k.release.mm.fixedReportsUnmapErrno) return refused
  if (refused < 0)
    return refuse(
      k.current,
      ENOMEM,
      'R-AS-48',
      { why: 'the old mapping cannot be removed' },
      k.current.refusal,
    )
  const inside = firstOverlapping(vmas, start, end)!
  noteUnmap(mm, inside, start, end)
  yield* removeDetached(k, mm, vmas, inside, start, end, later)
  // @rule R-AS-47
  return charges ? chargeCommit(k, mm, pages) : 0
}

/** PR_SET_MDWE: memory is never writable and executable. */
function checkMdwe(k: Kernel, mm: Mm, flags: number): number {
  if (!mm.mdwe || !k.release.mm.hasMdwe || (flags & (VM_EXEC | VM_WRITE)) !== (VM_EXEC | VM_WRITE)) return 0
  // @rule R-AS-46
  return refuse(k.current, EACCES, 'R-AS-46', {
    why: 'PR_SET_MDWE forbids memory that is writable and executable',
  })
}

/**
 * `call_mmap` / `shmem_zero_setup`: the file's own part of the mapping. May change `vma.flags`.
 * @returns 0 or -errno
 */
function callMmap(k: Kernel, mm: Mm, vma: Vma): number {
  if (vma.file === null) return shareAnonymous(k, mm, vma)
  const { mapping } = vma.file
  const { kind } = mapping
  if (mapping.seals !== 0) {
    const error = sealedInMethod(k, vma, mapping.seals)
    if (error < 0) return error
  }
  if ((vma.flags & VM_SYNC) !== 0 && kind.pageMkwrite && !mapping.dax) {
    // @rule R-AS-23
    return refuse(k.current, EOPNOTSUPP, 'R-AS-23', { why: 'MAP_SYNC on a file that is not DAX' })
  }
  if (kind.hugetlb) return mmapHugetlb(k, mm, vma)
  if (kind.anonymousWhenPrivate && (vma.flags & VM_SHARED) !== 0) {
    // a shared mapping of /dev/zero is shared anonymous memory
    const device = vma.file
    const error = shareAnonymous(k, mm, vma)
    if (error === 0) device.put()
    return error
  }
  if (kind.mmapMethod === undefined) return 0
  // the last check of older releases comes before pages are put in place: a refusal has nothing to take back
  if (k.release.mm.checksAfterUnmap === 'commit-seal-mdwe') {
    const error = checkMdwe(k, mm, vma.flags)
    if (error < 0) return error
  }
  return kind.mmapMethod(k, vma, mm)
}

/**
 * Shared anonymous memory is a shmem object of its own, charged as a whole.
 * @rule R-AS-40
 */
function shareAnonymous(k: Kernel, mm: Mm, vma: Vma): number {
  const file = shmemFileSetup(k, '/dev/zero (deleted)', vma.end - vma.start)
  const error = chargeObject(k, mm, file.mapping, vma.pages)
  if (error < 0) {
    file.put()
    return error
  }
  file.mapping.sharedAnonymous = true
  vma.file = file
  return 0
}

/**
 * The seals that a release looks at only here.
 * @rule R-AS-21
 */
function sealedInMethod(k: Kernel, vma: Vma, seals: number): number {
  if ((vma.flags & VM_SHARED) === 0) return 0
  const { mm } = k.release
  if (!mm.sealedSharedReadAllowed && (seals & F_SEAL_WRITE) !== 0) return writeSealed(k)
  if (!mm.futureWriteSealInMethod || (seals & F_SEAL_FUTURE_WRITE) === 0) return 0
  if ((vma.flags & VM_WRITE) !== 0) return writeSealed(k)
  vma.flags &= ~VM_MAYWRITE
  return 0
}

/**
 * Offset checks, reservation, i_size.
 * @rule R-AS-57
 */
function mmapHugetlb(k: Kernel, mm: Mm, vma: Vma): number {
  const { mapping } = vma.file!
  vma.flags |= VM_HUGETLB | VM_DONTEXPAND
  const unit = mapping.pageSize / PAGE_SIZE
  if (vma.pgoff % unit !== 0) {
    return refuse(k.current, EINVAL, 'R-AS-57', { why: 'the offset is not a multiple of the huge page size' })
  }
  const index = vma.pgoff / unit
  // the last check of older releases comes before anything is promised: a refusal has nothing to give back
  if (k.release.mm.checksAfterUnmap === 'commit-seal-mdwe') {
    const error = checkMdwe(k, mm, vma.flags)
    if (error < 0) return error
  }
  const error = hugetlbReserve(k, vma, vma.file!, index, index + vma.pages / unit)
  if (error < 0) return error
  const size = vma.pgoff * PAGE_SIZE + (vma.end - vma.start)
  if ((vma.flags & VM_WRITE) !== 0 && mapping.size < size) mapping.size = size
  return 0
}

/**
 * Mappings that are never VM_LOCKED, whoever asked.
 * @rule R-AS-51
 */
function losesLock(vma: Vma): boolean {
  return (
    (vma.flags & VM_SPECIAL) !== 0 ||
    vma.isHugetlb ||
    vma.file?.mapping.dax === true ||
    (vma.highFlags & VMH_DROPPABLE) !== 0
  )
}
