import { EAGAIN, EINVAL, ENOENT } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { PG_ANON, PG_ANON_EXCLUSIVE } from '../memory/page-flags.ts'
import { newProtection } from './change-protection.ts'
import { changeHugePmd, splitHugePmd } from './huge-memory.ts'
import { uffdWpHugetlb } from './hugetlb-uffd.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { unwatched, type MmapReadGuard } from './mmap-lock.ts'
import { invalidateRange } from './mmu-notifier.ts'
import {
  HugePmd,
  Leaf,
  PTE_DEVICE_EXCLUSIVE,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_NONPRESENT_KINDS,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_UFFD_WP,
  PTE_WRITE,
  pmdIndex,
} from './page-table.ts'
import {
  UFFD_FEATURE_WP_UNPOPULATED,
  UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
  UFFDIO_WRITEPROTECT_MODE_WP,
} from './userfaultfd-flags.ts'
import { addressSpaceGone, validateRange } from './userfaultfd-register.ts'
import type { Userfaultfd } from './userfaultfd-context.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { VM_UFFD_WP } from './vm-flags.ts'
import { lockForRead } from './write-lock.ts'

/**
 * UFFDIO_WRITEPROTECT: writes to [start, start + length) become events, or become possible again.
 * @param mode UFFDIO_WRITEPROTECT_MODE_*
 * @returns 0, -EINVAL, -ENOENT (not watched in mode WP), -EAGAIN, -ESRCH
 * @rule R-FLT-114
 */
export function* uffdWriteprotect(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  start: number,
  length: number,
  mode: number,
): Kthread<number> {
  if (context.changing > 0) return changing(k)
  const invalid = validateRange(k, start, length)
  if (invalid < 0) return invalid
  const known = UFFDIO_WRITEPROTECT_MODE_WP | UFFDIO_WRITEPROTECT_MODE_DONTWAKE
  if ((mode & ~known) !== 0 || mode === known) {
    return refuse(k.current, EINVAL, 'R-FLT-114', { why: 'the mode is not possible' })
  }
  if (!k.mms.has(mm)) return addressSpaceGone(k)
  const guard = yield* lockForRead(k, mm)
  const enable = (mode & UFFDIO_WRITEPROTECT_MODE_WP) !== 0
  const error = protectRange(k, guard, start, start + length, enable)
  guard.release()
  if (error < 0) return error
  if (!enable && (mode & UFFDIO_WRITEPROTECT_MODE_DONTWAKE) === 0) context.wake(start, start + length)
  return 0
}

/** Events about the address space wait to be read: what is asked for may be about what is gone. */
export function changing(k: Kernel): number {
  return refuse(k.current, EAGAIN, 'R-FLT-123', { why: 'an event about the address space waits to be read' })
}

function protectRange(k: Kernel, guard: MmapReadGuard, start: number, end: number, enable: boolean): number {
  const found = guard.vmas.find(start)
  let vma = found === null ? null : unwatched(found)
  const whole = vma !== null && vma.start <= start && end <= vma.end
  if (!k.release.uffd.writeProtectAcrossVmas && !whole) return unprotectable(k, start, null)
  if (vma === null || vma.start >= end) return unprotectable(k, start, null)
  for (; vma !== null && vma.start < end; vma = vma.next) {
    if ((vma.flags & VM_UFFD_WP) === 0) return unprotectable(k, start, vma)
    if (vma.isHugetlb) {
      const size = vma.file!.mapping.pageSize
      if (start % size !== 0 || (end - start) % size !== 0) {
        const why = 'the range cuts a huge page'
        return refuse(k.current, EINVAL, 'R-FLT-114', { address: start, vma: vmaFacts(vma), why })
      }
    }
    uffdWpRange(k, guard.mm, vma, Math.max(start, vma.start), Math.min(end, vma.end), enable)
  }
  return 0
}

