import { PAGE_SIZE } from '../base/units.ts'
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_KSM, PG_SWAPCACHE } from '../memory/page-flags.ts'
import { dirtyFolio } from './dirty-blocks.ts'
import { FAULT_FLAG_UNSHARE } from './fault-flags.ts'
import { outOfMemory } from './fault-refusal.ts'
import { NEEDS_USERFAULT_WP } from './fault-sleep.ts'
import { largeAnonReuse } from './huge-memory.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { invalidateRange } from './mmu-notifier.ts'
import { maybeWrite, vmPageProt, written } from './page-prot.ts'
import {
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_SPECIAL,
  PTE_UFFD_WP,
  PTE_WRITE,
  pteSlot,
  type Leaf,
  PTE_SOFT_CLEAN,
} from './page-table.ts'
import { addNewAnonPage, anonVmaPrepare, removePage } from './rmap.ts'
import { isUffdWpAsync } from './userfaultfd-context.ts'
import { munlockPage } from './mlock-pages.ts'
import { VM_LOCKED, VM_MAYSHARE, VM_SHARED, VM_UFFD_WP } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/**
 * `do_wp_page`: a present pte that is not writable is written (or, with FAULT_FLAG_UNSHARE, is about to
 * be pinned for reading). Decides between writing in place, reuse and copy.
 * @returns VM_FAULT_*, or NEEDS_USERFAULT_WP
 * @rule R-FLT-45
 * @rule R-FLT-36
 * @rule R-FLT-48
 * @rule R-FLT-49
 * @rule R-FLT-67
 */
export function doWpPage(
  k: Kernel,
  mm: Mm,
  vma: Vma,
  address: number,
  leaf: Leaf,
  faultFlags: number,
): number {
  const slot = pteSlot(address)
  let bits = leaf.bits[slot]!
  const unshare = (faultFlags & FAULT_FLAG_UNSHARE) !== 0
  if (!unshare && (bits & PTE_UFFD_WP) !== 0 && (vma.flags & VM_UFFD_WP) !== 0) {
    if (!isUffdWpAsync(vma)) return NEEDS_USERFAULT_WP
    bits &= ~PTE_UFFD_WP
    leaf.bits[slot] = bits
  }
  const pfn = leaf.pfn[slot]!
  const special = (bits & PTE_SPECIAL) !== 0
  if ((vma.flags & (VM_SHARED | VM_MAYSHARE)) !== 0) {
    // @rule R-FLT-44
    if (special) leaf.bits[slot] = written(vma, bits)
    else makeSharedWritable(k, vma, leaf, slot)
    return 0
  }
  const { frames } = k.memory
  const head = special ? pfn : frames.head(pfn)
  const anonymous = !special && frames.has(head, PG_ANON)
  if (anonymous && mayReuse(k, mm, pfn, head)) {
    frames.set(pfn, PG_ANON_EXCLUSIVE)
    // @rule R-FLT-46
    if (!unshare) leaf.bits[slot] = written(vma, bits)
    return 0
  }
  if (unshare && !anonymous && !k.release.fault.unshareCopiesFilePages) return 0
  return copyPage(k, mm, vma, address, leaf, unshare)
}

/** Writes to a shared mapping go to the page itself; the file is told (page_mkwrite, dirty). */
export function makeSharedWritable(k: Kernel, vma: Vma, leaf: Leaf, slot: number): void {
  leaf.bits[slot] = written(vma, leaf.bits[slot]!)
  // @rule R-FLT-41
  dirtyFolio(k, k.memory.frames.head(leaf.pfn[slot]!))
}

/** Whether an anonymous page of a private mapping may be written in place. */
function mayReuse(k: Kernel, mm: Mm, pfn: number, head: number): boolean {
  const { frames } = k.memory
  // no count is looked at: pins and plain references do not matter
  if (frames.has(pfn, PG_ANON_EXCLUSIVE)) return true
  if (frames.has(head, PG_KSM)) return false
  // @rule R-HUGE-20
  if (frames.isLarge(head)) return largeAnonReuse(k, mm, pfn)
  const inSwapCache = frames.has(pfn, PG_SWAPCACHE) ? 1 : 0
  if (frames.refcount[pfn]! > 1 + inSwapCache) return false
  if (inSwapCache === 1) k.swap.freeCache(pfn)
  return frames.refcount[pfn] === 1
}

/**
 * `wp_page_copy`: replaces the page at an address by an exclusive copy.
 * @rule R-FLT-47
 */
function copyPage(k: Kernel, mm: Mm, vma: Vma, address: number, leaf: Leaf, unshare: boolean): number {
  anonVmaPrepare(k, vma, mm)
  const copy = k.memory.allocFolio(0, { movable: !k.current.memallocPin })
  if (copy === 0) return outOfMemory(k, 'R-FLT-47', vma, address)
  if (mm.notifiers !== null) invalidateRange(mm, address, address + PAGE_SIZE)
  const slot = pteSlot(address)
  const old = leaf.pfn[slot]!
  const bits = leaf.bits[slot]!
  if (old !== k.zeroPfn) k.memory.contents.copy(old, copy)
  addNewAnonPage(k, mm, vma, address, copy)
  const write = unshare ? 0 : maybeWrite(vma) | PTE_DIRTY
  const kept = unshare ? bits & (PTE_UFFD_WP | PTE_SOFT_CLEAN) : 0
  leaf.set(slot, copy, (vmPageProt(vma) & ~PTE_WRITE) | PTE_ACCESSED | write | kept)
  if ((bits & PTE_SPECIAL) === 0) {
    if ((vma.flags & VM_LOCKED) !== 0) munlockPage(k, vma, old)
    removePage(k, mm, old)
  }
  k.observer?.({ type: 'cow', mm: mm.id, address, from: old, to: copy })
  return 0
}
