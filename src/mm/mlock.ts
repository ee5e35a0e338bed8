import { EAGAIN, EFAULT, EINVAL, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, TASK_SIZE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import { MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT } from './mman.ts'
import { mlockPages } from './mlock-pages.ts'
import type { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { countMapped } from './munmap.ts'
import { mmPopulate } from './populate.ts'
import { finishUprobes } from './uprobe-hooks.ts'
import { alignDown, alignUp, asWord, rangeEnd } from './user-range.ts'
import { changedShape, vmaModify } from './vma-merge.ts'
import type { Vma } from './vma.ts'
import { canDoMlock, limitPages } from './vm-accounting.ts'
import { VM_LOCKED, VM_LOCKED_MASK, VM_LOCKONFAULT, VM_SPECIAL, VMH_DROPPABLE } from './vm-flags.ts'
import { lockForWrite, tryWriteNow } from './write-lock.ts'

/**
 * mlock(2): VM_LOCKED on every VMA of the range, then faults the pages in.
 * @param addr rounded down to a page
 * @param len bytes; the range is rounded out to pages
 * @returns 0, -EPERM, -ENOMEM, -EINVAL, -EAGAIN, -EINTR
 * @rule R-AS-90
 */
export function* mlock(k: Kernel, mm: Mm, addr: number, len: number): Kthread<number> {
  return yield* doMlock(k, mm, addr, len, VM_LOCKED)
}

/**
 * mlock2(2).
 * @param flags MLOCK_ONFAULT or 0
 * @rule R-AS-90
 */
export function* mlock2(k: Kernel, mm: Mm, addr: number, len: number, flags: number): Kthread<number> {
  if ((flags & ~MLOCK_ONFAULT) !== 0)
    return refuse(k.current, EINVAL, 'R-AS-90', { why: 'mlock2 with unknown flags' })
  const lock = (flags & MLOCK_ONFAULT) !== 0 ? VM_LOCKED | VM_LOCKONFAULT : VM_LOCKED
  return yield* doMlock(k, mm, addr, len, lock)
}

function* doMlock(k: Kernel, mm: Mm, addr: number, len: number, lock: number): Kthread<number> {
  const permitted = canDoMlock(k)
  if (permitted < 0) return permitted
  const word = asWord(addr)
  const start = alignDown(word)
  const length = alignUp(asWord(len) + (word - start))
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const within = checkMlockLimit(k, guard, start, length)
  const result = within < 0 ? within : applyLockFlags(k, guard, start, length, lock)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  guard.release()
  if (result < 0 || length === 0) return result
  const error = yield* mmPopulate(k, mm, start, length, false)
  return error < 0 ? posixError(k, error) : 0
}

/** A length beyond 2^63 counts as that many pages. */
function checkMlockLimit(k: Kernel, guard: MmapWriteGuard, start: number, length: number): number {
  const { mm, vmas } = guard
  const limit = limitPages(k.current.rlimit('memlock'))
  const pages = (length < 0 ? length + 2 ** 64 : length) / PAGE_SIZE
  if (pages + mm.lockedVm <= limit || k.current.capable('CAP_IPC_LOCK')) return 0
  // pages of the range that are locked already do not count twice
  const again = length > 0 && start >= 0 ? countMapped(vmas, start, start + length, VM_LOCKED) : 0
  if (pages + mm.lockedVm - again <= limit) return 0
  return refuse(k.current, ENOMEM, 'R-AS-90', {
    needed: pages - again,
    used: mm.lockedVm,
    limit,
    why: 'locked memory would exceed RLIMIT_MEMLOCK',
  })
}

/** @rule R-AS-92 */
function posixError(k: Kernel, error: number): number {
  const cause = k.current.refusal
  if (error === -EFAULT)
    return refuse(k.current, ENOMEM, 'R-AS-92', { why: 'a page of the range cannot be faulted in' }, cause)
  if (error === -ENOMEM)
    return refuse(k.current, EAGAIN, 'R-AS-92', { why: 'memory ran out while locking' }, cause)
  return error
}

/**
 * munlock(2): the same range rules, no permission needed.
 * @returns 0, -ENOMEM, -EINVAL, -EINTR
 * @rule R-AS-94
 */
export function* munlock(k: Kernel, mm: Mm, addr: number, len: number): Kthread<number> {
  const word = asWord(addr)
  const start = alignDown(word)
  const length = alignUp(asWord(len) + (word - start))
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const result = applyLockFlags(k, guard, start, length, 0)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  guard.release()
  return result
}

/**
 * mlockall(2). Replaces what an earlier call said about future mappings.
 * @param flags MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT
 * @returns 0, -EINVAL, -EPERM, -ENOMEM, -EINTR
 * @rule R-AS-95
 */
export function* mlockall(k: Kernel, mm: Mm, flags: number): Kthread<number> {
  if (flags === 0 || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) !== 0 || flags === MCL_ONFAULT) {
    return refuse(k.current, EINVAL, 'R-AS-95', {
      why: 'mlockall needs MCL_CURRENT or MCL_FUTURE and nothing unknown',
    })
  }
  const permitted = canDoMlock(k)
  if (permitted < 0) return permitted
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const limit = limitPages(k.current.rlimit('memlock'))
  if ((flags & MCL_CURRENT) !== 0 && mm.totalVm > limit && !k.current.capable('CAP_IPC_LOCK')) {
    guard.release()
    return refuse(k.current, ENOMEM, 'R-AS-95', {
      needed: mm.totalVm,
      limit,
      why: 'the whole address space is larger than RLIMIT_MEMLOCK',
    })
  }
  const lock = (flags & MCL_ONFAULT) !== 0 ? VM_LOCKED | VM_LOCKONFAULT : VM_LOCKED
  mm.defFlags = (mm.defFlags & ~VM_LOCKED_MASK) | ((flags & MCL_FUTURE) !== 0 ? lock : 0)
  if ((flags & MCL_CURRENT) !== 0) lockEveryVma(k, guard, lock)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  guard.release()
  if ((flags & MCL_CURRENT) !== 0) yield* mmPopulate(k, mm, 0, TASK_SIZE, true)
  return 0
}

/**
 * munlockall(2).
 * @rule R-AS-95
 */
export function* munlockall(k: Kernel, mm: Mm): Kthread<number> {
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  mm.defFlags &= ~VM_LOCKED_MASK
  lockEveryVma(k, guard, 0)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  guard.release()
  return 0
}

/** Errors of single VMAs (map_count) are ignored. */
function lockEveryVma(k: Kernel, guard: MmapWriteGuard, lock: number): void {
  const { vmas } = guard
  for (let vma = vmas.first; vma !== null;) {
    const { end } = vma
    lockVma(k, guard, vma, vma.start, end, lock)
    vma = vmas.find(end)
  }
}

/**
 * `apply_vma_lock_flags`: VMAs before a hole keep what they got.
 * @rule R-AS-91
 */
function applyLockFlags(
  k: Kernel,
  guard: MmapWriteGuard,
  start: number,
  length: number,
  lock: number,
): number {
  const { vmas } = guard
  const end = start + length
  // 2^64 is where words wrap
  if (length < 0 || rangeEnd(start, length) === null) {
    return refuse(k.current, EINVAL, 'R-AS-90', { address: start, why: 'the range wraps around' })
  }
  if (length === 0) return 0
  let at = start
  while (at < end) {
    const vma = at < 0 ? null : vmas.find(at)
    if (vma === null || vma.start > at)
      return refuse(k.current, ENOMEM, 'R-AS-90', { address: at, why: 'nothing is mapped here' })
    const to = Math.min(vma.end, end)
    const error = lockVma(k, guard, vma, at, to, lock)
    if (error < 0) return error
    at = to
  }
  return 0
}

/** `mlock_fixup`. */
function lockVma(
  k: Kernel,
  guard: MmapWriteGuard,
  vma: Vma,
  start: number,
  end: number,
  lock: number,
): number {
  const { mm, vmas } = guard
  const old = vma.flags
  const flags = (old & ~VM_LOCKED_MASK) | lock
  if (flags === old || isNeverLocked(vma)) return 0
  const target = vmaModify(k, mm, vmas, vma, start, end, changedShape(vma, { flags }))
  if (typeof target === 'number') return target
  const pages = (end - start) / PAGE_SIZE
  // @rule R-AS-94
  if ((old & VM_LOCKED) === 0) mm.lockedVm += pages
  else if (lock === 0) mm.lockedVm -= pages
  // between the two kinds of locking nothing changes for pages that are there
  if (((old ^ flags) & VM_LOCKED) !== 0) mlockPages(k, mm, target, start, end)
  return 0
}

/**
 * Neither locked nor counted, and no error.
 * @rule R-AS-93
 * @rule R-AS-56
 */
function isNeverLocked(vma: Vma): boolean {
  return (
    (vma.flags & VM_SPECIAL) !== 0 ||
    vma.isHugetlb ||
    (vma.highFlags & VMH_DROPPABLE) !== 0 ||
    (vma.file !== null && (vma.file.mapping.dax || vma.file.mapping.kind.secretmem))
  )
}
