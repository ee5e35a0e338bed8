import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { pageAlignDown } from '../base/units.ts'
import { PG_UPTODATE } from '../memory/page-flags.ts'
import { doAnonymousPage } from './anon-fault.ts'
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_KILLABLE,
  FAULT_FLAG_RETRY_NOWAIT,
  FAULT_FLAG_TRIED,
  FAULT_FLAG_UNSHARE,
  FAULT_FLAG_WRITE,
  VM_FAULT_ERROR,
  VM_FAULT_FALLBACK,
  VM_FAULT_HWPOISON,
  VM_FAULT_MAJOR,
  VM_FAULT_RETRY,
  VM_FAULT_SIGBUS,
  VM_FAULT_SIGSEGV,
} from './fault-flags.ts'
import { refuseFault } from './fault-refusal.ts'
import {
  NEEDS_IO,
  NEEDS_MIGRATION,
  NEEDS_NUMA_MOVE,
  NEEDS_UNLOCKED,
  NEEDS_USERFAULT,
  NEEDS_USERFAULT_MINOR,
  NEEDS_USERFAULT_WP,
} from './fault-sleep.ts'
import { doFault } from './file-fault.ts'
import { faultHugeFile } from './file-fault-large.ts'
import { endRead } from './filemap.ts'
import { doHugePmdAnonymousPage, doHugePmdWpPage, thpAllowed } from './huge-memory.ts'
import { hugetlbFault } from './hugetlb.ts'
import { shareHugetlbTable } from './hugetlb-share.ts'
import type { Kernel } from './kernel.ts'
import { requireKnownEntry, waitForMigration } from './migration-entry.ts'
import type { Mm } from './mm.ts'
import { unwatched, type MmapReadGuard } from './mmap-lock.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_DEVICE_EXCLUSIVE,
  PTE_DIRTY,
  PTE_MARKER_GUARD,
  PTE_MARKER_POISON,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SWAP,
  PTE_WRITE,
  pmdIndex,
  pteSlot,
  type Leaf,
} from './page-table.ts'
import { isMisplaced, numaFault, restoreHinted } from './numa-hint.ts'
import { restoreByFault } from './device-exclusive-entry.ts'
import { doSwapPage } from './swap-fault.ts'
import { handleUserfault } from './userfaultfd-fault.ts'
import type { Vma } from './vma.ts'
import { VM_ACCESS_FLAGS, VM_MAYWRITE, VM_UFFD_WP, VM_WRITE } from './vm-flags.ts'
import { doWpPage } from './wp-fault.ts'

/**
 * `handle_mm_fault`: makes an address accessible as asked by `faultFlags` (FAULT_FLAG_*), or says why not.
 * The VMA contains the address and `guard` is held for read.
 *
 * @returns VM_FAULT_*. After RETRY (unless FAULT_FLAG_RETRY_NOWAIT was given) the guard has been released
 * and the VMA must not be touched.
 * @rule R-FLT-30
 * @rule R-FLT-32
 */
