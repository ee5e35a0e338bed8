import { PAGE_SIZE } from '../base/units.ts'
import { PG_LOCKED, PG_MLOCKED } from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { invalidateRange } from './mmu-notifier.ts'
import { maybeWrite, vmPageProt, awaitsSoftDirty } from './page-prot.ts'
import {
  PTE_DEVICE_EXCLUSIVE,
  PTE_DIRTY,
  PTE_UFFD_WP,
  PTE_WRITE,
  pteSlot,
  type Leaf,
  PTE_SOFT_CLEAN,
} from './page-table.ts'
import { VM_LOCKED, VM_SPECIAL } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/*
 * A device-exclusive entry stands where an anonymous page was mapped that a device wants to itself: PTE_DEVICE_EXCLUSIVE,
 * the frame, and whether it was writable. It keeps the reference of the mapping it replaced, and the process still
 * counts the page as resident; whether it still counts as a mapping of the page depends on the release. The page stays
 * AnonExclusive. Any access by the processor puts the mapping back, as soon as the device has let go of the page's lock.
 */

/** what the entry carries of the mapping's own marks */
const KEPT = PTE_UFFD_WP | PTE_SOFT_CLEAN

/** The word that takes the place of a present one. @rule R-DEX-3 */
export function exclusiveWord(k: Kernel, bits: number): number {
  const writable = k.release.fault.deviceExclusive === 'page' ? PTE_WRITE : bits & PTE_WRITE
  return PTE_DEVICE_EXCLUSIVE | writable | (bits & KEPT)
}

/**
 * An access by the processor, or by GUP on its behalf: tells those who watch the range, the device among them, and puts
 * the mapping back, as the memory is protected now.
 * @returns false, and nothing has happened: the device holds the page's lock
 * @rule R-DEX-5
 */
export function restoreByFault(k: Kernel, mm: Mm, vma: Vma, address: number, leaf: Leaf): boolean {
  const { frames } = k.memory
  if (frames.has(frames.head(leaf.pfn[pteSlot(address)]!), PG_LOCKED)) return false
  if (mm.notifiers !== null) {
    const event = k.release.fault.deviceExclusive === 'page' ? 'clear' : 'exclusive'
    invalidateRange(mm, address, address + PAGE_SIZE, { event, owner: null })
  }
  return restoreEntry(k, vma, leaf, pteSlot(address))
}

/**
 * Puts a mapping back without telling anybody.
 * @returns false, and nothing has happened: the device holds the page's lock
 */
export function restoreEntry(k: Kernel, vma: Vma, leaf: Leaf, slot: number): boolean {
  const { frames } = k.memory
  const word = leaf.bits[slot]!
  const pfn = leaf.pfn[slot]!
  const head = frames.head(pfn)
  if (frames.has(head, PG_LOCKED)) return false
  const writable =
    (word & (PTE_WRITE | PTE_UFFD_WP)) === PTE_WRITE && !awaitsSoftDirty(vma, word) ? maybeWrite(vma) : 0
  leaf.bits[slot] = vmPageProt(vma) | (word & KEPT) | (writable === 0 ? 0 : writable | PTE_DIRTY)
  if (keepsMapcount(k)) return true
  frames.mapcount[pfn]!++
  if ((vma.flags & (VM_LOCKED | VM_SPECIAL)) === VM_LOCKED) frames.set(head, PG_MLOCKED)
  return true
}

/**
 * munmap, MADV_DONTNEED, exit: the entry goes with the reference it kept. The device's own reference keeps the page.
 * @rule R-DEX-10
 */
export function zapExclusiveEntry(k: Kernel, mm: Mm, pfn: number): void {
  const { frames } = k.memory
  mm.rssAnon--
  if (keepsMapcount(k) && --frames.mapcount[pfn]! === 0) frames.clear(pfn, PG_MLOCKED)
  k.memory.put(pfn)
}

/** The entry is still a mapping of its page. */
export function keepsMapcount(k: Kernel): boolean {
  return k.release.fault.deviceExclusive === 'page'
}
