import { ENOMEM } from '../base/errno.ts'
import { PAGE_SIZE } from '../base/units.ts'
import {
  PG_DIRTY,
  PG_HUGETLB,
  PG_LOCKED,
  PG_LRU,
  PG_PRIVATE,
  PG_SECRETMEM,
  PG_SWAPBACKED,
  PG_UPTODATE,
} from '../memory/page-flags.ts'
import { forgetBlocks } from './dirty-blocks.ts'
import { AddressSpace, OpenFile, type FileAccess, type FileKind } from './file.ts'
import type { Kernel } from './kernel.ts'
import { diskBytes, isOnDisk, storageOf } from './storage.ts'

export interface CreateFileOptions {
  /** as /proc/PID/maps prints it */
  path: string
  /** i_size in bytes */
  size: number
  /** opened for reading; default true */
  readable?: boolean
  /** opened for writing; default true */
  writable?: boolean
  /** O_DIRECT; default false */
  direct?: boolean
  /** bytes of one page-cache entry; default 4096 */
  pageSize?: number
}

/**
 * A new file with nothing in its cache, opened once. When the last open file of it goes the cache is
 * dropped and the file forgotten.
 */
export function createFile(k: Kernel, kind: FileKind, options: CreateFileOptions): OpenFile {
  const { path, size, readable = true, writable = true, direct = false, pageSize = PAGE_SIZE } = options
  const mapping = new AddressSpace(k.nextId(), kind, size, pageSize)
  k.mappings.set(mapping.id, mapping)
  return openAgain(k, mapping, path, { readable, writable, direct })
}

/** Opens a file that is open already: the same pages, another open file (R-AS-126). */
export function openAgain(k: Kernel, mapping: AddressSpace, path: string, access: FileAccess): OpenFile {
  mapping.opens++
  return new OpenFile(mapping, path, access, () => {
    if (--mapping.opens > 0) return
    mapping.pages.forEach((index) => pageCacheRemove(k, mapping, index))
    for (const slot of mapping.swapped.values()) k.swap.free(slot)
    mapping.swapped.clear()
    k.committed -= mapping.committed
    k.mappings.delete(mapping.id)
  })
}

/** References the page cache holds on a folio. */
function cacheReferences(k: Kernel, head: number): number {
  const { frames } = k.memory
  if (!frames.has(head, PG_HUGETLB)) return frames.nrPages(head)
  return k.release.fault.hugetlbCachePerPage ? frames.nrPages(head) : 1
}

/**
 * `filemap_add_folio`: puts a folio into the cache of a file at `index` (hugetlb: in units of its page
 * size). The cache takes references of its own (R-FLT-1); the caller keeps his.
 */
export function pageCacheInsert(k: Kernel, mapping: AddressSpace, index: number, pfn: number): void {
  const { frames } = k.memory
  const head = frames.head(pfn)
  const entries = frames.has(head, PG_HUGETLB) ? 1 : frames.nrPages(head)
  for (let i = 0; i < entries; i++) {
    mapping.pages.set(index + i, head + i)
    frames.mapping[head + i] = mapping.id
    frames.index[head + i] = index + i
  }
  frames.refcount[head]! += cacheReferences(k, head)
  if (mapping.kind.privateData) {
    frames.refcount[head]!++
    frames.set(head, PG_PRIVATE)
  }
}

/**
 * `filemap_remove_folio`: takes the whole folio at an index out of the cache; clean afterwards, and gone
 * unless somebody else holds it.
 */
export function pageCacheRemove(k: Kernel, mapping: AddressSpace, index: number): void {
  const { frames } = k.memory
  const pfn = mapping.pages.get(index)
  if (pfn === 0) return
  // what only the cache has shown so far must be found again
  if (mapping.opens > 0 && isOnDisk(mapping)) storageOf(k, mapping)
  const head = frames.head(pfn)
  const entries = frames.has(head, PG_HUGETLB) ? 1 : frames.nrPages(head)
  const first = index - (pfn - head)
  let references = cacheReferences(k, head)
  for (let i = 0; i < entries; i++) {
    mapping.pages.delete(first + i)
    frames.mapping[head + i] = 0
  }
  if (frames.has(head, PG_PRIVATE)) references++
  frames.clear(head, PG_PRIVATE | PG_DIRTY)
  k.memory.put(head, references)
}

