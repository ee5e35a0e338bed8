import { ORDER_MASK, PG_ANON, PG_ANON_EXCLUSIVE, PG_MLOCKED } from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { vmPageProt } from './page-prot.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_SPECIAL,
  PTE_UFFD_WP,
  PTE_WRITE,
  type Leaf,
  PTE_SOFT_CLEAN,
} from './page-table.ts'
import { walkPtes } from './rmap-walk.ts'
import { removePage } from './rmap.ts'
import { splitHugePmd } from './thp-map.ts'
import { VM_LOCKED } from './vm-flags.ts'

/**
 * `split_folio` of an anonymous folio whose PMD entries have been split already: its pages become folios of
 * their own, in place; those that nobody maps are freed.
 * @param keepsZeros pages of zeros stay pages, as where the folio is only split in this model
 * @returns false, and nothing has changed: somebody holds a reference beyond the mappings
 * @rule R-HUGE-26
 */
export function splitFolio(k: Kernel, head: number, keepsZeros = false): boolean {
  if (!canSplitFolio(k, head)) return false
  const { memory } = k
  const { flags, refcount, mapcount, mapping } = memory.frames
  const pages = memory.frames.nrPages(head)
  const entries: { mm: Mm; address: number; leaf: Leaf; slot: number }[] = []
  walkPtes(k, head, (mm, address, leaf, slot) => void entries.push({ mm, address, leaf, slot }))
  const common = (flags[head]! & ~(PG_ANON_EXCLUSIVE | PG_MLOCKED | ORDER_MASK)) >>> 0
  const owner = mapping[head]!
  memory.frames.uncounted.delete(head)
  for (let pfn = head; pfn < head + pages; pfn++) {
    flags[pfn] = (common | (flags[pfn]! & PG_ANON_EXCLUSIVE)) >>> 0
    refcount[pfn] = mapcount[pfn]!
    mapping[pfn] = owner
  }
  for (let pfn = head; pfn < head + pages; pfn++) if (refcount[pfn] === 0) memory.free(pfn)
  for (const { mm, address, leaf, slot } of entries) remap(k, mm, address, leaf, slot, keepsZeros)
  return true
}

/**
 * A page of its own finds its place again: locked where the mapping is, or replaced by the zero page when it holds
 * nothing but zeros.
 * @rule R-HUGE-62
 */
function remap(k: Kernel, mm: Mm, address: number, leaf: Leaf, slot: number, keepsZeros: boolean): void {
  const { frames, contents } = k.memory
  const pfn = leaf.pfn[slot]!
  const vma = mm.mmapLock.vmaOfRmap(address)
  // a mapping that is being taken apart
  if (vma === null) return
  if ((vma.flags & VM_LOCKED) !== 0) {
    frames.set(pfn, PG_MLOCKED)
    return
  }
  if (keepsZeros || !k.release.fault.splitMapsZeroPage || !contents.isZero(pfn)) return
  const kept = leaf.bits[slot]! & (PTE_UFFD_WP | PTE_SOFT_CLEAN | PTE_ACCESSED)
  leaf.set(slot, k.zeroPfn, (vmPageProt(vma) & ~PTE_WRITE) | PTE_SPECIAL | kept)
  removePage(k, mm, pfn)
}

/** `split_huge_page`: the same wherever the folio is mapped as a whole. */
export function splitFolioEverywhere(k: Kernel, head: number): boolean {
  if (!canSplitFolio(k, head)) return false
  for (const mm of k.mms) {
    const { pageTable } = mm
    for (let i = pageTable.nextPmd(0, 2 ** 26); i >= 0; i = pageTable.nextPmd(i + 1, 2 ** 26)) {
      const entry = pageTable.pmd(i)
      if (entry instanceof HugePmd && entry.pfn === head) splitHugePmd(k, mm, null, i)
    }
  }
  return splitFolio(k, head)
}

/**
 * `can_split_folio`: all references are mappings.
 * @rule R-HUGE-27
 */
export function canSplitFolio(k: Kernel, head: number): boolean {
  const { frames } = k.memory
  return frames.has(head, PG_ANON) && frames.refcount[head] === frames.totalMapcount(head)
}
