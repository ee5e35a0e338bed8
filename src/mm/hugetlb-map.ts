import { ENOMEM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import {
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_DIRTY,
  PG_HUGETLB_RESERVED,
  PG_UPTODATE,
} from '../memory/page-flags.ts'
import { firstPart, hugetlbFile, hugetlbIndex, type HugetlbFile } from './hugetlb-reserve.ts'
import type { Kernel } from './kernel.ts'
import { countMigrating, requireKnownEntry, sharedMigrationWord } from './migration-entry.ts'
import type { Mm } from './mm.ts'
import { vmPageProt } from './page-prot.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_MARKER_POISON,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_UFFD_WP,
  PTE_WRITE,
} from './page-table.ts'
import { anonVmaPrepare, taggedFlag } from './rmap.ts'
import { VM_MAYSHARE, VM_UFFD_WP, VM_WRITE } from './vm-flags.ts'
import { vmaFacts, type Vma } from './vma.ts'

/**
 * A huge page with one reference, the caller's, taken from the pool of a file.
 * @param fromReserve a promise made for it is used up
 * @returns head pfn; 0 when the pool or the mount is exhausted
 */
export function allocHugetlb(k: Kernel, file: HugetlbFile, fromReserve: boolean): number {
  const { pool, subpool } = file
  const charged = !fromReserve && subpool !== null
  if (charged && !subpool.take(1)) return 0
  const head = pool.alloc(fromReserve, subpool)
  if (head === 0) {
    if (charged) subpool.give(1)
    return 0
  }
  k.memory.frames.set(head, PG_UPTODATE)
  return head
}

/**
 * Makes a page the anonymous, exclusive page of a private mapping. X of hugetlb lives on the head.
 * @rule R-HUGE-3
 */
export function makeHugetlbAnon(k: Kernel, mm: Mm, vma: Vma, head: number, index: number): void {
  anonVmaPrepare(k, vma, mm)
  const { frames } = k.memory
  const end = head + frames.nrPages(head)
  for (let pfn = head; pfn < end; pfn++) frames.flags[pfn]! |= PG_ANON
  frames.set(head, PG_ANON_EXCLUSIVE)
  frames.mapping[head] = vma.anonVma!.id
  frames.index[head] = index
}

/** Bits of a fresh entry: in a shared writable mapping it can be written at once and counts as dirty. */
export function hugetlbBits(vma: Vma): number {
  const bits = vmPageProt(vma) | PTE_ACCESSED
  return (bits & PTE_WRITE) === 0 ? bits : bits | PTE_DIRTY
}

/**
 * Installs an entry; the caller's reference becomes the mapping's. A page of 1 GiB stands as a whole table of PMD
 * entries, `pmd` being the first, which count as one mapping (R-HUGE-58).
 */
export function mapHugetlb(k: Kernel, mm: Mm, pmd: number, head: number, bits: number): void {
  const { frames } = k.memory
  const pages = frames.nrPages(head)
  for (let part = 0; part < pages / PTRS_PER_PTE; part++)
    mm.pageTable.setPmd(pmd + part, new HugePmd(head + part * PTRS_PER_PTE, bits))
  frames.addEntireMapcount(head, 1)
  mm.hugetlbPages += pages
  if (k.settings.mte) markTaggedHugetlb(k, mm.mmapLock.vmaOfRmap(pmd * PMD_SIZE), head)
}

/** A hugetlb page is marked as a whole. @rule R-MTE-11 */
export function markTaggedHugetlb(k: Kernel, vma: Vma | null, head: number): void {
  if (vma !== null) k.memory.frames.set(head, taggedFlag(vma))
}

/** The other entries of a page of 1 GiB become what its first one is. */
export function alignParts(mm: Mm, vma: Vma, pmd: number): void {
  const parts = vma.file!.mapping.pageSize / PMD_SIZE
  const first = mm.pageTable.pmd(pmd)
  if (parts === 1 || !(first instanceof HugePmd)) return
  for (let part = 1; part < parts; part++) {
    const entry = mm.pageTable.pmd(pmd + part) as HugePmd
    entry.pfn = first.pfn + part * PTRS_PER_PTE
    entry.bits = first.bits
  }
}

/**
 * Removes one entry. The page goes back to the pool with its last reference; where the release does so,
 * the owner of a private mapping gets its promise back with it.
 * @param keepsMarkers the VMA stays and its file is no shorter: write protection by userfaultfd is remembered
 * @rule R-HUGE-51
 * @rule R-HUGE-52
 */
export function unmapHugetlb(k: Kernel, mm: Mm, vma: Vma, pmd: number, keepsMarkers: boolean): void {
  const { memory } = k
  const { frames } = memory
  const restores = k.release.fault.hugetlbZapRestoresReservation
  const entry = mm.pageTable.pmd(pmd) as HugePmd
  // also where nobody watches for writes any more, unlike small pages
  const marker = keepsMarkers && (entry.bits & (PTE_UFFD_WP | PTE_MARKER_UFFD_WP)) !== 0
  const parts = (entry.bits & PTE_PRESENT) === 0 ? 1 : vma.file!.mapping.pageSize / PMD_SIZE
  for (let part = 0; part < parts; part++)
    mm.pageTable.setPmd(pmd + part, marker ? new HugePmd(0, PTE_MARKER_UFFD_WP) : null)
  if ((entry.bits & PTE_MIGRATION) !== 0) countMigrating(k, mm, entry.pfn, -PTRS_PER_PTE)
  if ((entry.bits & PTE_PRESENT) === 0) return
  const head = entry.pfn
  frames.addEntireMapcount(head, -1)
  mm.hugetlbPages -= frames.nrPages(head)
  if (!frames.has(head, PG_ANON)) {
    if ((entry.bits & PTE_DIRTY) !== 0) frames.set(head, PG_DIRTY)
  } else if (restores === 'always' || (restores === 'last-mapping' && frames.entireMapcount(head) === 0)) {
    // The promise is due again at once, the page comes back only with its last reference: meanwhile the
    // pool's reserved count is one too low. While the pool has surplus pages nothing is promised again.
    const map = vma.hugetlb?.map ?? null
    const mayPromise = map !== null && hugetlbFile(k, vma.file!.mapping).pool.surplus === 0
    if (mayPromise && map.giveBack(hugetlbIndex(vma, pmd * PMD_SIZE))) frames.set(head, PG_HUGETLB_RESERVED)
  }
  memory.put(head)
}

