import { Unmodelled } from '../base/unmodelled.ts'
import { HPAGE_PMD_ORDER, PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { PG_LOCKED, PG_MLOCKED, PG_SWAPBACKED } from '../memory/page-flags.ts'
import { dirtyFolio } from './dirty-blocks.ts'
import { FAULT_FLAG_WRITE } from './fault-flags.ts'
import type { AddressSpace } from './file.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { maybeWrite, vmPageProt, readProt } from './page-prot.ts'
import { HugePmd, PTE_ACCESSED, PTE_DIRTY, pmdIndex, pteSlot, type Leaf } from './page-table.ts'
import { VM_LOCKED, VM_NOHUGEPAGE, VM_SHARED, VM_SPECIAL, VMH_UFFD_MINOR } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/** `folio_add_file_rmap_pmd` and the entry: a folio of 2 MiB of the page cache is mapped as a whole. */
export function mapHugeFile(k: Kernel, mm: Mm, vma: Vma, pmd: number, head: number, bits: number): void {
  const { frames } = k.memory
  k.memory.get(head)
  frames.addEntireMapcount(head, 1)
  if ((vma.flags & (VM_LOCKED | VM_SPECIAL)) === VM_LOCKED) frames.set(head, PG_MLOCKED)
  if (frames.has(head, PG_SWAPBACKED)) mm.rssShmem += PTRS_PER_PTE
  else mm.rssFile += PTRS_PER_PTE
  mm.pageTable.setPmd(pmd, new HugePmd(head, protFor(vma, bits) | bits))
}

/** Pages that are written at once are not as they were. */
function protFor(vma: Vma, bits: number): number {
  return (bits & PTE_DIRTY) === 0 ? readProt(vma) : vmPageProt(vma)
}

const WATCHED = 'a fault on a huge page of a memory file that a userfaultfd watches'

/** fault_around_bytes / PAGE_SIZE */
export const FAULT_AROUND_PAGES = 16

/**
 * The slot where the window of a read fault begins: aligned by virtual address, but not before the VMA.
 * @rule R-FLT-39
 */
export function faultAroundStart(vma: Vma, address: number): number {
  const slot = pteSlot(address)
  const inVma = Math.floor((address - vma.start) / PAGE_SIZE)
  return Math.max(slot - (slot % FAULT_AROUND_PAGES), slot - Math.min(slot, inVma))
}

/**
 * `do_set_pmd`: a fault on a page of a cached folio of 2 MiB, where no table stands and the VMA has room.
 * @returns whether a PMD is mapped now
 * @throws Unmodelled where a userfaultfd watches for pages that are there
 * @rule R-HUGE-66
 * @rule R-HUGE-31.2
 */
export function faultHugeFile(k: Kernel, mm: Mm, vma: Vma, address: number, faultFlags: number): boolean {
  const { frames } = k.memory
  const { file } = vma
  if (vma.isAnonymous || file === null) return false
  const write = (faultFlags & FAULT_FLAG_WRITE) !== 0
  if (write && (vma.flags & VM_SHARED) === 0) return false
  const index = vma.pageIndex(address)
  const pfn = file.mapping.pages.get(index)
  if (pfn === 0 || frames.order(pfn) !== HPAGE_PMD_ORDER) return false
  if ((vma.highFlags & VMH_UFFD_MINOR) !== 0) throw new Unmodelled(WATCHED, 'R-HUGE-66')
  const head = frames.head(pfn)
  const base = address - (address % PMD_SIZE)
  const wanted = write ? index : index - (pteSlot(address) - faultAroundStart(vma, address))
  if (wanted * PAGE_SIZE >= file.mapping.size || frames.has(head, PG_LOCKED)) return false
  if ((vma.flags & VM_NOHUGEPAGE) !== 0 || vma.mm?.thpDisabled === true) return false
  if (base < vma.start || base + PMD_SIZE > vma.end || vma.pageIndex(base) !== frames.index[head])
    return false
  if (!endsWithin(k, file.mapping, head)) return false
  mapHugeFile(k, mm, vma, pmdIndex(address), head, PTE_ACCESSED | (write ? PTE_DIRTY | maybeWrite(vma) : 0))
  if (write) dirtyFolio(k, head)
  return true
}

/**
 * Whether the file has all pages of a folio of its cache; memory files are not asked.
 * @param before no page of it may be the last of the file either
 */
export function endsWithin(k: Kernel, mapping: AddressSpace, head: number, before = false): boolean {
  if (mapping.kind.shmem) return true
  const { frames } = k.memory
  const pages = Math.ceil(mapping.size / PAGE_SIZE)
  return frames.index[head]! + frames.nrPages(head) <= pages - (before ? 1 : 0)
}

/** The slots of a table that show the pages of a large folio. */
export interface FolioSlots {
  readonly head: number
  readonly from: number
  readonly to: number
}

/**
 * Where all pages of a cached large folio would be mapped around a fault on one of them; null: it is a small page,
 * or table and VMA do not hold the whole of it.
 */
export function slotsOfFolio(
  k: Kernel,
  vma: Vma,
  address: number,
  slot: number,
  pfn: number,
): FolioSlots | null {
  const { frames } = k.memory
  if (pfn === 0 || !frames.isLarge(pfn)) return null
  const head = frames.head(pfn)
  const from = slot - (pfn - head)
  const to = from + frames.nrPages(head)
  const start = address - (pfn - head) * PAGE_SIZE
  const end = start + frames.nrPages(head) * PAGE_SIZE
  return from < 0 || to > PTRS_PER_PTE || start < vma.start || end > vma.end ? null : { head, from, to }
}

/**
 * `set_pte_range`: pages [from, to) of a folio that are not mapped yet, young; it becomes mlocked when that is all of
 * it and the VMA is locked.
 * @param bits what the entries get beside the VMA's protection
 */
export function mapFolioPages(
  k: Kernel,
  mm: Mm,
  vma: Vma,
  leaf: Leaf,
  first: number,
  { from, to, head }: FolioSlots,
  bits: number,
): void {
  const { frames } = k.memory
  const word = protFor(vma, bits) | PTE_ACCESSED | bits
  let mapped = 0
  for (let slot = from; slot < to; slot++) {
    if (leaf.bits[slot] !== 0) continue
    const pfn = first + slot - from
    leaf.set(slot, pfn, word)
    frames.mapcount[pfn]!++
    mapped++
  }
  frames.refcount[head]! += mapped
  if (frames.has(head, PG_SWAPBACKED)) mm.rssShmem += mapped
  else mm.rssFile += mapped
  const whole = mapped === frames.nrPages(head)
  if (whole && (vma.flags & (VM_LOCKED | VM_SPECIAL)) === VM_LOCKED) frames.set(head, PG_MLOCKED)
}
