import { EINVAL } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { AddressSpace, HUGETLBFS, OpenFile, type FileKind } from './file.ts'
import { pageCacheRemove } from './filemap.ts'
import { hugetlbPool, type HugetlbSubpool } from './hugetlb-pool.ts'
import { HugetlbFile, hugetlbFile, hugetlbReserveFile, pagesPerHuge } from './hugetlb-reserve.ts'
import { unmapHugetlb } from './hugetlb-map.ts'
import { unshareHugetlbTable } from './hugetlb-share.ts'
import type { Kernel } from './kernel.ts'
import { HugePmd, pmdIndex } from './page-table.ts'

export interface HugetlbFileOptions {
  /** bytes, a multiple of the page size */
  readonly size: number
  /** bytes; 2 MiB or 1 GiB */
  readonly pageSize: number
  /** as /proc/PID/maps prints it */
  readonly name: string
  /** false: the pages of the file are promised now (SysV); true: by each mapping (mmap, memfd) */
  readonly noreserve: boolean
  /** limit of the mount it lies on */
  readonly subpool?: HugetlbSubpool
  /** default HUGETLBFS */
  readonly kind?: FileKind
  /** opened for reading; default true */
  readonly readable?: boolean
  /** opened for writing; default true */
  readonly writable?: boolean
}

/**
 * A new hugetlb file: what stands behind mmap(MAP_HUGETLB), memfd_create(MFD_HUGETLB) and SHM_HUGETLB.
 * Its last reference drops its pages and reservations.
 * @returns the open file; with `noreserve: false` -ENOMEM when the pool cannot promise its pages
 * @throws Unmodelled for page sizes other than 2 MiB and 1 GiB
 * @rule R-HUGE-58
 */
export function hugetlbFileSetup(
  k: Kernel,
  options: HugetlbFileOptions & { readonly noreserve: true },
): OpenFile
export function hugetlbFileSetup(k: Kernel, options: HugetlbFileOptions): OpenFile | number
export function hugetlbFileSetup(k: Kernel, options: HugetlbFileOptions): OpenFile | number {
  const pool = hugetlbPool(k, options.pageSize)
  const mapping = new AddressSpace(k.nextId(), options.kind ?? HUGETLBFS, options.size, options.pageSize)
  mapping.hugetlb = new HugetlbFile(pool, options.subpool ?? null)
  if (!options.noreserve) {
    const error = hugetlbReserveFile(k, mapping, 0, options.size / options.pageSize)
    if (error < 0) return error
  }
  k.mappings.set(mapping.id, mapping)
  const { readable = true, writable = true } = options
  return new OpenFile(mapping, options.name, { readable, writable }, () => {
    evictHugetlb(k, mapping)
  })
}

/** The inode goes: its pages leave the cache, its reservations the pool. */
function evictHugetlb(k: Kernel, mapping: AddressSpace): void {
  removeHugetlbPages(k, mapping, 0, Infinity, true)
  k.mappings.delete(mapping.id)
}

/**
 * ftruncate: pages beyond the new end leave the cache and every mapping; private copies there go too, and marks
 * of userfaultfd. A pinned page stays allocated until it is unpinned.
 * @param newSize bytes
 * @returns 0, or -EINVAL when the size is not a multiple of the page size
 * @rule R-HUGE-51
 */
export function truncateHugetlb(k: Kernel, mapping: AddressSpace, newSize: number): number {
  if (newSize % mapping.pageSize !== 0) {
    return refuse(k.current, EINVAL, 'R-HUGE-41', { why: 'the size is not a multiple of the huge page size' })
  }
  mapping.size = newSize
  // also where the file grows: a mapping that may not be written reserves pages beyond its end
  const first = newSize / mapping.pageSize
  unmapHugetlbRange(k, mapping, first, Infinity, false)
  removeHugetlbPages(k, mapping, first, Infinity, true)
  return 0
}

/**
 * fallocate(PUNCH_HOLE): whole huge pages inside the range leave the cache and the mappings that show
 * them, private copies included. Parts of huge pages at the edges are cleared in place.
 * @param start bytes
 * @param length bytes
 * @rule R-HUGE-51
 */
export function punchHugetlb(k: Kernel, mapping: AddressSpace, start: number, length: number): number {
  const { pageSize } = mapping
  const end = Math.min(start + length, mapping.size)
  const first = Math.ceil(start / pageSize)
  const last = Math.floor(end / pageSize)
  zeroBytes(k, mapping, start, Math.min(end, first * pageSize))
  if (last >= first) zeroBytes(k, mapping, last * pageSize, end)
  if (first < last) {
    unmapHugetlbRange(k, mapping, first, last, true)
    removeHugetlbPages(k, mapping, first, last, false)
  }
  return 0
}

function zeroBytes(k: Kernel, mapping: AddressSpace, from: number, to: number): void {
  for (let at = from; at < to;) {
    const offset = at % PAGE_SIZE
    const length = Math.min(PAGE_SIZE - offset, to - at)
    const head = mapping.pages.get(Math.floor(at / mapping.pageSize))
    if (head !== 0) {
      const pfn = head + Math.floor((at % mapping.pageSize) / PAGE_SIZE)
      k.memory.contents.write(pfn, offset, new Uint8Array(length))
    }
    at += length
  }
}

function removeHugetlbPages(
  k: Kernel,
  mapping: AddressSpace,
  first: number,
  end: number,
  andPromises: boolean,
): void {
  const { reserved, pool, subpool } = hugetlbFile(k, mapping)
  mapping.pages.forEach(
    (index) => {
      reserved.delete(index)
      pageCacheRemove(k, mapping, index)
    },
    first,
    end,
  )
  // a hole takes back only what had been handed out; the rest of the file stays promised
  if (!andPromises) return
  let unspent = 0
  for (const index of reserved) {
    if (index < first || index >= end) continue
    reserved.delete(index)
    unspent++
  }
  pool.unreserve(unspent)
  subpool?.give(unspent)
}

/** Removes the entries of every mapping of a file range, private copies as well. */
function unmapHugetlbRange(
  k: Kernel,
  mapping: AddressSpace,
  first: number,
  end: number,
  keepsMarkers: boolean,
): void {
  for (const vma of mapping.mappers) {
    const { mm } = vma
    if (mm === null) continue
    const { pageSize } = mapping
    const parts = pageSize / PMD_SIZE
    const base = Math.floor(vma.pgoff / pagesPerHuge(vma))
    const from = Math.max(0, first - base)
    const to = Math.min((vma.end - vma.start) / pageSize, end - base)
    if (from >= to) continue
    const lowest = pmdIndex(vma.start)
    const limit = lowest + to * parts
    for (
      let i = mm.pageTable.nextPmd(lowest + from * parts, limit);
      i >= 0;
      i = mm.pageTable.nextPmd(i + 1, limit)
    ) {
      if (unshareHugetlbTable(mm, vma, i)) continue
      const entry = mm.pageTable.pmd(i)
      if (!(entry instanceof HugePmd)) continue
      unmapHugetlb(k, mm, vma, i, keepsMarkers)
      k.observer?.({ type: 'zap', mm: mm.id, start: i * PMD_SIZE, end: i * PMD_SIZE + pageSize })
    }
  }
}
