import type { Unreadable } from '../../mm/iovec.ts'

export const VFIO_DMA_MAP_FLAG_READ = 1
export const VFIO_DMA_MAP_FLAG_WRITE = 2
export const VFIO_DMA_MAP_FLAG_VADDR = 4
export const VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 1
export const VFIO_DMA_UNMAP_FLAG_ALL = 2
export const VFIO_DMA_UNMAP_FLAG_VADDR = 4

/** `struct vfio_iommu_type1_dma_map` */
export interface MapDma {
  /** default 32 */
  readonly argsz?: number
  /** VFIO_DMA_MAP_FLAG_* */
  readonly flags: number
  readonly vaddr: number
  readonly iova: number
  /** bytes */
  readonly size: number
}

/** `struct vfio_iommu_type1_dma_unmap`; `size` is written back on success */
export interface UnmapDma {
  /** default 24 */
  readonly argsz?: number
  /** VFIO_DMA_UNMAP_FLAG_*; default 0 */
  readonly flags?: number
  readonly iova: number
  size: number
  /** with GET_DIRTY_BITMAP: what `data` points to */
  readonly bitmap?: DirtyBitmap | Unreadable
}

/** `struct vfio_bitmap` with the memory it points to. */
export interface DirtyBitmap {
  readonly pgsize: number
  /** bytes */
  readonly size: number
  /** filled in; null: the pointer is no user memory */
  readonly data: Uint8Array | null
}

export interface Type1Options {
  /** module parameter `dma_entry_limit`, read at open; default 65535 */
  readonly dmaEntryLimit?: number
  /** module parameter `disable_hugepages`: pages are pinned one by one */
  readonly disableHugepages?: boolean
}
