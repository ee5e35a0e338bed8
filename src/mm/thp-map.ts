import { PTRS_PER_PTE } from '../base/units.ts'
import {
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_DIRTY,
  PG_HUGETLB,
  PG_MLOCKED,
  PG_SWAPBACKED,
} from '../memory/page-flags.ts'
import { noteMapper } from './folio-mappers.ts'
import { changeHugetlb, copyHugetlb, unmapHugetlb, markTaggedHugetlb } from './hugetlb-map.ts'
import type { Kernel } from './kernel.ts'
import { sharedMigrationWord } from './migration-entry.ts'
import { munlockPage } from './mlock-pages.ts'
import type { Mm } from './mm.ts'
import { maybeWrite, vmPageProt, awaitsSoftDirty } from './page-prot.ts'
import {
  HugePmd,
  Leaf,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SPECIAL,
  PTE_UFFD_WP,
  PTE_WRITE,
} from './page-table.ts'
import { taggedFlag } from './rmap.ts'
import { VM_LOCKED, VM_SHARED, VM_UFFD_WP, VM_WRITE } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/** Why entries are removed. */
export type ZapHow = 'munmap' | 'dontneed' | 'truncate' | 'punch'

function hugeEntry(mm: Mm, pmd: number): HugePmd {
  const entry = mm.pageTable.pmd(pmd)
  if (!(entry instanceof HugePmd)) throw new Error(`no huge entry at PMD ${pmd}`)
  return entry
}

/** Changes the resident-page counter of a folio's kind by 512 pages. */
function addRss(k: Kernel, mm: Mm, head: number, sign: 1 | -1): void {
  const { frames } = k.memory
  const pages = sign * PTRS_PER_PTE
  if (sign < 0) mm.updateHiwaterRss()
  if (frames.has(head, PG_ANON)) mm.rssAnon += pages
  else if (frames.has(head, PG_SWAPBACKED)) mm.rssShmem += pages
  else mm.rssFile += pages
}

/**
 * Splits a PMD into 512 ptes of the same pages; the folio stays one. Pins do not matter. The entry of a
 * page-cache folio is only removed: faults bring its pages back.
 * @rule R-HUGE-25
 */
export function splitHugePmd(k: Kernel, mm: Mm, vma: Vma | null, pmd: number): void {
  const entry = hugeEntry(mm, pmd)
  const { frames } = k.memory
  const head = entry.pfn
  if (frames.has(head, PG_HUGETLB)) throw new Error('a hugetlb entry cannot be split')
  if (k.isHugeZero(head)) {
    const leaf = new Leaf()
    leaf.pfn.fill(k.zeroPfn)
    leaf.bits.fill((entry.bits & ~(PTE_WRITE | PTE_DIRTY)) | PTE_SPECIAL)
    leaf.used = PTRS_PER_PTE
    mm.pageTable.setPmd(pmd, leaf)
    return
  }
  if (!frames.has(head, PG_ANON)) {
    removeFolio(k, mm, vma, pmd, entry)
    return
  }
  const leaf = new Leaf()
  if ((entry.bits & PTE_MIGRATION) !== 0) {
    for (let i = 0; i < PTRS_PER_PTE; i++) leaf.pfn[i] = head + i
    leaf.bits.fill(entry.bits)
    leaf.used = PTRS_PER_PTE
    mm.pageTable.setPmd(pmd, leaf)
    return
  }
  const { flags, mapcount } = frames
  const exclusive = flags[head]! & PG_ANON_EXCLUSIVE
  for (let i = 0; i < PTRS_PER_PTE; i++) {
    leaf.pfn[i] = head + i
    mapcount[head + i]!++
    flags[head + i]! |= exclusive
  }
  leaf.bits.fill(entry.bits)
  leaf.used = PTRS_PER_PTE
  if ((entry.bits & PTE_DIRTY) !== 0) frames.set(head, PG_DIRTY)
  frames.refcount[head]! += PTRS_PER_PTE - 1
  frames.addEntireMapcount(head, -1)
  mm.pageTable.setPmd(pmd, leaf)
}

/** Removes an entry that maps a THP or a large page-cache folio. */
function removeFolio(k: Kernel, mm: Mm, vma: Vma | null, pmd: number, entry: HugePmd): void {
  const { frames } = k.memory
  const head = entry.pfn
  mm.pageTable.setPmd(pmd, null)
  addRss(k, mm, head, -1)
  // where it stood as a migration entry it was not mapped
  if ((entry.bits & PTE_PRESENT) === 0) return
  if ((entry.bits & PTE_DIRTY) !== 0 && !frames.has(head, PG_ANON)) frames.set(head, PG_DIRTY)
  frames.addEntireMapcount(head, -1)
  const locked = vma !== null && (vma.flags & VM_LOCKED) !== 0
  if (frames.has(head, PG_MLOCKED) && frames.totalMapcount(head) === 0) frames.clear(head, PG_MLOCKED)
  else if (locked) munlockPage(k, vma, head)
  k.memory.put(head)
}

/**
 * Removes one huge entry of any kind. A hole punched into a file leaves private copies alone.
 * @rule R-HUGE-51
 * @rule R-FLT-75
 */
