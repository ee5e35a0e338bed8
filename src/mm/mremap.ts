import { EAGAIN, EFAULT, EINVAL, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, TASK_SIZE } from '../base/units.ts'
import { getUnmappedArea } from './get-unmapped-area.ts'
import type { Kernel } from './kernel.ts'
import { MAP_FIXED, MAP_SHARED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE } from './mman.ts'
import type { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { moveVma } from './move-vma.ts'
import { checkSealed, doMunmap, firstOverlapping, removeUnlocking, splitEdges } from './munmap.ts'
import { mmPopulate } from './populate.ts'
import { alignUp, asWord, isPageAligned, unsigned } from './user-range.ts'
import { finishUprobes, uprobeMmap } from './uprobe-hooks.ts'
import { takeChanges, tellChanges } from './userfaultfd-events.ts'
import { mergeNewRange } from './vma-merge.ts'
import { chargeCommit, mayExpandVm, mlockFutureOk, vmStatAccount } from './vm-accounting.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { VM_ACCOUNT, VM_DONTEXPAND, VM_LOCKED, VM_MAYSHARE, VM_PFNMAP, VM_SHARED } from './vm-flags.ts'
import { lockForWrite, tryWriteNow } from './write-lock.ts'

/** What one call wants, all lengths in whole pages. */
interface Request {
  readonly addr: number
  readonly oldLen: number
  readonly newLen: number
  readonly flags: number
  readonly newAddr: number
}

/**
 * mremap(2).
 * @param oldAddr page aligned
 * @param oldLen bytes, rounded up to pages; 0 duplicates a shared mapping
 * @param newLen bytes, rounded up to pages
 * @param flags MREMAP_*
 * @param newAddr looked at with MREMAP_FIXED and MREMAP_DONTUNMAP only
 * @returns the address, or -EINVAL, -EFAULT, -ENOMEM, -EAGAIN, -EPERM, -EINTR
 * @rule R-AS-66
 * @rule R-AS-74
 */
export function* mremap(
  k: Kernel,
  mm: Mm,
  oldAddr: number,
  oldLen: number,
  newLen: number,
  flags: number,
  newAddr: number,
): Kthread<number> {
  const request = {
    addr: asWord(oldAddr),
    oldLen: unsigned(alignUp(asWord(oldLen))),
    newLen: unsigned(alignUp(asWord(newLen))),
    flags,
    newAddr: asWord(newAddr),
  }
  const { mremapMultiVma } = k.release.mm
  const wrong = mremapMultiVma
    ? checkArguments618(k, mm, request)
    : checkArguments(k, request, oldLen === newLen)
  if (wrong < 0) return wrong
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const vma = find(guard, request.addr)
  const unusable = checkVma(k, vma, request)
  if (unusable < 0) {
    guard.release()
    return unusable
  }
  const locked = (vma!.flags & VM_LOCKED) !== 0
  const unit = vma!.isHugetlb ? vma!.file!.mapping.pageSize : PAGE_SIZE
  const call = { ...request, oldLen: roundTo(request.oldLen, unit), newLen: roundTo(request.newLen, unit) }
  let result: number
  if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) !== 0) {
    const several = mremapMultiVma && (flags & MREMAP_FIXED) !== 0 && call.oldLen === call.newLen
    result = several ? yield* moveEveryVma(k, guard, call) : yield* moveTo(k, guard, call)
  } else if (call.oldLen >= call.newLen) {
    return yield* shrink(k, guard, call)
  } else result = yield* grow(k, guard, vma!, call)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  const changes = takeChanges(mm)
  guard.release()
  yield* tellChanges(k, changes)
  // @rule R-AS-72
  if (result >= 0 && locked && call.newLen > call.oldLen) {
    yield* mmPopulate(k, mm, result + call.oldLen, call.newLen - call.oldLen, true)
  }
  return result
}

/** As a word: a length near 2^64 becomes 0. */
function roundTo(length: number, unit: number): number {
  const rounded = Math.ceil(length / unit) * unit
  return rounded < 2 ** 64 ? rounded : 0
}

function find(guard: MmapWriteGuard, address: number): Vma | null {
  const vma = address < 0 ? null : guard.vmas.find(address)
  return vma === null || vma.start > address ? null : vma
}

function invalid(k: Kernel, rule: string, why: string): number {
  return refuse(k.current, EINVAL, rule, { why })
}