/**
 * Allocates a page into the cache of a file, as its kind wants it, with what the disk holds of it, up to date
 * and with no reference but the cache's.
 * @returns the pfn, 0 when memory is exhausted
 */
export function newCachedPage(k: Kernel, mapping: AddressSpace, index: number): number {
  const { kind } = mapping
  const bytes = diskBytes(mapping, index)
  const pfn = k.memory.allocFolio(0, { movable: !kind.secretmem && !k.current.memallocPin })
  if (pfn === 0) return 0
  pageCacheInsert(k, mapping, index, pfn)
  if (bytes !== null) k.memory.contents.write(pfn, 0, bytes)
  k.memory.frames.set(
    pfn,
    PG_UPTODATE | (kind.secretmem ? PG_SECRETMEM : PG_LRU) | (kind.shmem ? PG_SWAPBACKED : 0),
  )
  k.memory.put(pfn)
  return pfn
}

/**
 * Allocates a large folio into the cache of a disk file, where none of its pages is cached yet.
 * @param index page index of its first page, a multiple of its size
 * @param order of two, pages
 * @returns the pfn of its head, 0 when there is no room for one of this size
 */
export function newCachedFolio(k: Kernel, mapping: AddressSpace, index: number, order: number): number {
  const { frames, contents } = k.memory
  const pages = 1 << order
  const bytes = Array.from({ length: pages }, (_, i) => diskBytes(mapping, index + i))
  const head = k.memory.allocFolio(order, { movable: !k.current.memallocPin })
  if (head === 0) return 0
  for (let i = 0; i < pages; i++) {
    frames.set(head + i, PG_UPTODATE | PG_LRU)
    if (bytes[i] !== null) contents.write(head + i, 0, bytes[i]!)
  }
  pageCacheInsert(k, mapping, index, head)
  forgetBlocks(mapping, index, pages)
  k.memory.put(head)
  return head
}

/**
 * Brings pages [start, end) of a file into its cache, as read(2) or readahead would.
 * @returns 0 or -ENOMEM
 */
export function readIntoCache(k: Kernel, mapping: AddressSpace, start: number, end: number): number {
  for (let index = start; index < end; index++) {
    if (mapping.pages.get(index) === 0 && newCachedPage(k, mapping, index) === 0) return -ENOMEM
  }
  return 0
}

/** Begins to read a page from slow storage: cached, locked, not up to date. 0 when memory is exhausted. */
export function beginRead(k: Kernel, mapping: AddressSpace, index: number): number {
  const pfn = newCachedPage(k, mapping, index)
  if (pfn !== 0) {
    k.memory.frames.clear(pfn, PG_UPTODATE)
    k.memory.frames.set(pfn, PG_LOCKED)
  }
  return pfn
}

/** The page has been read: up to date and unlocked. */
export function endRead(k: Kernel, pfn: number): void {
  k.memory.frames.set(pfn, PG_UPTODATE)
  k.memory.frames.clear(pfn, PG_LOCKED)
}

/** Completes every transfer in progress on a file with `slowIo` and wakes those who wait for it. */
export function completeIo(k: Kernel, mapping: AddressSpace): void {
  for (const transfer of mapping.inFlight) transfer.complete()
  mapping.inFlight.clear()
  mapping.pages.forEach((_, pfn) => {
    if (k.memory.frames.has(pfn, PG_LOCKED) && !k.memory.frames.has(pfn, PG_UPTODATE)) endRead(k, pfn)
  })
  mapping.io.wakeAll()
}
