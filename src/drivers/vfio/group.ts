import { EBUSY, EINVAL } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { Device } from '../../task/device/device.ts'
import type { VfioContainer } from './iommu-type1.ts'

/** IOVAs that an IOMMU can use: [start, end) */
export interface IovaWindow {
  readonly start: number
  readonly end: number
}

/** What the hardware of a group can do (device data). */
export interface IommuData {
  /** smallest page the IOMMU maps, bytes; default 4096 */
  readonly minPage?: number
  /** default: everything below 2^48 */
  readonly windows?: readonly IovaWindow[]
}

/** An open `/dev/vfio/N`. While it is in a container it holds that container. */
abstract class Group extends Device {
  container: VfioContainer | null = null
  openDevices = 0

  constructor(k: Kernel) {
    super(k, `/dev/vfio/${k.nextId()}`)
  }

  override forEachReference(): void {
    // what is pinned belongs to the container
  }

  /** VFIO_GROUP_SET_CONTAINER. @returns 0 or a negative errno */
  *setContainer(container: VfioContainer): Kthread<number> {
    if (this.container !== null)
      return refuse(this.kernel.current, EINVAL, 'R-VFIO-9', { why: 'the group is in a container already' })
    const error = yield* container.attach(this as unknown as VfioGroup)
    if (error < 0) return error
    container.file.get()
    this.container = container
    return 0
  }

  /** VFIO_GROUP_UNSET_CONTAINER. @returns 0, -EINVAL, or -EBUSY while a device is open @rule R-VFIO-9 */
  *unsetContainer(): Kthread<number> {
    if (this.container === null)
      return refuse(this.kernel.current, EINVAL, 'R-VFIO-9', { why: 'the group is in no container' })
    if (this.openDevices > 0)
      return refuse(this.kernel.current, EBUSY, 'R-VFIO-9', { why: 'a device of the group is open' })
    yield* this.#leave()
    return 0
  }

  *#leave(): Kthread<void> {
    const { container } = this
    if (container === null) return
    yield* container.detach(this as unknown as VfioGroup)
    this.container = null
    container.file.put()
  }

  protected override *teardown(): Kthread<void> {
    yield* this.#leave()
  }
}

/** A group behind an IOMMU. */
export class IommuGroup extends Group {
  readonly kind = 'iommu'
  readonly minPage: number
  readonly windows: readonly IovaWindow[]

  constructor(k: Kernel, { minPage = PAGE_SIZE, windows = [{ start: 0, end: 2 ** 48 }] }: IommuData = {}) {
    super(k)
    this.minPage = minPage
    this.windows = windows
  }
}

/** A group of a mediated device: no IOMMU, its driver pins pages as it needs them. */
export class MdevGroup extends Group {
  readonly kind = 'mdev'
  /** told that a range is being unmapped: the driver unpins what it has of it */
  dmaUnmap: (iova: number, size: number) => void = () => {}
}

export type VfioGroup = IommuGroup | MdevGroup

/** An open device of a group: holds the group, and with it the container. */
export class VfioDevice extends Device {
  readonly #group: VfioGroup

  constructor(k: Kernel, group: VfioGroup) {
    super(k, `device of ${group.file.path}`)
    this.#group = group
    group.file.get()
    group.openDevices++
  }

  override forEachReference(): void {
    // what is pinned belongs to the container
  }

  // oxlint-disable-next-line require-yield -- nothing here sleeps
  protected override *teardown(): Kthread<void> {
    this.#group.openDevices--
    this.#group.file.put()
  }
}