function nothingAtOldAddress(k: Kernel, address: number, rule: string): number {
  return refuse(k.current, EFAULT, rule, { address, why: 'nothing is mapped at the old address' })
}

/**
 * Arguments up to 6.12, before the lock.
 * @param sameRawLength the lengths as the caller gave them are equal
 * @rule R-AS-67
 */
function checkArguments(k: Kernel, request: Request, sameRawLength: boolean): number {
  const { flags } = request
  const moves = (flags & MREMAP_MAYMOVE) !== 0
  if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) !== 0)
    return invalid(k, 'R-AS-67', 'unknown flags')
  if ((flags & MREMAP_FIXED) !== 0 && !moves)
    return invalid(k, 'R-AS-67', 'MREMAP_FIXED without MREMAP_MAYMOVE')
  if ((flags & MREMAP_DONTUNMAP) !== 0 && (!moves || !sameRawLength)) {
    return invalid(k, 'R-AS-67', 'MREMAP_DONTUNMAP without MREMAP_MAYMOVE or with two lengths')
  }
  if (!isPageAligned(request.addr)) return invalid(k, 'R-AS-67', 'the old address is not page aligned')
  return request.newLen === 0 ? invalid(k, 'R-AS-67', 'the new length is zero') : 0
}

/**
 * Arguments from 6.17 on: also those of the destination, before the lock.
 * @rule R-AS-68
 */
function checkArguments618(k: Kernel, mm: Mm, request: Request): number {
  const { flags } = request
  if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) !== 0)
    return invalid(k, 'R-AS-68', 'unknown flags')
  if (!isPageAligned(request.addr)) return invalid(k, 'R-AS-68', 'the old address is not page aligned')
  if (request.newLen === 0) return invalid(k, 'R-AS-68', 'the new length is zero')
  if (request.newLen > TASK_SIZE)
    return invalid(k, 'R-AS-68', 'the new length is larger than the address space')
  if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) === 0) return 0
  const wrong = checkDestination(k, request, 'R-AS-68')
  if (wrong < 0) return wrong
  if ((flags & MREMAP_MAYMOVE) === 0) return invalid(k, 'R-AS-68', 'a destination without MREMAP_MAYMOVE')
  if ((flags & MREMAP_DONTUNMAP) !== 0 && request.oldLen !== request.newLen) {
    return invalid(k, 'R-AS-68', 'MREMAP_DONTUNMAP with two lengths')
  }
  return checkOverlapAndCount(k, mm, request, 'R-AS-68')
}

function checkDestination(k: Kernel, request: Request, rule: string): number {
  const { newAddr, newLen } = request
  if (!isPageAligned(newAddr)) return invalid(k, rule, 'the new address is not page aligned')
  if (newLen > TASK_SIZE || newAddr < 0 || newAddr > TASK_SIZE - newLen) {
    return invalid(k, rule, 'the new range leaves user space')
  }
  return 0
}

function checkOverlapAndCount(k: Kernel, mm: Mm, request: Request, rule: string): number {
  const { addr, oldLen, newAddr, newLen } = request
  // an old length near 2^64 wraps around: the range then ends below where it begins
  const oldEnd = addr + oldLen >= 2 ** 64 ? asWord(oldLen) + addr : addr + oldLen
  if (oldEnd > newAddr && newAddr + newLen > addr)
    return invalid(k, rule, 'the old and the new range overlap')
  const limit = k.settings.maxMapCount - 3
  if (mm.mapCount + 2 < limit) return 0
  return refuse(k.current, ENOMEM, rule, {
    used: mm.mapCount,
    limit,
    why: 'moving would exceed vm.max_map_count',
  })
}

/** What is asked of the VMA at the old address whatever is to be done. */
function checkVma(k: Kernel, vma: Vma | null, request: Request): number {
  const rule = k.release.mm.mremapMultiVma ? 'R-AS-68' : 'R-AS-67'
  if (vma === null) return nothingAtOldAddress(k, request.addr, rule)
  const sealed = checkSealed(k, vma)
  if (sealed < 0) return sealed
  if (!vma.isHugetlb) return 0
  const size = vma.file!.mapping.pageSize
  const { flags } = request
  // @rule R-AS-76
  const looksAtNew = !k.release.mm.mremapMultiVma || (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) !== 0
  if (request.addr % size !== 0 || (looksAtNew && request.newAddr % size !== 0)) {
    return invalid(k, 'R-AS-76', 'an address of a huge page mapping is not huge page aligned')
  }
  if (roundTo(request.newLen, size) > roundTo(request.oldLen, size)) {
    return invalid(k, 'R-AS-76', 'a huge page mapping cannot grow')
  }
  return 0
}

