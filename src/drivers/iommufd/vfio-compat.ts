import { EINVAL, ENODEV } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { IoPagetable } from './io-pagetable.ts'
import { IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE, Iommufd } from './ioas.ts'

const READ = 1
const WRITE = 2
const GET_DIRTY_BITMAP = 1

/** `/dev/vfio/vfio` served by iommufd: ioctls of VFIO on one IO address space. Who maps pays by its mm. */
export class VfioCompat extends Iommufd {
  #ioas: IoPagetable | null = null

  constructor(k: Kernel) {
    super(k, '/dev/vfio/vfio')
    this.accountMode = 'mm'
  }

  /** The first device makes the IO address space. @returns its number */
  *setIommu(): Kthread<number> {
    const id = yield* this.ioasAlloc()
    if (id > 0) this.#ioas = this.ioases.get(id)!
    return id
  }

  #refused(errno: number, why: string): number {
    return refuse(this.kernel.current, errno, 'R-IOMMUFD-14', { why })
  }

  /**
   * VFIO_IOMMU_MAP_DMA. There is no limit of entries.
   * @returns 0 or a negative errno
   * @rule R-IOMMUFD-14
   */
  *mapDma(flags: number, vaddr: number, iova: number, size: number): Kthread<number> {
    if ((flags & ~(READ | WRITE)) !== 0) return this.#refused(EINVAL, 'only READ and WRITE are known here')
    if (this.#ioas === null) return this.#refused(ENODEV, 'there is no IO address space for VFIO')
    const access =
      ((flags & READ) !== 0 ? IOMMU_IOAS_MAP_READABLE : 0) |
      ((flags & WRITE) !== 0 ? IOMMU_IOAS_MAP_WRITEABLE : 0)
    const at = yield* this.mapUser(this.#ioas, vaddr, size, access, iova)
    return at < 0 ? at : 0
  }

  /** VFIO_IOMMU_UNMAP_DMA. @returns bytes, or a negative errno @rule R-IOMMUFD-14 */
  *unmapDma(flags: number, iova: number, size: number): Kthread<number> {
    if ((flags & GET_DIRTY_BITMAP) !== 0) return this.#refused(EINVAL, 'dirty pages are not tracked here')
    if (this.#ioas === null) return this.#refused(ENODEV, 'there is no IO address space for VFIO')
    return yield* this.#ioas.unmap(iova, size)
  }
}
