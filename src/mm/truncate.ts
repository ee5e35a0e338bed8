import { EBADF, EFBIG, EINVAL, EOPNOTSUPP, EPERM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, pageAlign } from '../base/units.ts'
import { PG_DIRTY } from '../memory/page-flags.ts'
import { dirtyBlocks, isDirtyBlock } from './dirty-blocks.ts'
import {
  F_SEAL_FUTURE_WRITE,
  F_SEAL_GROW,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  type AddressSpace,
  type OpenFile,
} from './file.ts'
import { splitAtBorders } from './file-folio.ts'
import { newCachedPage, pageCacheRemove } from './filemap.ts'
import { mappingReferences } from './gup-grab.ts'
import { punchHugetlb, truncateHugetlb } from './hugetlb.ts'
import type { Kernel } from './kernel.ts'
import { resizeSecretmem } from './secretmem.ts'
import { shmemFreeSwap, shmemSwapIn } from './shmem-swap.ts'
import { MAX_FILE_BYTES, isOnDisk, storageOf, type FileStorage } from './storage.ts'
import { zapRangeAtOnce } from './zap.ts'

/**
 * `unmap_mapping_range`: removes pages [startIndex, endIndex) (4 KiB units) of a file from every address
 * space that maps them. Needs no `mmap_lock`.
 * @param evenCows private copies too
 */
export function* unmapMappingRange(
  k: Kernel,
  mapping: AddressSpace,
  startIndex: number,
  endIndex: number,
  evenCows: boolean,
): Kthread<void> {
  for (const vma of mapping.mappers) {
    if (k.exploring) yield PREEMPT
    const { mm } = vma
    if (vma.freed || mm === null) continue
    const first = Math.max(startIndex, vma.pgoff)
    const last = Math.min(endIndex, vma.pgoff + vma.pages)
    if (first >= last) continue
    const from = vma.start + (first - vma.pgoff) * PAGE_SIZE
    const to = vma.start + (last - vma.pgoff) * PAGE_SIZE
    zapRangeAtOnce(k, mm, vma, from, to, evenCows ? 'truncate' : 'punch')
  }
}

/** Zeroes bytes [from, to) of the file where they are cached; what a disk has of them is read in for it. */
export function zeroBytes(k: Kernel, mapping: AddressSpace, from: number, to: number): void {
  const storage = isOnDisk(mapping) ? storageOf(k, mapping) : null
  for (let at = from; at < to;) {
    const offset = at % PAGE_SIZE
    const length = Math.min(PAGE_SIZE - offset, to - at)
    const index = Math.floor(at / PAGE_SIZE)
    let pfn = mapping.swapped.has(index) ? shmemSwapIn(k, mapping, index) : mapping.pages.get(index)
    if (pfn === 0 && storage?.has(index) === true) pfn = newCachedPage(k, mapping, index)
    // a page of a hole shows zeros as it is, and gets no place on the disk for it
    const { frames } = k.memory
    const hole = storage !== null && !storage.has(index) && !isDirtyBlock(k, mapping, index)
    if (pfn !== 0 && !hole) {
      k.memory.contents.write(pfn, offset, new Uint8Array(length))
      // a memory file's page, too: it must not be dropped for having been read only
      dirtyBlocks(k, mapping, frames.head(pfn), index, index + 1)
    }
    at += length
  }
}

/**
 * What the last page has beyond the end of the file is zero from now on: a disk file is about to grow over it.
 * @rule R-DIO-10
 */
export function zeroTail(k: Kernel, mapping: AddressSpace): void {
  zeroBytes(k, mapping, mapping.size, pageAlign(mapping.size))
}

/** Takes whole folios of [start, end) out of the cache; one that sticks out is only zeroed inside. */
function removePages(k: Kernel, mapping: AddressSpace, start: number, end: number): void {
  const { frames } = k.memory
  mapping.pages.forEach(
    (index, pfn) => {
      const first = index - (pfn - frames.head(pfn))
      if (first >= start && first + frames.nrPages(pfn) <= end) pageCacheRemove(k, mapping, index)
      else k.memory.contents.clear(pfn)
    },
    start,
    end,
  )
  shmemFreeSwap(k, mapping, start, end)
}

/** Blocks [start, end) lose their place; what is cached of them belongs to a folio that could not be split. */
function freeBlocks({ pages }: AddressSpace, storage: FileStorage, start: number, end: number): void {
  storage.free(start, end)
  pages.forEach((index) => storage.leaveUnsure(index, index + 1), start, end)
}

