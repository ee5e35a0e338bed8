/** IOMMU_IOAS_MAP_FILE and IOMMU_IOAS_CHANGE_PROCESS (R-IOMMUFD-15). */
import { describe, expect, it } from 'vitest'
import { IommufdAccess } from '../../../src/drivers/iommufd/access.ts'
import {
  Domain,
  IOMMU_IOAS_MAP_FIXED_IOVA as FIXED,
  IOMMU_IOAS_MAP_READABLE as READABLE,
  IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
  openIommufd,
  type IoasMapFile,
  type Iommufd,
} from '../../../src/drivers/iommufd/ioas.ts'
import { VfioCompat } from '../../../src/drivers/iommufd/vfio-compat.ts'
import type { OpenFile } from '../../../src/mm/file.ts'
import { openAgain } from '../../../src/mm/filemap.ts'
import { hugetlbPool } from '../../../src/mm/hugetlb.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice } from '../rig.ts'

type Handle = DeviceHandle<Iommufd>
const RW = READABLE | WRITEABLE
const AT = 0x100000

const open = (app: Process): Handle => openDevice(app, openIommufd)
const alloc = (h: Handle): number => h.call('IOMMU_IOAS_ALLOC', (d) => d.ioasAlloc())
const attach = (h: Handle): number | string =>
  answer(() => h.call('attach', (d) => d.attach(1, new Domain())))

function ready(rig: Rig, app: Process = rig.app): Handle {
  const handle = open(app)
  alloc(handle)
  attach(handle)
  return handle
}

const fileOf = (app: Process, fd: number): OpenFile | null => app.files.get(fd) as OpenFile | null

/** @returns the IOVA, or the errno by name */
function mapFile(h: Handle, fd: number, pages: number, more: Partial<IoasMapFile> = {}): number | string {
  const request: IoasMapFile = {
    flags: RW | FIXED,
    ioas: 1,
    file: fileOf(h.process, fd),
    start: 0,
    length: pages * P,
    iova: AT,
    ...more,
  }
  const result = answer(() => h.call('IOMMU_IOAS_MAP_FILE', (d) => d.ioasMapFile(request)))
  return result === 0 ? request.iova! : result
}

const unmap = (h: Handle, iova: number, length: number): number | string =>
  answer(() => h.call('IOMMU_IOAS_UNMAP', (d) => d.ioasUnmap(1, iova, length)))

const change = (h: Handle): number | string =>
  answer(() => h.call('IOMMU_IOAS_CHANGE_PROCESS', (d) => d.changeProcess()))

it.each(RELEASES.filter((release) => !['6.1', '6.18'].includes(release)))(
  'R-IOMMUFD-15 %s has neither command',
  (release) => {
    const rig = new Rig(release)
    const handle = ready(rig)
    expect([mapFile(handle, rig.app.memfdCreate('m', P), 1), change(handle)]).toEqual(['-ENOTTY', '-ENOTTY'])
  },
)

