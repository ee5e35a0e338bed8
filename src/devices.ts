/**
 * `pinscope/devices`: devices that pin a program's memory, to open and to issue requests on.
 *
 * A device is a file: it is opened into a process's descriptor table, inherited over fork, and released with its
 * last descriptor. Requests are made through its handle; a failure is a `SyscallError` with the reason, an answer
 * is what the real call returns. What a device reads and writes are the pages it has pinned, whatever the process
 * sees at the address by then.
 *
 * ```ts
 * import { MADV_DONTNEED, Machine, SyscallError } from 'pinscope'
 * import { IB_ACCESS_LOCAL_WRITE, UverbsDevice, openDevice } from 'pinscope/devices'
 *
 * const machine = new Machine({ release: '6.12', memory: '64M' })
 * const app = machine.spawn('app', { limits: { memlock: '64k' } })
 * const verbs = openDevice(app, (kernel) => new UverbsDevice(kernel))
 *
 * const start = app.mmap({ length: '128k' })
 * const register = (length: number) =>
 *   verbs.call('ibv_reg_mr', (device) => device.regMr({ start, length, access: IB_ACCESS_LOCAL_WRITE }))
 * try {
 *   register(131072)
 * } catch (error) {
 *   if (!(error instanceof SyscallError)) throw error
 *   error.reason?.budget // => 'mm->pinned_vm'
 *   error.reason?.capability // => 'CAP_IPC_LOCK'
 * }
 *
 * const region = register(65536) // charged to VmPin, pinned for long
 * machine.pins()[0]?.pins // => 16
 * app.madvise(start, 65536, MADV_DONTNEED) // the pins stay, the process sees other pages from now on
 * verbs.device.write(region, 0, new Uint8Array([42])) // => true
 * app.load(start, 1)[0] // => 0
 *
 * verbs.close()
 * app.exit()
 * machine.audit() // => []
 * ```
 */

// the room they share
export { DeviceHandle, openDevice } from './task/device/handle.ts'
export { Device, DeviceFile } from './task/device/device.ts'

// RDMA
export { UverbsDevice, coreProvider } from './drivers/infiniband/uverbs.ts'
export type { MrMemory, RdmaProvider, RegMr } from './drivers/infiniband/uverbs.ts'
export { siwProvider } from './drivers/infiniband/siw-mem.ts'
export type { SiwOptions } from './drivers/infiniband/siw-mem.ts'
export { usnicProvider } from './drivers/infiniband/usnic-uiom.ts'
export { QibContext } from './drivers/infiniband/qib-user-pages.ts'
export * from './drivers/infiniband/access.ts'

// VFIO and iommufd
export { VfioContainer } from './drivers/vfio/iommu-type1.ts'
export * from './drivers/vfio/type1-abi.ts'
export { IommuGroup, MdevGroup, VfioDevice } from './drivers/vfio/group.ts'
export type { IommuData, IovaWindow } from './drivers/vfio/group.ts'
export { dirtyPages } from './drivers/vfio/dirty-pages.ts'
export type { DirtyPages } from './drivers/vfio/dirty-pages.ts'
export { vfioPinPages, vfioUnpinPages } from './drivers/vfio/mdev.ts'
export {
  Domain,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  Iommufd,
  openIommufd,
} from './drivers/iommufd/ioas.ts'
export type { CommandSize, DomainData, IoasCopy, IoasMap, IoasMapFile } from './drivers/iommufd/ioas.ts'
export { IommufdAccess } from './drivers/iommufd/access.ts'
export { VfioCompat } from './drivers/iommufd/vfio-compat.ts'
export { SpaprContainer } from './arch/powerpc/iommu-api.ts'
export type { RegisterMemory } from './arch/powerpc/iommu-api.ts'

// AF_XDP
export * from './net/xsk.ts'
export { XdpUmem } from './net/xdp-umem.ts'
export type { XdpUmemReg } from './net/xdp-umem.ts'

// vDPA
export { VhostVdpa } from './drivers/vhost/vdpa.ts'
export type { VhostMessage, VhostVdpaData } from './drivers/vhost/vdpa.ts'
export { VduseDev } from './drivers/vdpa/vduse-dev.ts'
export type { VduseData, VduseUmemArgs } from './drivers/vdpa/vduse-dev.ts'

// references without accounting
export { RadeonDevice } from './drivers/gpu/radeon-ttm.ts'
export type { GemUserptr } from './drivers/gpu/radeon-ttm.ts'
export { openVideobuf } from './drivers/media/videobuf-dma-sg.ts'
export { GruContext } from './drivers/misc/grufault.ts'
export { HmmMirror } from './drivers/misc/hmm-mirror.ts'
export type { ExclusiveOptions } from './drivers/misc/hmm-mirror.ts'
export { SgxEnclave, secinfoOf } from './arch/x86/sgx-ioctl.ts'
export type { AddPages, Secinfo, SgxData } from './arch/x86/sgx-ioctl.ts'

// a virtual machine, whose guest reaches the program's memory
export { KVM_EXIT_MMIO, KvmVm } from './virt/kvm/kvm-vm.ts'
export type { MemorySlot } from './virt/kvm/memslot.ts'

// tags of memory, on an arm64 machine (`settings: { mte: true }`)
export { PTRACE_PEEKMTETAGS, PTRACE_POKEMTETAGS, mtePtraceCopyTags } from './arch/arm64/mte.ts'
export type { TaggedAddress, TagsIovec } from './arch/arm64/mte.ts'
export { ldg, stg } from './arch/arm64/mte-instructions.ts'