/** What is cached of a disk file behind a size that it grows to, bytes: of a folio that began within it. */
function* dropBehind(k: Kernel, mapping: AddressSpace, size: number): Kthread<void> {
  const firstHole = Math.ceil(size / PAGE_SIZE)
  yield* unmapMappingRange(k, mapping, firstHole, Number.MAX_SAFE_INTEGER, true)
  splitAtBorders(k, mapping, size, Infinity)
  removePages(k, mapping, firstHole, Number.MAX_SAFE_INTEGER)
}

/**
 * ftruncate(2), `newSize` in bytes.
 * @returns 0, -EINVAL (not open for writing), else as `truncateFile`
 * @rule R-FLT-74
 */
export function* ftruncate(k: Kernel, file: OpenFile, newSize: number): Kthread<number> {
  if (file.writable) return yield* truncateFile(k, file.mapping, newSize)
  return refuse(k.current, EINVAL, 'R-FLT-74', { why: 'the file is not open for writing' })
}

/**
 * fallocate(2) with FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, bytes.
 * @returns 0, -EINVAL (an empty range), -EBADF (not open for writing), else as `punchHole`
 * @rule R-FLT-75
 */
export function* fallocateHole(k: Kernel, file: OpenFile, start: number, length: number): Kthread<number> {
  if (file.writable || start < 0 || length <= 0) return yield* punchHole(k, file.mapping, start, length)
  return refuse(k.current, EBADF, 'R-FLT-75', { why: 'the file is not open for writing' })
}

/**
 * A file's size changes. Shorter: unmaps what lies beyond from everybody, private copies included, and drops the
 * pages; pinned ones live on without a file. Longer: only the size changes. `newSize` in bytes.
 * @returns 0 or -errno
 * @rule R-FLT-74
 */
export function* truncateFile(k: Kernel, mapping: AddressSpace, newSize: number): Kthread<number> {
  // @rule R-SEAL-2
  const sealed = newSize < mapping.size ? F_SEAL_SHRINK : newSize > mapping.size ? F_SEAL_GROW : 0
  // a size that huge pages do not have is refused first
  const odd = mapping.kind.hugetlb && newSize % mapping.pageSize !== 0
  if ((mapping.seals & sealed) !== 0 && !odd)
    return refuse(k.current, EPERM, 'R-SEAL-2', {
      why: 'the memfd is sealed against this change of its size',
    })
  if (mapping.kind.hugetlb) return truncateHugetlb(k, mapping, newSize)
  if (mapping.kind.secretmem) return resizeSecretmem(k, mapping, newSize)
  const oldSize = mapping.size
  const storage = isOnDisk(mapping) ? storageOf(k, mapping) : null
  if (storage !== null && newSize > oldSize && k.release.fault.growingZeroesTail) zeroTail(k, mapping)
  mapping.size = newSize
  if (storage !== null) storage.end = newSize
  // a disk file loses what is cached behind its end whatever it grows to
  if (newSize > oldSize || (newSize === oldSize && storage === null)) {
    if (storage !== null) yield* dropBehind(k, mapping, newSize)
    return 0
  }
  const firstHole = Math.ceil(newSize / PAGE_SIZE)
  yield* unmapMappingRange(k, mapping, firstHole, Number.MAX_SAFE_INTEGER, true)
  // what is zeroed is dirty, and a dirty folio of a disk file cannot be split
  if (storage !== null) splitAtBorders(k, mapping, newSize, Infinity)
  if (newSize % PAGE_SIZE !== 0) zeroBytes(k, mapping, newSize, firstHole * PAGE_SIZE)
  if (storage === null) splitAtBorders(k, mapping, newSize, Infinity)
  removePages(k, mapping, firstHole, Number.MAX_SAFE_INTEGER)
  // @rule R-DIO-14
  if (storage !== null) freeBlocks(mapping, storage, firstHole, Infinity)
  // a private copy may have been made from a page between the first pass and its removal
  yield* unmapMappingRange(k, mapping, firstHole, Number.MAX_SAFE_INTEGER, true)
  return 0
}

/**
 * A hole in a file: drops the whole pages of [start, start + length) and zeroes the
 * rest; private copies stay mapped. Nothing happens beyond the end of a disk file. Bytes.
 * @returns 0 or -errno
 * @rule R-FLT-75
 */
