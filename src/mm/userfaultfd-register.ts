import { EBUSY, EINVAL, ENOMEM, EPERM, ESRCH } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { TASK_SIZE } from '../base/units.ts'
import { unshareHugetlbTables } from './hugetlb-share.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { finishUprobes } from './uprobe-hooks.ts'
import { asWord, isPageAligned } from './user-range.ts'
import {
  NR_CONTINUE,
  NR_MOVE,
  NR_WRITEPROTECT,
  NR_ZEROPAGE,
  UFFD_FEATURE_WP_ASYNC,
  UFFDIO_REGISTER_MODE_MINOR,
  UFFDIO_REGISTER_MODE_MISSING,
  UFFDIO_REGISTER_MODE_WP,
} from './userfaultfd-flags.ts'
import { uffdWpRange } from './userfaultfd-wp.ts'
import type { Userfaultfd } from './userfaultfd-context.ts'
import { splitVma, vmaModify, type VmaShape } from './vma-merge.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { VM_MAYWRITE, VM_UFFD_MISSING, VM_UFFD_WP, VMH_DROPPABLE, VMH_UFFD_MINOR } from './vm-flags.ts'

const ALL_MODES = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR
const UFFD_FLAGS = VM_UFFD_MISSING | VM_UFFD_WP

/** Flags of a VMA that is watched in some modes. */
interface Watch {
  readonly flags: number
  readonly highFlags: number
}

function watchOf(mode: number): Watch {
  return {
    flags:
      ((mode & UFFDIO_REGISTER_MODE_MISSING) !== 0 ? VM_UFFD_MISSING : 0) |
      ((mode & UFFDIO_REGISTER_MODE_WP) !== 0 ? VM_UFFD_WP : 0),
    highFlags: (mode & UFFDIO_REGISTER_MODE_MINOR) !== 0 ? VMH_UFFD_MINOR : 0,
  }
}

/**
 * `validate_range`: page aligned, not empty, inside user space.
 * @returns 0 or -EINVAL
 */
export function validateRange(k: Kernel, start: number, length: number): number {
  const from = asWord(start)
  const bytes = asWord(length)
  const fits = from >= k.settings.mmapMinAddr && from < TASK_SIZE && bytes > 0 && bytes <= TASK_SIZE - from
  if (isPageAligned(from) && isPageAligned(bytes) && fits) return 0
  return refuse(k.current, EINVAL, 'R-FLT-110', {
    address: start,
    why: 'the range is empty, not page aligned or outside user space',
  })
}

/**
 * UFFDIO_WAKE: lets faults in [start, start + length) try again.
 * @returns 0 or -EINVAL
 */
export function uffdWake(k: Kernel, context: Userfaultfd, start: number, length: number): number {
  const invalid = validateRange(k, start, length)
  if (invalid === 0) context.wake(start, start + length)
  return invalid
}

/**
 * The address space a context is about is gone.
 * @param errno -ENOMEM is what the requests that change registrations answer, all others -ESRCH
 */
export function addressSpaceGone(k: Kernel, errno: number = ESRCH): number {
  return refuse(k.current, errno, 'R-FLT-119', { why: 'the address space of the userfaultfd is gone' })
}

/**
 * UFFDIO_REGISTER: from now on events of [start, start + length) go to the descriptor. Modes replace those of an
 * earlier registration, unless all of them are watched already.
 * @param mode UFFDIO_REGISTER_MODE_*
 * @param answer gets `ioctls`, the requests possible on the range: bit N is request N
 * @returns 0, -EINVAL, -EPERM (may never be written), -EBUSY (another descriptor has it), -ENOMEM (map_count, or the
 * address space is gone)
 * @rule R-FLT-110
 */
export function* uffdRegister(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  start: number,
  length: number,
  mode: number,
  answer: { ioctls?: number } = {},
): Kthread<number> {
  if (mode === 0 || (mode & ~ALL_MODES) !== 0) {
    return refuse(k.current, EINVAL, 'R-FLT-110', { why: 'the mode names no way of watching that exists' })
  }
  const invalid = validateRange(k, start, length)
  if (invalid < 0) return invalid
  context.mm ??= mm
  if (!k.mms.has(mm)) return addressSpaceGone(k, ENOMEM)
  const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
  const end = start + length
  const watch = watchOf(mode)
  let error = checkRegister(k, guard, context, start, end, watch)
  if (error === 0) {
    const basic = hasHugetlb(guard, start, end)
    error = watchRange(k, guard, context, start, end, watch)
    answer.ioctls = rangeIoctls(k, mode, basic)
  }
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  guard.release()
  return error
}

