import { describe, expect, it } from 'vitest'
import { IommufdAccess } from '../../../src/drivers/iommufd/access.ts'
import {
  Domain,
  IOMMU_IOAS_MAP_FIXED_IOVA as FIXED,
  IOMMU_IOAS_MAP_READABLE as READABLE,
  IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
  openIommufd,
  type DomainData,
  type IoasCopy,
  type IoasMap,
  type Iommufd,
} from '../../../src/drivers/iommufd/ioas.ts'
import { VfioCompat } from '../../../src/drivers/iommufd/vfio-compat.ts'
import { MADV_DONTNEED } from '../../../src/mm/mman.ts'
import { uffdCopy } from '../../../src/mm/userfaultfd.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice } from '../rig.ts'

type Handle = DeviceHandle<Iommufd>
const RW = READABLE | WRITEABLE
const HAVING = RELEASES.filter((release) => release !== '6.1')

const open = (app: Process): Handle => openDevice(app, openIommufd)
const alloc = (h: Handle): number => h.call('IOMMU_IOAS_ALLOC', (d) => d.ioasAlloc())

/** @returns the IOVA, 0 with FIXED, or the errno by name */
function map(h: Handle, userVa: number, pages: number, more: Partial<IoasMap> = {}): number | string {
  const request: IoasMap = { flags: RW | FIXED, ioas: 1, userVa, length: pages * P, iova: 0x100000, ...more }
  const result = answer(() => h.call('IOMMU_IOAS_MAP', (d) => d.ioasMap(request)))
  return result === 0 ? request.iova! : result
}

function attach(h: Handle, data: DomainData = {}, ioas = 1): { domain: Domain; result: number | string } {
  const domain = new Domain(data)
  return { domain, result: answer(() => h.call('attach', (d) => d.attach(ioas, domain))) }
}

const unmap = (h: Handle, iova: number, length: number, ioas = 1): number | string =>
  answer(() => h.call('IOMMU_IOAS_UNMAP', (d) => d.ioasUnmap(ioas, iova, length)))

const copy = (h: Handle, request: Partial<IoasCopy>): number | string =>
  answer(() =>
    h.call('IOMMU_IOAS_COPY', (d) =>
      d.ioasCopy({
        flags: RW | FIXED,
        source: 1,
        target: 2,
        sourceIova: 0x100000,
        length: 8 * P,
        ...request,
      }),
    ),
  )

describe('6.1', () => {
  it('R-IOMMUFD-1 has no iommufd', () => {
    expect(answer(() => open(new Rig('6.1').app).fd)).toBe('-ENOENT')
  })
})