export function* punchHole(k: Kernel, mapping: AddressSpace, start: number, length: number): Kthread<number> {
  if (start < 0 || length <= 0) return refuse(k.current, EINVAL, 'R-FLT-75', { why: 'the hole is empty' })
  if ((mapping.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0) {
    return refuse(k.current, EPERM, 'R-FLT-75', { why: 'the memfd is sealed against writing' })
  }
  if (mapping.kind.hugetlb) return punchHugetlb(k, mapping, start, length)
  if (mapping.kind.secretmem)
    return refuse(k.current, EOPNOTSUPP, 'R-AS-93', { why: 'secret memory has no holes' })
  if (isOnDisk(mapping) && start + length > MAX_FILE_BYTES)
    return refuse(k.current, EFBIG, 'R-FLT-75', { why: 'the hole goes beyond what a file can hold' })
  if (isOnDisk(mapping) && start >= mapping.size) return 0
  // what a disk file has of its last page beyond its end goes with the page
  const toEnd = mapping.kind.canWriteback && start + length > mapping.size
  const end = toEnd ? pageAlign(mapping.size) : start + length
  const first = Math.ceil(start / PAGE_SIZE)
  const last = Math.floor(end / PAGE_SIZE)
  // a hole that ends inside the first page of the file unmaps everything from there on
  if (last === 0 && (mapping.kind.shmem || k.release.fault.holeInFirstPageUnmapsDiskFile)) {
    yield* unmapMappingRange(k, mapping, first, Number.MAX_SAFE_INTEGER, false)
  }
  // as truncateFile does
  const splitsFirst = isOnDisk(mapping)
  if (splitsFirst) {
    if (first < last) yield* unmapMappingRange(k, mapping, first, last, false)
    storageOf(k, mapping)
    splitAtBorders(k, mapping, start, end)
  }
  if (first > last) {
    zeroBytes(k, mapping, start, end)
    if (!splitsFirst) splitAtBorders(k, mapping, start, end)
    return 0
  }
  zeroBytes(k, mapping, start, first * PAGE_SIZE)
  zeroBytes(k, mapping, last * PAGE_SIZE, end)
  if (!splitsFirst) {
    if (first < last) yield* unmapMappingRange(k, mapping, first, last, false)
    splitAtBorders(k, mapping, start, end)
  }
  if (first === last) return 0
  removePages(k, mapping, first, last)
  if (splitsFirst) freeBlocks(mapping, storageOf(k, mapping), first, last)
  return 0
}

/**
 * `invalidate_inode_pages2_range`: takes pages [start, end) of a file out of its cache and out of every mapping,
 * so that they are read from the disk again. Private copies stay; so does, without a file, a page that somebody
 * holds. Whole folios go. What is dirty has been written before.
 * @rule R-DIO-6
 */
export function* invalidatePages(
  k: Kernel,
  mapping: AddressSpace,
  start: number,
  end: number,
): Kthread<void> {
  const { frames } = k.memory
  yield* unmapMappingRange(k, mapping, start, end, false)
  const heads = new Set<number>()
  mapping.pages.forEach((_, pfn) => heads.add(frames.head(pfn)), start, end)
  for (const head of heads) {
    const index = frames.index[head]!
    if (frames.isLarge(head)) yield* unmapMappingRange(k, mapping, index, index + frames.nrPages(head), false)
    pageCacheRemove(k, mapping, index)
  }
}

/**
 * `invalidate_mapping_pages`, POSIX_FADV_DONTNEED: of pages [start, end) of a disk file those leave the cache that
 * are clean and that nobody maps or holds; of a large folio all or none.
 * @rule R-DIO-12
 */
export function dropIdlePages(k: Kernel, mapping: AddressSpace, start: number, end: number): void {
  if (!mapping.kind.canWriteback) return
  const { frames } = k.memory
  mapping.pages.forEach(
    (index, pfn) => {
      const head = frames.head(pfn)
      const first = frames.index[head]!
      if (first < start || first + frames.nrPages(head) > end) return
      const idle = frames.totalMapcount(head) === 0 && frames.refcount[head] === mappingReferences(k, head)
      if (idle && !frames.has(head, PG_DIRTY)) pageCacheRemove(k, mapping, index)
    },
    start,
    end,
  )
}
