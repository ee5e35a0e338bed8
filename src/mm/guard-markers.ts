import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { Leaf, PTE_MARKER_GUARD, PTE_MARKER_UFFD_WP, PTE_UFFD_WP, pmdIndex, pteSlot } from './page-table.ts'
import { anonVmaPrepare } from './rmap.ts'
import { VM_MAYBE_GUARD, VM_UFFD_WP } from './vm-flags.ts'
import type { Vma } from './vma.ts'
import { zapRangeAtOnce } from './zap.ts'

/**
 * MADV_GUARD_INSTALL on one VMA: empties [start, end) and marks every page of it so that access gives
 * SIGSEGV. An anonymous VMA gets an anon_vma; VM_MAYBE_GUARD makes fork copy its tables.
 * Needs `mmap_lock` for read. The caller has checked `release.fault.guardMarkers`.
 * @returns 0
 * @rule R-FLT-78
 */
export function* installGuard(k: Kernel, mm: Mm, vma: Vma, start: number, end: number): Kthread<number> {
  vma.flags |= VM_MAYBE_GUARD
  if (vma.isAnonymous) anonVmaPrepare(k, vma, mm)
  // what is zapped there leaves markers, which are zapped again, and so on
  if ((vma.flags & VM_UFFD_WP) !== 0 && !vma.isAnonymous && hasUffdWp(mm, start, end))
    throw new Unmodelled('MADV_GUARD_INSTALL over protected pages of a file, which never ends', 'R-FLT-78')
  if (k.exploring) yield PREEMPT
  // emptied and marked in one step: nobody can fault a page in between
  zapRangeAtOnce(k, mm, vma, start, end, 'dontneed')
  for (let address = start; address < end; address += PAGE_SIZE) {
    mm.pageTable.leafFor(address).set(pteSlot(address), 0, PTE_MARKER_GUARD)
  }
  return 0
}

function hasUffdWp(mm: Mm, start: number, end: number): boolean {
  for (let address = start; address < end; address += PAGE_SIZE) {
    if ((mm.pageTable.bitsAt(address) & (PTE_UFFD_WP | PTE_MARKER_UFFD_WP)) !== 0) return true
  }
  return false
}

/** MADV_GUARD_REMOVE on one VMA: takes the marks of [start, end) away and leaves everything else. */
export function* removeGuard(k: Kernel, mm: Mm, _vma: Vma, start: number, end: number): Kthread<void> {
  const { pageTable } = mm
  const last = Math.ceil(end / PMD_SIZE)
  for (let i = pageTable.nextPmd(pmdIndex(start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const leaf = pageTable.pmd(i)
    if (!(leaf instanceof Leaf)) continue
    const base = i * PMD_SIZE
    const lastSlot = (Math.min(end, base + PMD_SIZE) - base) / PAGE_SIZE
    for (let slot = (Math.max(start, base) - base) / PAGE_SIZE; slot < lastSlot; slot++) {
      if ((leaf.bits[slot]! & PTE_MARKER_GUARD) !== 0) leaf.set(slot, 0, 0)
    }
    if (k.exploring) yield PREEMPT
  }
}
