import { describe, expect, it } from 'vitest'
import { HmmMirror } from '../../../src/drivers/misc/hmm-mirror.ts'
import { audit } from '../../../src/mm/audit.ts'
import { MADV_DONTNEED } from '../../../src/mm/mman.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import { P, RELEASES, Rig, answer, reason, walkDevice, type RigOptions } from '../rig.ts'

type Mirror = DeviceHandle<HmmMirror>

function open(rig: Rig): Mirror {
  return openDevice(rig.app, (k) => new HmmMirror(k))
}

function exclusive(mirror: Mirror, start: number, pages = 1, hold = false): number | string {
  return answer(() => mirror.call('HMM_DMIRROR_EXCLUSIVE', (d) => d.exclusive(start, pages * P, { hold })))
}

function add(mirror: Mirror, address: number, value = 1): number | string {
  return answer(() => mirror.call('atomic add', (d) => d.fetchAdd(address, value)))
}

describe.each(RELEASES)('a device with atomic operations on %s', (release) => {
  it('R-DEX-15 device and processor count in turns in one word', () => {
    const rig = new Rig(release)
    const at = rig.memory('rw2')
    const mirror = open(rig)
    rig.store(at, '\u0005')
    expect([add(mirror, at, 10), add(mirror, at, 10), mirror.device.has(at)]).toEqual([5, 15, true])
    // the processor takes the page back, the device asks for it again
    expect([rig.app.load(at, 1)[0], mirror.device.has(at)]).toEqual([25, false])
    rig.store(at, '\u0001')
    expect([add(mirror, at + 4), add(mirror, at), rig.app.load(at, 1)[0]]).toEqual([0, 1, 2])
    expect([rig.pinned, rig.app.mm!.pinnedVm, rig.locked()]).toEqual([0, 0, 0])
  })

  it('R-DEX-15 what changes the mapping ends the access, for the device first', () => {
    const rig = new Rig(release)
    const at = rig.memory('rw8')
    const mirror = open(rig)
    const changes: (() => void)[] = [
      () => rig.app.madvise(at, P, MADV_DONTNEED),
      () => rig.app.mprotect(at, P, 'rwx'),
      () => rig.app.fork('child').exit(),
      () => rig.app.munmap(at, P),
    ]
    for (const change of changes) {
      expect([exclusive(mirror, at), mirror.device.has(at)]).toEqual([1, true])
      change()
      expect(mirror.device.has(at)).toBe(false)
    }
    expect(add(mirror, at)).toBe('-EFAULT')
    expect(reason(() => mirror.call('atomic add', (d) => d.fetchAdd(at, 1)))).toMatchObject({
      rule: 'R-DEX-15',
      cause: { errno: 14 },
    })
  })

  it('R-DEX-2 R-DEX-7 R-DEX-15 a range over what cannot be had', () => {
    const rig = new Rig(release)
    const mirror = open(rig)
    const at = rig.memory('rw2+memfd1+rw1')
    // up to 6.12 the page of the file is left out, 6.18 stops there
    expect(exclusive(mirror, at, 4)).toBe(release === '6.18' ? 2 : 3)
    expect([0, 1, 2, 3].map((i) => mirror.device.has(at + i * P))).toEqual([
      true,
      true,
      false,
      release !== '6.18',
    ])
    expect(exclusive(mirror, at + 2 * P)).toBe(release === '6.18' ? '-EOPNOTSUPP' : 0)
    expect(exclusive(mirror, rig.memory('rw1+hole1+rw1'), 3)).toBe(1)
    expect(exclusive(mirror, rig.memory('hole1'))).toBe('-EFAULT')
    expect(exclusive(mirror, rig.memory('ro1'))).toBe('-EFAULT')
  })

  it('R-DEX-15 what is asked is checked', () => {
    const rig = new Rig(release)
    const mirror = open(rig)
    const at = rig.memory('rw4')
    expect(exclusive(mirror, at + 8)).toBe('-EINVAL')
    expect(exclusive(mirror, at, 0)).toBe('-EINVAL')
    expect(exclusive(mirror, 0x7fffffffe000, 2)).toBe('-EINVAL')
    expect(exclusive(mirror, at, 2, true)).toBe('-EINVAL')
    expect([exclusive(mirror, at, 1, true), exclusive(mirror, at + P, 1, true)]).toEqual([1, '-EBUSY'])
    mirror.device.letGo()
    expect(exclusive(mirror, at + P, 1, true)).toBe(1)
    mirror.close()
    rig.app.load(at + P, 1)
  })

  it('R-DEX-12 R-DEX-15 the processor waits while the device holds the page', () => {
    const rig = new Rig(release)
    const mirror = open(rig)
    const at = rig.memory('rw1')
    exclusive(mirror, at, 1, true)
    const touch = rig.k.scheduler.spawn('second request', rig.app, mirror.device.exclusive(at, P))
    rig.k.scheduler.runUntilIdle()
    expect([touch.result, mirror.device.has(at)]).toEqual([undefined, true])
    mirror.device.letGo()
    rig.k.scheduler.runUntilIdle()
    expect([touch.result, mirror.device.has(at)]).toEqual([1, true])
  })

  it('R-DEX-9 R-DEX-15 the child counts in a page of its own', () => {
    const rig = new Rig(release)
    const mirror = open(rig)
    const at = rig.memory('rw1')
    expect(add(mirror, at, 7)).toBe(0)
    const child = rig.app.fork('child')
    expect([child.load(at, 1)[0], rig.app.load(at, 1)[0]]).toEqual([7, 7])
    expect(add(mirror, at, 1)).toBe(7)
    // the device mirrors the memory of the one who opened it
    expect(add(mirror.in(child), at, 1)).toBe(8)
    expect([child.load(at, 1)[0], rig.app.load(at, 1)[0]]).toEqual([7, 9])
    expect(answer(() => rig.app.fork('second').exit() ?? 0)).toBe(0)
    rig.app.exit()
    expect(exclusive(mirror.in(child), at)).toBe('-ESRCH')
    child.exit()
  })

  it('R-DEX-10 R-DEX-15 exit and kill with a page held', () => {
    const rig = new Rig(release)
    const mirror = open(rig)
    const at = rig.memory('rw2')
    const child = rig.app.fork('child')
    expect(exclusive(mirror, at, 1, true)).toBe(1)
    const free = rig.k.memory.buddy.free[0]!
    rig.app.exit()
    expect(audit(rig.k)).toEqual([])
    // the file is open in the child, the device still has the page
    const after = rig.k.memory.buddy.free[0]!
    child.exit()
    expect(rig.k.memory.buddy.free[0]! - after).toBeGreaterThan(0)
    expect(after).toBeGreaterThanOrEqual(free)
  })

  it('R-DEX-13 what /proc shows of the entry', () => {
    const rig = new Rig(release, { capabilities: ['CAP_SYS_ADMIN'] })
    const at = rig.memory('rw2')
    rig.store(at, 'x')
    rig.store(at + P, 'x')
    const mirror = open(rig)
    const { app } = rig
    const word = (): bigint => {
      const fd = app.proc.open(app.pid, 'pagemap').fd
      const bytes = app.read(fd, 8, (at / P) * 8)
      return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true)
    }
    const sizes = (): number[] =>
      ['Rss', 'Anonymous', 'Shared_Dirty', 'Private_Dirty', 'Swap'].map((key) =>
        Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(app.proc.text(app.pid, 'smaps'))![1]),
      )
    const pfn = word() & 0x7fffffffffffffn
    expect(sizes()).toEqual([8, 8, 0, 8, 0])
    exclusive(mirror, at)
    expect(word()).toBe((1n << 62n) | (pfn << 5n) | 30n)
    expect(sizes()).toEqual([8, 8, 4, 4, 0])
    expect([app.load(at, 1)[0], word() & 0x7fffffffffffffn]).toEqual([120, pfn])
  })

  it('R-DEX-15 what fails anywhere leaves nothing held', () => {
    const walk = (options: RigOptions, hold: boolean): number =>
      walkDevice(
        release,
        (rig) => {
          const at = rig.memory('rw3+memfd1')
          rig.store(at, 'x')
          const mirror = open(rig)
          return () => {
            exclusive(mirror, at, 4)
            exclusive(mirror, at + P, 1, hold)
            rig.app.fork('child').exit()
            mirror.device.letGo()
            rig.app.load(at, 1)
            add(mirror, at)
            rig.app.munmap(at + P, P)
          }
        },
        options,
      )
    expect(walk({}, false)).toBeGreaterThan(8)
    expect(walk({}, true)).toBeGreaterThan(6)
  })
})