/**
 * `vma_to_resize`: may these pages of the VMA be mapped anew, at this length?
 * @param oldLen bytes that stay in use
 * @rule R-AS-69
 */
function checkSource(k: Kernel, mm: Mm, vma: Vma | null, request: Request, oldLen: number): number {
  const { addr, newLen, flags } = request
  if (vma === null) return nothingAtOldAddress(k, addr, 'R-AS-69')
  const facts = { address: addr, vma: vmaFacts(vma) }
  if (oldLen === 0 && (vma.flags & (VM_SHARED | VM_MAYSHARE)) === 0) {
    return refuse(k.current, EINVAL, 'R-AS-69', { ...facts, why: 'only a shared mapping can be duplicated' })
  }
  if ((flags & MREMAP_DONTUNMAP) !== 0 && (vma.flags & (VM_DONTEXPAND | VM_PFNMAP)) !== 0) {
    return refuse(k.current, EINVAL, 'R-AS-69', { ...facts, why: 'MREMAP_DONTUNMAP on a special mapping' })
  }
  if (oldLen > vma.end - addr) {
    return refuse(k.current, EFAULT, 'R-AS-69', { ...facts, why: 'the old range leaves its mapping' })
  }
  if (newLen === oldLen) return 0
  const grow = (newLen - oldLen) / PAGE_SIZE
  if ((vma.flags & (VM_DONTEXPAND | VM_PFNMAP)) !== 0) {
    return refuse(k.current, EFAULT, 'R-AS-69', { ...facts, why: 'a special mapping cannot grow' })
  }
  const locked = mlockFutureOk(k, mm, vma.flags, grow)
  if (locked < 0)
    return refuse(
      k.current,
      EAGAIN,
      'R-AS-69',
      { ...facts, why: 'the locked mapping cannot grow' },
      k.current.refusal,
    )
  return mayExpandVm(k, mm, vma.flags, grow)
}

/**
 * Shrink in place, or nothing to do. Plain munmap rules; what old_len covers beyond the VMA goes too.
 * Ends the guard.
 * @rule R-AS-70
 */
function* shrink(k: Kernel, guard: MmapWriteGuard, request: Request): Kthread<number> {
  const { mm, vmas } = guard
  const start = request.addr + request.newLen
  const end = request.addr + request.oldLen
  if (end > TASK_SIZE && start < end) {
    guard.release()
    return invalid(k, 'R-AS-59', 'the range to unmap leaves user space')
  }
  const first = start < end ? firstOverlapping(vmas, start, end) : null
  const error = first === null ? 0 : splitEdges(k, mm, vmas, first, start, end)
  if (first === null || error < 0) {
    if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
    guard.release()
    return error < 0 ? error : request.addr
  }
  yield* removeUnlocking(k, guard, first, start, end)
  return request.addr
}

/**
 * In place where there is room, else to a place of the kernel's choice.
 * @rule R-AS-71
 */
function* grow(k: Kernel, guard: MmapWriteGuard, vma: Vma, request: Request): Kthread<number> {
  const { mm, vmas } = guard
  const { addr, oldLen, newLen } = request
  const error = checkSource(k, mm, vma, request, oldLen)
  if (error < 0) return error
  const end = addr + newLen
  if (addr + oldLen === vma.end && end <= TASK_SIZE && (vma.next === null || vma.next.start >= end)) {
    return extend(k, guard, vma, end) ?? addr
  }
  if ((request.flags & MREMAP_MAYMOVE) === 0) {
    return refuse(k.current, ENOMEM, 'R-AS-71', {
      address: addr,
      vma: vmaFacts(vma),
      why: 'no room to grow in place and MREMAP_MAYMOVE is missing',
    })
  }
  const target = getUnmappedArea(k, mm, vmas, 0, newLen, vma.pageIndex(addr), sharing(vma), vma.file)
  if (target < 0) return target
  return yield* moveVma(k, guard, vma, addr, oldLen, newLen, target, request.flags)
}