export function* handleMmFault(
  k: Kernel,
  guard: MmapReadGuard,
  maybeWatched: Vma,
  address: number,
  faultFlags: number,
): Kthread<number> {
  if (k.exploring) yield PREEMPT
  const vma = unwatched(maybeWatched)
  const flags = sanitized(k, vma, address, faultFlags)
  if (flags < 0) return counted(k, VM_FAULT_SIGSEGV, faultFlags)
  if (k.dueFailure !== null) {
    const code = injectedFault(k, guard, vma, address, flags)
    if (code !== 0) return counted(k, code, flags)
  }
  if (vma.isHugetlb) shareHugetlbTable(k, guard.mm, vma, address)
  // @rule R-AS-148
  guard.mm.pageTable.reach(pmdIndex(address))
  if (vma.isHugetlb) return counted(k, yield* hugetlbFault(k, guard, vma, address, flags), flags)
  const page = pageAlignDown(address)
  let major = 0
  for (;;) {
    const code = faultWithoutSleep(k, guard, vma, page, flags)
    if (code >= 0) return counted(k, code | major, flags)
    switch (code) {
      case NEEDS_USERFAULT:
      case NEEDS_USERFAULT_WP:
      case NEEDS_USERFAULT_MINOR:
        return counted(k, yield* handleUserfault(k, guard, vma, address, flags, code), flags)
      case NEEDS_MIGRATION:
        yield* waitForMigration(k)
        return counted(k, major, flags)
      case NEEDS_NUMA_MOVE:
        yield* numaFault(k, guard.mm, vma, page)
        return counted(k, major, flags)
      case NEEDS_UNLOCKED:
        if ((yield* waitForUnlock(k, guard, flags)) !== 0) return counted(k, VM_FAULT_RETRY | major, flags)
        break
      case NEEDS_IO:
        major = VM_FAULT_MAJOR
        if ((yield* waitForRead(k, guard, vma, page, flags)) !== 0)
          return counted(k, VM_FAULT_RETRY | major, flags)
    }
  }
}

/** A fault that a test wants to fail ends here, as a real one would end. @returns 0 to go on */
function injectedFault(k: Kernel, guard: MmapReadGuard, vma: Vma, address: number, flags: number): number {
  const code = k.dueFailure!.faultCode((flags & FAULT_FLAG_ALLOW_RETRY) !== 0)
  if (code === 0) return 0
  if (code !== VM_FAULT_RETRY)
    return refuseFault(k, code, 'R-FLT-20', vma, address, 'a test lets this fault fail')
  if ((flags & FAULT_FLAG_RETRY_NOWAIT) === 0) guard.release()
  return code
}

/**
 * Counts a fault, for the machine and for the task that took it: whoever calls GUP, not whose memory it is.
 * @rule R-FLT-22
 * @rule R-COM-5
 */
function counted(k: Kernel, code: number, faultFlags: number): number {
  if ((code & VM_FAULT_RETRY) !== 0 && !k.release.fault.countsEveryAttempt) return code
  k.pgfault++
  if ((code & (VM_FAULT_ERROR | VM_FAULT_RETRY)) !== 0) return code
  const { current } = k
  if ((code & VM_FAULT_MAJOR) !== 0 || (faultFlags & FAULT_FLAG_TRIED) !== 0) {
    k.pgmajfault++
    current.majFlt = (current.majFlt ?? 0) + 1
  } else current.minFlt = (current.minFlt ?? 0) + 1
  return code
}

/**
 * `sanitize_fault_flags`: combinations no caller may ask for.
 * @returns the flags to go on with, -1 refused
 * @rule R-FLT-24
 */
function sanitized(k: Kernel, vma: Vma, address: number, flags: number): number {
  if ((flags & FAULT_FLAG_UNSHARE) !== 0) {
    if ((flags & FAULT_FLAG_WRITE) !== 0) {
      k.warnOnce('fault-unshare-write', 'a fault asked to unshare and to write at once')
      refuseFault(k, VM_FAULT_SIGSEGV, 'R-FLT-24', vma, address, 'unshare and write were asked at once')
      return -1
    }
    return vma.isCow ? flags : flags & ~FAULT_FLAG_UNSHARE
  }
  if ((flags & FAULT_FLAG_WRITE) === 0) return flags
  if ((vma.flags & VM_MAYWRITE) === 0 || ((vma.flags & VM_WRITE) === 0 && !vma.isCow)) {
    k.warnOnce('fault-write', 'a write fault in a mapping that must never be written')
    refuseFault(k, VM_FAULT_SIGSEGV, 'R-FLT-24', vma, address, 'the mapping may not be written')
    return -1
  }
  return flags
}

