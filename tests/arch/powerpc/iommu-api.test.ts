import { describe, expect, it } from 'vitest'
import { SpaprContainer, mmIommuNew, type RegisterMemory } from '../../../src/arch/powerpc/iommu-api.ts'
import { hugetlbPool } from '../../../src/mm/hugetlb.ts'
import { MADV_DONTNEED } from '../../../src/mm/mman.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice } from '../../drivers/rig.ts'

type Spapr = DeviceHandle<SpaprContainer>
const open = (app: Process): Spapr => openDevice(app, (k) => new SpaprContainer(k))
const reg = (spapr: Spapr, vaddr: number, pages: number, more: Partial<RegisterMemory> = {}): number =>
  spapr.call('REGISTER_MEMORY', (d) => d.registerMemory({ vaddr, size: pages * P, ...more }))
const unreg = (spapr: Spapr, vaddr: number, pages: number): number =>
  spapr.call('UNREGISTER_MEMORY', (d) => d.unregisterMemory({ vaddr, size: pages * P }))
const mapTce = (spapr: Spapr, bus: number, ua: number, write = true, shift?: number): number =>
  spapr.call('MAP_DMA', (d) => d.mapTce(bus, ua, write, shift))

describe.each(RELEASES)('SPAPR memory on %s', (release) => {
  it('DRV vector 61: a short pin returns its count, with nothing registered (R-PPC-6)', () => {
    const rig = new Rig(release, { limit: 100 })
    const spapr = open(rig.app)
    const at = rig.memory('rw8+hole8')
    expect(reg(spapr, at, 16)).toBe(8)
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([0, 0])
    expect(answer(() => unreg(spapr, at, 16))).toBe('-ENOENT')
    expect(answer(() => reg(spapr, at + 8 * P, 8))).toBe('-EFAULT')
  })

  it('R-PPC-2 charged first and whole; CAP_IPC_LOCK lifts the limit', () => {
    const rig = new Rig(release, { limit: 8 })
    const spapr = open(rig.app)
    const at = rig.memory('rw16')
    expect(reason(() => reg(spapr, at, 9))).toMatchObject({
      rule: 'R-PPC-2',
      needed: 9,
      limit: 8,
      budget: 'mm->locked_vm',
      capability: 'CAP_IPC_LOCK',
    })
    expect(reg(spapr, at, 8)).toBe(0)
    expect([rig.app.mm!.lockedVm, rig.app.mm!.pinnedVm, rig.pinned]).toEqual([8, 0, 8])
    const root = rig.spawn('root', { limit: 0, capabilities: ['CAP_IPC_LOCK'] })
    expect(reg(open(root), rig.memory('rw8', root), 8)).toBe(0)
    expect(answer(() => reg(open(rig.app), rig.memory('hole16'), 16))).toBe('-ENOMEM')
  })

  it('R-PPC-1 arguments, twice, and shared between containers', () => {
    const rig = new Rig(release)
    const [one, two] = [open(rig.app), open(rig.app)]
    const at = rig.memory('rw8')
    expect(answer(() => one.call('x', (d) => d.registerMemory('unreadable')))).toBe('-EFAULT')
    expect(answer(() => reg(one, at, 8, { flags: 1 }))).toBe('-EINVAL')
    expect(answer(() => reg(one, at, 8, { argsz: 24 }))).toBe('-EINVAL')
    expect(answer(() => reg(one, at + 8, 8))).toBe('-EINVAL')
    expect(answer(() => reg(one, 2 ** 64 - P, 2))).toBe('-EINVAL')
    expect([reg(one, at, 8), answer(() => reg(one, at, 8)), reg(two, at, 8)]).toEqual([0, '-EBUSY', 0])
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([8, 8])
    expect(answer(() => reg(one, at + P, 4))).toBe('-EINVAL')
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([8, 8])
    unreg(one, at, 8)
    rig.k.settle()
    expect(rig.pinned).toBe(8)
    two.close()
    expect([rig.pinned, rig.app.mm!.lockedVm]).toEqual([8, 0])
    rig.k.settle()
    expect(rig.pinned).toBe(0)
  })

  it('R-PPC-3 always for writing', () => {
    const rig = new Rig(release)
    expect(answer(() => reg(open(rig.app), rig.memory('ro8'), 8))).toBe('-EFAULT')
  })

  it('R-PPC-5 R-PPC-7 TCEs map pages of a region, and keep it', () => {
    const rig = new Rig(release)
    const spapr = open(rig.app)
    const at = rig.memory('rw8')
    reg(spapr, at, 8)
    expect(answer(() => mapTce(spapr, 0, at + 8 * P))).toBe('-EFAULT')
    expect(answer(() => mapTce(spapr, 0, at, true, 16))).toBe('-EFAULT')
    expect([mapTce(spapr, 0, at + P), mapTce(spapr, 0, at + 2 * P)]).toEqual([0, 0])
    mapTce(spapr, 5 * P, at + 3 * P, false)
    expect(spapr.device.write(3, new TextEncoder().encode('tce'))).toBe(true)
    expect(rig.text(rig.app.load(at + 2 * P + 3, 3))).toBe('tce')
    expect([
      spapr.device.write(5 * P, new Uint8Array(1)),
      spapr.device.read(5 * P, new Uint8Array(1)),
    ]).toEqual([false, true])
    rig.app.madvise(at, 8 * P, MADV_DONTNEED)
    expect(spapr.device.read(3, new Uint8Array(1))).toBe(true)
    expect(answer(() => unreg(spapr, at, 8))).toBe('-EBUSY')
    spapr.call('UNMAP_DMA', (d) => d.unmapTce(0))
    spapr.call('UNMAP_DMA', (d) => d.unmapTce(5 * P))
    expect(unreg(spapr, at, 8)).toBe(0)
    expect(answer(() => mapTce(spapr, 0, at))).toBe('-EFAULT')
    expect(answer(() => unreg(spapr, at + 8, 8))).toBe('-EINVAL')
    rig.k.settle()
    expect(rig.pinned).toBe(0)
  })

  it('R-PPC-4 only whole huge pages make a region of larger pages', () => {
    const rig = new Rig(release)
    hugetlbPool(rig.k).resize(2)
    const spapr = open(rig.app)
    const at = rig.app.mmap({ length: '4M', hugetlb: true })
    reg(spapr, at, 512)
    expect(mapTce(spapr, 0, at, true, 21)).toBe(0)
    reg(spapr, at + 512 * P, 16)
    expect(answer(() => mapTce(spapr, 2 ** 21, at + 512 * P, true, 21))).toBe('-EFAULT')
    expect(mapTce(spapr, 2 ** 21, at + 512 * P, true, 16)).toBe(0)
  })

  it('R-PPC-2 memory of a device is neither pinned nor charged', () => {
    const rig = new Rig(release, { limit: 0 })
    const region = rig.app.run(mmIommuNew(rig.k, rig.app.mm!, 0x1000, 8, true))
    expect([typeof region, rig.pinned, rig.app.mm!.lockedVm]).toEqual(['object', 0, 0])
  })

  it('R-PPC-6 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const steps = walkDevice(
      release,
      (rig) => {
        const at = rig.memory('rw4+memfd4')
        const spapr = open(rig.app)
        return () => {
          reg(spapr, at, 8)
          mapTce(spapr, 0, at)
          spapr.call('UNMAP_DMA', (d) => d.unmapTce(0))
          unreg(spapr, at, 8)
        }
      },
      { limit: 64 },
    )
    expect(steps).toBeGreaterThan(12)
  })
})
