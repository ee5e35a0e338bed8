import { PAGE_SIZE } from '../base/units.ts'
import { PG_DIRTY } from '../memory/page-flags.ts'
import { forgetBlocks } from './dirty-blocks.ts'
import type { AddressSpace } from './file.ts'
import type { Kernel } from './kernel.ts'
import { HugePmd, PTE_DIRTY, PTE_PRESENT, PTE_WRITE, pmdIndex, pteSlot } from './page-table.ts'
import { isOnDisk, storageOf, storePage } from './storage.ts'
import { VM_SHARED } from './vm-flags.ts'

/**
 * Writes the dirty pages [start, end) of a file that can be written back (msync, fsync, the flusher):
 * they become clean, and so do the ptes that map them, which lose write permission so that the next
 * write is noticed again. Pins do not hold it up (R-GUP-81). What the last page has beyond the end of the
 * file becomes zero on the way. Large folios are written as a whole.
 * @returns folios written
 * @rule R-FLT-42
 * @rule R-DIO-9
 * @rule R-GUP-81
 * @rule R-HUGE-31.4
 */
export function writebackFile(
  k: Kernel,
  mapping: AddressSpace,
  start = 0,
  end = Number.MAX_SAFE_INTEGER,
): number {
  if (!mapping.kind.canWriteback) return 0
  const { frames } = k.memory
  const last = Math.ceil(mapping.size / PAGE_SIZE)
  if (isOnDisk(mapping)) giveUp(k, mapping, Math.max(start, last), end)
  const dirty = new Set<number>()
  let done = 0
  mapping.pages.forEach(
    (_, pfn) => {
      const head = frames.head(pfn)
      if (head === done) return
      done = head
      const first = frames.index[head]!
      // a page beyond the end is written with the folio that begins before it
      if (first >= last) return
      let isDirty = frames.has(head, PG_DIRTY)
      for (let i = 0; i < frames.nrPages(head); i++) isDirty = cleanPtes(mapping, first + i) || isDirty
      if (isDirty) dirty.add(head)
    },
    start,
    end,
  )
  for (const head of dirty) {
    frames.clear(head, PG_DIRTY)
    if (isOnDisk(mapping)) storeFolio(k, mapping, head)
    forgetBlocks(mapping, frames.index[head]!, frames.nrPages(head))
  }
  return dirty.size
}

/**
 * Pages beyond the end, which a write(2) that failed has left there, become clean without being written.
 * @rule R-DIO-13
 */
function giveUp(k: Kernel, mapping: AddressSpace, start: number, end: number): void {
  const { frames } = k.memory
  const last = Math.ceil(mapping.size / PAGE_SIZE)
  const heads = new Set<number>()
  mapping.pages.forEach(
    (index, pfn) => {
      const head = frames.head(pfn)
      // what begins within the file is written
      if (!frames.has(head, PG_DIRTY) || frames.index[head]! < last) return
      // first: what is clean counts as written
      storageOf(k, mapping).loseReserved(index)
      heads.add(head)
    },
    start,
    end,
  )
  for (const head of heads) frames.clear(head, PG_DIRTY)
}

function storeFolio(k: Kernel, mapping: AddressSpace, head: number): void {
  const { contents, frames } = k.memory
  for (let pfn = head; pfn < head + frames.nrPages(head); pfn++) {
    const index = frames.index[pfn]!
    const inFile = mapping.size - index * PAGE_SIZE
    if (inFile <= 0) return
    if (inFile < PAGE_SIZE) contents.write(pfn, inFile, new Uint8Array(PAGE_SIZE - inFile))
    // a hole that has not been written to since stays one
    const isClean = frames.isLarge(head) && mapping.cleanBlocks.has(index)
    if (!isClean) storePage(k, mapping, index, pfn)
  }
}

/** `folio_mkclean`: whether any shared entry of the page was dirty. */
function cleanPtes(mapping: AddressSpace, index: number): boolean {
  let dirty = false
  for (const vma of mapping.mappers) {
    if ((vma.flags & VM_SHARED) === 0 || vma.mm === null) continue
    if (index < vma.pgoff || index >= vma.pgoff + vma.pages) continue
    const address = vma.start + (index - vma.pgoff) * PAGE_SIZE
    const entry = vma.mm.pageTable.pmd(pmdIndex(address))
    if (entry === null) continue
    const slot = pteSlot(address)
    const bits = entry instanceof HugePmd ? entry.bits : entry.bits[slot]!
    if ((bits & PTE_PRESENT) === 0 || (bits & (PTE_DIRTY | PTE_WRITE)) === 0) continue
    dirty ||= (bits & PTE_DIRTY) !== 0
    if (entry instanceof HugePmd) entry.bits = bits & ~(PTE_DIRTY | PTE_WRITE)
    else entry.bits[slot] = bits & ~(PTE_DIRTY | PTE_WRITE)
  }
  return dirty
}
