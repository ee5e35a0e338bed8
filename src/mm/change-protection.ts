import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { ORDER_SHIFT, PG_ANON, PG_ANON_EXCLUSIVE } from '../memory/page-flags.ts'
import { changeHugePmd, splitHugePmd } from './huge-memory.ts'
import { unshareHugetlbTable } from './hugetlb-share.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { unwatched } from './mmap-lock.ts'
import { invalidateRange } from './mmu-notifier.ts'
import { awaitsSoftDirty } from './page-prot.ts'
import {
  HugePmd,
  Leaf,
  PTE_DIRTY,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SPECIAL,
  PTE_UFFD_WP,
  PTE_WRITE,
  pmdIndex,
} from './page-table.ts'
import { taggedFlag } from './rmap.ts'
import { VM_ACCESS_FLAGS, VM_SHARED, VM_UFFD_WP, VM_WRITE } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/**
 * The bits of a present pte under the VMA's present protection. Write permission is given back at once
 * where no fault has to decide anything: exclusive anonymous pages of private mappings; in shared
 * mappings all pages, or only dirty ones where the file tracks writes.
 * @param exclusive the entry maps an anonymous page with AnonExclusive
 * @rule R-FLT-54
 * @rule R-FLT-14
 */
export function newProtection(vma: Vma, bits: number, exclusive: boolean): number {
  const { flags } = vma
  const kept = bits & ~(PTE_WRITE | PTE_PROTNONE)
  if ((flags & VM_ACCESS_FLAGS) === 0) return kept | PTE_PROTNONE
  if ((flags & VM_WRITE) === 0) return kept
  if ((bits & PTE_UFFD_WP) !== 0 && (flags & VM_UFFD_WP) !== 0) return kept
  if (awaitsSoftDirty(vma, bits)) return kept
  if ((flags & VM_SHARED) === 0) return exclusive ? kept | PTE_WRITE : kept
  return !vma.needsDirtyTracking || (bits & PTE_DIRTY) !== 0 ? kept | PTE_WRITE : kept
}

/**
 * `change_protection`: brings the ptes of [start, end) in line with `vma.flags`, which are the new ones
 * already. Pages, pins and AnonExclusive stay. Needs `mmap_lock` for write.
 */
export function* changeProtection(
  k: Kernel,
  mm: Mm,
  maybeWatched: Vma,
  start: number,
  end: number,
): Kthread<void> {
  if (mm.notifiers !== null) invalidateRange(mm, start, end)
  const vma = unwatched(maybeWatched)
  const { pageTable } = mm
  const last = Math.ceil(end / PMD_SIZE)
  for (let i = pageTable.nextPmd(pmdIndex(start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const base = i * PMD_SIZE
    const from = Math.max(start, base)
    const to = Math.min(end, base + PMD_SIZE)
    if (unshareHugetlbTable(mm, vma, i)) continue
    let entry = pageTable.pmd(i)
    if (entry instanceof HugePmd) {
      if (to - from === PMD_SIZE) {
        changeHugePmd(k, mm, vma, i)
        continue
      }
      splitHugePmd(k, mm, vma, i)
      entry = pageTable.pmd(i)
    }
    if (entry instanceof Leaf) changeLeaf(k, vma, entry, (from - base) / PAGE_SIZE, (to - base) / PAGE_SIZE)
    if (k.exploring) yield PREEMPT
  }
}

function changeLeaf(k: Kernel, vma: Vma, leaf: Leaf, first: number, end: number): void {
  const { flags } = k.memory.frames
  const { bits, pfn: pfns } = leaf
  const writable = (vma.flags & VM_WRITE) !== 0
  const tagged = taggedFlag(vma)
  for (let slot = first; slot < end; slot++) {
    const word = bits[slot]!
    if ((word & PTE_PRESENT) === 0) {
      // @rule R-FLT-55
      if ((word & PTE_MIGRATION) !== 0 && !writable) bits[slot] = word & ~PTE_WRITE
      continue
    }
    let exclusive = false
    if ((word & PTE_SPECIAL) === 0) {
      const pfn = pfns[slot]!
      const order = (flags[pfn]! >>> ORDER_SHIFT) & 0x1f
      const head = order === 0 ? pfn : pfn & -(1 << order)
      if (tagged !== 0) flags[pfn]! |= tagged
      exclusive = (flags[head]! & PG_ANON) !== 0 && (flags[pfn]! & PG_ANON_EXCLUSIVE) !== 0
    }
    bits[slot] = newProtection(vma, word, exclusive)
  }
}
