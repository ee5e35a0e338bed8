import { ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { hugetlbIndex, hugetlbReserveMoved } from './hugetlb.ts'
import type { Kernel } from './kernel.ts'
import { breakKsm } from './ksm.ts'
import { MREMAP_DONTUNMAP } from './mman.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { movePageTables } from './move-page-tables.ts'
import { doMunmap } from './munmap.ts'
import { cloneAnonVmas, insertVma, unlinkAnonVmas } from './vma-link.ts'
import { checkSplit, mergeNewRange, splitVmaUnlimited } from './vma-merge.ts'
import { chargeCommit, vmStatAccount } from './vm-accounting.ts'
import { noteRemap } from './userfaultfd-events.ts'
import { UFFD_FEATURE_EVENT_REMAP } from './userfaultfd-flags.ts'
import { Vma } from './vma.ts'
import {
  VM_ACCOUNT,
  VM_LOCKED,
  VM_LOCKED_MASK,
  VM_MERGEABLE,
  VM_UFFD_MISSING,
  VM_UFFD_WP,
  VMH_UFFD_MINOR,
} from './vm-flags.ts'

/**
 * `move_vma`: the pages of [oldAddr, oldAddr + oldLen) go to `newAddr`, where newLen bytes are free. The
 * same physical pages, pins included, show at the new address.
 * @returns newAddr, -ENOMEM (map_count, charge) or -EINVAL (cannot be cut)
 * @rule R-AS-72
 */
export function* moveVma(
  k: Kernel,
  guard: MmapWriteGuard,
  vma: Vma,
  oldAddr: number,
  oldLen: number,
  newLen: number,
  newAddr: number,
  flags: number,
): Kthread<number> {
  const { mm, vmas } = guard
  const limit = k.settings.maxMapCount - 3
  if (mm.mapCount >= limit) {
    return refuse(k.current, ENOMEM, 'R-AS-72', {
      used: mm.mapCount,
      limit,
      why: 'moving would exceed vm.max_map_count',
    })
  }
  const uncuttable = cutError(k, vma, oldAddr, oldLen)
  if (uncuttable < 0) return uncuttable
  const vmFlags = vma.flags
  const pages = newLen / PAGE_SIZE
  // merged pages are found by their place and do not move
  if ((vmFlags & VM_MERGEABLE) !== 0 && breakKsm(k, mm, vma, oldAddr, oldAddr + oldLen) < 0) {
    return refuse(k.current, ENOMEM, 'R-AS-72', {
      address: oldAddr,
      why: 'memory ran out for pages to be unmerged',
    })
  }
  if ((vmFlags & VM_ACCOUNT) !== 0) {
    const error = chargeCommit(k, mm, pages)
    if (error < 0) return error
  }
  // @rule R-AS-73
  const stays = (flags & MREMAP_DONTUNMAP) !== 0 && !k.release.mm.dontUnmapMergesWithSource
  const target = copyVma(k, guard, vma, oldAddr, newAddr, newLen, stays)
  if (oldLen > 0) {
    // a merge with the new range may have replaced the source VMA
    const source = vmas.find(oldAddr)!
    yield* movePageTables(k, mm, source, oldAddr, target, newAddr, oldLen)
  }
  if (target.uffd !== null) noteRemap(mm, target.uffd, oldAddr, newAddr, oldLen)
  dropWatch(target)
  vmStatAccount(mm, vmFlags, pages)
  k.observer?.({ type: 'map', mm: mm.id, start: newAddr, end: newAddr + newLen })
  if ((flags & MREMAP_DONTUNMAP) !== 0) {
    leaveBehind(k, guard, vmas.find(oldAddr)!, target, oldAddr, oldLen)
    return newAddr
  }
  if ((vmFlags & VM_LOCKED) !== 0) mm.lockedVm += pages
  if (oldLen > 0) {
    if (vma.isHugetlb) {
      const index = hugetlbIndex(vma, oldAddr)
      hugetlbReserveMoved(k, vma, index, index + oldLen / vma.file!.mapping.pageSize)
    }
    yield* doMunmap(k, guard, oldAddr, oldLen)
  }
  return newAddr
}

function cutError(k: Kernel, vma: Vma, start: number, len: number): number {
  if (vma.start !== start) {
    const error = checkSplit(k, vma, start)
    if (error < 0) return error
  }
  return len > 0 && vma.end !== start + len ? checkSplit(k, vma, start + len) : 0
}

/**
 * `copy_vma`: the VMA at the new place, merged into a neighbour where one fits.
 * @param apart not into the VMA it comes from
 * @rule R-AS-4
 */
function copyVma(
  k: Kernel,
  guard: MmapWriteGuard,
  vma: Vma,
  oldAddr: number,
  newAddr: number,
  len: number,
  apart: boolean,
): Vma {
  const { mm, vmas } = guard
  const untouched = vma.isAnonymous && vma.anonVma === null
  const pgoff = untouched ? newAddr / PAGE_SIZE : vma.pageIndex(oldAddr)
  const next = vmas.find(newAddr)
  const previous = next === null ? vmas.last : next.previous
  const touching = previous === vma ? vma.end === newAddr : next === vma && newAddr + len === vma.start
  const alone = apart && untouched && touching && k.release.mm.dontUnmapBesideSourceIsAlone
  const neighbour = (other: Vma | null): Vma | null => (alone || (apart && other === vma) ? null : other)
  const [before, after] = [neighbour(previous), neighbour(next)]
  const merged = mergeNewRange(k, mm, vmas, before, after, newAddr, newAddr + len, pgoff, vma, vma)
  if (merged !== null) {
    merged.flags |= k.newVmaFlags
    return merged
  }
  const copy = new Vma(
    newAddr,
    newAddr + len,
    vma.flags | k.newVmaFlags,
    pgoff,
    vma.file === null ? null : vma.file.get(),
    vma.highFlags,
  )
  copy.policy = vma.policy
  copy.anonName = vma.anonName
  copy.specialName = vma.specialName
  copy.hugetlb = vma.hugetlb
  copy.uffd = vma.uffd
  if (vma.anonVma !== null) cloneAnonVmas(copy, vma)
  insertVma(mm, vmas, copy, previous, next)
  return copy
}

/**
 * Without UFFD_FEATURE_EVENT_REMAP a userfaultfd does not follow: what is at the new place is not watched, nor is
 * the neighbour that the pages were merged into.
 * @rule R-FLT-76
 */
function dropWatch(target: Vma): void {
  if (target.uffd === null || target.uffd.has(UFFD_FEATURE_EVENT_REMAP)) return
  target.uffd = null
  target.flags &= ~(VM_UFFD_MISSING | VM_UFFD_WP)
  target.highFlags &= ~VMH_UFFD_MINOR
}

/**
 * MREMAP_DONTUNMAP: the old VMA stays, empty and unlocked. Up to 6.12 the part that moved becomes a VMA of its own
 * where it was locked, on 6.18 all of the old VMA is unlocked.
 * @rule R-AS-73
 */
function leaveBehind(
  k: Kernel,
  guard: MmapWriteGuard,
  old: Vma,
  copy: Vma,
  start: number,
  len: number,
): void {
  if ((old.flags & VM_LOCKED) !== 0) {
    const { mm, vmas } = guard
    if (k.release.mm.dontUnmapLeaksLocked) {
      mm.lockedVm += len / PAGE_SIZE
      mm.lockedVmLost += old.pages
    } else {
      if (old.start < start) splitVmaUnlimited(k, mm, vmas, old, start, true)
      if (start + len < old.end) splitVmaUnlimited(k, mm, vmas, old, start + len, false)
    }
    old.flags &= ~VM_LOCKED_MASK
  }
  if (old === copy || old.start !== start || old.end !== start + len) return
  unlinkAnonVmas(old)
  if (old.isAnonymous && k.release.mm.dontUnmapResetsPgoff) old.pgoff = start / PAGE_SIZE
}