/** Everything a fault can do between two yields. Negative: what it has to sleep for (fault-sleep.ts). */
function faultWithoutSleep(
  k: Kernel,
  guard: MmapReadGuard,
  vma: Vma,
  address: number,
  flags: number,
): number {
  const { mm } = guard
  const { pageTable } = mm
  const index = pmdIndex(address)
  let entry = pageTable.pmd(index)
  if (entry === null && thpAllowed(k, vma, address)) {
    const code = doHugePmdAnonymousPage(k, guard, vma, address, flags)
    if (code < 0 || (code & VM_FAULT_FALLBACK) === 0) return code
    entry = pageTable.pmd(index)
  }
  if (entry instanceof HugePmd) {
    const code = hugePmdFault(k, guard, vma, address, entry, flags)
    if (code >= 0 && (code & VM_FAULT_FALLBACK) === 0) return code
    if (code < 0) return code
    entry = pageTable.pmd(index)
  }
  if (entry === null && faultHugeFile(k, mm, vma, address, flags)) return 0
  if (entry !== null || vma.isAnonymous)
    return pteFault(k, mm, vma, address, pageTable.leafFor(address), flags, true)
  // the table of a file mapping is put in place with its first entry: a fault that fails leaves none
  const leaf = pageTable.leafFor(address)
  const code = pteFault(k, mm, vma, address, leaf, flags, false)
  if (leaf.used === 0) pageTable.setPmd(index, null)
  return code
}

function hugePmdFault(
  k: Kernel,
  guard: MmapReadGuard,
  vma: Vma,
  address: number,
  entry: HugePmd,
  flags: number,
): number {
  if ((entry.bits & PTE_PRESENT) === 0) {
    requireKnownEntry(entry.pfn, 'a migration entry at PMD level', 'R-FLT-30')
    return NEEDS_MIGRATION
  }
  if ((entry.bits & PTE_PROTNONE) !== 0 && (vma.flags & VM_ACCESS_FLAGS) !== 0) {
    if (isMisplaced(k, entry.pfn)) return NEEDS_NUMA_MOVE
    restoreHinted(k, guard.mm, vma, address)
    return 0
  }
  if ((flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE)) !== 0 && (entry.bits & PTE_WRITE) === 0) {
    return doHugePmdWpPage(k, guard, vma, address, flags)
  }
  entry.bits |= (flags & FAULT_FLAG_WRITE) !== 0 ? PTE_ACCESSED | PTE_DIRTY : PTE_ACCESSED
  return 0
}

/**
 * `handle_pte_fault`. @param hadTable the leaf was there before the fault
 * @rule R-FLT-31
 */
function pteFault(
  k: Kernel,
  mm: Mm,
  vma: Vma,
  address: number,
  leaf: Leaf,
  flags: number,
  hadTable: boolean,
): number {
  const slot = pteSlot(address)
  const bits = leaf.bits[slot]!
  // @rule R-FLT-115
  const protectsNothing = (bits & PTE_MARKER_UFFD_WP) !== 0 && (vma.flags & VM_UFFD_WP) !== 0
  if (bits === 0 || protectsNothing) {
    return vma.isAnonymous
      ? doAnonymousPage(k, mm, vma, address, leaf, flags)
      : doFault(k, mm, vma, address, leaf, flags, hadTable)
  }
  if ((bits & PTE_PRESENT) === 0) return notPresent(k, mm, vma, address, leaf, flags)
  if ((bits & PTE_PROTNONE) !== 0 && (vma.flags & VM_ACCESS_FLAGS) !== 0) {
    if (isMisplaced(k, leaf.pfn[slot]!)) return NEEDS_NUMA_MOVE
    restoreHinted(k, mm, vma, address)
    return 0
  }
  if ((flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE)) !== 0 && (bits & PTE_WRITE) === 0) {
    return doWpPage(k, mm, vma, address, leaf, flags)
  }
  leaf.bits[slot] = bits | ((flags & FAULT_FLAG_WRITE) !== 0 ? PTE_ACCESSED | PTE_DIRTY : PTE_ACCESSED)
  return 0
}

