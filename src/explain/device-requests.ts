import { VhostVdpa, VHOST_ACCESS_RO, VHOST_ACCESS_RW } from '../drivers/vhost/vdpa.ts'
import { VduseDev } from '../drivers/vdpa/vduse-dev.ts'
import {
  Domain,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  openIommufd,
} from '../drivers/iommufd/ioas.ts'
import { IommuGroup, MdevGroup } from '../drivers/vfio/group.ts'
import {
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VfioContainer,
} from '../drivers/vfio/iommu-type1.ts'
import { vfioPinPages } from '../drivers/vfio/mdev.ts'
import { capabilitiesOf } from '../mm/capability.ts'
import { PageArray } from '../mm/page-array.ts'
import type { Snapshot } from '../host/snapshot.ts'
import { XDP_UMEM_UNALIGNED_CHUNK_FLAG } from '../net/xdp-umem.ts'
import { SOL_XDP, XDP_UMEM_REG, XskSocket } from '../net/xsk.ts'
import { pageAlignDown } from '../base/units.ts'
import { mappingsOf } from './mappings.ts'
import {
  allOrNothing,
  pagesOf,
  type Charges,
  type Request,
  type RequestOptions,
  type RequestRange,
} from './request.ts'

const LOCKED_VM: Charges = { budget: 'mm->locked_vm', liftedBy: 'CAP_IPC_LOCK' }

const anyIova = ({ iovaBits }: RequestOptions): string =>
  `any IOVA below 2^${iovaBits} is taken for usable: what the IOMMU reserves is not visible`

/** What is said of devices on a kernel that had none to try. */
export function untried(release: string): string[] {
  return release === '6.18'
    ? ['what 6.12 does is taken for 6.18, too: nobody has seen this device there']
    : []
}

/** VFIO_IOMMU_MAP_DMA in a container with an IOMMU. */
export const mapDma: Request = {
  name: 'vfio:map-dma',
  charges: LOCKED_VM,
  takes: ['access', 'iova', 'iovaBits'],
  longest: Infinity,
  notes: ({ process }, release, _range, options) => [
    'the container is new: VFIO_SET_IOMMU is done (before it everything is EINVAL), nothing is mapped in it yet (what overlaps is EEXIST), and it may have 65,535 mappings (then ENOSPC)',
    ...(process.memory !== null && process.memory.locked > 0
      ? ['VmLck has what other containers mapped: memory counts once for each container that maps it']
      : []),
    anyIova(options),
    ...untried(release),
  ],
  *run(restored, range, { access, iova, iovaBits }) {
    const container = new VfioContainer(restored.kernel)
    const group = new IommuGroup(restored.kernel, { windows: [{ start: 0, end: 2 ** iovaBits }] })
    const joined = yield* group.setContainer(container)
    if (joined < 0) return allOrNothing(restored, range, joined)
    yield* container.setIommu('type1v2')
    const flags = VFIO_DMA_MAP_FLAG_READ | (access === 'write' ? VFIO_DMA_MAP_FLAG_WRITE : 0)
    const map = { flags, vaddr: range.start, iova: iova ?? range.start, size: range.length }
    return allOrNothing(restored, range, yield* container.mapDma(map))
  },
}

/** A mediated device (a vGPU, say) pins the pages of a range one by one, by their IOVA, in a container without IOMMU. */
export const mdevPin: Request = {
  name: 'vfio:mdev-pin',
  charges: { ...LOCKED_VM, pageByPage: true },
  takes: ['access', 'iova'],
  longest: Infinity,
  bySomebodyElse: true,
  notes: (_snapshot, release) => [
    'the driver of the device pins and charges page by page, as the guest uses them: here it comes to all of them',
    ...untried(release),
  ],
  *run(restored, range, { access, iova }) {
    const { kernel } = restored
    const container = new VfioContainer(kernel)
    const joined = yield* new MdevGroup(kernel).setContainer(container)
    if (joined < 0) return allOrNothing(restored, range, joined)
    yield* container.setIommu('type1v2')
    const write = access === 'write'
    const flags = VFIO_DMA_MAP_FLAG_READ | (write ? VFIO_DMA_MAP_FLAG_WRITE : 0)
    const map = { flags, vaddr: range.start, iova: iova ?? range.start, size: range.length }
    const mapped = yield* container.mapDma(map)
    if (mapped < 0) return allOrNothing(restored, range, mapped)
    const pages = new PageArray(pagesOf(range))
    const result = yield* vfioPinPages(container, pageAlignDown(map.iova), pages.length, write, pages)
    return allOrNothing(restored, range, result)
  },
}

/** What becomes of a BAR that VFIO would map. @rule R-IOMMUFD-5 */
function rawNotes(snapshot: Snapshot, range: RequestRange): string[] {
  if (!mappingsOf(snapshot, range).some(({ flags }) => flags.includes('pf'))) return []
  return [
    'iommufd follows no raw mapping (a BAR of another device); VFIO type 1 does, newer kernels take a dma-buf of it, and without peer-to-peer transfers it need not be mapped at all',
  ]
}

/** IOMMU_IOAS_MAP with a device attached. */
export const ioasMap: Request = {
  name: 'iommufd:ioas-map',
  charges: { budget: 'user->locked_vm', liftedBy: 'CAP_IPC_LOCK' },
  takes: ['access', 'iova', 'iovaBits'],
  longest: Infinity,
  notes: (snapshot, release, range, options) => [
    ...rawNotes(snapshot, range),
    'a device is attached already; without one nothing is pinned, and the attach fails instead',
    anyIova(options),
    ...untried(release),
  ],
  *run(restored, range, { access, iova, iovaBits }) {
    const iommufd = openIommufd(restored.kernel)
    if (typeof iommufd === 'number') return allOrNothing(restored, range, iommufd)
    const ioas = yield* iommufd.ioasAlloc()
    const reserved = [{ start: 2 ** iovaBits, end: 2 ** 64 }]
    yield* iommufd.attach(ioas, new Domain({ reserved }))
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
    `the process has an AF_XDP socket without a umem; opening one takes CAP_NET_RAW${capabilitiesOf(process.capEff).has('CAP_NET_RAW') ? '' : ', which it has not: it must be handed an open one'}`,
    'the kernel sees these values: where strace shows no setsockopt(XDP_UMEM_REG) that fails, a library refused before it',
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
  notes: (_snapshot, release, _range, options) => [
    'write() of an IOTLB message answers EFAULT for every failure: what is wrong is in the step behind it',
    'the device pins memory (it does not work on virtual addresses) and belongs to this process',
    anyIova(options),
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
