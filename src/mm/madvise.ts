import { EACCES, EINVAL, ENODEV, ENOMEM, EOPNOTSUPP, EPERM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { madviseCollapse } from './collapse.ts'
import { installGuard, removeGuard } from './guard-markers.ts'
import type { Kernel } from './kernel.ts'
import { adviseFlags, changesFlags } from './madvise-flags.ts'
import {
  MADV_COLD,
  MADV_COLLAPSE,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
  MADV_HWPOISON,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_REMOVE,
  MADV_SOFT_OFFLINE,
  MADV_WILLNEED,
  MADV_WIPEONFORK,
} from './mman.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { checkSealed } from './munmap.ts'
import { adviseCold, adviseFree, advisePageout, adviseWillNeed } from './page-advice.ts'
import { madvisePopulate } from './populate.ts'
import { punchHole } from './truncate.ts'
import { finishUprobes } from './uprobe-hooks.ts'
import { alignUp, asWord, isPageAligned, rangeEnd } from './user-range.ts'
import { noteRemove, takeChanges, tellChanges } from './userfaultfd-events.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { VM_LOCKED, VM_MAYWRITE, VM_PFNMAP, VM_SHARED, VM_SPECIAL, VM_WRITE, VMH_SEALED } from './vm-flags.ts'
import { lockForRead, lockForWrite, tryWriteNow } from './write-lock.ts'
import { zapRange } from './zap.ts'

/**
 * madvise(2). VMAs in order: a hole is skipped and remembered, an error of a VMA ends the walk at once
 * and leaves the earlier ones done.
 * @param addr page aligned
 * @param len bytes, rounded up to pages
 * @param advice MADV_*
 * @returns 0, -EINVAL, -ENOMEM (hole), -EACCES, -EPERM, -EAGAIN, -EFAULT, -EINTR
 * @throws Unmodelled for HWPOISON and SOFT_OFFLINE
 * @rule R-AS-100
 * @rule R-AS-104
 * @rule R-FLT-72
 */
export function* madvise(k: Kernel, mm: Mm, addr: number, len: number, advice: number): Kthread<number> {
  if (!isKnown(k, advice))
    return refuse(k.current, EINVAL, 'R-AS-100', { why: 'this kernel does not know the advice' })
  const start = asWord(addr)
  if (!isPageAligned(start)) {
    return refuse(k.current, EINVAL, 'R-AS-100', { address: start, why: 'the address is not page aligned' })
  }
  const word = asWord(len)
  const length = alignUp(word)
  if (length < 0 || (word !== 0 && length === 0) || rangeEnd(start, length) === null) {
    return refuse(k.current, EINVAL, 'R-AS-100', { address: start, why: 'the range wraps around' })
  }
  if (length === 0) return 0
  if (advice === MADV_HWPOISON || advice === MADV_SOFT_OFFLINE) {
    if (k.current.capable('CAP_SYS_ADMIN')) throw new Unmodelled('memory failure injection', 'R-AS-100')
    return refuse(k.current, EPERM, 'R-AS-100', { why: 'memory failure injection needs CAP_SYS_ADMIN' })
  }
  // @rule R-AS-102
  if (advice === MADV_POPULATE_READ || advice === MADV_POPULATE_WRITE) {
    return yield* madvisePopulate(k, mm, start, start + length, advice === MADV_POPULATE_WRITE)
  }
  let guard: MmapReadGuard
  if (changesFlags(advice)) {
    const locked = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
    if (typeof locked === 'number') return locked
    guard = locked
  } else guard = (k.exploring ? null : mm.mmapLock.tryRead()) ?? (yield* lockForRead(k, mm))
  const walk = new AdviceWalk(guard)
  const result = yield* walk.run(k, mm, start, start + length, advice)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, walk.guard)
  walk.guard.release()
  return result
}

function isKnown(k: Kernel, advice: number): boolean {
  if (advice === MADV_GUARD_INSTALL || advice === MADV_GUARD_REMOVE) return k.release.mm.hasGuardPages
  return (
    (advice >= 0 && advice <= MADV_DONTNEED) ||
    (advice >= MADV_FREE && advice <= MADV_COLLAPSE) ||
    advice === MADV_HWPOISON ||
    advice === MADV_SOFT_OFFLINE
  )
}