/** @rule R-FLT-51 */
function notPresent(k: Kernel, mm: Mm, vma: Vma, address: number, leaf: Leaf, flags: number): number {
  const slot = pteSlot(address)
  const bits = leaf.bits[slot]!
  if ((bits & PTE_MIGRATION) !== 0) {
    requireKnownEntry(leaf.pfn[slot]!, 'a migration entry', 'R-FLT-51')
    return NEEDS_MIGRATION
  }
  if ((bits & PTE_SWAP) !== 0) return doSwapPage(k, mm, vma, address, leaf, flags)
  // @rule R-DEX-12
  if ((bits & PTE_DEVICE_EXCLUSIVE) !== 0)
    return restoreByFault(k, mm, vma, address, leaf) ? 0 : NEEDS_UNLOCKED
  if ((bits & PTE_MARKER_POISON) !== 0) {
    return refuseFault(k, VM_FAULT_HWPOISON, 'R-FLT-51', vma, address, 'the entry is marked poisoned')
  }
  // @rule R-FLT-78
  if ((bits & PTE_MARKER_GUARD) !== 0) {
    return refuseFault(k, VM_FAULT_SIGSEGV, 'R-FLT-78', vma, address, 'a guard region stands here')
  }
  if ((bits & PTE_MARKER_UFFD_WP) !== 0) {
    // nobody watches for writes any more
    leaf.set(slot, 0, 0)
    return 0
  }
  return refuseFault(k, VM_FAULT_SIGBUS, 'R-FLT-51', vma, address, 'the entry is of an unknown kind')
}

/**
 * `lock_folio_maybe_drop_mmap` for a page that is being read: sleeps until the read is complete, without
 * `mmap_lock` where the caller allows that once.
 * @returns 0 go on (guard still held), 1 the fault must be retried
 * @rule R-FLT-21
 */
function* waitForRead(
  k: Kernel,
  guard: MmapReadGuard,
  vma: Vma,
  address: number,
  flags: number,
): Kthread<number> {
  const { mapping, path } = vma.file!
  if ((flags & FAULT_FLAG_RETRY_NOWAIT) !== 0) return 1
  const pfn = mapping.pages.get(vma.pageIndex(address))
  const drops = (flags & (FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_TRIED)) === FAULT_FLAG_ALLOW_RETRY
  const killable = (flags & FAULT_FLAG_KILLABLE) !== 0
  k.memory.get(pfn)
  if (drops) guard.release()
  yield { queue: mapping.io, what: `page I/O on ${path}`, signals: killable ? 'fatal' : 'none' }
  const killed = killable && k.fatalSignalPending
  if (!killed && !k.memory.frames.has(pfn, PG_UPTODATE)) endRead(k, pfn)
  k.memory.put(pfn)
  if (drops) return 1
  if (!killed) return 0
  // callers look for signals only when a fault is to be retried
  guard.release()
  return 1
}

/**
 * `folio_lock_or_retry` for a page that is being moved, or that a device holds: sleeps until it is unlocked, without
 * `mmap_lock` where the caller allows that once.
 * @returns 0 go on (guard still held), 1 the fault must be retried
 * @rule R-FLT-21
 */
function* waitForUnlock(k: Kernel, guard: MmapReadGuard, flags: number): Kthread<number> {
  if ((flags & FAULT_FLAG_RETRY_NOWAIT) !== 0) return 1
  const drops = (flags & (FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_TRIED)) === FAULT_FLAG_ALLOW_RETRY
  const killable = (flags & FAULT_FLAG_KILLABLE) !== 0
  if (drops) guard.release()
  yield { queue: k.migrationDone, what: 'the lock of a page', signals: killable ? 'fatal' : 'none' }
  if (drops) return 1
  if (!killable || !k.fatalSignalPending) return 0
  // callers look for signals only when a fault is to be retried
  guard.release()
  return 1
}
