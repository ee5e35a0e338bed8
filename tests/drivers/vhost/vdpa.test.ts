import { describe, expect, it } from 'vitest'
import {
  VHOST_MSG_SIZE,
  VhostVdpa,
  type VhostMessage,
  type VhostVdpaData,
} from '../../../src/drivers/vhost/vdpa.ts'
import { MADV_DONTNEED } from '../../../src/mm/mman.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice } from '../rig.ts'

type Vdpa = DeviceHandle<VhostVdpa>

function open(app: Process, data?: VhostVdpaData): Vdpa {
  const handle = openDevice(app, (k) => new VhostVdpa(k, data))
  handle.call('VHOST_SET_OWNER', (d) => d.setOwner())
  return handle
}

const write = (vdpa: Vdpa, message: VhostMessage): number => vdpa.call('write', (d) => d.write(message))

const update = (vdpa: Vdpa, uaddr: number, pages: number, more: object = {}): number =>
  write(vdpa, { type: 'update', iova: 0x100000, size: pages * P, uaddr, perm: 3, ...more })

const invalidate = (vdpa: Vdpa, iova: number, pages: number): number =>
  write(vdpa, { type: 'invalidate', iova, size: pages * P })

describe.each(RELEASES)('vhost-vdpa on %s', (release) => {
  it('DRV vector 56: over the limit is ENOMEM inside and EFAULT outside, also with CAP_IPC_LOCK (R-VHOST-1, R-VHOST-2)', () => {
    const rig = new Rig(release, { limit: 8, capabilities: ['CAP_IPC_LOCK'] })
    const vdpa = open(rig.app)
    const at = rig.memory('rw16')
    const { errno, rule, cause } = reason(() => update(vdpa, at, 9))
    expect([errno, rule]).toEqual([14, 'R-VHOST-1'])
    expect(cause).toMatchObject({
      errno: 12,
      rule: 'R-VHOST-2',
      needed: 9,
      limit: 8,
      budget: 'mm->pinned_vm',
    })
    expect(cause!.capability).toBeUndefined()
    expect([rig.app.mm!.pinnedVm, rig.pinned]).toEqual([0, 0])
    expect(update(vdpa, at, 8)).toBe(VHOST_MSG_SIZE)
    expect([rig.app.mm!.pinnedVm, rig.app.mm!.lockedVm, rig.locked()]).toEqual([8, 0, 0])
  })

  it('DRV vector 57: an update of nothing, and messages that are none, are EINVAL (R-VHOST-1)', () => {
    const vdpa = open(new Rig(release).app)
    expect(answer(() => update(vdpa, 0, 0))).toBe('-EINVAL')
    expect(answer(() => write(vdpa, { type: 'unknown' }))).toBe('-EINVAL')
    expect(answer(() => write(vdpa, { type: 'short' }))).toBe('-EINVAL')
  })

  it('R-VHOST-2 what is behind EFAULT: owner, address space, range, overlap', () => {
    const rig = new Rig(release)
    const vdpa = open(rig.app, { range: { start: 0x1000, end: 0x10000000 } })
    const at = rig.memory('rw16')
    const inner = (more: object, handle = vdpa): number =>
      reason(() => update(handle, at, 4, more)).cause!.errno
    const other = rig.app.fork()
    expect(inner({}, vdpa.in(other))).toBe(1)
    other.exit()
    expect([inner({ asid: 1 }), inner({ iova: 0 }), inner({ iova: 0x10000000 })]).toEqual([22, 22, 22])
    update(vdpa, at, 4)
    expect(inner({ iova: 0x100000 + 3 * P })).toBe(17)
    expect(() => update(open(rig.app, { useVa: true }), at, 4)).toThrow('R-VHOST-2')
  })

  it('R-VHOST-3 the offset of the IOVA counts, that of the address does not', () => {
    const rig = new Rig(release)
    const vdpa = open(rig.app)
    const at = rig.memory('rw16')
    update(vdpa, at, 4, { iova: 0x100000 + 100 })
    expect(rig.app.mm!.pinnedVm).toBe(5)
    update(vdpa, at + 100, 4, { iova: 0x200000 })
    expect(rig.app.mm!.pinnedVm).toBe(9)
  })

  it('R-VHOST-4 a hole is ENOMEM inside, at the first page of a batch EFAULT', () => {
    const rig = new Rig(release)
    const vdpa = open(rig.app)
    const at = rig.memory('rw4+hole4')
    expect(reason(() => update(vdpa, at, 8)).cause).toMatchObject({
      errno: 12,
      rule: 'R-VHOST-4',
      page: 4,
      got: 4,
    })
    expect(reason(() => update(vdpa, at + 4 * P, 4)).cause).toMatchObject({ errno: 14 })
    expect(reason(() => update(vdpa, rig.memory('ro4'), 4)).cause).toMatchObject({ errno: 14 })
    expect(update(vdpa, rig.memory('ro4'), 4, { perm: 1 })).toBe(VHOST_MSG_SIZE)
    expect(vdpa.device.deviceWrite(0x100000, new Uint8Array(1))).toBe(false)
    // 6.1 reads the zero page, whose pins nobody counts
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([release === '6.1' ? 0 : 4, 4])
  })

  it('R-VHOST-5 what a run mapped in the middle of a batch leaves over is lost when the next batch fails', () => {
    const rig = new Rig(release)
    const vdpa = open(rig.app)
    const at = rig.memory('rw512+hole8')
    // the pages from 300 on come first, so that the first batch has a border in its middle
    rig.app.touch(at + 300 * P, 212 * P)
    rig.app.touch(at, 300 * P)
    expect(answer(() => update(vdpa, at, 520))).toBe('-EFAULT')
    expect([rig.pinned > 0, rig.app.mm!.pinnedVm]).toEqual([true, 0])
    const leaked = [...rig.k.holders].find(({ name }) => name.startsWith('leaked: vhost-vdpa'))!
    let pins = 0
    leaked.forEachReference((_pfn, _references, n) => (pins += n))
    expect(pins).toBe(rig.pinned)
  })

  it('R-VHOST-6 INVALIDATE takes every entry it touches, close the rest', () => {
    const rig = new Rig(release)
    const vdpa = open(rig.app)
    const at = rig.memory('rw16')
    for (const page of [2, 0, 1, 3]) rig.app.touch(at + page * P, P)
    update(vdpa, at, 4)
    update(vdpa, at + 4 * P, 4, { iova: 0x200000 })
    const bytes = new TextEncoder().encode('vhost')
    expect(vdpa.device.deviceWrite(0x100000 + 2 * P - 2, bytes)).toBe(true)
    expect(rig.text(rig.app.load(at + 2 * P - 2, 5))).toBe('vhost')
    rig.app.madvise(at, 4 * P, MADV_DONTNEED)
    const seen = new Uint8Array(5)
    expect(vdpa.device.deviceRead(0x100000 + 2 * P - 2, seen)).toBe(true)
    expect([rig.text(seen), rig.app.load(at + 2 * P, 1)[0]]).toEqual(['vhost', 0])
    expect(invalidate(vdpa, 0x100000, 4)).toBe(VHOST_MSG_SIZE)
    expect(vdpa.device.deviceRead(0x100000, seen)).toBe(false)
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([4, 4])
    expect(invalidate(vdpa, 0x900000, 4)).toBe(VHOST_MSG_SIZE)
    vdpa.close()
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([0, 0])
  })

  it('R-VHOST-5 what fails anywhere is undone or declared, and a killed process leaves nothing', () => {
    const steps = walkDevice(
      release,
      (rig) => {
        const at = rig.memory('rw4+memfd4')
        for (const page of [2, 0, 1, 3]) rig.app.touch(at + page * P, P)
        const vdpa = open(rig.app)
        return () => {
          update(vdpa, at, 8)
          update(vdpa, at, 2, { iova: 0x200000, perm: 1 })
          invalidate(vdpa, 0x100000, 8)
        }
      },
      { limit: 64 },
    )
    expect(steps).toBeGreaterThan(20)
  })
})
