import { Unmodelled } from '../base/unmodelled.ts'
import type { Mm } from './mm.ts'
import {
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SOFT_CLEAN,
  PTE_WRITE,
} from './page-table.ts'
import { VM_ACCESS_FLAGS, VM_SHARED, VM_SOFTDIRTY, VM_UFFD_WP, VM_WRITE } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/**
 * `vm_page_prot` as pte bits: what a page that is only being read is mapped with. Writable at once in
 * shared writable mappings, unless somebody wants to hear about the first write.
 * @rule R-FLT-42
 */
export function vmPageProt(vma: Vma): number {
  const { flags } = vma
  if ((flags & VM_ACCESS_FLAGS) === 0) return PTE_PRESENT | PTE_PROTNONE
  const sharedWritable = (flags & (VM_SHARED | VM_WRITE | VM_UFFD_WP)) === (VM_SHARED | VM_WRITE)
  return sharedWritable && !vma.needsDirtyTracking && !tracksSoftDirty(vma)
    ? PTE_PRESENT | PTE_WRITE
    : PTE_PRESENT
}

/** What the entry of a page that has been found by a read is made of: where writes are tracked, it is none. */
export function readProt(vma: Vma): number {
  return tracksSoftDirty(vma) ? vmPageProt(vma) | PTE_SOFT_CLEAN : vmPageProt(vma)
}

/**
 * `vma_soft_dirty_enabled`: the first write to each page since the bits were cleared must fault.
 * @rule R-FLT-163
 */
export function tracksSoftDirty(vma: Vma): boolean {
  return (vma.flags & VM_SOFTDIRTY) === 0 && vma.mm !== null && vma.mm.softDirtyCleared
}

/** Whether an entry has to stay without write permission so that the next write is seen. */
export function awaitsSoftDirty(vma: Vma, bits: number): boolean {
  return (bits & PTE_SOFT_CLEAN) !== 0 && tracksSoftDirty(vma)
}

/**
 * Where nobody knows what becomes of the marks of cleared soft-dirty bits.
 * @throws Unmodelled
 */
export function stopIfSoftDirtyCleared(mm: Mm, what: string): void {
  if (mm.softDirtyCleared) throw new Unmodelled(`${what} after soft-dirty bits were cleared`, 'R-FLT-163')
}

/** `maybe_mkwrite`: a write through a VMA without VM_WRITE (FOLL_FORCE) leaves the pte read-only. */
export function maybeWrite(vma: Vma): number {
  return (vma.flags & VM_WRITE) !== 0 ? PTE_WRITE : 0
}

/**
 * A present entry that is being written through: dirty, soft-dirty, and writable where the mapping is.
 * @rule R-FLT-163
 */
export function written(vma: Vma, bits: number): number {
  return (bits & ~PTE_SOFT_CLEAN) | PTE_DIRTY | PTE_ACCESSED | maybeWrite(vma)
}
