import { PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { PG_ANON, PG_MLOCKED } from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { HugePmd, Leaf, PTE_PRESENT, PTE_SPECIAL, pmdIndex, pteSlot } from './page-table.ts'
import { VM_LOCKED } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/**
 * `mlock_vma_pages_range`: the pages that a range of a VMA shows become mlocked or stop being it, as its flags
 * say now. A large folio mapped by ptes counts only when the range has all of it.
 * @param vma whole or in part in [start, end), with its new flags
 * @rule R-FLT-151
 */
export function mlockPages(k: Kernel, mm: Mm, vma: Vma, start: number, end: number): void {
  const { frames } = k.memory
  const { pageTable } = mm
  const last = Math.ceil(end / PMD_SIZE)
  const locks = (vma.flags & VM_LOCKED) !== 0
  for (let i = pageTable.nextPmd(pmdIndex(start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
    const entry = pageTable.pmd(i)!
    const base = i * PMD_SIZE
    if (entry instanceof HugePmd) {
      const present = (entry.bits & PTE_PRESENT) !== 0 && !k.isHugeZero(entry.pfn)
      if (present && base >= start && base + PMD_SIZE <= end) mlockFolio(k, vma, entry.pfn, locks)
      continue
    }
    const from = (Math.max(start, base) - base) / PAGE_SIZE
    const to = Math.min(PTRS_PER_PTE, (end - base) / PAGE_SIZE)
    for (let slot = from; slot < to; slot++) {
      if ((entry.bits[slot]! & (PTE_PRESENT | PTE_SPECIAL)) !== PTE_PRESENT) continue
      const pfn = entry.pfn[slot]!
      const head = frames.head(pfn)
      if (!frames.isLarge(head)) mlockFolio(k, vma, pfn, locks)
      else if (pfn === head && slot + frames.nrPages(head) <= to) mlockFolio(k, vma, head, locks)
    }
  }
}

function mlockFolio(k: Kernel, vma: Vma, head: number, locks: boolean): void {
  if (locks) k.memory.frames.set(head, PG_MLOCKED)
  else munlockPage(k, vma, head)
}

/**
 * A locked VMA does not show the page any more, or is not locked: unless another one that is locked does, it is
 * mlocked no longer.
 * @param vma the one that showed it
 */
export function munlockPage(k: Kernel, vma: Vma, pfn: number): void {
  const { frames } = k.memory
  const head = frames.head(pfn)
  if (frames.has(head, PG_MLOCKED) && !isLockedBySomebody(k, vma, pfn, head)) frames.clear(head, PG_MLOCKED)
}

function isLockedBySomebody(k: Kernel, vma: Vma, pfn: number, head: number): boolean {
  const { frames } = k.memory
  if (frames.pageMapcount(pfn) === 0) return false
  const owner = frames.mapping[head]!
  const mappers = frames.has(head, PG_ANON)
    ? vma.anonVmaChain.find(({ id }) => id === owner)?.vmas
    : k.mappings.get(owner)?.mappers
  const index = frames.index[head]! + (pfn - head)
  for (const other of mappers ?? []) {
    if ((other.flags & VM_LOCKED) === 0 || other.mm === null) continue
    const address = other.start + (index - (other.pgoff % 2 ** 32)) * PAGE_SIZE
    if (address >= other.start && address < other.end && shows(other.mm, address, pfn)) return true
  }
  return false
}

function shows(mm: Mm, address: number, pfn: number): boolean {
  const entry = mm.pageTable.pmd(pmdIndex(address))
  const slot = pteSlot(address)
  if (entry instanceof Leaf) return (entry.bits[slot]! & PTE_PRESENT) !== 0 && entry.pfn[slot] === pfn
  return entry !== null && (entry.bits & PTE_PRESENT) !== 0 && entry.pfn + slot === pfn
}
