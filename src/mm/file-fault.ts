import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { PG_LOCKED, PG_UPTODATE } from '../memory/page-flags.ts'
import { dirtyFolio } from './dirty-blocks.ts'
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_TRIED,
  FAULT_FLAG_WRITE,
  VM_FAULT_MAJOR,
  VM_FAULT_SIGBUS,
} from './fault-flags.ts'
import { outOfMemory, refuseFault } from './fault-refusal.ts'
import { NEEDS_IO, NEEDS_UNLOCKED } from './fault-sleep.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import {
  FAULT_AROUND_PAGES,
  endsWithin,
  faultAroundStart,
  mapFolioPages,
  slotsOfFolio,
  type FolioSlots,
} from './file-fault-large.ts'
import { maybeWrite, readProt } from './page-prot.ts'
import { readForFault } from './read-ahead.ts'
import { installAnonPage, markerProtection } from './anon-fault.ts'
import { PTE_ACCESSED, PTE_DIRTY, PTE_UFFD_WP, PTE_WRITE, pteSlot, type Leaf } from './page-table.ts'
import { addFilePage, anonVmaPrepare } from './rmap.ts'
import { shmemFault } from './shmem.ts'
import { VM_IO, VM_PFNMAP, VM_SHARED, VM_UFFD_WP, VMH_UFFD_MINOR } from './vm-flags.ts'
import type { Vma } from './vma.ts'
import { makeSharedWritable } from './wp-fault.ts'

/**
 * `do_fault`: nothing is mapped at an address of a file mapping.
 * @param hadTable the leaf was there before the fault; a new one is the caller's to remove when it stays empty
 * @returns VM_FAULT_*, NEEDS_USERFAULT or NEEDS_IO
 * @throws Unmodelled for a driver or file system nobody has classified, vdso and vvar
 * @rule R-FLT-38
 */
export function doFault(
  k: Kernel,
  mm: Mm,
  vma: Vma,
  address: number,
  leaf: Leaf,
  faultFlags: number,
  hadTable: boolean,
): number {
  const faultMethod = vma.file?.mapping.kind.faultMethod
  if (faultMethod !== undefined) return faultMethod(k, mm, vma, address)
  const raw = (vma.flags & (VM_PFNMAP | VM_IO)) !== 0
  if (vma.specialName !== null || (raw && vma.file?.mapping.kind.faultable !== false)) {
    throw new Unmodelled(`a fault in ${vma.backing}`, 'R-FLT-44')
  }
  const unclassified = vma.file?.mapping.kind.unclassified
  if (unclassified !== undefined) throw new Unmodelled(unclassified.what, unclassified.rule)
  if (vma.file === null || !vma.file.mapping.kind.faultable) {
    return refuseFault(k, VM_FAULT_SIGBUS, 'R-FLT-38', vma, address, 'the mapping has no fault handler')
  }
  if ((faultFlags & FAULT_FLAG_WRITE) === 0) return readFault(k, mm, vma, address, leaf, faultFlags, hadTable)
  return (vma.flags & VM_SHARED) === 0
    ? privateWriteFault(k, mm, vma, address, leaf)
    : sharedWriteFault(k, mm, vma, address, leaf)
}

/** @rule R-FLT-39 */
function readFault(
  k: Kernel,
  mm: Mm,
  vma: Vma,
  address: number,
  leaf: Leaf,
  faultFlags: number,
  hadTable: boolean,
): number {
  const { mapping } = vma.file!
  const slot = pteSlot(address)
  const watched = (vma.flags & VM_UFFD_WP) !== 0 || (vma.highFlags & VMH_UFFD_MINOR) !== 0
  const around = mapping.kind.faultAround && !watched
  if (around) {
    faultAround(k, mm, vma, address, leaf, hadTable)
    if (leaf.bits[slot] !== 0) return 0
  }
  const later = around ? notReadyFor(vma, vma.pageIndex(address)) : null
  const code = bringIn(k, vma, address)
  if (code < 0 || (code & ~VM_FAULT_MAJOR) !== 0) return code
  // who may drop the lock for the read begins again afterwards, and finds the neighbours in the cache
  const again = (faultFlags & (FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_TRIED)) === FAULT_FLAG_ALLOW_RETRY
  if (around && again && code === VM_FAULT_MAJOR) {
    faultAround(k, mm, vma, address, leaf, hadTable || leaf.used > 0, later)
    if (leaf.bits[slot] !== 0) return code
  }
  const pfn = mapping.pages.get(vma.pageIndex(address))
  const folio = mapping.kind.shmem ? null : wholeFolio(k, vma, address, leaf, pfn)
  if (folio === null) mapCached(k, mm, vma, leaf, slot, pfn)
  else mapFolioPages(k, mm, vma, leaf, folio.head, folio, 0)
  return code
}

