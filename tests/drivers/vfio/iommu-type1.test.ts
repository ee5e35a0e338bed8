import { describe, expect, it } from 'vitest'
import { dirtyPages } from '../../../src/drivers/vfio/dirty-pages.ts'
import { IommuGroup, MdevGroup, VfioDevice, type IommuData } from '../../../src/drivers/vfio/group.ts'
import {
  VFIO_DMA_MAP_FLAG_READ as READ,
  VFIO_DMA_MAP_FLAG_VADDR as VADDR,
  VFIO_DMA_MAP_FLAG_WRITE as WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
  VFIO_DMA_UNMAP_FLAG_VADDR,
  VfioContainer,
  type MapDma,
  type Type1Options,
  type UnmapDma,
} from '../../../src/drivers/vfio/iommu-type1.ts'
import { vfioPinPages, vfioUnpinPages } from '../../../src/drivers/vfio/mdev.ts'
import { openIoUring } from '../../../src/io_uring/facade.ts'
import { ioMemoryKind, remapPfnRange, type IoMemoryKindOptions } from '../../../src/mm/io-memory.ts'
import { pmdIndex, pteSlot, type Leaf } from '../../../src/mm/page-table.ts'
import { PageArray } from '../../../src/mm/page-array.ts'
import { MADV_DONTNEED } from '../../../src/mm/mman.ts'
import { driverKind, type FileKind } from '../../../src/mm/file.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice } from '../rig.ts'

type Container = DeviceHandle<VfioContainer>
type Grouped = DeviceHandle<IommuGroup> | DeviceHandle<MdevGroup>

interface Setup {
  readonly model?: 'type1' | 'type1v2'
  readonly options?: Type1Options
  readonly data?: IommuData
}

const open = (app: Process, options?: Type1Options): Container =>
  openDevice(app, (k) => new VfioContainer(k, options))

function join(group: Grouped, container: Container): number {
  return (group as DeviceHandle<IommuGroup>).call('VFIO_GROUP_SET_CONTAINER', (g) =>
    g.setContainer(container.device),
  )
}

const iommuGroup = (app: Process, data?: IommuData): DeviceHandle<IommuGroup> =>
  openDevice(app, (k) => new IommuGroup(k, data))
const mdevGroup = (app: Process): DeviceHandle<MdevGroup> => openDevice(app, (k) => new MdevGroup(k))

const setIommu = (container: Container, model: 'type1' | 'type1v2' = 'type1v2'): number =>
  container.call('VFIO_SET_IOMMU', (c) => c.setIommu(model))

/** A container with a group behind an IOMMU, ready to map. */
function ready(app: Process, { model, options, data }: Setup = {}): Container {
  const container = open(app, options)
  join(iommuGroup(app, data), container)
  setIommu(container, model)
  return container
}

const map = (container: Container, vaddr: number, pages: number, more: Partial<MapDma> = {}): number =>
  container.call('VFIO_IOMMU_MAP_DMA', (c) =>
    c.mapDma({ vaddr, iova: 0x100000, size: pages * P, flags: READ | WRITE, ...more }),
  )

/** @returns bytes unmapped, or the errno */
function unmap(
  container: Container,
  iova: number,
  size: number,
  more: Partial<UnmapDma> = {},
): number | string {
  const request: UnmapDma = { iova, size, ...more }
  const result = answer(() => container.call('VFIO_IOMMU_UNMAP_DMA', (c) => c.unmapDma(request)))
  return result === 0 ? request.size : result
}

/** A BAR of a device, mapped by the program. */
function bar(rig: Rig, pages: number, options: IoMemoryKindOptions = {}): number {
  const kind = ioMemoryKind('vfio-pci', rig.k.memory.io.request('bar', pages), options)
  return rig.app.mmap({ length: pages * P, shared: true, fd: rig.app.openFile('/bar', 0, kind) })
}

