import { PAGE_SIZE } from '../base/units.ts'
import { beginRead, newCachedPage } from './filemap.ts'
import type { Kernel } from './kernel.ts'
import { isOnDisk } from './storage.ts'
import { VM_EXEC, VM_RAND_READ, VM_SEQ_READ } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/** What block devices read ahead unless told otherwise, 128 KiB, in pages. */
const READ_AHEAD_PAGES = 32

/**
 * `do_sync_mmap_readahead`: a fault at page `index` of a file finds it missing from the cache. It is read, and of a
 * disk file the pages around it that are missing, too.
 * @returns false: there is no memory for the page itself
 * @rule R-FLT-39.3
 */
export function readForFault(k: Kernel, vma: Vma, index: number): boolean {
  const { mapping } = vma.file!
  const slow = mapping.slowIo && !mapping.kind.secretmem
  const read = slow ? beginRead : newCachedPage
  if (read(k, mapping, index) === 0) return false
  if (!isOnDisk(mapping)) return true
  const { start, end } = readAround(k, vma, index)
  const endOfFile = Math.ceil(mapping.size / PAGE_SIZE)
  for (let i = start; i < end && i < endOfFile; i++) {
    if (mapping.pages.get(i) === 0 && read(k, mapping, i) === 0) break
  }
  return true
}

/** Pages [start, end) of a disk file that are read for one of them. */
function readAround(k: Kernel, vma: Vma, index: number): { start: number; end: number } {
  const ahead = index + READ_AHEAD_PAGES
  if ((vma.flags & VM_SEQ_READ) !== 0) return { start: index, end: ahead }
  if ((vma.flags & VM_EXEC) !== 0 && k.release.fault.codeIsReadAhead)
    return { start: index, end: Math.min(ahead, vma.pgoff + vma.pages) }
  if ((vma.flags & VM_RAND_READ) !== 0) return { start: index, end: index + 1 }
  const start = Math.max(0, index - READ_AHEAD_PAGES / 2)
  return { start, end: start + READ_AHEAD_PAGES }
}
