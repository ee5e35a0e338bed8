import { EACCES, EFAULT, EINVAL } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import type { Unreadable } from '../../mm/iovec.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { kmalloc } from '../../task/device/charge.ts'
import type { VfioContainer } from './iommu-type1.ts'
import type { DirtyBitmap, UnmapDma } from './type1-abi.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import type { DmaList, VfioDma } from './vfio-dma.ts'

export const VFIO_IOMMU_DIRTY_PAGES_FLAG_START = 1
export const VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP = 2
export const VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP = 4

const MAX_BITMAP_BYTES = 256 * 1024 * 1024
const MAX_BITMAP_PAGES = 2 ** 31 - 1

/** `struct vfio_iommu_type1_dirty_bitmap` */
export interface DirtyPages {
  /** default 8 */
  readonly argsz?: number
  /** VFIO_IOMMU_DIRTY_PAGES_FLAG_*, one of them */
  readonly flags: number
  /** with GET_BITMAP */
  readonly iova?: number
  readonly size?: number
  readonly pgsize?: number
  /** filled in: one bit a page */
  readonly bitmap?: Uint8Array
}

/** A bitmap for a dma. @returns 0, -EINVAL when it has too many pages, -ENOMEM */
export function newBitmap(k: Kernel, dma: VfioDma): number {
  if (dma.pages > MAX_BITMAP_PAGES)
    return refuse(k.current, EINVAL, 'R-VFIO-12', { why: 'a mapping has more pages than a bitmap can have' })
  const error = kmalloc(k, 'R-VFIO-12')
  if (error < 0) return error
  dma.bitmap = new Uint8Array(Math.ceil(dma.pages / 8))
  for (const page of dma.pfnList.keys()) dma.setDirty(page)
  return 0
}

export function freeBitmaps(dmas: DmaList): void {
  for (const dma of dmas) dma.bitmap = null
}

/**
 * VFIO_IOMMU_DIRTY_PAGES. The IOMMU does not help: every page of a mapping it has counts as dirty.
 * @returns 0 or a negative errno
 * @rule R-VFIO-12
 */
// oxlint-disable-next-line require-yield -- nothing here sleeps
export function* dirtyPages(container: VfioContainer, request: DirtyPages | Unreadable): Kthread<number> {
  const { kernel: k, dmas } = container
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-VFIO-12', { why })
  if (container.model !== 'type1v2')
    return refused(EACCES, 'version 1 of the driver does not track dirty pages')
  if (request === 'unreadable') return refused(EFAULT, 'the structure cannot be read')
  const { argsz = 8, flags } = request
  if (argsz < 8 || (flags & ~7) !== 0)
    return refused(EINVAL, 'the structure is too short, or has a flag that is not known')
  switch (flags) {
    case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
      return start(container)
    case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
      container.dirtyTracking = false
      freeBitmaps(dmas)
      return 0
    case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
      return getBitmap(container, request, refused)
    default:
      return refused(EINVAL, 'exactly one of START, STOP and GET_BITMAP is asked for')
  }
}

function start(container: VfioContainer): number {
  if (container.dirtyTracking) return 0
  for (const dma of container.dmas) {
    const error = newBitmap(container.kernel, dma)
    if (error === 0) continue
    freeBitmaps(container.dmas)
    return error
  }
  container.dirtyTracking = true
  return 0
}

function getBitmap(
  container: VfioContainer,
  request: DirtyPages,
  refused: (errno: number, why: string) => number,
): number {
  const { iova = 0, size = 0, pgsize = 0, bitmap } = request
  if (!container.dirtyTracking) return refused(EINVAL, 'dirty pages are not tracked')
  const wrong = pgsize !== container.minPage || size === 0 || iova % pgsize !== 0 || size % pgsize !== 0
  if (wrong || bitmap === undefined || bitmap.length * 8 < size / pgsize)
    return refused(EINVAL, 'the page size, the range or the bitmap does not fit')
  const end = iova + size
  for (const dma of container.dmas) {
    if (dma.end <= iova || dma.iova >= end) continue
    if (dma.iova < iova || dma.end > end) return refused(EINVAL, 'the range cuts through a mapping')
    for (let page = 0; page < dma.pages; page++) {
      if (!dma.iommuMapped && (dma.bitmap![page >> 3]! & (1 << (page & 7))) === 0) continue
      const bit = (dma.iova - iova) / pgsize + page
      bitmap[bit >> 3]! |= 1 << (bit & 7)
    }
    // what mediated devices hold may be written again at any time
    dma.bitmap!.fill(0)
    for (const page of dma.pfnList.keys()) dma.setDirty(page)
  }
  return 0
}

/** What UNMAP_DMA is to write dirty pages into. @returns it, or a negative errno @rule R-VFIO-8 */
export function checkBitmap(k: Kernel, { size, bitmap }: UnmapDma, argsz: number): DirtyBitmap | number {
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-VFIO-8', { why })
  if (argsz < 48 || bitmap === undefined) return refused(EINVAL, 'the structure has no room for a bitmap')
  if (bitmap === 'unreadable') return refused(EFAULT, 'the description of the bitmap cannot be read')
  if (bitmap.data === null) return refused(EINVAL, 'the bitmap is no user memory')
  const pages = Math.floor(size / bitmap.pgsize)
  if (pages === 0 || bitmap.size === 0 || bitmap.size > MAX_BITMAP_BYTES || bitmap.size * 8 < pages)
    return refused(EINVAL, 'the bitmap is empty, too long or too short')
  return bitmap
}

/** Dirty pages of a mapping, into a bitmap that begins at `base`. */
export function copyDirty(dma: VfioDma, bitmap: DirtyBitmap, base: number): void {
  const first = (dma.iova - base) / PAGE_SIZE
  for (let page = 0; page < dma.pages; page++) {
    if (!dma.iommuMapped && (dma.bitmap![page >> 3]! & (1 << (page & 7))) === 0) continue
    bitmap.data![(first + page) >> 3]! |= 1 << ((first + page) & 7)
  }
}
