import { PAGE_SIZE } from '../base/units.ts'
import { VM_FAULT_MAJOR, VM_FAULT_SIGBUS } from './fault-flags.ts'
import { outOfMemory, refuseFault } from './fault-refusal.ts'
import { NEEDS_USERFAULT, NEEDS_USERFAULT_MINOR } from './fault-sleep.ts'
import { SHMEM, type OpenFile } from './file.ts'
import { createFile, newCachedPage } from './filemap.ts'
import type { Kernel } from './kernel.ts'
import { shmemSwapIn } from './shmem-swap.ts'
import { VM_UFFD_MISSING, VMH_UFFD_MINOR } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/**
 * `shmem_file_setup`: a memory file of `size` bytes, what memfd_create, shared anonymous memory and
 * shared /dev/zero are made of. `name` as /proc/PID/maps prints it.
 */
export function shmemFileSetup(k: Kernel, name: string, size: number): OpenFile {
  return createFile(k, SHMEM, { path: name, size })
}

/**
 * `shmem_fault`: makes sure the page behind an address is in the cache; reads allocate too.
 * @returns 0, VM_FAULT_*, NEEDS_USERFAULT or NEEDS_USERFAULT_MINOR
 * @rule R-FLT-43
 */
export function shmemFault(k: Kernel, vma: Vma, address: number): number {
  const { mapping } = vma.file!
  const index = vma.pageIndex(address)
  if (index * PAGE_SIZE >= mapping.size) {
    return refuseFault(
      k,
      VM_FAULT_SIGBUS,
      'R-FLT-43',
      vma,
      address,
      'the address lies beyond the end of the file',
    )
  }
  if (mapping.pages.get(index) !== 0)
    return (vma.highFlags & VMH_UFFD_MINOR) !== 0 ? NEEDS_USERFAULT_MINOR : 0
  if (mapping.swapped.has(index))
    return shmemSwapIn(k, mapping, index) === 0 ? outOfMemory(k, 'R-FLT-43', vma, address) : VM_FAULT_MAJOR
  if ((vma.flags & VM_UFFD_MISSING) !== 0) return NEEDS_USERFAULT
  return newCachedPage(k, mapping, index) === 0 ? outOfMemory(k, 'R-FLT-43', vma, address) : 0
}