describe('IOMMU_IOAS_MAP_FILE', () => {
  it('R-IOMMUFD-15 R-GUP-97 pins what a memfd holds, and makes what it does not, without an address', () => {
    const rig = new Rig('6.18', { limit: 8 })
    const handle = ready(rig)
    const fd = rig.app.memfdCreate('m', 16 * P)
    const seen = rig.app.mmap({ length: 16 * P, shared: true, fd })
    rig.store(seen + 4 * P, 'old')
    expect(mapFile(handle, fd, 8, { start: 4 * P })).toBe(AT)
    expect([rig.pinned, rig.locked(), rig.app.mm!.pinnedVm, rig.app.mm!.lockedVm]).toEqual([8, 8, 8, 0])
    const { mapping } = fileOf(rig.app, fd)!
    expect([3, 4, 11, 12].map((index) => mapping.pages.get(index) !== 0)).toEqual([false, true, true, false])
    const device = handle.device.ioases.get(1)!
    const bytes = new Uint8Array(3)
    expect(device.read(AT, bytes)).toBe(true)
    expect(rig.text(bytes)).toBe('old')
    expect(device.write(AT + 7 * P, new TextEncoder().encode('new'))).toBe(true)
    expect(rig.text(rig.app.load(seen + 11 * P, 3))).toBe('new')
    expect(unmap(handle, AT, 8 * P)).toBe(8 * P)
    expect([rig.pinned, rig.locked(), rig.app.mm!.pinnedVm]).toEqual([0, 0, 0])
  })

  it('R-IOMMUFD-15 the pins outlive descriptor, mapping and process', () => {
    const rig = new Rig('6.18')
    const child = rig.app.fork()
    const handle = ready(rig, child)
    const fd = child.memfdCreate('m', 4 * P)
    const file = fileOf(child, fd)!.get()
    mapFile(handle, fd, 4)
    const heir = child.fork()
    child.close(fd)
    child.exit()
    expect(rig.pinned).toBe(4)
    expect(handle.device.ioases.get(1)!.write(AT, new TextEncoder().encode('late'))).toBe(true)
    const mine = rig.app.mmap({ length: P, shared: true, fd: rig.app.install(file) })
    expect(rig.text(rig.app.load(mine, 4))).toBe('late')
    heir.exit()
    expect(rig.pinned).toBe(0)
  })

  it('R-IOMMUFD-15 what is refused, in the order of the checks', () => {
    const rig = new Rig('6.18')
    const handle = ready(rig)
    const fd = rig.app.memfdCreate('m', 4 * P)
    expect(mapFile(handle, fd, 4, { flags: 8, file: null })).toBe('-EOPNOTSUPP')
    expect(mapFile(handle, fd, 4, { length: 2 ** 64 })).toBe('-EOVERFLOW')
    expect(mapFile(handle, fd, 4, { flags: FIXED })).toBe('-EINVAL')
    expect(mapFile(handle, fd, 4, { ioas: 7, file: null })).toBe('-ENOENT')
    expect(mapFile(handle, 99, 4)).toBe('-EBADF')
    expect(mapFile(handle, fd, 0)).toBe('-EINVAL')
    expect(mapFile(handle, fd, 4, { length: 100 })).toBe('-EINVAL')
    expect(mapFile(handle, fd, 1, { start: 100 })).toBe('-EINVAL')
    const disk = rig.app.openFile('/data', 4 * P)
    expect(
      reason(() =>
        handle.call('x', (d) =>
          d.ioasMapFile({ flags: RW, ioas: 1, file: fileOf(rig.app, disk), start: 0, length: P }),
        ),
      ),
    ).toMatchObject({ rule: 'R-GUP-97', why: 'the file is neither a memfd nor of hugetlbfs' })
    expect(mapFile(handle, fd, 5)).toBe('-EINVAL')
    expect(mapFile(handle, fd, 4)).toBe(AT)
    expect(mapFile(handle, fd, 4, { iova: AT + P })).toBe('-EEXIST')
    expect(rig.pinned).toBe(4)
  })

  it('R-IOMMUFD-15 R-IOMMUFD-3 without a device nothing is pinned, and the one that comes finds the end', () => {
    const rig = new Rig('6.18')
    const handle = open(rig.app)
    alloc(handle)
    const fd = rig.app.memfdCreate('m', 4 * P)
    expect(mapFile(handle, fd, 8)).toBe(AT)
    expect(rig.pinned).toBe(0)
    expect(attach(handle)).toBe('-EINVAL')
    rig.app.ftruncate(fd, 8 * P)
    expect(attach(handle)).toBe(0)
    expect(rig.pinned).toBe(8)
  })

  it('R-IOMMUFD-15 R-IOMMUFD-7 the limit is met after pinning, and all is undone', () => {
    const rig = new Rig('6.18', { limit: 7 })
    const handle = ready(rig)
    const fd = rig.app.memfdCreate('m', 8 * P)
    expect(mapFile(handle, fd, 8)).toBe('-ENOMEM')
    expect([rig.pinned, rig.locked(), rig.app.mm!.pinnedVm]).toEqual([0, 0, 0])
    expect(mapFile(handle, fd, 7)).toBe(AT)
    const cap = new Rig('6.18', { limit: 0, capabilities: ['CAP_IPC_LOCK'] })
    expect(mapFile(ready(cap), cap.app.memfdCreate('m', 8 * P), 8)).toBe(AT)
    expect([cap.locked(), cap.app.mm!.pinnedVm]).toEqual([0, 8])
  })

  it('R-IOMMUFD-15 R-GUP-97 a part of a huge page: one pin for each page of it, one page of the pool', () => {
    const rig = new Rig('6.18')
    hugetlbPool(rig.k).resize(3)
    const handle = ready(rig)
    const fd = rig.app.memfdCreateHugetlb('h', '4M')
    expect(mapFile(handle, fd, 1022, { start: 2 * P })).toBe(AT)
    expect([rig.pinned, rig.locked(), hugetlbPool(rig.k).free]).toEqual([1022, 1022, 1])
    const device = handle.device.ioases.get(1)!
    device.write(AT + 510 * P, new TextEncoder().encode('next'))
    const seen = rig.app.mmap({ length: '4M', shared: true, fd })
    expect(rig.text(rig.app.load(seen + 512 * P, 4))).toBe('next')
    expect(unmap(handle, AT, 1022 * P)).toBe(1022 * P)
    expect([rig.pinned, hugetlbPool(rig.k).free]).toEqual([0, 1])
  })

  it('R-IOMMUFD-15 a file that may not be written is only known to be read', () => {
    const rig = new Rig('6.18')
    const handle = ready(rig)
    const fd = rig.app.memfdCreate('m', 4 * P)
    const { mapping } = fileOf(rig.app, fd)!
    const readOnly = rig.app.install(
      openAgain(rig.k, mapping, '/memfd:m', { readable: true, writable: false }),
    )
    expect(() => mapFile(handle, readOnly, 4)).toThrow(/^Unmodelled: .*R-IOMMUFD-15/)
    expect(mapFile(handle, readOnly, 4, { flags: READABLE | FIXED })).toBe(AT)
    expect(handle.device.ioases.get(1)!.write(AT, new Uint8Array(1))).toBe(false)
  })

  it('R-IOMMUFD-15 R-IOMMUFD-10 a copy pins nothing again; accesses share the pins and copy bytes', () => {
    const rig = new Rig('6.18')
    const handle = ready(rig)
    const fd = rig.app.memfdCreate('m', 8 * P)
    mapFile(handle, fd, 8)
    const again = { flags: RW | FIXED, source: 1, target: 1, sourceIova: AT, length: 8 * P, iova: 0 }
    expect(answer(() => handle.call('copy', (d) => d.ioasCopy(again)))).toBe(0)
    expect(rig.pinned).toBe(8)
    const access = new IommufdAccess(rig.k, handle.device.ioases.get(1)!)
    expect(rig.app.run(access.pinPages(AT + P, 2 * P, true))).toBe(0)
    expect(rig.app.run(access.rw(AT + P - 2, new TextEncoder().encode('over'), true))).toBe(0)
    const bytes = new Uint8Array(4)
    expect(rig.app.run(access.rw(AT + P - 2, bytes, false))).toBe(0)
    expect([rig.text(bytes), rig.pinned]).toEqual(['over', 8])
    rig.app.run(access.unpinPages(AT + P, 2 * P))
    rig.app.run(access.detach())
  })

  it('R-IOMMUFD-15 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const steps = walkDevice(
      '6.18',
      (rig) => {
        const fd = rig.app.memfdCreate('m', 8 * P)
        const handle = open(rig.app)
        return () => {
          alloc(handle)
          mapFile(handle, fd, 4, { start: 2 * P })
          attach(handle)
          mapFile(handle, fd, 8, { iova: 0x200000 })
          change(handle)
          unmap(handle, 0x200000, 8 * P)
        }
      },
      { limit: 64 },
    )
    expect(steps).toBeGreaterThan(15)
  })
})

