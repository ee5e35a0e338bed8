import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { Vma } from './vma.ts'
import type { VmaTree } from './vma-tree.ts'
import { VM_ACCOUNT, VM_LOCKED, VM_LOCKED_MASK, VM_MAYWRITE, VM_SHARED } from './vm-flags.ts'
import { chargeCommit, vmStatAccount } from './vm-accounting.ts'

/**
 * A copy of a VMA for a child's mm: with a file reference of its own, without lock flags, anon_vma,
 * userfaultfd context or hugetlb reservation, linked nowhere.
 * @rule R-AS-151
 * @rule R-HUGE-42
 */
export function dupVma(_k: Kernel, vma: Vma): Vma {
  const file = vma.file === null ? null : vma.file.get()
  const copy = new Vma(vma.start, vma.end, vma.flags & ~VM_LOCKED_MASK, vma.pgoff, file, vma.highFlags)
  copy.policy = vma.policy
  copy.anonName = vma.anonName
  copy.specialName = vma.specialName
  return copy
}

/**
 * Puts a VMA into an address space: commit charge, counters, file mappers, reverse map of its anon_vmas.
 * The VMA owns its file reference already; its range must be free.
 * @returns 0, or -ENOMEM when its pages cannot be charged (nothing has changed then)
 */
export function linkVma(k: Kernel, guard: MmapWriteGuard, vma: Vma): number {
  const { mm } = guard
  const { pages } = vma
  if ((vma.flags & VM_ACCOUNT) !== 0) {
    const error = chargeCommit(k, mm, pages)
    if (error < 0) return error
  }
  const { vmas } = guard
  const next = vmas.find(vma.start)
  insertVma(mm, vmas, vma, next === null ? vmas.last : next.previous, next)
  for (const anonVma of vma.anonVmaChain) anonVma.vmas.add(vma)
  vmStatAccount(mm, vma.flags, pages)
  if ((vma.flags & VM_LOCKED) !== 0) mm.lockedVm += pages
  return 0
}

/** Tree, map_count and file side of a new VMA; the page counters are the caller's. */
export function insertVma(mm: Mm, vmas: VmaTree, vma: Vma, previous: Vma | null, next: Vma | null): void {
  vma.mm = mm
  vmas.insertBetween(vma, previous, next)
  mm.mapCount++
  if (vma.file !== null) attachFile(vma)
}

/** Undoes `insertVma` and drops what the VMA holds: anon_vma links, file mapper, file reference. */
export function removeVma(mm: Mm, vmas: VmaTree, vma: Vma): void {
  vmas.remove(vma)
  mm.mapCount--
  freeVma(vma)
}

/**
 * The end of a VMA that is in no tree any more.
 * @rule R-AS-125
 */
export function freeVma(vma: Vma): void {
  unlinkAnonVmas(vma)
  vma.freed = true
  if (vma.mm?.kernel.checkStaleVmas === true) vma.freedAt = new Error('freed').stack
  if (vma.file === null) return
  detachFile(vma)
  vma.file.put()
}

/** Takes a VMA out of the reverse maps of its anon_vmas. */
export function unlinkAnonVmas(vma: Vma): void {
  if (vma.anonVma === null && vma.anonVmaChain.length === 0) return
  for (const anonVma of vma.anonVmaChain) anonVma.vmas.delete(vma)
  vma.anonVmaChain = []
  vma.anonVma = null
}

/** `anon_vma_clone`: `to` gets the chain of `from`. */
export function cloneAnonVmas(to: Vma, from: Vma): void {
  to.anonVma = from.anonVma
  to.anonVmaChain = from.anonVmaChain.slice()
  for (const anonVma of to.anonVmaChain) anonVma.vmas.add(to)
}

/** Shared mappings that may write are counted: write seals are refused while there are any (R-AS-21). */
function mayWriteFile(vma: Vma): boolean {
  return (vma.flags & (VM_SHARED | VM_MAYWRITE)) === (VM_SHARED | VM_MAYWRITE)
}

function attachFile(vma: Vma): void {
  const { mapping } = vma.file!
  mapping.mappers.add(vma)
  if (mayWriteFile(vma)) mapping.writableMappings++
}

function detachFile(vma: Vma): void {
  const { mapping } = vma.file!
  mapping.mappers.delete(vma)
  if (mayWriteFile(vma)) mapping.writableMappings--
}
