import { describe, expect, it } from 'vitest'
import { RadeonDevice } from '../../../src/drivers/gpu/radeon-ttm.ts'
import { MADV_DONTNEED } from '../../../src/mm/mman.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice } from '../rig.ts'

type Radeon = DeviceHandle<RadeonDevice>
const [READONLY, ANONONLY, VALIDATE, REGISTER] = [1, 2, 4, 8]
const USUAL = ANONONLY | VALIDATE | REGISTER

const open = (app: Process, r600 = true): Radeon => openDevice(app, (k) => new RadeonDevice(k, { r600 }))
const userptr = (radeon: Radeon, addr: number, pages: number, flags = USUAL): number =>
  radeon.call('DRM_IOCTL_RADEON_GEM_USERPTR', (d) => d.gemUserptr({ addr, size: pages * P, flags }))
const submit = (radeon: Radeon, handle: number): number =>
  radeon.call('DRM_IOCTL_RADEON_CS', (d) => d.commandStream(handle))
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

/** pages that somebody holds a plain reference on */
function held(rig: Rig): number {
  let pages = 0
  for (const holder of rig.k.holders) holder.forEachReference((_pfn, references) => (pages += references))
  return pages
}

describe.each(RELEASES)('radeon userptr on %s', (release) => {
  it('DRV vector 64: memory the chip may write must be anonymous and watched (R-RADEON-1)', () => {
    const rig = new Rig(release)
    const radeon = open(rig.app)
    const at = rig.memory('rw8')
    const flags = (value: number, device = radeon): number | string =>
      answer(() => userptr(device, at, 8, value))
    expect([REGISTER, ANONONLY, 0].map((value) => flags(value))).toEqual(['-EACCES', '-EACCES', '-EACCES'])
    expect(flags(16)).toBe('-EINVAL')
    expect(flags(READONLY, open(rig.app, false))).toBe('-EINVAL')
    expect(answer(() => userptr(radeon, at + 8, 8))).toBe('-EINVAL')
    expect([flags(READONLY), flags(USUAL)]).toEqual([1, 2])
  })

  it('R-RADEON-3 references, no pins, no accounting, no limit', () => {
    const rig = new Rig(release, { limit: 0 })
    userptr(open(rig.app), rig.memory('rw600'), 600)
    expect([rig.k.pinAcquired, rig.app.mm!.pinnedVm, rig.app.mm!.lockedVm, rig.locked(), held(rig)]).toEqual([
      0, 0, 0, 0, 600,
    ])
  })

  it('R-RADEON-5 what changes the mapping takes the pages away, the next command stream gets the new ones', () => {
    const rig = new Rig(release)
    const radeon = open(rig.app)
    const at = rig.memory('rw8')
    rig.store(at, 'first')
    const handle = userptr(radeon, at, 8)
    expect(radeon.device.write(handle, 5, bytes('!'))).toBe(true)
    expect(rig.text(rig.app.load(at, 6))).toBe('first!')
    const seen = new Uint8Array(5)
    for (const change of [
      (): void => rig.app.madvise(at, P, MADV_DONTNEED),
      (): void => rig.app.mprotect(at, 8 * P, 'r'),
      (): void => rig.app.fork().exit(),
    ]) {
      change()
      expect(radeon.device.read(handle, 0, seen)).toBe(false)
      expect(held(rig)).toBe(0)
      rig.app.mprotect(at, 8 * P, 'rw')
      submit(radeon, handle)
      expect(radeon.device.read(handle, 0, seen)).toBe(true)
      expect(held(rig)).toBe(8)
    }
    rig.app.munmap(at, 8 * P)
    expect(held(rig)).toBe(0)
    expect(submit(radeon, handle)).toBe(0)
    expect(radeon.device.read(handle, 0, seen)).toBe(false)
  })

  it('R-RADEON-2 R-RADEON-6 that pages cannot be had is no error: the chip finds nothing there', () => {
    const rig = new Rig(release)
    const radeon = open(rig.app)
    const seen = new Uint8Array(1)
    for (const layout of ['rw4+hole4', 'rw4+memfd4', 'hole4+rw4', 'memfd8']) {
      const handle = userptr(radeon, rig.memory(layout), 8)
      expect(radeon.device.read(handle, 0, seen), layout).toBe(false)
    }
    expect(held(rig)).toBe(0)
    const files = userptr(radeon, rig.memory('rw4+memfd4'), 8, READONLY | VALIDATE)
    expect(radeon.device.read(files, 0, seen)).toBe(true)
    expect(radeon.device.write(files, 0, seen)).toBe(false)
    const at = rig.memory('rw4')
    const mine = userptr(radeon, at, 4, ANONONLY | REGISTER)
    const other = rig.app.fork()
    submit(radeon.in(other), mine)
    expect([radeon.device.read(mine, 0, seen), reason(() => submit(radeon, 99)).rule]).toEqual([
      false,
      'R-RADEON-1',
    ])
    other.exit()
  })

  it('R-DRV-12 without a notifier a write after fork leaves the chip with a page of its own', () => {
    const rig = new Rig(release)
    const radeon = open(rig.app)
    const at = rig.memory('rw1')
    rig.store(at, 'first')
    const handle = userptr(radeon, at, 1, READONLY | VALIDATE)
    const child = rig.app.fork()
    rig.store(at, 'mine!')
    const seen = new Uint8Array(5)
    radeon.device.read(handle, 0, seen)
    expect(rig.text(seen)).toBe('first')
    child.exit()
  })

  it('R-RADEON-4 what fails anywhere is undone, and a killed process leaves nothing', () => {
    const steps = walkDevice(release, (rig) => {
      const at = rig.memory('rw6')
      const radeon = open(rig.app)
      return () => {
        const handle = userptr(radeon, at, 6)
        submit(radeon, handle)
        radeon.call('DRM_IOCTL_GEM_CLOSE', (d) => d.gemClose(handle))
        userptr(radeon, at, 2, READONLY | VALIDATE)
      }
    })
    expect(steps).toBeGreaterThan(8)
  })
})