function unprotectable(k: Kernel, address: number, vma: Vma | null): number {
  const facts = vma === null ? {} : { vma: vmaFacts(vma) }
  const why = 'a mapping of the range is not watched for writes'
  return refuse(k.current, ENOENT, 'R-FLT-114', { ...facts, address, why })
}

/** Empty entries get a marker: always in a file's mapping, in anonymous memory with the feature. */
function usesMarkers(vma: Vma): boolean {
  return !vma.isAnonymous || (vma.uffd !== null && vma.uffd.has(UFFD_FEATURE_WP_UNPOPULATED))
}

/**
 * `uffd_wp_range`: protects the entries of [start, end), which lies in one VMA, or takes the protection away.
 * Needs `mmap_lock`, for read at least.
 * @rule R-FLT-127
 */
export function uffdWpRange(
  k: Kernel,
  mm: Mm,
  maybeWatched: Vma,
  start: number,
  end: number,
  enable: boolean,
): void {
  if (mm.notifiers !== null) invalidateRange(mm, start, end)
  const vma = unwatched(maybeWatched)
  const { pageTable } = mm
  const markers = enable && usesMarkers(vma)
  const last = Math.ceil(end / PMD_SIZE)
  for (let i = pmdIndex(start); i < last; i++) {
    const base = i * PMD_SIZE
    const from = Math.max(start, base)
    const to = Math.min(end, base + PMD_SIZE)
    if (vma.isHugetlb) {
      uffdWpHugetlb(k, mm, vma, i, enable)
      continue
    }
    let entry = pageTable.pmd(i)
    if (entry instanceof HugePmd) {
      if (to - from === PMD_SIZE && vma.isAnonymous) {
        if (enable) entry.bits = (entry.bits | PTE_UFFD_WP) & ~PTE_WRITE
        else {
          entry.bits &= ~PTE_UFFD_WP
          changeHugePmd(k, mm, vma, i)
        }
        continue
      }
      splitHugePmd(k, mm, vma, i)
      entry = pageTable.pmd(i)
    }
    if (entry === null) {
      if (!markers) continue
      entry = pageTable.leafFor(base)
    }
    const first = (from - base) / PAGE_SIZE
    const after = (to - base) / PAGE_SIZE
    if (entry instanceof Leaf) {
      if (enable) protectLeaf(entry, first, after, markers)
      else unprotectLeaf(k, vma, entry, first, after)
    }
  }
}

function protectLeaf(leaf: Leaf, first: number, end: number, markers: boolean): void {
  const { bits } = leaf
  for (let slot = first; slot < end; slot++) {
    const word = bits[slot]!
    if (word === 0) {
      if (markers) leaf.set(slot, 0, PTE_MARKER_UFFD_WP)
    } else if ((word & PTE_PRESENT) !== 0) bits[slot] = (word | PTE_UFFD_WP) & ~PTE_WRITE
    // @rule R-DEX-14
    else if ((word & (PTE_SWAP | PTE_DEVICE_EXCLUSIVE)) !== 0) bits[slot] = word | PTE_UFFD_WP
    else if ((word & PTE_MIGRATION) !== 0) bits[slot] = (word | PTE_UFFD_WP) & ~PTE_WRITE
  }
}

function unprotectLeaf(k: Kernel, vma: Vma, leaf: Leaf, first: number, end: number): void {
  const { frames } = k.memory
  const { bits, pfn: pfns } = leaf
  for (let slot = first; slot < end; slot++) {
    const word = bits[slot]!
    if ((word & PTE_PRESENT) === 0) {
      if ((word & PTE_NONPRESENT_KINDS) === PTE_MARKER_UFFD_WP) leaf.set(slot, 0, 0)
      else bits[slot] = word & ~PTE_UFFD_WP
      continue
    }
    const pfn = pfns[slot]!
    const exclusive =
      (word & PTE_SPECIAL) === 0 &&
      frames.has(frames.head(pfn), PG_ANON) &&
      frames.has(pfn, PG_ANON_EXCLUSIVE)
    bits[slot] = newProtection(vma, word & ~PTE_UFFD_WP, exclusive)
  }
}
