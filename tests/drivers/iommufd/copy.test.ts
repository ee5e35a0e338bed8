/** IOMMU_IOAS_COPY of ranges that several mappings cover (R-IOMMUFD-10). */
import { describe, expect, it } from 'vitest'
import {
  Domain,
  IOMMU_IOAS_MAP_FIXED_IOVA as FIXED,
  IOMMU_IOAS_MAP_READABLE as READABLE,
  IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
  openIommufd,
  type IoasCopy,
  type Iommufd,
} from '../../../src/drivers/iommufd/ioas.ts'
import type { DomainData } from '../../../src/drivers/iommufd/io-pagetable.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import { P, RELEASES, Rig, answer, walkDevice } from '../rig.ts'

type Handle = DeviceHandle<Iommufd>
const RW = READABLE | WRITEABLE
const HAVING = RELEASES.filter((release) => release !== '6.1')

/** Two IO address spaces; the second one has a device if asked for. */
function open(rig: Rig, device: DomainData | null = {}): Handle {
  const handle = openDevice(rig.app, openIommufd)
  for (let i = 0; i < 2; i++) handle.call('IOMMU_IOAS_ALLOC', (d) => d.ioasAlloc())
  if (device !== null) attach(handle, device)
  return handle
}

const attach = (h: Handle, data: DomainData = {}, ioas = 2): number | string =>
  answer(() => h.call('attach', (d) => d.attach(ioas, new Domain(data))))

const map = (h: Handle, userVa: number, pages: number, iova: number, flags = RW): number | string =>
  answer(() =>
    h.call('IOMMU_IOAS_MAP', (d) =>
      d.ioasMap({ flags: flags | FIXED, ioas: 1, userVa, length: pages * P, iova }),
    ),
  )

/** @returns the IOVA, or the errno by name */
function copy(h: Handle, sourceIova: number, pages: number, more: Partial<IoasCopy> = {}): number | string {
  const request = { flags: RW | FIXED, source: 1, target: 2, sourceIova, length: pages * P, iova: 0, ...more }
  const result = answer(() => h.call('IOMMU_IOAS_COPY', (d) => d.ioasCopy(request)))
  return result === 0 ? request.iova : result
}

const areas = (h: Handle, ioas = 2): [number, number][] =>
  h.device.ioases.get(ioas)!.areas.map(({ iova, length }) => [iova / P, length / P])

describe.each(HAVING)('IOMMU_IOAS_COPY on %s', (release) => {
  it('R-IOMMUFD-10 parts of two mappings lie one behind the other in the copy', () => {
    const rig = new Rig(release, { limit: 10 })
    const handle = open(rig)
    const [a, b] = [rig.memory('rw8'), rig.memory('rw8')]
    map(handle, a, 8, 0)
    map(handle, b, 8, 8 * P)
    expect(copy(handle, 4 * P, 10, { iova: 0x100 * P })).toBe(0x100 * P)
    expect(areas(handle)).toEqual([
      [0x100, 4],
      [0x104, 6],
    ])
    expect([rig.pinned, rig.locked()]).toEqual([10, 10])
    rig.store(a + 7 * P, 'end')
    rig.store(b, 'begin')
    const target = handle.device.ioases.get(2)!
    const seen = new Uint8Array(P + 5)
    expect(target.read(0x103 * P, seen)).toBe(true)
    expect([rig.text(seen.subarray(0, 3)), rig.text(seen.subarray(P))]).toEqual(['end', 'begin'])
    expect(answer(() => handle.call('unmap', (d) => d.ioasUnmap(2, 0x100 * P, 10 * P)))).toBe(10 * P)
    expect([rig.pinned, rig.locked()]).toEqual([0, 0])
  })

  it('R-IOMMUFD-10 a gap, a read-only part and a place that is taken refuse all of it', () => {
    const rig = new Rig(release)
    const handle = open(rig)
    const at = rig.memory('rw32')
    map(handle, at, 4, 0)
    map(handle, at + 8 * P, 4, 4 * P, READABLE)
    map(handle, at + 16 * P, 4, 9 * P)
    expect(copy(handle, 0, 12)).toBe('-ENOENT')
    expect(copy(handle, 0, 8)).toBe('-EPERM')
    expect(copy(handle, 0, 8, { flags: READABLE | FIXED })).toBe(0)
    expect(copy(handle, 9 * P, 2, { iova: 5 * P })).toBe('-EEXIST')
    expect(copy(handle, 9 * P, 2, { flags: RW })).toBe(8 * P)
    expect([areas(handle).length, rig.pinned]).toEqual([3, 10])
  })

  it('R-IOMMUFD-10 what cannot be pinned takes the parts before it along', () => {
    const rig = new Rig(release)
    const handle = open(rig)
    map(handle, rig.memory('rw4'), 4, 0)
    map(handle, rig.memory('rw2+hole2'), 4, 4 * P)
    expect(copy(handle, 0, 8)).toBe('-EFAULT')
    expect([areas(handle), areas(handle, 1).length, rig.pinned]).toEqual([[], 2, 0])
    expect(copy(handle, 0, 6)).toBe(0)
    expect(rig.pinned).toBe(6)
  })

  it('R-IOMMUFD-10 over the limit in the second part: neither is pinned or charged', () => {
    const rig = new Rig(release, { limit: 7 })
    const handle = open(rig)
    map(handle, rig.memory('rw4'), 4, 0)
    map(handle, rig.memory('rw4'), 4, 4 * P)
    expect(copy(handle, 0, 8)).toBe('-ENOMEM')
    expect([areas(handle), rig.pinned, rig.locked()]).toEqual([[], 0, 0])
  })

  it('R-IOMMUFD-3 a device whose pages or reserved IOVAs do not suit what is mapped is outside the model', () => {
    const rig = new Rig(release)
    const handle = open(rig, null)
    map(handle, rig.memory('rw4'), 4, 4 * P)
    copy(handle, 4 * P, 3, { iova: 4 * P })
    expect(() => attach(handle, { minPage: 4 * P })).toThrow(/^Unmodelled: .*R-IOMMUFD-3/)
    expect(() => attach(handle, { reserved: [{ start: 0, end: 5 * P }] })).toThrow(
      /^Unmodelled: .*R-IOMMUFD-3/,
    )
    expect(attach(handle, { reserved: [{ start: 7 * P, end: 8 * P }] })).toBe(0)
  })

  it('R-IOMMUFD-10 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const steps = walkDevice(
      release,
      (rig) => {
        const at = rig.memory('rw8')
        const handle = open(rig)
        return () => {
          map(handle, at, 4, 0)
          map(handle, at + 4 * P, 4, 4 * P)
          copy(handle, 2 * P, 4)
          copy(handle, 0, 8, { target: 1, iova: 0x100 * P })
          attach(handle, {}, 1)
        }
      },
      { limit: 64 },
    )
    expect(steps).toBeGreaterThan(15)
  })
})
