import { Unmodelled } from '../base/unmodelled.ts'
import { HPAGE_PMD_ORDER, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import {
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_LRU,
  PG_MLOCKED,
  PG_SWAPCACHE,
  PG_UPTODATE,
} from '../memory/page-flags.ts'
import { FAULT_FLAG_UNSHARE, FAULT_FLAG_WRITE, VM_FAULT_FALLBACK } from './fault-flags.ts'
import { NEEDS_USERFAULT, NEEDS_USERFAULT_WP } from './fault-sleep.ts'
import { isMappedOnlyBy } from './folio-mappers.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { maybeWrite, vmPageProt, readProt, written } from './page-prot.ts'
import { HugePmd, Leaf, pmdIndex, PTE_ACCESSED, PTE_DIRTY, PTE_UFFD_WP } from './page-table.ts'
import { anonVmaPrepare, swapbackedFlag, taggedFlag } from './rmap.ts'
import { splitHugePmd } from './thp-map.ts'
import { isUffdWpAsync } from './userfaultfd-context.ts'
import { VM_HUGEPAGE, VM_LOCKED, VM_NOHUGEPAGE, VM_SPECIAL, VM_UFFD_MISSING, VM_UFFD_WP } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/**
 * May a fault at this address be served by a 2 MiB page: the settings, the VMA's advice, and the whole
 * aligned range inside the VMA. Whether the PMD is empty is not asked.
 * @rule R-HUGE-10
 * @rule R-HUGE-13
 */
export function thpAllowed(k: Kernel, vma: Vma, address: number): boolean {
  const { thpEnabled } = k.settings
  const { flags } = vma
  if (thpEnabled === 'never' || (thpEnabled === 'madvise' && (flags & VM_HUGEPAGE) === 0)) return false
  if ((flags & (VM_NOHUGEPAGE | VM_SPECIAL)) !== 0 || !vma.isAnonymous) return false
  if (vma.mm !== null && vma.mm.thpDisabled) return false
  const base = address - (address % PMD_SIZE)
  return base >= vma.start && base + PMD_SIZE <= vma.end
}

/**
 * Nothing is mapped in the 2 MiB around an address of anonymous memory: a write gets a THP, a read the
 * huge zero folio.
 * @returns 0, VM_FAULT_FALLBACK: small pages must be used, or NEEDS_USERFAULT: no page table is made then
 * @rule R-HUGE-10
 * @rule R-FLT-117
 */
export function doHugePmdAnonymousPage(
  k: Kernel,
  guard: MmapReadGuard,
  vma: Vma,
  address: number,
  flags: number,
): number {
  const { mm } = guard
  const pmd = pmdIndex(address)
  const before = mm.pageTable.pmd(pmd)
  if (before instanceof HugePmd || (before instanceof Leaf && before.used > 0)) return VM_FAULT_FALLBACK
  if (!thpAllowed(k, vma, address)) return VM_FAULT_FALLBACK
  anonVmaPrepare(k, vma, mm)
  if ((vma.flags & VM_UFFD_MISSING) !== 0) return NEEDS_USERFAULT
  // @rule R-HUGE-11
  if ((flags & FAULT_FLAG_WRITE) === 0 && k.settings.thpUseZeroPage) {
    const zero = k.hugeZeroPfn
    if (zero === 0) return VM_FAULT_FALLBACK
    mm.pageTable.setPmd(pmd, new HugePmd(zero, readProt(vma) | PTE_ACCESSED))
    return 0
  }
  return installNewThp(k, mm, vma, pmd)
}

/** @rule R-HUGE-12 */
function installNewThp(k: Kernel, mm: Mm, vma: Vma, pmd: number): number {
  const head = k.memory.allocFolio(HPAGE_PMD_ORDER, { movable: !k.current.memallocPin })
  if (head === 0) return VM_FAULT_FALLBACK
  mapNewThp(k, mm, vma, pmd, head)
  return 0
}

/** `map_anon_folio_pmd`: a fresh folio of 2 MiB becomes the VMA's, exclusive, accessed and dirty, mapped by its PMD. */
export function mapNewThp(k: Kernel, mm: Mm, vma: Vma, pmd: number, head: number): void {
  const { frames } = k.memory
  const { flags } = frames
  const end = head + PTRS_PER_PTE
  const word = PG_UPTODATE | PG_LRU | PG_ANON | swapbackedFlag(vma) | taggedFlag(vma)
  for (let pfn = head; pfn < end; pfn++) flags[pfn]! |= word
  frames.set(head, PG_ANON_EXCLUSIVE)
  if ((vma.flags & (VM_LOCKED | VM_SPECIAL)) === VM_LOCKED) frames.set(head, PG_MLOCKED)
  frames.mapping.fill(vma.anonVma!.id, head, end)
  const index = vma.pageIndex(pmd * PMD_SIZE)
  for (let i = 0; i < PTRS_PER_PTE; i++) frames.index[head + i] = index + i
  frames.addEntireMapcount(head, 1)
  mm.rssAnon += PTRS_PER_PTE
  mm.pageTable.setPmd(pmd, new HugePmd(head, vmPageProt(vma) | PTE_ACCESSED | PTE_DIRTY | maybeWrite(vma)))
}

/**
 * Write or unshare on a huge entry that is not writable.
 * @returns 0 done; VM_FAULT_FALLBACK after a split: go on at pte level; NEEDS_USERFAULT_WP
 * @rule R-HUGE-20
 * @rule R-HUGE-21
 */
export function doHugePmdWpPage(
  k: Kernel,
  guard: MmapReadGuard,
  vma: Vma,
  address: number,
  flags: number,
): number {
  const { mm } = guard
  const { frames } = k.memory
  const pmd = pmdIndex(address)
  const entry = mm.pageTable.pmd(pmd)
  if (!(entry instanceof HugePmd)) return VM_FAULT_FALLBACK
  const isUnshare = (flags & FAULT_FLAG_UNSHARE) !== 0
  if (!isUnshare && (entry.bits & PTE_UFFD_WP) !== 0 && (vma.flags & VM_UFFD_WP) !== 0) {
    if (!isUffdWpAsync(vma)) return NEEDS_USERFAULT_WP
    splitHugePmd(k, mm, vma, pmd)
    return VM_FAULT_FALLBACK
  }
  const head = entry.pfn
  // @rule R-HUGE-14
  if (k.isHugeZero(head)) {
    if (k.release.fault.hugeZeroWriteAllocatesThp) {
      anonVmaPrepare(k, vma, mm)
      if (installNewThp(k, mm, vma, pmd) === 0) return 0
    }
    splitHugePmd(k, mm, vma, pmd)
    return VM_FAULT_FALLBACK
  }
  if (!frames.has(head, PG_ANON)) {
    splitHugePmd(k, mm, vma, pmd)
    return VM_FAULT_FALLBACK
  }
  if (!frames.has(head, PG_ANON_EXCLUSIVE)) {
    if (frames.has(head, PG_SWAPCACHE)) throw new Unmodelled('a huge page in the swap cache', 'R-HUGE-37')
    if (frames.refcount[head] !== 1) {
      splitHugePmd(k, mm, vma, pmd)
      return VM_FAULT_FALLBACK
    }
    frames.set(head, PG_ANON_EXCLUSIVE)
  }
  if (!isUnshare) entry.bits = written(vma, entry.bits)
  return 0
}

/**
 * May a pte-mapped anonymous page of a large folio that has lost X be reused by a write in this mm? The
 * caller sets X on the page if so.
 * @rule R-HUGE-20
 */
export function largeAnonReuse(k: Kernel, mm: Mm, pfn: number): boolean {
  const { frames } = k.memory
  const head = frames.head(pfn)
  switch (k.release.fault.largeFolioReuse) {
    case 'never':
      return false
    case 'last-mapped-page':
      return frames.refcount[head] === 1
    case 'sole-mm': {
      const total = frames.totalMapcount(head)
      return total > 1 && frames.refcount[head] === total && isMappedOnlyBy(k, mm, head, total)
    }
  }
}