/**
 * `finish_fault`: the large folio of a page where it can be mapped as a whole: table and VMA hold it, no entry stands
 * there, the file has all of it. Who is watched by a userfaultfd gets its page alone.
 * @rule R-HUGE-31.3
 */
function wholeFolio(k: Kernel, vma: Vma, address: number, leaf: Leaf, pfn: number): FolioSlots | null {
  const folio = vma.uffd === null ? slotsOfFolio(k, vma, address, pteSlot(address), pfn) : null
  if (folio === null || !isEmpty(leaf, folio)) return null
  return endsWithin(k, vma.file!.mapping, folio.head) ? folio : null
}

/**
 * The copy of a private write fault: the file page is brought into its cache but not mapped.
 * @rule R-FLT-40
 */
function privateWriteFault(k: Kernel, mm: Mm, vma: Vma, address: number, leaf: Leaf): number {
  anonVmaPrepare(k, vma, mm)
  const copy = k.memory.allocFolio(0, { movable: !k.current.memallocPin })
  if (copy === 0) return outOfMemory(k, 'R-FLT-40', vma, address)
  const code = bringIn(k, vma, address)
  if (code < 0 || (code & ~VM_FAULT_MAJOR) !== 0) {
    k.memory.put(copy)
    return code
  }
  const source = vma.file!.mapping.pages.get(vma.pageIndex(address))
  k.memory.contents.copy(source, copy)
  installAnonPage(k, mm, vma, address, leaf, copy)
  k.observer?.({ type: 'cow', mm: mm.id, address, from: source, to: copy })
  return code
}

/** @rule R-FLT-41 */
function sharedWriteFault(k: Kernel, mm: Mm, vma: Vma, address: number, leaf: Leaf): number {
  const code = bringIn(k, vma, address)
  if (code < 0 || (code & ~VM_FAULT_MAJOR) !== 0) return code
  const slot = pteSlot(address)
  const pfn = vma.file!.mapping.pages.get(vma.pageIndex(address))
  const folio = wholeFolio(k, vma, address, leaf, pfn)
  if (folio !== null) {
    mapFolioPages(k, mm, vma, leaf, folio.head, folio, PTE_DIRTY | maybeWrite(vma))
    dirtyFolio(k, folio.head)
    return code
  }
  mapCached(k, mm, vma, leaf, slot, pfn)
  // under a marker's protection the write is announced when it is tried again
  if ((leaf.bits[slot]! & PTE_UFFD_WP) === 0) makeSharedWritable(k, vma, leaf, slot)
  return code
}

function isEmpty(leaf: Leaf, { from, to }: FolioSlots): boolean {
  for (let slot = from; slot < to; slot++) if (leaf.bits[slot] !== 0) return false
  return true
}

/** `vm_ops->fault`: afterwards the page is in the cache and up to date, unless a code says otherwise. */
function bringIn(k: Kernel, vma: Vma, address: number): number {
  const { mapping } = vma.file!
  const index = vma.pageIndex(address)
  if (isMoving(k, mapping.pages.get(index))) return NEEDS_UNLOCKED
  if (mapping.kind.shmem) return shmemFault(k, vma, address)
  if (index * PAGE_SIZE >= mapping.size) {
    return refuseFault(
      k,
      VM_FAULT_SIGBUS,
      'R-FLT-39',
      vma,
      address,
      'the address lies beyond the end of the file',
    )
  }
  const pfn = mapping.pages.get(index)
  if (pfn !== 0) {
    const { frames } = k.memory
    return frames.has(frames.head(pfn), PG_UPTODATE) ? 0 : NEEDS_IO
  }
  if (!readForFault(k, vma, index)) return outOfMemory(k, 'R-FLT-39', vma, address)
  if (mapping.kind.secretmem) return 0
  return mapping.slowIo ? NEEDS_IO : VM_FAULT_MAJOR
}

/**
 * Neighbours that are not there yet when a fault is tried again whose own page is: a hole takes no time to read,
 * blocks do. null: all that is read comes at once.
 */
