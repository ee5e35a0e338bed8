/** Memory for devices that a guest or a user-space driver has: VFIO and iommufd. */
import { describe, expect, it } from 'vitest'
import { IommuGroup, MdevGroup, type IommuData } from '../../src/drivers/vfio/group.ts'
import {
  VFIO_DMA_MAP_FLAG_READ as READ,
  VFIO_DMA_MAP_FLAG_WRITE as WRITE,
  VfioContainer,
  type UnmapDma,
} from '../../src/drivers/vfio/iommu-type1.ts'
import { FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { PageArray, pinUserPages } from '../../src/mm/gup.ts'
import { unpinUserPage } from '../../src/mm/unpin.ts'
import { openDevice, type DeviceHandle } from '../../src/task/device/handle.ts'
import type { Process } from '../../src/task/process.ts'
import { RELEASES, Rig, answer, reason } from '../drivers/rig.ts'
import type { Request } from '../explain/asking.ts'
import { ALL_CAPABILITIES, CAP_IPC_LOCK, SHARED_RW } from '../explain/snapshots.ts'
import type { MappingSpec, SnapshotSpec } from '../explain/snapshots.ts'
import { MiB, P, anon, fixes, remarks, told, untouched } from './told.ts'

const MAP_DMA: Request = { name: 'vfio:map-dma' }
const IOAS_MAP: Request = { name: 'iommufd:ioas-map' }
const NONE = '0000000000000000'

type Container = DeviceHandle<VfioContainer>

/** A container with a group, before VFIO_SET_IOMMU. */
function joined(app: Process, data?: IommuData): Container {
  const container = openDevice(app, (k) => new VfioContainer(k))
  const group = openDevice(app, (k) => new IommuGroup(k, data))
  group.call('VFIO_GROUP_SET_CONTAINER', (g) => g.setContainer(container.device))
  return container
}

function ready(app: Process, model: 'type1' | 'type1v2' = 'type1v2'): Container {
  const container = joined(app)
  container.call('VFIO_SET_IOMMU', (c) => c.setIommu(model))
  return container
}

const map = (container: Container, vaddr: number, iova: number, pages: number): number =>
  container.call('VFIO_IOMMU_MAP_DMA', (c) => c.mapDma({ vaddr, iova, size: pages * P, flags: READ | WRITE }))

describe('RLIMIT_MEMLOCK', () => {
  it('DRV report 23: the memory of a guest over 4 MiB of limit, and what the log says (R-VFIO-4)', () => {
    const answer = told({ mappings: [anon(1100)], memlock: 4194304 }, MAP_DMA)
    expect(answer.verdict).toMatchObject({ errno: 'ENOMEM', rule: 'R-VFIO-4', page: 1024 })
    expect(answer.memlock).toMatchObject({ needed: 1100, used: 0, limit: 1024, budget: 'mm->locked_vm' })
    expect(answer.kernelLog).toEqual(['vfio_pin_pages_remote: RLIMIT_MEMLOCK (4194304) exceeded'])
    expect(fixes(answer)).toContain(`raise RLIMIT_MEMLOCK to at least ${1100 * P} bytes`)
  })

  it('DRV report 24: a hardened service: neither it nor its filter lets the limit be raised', () => {
    const service: SnapshotSpec = {
      mappings: [untouched(4096)],
      memlock: 8 * MiB,
      seccomp: 2,
      capBnd: NONE,
      capPrm: NONE,
    }
    const answer = told(service, MAP_DMA)
    expect(answer.verdict).toMatchObject({ errno: 'ENOMEM', rule: 'R-VFIO-4' })
    expect(answer.memlock).toMatchObject({ needed: 4096, limit: 2048, capability: 'missing' })
    expect(fixes(answer)).toContain(
      'its hard limit is 8388608, raising that needs CAP_SYS_RESOURCE; a seccomp filter may refuse that to the process itself',
    )
    const free = told({ ...service, memlockHard: null }, MAP_DMA)
    expect(fixes(free)).not.toContain('seccomp')
  })

  it('DRV report 25: docker --privileged gives capabilities to root, not to the user that QEMU runs as', () => {
    const qemu: SnapshotSpec = {
      mappings: [untouched(2049)],
      memlock: 8 * MiB,
      capPrm: NONE,
      capBnd: ALL_CAPABILITIES,
    }
    const answer = told(qemu, MAP_DMA)
    expect(answer.verdict.errno).toBe('ENOMEM')
    expect(answer.memlock).toMatchObject({ exempt: false, capability: 'bounding', liftedBy: 'CAP_IPC_LOCK' })
    expect(fixes(answer)).toContain('raise RLIMIT_MEMLOCK')
    expect(told({ ...qemu, capEff: CAP_IPC_LOCK }, MAP_DMA).verdict.ok).toBe(true)
  })

  it('DRV report 26: a mediated device charges the pages that it pins one by one (R-VFIO-11)', () => {
    const guest: SnapshotSpec = { mappings: [anon(32)], memlock: 65536 }
    const pin: Request = { name: 'vfio:mdev-pin' }
    const answer = told(guest, pin)
    expect(answer.verdict).toMatchObject({ errno: 'ENOMEM', page: 16 })
    expect(answer.memlock).toMatchObject({
      needed: 32,
      used: 0,
      limit: 16,
      budget: 'mm->locked_vm',
      liftedBy: 'CAP_IPC_LOCK',
    })
    expect(answer.kernelLog).toEqual([
      'vfio_pin_page_external: Task app (1234) RLIMIT_MEMLOCK (65536) exceeded',
    ])
    expect(fixes(answer)).toContain(`raise RLIMIT_MEMLOCK to at least ${32 * P} bytes`)
    expect(told(guest, { ...pin, pages: 16 }).verdict.ok).toBe(true)
  })

  it('DRV report 27: with a container for each device the memory of the guest counts once in each (R-VFIO-13)', () => {
    const second = told({ mappings: [anon(1024)], memlock: 6 * MiB, locked: 4 * MiB }, MAP_DMA)
    expect(second.verdict).toMatchObject({ errno: 'ENOMEM', rule: 'R-VFIO-4', page: 512 })
    expect(second.memlock).toMatchObject({ needed: 1024, used: 1024, limit: 1536 })
    expect(remarks(second)).toContain('memory counts once for each container that maps it')
    expect(fixes(second)).toContain(`raise RLIMIT_MEMLOCK to at least ${8 * MiB} bytes`)
    const rig = new Rig('6.12', { limit: 96 })
    const at = rig.memory('rw64')
    expect(map(ready(rig.app), at, 0, 64)).toBe(0)
    expect(reason(() => map(ready(rig.app), at, 0, 64))).toMatchObject({ needed: 64, used: 64, limit: 96 })
    expect(rig.app.mm!.lockedVm).toBe(64)
  })
})

describe('where memory is mapped', () => {
  it('DRV report 28: the IOVA lies beyond what the IOMMU has (R-VFIO-2)', () => {
    const guest: SnapshotSpec = { mappings: [anon(8)] }
    const high: Request = { ...MAP_DMA, iova: 2 ** 39, iovaBits: 39 }
    const answer = told(guest, high)
    expect(answer.verdict).toMatchObject({
      errno: 'EINVAL',
      rule: 'R-VFIO-2',
      reason: 'the range does not lie within one usable IOVA range of the IOMMU',
    })
    expect(fixes(answer)).toContain('map it where the IOMMU has addresses, below 2^39: 0x200000 was tried')
    expect(told(guest, { ...high, iovaBits: 48 }).verdict.ok).toBe(true)
    expect(told(guest, { ...high, name: 'iommufd:ioas-map' }, '6.12').verdict.errno).toBe('EINVAL')
  })

  it.each(RELEASES)(
    'DRV report 29: on %s every MAP_DMA is EINVAL before VFIO_SET_IOMMU (R-VFIO-1)',
    (release) => {
      const rig = new Rig(release)
      const container = joined(rig.app)
      const at = rig.memory('rw8')
      expect(reason(() => map(container, at, 0, 8))).toMatchObject({
        rule: 'R-VFIO-1',
        why: 'VFIO_SET_IOMMU has not been done on this container',
      })
      expect(answer(() => map(container, 1, 1, 0))).toBe('-EINVAL')
      container.call('VFIO_SET_IOMMU', (c) => c.setIommu('type1v2'))
      expect(map(container, at, 0, 8)).toBe(0)
      expect(remarks(told({ mappings: [anon(8)] }, MAP_DMA))).toContain(
        'VFIO_SET_IOMMU is done (before it everything is EINVAL)',
      )
    },
  )

  it('DRV report 30: a BAR through iommufd, which follows no raw mapping (R-IOMMUFD-5)', () => {
    const backing = { kind: 'driver', path: '/dev/vfio/12' } as const
    const bar: MappingSpec = { backing, flags: `${SHARED_RW} io pf de dd`, name: '/dev/vfio/12' }
    const answer = told({ mappings: [bar] }, IOAS_MAP)
    expect(answer.verdict).toMatchObject({
      errno: 'EFAULT',
      rule: 'R-GUP-16.1',
      mapping: { name: '/dev/vfio/12' },
    })
    expect(remarks(answer)).toMatch(/raw mapping .* dma-buf/)
    expect(remarks(told({ mappings: [anon(4)] }, IOAS_MAP))).not.toContain('dma-buf')
    // VFIO would look its frames up, which cannot be done on a snapshot
    expect(told({ mappings: [bar] }, MAP_DMA).verdict.ok).toBeNull()
  })

  it('DRV report 32: a second device maps what is mapped in the container already (R-VFIO-2)', () => {
    const rig = new Rig('6.12')
    const container = ready(rig.app)
    const at = rig.memory('rw16')
    expect(map(container, at, 0x100000, 16)).toBe(0)
    const second = openDevice(rig.app, (k) => new IommuGroup(k))
    expect(second.call('VFIO_GROUP_SET_CONTAINER', (g) => g.setContainer(container.device))).toBe(0)
    expect(reason(() => map(container, at, 0x100000, 16))).toMatchObject({
      errno: 17,
      rule: 'R-VFIO-2',
      why: 'the IOVA range overlaps one that is mapped',
    })
    expect(rig.pinned).toBe(16)
  })

  it('DRV report 33: version 1 unmaps no part of a mapping: size 0, EEXIST later, and data in old pages (R-VFIO-8)', () => {
    const rig = new Rig('6.12')
    const container = ready(rig.app, 'type1')
    const old = rig.memory('rw16')
    expect(map(container, old, 0x100000, 16)).toBe(0)
    const part: UnmapDma = { iova: 0x100000 + 8 * P, size: 8 * P }
    expect(container.call('VFIO_IOMMU_UNMAP_DMA', (c) => c.unmapDma(part))).toBe(0)
    expect(part.size).toBe(0)
    rig.app.munmap(old + 8 * P, 8 * P)
    const fresh = rig.memory('rw8')
    expect(reason(() => map(container, fresh, 0x100000 + 8 * P, 8))).toMatchObject({
      errno: 17,
      why: 'the IOVA range overlaps one that is mapped',
    })
    expect(container.device.write(0x100000 + 8 * P, new TextEncoder().encode('lost'))).toBe(true)
    expect(rig.app.load(fresh, 4)).toEqual(new Uint8Array(4))
    expect(rig.pinned).toBe(16)
    const same: UnmapDma = { iova: 0x100000, size: 16 * P }
    expect([container.call('VFIO_IOMMU_UNMAP_DMA', (c) => c.unmapDma(same)), same.size]).toEqual([0, 16 * P])
    expect(map(container, fresh, 0x100000 + 8 * P, 8)).toBe(0)
  })

  it('DRV report 34: 65,535 mappings are all a container may have (R-VFIO-2)', () => {
    const rig = new Rig('6.12')
    const container = openDevice(rig.app, (k) => new VfioContainer(k))
    const group = openDevice(rig.app, (k) => new MdevGroup(k))
    group.call('VFIO_GROUP_SET_CONTAINER', (g) => g.setContainer(container.device))
    container.call('VFIO_SET_IOMMU', (c) => c.setIommu('type1v2'))
    const at = rig.memory('rw1')
    for (let i = 0; i < 65535; i++) map(container, at, i * P, 1)
    expect(reason(() => map(container, at, 65535 * P, 1))).toMatchObject({
      errno: 28,
      rule: 'R-VFIO-2',
      why: 'the container has dma_entry_limit mappings already',
    })
    // larger pieces would do
    const all: UnmapDma = { iova: 0, size: 65535 * P }
    container.call('VFIO_IOMMU_UNMAP_DMA', (c) => c.unmapDma(all))
    expect(map(container, rig.memory('rw16'), 0, 16)).toBe(0)
    expect(remarks(told({ mappings: [anon(4)] }, MAP_DMA))).toContain('65,535 mappings (then ENOSPC)')
  })

  it('DRV report 35: a page in CMA that another pin holds cannot be moved away (R-GUP-50)', () => {
    const rig = new Rig('6.12', { kernel: { zones: { normal: 4096, cma: 4096 } } })
    const container = ready(rig.app)
    const at = rig.memory('rw8')
    rig.app.touch(at, 8 * P)
    const held = new PageArray(1)
    const guard = rig.app.mm!.mmapLock.tryRead()!
    const short = pinUserPages(rig.k, guard, at + 3 * P, 1, FOLL_WRITE, held)
    expect(rig.k.run(rig.app, short)).toBe(1)
    guard.release()
    rig.k.holders.add({ name: 'I/O under way', forEachReference: (visit) => visit(held.pfns[0]!, 0, 1) })
    expect(reason(() => map(container, at, 0, 8))).toMatchObject({
      errno: 12,
      rule: 'R-GUP-50',
      why: 'a page in a movable zone or in CMA could not be moved away for a long-term pin: somebody else holds it',
    })
    expect(rig.pinned).toBe(1)
    for (const holder of rig.k.holders) if (holder.name === 'I/O under way') rig.k.holders.delete(holder)
    unpinUserPage(rig.k, held.pfns[0]!)
    expect(map(container, at, 0, 8)).toBe(0)
  })
})
