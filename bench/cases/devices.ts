/** What each device adds to the pin it makes: registering 512 MiB touched in order, as a multiple of bare pin_user_pages. */
import { UverbsDevice, coreProvider, type RdmaProvider } from '../../src/drivers/infiniband/uverbs.ts'
import { siwProvider } from '../../src/drivers/infiniband/siw-mem.ts'
import { usnicProvider } from '../../src/drivers/infiniband/usnic-uiom.ts'
import { Domain, Iommufd } from '../../src/drivers/iommufd/ioas.ts'
import { IommuGroup } from '../../src/drivers/vfio/group.ts'
import { VfioContainer } from '../../src/drivers/vfio/iommu-type1.ts'
import { VduseDev } from '../../src/drivers/vdpa/vduse-dev.ts'
import { VhostVdpa } from '../../src/drivers/vhost/vdpa.ts'
import { SpaprContainer } from '../../src/arch/powerpc/iommu-api.ts'
import type { Kthread } from '../../src/base/kthread.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { PageArray, pinUserPages } from '../../src/mm/gup.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import { SOL_XDP, XDP_UMEM_REG, XskSocket } from '../../src/net/xsk.ts'
import type { Device } from '../../src/task/device/device.ts'
import type { BenchCase } from '../case.ts'
import { nanoseconds, resident, type Resident } from '../machine.ts'

const BYTES = 512 * 2 ** 20

let machine: Resident | null = null
const theMachine = (): Resident => (machine ??= resident(BYTES, false, '1G'))

/**
 * The machine does other things, too: the quickest of some tries is what the work takes. A try takes milliseconds, and
 * five were not enough where both processors were busy: a device that adds nothing came out at twice the pin.
 */
const TRIES = 20
const quickest = (once: () => number): number => Math.min(...Array.from({ length: TRIES }, once))

/** ns/page of pin_user_pages alone. */
function barePin(): number {
  const { process, address, pages } = theMachine()
  const { kernel, mm } = process
  const array = new PageArray(pages)
  const guard = mm!.mmapLock.tryRead()!
  const time = nanoseconds(() => {
    process.run(pinUserPages(kernel, guard, address, pages, FOLL_WRITE | FOLL_LONGTERM, array))
  })
  guard.release()
  unpinUserPages(kernel, array, pages)
  return time / pages
}

interface Registration {
  readonly name: string
  /** the devices, ready, and the request that is timed */
  prepare(k: Kernel, address: number): { devices: readonly Device[]; request: Kthread<number> }
}

function rdma(provider: RdmaProvider): Registration {
  return {
    name: `ibv_reg_mr (${provider.name})`,
    prepare(k, start) {
      const device = new UverbsDevice(k, provider)
      return { devices: [device], request: device.regMr({ start, length: BYTES, access: 1 }) }
    },
  }
}

function* vfioMap(group: IommuGroup, container: VfioContainer, vaddr: number): Kthread<number> {
  yield* group.setContainer(container)
  yield* container.setIommu('type1v2')
  return yield* container.mapDma({ flags: 3, vaddr, iova: 0, size: BYTES })
}

function* iommufdMap(device: Iommufd, userVa: number): Kthread<number> {
  const ioas = yield* device.ioasAlloc()
  yield* device.attach(ioas, new Domain())
  return yield* device.ioasMap({ flags: 6, ioas, userVa, length: BYTES })
}

function* vhostMap(device: VhostVdpa, uaddr: number): Kthread<number> {
  yield* device.setOwner()
  return yield* device.write({ type: 'update', iova: 0, size: BYTES, uaddr, perm: 3 })
}

const registrations: readonly Registration[] = [
  rdma(coreProvider),
  rdma(siwProvider()),
  rdma(usnicProvider()),
  {
    name: 'VFIO_IOMMU_MAP_DMA',
    prepare(k, address) {
      const [group, device] = [new IommuGroup(k), new VfioContainer(k)]
      return { devices: [group, device], request: vfioMap(group, device, address) }
    },
  },
  {
    name: 'IOMMU_IOAS_MAP',
    prepare(k, address) {
      const device = new Iommufd(k)
      return { devices: [device], request: iommufdMap(device, address) }
    },
  },
  {
    name: 'XDP_UMEM_REG',
    prepare(k, addr) {
      const device = new XskSocket(k)
      const reg = { addr, len: BYTES, chunkSize: PAGE_SIZE }
      return { devices: [device], request: device.setsockopt(SOL_XDP, XDP_UMEM_REG, reg, 32) }
    },
  },
  {
    name: 'vhost-vdpa update',
    prepare(k, address) {
      const device = new VhostVdpa(k)
      return { devices: [device], request: vhostMap(device, address) }
    },
  },
  {
    name: 'VDUSE_IOTLB_REG_UMEM',
    prepare(k, uaddr) {
      const device = new VduseDev(k, { bounceSize: BYTES })
      return { devices: [device], request: device.regUmem({ uaddr, iova: 0, size: BYTES }) }
    },
  },
  {
    name: 'SPAPR_REGISTER_MEMORY',
    prepare(k, vaddr) {
      const device = new SpaprContainer(k)
      return { devices: [device], request: device.registerMemory({ vaddr, size: BYTES }) }
    },
  },
]

export const cases: BenchCase[] = registrations.map(({ name, prepare }) => ({
  name: `${name}, 512 MiB, against bare pin_user_pages`,
  unit: 'ns/page',
  limit: 2,
  // the other side is the engine, too: what is compared is the device with the pin it makes
  // oxlint-disable-next-line require-await -- a case is asynchronous
  async native() {
    return quickest(barePin)
  },
  // oxlint-disable-next-line require-await -- as above
  async engine() {
    const { process, address, pages } = theMachine()
    const { kernel } = process
    return quickest(() => {
      let result = 0
      const { devices, request } = process.run(preparing(() => prepare(kernel, address)))
      const time = nanoseconds(() => {
        result = process.run(request)
      })
      process.run(preparing(() => devices.forEach(({ file }) => file.put())))
      kernel.settle()
      if (result < 0) throw new Error(`${name}: ${result}`)
      return time / pages
    })
  },
}))

/** Runs code that does not sleep as the process. */
// oxlint-disable-next-line require-yield -- see above
function* preparing<T>(body: () => T): Kthread<T> {
  return body()
}