/** One walk over a range; REMOVE drops the lock in between, so the guard can change. */
class AdviceWalk {
  guard: MmapReadGuard

  constructor(guard: MmapReadGuard) {
    this.guard = guard
  }

  /** @rule R-AS-101 */
  *run(k: Kernel, mm: Mm, start: number, end: number, advice: number): Kthread<number> {
    let at = start
    let hole = -1
    while (at < end) {
      const vma = at < 0 ? null : this.guard.vmas.find(at)
      if (vma === null || vma.start >= end) {
        if (hole < 0) hole = at
        break
      }
      if (vma.start > at) {
        if (hole < 0) hole = at
        at = vma.start
      }
      const to = Math.min(vma.end, end)
      const sealed = checkSealedAdvice(k, vma, advice)
      if (sealed < 0) return sealed
      const error = changesFlags(advice)
        ? adviseFlags(k, this.guard, vma, at, to, advice)
        : yield* this.#advise(k, mm, vma, at, to, advice)
      if (error < 0) return error
      at = to
    }
    if (hole === -1) return 0
    return refuse(k.current, ENOMEM, 'R-AS-101', { address: hole, why: 'a part of the range is not mapped' })
  }

  /** @rule R-AS-103 */
  *#advise(k: Kernel, mm: Mm, vma: Vma, start: number, end: number, advice: number): Kthread<number> {
    const why = objection(vma, start, advice)
    if (why !== null)
      return refuse(k.current, EINVAL, 'R-AS-103', { address: start, vma: vmaFacts(vma), why })
    // @rule R-FLT-123
    if (drops(advice) && noteRemove(mm, vma, start, end)) {
      yield* this.#tell(k, mm)
      const still = this.#again(k, start, advice)
      if (typeof still === 'number') return still
      return yield* this.#act(k, mm, still, start, Math.min(end, still.end), advice)
    }
    return yield* this.#act(k, mm, vma, start, end, advice)
  }

  /** Lets the lock go until a userfaultfd has heard what is about to happen. */
  *#tell(k: Kernel, mm: Mm): Kthread<void> {
    const changes = takeChanges(mm)
    this.guard.release()
    yield* tellChanges(k, changes)
    this.guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  }

  /** What is mapped now where the lock was let go: an error when it does not take the advice any more. */
  #again(k: Kernel, start: number, advice: number): Vma | number {
    const vma = this.guard.vmas.find(start)
    if (vma === null || vma.start > start)
      return refuse(k.current, ENOMEM, 'R-FLT-123', { address: start, why: 'the mapping has gone meanwhile' })
    const why = objection(vma, start, advice)
    return why === null
      ? vma
      : refuse(k.current, EINVAL, 'R-AS-103', { address: start, vma: vmaFacts(vma), why })
  }

  *#act(k: Kernel, mm: Mm, vma: Vma, start: number, end: number, advice: number): Kthread<number> {
    switch (advice) {
      case MADV_DONTNEED:
      case MADV_DONTNEED_LOCKED:
        return yield* dropPages(k, mm, vma, start, end)
      case MADV_FREE:
        if (!vma.isAnonymous) {
          const why = 'only anonymous memory can be freed lazily'
          return refuse(k.current, EINVAL, 'R-AS-103', { address: start, vma: vmaFacts(vma), why })
        }
        adviseFree(k, mm, vma, start, end)
        return 0
      case MADV_REMOVE:
        return yield* this.#remove(k, vma, start, end)
      case MADV_GUARD_INSTALL:
        // @rule R-AS-106
        return yield* installGuard(k, mm, vma, start, end)
      case MADV_GUARD_REMOVE:
        yield* removeGuard(k, mm, vma, start, end)
        return 0
      case MADV_COLLAPSE:
        return yield* madviseCollapse(k, this, vma, start, end)
      case MADV_COLD:
        adviseCold(k, mm, vma, start, end)
        return 0
      case MADV_PAGEOUT:
        advisePageout(k, mm, vma, start, end)
        return 0
      default:
        adviseWillNeed(k, mm, vma, start, end)
        return 0
    }
  }

  /** Punches a hole into the file, without the lock. */
  *#remove(k: Kernel, vma: Vma, start: number, end: number): Kthread<number> {
    const file = vma.file!
    if ((vma.flags & (VM_SHARED | VM_MAYWRITE)) !== (VM_SHARED | VM_MAYWRITE)) {
      return refuse(k.current, EACCES, 'R-AS-103', {
        address: start,
        vma: vmaFacts(vma),
        why: 'MADV_REMOVE needs a shared mapping that may be written',
      })
    }
    const { kind } = file.mapping
    if (!kind.shmem && !kind.canWriteback && !kind.hugetlb) {
      const errno = kind.secretmem ? EOPNOTSUPP : ENODEV
      return refuse(k.current, errno, 'R-AS-103', {
        address: start,
        vma: vmaFacts(vma),
        why: 'the file cannot be punched',
      })
    }
    const offset = (vma.pgoff + (start - vma.start) / PAGE_SIZE) * PAGE_SIZE
    const { mm } = this.guard
    file.get()
    noteRemove(mm, vma, start, end)
    const changes = takeChanges(mm)
    this.guard.release()
    yield* tellChanges(k, changes)
    const error = yield* punchHole(k, file.mapping, offset, end - start)
    file.put()
    if (k.exploring) yield PREEMPT
    this.guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    return error
  }
}

