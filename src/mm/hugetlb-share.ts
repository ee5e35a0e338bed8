import { PAGE_SIZE, PMD_SIZE, PUD_SIZE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { unwatched } from './mmap-lock.ts'
import { pmdIndex } from './page-table.ts'
import { VM_LOCKED_MASK, VM_MAYSHARE, VM_UFFD_WP, VMH_UFFD_MINOR } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/** `want_pmd_share`: a shared mapping of small huge pages that holds the whole GiB, and nobody watches its pages. */
function holdsGib(vma: Vma, start: number): boolean {
  if ((vma.flags & (VM_MAYSHARE | VM_UFFD_WP)) !== VM_MAYSHARE || (vma.highFlags & VMH_UFFD_MINOR) !== 0)
    return false
  return start % PUD_SIZE === 0 && start >= vma.start && start + PUD_SIZE <= vma.end
}

/**
 * `huge_pmd_share`: where no table stands for a GiB of a shared hugetlb mapping, that of another mapping of the same
 * part of the file is taken, if its protection and other flags are the same. Its entries are mapped at once, and count
 * once. Needs `mmap_lock` for read.
 * @rule R-HUGE-56
 */
export function shareHugetlbTable(k: Kernel, mm: Mm, maybeWatched: Vma, address: number): void {
  const vma = unwatched(maybeWatched)
  const { mapping } = vma.file!
  const start = address - (address % PUD_SIZE)
  if (mapping.pageSize !== PMD_SIZE || mm.pageTable.tableOf(pmdIndex(address)) !== null) return
  if (!holdsGib(vma, start)) return
  const first = vma.pageIndex(start)
  for (const other of mapping.mappers) {
    const differs = ((other.flags ^ vma.flags) & ~VM_LOCKED_MASK) | (other.highFlags ^ vma.highFlags)
    const at = other.start + (first - other.pgoff) * PAGE_SIZE
    if (other.mm === null || differs !== 0 || !holdsGib(other, at)) continue
    const table = other.mm.pageTable.tableOf(pmdIndex(at))
    if (table === null) continue
    mm.pageTable.share(pmdIndex(start), table)
    k.sharesTables = true
    return
  }
}

/**
 * `huge_pmd_unshare`: whoever is about to change an entry of a table that others have leaves the table to them.
 * @returns whether it was shared: nothing is mapped in the GiB now
 * @rule R-HUGE-56
 */
export function unshareHugetlbTable(mm: Mm, vma: Vma, pmd: number): boolean {
  if (!vma.isHugetlb || !mm.pageTable.isShared(pmd)) return false
  mm.pageTable.unshare(pmd)
  return true
}

/** `hugetlb_unshare_all_pmds`: somebody is going to watch the pages of [start, end). */
export function unshareHugetlbTables(mm: Mm, vma: Vma, start: number, end: number): void {
  for (let at = start - (start % PUD_SIZE); at < end; at += PUD_SIZE)
    unshareHugetlbTable(mm, vma, pmdIndex(at))
}
