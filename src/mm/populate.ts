import { EFAULT, EHWPOISON, EINTR, EINVAL, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { checkVmaFlags } from './gup-check-vma.ts'
import {
  FOLL_FORCE,
  FOLL_HWPOISON,
  FOLL_MADV_POPULATE,
  FOLL_TOUCH,
  FOLL_UNLOCKABLE,
  FOLL_WRITE,
} from './gup-flags.ts'
import { GupCall } from './gup-follow.ts'
import { getUserPagesLocked, getUserPagesLoop } from './gup-loop.ts'
import type { Kernel } from './kernel.ts'
import { LockedGuard } from './locked-guard.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { VM_ACCESS_FLAGS, VM_IO, VM_LOCKONFAULT, VM_PFNMAP, VM_SHARED, VM_WRITE } from './vm-flags.ts'
import { vmaFacts, type Vma } from './vma.ts'

/**
 * `populate_vma_page_range`: faults a part of one VMA in, for mlock and MAP_POPULATE.
 * @param start page aligned, inside `vma`, like `end`
 * @param lock a LockedGuard may come back with guard null: the lock was dropped, the count is what was done
 * @returns pages done, or -errno as GUP gives it; callers translate (R-AS-92)
 * @rule R-GUP-91
 */
export function* populateVmaPageRange(
  k: Kernel,
  vma: Vma,
  start: number,
  end: number,
  lock: LockedGuard | MmapReadGuard,
): Kthread<number> {
  const lent = lock instanceof LockedGuard
  const holder = lent ? lock : new LockedGuard(lock)
  const nrPages = (end - start) / PAGE_SIZE
  if ((vma.flags & VM_LOCKONFAULT) !== 0) return nrPages
  let flags = FOLL_TOUCH | (lent ? FOLL_UNLOCKABLE : 0)
  const hasAccess = (vma.flags & VM_ACCESS_FLAGS) !== 0
  if (k.release.gup.populateRefusesNoAccess && !hasAccess) {
    return refuse(k.current, EFAULT, 'R-GUP-91', {
      address: start,
      page: 0,
      vma: vmaFacts(vma),
      why: 'the mapping permits no access at all',
    })
  }
  // private writable memory is broken out of COW now; a shared one would be dirtied for nothing
  if ((vma.flags & (VM_WRITE | VM_SHARED)) === VM_WRITE) flags |= FOLL_WRITE
  if (k.release.gup.populateRefusesNoAccess) {
    if ((flags & FOLL_WRITE) === 0) flags |= FOLL_FORCE
  } else if (hasAccess) flags |= FOLL_FORCE
  const mm = holder.guard!.mm
  return yield* getUserPagesLoop(new GupCall(k, mm, null, holder), start, nrPages, flags, 0)
}

/**
 * `__mm_populate`: faults in every mapping of a range, as mlock and MAP_POPULATE do after they dropped the
 * write lock. Takes the lock itself. Holes end it quietly: their owner has unmapped them meanwhile.
 * @param start page aligned
 * @param length bytes
 * @param ignoreErrors go on behind a mapping that fails (MAP_POPULATE, mlockall)
 * @returns 0 or -errno as GUP gives it; mlock turns -EFAULT into -ENOMEM and -ENOMEM into -EAGAIN (R-AS-92)
 * @rule R-GUP-91
 * @rule R-FLT-151
 */
export function* mmPopulate(
  k: Kernel,
  mm: Mm,
  start: number,
  length: number,
  ignoreErrors: boolean,
): Kthread<number> {
  const end = start + length
  const locked = new LockedGuard(null)
  let result = 0
  for (let address = start; address < end;) {
    locked.guard ??= mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    const vma = locked.guard.vmas.find(address)
    if (vma === null || vma.start >= end) break
    const partEnd = Math.min(end, vma.end)
    // @rule R-AS-93
    if ((vma.flags & (VM_IO | VM_PFNMAP)) !== 0) {
      address = partEnd
      continue
    }
    const from = Math.max(address, vma.start)
    result = yield* populateVmaPageRange(k, vma, from, partEnd, locked)
    if (result < 0) {
      if (!ignoreErrors) break
      result = 0
      address = partEnd
      continue
    }
    address = from + result * PAGE_SIZE
    result = 0
  }
  locked.guard?.release()
  return result
}

/**
 * `madvise_populate`: MADV_POPULATE_READ and MADV_POPULATE_WRITE over a checked, page-aligned range.
 * Takes the lock itself. What was populated before an error stays.
 * @returns 0, -EINTR, -EINVAL (kind of mapping or permission), -EHWPOISON, -EFAULT (beyond the end of a
 *   file, …), -ENOMEM (hole, and everything else)
 * @rule R-GUP-94
 * @rule R-FLT-150
 */
export function* madvisePopulate(
  k: Kernel,
  mm: Mm,
  start: number,
  end: number,
  write: boolean,
): Kthread<number> {
  const locked = new LockedGuard(null)
  const flags = FOLL_TOUCH | FOLL_HWPOISON | FOLL_UNLOCKABLE | (write ? FOLL_WRITE : 0)
  const call = new GupCall(k, mm, null, locked)
  const perVma = !k.release.gup.madvPopulateFlag
  let result = 0
  let hole = false
  for (let address = start; address < end;) {
    locked.guard ??= mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    let pages: number
    if (perVma) {
      // @rule R-AS-101
      const vma = locked.guard.vmas.find(address)
      if (vma === null || vma.start >= end) {
        hole = true
        break
      }
      if (vma.start > address) {
        hole = true
        address = vma.start
      }
      pages = yield* faultinVmaPageRange(call, vma, address, Math.min(end, vma.end), flags)
    } else {
      // @rule R-GUP-93
      pages = yield* getUserPagesLocked(
        call,
        address,
        (end - address) / PAGE_SIZE,
        flags | FOLL_MADV_POPULATE,
        0,
      )
    }
    if (pages < 0) {
      result = populateError(pages)
      break
    }
    address += pages * PAGE_SIZE
  }
  locked.guard?.release()
  if (result === 0 && hole) {
    return refuse(k.current, ENOMEM, 'R-GUP-94', { why: 'a part of the range is not mapped' })
  }
  return result
}

/**
 * `faultin_vma_page_range`: the mapping is checked first, and any refusal is -EINVAL.
 * @rule R-GUP-92
 */
function* faultinVmaPageRange(
  call: GupCall,
  vma: Vma,
  start: number,
  end: number,
  flags: number,
): Kthread<number> {
  const { k } = call
  if (checkVmaFlags(k, vma, flags, undefined, start, 0) !== 0) {
    const why = 'the mapping cannot be populated with this access'
    return refuse(
      k.current,
      EINVAL,
      'R-GUP-92',
      { address: start, page: 0, vma: vmaFacts(vma), why },
      k.current.refusal,
    )
  }
  return yield* getUserPagesLoop(call, start, (end - start) / PAGE_SIZE, flags, 0)
}

function populateError(error: number): number {
  switch (error) {
    case -EINTR:
    case -EINVAL:
    case -EHWPOISON:
    case -EFAULT:
      return error
    default:
      return -ENOMEM
  }
}