describe('IOMMU_IOAS_CHANGE_PROCESS', () => {
  /** A process maps a file and leaves its descriptors to a child of another user. */
  function handedOn(limit: number): { rig: Rig; handle: Handle; heir: Process } {
    const rig = new Rig('6.18')
    const handle = ready(rig)
    mapFile(handle, rig.app.memfdCreate('m', 8 * P), 8)
    const heir = rig.spawn('heir', { uid: 2000, limit })
    for (const fd of [0, 1]) heir.install(rig.app.files.get(fd)!.get())
    return { rig, handle: handle.in(heir), heir }
  }

  it('R-IOMMUFD-15 the one that calls pays, and whoever paid is given it back', () => {
    const { rig, handle, heir } = handedOn(8)
    expect([rig.locked(1000), rig.locked(2000)]).toEqual([8, 0])
    expect(change(handle)).toBe(0)
    expect([rig.locked(1000), rig.locked(2000)]).toEqual([0, 8])
    expect([rig.app.mm!.pinnedVm, heir.mm!.pinnedVm, rig.pinned]).toEqual([0, 8, 8])
    expect(change(handle)).toBe(0)
    expect(rig.locked(2000)).toBe(8)
    expect(unmap(handle, AT, 8 * P)).toBe(8 * P)
    expect([rig.locked(2000), heir.mm!.pinnedVm]).toEqual([0, 0])
    heir.exit()
  })

  it('R-IOMMUFD-15 over the limit of the new one nothing changes', () => {
    const { rig, handle, heir } = handedOn(7)
    const { errno, needed, limit } = reason(() => handle.call('x', (d) => d.changeProcess()))
    expect([errno, needed, limit]).toEqual([12, 8, 7])
    expect([rig.locked(1000), rig.locked(2000), heir.mm!.pinnedVm, rig.app.mm!.pinnedVm]).toEqual([
      8, 0, 0, 8,
    ])
    heir.exit()
  })

  it('R-IOMMUFD-15 memory of a process stays with that process', () => {
    const { rig, handle, heir } = handedOn(16)
    const map = { flags: RW, ioas: 1, userVa: rig.memory('rw1'), length: P }
    rig.app.call('IOMMU_IOAS_MAP', handle.device.ioasMap(map))
    expect(change(handle)).toBe('-EINVAL')
    expect([rig.locked(1000), rig.locked(2000)]).toEqual([9, 0])
    heir.exit()
  })

  it('R-IOMMUFD-15 R-IOMMUFD-14 what VmLck counts moves as well, also from a process that has gone', () => {
    const rig = new Rig('6.18')
    const parent = rig.app.fork()
    const compat = openDevice(parent, (k) => new VfioCompat(k))
    compat.call('VFIO_SET_IOMMU', (d) => d.setIommu())
    compat.call('attach', (d) => d.attach(1))
    const fd = parent.memfdCreate('m', 4 * P)
    mapFile(compat, fd, 4)
    expect([parent.mm!.lockedVm, parent.mm!.pinnedVm]).toEqual([4, 4])
    const heir = parent.fork()
    parent.exit()
    expect(change(compat.in(heir))).toBe(0)
    expect([heir.mm!.lockedVm, heir.mm!.pinnedVm, rig.pinned]).toEqual([4, 4, 4])
    heir.exit()
    expect(rig.pinned).toBe(0)
  })
})