/** What may be asked for on the range, as the request answers it. */
function rangeIoctls(k: Kernel, mode: number, basic: boolean): number {
  let ioctls = k.release.uffd.rangeIoctls
  if (basic) ioctls &= ~((1 << NR_ZEROPAGE) | (1 << NR_MOVE))
  if ((mode & UFFDIO_REGISTER_MODE_WP) === 0) ioctls &= ~(1 << NR_WRITEPROTECT)
  if ((mode & UFFDIO_REGISTER_MODE_MINOR) === 0) ioctls &= ~(1 << NR_CONTINUE)
  return ioctls
}

function hasHugetlb(guard: MmapWriteGuard, start: number, end: number): boolean {
  for (let vma = guard.vmas.find(start); vma !== null && vma.start < end; vma = vma.next)
    if (vma.isHugetlb) return true
  return false
}

/** `vma_can_userfault`. SysV memory has operations of its own, and is no memory file here. @rule R-FLT-110 */
function canBeWatched(vma: Vma, watch: Watch, async: boolean): boolean {
  if ((vma.highFlags & VMH_DROPPABLE) !== 0) return false
  const shmem = !vma.isAnonymous && vma.specialName === null && vma.file?.mapping.kind.shmemOps === true
  const minor = (watch.highFlags & VMH_UFFD_MINOR) !== 0
  if (minor && !shmem && !vma.isHugetlb) return false
  if (async && !minor && watch.flags === VM_UFFD_WP) return true
  return vma.isAnonymous || shmem || vma.isHugetlb
}

/** The first VMA of a range, or an error. */
function firstVma(k: Kernel, guard: MmapWriteGuard, start: number, end: number): Vma | number {
  const first = guard.vmas.find(start)
  if (first === null || first.start >= end) {
    return refuse(k.current, EINVAL, 'R-FLT-110', { address: start, why: 'nothing is mapped in the range' })
  }
  if (first.isHugetlb && start % first.file!.mapping.pageSize !== 0) return cutsHugePage(k, first, start)
  return first
}

function endCutsHugePage(vma: Vma, end: number): boolean {
  return vma.isHugetlb && end <= vma.end && end % vma.file!.mapping.pageSize !== 0
}

function cutsHugePage(k: Kernel, vma: Vma, address: number): number {
  const why = 'the range cuts a huge page'
  return refuse(k.current, EINVAL, 'R-FLT-110', { address, vma: vmaFacts(vma), why })
}

function checkRegister(
  k: Kernel,
  guard: MmapWriteGuard,
  context: Userfaultfd,
  start: number,
  end: number,
  watch: Watch,
): number {
  const first = firstVma(k, guard, start, end)
  if (typeof first === 'number') return first
  const async = context.has(UFFD_FEATURE_WP_ASYNC)
  for (let vma: Vma | null = first; vma !== null && vma.start < end; vma = vma.next) {
    const facts = { address: Math.max(start, vma.start), vma: vmaFacts(vma) }
    if (!canBeWatched(vma, watch, async)) {
      const why = 'this kind of mapping cannot be watched in this mode'
      return refuse(k.current, EINVAL, 'R-FLT-110', { ...facts, why })
    }
    if ((vma.flags & VM_MAYWRITE) === 0) {
      return refuse(k.current, EPERM, 'R-FLT-110', { ...facts, why: 'the mapping may never be written' })
    }
    if (endCutsHugePage(vma, end)) return cutsHugePage(k, vma, end)
    if (vma.uffd !== null && vma.uffd !== context) {
      const why = 'another userfaultfd watches the mapping'
      return refuse(k.current, EBUSY, 'R-FLT-110', { ...facts, why })
    }
  }
  return 0
}

/** Gives the VMAs of a range to a context. */
function watchRange(
  k: Kernel,
  guard: MmapWriteGuard,
  context: Userfaultfd,
  start: number,
  end: number,
  watch: Watch,
): number {
  const { vmas } = guard
  for (let at = start; at < end;) {
    const vma = vmas.find(at)
    if (vma === null || vma.start >= end) return 0
    const from = Math.max(at, vma.start)
    at = Math.min(end, vma.end)
    const watched =
      vma.uffd === context &&
      (vma.flags & watch.flags) === watch.flags &&
      (vma.highFlags & watch.highFlags) === watch.highFlags
    if (watched) continue
    const { file, policy, anonName } = vma
    const flags = (vma.flags & ~UFFD_FLAGS) | watch.flags
    const highFlags = (vma.highFlags & ~VMH_UFFD_MINOR) | watch.highFlags
    const changed = changePiece(k, guard, vma, from, at, {
      flags,
      highFlags,
      file,
      uffd: context,
      policy,
      anonName,
    })
    if (typeof changed === 'number') return changed
    // pages that are watched for writes or by who has them cannot be mapped by others' faults
    if ((flags & VM_UFFD_WP) !== 0 || (highFlags & VMH_UFFD_MINOR) !== 0)
      unshareHugetlbTables(guard.mm, changed, from, at)
  }
  return 0
}

