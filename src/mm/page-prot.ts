import { PTE_PRESENT, PTE_PROTNONE, PTE_WRITE } from './page-table.ts'
import { VM_ACCESS_FLAGS, VM_SHARED, VM_UFFD_WP, VM_WRITE } from './vm-flags.ts'
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
  return sharedWritable && !vma.needsDirtyTracking ? PTE_PRESENT | PTE_WRITE : PTE_PRESENT
}

/** `maybe_mkwrite`: a write through a VMA without VM_WRITE (FOLL_FORCE) leaves the pte read-only. */
export function maybeWrite(vma: Vma): number {
  return (vma.flags & VM_WRITE) !== 0 ? PTE_WRITE : 0
}
