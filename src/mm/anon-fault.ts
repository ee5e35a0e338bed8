import { FAULT_FLAG_WRITE } from './fault-flags.ts'
import { outOfMemory } from './fault-refusal.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { maybeWrite, vmPageProt, readProt } from './page-prot.ts'
import {
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_MARKER_UFFD_WP,
  PTE_SPECIAL,
  PTE_UFFD_WP,
  PTE_WRITE,
  pteSlot,
  type Leaf,
} from './page-table.ts'
import { addNewAnonPage, anonVmaPrepare } from './rmap.ts'
import { NEEDS_USERFAULT } from './fault-sleep.ts'
import { VM_UFFD_MISSING } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/**
 * `do_anonymous_page`: nothing, or a write-protect marker, is mapped at an address of anonymous memory. A read gets the zero page, a
 * write a new exclusive page.
 * @returns VM_FAULT_*, or NEEDS_USERFAULT
 * @rule R-FLT-2
 */
export function doAnonymousPage(
  k: Kernel,
  mm: Mm,
  vma: Vma,
  address: number,
  leaf: Leaf,
  faultFlags: number,
): number {
  if ((faultFlags & FAULT_FLAG_WRITE) === 0) {
    // @rule R-FLT-34
    if ((vma.flags & VM_UFFD_MISSING) !== 0) return NEEDS_USERFAULT
    const slot = pteSlot(address)
    leaf.set(slot, k.zeroPfn, readProt(vma) | PTE_SPECIAL | PTE_ACCESSED | markerProtection(leaf, slot))
    return 0
  }
  // @rule R-FLT-35
  anonVmaPrepare(k, vma, mm)
  const pfn = k.memory.allocFolio(0, { movable: !k.current.memallocPin })
  if (pfn === 0) return outOfMemory(k, 'R-FLT-35', vma, address)
  if ((vma.flags & VM_UFFD_MISSING) !== 0) {
    k.memory.put(pfn)
    return NEEDS_USERFAULT
  }
  installAnonPage(k, mm, vma, address, leaf, pfn)
  return 0
}

/** Maps a fresh page: exclusive, accessed, writable and dirty iff the VMA may be written. */
export function installAnonPage(k: Kernel, mm: Mm, vma: Vma, address: number, leaf: Leaf, pfn: number): void {
  addNewAnonPage(k, mm, vma, address, pfn)
  const slot = pteSlot(address)
  const write = maybeWrite(vma)
  const bits = vmPageProt(vma) | PTE_ACCESSED | (write === 0 ? 0 : write | PTE_DIRTY)
  const wp = markerProtection(leaf, slot)
  leaf.set(slot, pfn, wp === 0 ? bits : (bits & ~PTE_WRITE) | wp)
}

/**
 * What a write-protect marker leaves to the page that takes its place.
 * @rule R-FLT-115
 */
export function markerProtection(leaf: Leaf, slot: number): number {
  return (leaf.bits[slot]! & PTE_MARKER_UFFD_WP) === 0 ? 0 : PTE_UFFD_WP
}