/** Advice that a userfaultfd hears of before it is acted on; MADV_REMOVE tells it itself. */
function drops(advice: number): boolean {
  return advice === MADV_DONTNEED || advice === MADV_DONTNEED_LOCKED || advice === MADV_FREE
}

/** Why this VMA does not take the advice; null when it does. */
function objection(vma: Vma, start: number, advice: number): string | null {
  const { flags } = vma
  switch (advice) {
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
      if (advice === MADV_DONTNEED && (flags & VM_LOCKED) !== 0) return 'the mapping is locked'
      if ((flags & VM_PFNMAP) !== 0) return 'the mapping has no pages of its own'
      return vma.isHugetlb && start % vma.file!.mapping.pageSize !== 0
        ? 'the start is not huge page aligned'
        : null
    case MADV_FREE:
      return (flags & (VM_LOCKED | VM_PFNMAP)) !== 0 ? 'the mapping is locked' : null
    case MADV_COLD:
    case MADV_PAGEOUT:
      return (flags & (VM_LOCKED | VM_PFNMAP)) !== 0 || vma.isHugetlb
        ? 'these pages are never reclaimed'
        : null
    case MADV_REMOVE:
      if ((flags & VM_LOCKED) !== 0) return 'the mapping is locked'
      return vma.file === null ? 'there is no file to punch' : null
    case MADV_GUARD_INSTALL:
      if ((flags & VM_LOCKED) !== 0) return 'the mapping is locked'
      return (flags & VM_SPECIAL) !== 0 || vma.isHugetlb ? 'this kind of mapping has no guard pages' : null
    case MADV_GUARD_REMOVE:
      return (flags & VM_SPECIAL) !== 0 || vma.isHugetlb ? 'this kind of mapping has no guard pages' : null
    default:
      return advice === MADV_WILLNEED || advice === MADV_COLLAPSE ? null : 'unknown advice'
  }
}

/**
 * @rule R-AS-105
 * @rule R-AS-107
 */
function* dropPages(k: Kernel, mm: Mm, vma: Vma, start: number, end: number): Kthread<number> {
  let last = end
  if (vma.isHugetlb) {
    const { pageSize } = vma.file!.mapping
    last = Math.floor(end / pageSize) * pageSize
    if (last <= start) return 0
  }
  yield* zapRange(k, mm, vma, start, last, 'dontneed')
  return 0
}

/**
 * Advice that destroys data is refused on sealed memory that its owner may not write either.
 * @rule R-AS-116
 */
function checkSealedAdvice(k: Kernel, vma: Vma, advice: number): number {
  if ((vma.highFlags & VMH_SEALED) === 0 || (vma.flags & VM_WRITE) !== 0 || !vma.isAnonymous) return 0
  switch (advice) {
    case MADV_FREE:
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
    case MADV_REMOVE:
    case MADV_DONTFORK:
    case MADV_WIPEONFORK:
    case MADV_GUARD_INSTALL:
      return checkSealed(k, vma)
    default:
      return 0
  }
}