describe.each(RELEASES)('VFIO_IOMMU_MAP_DMA on %s', (release) => {
  it('DRV vector 39: a page over the limit is ENOMEM, nothing is left, and the log says so (R-VFIO-3, R-VFIO-4)', () => {
    const rig = new Rig(release, { limit: 100 })
    const container = ready(rig.app)
    const at = rig.memory('rw200')
    expect(reason(() => map(container, at, 101))).toMatchObject({
      rule: 'R-VFIO-4',
      page: 100,
      needed: 101,
      used: 0,
      limit: 100,
      budget: 'mm->locked_vm',
      capability: 'CAP_IPC_LOCK',
    })
    expect(answer(() => map(container, at, 101))).toBe('-ENOMEM')
    expect([rig.app.mm!.lockedVm, rig.pinned, container.device.dmaAvail]).toEqual([0, 0, 65535])
    expect(rig.k.warnings[0]!.message).toBe('vfio_pin_pages_remote: RLIMIT_MEMLOCK (409600) exceeded')
    expect(map(container, at, 100)).toBe(0)
    expect([rig.app.mm!.lockedVm, rig.app.mm!.pinnedVm, rig.locked()]).toEqual([100, 0, 0])
  })

  it('DRV vector 40: a hole is EFAULT, and all is undone', () => {
    const rig = new Rig(release)
    const container = ready(rig.app)
    expect(answer(() => map(container, rig.memory('rw8+hole8'), 16))).toBe('-EFAULT')
    expect([rig.app.mm!.lockedVm, rig.pinned, container.device.dmas.length]).toEqual([0, 0, 0])
  })

  it('DRV vector 41, DRV vector 42: EEXIST comes before ENOSPC (R-VFIO-2)', () => {
    const rig = new Rig(release)
    const container = ready(rig.app, { options: { dmaEntryLimit: 2 } })
    const at = rig.memory('rw16')
    expect(map(container, at, 1, { iova: 0 })).toBe(0)
    expect(answer(() => map(container, at, 1, { iova: 0 }))).toBe('-EEXIST')
    expect(map(container, at, 1, { iova: 8 * P })).toBe(0)
    expect(answer(() => map(container, at, 1, { iova: 16 * P }))).toBe('-ENOSPC')
    expect(answer(() => map(container, at, 2, { iova: 7 * P }))).toBe('-EEXIST')
    expect(unmap(container, 0, P)).toBe(P)
    expect(map(container, at, 1, { iova: 16 * P })).toBe(0)
  })

  it.each<[string, Partial<MapDma>, string]>([
    ['DRV vector 43: VADDR with READ', { flags: VADDR | READ }, '-EINVAL'],
    ['DRV vector 43: no flags', { flags: 0 }, '-EINVAL'],
    ['R-VFIO-2 an unknown flag', { flags: READ | 8 }, '-EINVAL'],
    ['R-VFIO-2 argsz', { argsz: 31 }, '-EINVAL'],
    ['R-VFIO-2 no size', { size: 0 }, '-EINVAL'],
    ['R-VFIO-2 a size of half a page', { size: P / 2 }, '-EINVAL'],
    ['R-VFIO-2 an IOVA inside a page', { iova: 100 }, '-EINVAL'],
    ['R-VFIO-2 a range that wraps', { iova: 2 ** 64 - 4 * P }, '-EINVAL'],
    ['R-VFIO-2 an IOVA the IOMMU has not', { iova: 2 ** 48 }, '-EINVAL'],
    ['DRV vector 49c: VADDR on nothing', { flags: VADDR }, '-ENOENT'],
  ])('%s', (_name, more, expected) => {
    const rig = new Rig(release)
    const container = ready(rig.app)
    expect(answer(() => map(container, rig.memory('rw8'), 8, more))).toBe(expected)
  })

  it('R-VFIO-2 an IOMMU with larger pages maps nothing smaller; a bad pointer is EFAULT', () => {
    const rig = new Rig(release)
    const container = ready(rig.app, { data: { minPage: 65536 } })
    expect(answer(() => map(container, rig.memory('rw16'), 8))).toBe('-EINVAL')
    expect(map(container, rig.memory('rw16'), 16)).toBe(0)
    expect(answer(() => container.call('x', (c) => c.mapDma('unreadable')))).toBe('-EFAULT')
    expect(answer(() => container.call('x', (c) => c.unknownIoctl()))).toBe('-ENOTTY')
  })

  it('DRV vector 44, DRV vector 45: parts of a mapping (R-VFIO-8)', () => {
    const rig = new Rig(release)
    const [v1, v2] = [ready(rig.app, { model: 'type1' }), ready(rig.app)]
    const at = rig.memory('rw256')
    for (const container of [v1, v2]) map(container, at, 256, { iova: 0 })
    expect(unmap(v2, 0, 128 * P)).toBe('-EINVAL')
    expect(unmap(v2, 128 * P, 128 * P)).toBe('-EINVAL')
    expect(unmap(v1, 128 * P, 128 * P)).toBe(0)
    expect(rig.pinned).toBe(512)
    expect(unmap(v1, 0, 128 * P)).toBe(256 * P)
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([256, 256])
    expect(unmap(v2, 0, 512 * P)).toBe(256 * P)
    expect(unmap(v2, 0, 512 * P)).toBe(0)
  })

  it('DRV vector 46: a BAR is mapped, and neither charged nor pinned (R-VFIO-5, R-VFIO-6)', () => {
    const rig = new Rig(release, { limit: 0 })
    const container = ready(rig.app)
    expect(map(container, bar(rig, 4), 4)).toBe(0)
    expect([rig.app.mm!.lockedVm, rig.pinned]).toEqual([0, 0])
    expect(unmap(container, 0x100000, 4 * P)).toBe(4 * P)
    expect(answer(() => map(container, bar(rig, 4, { tracksWrites: true }), 4))).toBe('-EFAULT')
    expect(map(container, bar(rig, 4, { tracksWrites: true }), 4, { flags: READ })).toBe(0)
  })

  it('R-VFIO-5 a BAR that its driver maps when it is touched is faulted in', () => {
    const rig = new Rig(release, { limit: 0 })
    const container = ready(rig.app)
    const at = bar(rig, 4, { lazy: true })
    expect(map(container, at, 4)).toBe(0)
    const runs: [number, number][] = []
    for (const dma of container.device.dmas) dma.runs.forEach((pfn, count) => runs.push([pfn, count]))
    const entry = rig.app.mm!.pageTable.pmd(pmdIndex(at)) as Leaf
    expect(runs).toEqual([[entry.pfn[pteSlot(at)], 4]])
    expect([rig.k.memory.io.isMemory(runs[0]![0]), rig.app.mm!.lockedVm, rig.pinned]).toEqual([false, 0, 0])
  })

  it('R-VFIO-5 a raw mapping of ordinary memory is EFAULT', () => {
    const rig = new Rig(release)
    const kind: FileKind = {
      ...driverKind('perf_event'),
      mmapMethod: (k, vma, mm) => remapPfnRange(k, mm, vma, vma.start, 100, 4 * P),
    }
    const at = rig.app.mmap({ length: 4 * P, shared: true, fd: rig.app.openFile('/perf', 0, kind) })
    expect(reason(() => map(ready(rig.app), at, 4))).toMatchObject({ rule: 'R-VFIO-5', address: at })
  })

  it('DRV vector 47: with mediated devices only nothing is pinned; the IOMMU that comes later finds the hole (R-VFIO-3)', () => {
    const rig = new Rig(release)
    const container = open(rig.app)
    join(mdevGroup(rig.app), container)
    setIommu(container)
    expect(map(container, rig.memory('hole8'), 8)).toBe(0)
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([0, 0])
    expect(map(container, rig.memory('rw8'), 8, { iova: 0 })).toBe(0)
    expect(answer(() => join(iommuGroup(rig.app), container))).toBe('-EFAULT')
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([0, 0])
    unmap(container, 0x100000, 8 * P)
    expect(join(iommuGroup(rig.app), container)).toBe(0)
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([8, 8])
  })

  it('DRV vector 48: without VFIO_SET_IOMMU everything is EINVAL (R-VFIO-1)', () => {
    const rig = new Rig(release)
    const container = open(rig.app)
    const at = rig.memory('rw8')
    expect(reason(() => map(container, at, 8)).rule).toBe('R-VFIO-1')
    expect(unmap(container, 0, P)).toBe('-EINVAL')
    expect(answer(() => container.call('x', (c) => c.unknownIoctl()))).toBe('-EINVAL')
    expect(answer(() => setIommu(container))).toBe('-EINVAL')
  })

  it('DRV vector 49: read-only memory can be mapped for reading', () => {
    const rig = new Rig(release)
    const container = ready(rig.app)
    const at = rig.memory('ro8')
    expect(answer(() => map(container, at, 8))).toBe('-EFAULT')
    expect(map(container, at, 8, { flags: READ })).toBe(0)
    expect(container.device.write(0x100000, new Uint8Array([1]))).toBe(false)
    expect(container.device.read(0x100000, new Uint8Array(1))).toBe(true)
  })

  it.each([
    ['DRV vector 49a: four pages of limit', 4, '-ENOMEM'],
    ['DRV vector 49a: limit enough for the good part', 100, '-EFAULT'],
  ])('%s (R-DRV-17)', (_name, limit, expected) => {
    const rig = new Rig(release, { limit })
    expect(answer(() => map(ready(rig.app), rig.memory('rw8+hole8'), 16))).toBe(expected)
  })

  it('DRV vector 49b: exec and a new address move the charge (R-VFIO-10, R-DRV-14)', () => {
    const rig = new Rig(release, { limit: 8 })
    const container = open(rig.app)
    const group = iommuGroup(rig.app)
    join(group, container)
    setIommu(container)
    const fd = rig.app.memfdCreate('ram', 8 * P)
    for (const kept of [container.fd, group.fd, fd]) rig.app.setCloseOnExec(kept, false)
    const at = rig.app.mmap({ length: 8 * P, shared: true, fd })
    rig.store(at, 'guest')
    map(container, at, 8)
    const old = rig.app.mm!
    expect(unmap(container, 0x100000, 8 * P, { flags: VFIO_DMA_UNMAP_FLAG_VADDR })).toBe(8 * P)
    expect(unmap(container, 0x100000, 8 * P, { flags: VFIO_DMA_UNMAP_FLAG_VADDR })).toBe('-EINVAL')
    rig.app.exec({ path: '/usr/bin/qemu' })
    expect([rig.pinned, old.lockedVm, rig.app.mm!.lockedVm]).toEqual([8, 8, 0])
    const again = rig.app.mmap({ length: 8 * P, shared: true, fd })
    rig.app.setLimit('memlock', 7 * P)
    expect(answer(() => map(container, again, 8, { flags: VADDR }))).toBe('-ENOMEM')
    rig.app.setLimit('memlock', 8 * P)
    expect(answer(() => map(container, again, 7, { flags: VADDR }))).toBe('-EINVAL')
    expect(map(container, again, 8, { flags: VADDR })).toBe(0)
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([8, 8])
    expect(answer(() => map(container, again, 8, { flags: VADDR }))).toBe('-EINVAL')
    const seen = new Uint8Array(5)
    container.device.read(0x100000, seen)
    expect(rig.text(seen)).toBe('guest')
  })

  it('DRV vector 49c: VADDR on a mapping that is valid', () => {
    const rig = new Rig(release)
    const container = ready(rig.app)
    const at = rig.memory('rw8')
    map(container, at, 8)
    expect(answer(() => map(container, at, 8, { flags: VADDR }))).toBe('-EINVAL')
  })

  it('R-VFIO-10 a group that joins waits for the address on 6.1, and takes what is there later', () => {
    const rig = new Rig(release)
    const container = open(rig.app)
    const mdev = mdevGroup(rig.app)
    join(mdev, container)
    setIommu(container)
    const at = rig.memory('rw4')
    map(container, at, 4)
    expect(unmap(container, 0x100000, 4 * P, { flags: VFIO_DMA_UNMAP_FLAG_VADDR })).toBe('-EBUSY')
    const group = iommuGroup(rig.app)
    for (const dma of container.device.dmas) dma.vaddrInvalid = true
    const joining = rig.k.scheduler.spawn('join', rig.app, group.device.setContainer(container.device))
    const idle = rig.k.scheduler.runUntilIdle()
    expect(idle).toBe(release !== '6.1')
    if (!idle) map(container, at, 4, { flags: VADDR })
    expect([joining.done, rig.pinned]).toEqual([true, 4])
  })

  it('R-VFIO-3 R-VFIO-7 scattered pages, single pages and huge ones are one mapping', () => {
    const rig = new Rig(release)
    const at = rig.memory('rw6')
    for (const page of [3, 0, 5, 1, 4, 2]) rig.app.touch(at + page * P, P)
    rig.store(at, 'one')
    rig.store(at + 5 * P, 'six')
    for (const disableHugepages of [false, true]) {
      const container = ready(rig.app, { options: { disableHugepages } })
      map(container, at, 6)
      expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([6, 6])
      const seen = new Uint8Array(5 * P + 3)
      expect(container.device.read(0x100000, seen)).toBe(true)
      expect([rig.text(seen.subarray(0, 3)), rig.text(seen.subarray(5 * P))]).toEqual(['one', 'six'])
      expect(unmap(container, 0x100000, 6 * P)).toBe(6 * P)
      expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([0, 0])
    }
  })

  it('R-DRV-11 a guest that was ballooned keeps its old page', () => {
    const rig = new Rig(release)
    const at = rig.memory('rw4')
    const container = ready(rig.app)
    map(container, at, 4)
    rig.app.madvise(at, P, MADV_DONTNEED)
    container.device.write(0x100000, new TextEncoder().encode('lost'))
    expect(rig.app.load(at, 1)[0]).toBe(0)
  })

  it('R-VFIO-9 R-DRV-19 closing the container releases nothing, the last group everything', () => {
    const rig = new Rig(release)
    const container = open(rig.app)
    const group = iommuGroup(rig.app)
    join(group, container)
    setIommu(container)
    const at = rig.memory('rw4')
    map(container, at, 4)
    const device = openDevice(rig.app, (k) => new VfioDevice(k, group.device))
    const unset = (): number => group.call('VFIO_GROUP_UNSET_CONTAINER', (g) => g.unsetContainer())
    expect(answer(unset)).toBe('-EBUSY')
    container.close()
    group.close()
    expect(rig.pinned).toBe(4)
    device.close()
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([0, 0])

    const second = ready(rig.app)
    map(second, at, 4)
    const [only] = second.device.groups
    rig.app.run(only!.unsetContainer())
    expect([rig.pinned, second.device.dmas.length]).toEqual([0, 0])
    expect(answer(() => map(second, at, 4))).toBe('-EINVAL')
    expect(answer(() => rig.app.call('x', only!.unsetContainer()))).toBe('-EINVAL')
  })

  it('R-VFIO-13 every container charges the same memory once more', () => {
    const rig = new Rig(release, { limit: 8 })
    const at = rig.memory('rw4')
    for (let i = 0; i < 2; i++) expect(map(ready(rig.app), at, 4)).toBe(0)
    expect(rig.app.mm!.lockedVm).toBe(8)
    expect(answer(() => map(ready(rig.app), at, 4))).toBe('-ENOMEM')
    rig.app.setLimit('memlock', 100 * P)
    rig.app.mlock(at, 4 * P)
    expect(rig.app.mm!.lockedVm).toBe(12)
  })

  it('R-VFIO-14 what io_uring has charged to the user leaves the limit of the address space whole', () => {
    const rig = new Rig(release, { limit: 100 })
    const container = ready(rig.app)
    const at = rig.memory('rw200')
    openIoUring(rig.app, { entries: 1 }).registerBuffers([{ base: at, length: 90 * P }])
    expect(rig.locked()).toBeGreaterThanOrEqual(90)
    expect(map(container, at, 100)).toBe(0)
    expect(rig.app.mm!.lockedVm).toBe(100)
    expect(answer(() => map(container, at, 1, { iova: 0x900000 }))).toBe('-ENOMEM')
  })

  it('R-VFIO-4 CAP_IPC_LOCK lifts the limit, the charge stays', () => {
    const rig = new Rig(release, { limit: 0, capabilities: ['CAP_IPC_LOCK'] })
    map(ready(rig.app), rig.memory('rw4'), 4)
    expect(rig.app.mm!.lockedVm).toBe(4)
  })

  it('R-VFIO-3 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const steps = walkDevice(
      release,
      (rig) => {
        const at = rig.memory('rw3+memfd3')
        for (const page of [2, 0, 5, 1]) rig.app.touch(at + page * P, P)
        const container = open(rig.app)
        const groups = [mdevGroup(rig.app), iommuGroup(rig.app)]
        join(groups[0]!, container)
        setIommu(container)
        return () => {
          map(container, at, 2, { iova: 0 })
          join(groups[1]!, container)
          map(container, at, 6)
          unmap(container, 0, 2 * P)
        }
      },
      { limit: 64 },
    )
    expect(steps).toBeGreaterThan(20)
  })
})

