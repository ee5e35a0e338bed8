import { VhostVdpa, VHOST_ACCESS_RO, VHOST_ACCESS_RW } from '../drivers/vhost/vdpa.ts'
import { VduseDev } from '../drivers/vdpa/vduse-dev.ts'
import {
  IB_ACCESS_LOCAL_WRITE,
  IB_ACCESS_REMOTE_READ,
  IB_ACCESS_REMOTE_WRITE,
} from '../drivers/infiniband/access.ts'
import { UverbsDevice } from '../drivers/infiniband/uverbs.ts'
import {
  Domain,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  openIommufd,
} from '../drivers/iommufd/ioas.ts'
import { IommuGroup } from '../drivers/vfio/group.ts'
import {
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VfioContainer,
} from '../drivers/vfio/iommu-type1.ts'
import type { Snapshot } from '../host/snapshot.ts'
import { MADV_DONTFORK } from '../mm/mman.ts'
import { madvise } from '../mm/madvise.ts'
import { XDP_UMEM_UNALIGNED_CHUNK_FLAG } from '../net/xdp-umem.ts'
import { SOL_XDP, XDP_UMEM_REG, XskSocket } from '../net/xsk.ts'
import { pageAlign, pageAlignDown } from '../base/units.ts'
import { allOrNothing, type Charges, type Request } from './request.ts'

const PINNED_VM: Charges = { budget: 'mm->pinned_vm', liftedBy: 'CAP_IPC_LOCK' }

const anyIova = 'any IOVA below 2^48 is taken for usable: what the IOMMU reserves is not visible'

/** What is said of devices on a kernel that had none to try. */
function untried(release: string): string[] {
  return release === '6.18'
    ? ['what 6.12 does is taken for 6.18, too: nobody has seen this device there']
    : []
}

/**
 * ibv_reg_mr(3). With `ibv_fork_init` the range gets MADV_DONTFORK first, page by page or huge page by huge page.
 * @rule R-UMEM-10
 */
export const regMr: Request = {
  name: 'rdma:reg-mr',
  charges: PINNED_VM,
  takes: ['access', 'iova', 'forkSafe'],
  longest: Infinity,
  notes: (_snapshot, release) => [
    'the RDMA driver leaves pinning to the core (ib_umem_get), as mlx4, mlx5 and rxe do',
    ...untried(release),
  ],
  *run(restored, range, { access, iova, forkSafe }) {
    const { kernel, mm } = restored
    const { start, length } = range
    if (forkSafe) {
      const first = pageAlignDown(start)
      const advised = yield* madvise(kernel, mm, first, pageAlign(start + length) - first, MADV_DONTFORK)
      if (advised < 0) return allOrNothing(restored, range, advised)
    }
    const device = new UverbsDevice(kernel)
    const flags =
      access === 'write'
        ? IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_WRITE
        : IB_ACCESS_REMOTE_READ
    const result = yield* device.regMr({ start, length, access: flags, hcaVa: iova ?? start })
    return allOrNothing(restored, range, result)
  },
}

/** VFIO_IOMMU_MAP_DMA in a container with an IOMMU. */
export const mapDma: Request = {
  name: 'vfio:map-dma',
  charges: { budget: 'mm->locked_vm', liftedBy: 'CAP_IPC_LOCK' },
  takes: ['access', 'iova'],
  longest: Infinity,
  notes: (_snapshot, release) => [
    anyIova,
    'the container is new: nothing is mapped in it yet, and it may have 65,535 mappings',
    ...untried(release),
  ],
  *run(restored, range, { access, iova }) {
    const container = new VfioContainer(restored.kernel)
    const joined = yield* new IommuGroup(restored.kernel).setContainer(container)
    if (joined < 0) return allOrNothing(restored, range, joined)
    yield* container.setIommu('type1v2')
    const flags = VFIO_DMA_MAP_FLAG_READ | (access === 'write' ? VFIO_DMA_MAP_FLAG_WRITE : 0)
    const map = { flags, vaddr: range.start, iova: iova ?? range.start, size: range.length }
    return allOrNothing(restored, range, yield* container.mapDma(map))
  },
}

