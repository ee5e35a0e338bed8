import { EAGAIN } from '../base/errno.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { unwatched } from './mmap-lock.ts'
import { munlockPage } from './mlock-pages.ts'
import { invalidateRange } from './mmu-notifier.ts'
import { stopIfSoftDirtyCleared, vmPageProt } from './page-prot.ts'
import { Leaf, PTE_ACCESSED, PTE_PRESENT, PTE_SPECIAL, PTE_WRITE, pmdIndex, pteSlot } from './page-table.ts'
import { addNewAnonPage, removePage } from './rmap.ts'
import { VM_LOCKED } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/** The pte at an address when it shows just this page, else null. */
export function pteOf(mm: Mm, address: number, pfn: number): { leaf: Leaf; slot: number } | null {
  const leaf = mm.pageTable.pmd(pmdIndex(address))
  const slot = pteSlot(address)
  if (!(leaf instanceof Leaf) || (leaf.bits[slot]! & PTE_PRESENT) === 0 || leaf.pfn[slot] !== pfn) return null
  return { leaf, slot }
}

/**
 * `__replace_page` of uprobes: the entry that shows one page shows another one, or nothing. Needs `mmap_lock`.
 * @param address page aligned
 * @param fresh a page of the caller's, whose reference becomes the mapping's; 0 to unmap only
 * @returns 0, or -EAGAIN when the entry has changed (`fresh` is still the caller's)
 * @rule R-UPR-10.11
 * @rule R-UPR-12
 */
export function replacePage(
  k: Kernel,
  mm: Mm,
  maybeWatched: Vma,
  address: number,
  old: number,
  fresh: number,
): number {
  const vma = unwatched(maybeWatched)
  const pte = pteOf(mm, address, old)
  if (pte === null) return -EAGAIN
  stopIfSoftDirtyCleared(mm, 'putting breakpoints in place')
  if (mm.notifiers !== null) invalidateRange(mm, address, address + PAGE_SIZE)
  const { leaf, slot } = pte
  const special = (leaf.bits[slot]! & PTE_SPECIAL) !== 0
  if (fresh === 0) {
    mm.updateHiwaterRss()
    leaf.set(slot, 0, 0)
  } else {
    addNewAnonPage(k, mm, vma, address, fresh)
    leaf.set(slot, fresh, (vmPageProt(vma) & ~PTE_WRITE) | PTE_ACCESSED)
  }
  if (!special) {
    if ((vma.flags & VM_LOCKED) !== 0) munlockPage(k, vma, old)
    removePage(k, mm, old)
  }
  if (fresh !== 0) k.observer?.({ type: 'cow', mm: mm.id, address, from: old, to: fresh })
  return 0
}