describe('mediated devices', () => {
  function world(limit = 100): { rig: Rig; container: Container; mdev: DeviceHandle<MdevGroup> } {
    const rig = new Rig('6.12', { limit })
    const container = open(rig.app)
    const mdev = mdevGroup(rig.app)
    join(mdev, container)
    setIommu(container)
    return { rig, container, mdev }
  }
  const pin = (rig: Rig, c: Container, iova: number, n: number, pages: PageArray | null, write = true) =>
    answer(() => rig.app.call('vfio_pin_pages', vfioPinPages(c.device, iova, n, write, pages)))

  it('R-VFIO-11 pages are pinned and charged one by one, once each', () => {
    const { rig, container, mdev } = world()
    const at = rig.memory('rw4+hole4+ro4')
    map(container, at, 8, { iova: 0 })
    map(container, at + 8 * P, 4, { iova: 8 * P, flags: READ })
    const pages = new PageArray(4)
    expect(pin(rig, container, 0, 4, pages)).toBe(4)
    expect(pin(rig, container, 0, 4, pages)).toBe(4)
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([4, 4])
    expect(pin(rig, container, 2 * P, 4, pages)).toBe('-EFAULT')
    expect(pin(rig, container, 20 * P, 1, pages)).toBe('-EINVAL')
    expect(pin(rig, container, 8 * P, 1, pages)).toBe('-EPERM')
    expect(pin(rig, container, 8 * P, 1, pages, false)).toBe(1)
    expect(pin(rig, container, 0, 1, null)).toBe('-EINVAL')
    const told: number[] = []
    mdev.device.dmaUnmap = (iova, size) => {
      told.push(iova)
      rig.app.run(vfioUnpinPages(container.device, iova, size / P))
    }
    expect(unmap(container, 8 * P, 4 * P)).toBe(4 * P)
    rig.app.run(vfioUnpinPages(container.device, 0, 4))
    expect(rig.pinned).toBe(4)
    expect(unmap(container, 0, 8 * P)).toBe(8 * P)
    expect([told, rig.pinned, rig.app.mm!.lockedVm]).toEqual([[8 * P, 0], 0, 0])
  })

  it('R-VFIO-11 over the limit is ENOMEM with a line in the log, and the call leaves nothing', () => {
    const { rig, container } = world(2)
    map(container, rig.memory('rw4'), 4, { iova: 0 })
    expect(pin(rig, container, 0, 4, new PageArray(4))).toBe('-ENOMEM')
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([0, 0])
    expect(rig.k.warnings[0]!.message).toMatch(
      /vfio_pin_page_external: Task app \(\d+\) RLIMIT_MEMLOCK \(8192\)/,
    )
  })

  it('R-VFIO-9 the last IOMMU leaves mediated devices what they hold, charged', () => {
    const { rig, container } = world()
    map(container, rig.memory('rw4'), 4, { iova: 0 })
    const group = iommuGroup(rig.app)
    join(group, container)
    pin(rig, container, P, 2, new PageArray(2))
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([6, 4])
    rig.app.run(group.device.unsetContainer())
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([2, 2])
    rig.app.run(vfioUnpinPages(container.device, P, 2))
  })

  it('R-VFIO-10 R-VFIO-11 EBUSY while an address is being updated, EACCES on version 1, EINVAL without a device', () => {
    const { rig, container } = world()
    map(container, rig.memory('rw4'), 4, { iova: 0 })
    for (const dma of container.device.dmas) dma.vaddrInvalid = true
    expect(pin(rig, container, 0, 1, new PageArray(1))).toBe('-EBUSY')
    expect(pin(rig, ready(rig.app, { model: 'type1' }), 0, 1, new PageArray(1))).toBe('-EACCES')
    expect(pin(rig, ready(rig.app), 0, 1, new PageArray(1))).toBe('-EINVAL')
  })

  it('R-VFIO-12 dirty pages: all of an IOMMU mapping, else what was pinned', () => {
    const { rig, container } = world()
    const dirty = (request: Parameters<typeof dirtyPages>[1], c = container): number | string =>
      answer(() => c.call('VFIO_IOMMU_DIRTY_PAGES', (d) => dirtyPages(d, request)))
    map(container, rig.memory('rw8'), 8, { iova: 0 })
    const get = { flags: 4, iova: 0, size: 8 * P, pgsize: P }
    expect(dirty({ flags: 1 }, ready(rig.app, { model: 'type1' }))).toBe('-EACCES')
    expect([dirty('unreadable'), dirty({ flags: 3 }), dirty({ flags: 8 }), dirty({ ...get })]).toEqual([
      '-EFAULT',
      '-EINVAL',
      '-EINVAL',
      '-EINVAL',
    ])
    expect([dirty({ flags: 1 }), dirty({ flags: 1 })]).toEqual([0, 0])
    pin(rig, container, 2 * P, 1, new PageArray(1))
    const bitmap = new Uint8Array(1)
    expect(dirty({ ...get, bitmap })).toBe(0)
    expect(bitmap[0]).toBe(0b100)
    expect(dirty({ ...get, bitmap, size: 4 * P })).toBe('-EINVAL')
    expect(dirty({ ...get, bitmap, pgsize: 512 })).toBe('-EINVAL')
    rig.app.run(vfioUnpinPages(container.device, 2 * P, 1))
    join(iommuGroup(rig.app), container)
    expect(dirty({ ...get, bitmap })).toBe(0)
    expect(bitmap[0]).toBe(0xff)
    const data = new Uint8Array(1)
    const asked = {
      argsz: 48,
      flags: VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
      bitmap: { pgsize: P, size: 1, data },
    }
    expect(unmap(container, 0, 8 * P, { ...asked, argsz: 24 })).toBe('-EINVAL')
    expect(unmap(container, 0, 8 * P, { ...asked, bitmap: 'unreadable' })).toBe('-EFAULT')
    expect(unmap(container, 0, 8 * P, { ...asked, bitmap: { pgsize: P, size: 0, data } })).toBe('-EINVAL')
    expect(unmap(container, 0, 8 * P, { ...asked, flags: asked.flags | VFIO_DMA_UNMAP_FLAG_ALL })).toBe(
      '-EINVAL',
    )
    expect(unmap(container, 0, 8 * P, asked)).toBe(8 * P)
    expect(data[0]).toBe(0xff)
    expect(dirty({ flags: 2 })).toBe(0)
  })

  it('R-VFIO-8 ALL takes everything and no range', () => {
    const rig = new Rig('6.12')
    const container = ready(rig.app)
    const at = rig.memory('rw8')
    for (const iova of [0, 8 * P, 2 ** 40]) map(container, at, 4, { iova })
    const all = { flags: VFIO_DMA_UNMAP_FLAG_ALL }
    expect(unmap(container, 0, P, all)).toBe('-EINVAL')
    expect(unmap(container, 0, 0)).toBe('-EINVAL')
    expect(unmap(container, 5, P)).toBe('-EINVAL')
    expect(unmap(container, 0, 0, all)).toBe(12 * P)
    expect(rig.pinned).toBe(0)
    expect(answer(() => container.call('x', (c) => c.unmapDma('unreadable')))).toBe('-EFAULT')
  })
})

describe('reserved pages between others', () => {
  it('R-VFIO-6 the zero page of a mapping that is only read is neither charged nor unpinned', () => {
    const rig = new Rig('6.1')
    const container = ready(rig.app)
    const at = rig.memory('rw8')
    for (const page of [0, 2, 3, 7]) rig.app.touch(at + page * P, P)
    expect(map(container, at, 8, { flags: READ })).toBe(0)
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([4, 4])
    expect(unmap(container, 0x100000, 8 * P)).toBe(8 * P)
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([0, 0])
  })
})
