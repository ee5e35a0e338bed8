/**
 * The same buffer, bad and too large, through VFIO and through iommufd: which error is seen first, who pays, and
 * when anything is pinned at all.
 *
 *     npx tsx examples/vfio-and-iommufd.ts
 */
import { Machine, SyscallError, type Process } from '../src/index.ts'
import { Domain, IommuGroup, VfioContainer, openDevice, openIommufd } from '../src/devices.ts'

const READ_WRITE = 3
const FIXED_READ_WRITE = 7

function attempt(what: string, request: () => number): void {
  try {
    request()
    console.log(`${what}: ok`)
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    console.log(`${what}: ${error.code} (${error.reason!.rule})`)
  }
}

/** 8 pages, and 8 of nothing. */
function halfMapped(app: Process): number {
  const address = app.mmap({ length: '64k' })
  app.munmap(address + 32768, '32k')
  return address
}

for (const limit of ['16k', '64k']) {
  const machine = new Machine({ release: '6.12', memory: '64M' })
  const app = machine.spawn('vmm', { limits: { memlock: limit } })
  const vaddr = halfMapped(app)
  console.log(`RLIMIT_MEMLOCK ${limit}:`)

  const container = openDevice(app, (kernel) => new VfioContainer(kernel))
  const group = openDevice(app, (kernel) => new IommuGroup(kernel))
  group.call('VFIO_GROUP_SET_CONTAINER', (g) => g.setContainer(container.device))
  container.call('VFIO_SET_IOMMU', (c) => c.setIommu('type1v2'))
  const map = { flags: READ_WRITE, vaddr, iova: 0 }
  attempt('- VFIO, all of it', () =>
    container.call('VFIO_IOMMU_MAP_DMA', (c) => c.mapDma({ ...map, size: 65536 })),
  )
  attempt('- VFIO, the good half', () =>
    container.call('VFIO_IOMMU_MAP_DMA', (c) => c.mapDma({ ...map, size: 32768 })),
  )
  console.log(`  VmLck ${app.mm!.lockedVm}, VmPin ${app.mm!.pinnedVm}`)

  const iommufd = openDevice(app, openIommufd)
  const ioas = iommufd.call('IOMMU_IOAS_ALLOC', (d) => d.ioasAlloc())
  const request = { flags: FIXED_READ_WRITE, ioas, userVa: vaddr, iova: 0 }
  attempt('- iommufd without a device, all of it', () =>
    iommufd.call('IOMMU_IOAS_MAP', (d) => d.ioasMap({ ...request, length: 65536 })),
  )
  attempt('- iommufd, a device is attached', () =>
    iommufd.call('attach', (d) => d.attach(ioas, new Domain())),
  )
  iommufd.call('IOMMU_IOAS_UNMAP', (d) => d.ioasUnmap(ioas, 0, 65536))
  iommufd.call('attach', (d) => d.attach(ioas, new Domain()))
  attempt('- iommufd, the good half', () =>
    iommufd.call('IOMMU_IOAS_MAP', (d) => d.ioasMap({ ...request, length: 32768 })),
  )
  console.log(
    `  VmLck ${app.mm!.lockedVm}, VmPin ${app.mm!.pinnedVm}, uid 1000 ${machine.kernel.user(1000).lockedVm}`,
  )
  app.exit()
  console.log(`  audit: ${machine.audit().length} findings`)
}