function notReadyFor({ file }: Vma, index: number): ReadonlySet<number> | null {
  const { storage, pages } = file!.mapping
  if (storage === null || storage.has(index)) return null
  const later = new Set<number>()
  for (let i = Math.max(0, index - FAULT_AROUND_PAGES); i < index + FAULT_AROUND_PAGES; i++)
    if (pages.get(i) === 0 && storage.has(i)) later.add(i)
  return later
}

/** Locked and up to date: a migration has it. */
function isMoving(k: Kernel, pfn: number): boolean {
  const { frames } = k.memory
  const word = pfn === 0 ? 0 : frames.flags[frames.head(pfn)]!
  return (word & (PG_LOCKED | PG_UPTODATE)) === (PG_LOCKED | PG_UPTODATE)
}

/** @param prot what the entry is made of */
function mapCached(
  k: Kernel,
  mm: Mm,
  vma: Vma,
  leaf: Leaf,
  slot: number,
  pfn: number,
  prot = readProt(vma),
): void {
  addFilePage(k, mm, vma, pfn)
  const wp = markerProtection(leaf, slot)
  const bits = prot | PTE_ACCESSED
  leaf.set(slot, pfn, wp === 0 ? bits : (bits & ~PTE_WRITE) | wp)
}

/** The large folio that the first or last slot of the window shows, where it is mapped as a whole. */
function aroundFolio(k: Kernel, vma: Vma, address: number, slot: number, at: number): FolioSlots | null {
  const { mapping } = vma.file!
  const there = address + (at - slot) * PAGE_SIZE
  const folio = slotsOfFolio(k, vma, there, at, mapping.pages.get(vma.pageIndex(there)))
  return folio !== null && endsWithin(k, mapping, folio.head, true) ? folio : null
}

/**
 * `do_fault_around`: maps the cached pages of the 16-page window around an address. The window is aligned
 * by virtual address; one that would begin before the VMA begins where the VMA does. A folio that sticks out of it at
 * either end is mapped as a whole where that is possible; of a disk file, unless the file's last page is one of it.
 * @param later page indices that are on their way into the cache only
 * @rule R-HUGE-66
 * @rule R-HUGE-31.3
 */
function faultAround(
  k: Kernel,
  mm: Mm,
  vma: Vma,
  address: number,
  leaf: Leaf,
  hadTable: boolean,
  later: ReadonlySet<number> | null = null,
): void {
  const { mapping } = vma.file!
  const { frames } = k.memory
  const slot = pteSlot(address)
  const inVma = Math.floor((address - vma.start) / PAGE_SIZE)
  const begin = faultAroundStart(vma, address)
  const stop = Math.min(begin + FAULT_AROUND_PAGES, PTRS_PER_PTE, slot + vma.pages - inVma)
  const endOfFile = Math.ceil(mapping.size / PAGE_SIZE)
  const firstIndex = vma.pageIndex(address) - slot
  if (firstIndex + begin >= endOfFile) return
  const from = aroundFolio(k, vma, address, slot, begin)?.from ?? begin
  const to = aroundFolio(k, vma, address, slot, stop - 1)?.to ?? stop
  const prot = readProt(vma)
  // the folio at the end of a file does not bring a new page table with it
  let canMap = hadTable || mapping.kind.shmem || !k.release.fault.lastFolioBringsNoTable
  for (let i = from; i < to && firstIndex + i < endOfFile; i++) {
    const pfn = mapping.pages.get(firstIndex + i)
    if (pfn === 0 || later?.has(firstIndex + i) === true) continue
    const head = frames.head(pfn)
    const size = frames.nrPages(head)
    // a large folio of a memory file is mapped beyond the file's end when it is mapped as a whole
    const whole = pfn === head && size <= to - i && mapping.kind.shmem
    const n = whole ? size : Math.min(size - (pfn - head), to - i, endOfFile - firstIndex - i)
    if (n === 1 && leaf.bits[i] !== 0) continue
    if ((frames.flags[head]! & (PG_UPTODATE | PG_LOCKED)) !== PG_UPTODATE) continue
    if (!canMap && firstIndex + i - (pfn - head) + size >= endOfFile) return
    canMap = true
    if (n === 1) mapCached(k, mm, vma, leaf, i, pfn, prot)
    else mapFolioPages(k, mm, vma, leaf, pfn, { head, from: i, to: i + n }, 0)
    i += n - 1
  }
}