describe.each(HAVING)('IOMMU_IOAS_MAP on %s', (release) => {
  function ready(rig: Rig, data?: DomainData): Handle {
    const handle = open(rig.app)
    alloc(handle)
    attach(handle, data)
    return handle
  }

  it('DRV vector 50: without a device nothing is pinned; the one that comes finds the hole (R-IOMMUFD-3)', () => {
    const rig = new Rig(release, { limit: 4 })
    const handle = open(rig.app)
    alloc(handle)
    expect(map(handle, rig.memory('hole8'), 8)).toBe(0x100000)
    expect(attach(handle).result).toBe('-EFAULT')
    expect([rig.pinned, rig.locked()]).toEqual([0, 0])
    expect(map(handle, rig.memory('rw8'), 8, { iova: 0 })).toBe(0)
    expect(unmap(handle, 0x100000, 8 * P)).toBe(8 * P)
    expect(attach(handle).result).toBe('-ENOMEM')
    rig.app.setLimit('memlock', 8 * P)
    expect(attach(handle).result).toBe(0)
    expect([rig.pinned, rig.locked(), rig.app.mm!.pinnedVm, rig.app.mm!.lockedVm]).toEqual([8, 8, 8, 0])
  })

  it('DRV vector 51: the limit is met after pinning, and all is undone (R-IOMMUFD-7)', () => {
    const rig = new Rig(release, { limit: 8 })
    const handle = ready(rig)
    const at = rig.memory('rw16')
    expect(
      reason(() => handle.call('map', (d) => d.ioasMap({ flags: RW, ioas: 1, userVa: at, length: 16 * P }))),
    ).toMatchObject({
      rule: 'R-IOMMUFD-7',
      needed: 16,
      used: 0,
      limit: 8,
      budget: 'user->locked_vm',
      capability: 'CAP_IPC_LOCK',
    })
    expect(rig.k.pinAcquired).toBe(16)
    expect([
      rig.pinned,
      rig.locked(),
      rig.app.mm!.pinnedVm,
      handle.device.ioases.get(1)!.areas.length,
    ]).toEqual([0, 0, 0, 0])
  })

  it('DRV vector 52: a bad buffer over the limit is EFAULT here (R-DRV-17)', () => {
    const rig = new Rig(release, { limit: 8 })
    expect(map(ready(rig), rig.memory('rw8+hole8'), 16)).toBe('-EFAULT')
    expect([rig.pinned, rig.locked()]).toEqual([0, 0])
  })

  it('DRV vector 53: a copy pins nothing again and costs nothing (R-IOMMUFD-4, R-IOMMUFD-10)', () => {
    const rig = new Rig(release, { limit: 8 })
    const handle = ready(rig)
    alloc(handle)
    attach(handle, {}, 2)
    const at = rig.memory('rw8')
    map(handle, at, 8)
    expect(copy(handle, { iova: 0 })).toBe(0)
    expect([rig.pinned, rig.locked()]).toEqual([8, 8])
    expect(unmap(handle, 0x100000, 8 * P)).toBe(8 * P)
    expect([rig.pinned, rig.locked()]).toEqual([8, 8])
    rig.store(at, 'shown')
    const seen = new Uint8Array(5)
    expect(handle.device.ioases.get(2)!.read(0, seen)).toBe(true)
    expect(rig.text(seen)).toBe('shown')
    expect(unmap(handle, 0, 8 * P, 2)).toBe(8 * P)
    expect([rig.pinned, rig.locked()]).toEqual([0, 0])
    map(handle, at, 8)
    expect(map(handle, at, 8, { iova: 0 })).toBe('-ENOMEM')
  })

  it('DRV vector 54: a part of an area cannot be unmapped (R-IOMMUFD-9)', () => {
    const rig = new Rig(release)
    const handle = ready(rig)
    const at = rig.memory('rw16')
    map(handle, at, 8)
    map(handle, at + 8 * P, 8, { iova: 0x200000 })
    expect(unmap(handle, 0x100000, 4 * P)).toBe('-ENOENT')
    expect(unmap(handle, 0x100000, 0x100000 + 4 * P)).toBe('-ENOENT')
    // the first one is gone all the same
    expect(rig.pinned).toBe(8)
    expect([unmap(handle, 0, 0), unmap(handle, 0, P), unmap(handle, 5 * P, 2 ** 64)]).toEqual([
      '-EINVAL',
      '-ENOENT',
      '-EOVERFLOW',
    ])
    expect(unmap(handle, 0, Infinity)).toBe(8 * P)
    expect(unmap(handle, 0, Infinity)).toBe(0)
    expect(unmap(handle, 0, P, 9)).toBe('-ENOENT')
  })

  it('DRV vector 55: read-only pages are not copied writable; a copy of nothing, of gaps, to nowhere', () => {
    const rig = new Rig(release)
    const handle = ready(rig)
    alloc(handle)
    map(handle, rig.memory('ro8'), 8, { flags: READABLE | FIXED })
    expect(copy(handle, {})).toBe('-EPERM')
    expect(copy(handle, { flags: 8 })).toBe('-EOPNOTSUPP')
    expect(copy(handle, { length: 0 })).toBe('-EINVAL')
    expect(copy(handle, { length: 9 * P })).toBe('-ENOENT')
    expect(copy(handle, { source: 9 })).toBe('-ENOENT')
    expect(copy(handle, { target: 9 })).toBe('-ENOENT')
    expect(copy(handle, { flags: READABLE | FIXED, iova: 0 })).toBe(0)
  })

  it('R-IOMMUFD-2 checks in their order', () => {
    const rig = new Rig(release)
    const handle = ready(rig, { reserved: [{ start: 0xfee00000, end: 0xfef00000 }] })
    const at = rig.memory('rw16')
    const asked = (more: Partial<IoasMap>): number | string => map(handle, at, 8, more)
    expect(asked({ flags: 8, ioas: 9 })).toBe('-EOPNOTSUPP')
    expect(asked({ reserved: 1 })).toBe('-EOPNOTSUPP')
    expect(asked({ length: 2 ** 64, ioas: 9 })).toBe('-EOVERFLOW')
    expect(asked({ ioas: 9, length: 0 })).toBe('-ENOENT')
    expect(asked({ length: 0 })).toBe('-EINVAL')
    expect(asked({ userVa: 2 ** 64 - P })).toBe('-EOVERFLOW')
    expect(asked({ length: 100 })).toBe('-EINVAL')
    expect(asked({ iova: 100 })).toBe('-EINVAL')
    expect(asked({ iova: 0xfee01000 })).toBe('-EINVAL')
    expect(asked({ userVa: at + 8 })).toBe('-EINVAL')
    expect(asked({})).toBe(0x100000)
    expect(asked({ iova: 0x100000 + 7 * P })).toBe('-EEXIST')
    expect(asked({ flags: RW, length: 2 ** 63 + 4096 })).toBe('-EOVERFLOW')
  })

  it('R-IOMMUFD-2 a place of its own is found below, aligned as the memory is', () => {
    const rig = new Rig(release)
    const handle = ready(rig)
    const at = rig.memory('rw64')
    expect(map(handle, at, 8, { flags: RW })).toBe(0)
    expect(map(handle, at + 16 * P, 16, { flags: RW })).toBe(16 * P)
    expect(map(handle, at, 4, { flags: RW })).toBe(8 * P)
  })

  it('R-IOMMUFD-2 without permissions: refused where the release is known to look', () => {
    const rig = new Rig(release)
    const handle = ready(rig)
    const ask = (): number | string => map(handle, rig.memory('rw8'), 8, { flags: FIXED })
    if (release === '6.12' || release === '6.18') expect(ask()).toBe('-EINVAL')
    else expect(ask).toThrow('R-IOMMUFD-2')
  })

  it('R-IOMMUFD-3 without a device any byte can be mapped, and a device that does not suit it is outside the model', () => {
    const rig = new Rig(release)
    const handle = open(rig.app)
    alloc(handle)
    expect(map(handle, rig.memory('rw8') + 8, 4, { iova: 24, length: 100 })).toBe(24)
    expect(() => attach(handle)).toThrow('R-IOMMUFD-3')
  })

  it('R-IOMMUFD-5 maps follow more than one GUP call, and stop at the page that cannot be had', () => {
    const rig = new Rig(release, { kernel: { zones: { normal: 20_000 } } })
    const handle = ready(rig)
    const at = rig.memory('rw9000+hole4')
    expect(map(handle, at, 9000)).toBe(0x100000)
    expect(rig.pinned).toBe(9000)
    expect(map(handle, at, 9004, { iova: 0x10000000 })).toBe('-EFAULT')
    expect([rig.pinned, rig.locked()]).toEqual([9000, 9000])
  })

  it('R-DRV-9 waits for a userfaultfd', () => {
    const rig = new Rig(release)
    const handle = ready(rig)
    const at = rig.memory('rw2')
    const uffd = rig.watch(at, 2)
    const request = { flags: RW, ioas: 1, userVa: at, length: 2 * P }
    const task = rig.k.scheduler.spawn('map', rig.app, handle.device.ioasMap(request))
    while (!rig.k.scheduler.runUntilIdle()) {
      expect(uffd.read()).not.toBeNull()
      for (const page of [at, at + P])
        rig.app.run(uffdCopy(rig.k, uffd, rig.app.mm!, page, new Uint8Array(P)))
    }
    expect(task.result).toBe(0)
  })

  it('R-IOMMUFD-5 another process attaches the device: pages of the one that mapped are pinned, and it pays', () => {
    const rig = new Rig(release, { limit: 8 })
    const handle = open(rig.app)
    alloc(handle)
    const at = rig.memory('rw8')
    map(handle, at, 8)
    const other = rig.app.fork()
    const inherited = handle.in(other)
    rig.app.store(at, new Uint8Array([42]))
    expect(attach(inherited).result).toBe(0)
    expect([rig.pinned, rig.locked(), rig.app.mm!.pinnedVm, other.mm!.pinnedVm]).toEqual([8, 8, 8, 0])
    const seen = new Uint8Array(1)
    handle.device.ioases.get(1)!.read(0x100000, seen)
    expect(seen[0]).toBe(42)
    rig.app.exit()
    expect([rig.pinned, rig.locked()]).toEqual([8, 8])
    other.exit()
    expect([rig.pinned, rig.locked()]).toEqual([0, 0])
  })

  it('R-IOMMUFD-5 R-IOMMUFD-13 of a process that has gone nothing can be pinned any more', () => {
    const rig = new Rig(release)
    const handle = open(rig.app)
    alloc(handle)
    map(handle, rig.memory('rw8'), 8)
    const other = rig.app.fork()
    rig.app.exit()
    const inherited = handle.in(other)
    expect(attach(inherited).result).toBe('-EFAULT')
    expect(answer(() => inherited.call('IOMMU_DESTROY', (d) => d.destroy(1)))).toBe(0)
    expect(answer(() => inherited.call('IOMMU_DESTROY', (d) => d.destroy(1)))).toBe('-ENOENT')
    other.exit()
  })

  it('R-IOMMUFD-7 CAP_IPC_LOCK: nobody pays, VmPin shows it; RLIMIT_MODE 1: the address space pays', () => {
    const root = new Rig(release, { capabilities: ['CAP_IPC_LOCK', 'CAP_SYS_RESOURCE'], limit: 0 })
    const handle = ready(root)
    expect(map(handle, root.memory('rw8'), 8)).toBe(0x100000)
    expect([root.locked(), root.app.mm!.lockedVm, root.app.mm!.pinnedVm]).toEqual([0, 0, 8])
    const mode = (h: Handle, value: number, id = 0): number | string =>
      answer(() => h.call('IOMMU_OPTION', (d) => d.setRlimitMode(value, id)))
    expect([mode(handle, 1), mode(handle, 1, 3)]).toEqual(['-EBUSY', '-EOPNOTSUPP'])
    const rig = new Rig(release, { capabilities: ['CAP_SYS_RESOURCE'], limit: 8 })
    expect(mode(open(new Rig(release).app), 1)).toBe('-EPERM')
    const other = open(rig.app)
    expect([mode(other, 2), mode(other, 1)]).toEqual(['-EINVAL', 0])
    alloc(other)
    attach(other)
    expect(map(other, rig.memory('rw8'), 8)).toBe(0x100000)
    expect([rig.locked(), rig.app.mm!.lockedVm, rig.app.mm!.pinnedVm]).toEqual([0, 8, 8])
    expect(map(other, rig.memory('rw8'), 1, { iova: 0 })).toBe('-ENOMEM')
    unmap(other, 0x100000, 8 * P)
    expect([rig.app.mm!.lockedVm, rig.app.mm!.pinnedVm]).toEqual([0, 0])
  })

  it('R-IOMMUFD-6 R-IOMMUFD-8 two devices, page by page or not; the last one takes the pins along, areas stay', () => {
    const rig = new Rig(release)
    const handle = open(rig.app)
    alloc(handle)
    const at = rig.memory('rw8')
    map(handle, at, 8)
    const [one, two] = [attach(handle).domain, attach(handle, { largePages: false }).domain]
    expect(rig.pinned).toBe(8)
    const detach = (domain: Domain): number => handle.call('detach', (d) => d.detach(1, domain))
    expect(answer(() => handle.call('IOMMU_DESTROY', (d) => d.destroy(1)))).toBe('-EBUSY')
    detach(one)
    expect(rig.pinned).toBe(8)
    detach(two)
    expect([rig.pinned, rig.locked()]).toEqual([0, 0])
    expect(attach(handle).result).toBe(0)
    rig.app.madvise(at, 8 * P, MADV_DONTNEED)
    handle.device.ioases.get(1)!.write(0x100000, new Uint8Array([9]))
    expect(rig.app.load(at, 1)[0]).toBe(0)
    handle.close()
    expect([rig.pinned, rig.locked()]).toEqual([0, 0])
  })

  it('R-IOMMUFD-11 an access pins by IOVA, shares what is pinned, and lets go when it is told', () => {
    const rig = new Rig(release)
    const handle = open(rig.app)
    alloc(handle)
    const ioas = handle.device.ioases.get(1)!
    const at = rig.memory('rw8+ro8')
    map(handle, at, 8)
    map(handle, at + 8 * P, 8, { iova: 0x100000 + 8 * P, flags: READABLE | FIXED })
    const access = new IommufdAccess(rig.k, ioas, (iova, length) => {
      for (const held of access.pinned.slice())
        if (held.iova >= iova && held.iova < iova + length)
          rig.app.run(access.unpinPages(held.iova, held.length))
    })
    const pin = (iova: number, pages: number, write = true): number | string =>
      answer(() => rig.app.call('pin', access.pinPages(0x100000 + iova, pages * P, write)))
    expect([pin(0, 0), pin(2 ** 64, 1), pin(16 * P, 1), pin(8, 1), pin(8 * P, 1)]).toEqual([
      '-EINVAL',
      '-EOVERFLOW',
      '-ENOENT',
      '-EINVAL',
      '-EPERM',
    ])
    expect([pin(0, 4), pin(0, 4), pin(2 * P, 4), pin(6 * P, 4, false)]).toEqual([0, 0, 0, 0])
    expect([rig.pinned, rig.locked()]).toEqual([10, 10])
    attach(handle)
    expect(rig.pinned).toBe(16)
    rig.app.run(access.unpinPages(0x100000, 4 * P))
    expect(() => rig.app.run(access.unpinPages(0x100000, 3 * P))).toThrow('R-IOMMUFD-11')
    rig.app.run(access.unpinPages(0x100000 + 6 * P, 4 * P))
    expect(unmap(handle, 0x100000, 8 * P)).toBe(8 * P)
    expect(rig.pinned).toBe(8)
    pin(8 * P, 1, false)
    rig.app.run(access.detach())
    expect(pin(8 * P, 1, false)).toBe('-ENOENT')
  })

  it('R-IOMMUFD-9 an access that does not let go is EDEADLK', () => {
    const rig = new Rig(release)
    const handle = open(rig.app)
    alloc(handle)
    map(handle, rig.memory('rw8'), 8)
    const access = new IommufdAccess(rig.k, handle.device.ioases.get(1)!)
    rig.app.run(access.pinPages(0x100000, P, true))
    expect(unmap(handle, 0x100000, 8 * P)).toBe('-EDEADLK')
    rig.app.run(access.unpinPages(0x100000, P))
  })

  it('R-IOMMUFD-12 an access copies: its own memory, a page of another process, several, of one that has gone', () => {
    const rig = new Rig(release)
    const handle = open(rig.app)
    alloc(handle)
    const at = rig.memory('rw4')
    map(handle, at, 4)
    map(handle, rig.memory('ro4'), 4, { iova: 0, flags: READABLE | FIXED })
    const access = new IommufdAccess(rig.k, handle.device.ioases.get(1)!)
    const other = rig.spawn('vmm')
    const rw = (app: Process, iova: number, bytes: Uint8Array, write: boolean): number | string =>
      answer(() => app.call('rw', access.rw(iova, bytes, write)))
    const text = (s: string): Uint8Array => new TextEncoder().encode(s)
    expect(rw(rig.app, 0x100000 + P - 2, text('span'), true)).toBe(0)
    expect(rig.text(rig.app.load(at + P - 2, 4))).toBe('span')
    const seen = new Uint8Array(4)
    expect(rw(other, 0x100000 + P - 2, seen, false)).toBe(0)
    expect(rig.text(seen)).toBe('span')
    expect(rw(other, 0x100000 + 8, text('page'), true)).toBe(0)
    expect(rig.text(rig.app.load(at + 8, 4))).toBe('page')
    expect(rw(other, 0, text('no'), true)).toBe('-EPERM')
    expect(rw(other, 2 ** 40, text('no'), true)).toBe('-ENOENT')
    expect([rig.pinned, rig.locked()]).toEqual([0, 0])
    rig.app.munmap(at, 4 * P)
    expect([rw(rig.app, 0x100000, seen, false), rw(other, 0x100000, seen, false)]).toEqual([
      '-EFAULT',
      '-EFAULT',
    ])
    other.exit()
  })

  it('R-IOMMUFD-14 VFIO through iommufd: the address space pays, and entries have no limit', () => {
    const rig = new Rig(release, { limit: 8 })
    const compat = openDevice(rig.app, (k) => new VfioCompat(k))
    const at = rig.memory('rw16')
    const mapDma = (flags: number, iova: number, pages: number): number | string =>
      answer(() => compat.call('VFIO_IOMMU_MAP_DMA', (d) => d.mapDma(flags, at, iova, pages * P)))
    expect([mapDma(4, 0, 1), mapDma(3, 0, 1)]).toEqual(['-EINVAL', '-ENODEV'])
    compat.call('VFIO_SET_IOMMU', (d) => d.setIommu())
    compat.call('attach', (d) => d.attach(1))
    expect([mapDma(3, 0, 0), mapDma(3, 0, 8), mapDma(3, 7 * P, 1), mapDma(3, 8 * P, 1)]).toEqual([
      '-EINVAL',
      0,
      '-EEXIST',
      '-ENOMEM',
    ])
    expect([rig.app.mm!.lockedVm, rig.app.mm!.pinnedVm, rig.locked()]).toEqual([8, 8, 0])
    expect(answer(() => compat.call('x', (d) => d.unmapDma(1, 0, P)))).toBe('-EINVAL')
    expect(answer(() => compat.call('x', (d) => d.unmapDma(0, 0, 8 * P)))).toBe(8 * P)
  })

  it('R-IOMMUFD-1 what every command is checked for', () => {
    const rig = new Rig(release)
    const handle = open(rig.app)
    const known = { known: true, least: 40, most: 40 }
    const check = (command: Parameters<Iommufd['checkCommand']>[0]): number | string =>
      answer(() => handle.call('ioctl', (d) => d.checkCommand(command)))
    expect([
      check({ ...known, size: 'unreadable' }),
      check({ ...known, size: 40, known: false }),
      check({ ...known, size: 39 }),
      check({ ...known, size: 48, tail: true }),
      check({ ...known, size: 48 }),
    ]).toEqual(['-EFAULT', '-ENOTTY', '-EINVAL', '-E2BIG', 0])
  })

  it('R-IOMMUFD-8 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const steps = walkDevice(
      release,
      (rig) => {
        const at = rig.memory('rw4+memfd4')
        const handle = open(rig.app)
        return () => {
          alloc(handle)
          alloc(handle)
          map(handle, at, 8)
          attach(handle)
          copy(handle, { iova: 0 })
          attach(handle, { largePages: false }, 2)
          map(handle, at + P, 2, { iova: 0x200000 })
          unmap(handle, 0x100000, 8 * P)
        }
      },
      { limit: 64 },
    )
    expect(steps).toBeGreaterThan(20)
  })
})