/**
 * `vmaModify` for a piece of a VMA.
 * @returns the VMA that covers it, or -errno
 * @rule R-FLT-119
 */
function changePiece(
  k: Kernel,
  { mm, vmas }: MmapWriteGuard,
  vma: Vma,
  from: number,
  to: number,
  shape: VmaShape,
): Vma | number {
  if (from === vma.start || k.release.uffd.mergesCutPieces)
    return vmaModify(k, mm, vmas, vma, from, to, shape)
  // the piece is cut out, and its neighbours stay what they are
  let error = splitVma(k, mm, vmas, vma, from, true)
  if (error === 0 && to < vma.end) error = splitVma(k, mm, vmas, vma, to, false)
  if (error < 0) return error
  vma.flags = shape.flags
  vma.highFlags = shape.highFlags
  vma.uffd = shape.uffd
  return vma
}

/** Takes one piece of a watched VMA away from its context. 0 or -errno. */
function unwatch(k: Kernel, guard: MmapWriteGuard, vma: Vma, from: number, to: number): number {
  const { file, policy, anonName } = vma
  const flags = vma.flags & ~UFFD_FLAGS
  const highFlags = vma.highFlags & ~VMH_UFFD_MINOR
  const shape = { flags, highFlags, file, uffd: null, policy, anonName }
  const changed = changePiece(k, guard, vma, from, to, shape)
  return typeof changed === 'number' ? changed : 0
}

/**
 * UFFDIO_UNREGISTER: the range is ordinary memory again, without write protection; faults that wait for a missing
 * page in it go on as such.
 * @returns 0, -EINVAL, -ENOMEM (map_count, or the address space is gone)
 * @rule R-FLT-119
 */
export function* uffdUnregister(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  start: number,
  length: number,
): Kthread<number> {
  const invalid = validateRange(k, start, length)
  if (invalid < 0) return invalid
  if (!k.mms.has(mm)) return addressSpaceGone(k, ENOMEM)
  const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
  const end = start + length
  const error = checkUnregister(k, guard, context, start, end) || unwatchRange(k, guard, start, end)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  guard.release()
  return error
}

function checkUnregister(
  k: Kernel,
  guard: MmapWriteGuard,
  context: Userfaultfd,
  start: number,
  end: number,
): number {
  const first = firstVma(k, guard, start, end)
  if (typeof first === 'number') return first
  const async = context.has(UFFD_FEATURE_WP_ASYNC)
  for (let vma: Vma | null = first; vma !== null && vma.start < end; vma = vma.next) {
    const facts = { address: Math.max(start, vma.start), vma: vmaFacts(vma) }
    // @rule R-FLT-126
    if (vma.uffd !== null && endCutsHugePage(vma, end)) return cutsHugePage(k, vma, end)
    if (k.release.uffd.unregistersOwnOnly && vma.uffd !== null && vma.uffd !== context) {
      const why = 'another userfaultfd watches the mapping'
      return refuse(k.current, EINVAL, 'R-FLT-119', { ...facts, why })
    }
    const watch = { flags: vma.flags & UFFD_FLAGS, highFlags: vma.highFlags & VMH_UFFD_MINOR }
    if (!canBeWatched(vma, watch, async)) {
      const why = 'this kind of mapping cannot be watched'
      return refuse(k.current, EINVAL, 'R-FLT-119', { ...facts, why })
    }
  }
  return 0
}

function unwatchRange(k: Kernel, guard: MmapWriteGuard, start: number, end: number): number {
  const { vmas } = guard
  for (let at = start; at < end;) {
    const vma = vmas.find(at)
    if (vma === null || vma.start >= end) return 0
    const from = Math.max(at, vma.start)
    at = Math.min(end, vma.end)
    if (vma.uffd === null) continue
    if ((vma.flags & VM_UFFD_MISSING) !== 0) vma.uffd.wake(from, at)
    if ((vma.flags & VM_UFFD_WP) !== 0) uffdWpRange(k, guard.mm, vma, from, at, false)
    const error = unwatch(k, guard, vma, from, at)
    if (error < 0) return error
  }
  return 0
}

/**
 * close(2) of the last descriptor: everything it watched is ordinary memory again, everybody who waits goes on.
 * @rule R-FLT-119
 */
export function* uffdClose(k: Kernel, context: Userfaultfd): Kthread<void> {
  context.released = true
  const { mm } = context
  if (mm !== null && k.mms.has(mm)) {
    const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
    for (let vma = guard.vmas.first; vma !== null;) {
      const { start, end } = vma
      if (vma.uffd === context) {
        if ((vma.flags & VM_UFFD_WP) !== 0) uffdWpRange(k, mm, vma, start, end, false)
        unwatch(k, guard, vma, start, end)
      }
      vma = guard.vmas.find(end)
    }
    if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
    guard.release()
  }
  context.queue.wakeAll()
  context.messages.wakeAll()
}