/** Takes [vma.end, end) in. Undefined when done, else -ENOMEM. */
function extend(k: Kernel, guard: MmapWriteGuard, vma: Vma, end: number): number | undefined {
  const { mm, vmas } = guard
  const { flags, end: start } = vma
  const pages = (end - start) / PAGE_SIZE
  if ((flags & VM_ACCOUNT) !== 0) {
    const error = chargeCommit(k, mm, pages)
    if (error < 0) return error
  }
  // the new pages are the VMA's own: it takes them even where a fresh range could not join it
  if (mergeNewRange(k, mm, vmas, vma, vma.next, start, end, vma.pageIndex(start), vma, vma) !== vma) {
    vmas.resize(vma, vma.start, end)
  }
  vma.flags |= k.newVmaFlags
  uprobeMmap(k, mm, vma)
  vmStatAccount(mm, flags, pages)
  if ((flags & VM_LOCKED) !== 0) mm.lockedVm += pages
  k.observer?.({ type: 'map', mm: mm.id, start, end })
  return undefined
}

function sharing(vma: Vma): number {
  return (vma.flags & VM_MAYSHARE) !== 0 ? MAP_SHARED : 0
}

/**
 * `mremap_to`: FIXED and DONTUNMAP with one source VMA. Up to 6.12 the destination is unmapped before the
 * source is looked at; from 6.17 on after.
 */
function* moveTo(k: Kernel, guard: MmapWriteGuard, request: Request): Kthread<number> {
  const { mm, vmas } = guard
  const { addr, oldLen, newLen, flags, newAddr } = request
  const { mremapMultiVma } = k.release.mm
  const kept = Math.min(oldLen, newLen)
  if (mremapMultiVma) {
    const error = checkSource(k, mm, find(guard, addr), request, kept)
    if (error < 0) return error
  } else {
    const wrong = checkDestination(k, request, 'R-AS-67')
    if (wrong < 0) return wrong
    const error = checkOverlapAndCount(k, mm, request, 'R-AS-67')
    if (error < 0) return error
  }
  const fixed = (flags & MREMAP_FIXED) !== 0
  if (fixed) {
    const error = yield* doMunmap(k, guard, newAddr, newLen)
    if (error < 0) return error
    // a wrapping old length lets the destination lie on the source, which is gone with it
    if (mremapMultiVma && find(guard, addr) === null) return nothingAtOldAddress(k, addr, 'R-AS-69')
  }
  if (oldLen > newLen) {
    const error = yield* doMunmap(k, guard, addr + newLen, oldLen - newLen)
    if (error < 0) return error
  }
  const vma = find(guard, addr)
  if (!mremapMultiVma || vma === null) {
    const error = checkSource(k, mm, vma, request, kept)
    if (error < 0) return error
  }
  const source = vma!
  // @rule R-AS-73
  if ((flags & MREMAP_DONTUNMAP) !== 0) {
    const error = mayExpandVm(k, mm, source.flags, kept / PAGE_SIZE)
    if (error < 0) return error
  }
  const mode = sharing(source) | (fixed ? MAP_FIXED : 0)
  const target = getUnmappedArea(k, mm, vmas, newAddr, newLen, source.pageIndex(addr), mode, source.file)
  if (target < 0) return target
  return yield* moveVma(k, guard, source, addr, kept, newLen, target, flags)
}

/**
 * Moves every VMA of a range with its relative offset; holes stay holes, at the destination too. An error
 * midway leaves the earlier ones moved.
 * @rule R-AS-75
 */
function* moveEveryVma(k: Kernel, guard: MmapWriteGuard, request: Request): Kthread<number> {
  const { vmas } = guard
  const { addr, oldLen, newAddr, flags } = request
  const end = addr + oldLen
  let at = addr
  let result = newAddr
  while (at < end) {
    const vma = vmas.find(at)
    if (vma === null || vma.start >= end) break
    const from = Math.max(at, vma.start)
    const to = Math.min(vma.end, end)
    const piece: Request = {
      addr: from,
      oldLen: to - from,
      newLen: to - from,
      flags,
      newAddr: newAddr + (from - addr),
    }
    if (movesAlone(vma) && (from !== addr || vma.end < end)) {
      return refuse(k.current, EFAULT, 'R-AS-75', {
        address: from,
        vma: vmaFacts(vma),
        why: 'a mapping that can only be moved alone',
      })
    }
    const unusable = checkVma(k, vma, piece)
    if (unusable < 0) return unusable
    const moved = yield* moveTo(k, guard, piece)
    if (moved < 0) return moved
    if (from === addr) result = moved
    at = to
  }
  return result
}

/** Watched by a userfaultfd, or of a file whose own idea of addresses could not be followed. */
function movesAlone(vma: Vma): boolean {
  return vma.uffd !== null || vma.file?.mapping.kind.movesAlone === true
}