/** IOMMU_IOAS_MAP with a device attached. */
export const ioasMap: Request = {
  name: 'iommufd:ioas-map',
  charges: { budget: 'user->locked_vm', liftedBy: 'CAP_IPC_LOCK' },
  takes: ['access', 'iova'],
  longest: Infinity,
  notes: (_snapshot, release) => [
    'a device is attached already; without one nothing is pinned, and the attach fails instead',
    anyIova,
    ...untried(release),
  ],
  *run(restored, range, { access, iova }) {
    const iommufd = openIommufd(restored.kernel)
    if (typeof iommufd === 'number') return allOrNothing(restored, range, iommufd)
    const ioas = yield* iommufd.ioasAlloc()
    yield* iommufd.attach(ioas, new Domain())
    const flags =
      IOMMU_IOAS_MAP_FIXED_IOVA |
      IOMMU_IOAS_MAP_READABLE |
      (access === 'write' ? IOMMU_IOAS_MAP_WRITEABLE : 0)
    const map = { flags, ioas, userVa: range.start, length: range.length, iova: iova ?? range.start }
    return allOrNothing(restored, range, yield* iommufd.ioasMap(map))
  },
}

/**
 * setsockopt(XDP_UMEM_REG).
 * @rule R-REP-3
 */
export const umemReg: Request = {
  name: 'xdp:umem-reg',
  charges: { budget: 'user->locked_vm', liftedBy: 'CAP_IPC_LOCK' },
  takes: ['frameSize', 'headroom', 'unaligned'],
  longest: Infinity,
  notes: ({ process }) => [
    'the process has an AF_XDP socket without a umem; opening one takes CAP_NET_RAW',
    `whatever uid ${process.uid.real} charges to locked_vm elsewhere counts, io_uring and iommufd included, and so does what earlier registrations that ended in ENOMEM have left charged (R-XDP-10)`,
  ],
  *run(restored, range, { frameSize, headroom, unaligned }) {
    const socket = new XskSocket(restored.kernel)
    const flags = unaligned ? XDP_UMEM_UNALIGNED_CHUNK_FLAG : 0
    const reg = { addr: range.start, len: range.length, chunkSize: frameSize, headroom, flags }
    return allOrNothing(restored, range, yield* socket.setsockopt(SOL_XDP, XDP_UMEM_REG, reg, 32))
  },
}

/**
 * write(2) of an IOTLB UPDATE to a vhost-vdpa device. The errno says nothing, so the chain of refusals is what counts.
 * @rule R-REP-2
 */
export const vhostMap: Request = {
  name: 'vhost-vdpa:map',
  charges: { budget: 'mm->pinned_vm', liftedBy: null },
  takes: ['access', 'iova'],
  longest: Infinity,
  notes: (_snapshot, release) => [
    'write() of an IOTLB message answers EFAULT for every failure: what is wrong is in the step behind it',
    'the device pins memory (it does not work on virtual addresses) and belongs to this process',
    anyIova,
    ...untried(release),
  ],
  *run(restored, range, { access, iova }) {
    const device = new VhostVdpa(restored.kernel)
    yield* device.setOwner()
    const result = yield* device.write({
      type: 'update',
      iova: iova ?? range.start,
      size: range.length,
      uaddr: range.start,
      perm: access === 'write' ? VHOST_ACCESS_RW : VHOST_ACCESS_RO,
    })
    return allOrNothing(restored, range, result)
  },
}

/** VDUSE_IOTLB_REG_UMEM. */
export const regUmem: Request = {
  name: 'vduse:reg-umem',
  charges: { budget: 'mm->pinned_vm', liftedBy: null },
  takes: ['bounceSize'],
  longest: Infinity,
  notes: (_snapshot: Snapshot, release) => untried(release),
  *run(restored, range, { bounceSize }) {
    const device = new VduseDev(restored.kernel, { bounceSize })
    const args = { uaddr: range.start, iova: 0, size: range.length }
    return allOrNothing(restored, range, yield* device.regUmem(args))
  },
}
