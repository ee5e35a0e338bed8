import { describe, expect, it } from 'vitest'
import { QibContext } from '../../../src/drivers/infiniband/qib-user-pages.ts'
import { TASK_SIZE } from '../../../src/base/units.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice } from '../rig.ts'

const open = (app: Process, tids?: number): DeviceHandle<QibContext> =>
  openDevice(app, (k) => new QibContext(k, tids))

const update = (qib: DeviceHandle<QibContext>, at: number, pages: number): number =>
  qib.call('write', (device) => device.tidUpdate(at, pages * P))
const free = (qib: DeviceHandle<QibContext>, id: number): number =>
  qib.call('write', (device) => device.tidFree(id))

describe.each(RELEASES)('qib on %s', (release) => {
  it('R-QIB-1 charges first, CAP_IPC_LOCK lifts the limit', () => {
    const rig = new Rig(release, { limit: 8 })
    const qib = open(rig.app)
    const at = rig.memory('rw16')
    expect(reason(() => update(qib, at, 9))).toMatchObject({
      rule: 'R-QIB-1',
      needed: 9,
      limit: 8,
      budget: 'mm->pinned_vm',
    })
    expect(update(qib, at, 8)).toBe(1)
    expect(rig.app.mm!.pinnedVm).toBe(8)
    const root = rig.spawn('root', { capabilities: ['CAP_IPC_LOCK'], limit: 0 })
    expect(update(open(root), rig.memory('rw16', root), 16)).toBe(1)
    expect(answer(() => update(qib, TASK_SIZE - P, 2))).toBe('-EFAULT')
  })

  it('R-QIB-2 a hole is EFAULT, says so in the log, and everything is undone', () => {
    const rig = new Rig(release)
    const qib = open(rig.app)
    expect(answer(() => update(qib, rig.memory('rw4+hole4'), 8))).toBe('-EFAULT')
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([0, 0])
    expect(rig.k.warnings.map(({ message }) => message).join()).toContain('Failed to lock addr')
  })

  it('R-DRV-16 read-only memory is EFAULT, but for private memory on 6.1', () => {
    const rig = new Rig(release)
    expect(answer(() => update(open(rig.app), rig.memory('ro4'), 4))).toBe(release === '6.1' ? 1 : '-EFAULT')
    expect(answer(() => update(open(rig.app), rig.memory('roshared4'), 4))).toBe('-EFAULT')
  })

  it('R-QIB-3 no free TID is ENOMEM; releases dirty, and uncharges while there is an address space', () => {
    const rig = new Rig(release)
    const qib = open(rig.app, 6)
    const at = rig.memory('rw8')
    const id = update(qib, at, 4)
    expect(answer(() => update(qib, at, 4))).toBe('-ENOMEM')
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([4, 4])
    expect(qib.device.receive(id, P, new TextEncoder().encode('packet'))).toBe(true)
    expect(rig.text(rig.app.load(at + P, 6))).toBe('packet')
    expect([free(qib, id), answer(() => free(qib, id))]).toEqual([0, '-EINVAL'])
    expect([rig.pinned, rig.app.mm!.pinnedVm]).toEqual([0, 0])
    update(qib, at, 2)
    const { mm } = rig.app
    rig.app.exit()
    expect([rig.pinned, mm!.pinnedVm]).toEqual([0, 2])
  })

  it('R-QIB-2 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const steps = walkDevice(
      release,
      (rig) => {
        const at = rig.memory('rw4+memfd4')
        const qib = open(rig.app)
        return () => free(qib, update(qib, at, 8))
      },
      { limit: 64 },
    )
    expect(steps).toBeGreaterThan(15)
  })
})
