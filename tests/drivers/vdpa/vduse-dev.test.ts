import { describe, expect, it } from 'vitest'
import { VduseDev, type VduseData, type VduseUmemArgs } from '../../../src/drivers/vdpa/vduse-dev.ts'
import { MADV_DONTNEED } from '../../../src/mm/mman.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice, type RigOptions } from '../rig.ts'

type Vduse = DeviceHandle<VduseDev>
const MIB = 2 ** 20

const open = (app: Process, data?: VduseData): Vduse => openDevice(app, (k) => new VduseDev(k, data))
const reg = (vduse: Vduse, uaddr: number, more: Partial<VduseUmemArgs> = {}): number =>
  vduse.call('VDUSE_IOTLB_REG_UMEM', (d) => d.regUmem({ uaddr, iova: 0, size: d.bounceSize, ...more }))
const dereg = (vduse: Vduse, iova = 0, size = vduse.device.bounceSize): number =>
  vduse.call('VDUSE_IOTLB_DEREG_UMEM', (d) => d.deregUmem(iova, size))
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

describe.each(RELEASES)('VDUSE_IOTLB_REG_UMEM on %s', (release) => {
  const sized = release === '6.12' || release === '6.18'
  /** as small as the release lets it be */
  const data: VduseData = { bounceSize: MIB }
  const pages = sized ? 256 : 16384
  const world = (options: RigOptions = {}): Rig =>
    new Rig(release, { ...options, kernel: { zones: { normal: pages + 2048 } } })

  it('DRV vector 58: a second umem, a wrong size, and the limit in spite of CAP_IPC_LOCK (R-VDUSE-1)', () => {
    const rig = world({ limit: pages - 1, capabilities: ['CAP_IPC_LOCK'] })
    const vduse = open(rig.app, data)
    const at = rig.memory(`rw${pages}`)
    const over = reason(() => reg(vduse, at))
    expect(over).toMatchObject({
      rule: 'R-VDUSE-1',
      needed: pages,
      limit: pages - 1,
      budget: 'mm->pinned_vm',
    })
    expect([over.errno, over.capability]).toEqual([12, undefined])
    expect(answer(() => reg(vduse, at, { size: 2 * MIB }))).toBe('-EINVAL')
    rig.app.setLimit('memlock', pages * P)
    expect(reg(vduse, at)).toBe(0)
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([pages, pages])
    expect(answer(() => reg(vduse, at))).toBe('-EEXIST')
  })

  it('R-VDUSE-1 the rest of the order', () => {
    const rig = world()
    const vduse = open(rig.app, data)
    const at = rig.memory(`rw${pages}`)
    expect(answer(() => vduse.call('x', (d) => d.regUmem('unreadable')))).toBe('-EFAULT')
    expect(answer(() => reg(vduse, at, { reserved: 1 }))).toBe('-EINVAL')
    expect(answer(() => reg(vduse, at + 8))).toBe('-EINVAL')
    expect(answer(() => reg(vduse, at, { iova: P }))).toBe('-EINVAL')
    expect(answer(() => reg(open(rig.app, { ...data, domain: false }), at))).toBe(sized ? '-EINVAL' : 0)
    vduse.device.broken = true
    expect(answer(() => vduse.call('x', (d) => d.regUmem('unreadable')))).toBe('-EPERM')
  })

  it('R-VDUSE-3 R-DRV-8 a hole at the end is ENOMEM, at the start EFAULT, and nothing is left', () => {
    const rig = world()
    const vduse = open(rig.app, data)
    const at = rig.memory(`rw${pages - 1}+hole1`)
    expect(reason(() => reg(vduse, at))).toMatchObject({ errno: 12, got: pages - 1, wanted: pages })
    expect(answer(() => reg(vduse, rig.memory(`hole${pages}`)))).toBe('-EFAULT')
    expect(answer(() => reg(vduse, rig.memory(`ro${pages}`)))).toBe('-EFAULT')
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([0, 0])
  })

  it('R-VDUSE-4 R-DRV-11 bytes in flight move over and back; a program that unmaps sees nothing', () => {
    const rig = world()
    const vduse = open(rig.app, data)
    const at = rig.memory(`rw${pages}`)
    vduse.device.bounceIn(P - 2, bytes('flight'))
    reg(vduse, at)
    expect(rig.text(rig.app.load(at + P - 2, 6))).toBe('flight')
    rig.store(at, 'answer')
    const seen = new Uint8Array(6)
    vduse.device.bounceOut(0, seen)
    expect(rig.text(seen)).toBe('answer')
    expect(vduse.device.bounceIn(vduse.device.bounceSize, bytes('x'))).toBe(false)
    rig.app.madvise(at, P, MADV_DONTNEED)
    vduse.device.bounceIn(0, bytes('unseen'))
    expect(rig.app.load(at, 1)[0]).toBe(0)
    expect([answer(() => dereg(vduse, P)), answer(() => dereg(vduse, 0, 7))]).toEqual(['-EINVAL', '-EINVAL'])
    expect(dereg(vduse)).toBe(0)
    vduse.device.bounceOut(0, seen)
    expect([rig.text(seen), answer(() => dereg(vduse))]).toEqual(['unseen', '-ENOENT'])
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([0, 0])
  })

  it('R-VDUSE-2 one GUP call, under the lock: a userfaultfd is not waited for', () => {
    const rig = world()
    const at = rig.memory(`rw${pages}`)
    rig.watch(at, pages)
    expect(answer(() => reg(open(rig.app, data), at))).toBe('-EFAULT')
  })
})

// where it may be small
describe.each(['6.12', '6.18'] as const)('VDUSE_IOTLB_REG_UMEM on %s', (release) => {
  it('R-VDUSE-3 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const steps = walkDevice(
      release,
      (rig) => {
        const at = rig.memory('rw250+memfd6')
        const vduse = open(rig.app, { bounceSize: MIB })
        vduse.device.bounceIn(0, bytes('x'))
        return () => {
          reg(vduse, at)
          dereg(vduse)
        }
      },
      { limit: 300 },
    )
    expect(steps).toBeGreaterThan(20)
  })
})