/**
 * fork: one entry. Private pages are shared read-only, a pinned one is copied at once, without using a
 * reservation.
 * @returns 0, or -ENOMEM when the pool has no page for the copy
 * @rule R-HUGE-50
 * @rule R-AS-152
 */
export function copyHugetlb(
  k: Kernel,
  child: Mm,
  parent: Mm,
  childVma: Vma,
  parentVma: Vma,
  pmd: number,
): number {
  const { memory } = k
  const { frames } = memory
  const entry = parent.pageTable.pmd(pmd) as HugePmd
  const watched = (childVma.flags & VM_UFFD_WP) !== 0
  if ((entry.bits & PTE_MIGRATION) !== 0) {
    requireKnownEntry(entry.pfn, 'fork over a migration entry', 'R-FLT-62')
    if ((parentVma.flags & VM_MAYSHARE) === 0) entry.bits = sharedMigrationWord(entry.bits)
    child.pageTable.setPmd(pmd, new HugePmd(entry.pfn, entry.bits & ~(watched ? 0 : PTE_UFFD_WP)))
    countMigrating(k, child, entry.pfn, PTRS_PER_PTE)
    return 0
  }
  if ((entry.bits & PTE_PRESENT) === 0) {
    const kept = entry.bits & (PTE_MARKER_POISON | (watched ? PTE_MARKER_UFFD_WP : 0))
    if (kept !== 0) child.pageTable.setPmd(pmd, new HugePmd(0, kept))
    return 0
  }
  // the first entry of a page of 1 GiB is copied with all the others
  if (pmd !== firstPart(parentVma, pmd)) return 0
  const head = entry.pfn
  const isShared = (parentVma.flags & VM_MAYSHARE) !== 0
  if (!isShared && frames.has(head, PG_ANON_EXCLUSIVE)) {
    if (parent.hasPinned && frames.maybeDmaPinned(head)) return copyPinned(k, child, childVma, pmd, head)
    frames.clear(head, PG_ANON_EXCLUSIVE)
  }
  if (!isShared) {
    entry.bits &= ~PTE_WRITE
    alignParts(parent, parentVma, pmd)
  }
  memory.get(head)
  const keepsUffdWp = watched || k.release.fault.hugetlbForkKeepsUffdWp
  mapHugetlb(k, child, pmd, head, entry.bits & ~(PTE_ACCESSED | (keepsUffdWp ? 0 : PTE_UFFD_WP)))
  return 0
}

function copyPinned(k: Kernel, child: Mm, childVma: Vma, pmd: number, head: number): number {
  const copy = allocHugetlb(k, hugetlbFile(k, childVma.file!.mapping), false)
  if (copy === 0) {
    return refuse(k.current, ENOMEM, 'R-HUGE-50', {
      address: pmd * PMD_SIZE,
      vma: vmaFacts(childVma),
      why: 'a pinned huge page must be copied for the child and the pool has no page left',
    })
  }
  makeHugetlbAnon(k, child, childVma, copy, hugetlbIndex(childVma, pmd * PMD_SIZE))
  copyHugetlbContents(k, head, copy)
  const write = (childVma.flags & VM_WRITE) === 0 ? 0 : PTE_WRITE | PTE_DIRTY
  mapHugetlb(k, child, pmd, copy, (hugetlbBits(childVma) & ~PTE_ACCESSED) | write)
  k.observer?.({ type: 'fork-copy', mm: child.id, address: pmd * PMD_SIZE, from: head, to: copy })
  return 0
}

export function copyHugetlbContents(k: Kernel, from: number, to: number): void {
  const { contents } = k.memory
  if (contents.stored === 0 && contents.tags.empty) return
  for (let i = 0; i < k.memory.frames.nrPages(from); i++) contents.copy(from + i, to + i)
}

/**
 * mprotect: one entry; the VMA's flags are new already. A private entry loses write permission whatever
 * the new protection is, the next write finds the page exclusive; a shared one takes it at once.
 * @rule R-HUGE-43
 */
export function changeHugetlb(mm: Mm, vma: Vma, pmd: number): void {
  const entry = mm.pageTable.pmd(pmd) as HugePmd
  if ((entry.bits & PTE_PRESENT) === 0) {
    if ((vma.flags & VM_WRITE) === 0) entry.bits &= ~PTE_WRITE
    return
  }
  const prot = vmPageProt(vma)
  const watched = (entry.bits & PTE_UFFD_WP) !== 0
  entry.bits = (entry.bits & ~(PTE_WRITE | PTE_PROTNONE)) | (watched ? prot & ~PTE_WRITE : prot)
}