export function zapHugePmd(k: Kernel, mm: Mm, vma: Vma, pmd: number, how: ZapHow): void {
  const entry = hugeEntry(mm, pmd)
  const { frames } = k.memory
  if (vma.isHugetlb) {
    if (how === 'punch' && (entry.bits & PTE_PRESENT) !== 0 && frames.has(entry.pfn, PG_ANON)) return
    unmapHugetlb(k, mm, vma, pmd, how !== 'munmap')
    return
  }
  if (k.isHugeZero(entry.pfn)) {
    mm.pageTable.setPmd(pmd, null)
    return
  }
  if (how === 'punch' && frames.has(entry.pfn, PG_ANON)) return
  removeFolio(k, mm, vma, pmd, entry)
}

/**
 * fork: one huge entry.
 * @returns 0 done; 1 the parent's entry was split because of a pin, its ptes are to be copied; -ENOMEM
 * @rule R-HUGE-35
 * @rule R-GUP-73
 * @rule R-HUGE-36
 */
export function copyHugePmd(
  k: Kernel,
  child: Mm,
  parent: Mm,
  childVma: Vma,
  parentVma: Vma,
  pmd: number,
): number {
  const entry = hugeEntry(parent, pmd)
  const { frames } = k.memory
  const head = entry.pfn
  if (parentVma.isHugetlb) return copyHugetlb(k, child, parent, childVma, parentVma, pmd)
  if (!childVma.isAnonymous) return 0
  const dropped = (childVma.flags & VM_UFFD_WP) === 0 ? PTE_UFFD_WP : 0
  if (k.isHugeZero(head)) {
    child.pageTable.setPmd(pmd, new HugePmd(head, entry.bits & ~dropped))
    return 0
  }
  if ((entry.bits & PTE_MIGRATION) !== 0) {
    entry.bits = sharedMigrationWord(entry.bits)
    addRss(k, child, head, 1)
    child.pageTable.setPmd(pmd, new HugePmd(head, entry.bits & ~dropped))
    return 0
  }
  if (frames.has(head, PG_ANON_EXCLUSIVE)) {
    if (parent.hasPinned && frames.maybeDmaPinned(head)) {
      splitHugePmd(k, parent, parentVma, pmd)
      return 1
    }
    frames.clear(head, PG_ANON_EXCLUSIVE)
  }
  entry.bits &= ~PTE_WRITE
  noteMapper(k, child, head)
  k.memory.get(head)
  frames.addEntireMapcount(head, 1)
  addRss(k, child, head, 1)
  child.pageTable.setPmd(pmd, new HugePmd(head, entry.bits & ~(PTE_ACCESSED | dropped)))
  return 0
}

/**
 * mprotect: one huge entry; the VMA's flags are new already. What gains write permission takes it at
 * once only where no fault is needed to decide.
 * @rule R-FLT-54
 */
export function changeHugePmd(k: Kernel, mm: Mm, vma: Vma, pmd: number): void {
  const entry = hugeEntry(mm, pmd)
  const { frames } = k.memory
  const head = entry.pfn
  if (vma.isHugetlb) {
    changeHugetlb(mm, vma, pmd)
    if ((entry.bits & PTE_PRESENT) !== 0) markTaggedHugetlb(k, vma, frames.head(head))
    return
  }
  // @rule R-FLT-55
  if ((entry.bits & PTE_PRESENT) === 0) {
    if ((vma.flags & VM_WRITE) === 0) entry.bits &= ~PTE_WRITE
    return
  }
  let bits = (entry.bits & ~(PTE_WRITE | PTE_PROTNONE)) | vmPageProt(vma)
  const protectedByUffd = (bits & PTE_UFFD_WP) !== 0 && (vma.flags & VM_UFFD_WP) !== 0
  if (!k.isHugeZero(head) && !protectedByUffd && !awaitsSoftDirty(vma, bits)) {
    const mayWrite =
      (vma.flags & VM_SHARED) !== 0
        ? (bits & PTE_DIRTY) !== 0
        : frames.has(head, PG_ANON) && frames.has(head, PG_ANON_EXCLUSIVE)
    if (mayWrite) bits |= maybeWrite(vma)
  }
  entry.bits = bits
  const tagged = k.isHugeZero(head) ? 0 : taggedFlag(vma)
  if (tagged !== 0) for (let i = 0; i < PTRS_PER_PTE; i++) frames.flags[head + i]! |= tagged
}

/**
 * mremap: moves a huge entry, THP or hugetlb, with its page, X and pins.
 * @param unprotects write protection by userfaultfd stays behind
 * @rule R-HUGE-25
 * @rule R-HUGE-53
 */
export function moveHugePmd(_k: Kernel, mm: Mm, from: number, to: number, unprotects: boolean): void {
  const entry = hugeEntry(mm, from)
  const target = mm.pageTable.pmd(to)
  if (target instanceof HugePmd || (target instanceof Leaf && target.used > 0)) {
    throw new Error(`a huge entry is moved to PMD ${to}, which is in use`)
  }
  mm.pageTable.setPmd(from, null)
  if (unprotects) entry.bits &= ~(PTE_UFFD_WP | PTE_MARKER_UFFD_WP)
  if (entry.bits !== 0) mm.pageTable.setPmd(to, entry)
}
