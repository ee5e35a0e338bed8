import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { moveHugePmd, splitHugePmd } from './huge-memory.ts'
import { unshareHugetlbTable } from './hugetlb-share.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { unwatched } from './mmap-lock.ts'
import { invalidateRange } from './mmu-notifier.ts'
import {
  HugePmd,
  Leaf,
  PTE_DEVICE_EXCLUSIVE,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SWAP,
  PTE_UFFD_WP,
  pmdIndex,
  pteSlot,
} from './page-table.ts'
import { UFFD_FEATURE_EVENT_REMAP } from './userfaultfd-flags.ts'
import type { Vma } from './vma.ts'

/**
 * `move_page_tables`: moves the entries of [oldAddr, oldAddr + length) to `newAddr`, one to one: same
 * pages, AnonExclusive and pins. Whole tables move without being looked into where both addresses allow
 * it. Needs `mmap_lock` for write.
 * @rule R-FLT-76
 */
export function* movePageTables(
  k: Kernel,
  mm: Mm,
  from: Vma,
  oldAddr: number,
  _to: Vma,
  newAddr: number,
  length: number,
): Kthread<void> {
  const source = unwatched(from)
  const { pageTable } = mm
  const end = oldAddr + length
  if (mm.notifiers !== null) invalidateRange(mm, oldAddr, end)
  const shift = newAddr - oldAddr
  const last = Math.ceil(end / PMD_SIZE)
  const tablesMove = shift % PMD_SIZE === 0
  const unprotects = leavesProtection(source)
  for (let i = pageTable.nextPmd(pmdIndex(oldAddr), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const base = i * PMD_SIZE
    const start = Math.max(oldAddr, base)
    const stop = Math.min(end, base + PMD_SIZE)
    const whole = tablesMove && stop - start === PMD_SIZE
    if (unshareHugetlbTable(mm, source, i)) continue
    let entry = pageTable.pmd(i)
    if (entry instanceof HugePmd) {
      if (whole) {
        moveHugePmd(k, mm, i, i + shift / PMD_SIZE, unprotects)
        continue
      }
      splitHugePmd(k, mm, source, i)
      entry = pageTable.pmd(i)
    }
    if (!(entry instanceof Leaf)) continue
    const target = i + shift / PMD_SIZE
    if (whole && pageTable.pmd(target) === null) {
      if (unprotects) dropUffdWp(entry)
      pageTable.setPmd(i, null)
      pageTable.setPmd(target, entry)
    } else {
      movePtes(mm, entry, start, stop, shift, unprotects)
    }
    if (k.exploring) yield PREEMPT
  }
}

/**
 * Write protection goes where the watch does not.
 * @rule R-FLT-76
 */
function leavesProtection(vma: Vma): boolean {
  return vma.uffd !== null && !vma.uffd.has(UFFD_FEATURE_EVENT_REMAP)
}

function movePtes(mm: Mm, leaf: Leaf, start: number, end: number, shift: number, unprotects: boolean): void {
  // the new place gets its page tables even where there is nothing to put in (R-FLT-76); they keep THPs away
  mm.pageTable.leafFor(start + shift)
  mm.pageTable.leafFor(end - PAGE_SIZE + shift)
  for (let address = start; address < end; address += PAGE_SIZE) {
    const slot = pteSlot(address)
    const bits = leaf.bits[slot]!
    if (bits === 0) continue
    const pfn = leaf.pfn[slot]!
    leaf.set(slot, 0, 0)
    const moved = unprotects ? withoutUffdWp(bits) : bits
    if (moved !== 0) mm.pageTable.leafFor(address + shift).set(pteSlot(address + shift), pfn, moved)
  }
}

/** A move ends userfaultfd write protection: the mark goes, and so does an entry that was nothing else. */
function withoutUffdWp(bits: number): number {
  return (bits & (PTE_PRESENT | PTE_SWAP | PTE_MIGRATION | PTE_DEVICE_EXCLUSIVE)) !== 0
    ? bits & ~PTE_UFFD_WP
    : bits & ~PTE_MARKER_UFFD_WP
}

function dropUffdWp(leaf: Leaf): void {
  for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
    const bits = leaf.bits[slot]!
    const moved = withoutUffdWp(bits)
    if (moved !== bits) leaf.set(slot, leaf.pfn[slot]!, moved)
  }
}
