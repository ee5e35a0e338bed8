import { describe, expect, it } from 'vitest'
import { PREEMPT, type Kthread } from '../../src/base/kthread.ts'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { ioUringSetup } from '../../src/io_uring/io-uring.ts'
import { ioUringRegister } from '../../src/io_uring/register.ts'
import { ringMemory } from '../../src/io_uring/setup-flags.ts'
import { MAP_SHARED } from '../../src/mm/mman.ts'
import { result, testTask } from '../support/kernel.ts'
import { H, P, RW, Rig } from './rig.ts'

const EMPTY = { base: 0, length: 0 }

/** A rig whose user has room for so many pages beside the ring's own. */
function limited(release: (typeof RELEASE_NAMES)[number], room: number): Rig {
  const rig = new Rig(release, { task: { comm: 'user', uid: 1000, limits: { memlock: 100 * P } } })
  rig.task.limits.memlock = (room + rig.ring.chargedPages) * P
  return rig
}

/** What the user is charged beside ring memory. */
function charged(rig: Rig): number {
  return rig.k.user(1000).lockedVm - rig.ring.chargedPages
}

describe.each(RELEASE_NAMES)('%s', (release) => {
  it('URING vector 27: three slices of one huge page in one call are one charge', () => {
    const rig = new Rig(release)
    rig.hugePool(1)
    const h = rig.hugetlb(1)
    const slices = [0, 1, 2].map((i) => ({ base: h + i * P, length: P }))
    expect(rig.register(slices)).toMatchObject({ result: 0, acq: 3, vmPin: 512 })
    expect(rig.unregister().vmPin).toBe(-512)
  })

  it('URING vector 28, R-URING-46: the charge leaves with the buffer that made it', () => {
    const rig = new Rig(release)
    rig.hugePool(1)
    const h = rig.hugetlb(1)
    rig.sparse(4)
    expect(rig.update(0, [{ base: h, length: P }]).result).toBe(1)
    expect(rig.vmPin).toBe(512)
    rig.update(1, [{ base: h + P, length: P }])
    expect(rig.vmPin).toBe(512)
    rig.update(0, [EMPTY])
    const late = release === '6.1' || release === 'gup-v3'
    expect([rig.vmPin, rig.pinned]).toEqual(late ? [512, 2] : [0, 1])
    rig.k.settle()
    expect([rig.vmPin, rig.pinned]).toEqual([0, 1])
  })

  it('URING vector 29: and the next slice of that page is charged nothing', () => {
    const rig = new Rig(release)
    rig.hugePool(1)
    const h = rig.hugetlb(1)
    rig.sparse(4)
    rig.update(0, [{ base: h, length: P }])
    rig.update(1, [{ base: h + P, length: P }])
    rig.update(0, [EMPTY])
    expect(rig.update(2, [{ base: h + 2 * P, length: P }])).toMatchObject({ result: 1, vmPin: 0 })
    rig.update(1, [EMPTY, EMPTY])
    // nobody pins the page any more: it is charged again
    expect(rig.update(0, [{ base: h, length: P }])).toMatchObject({ result: 1, vmPin: 512 })
  })

  it('URING vector 30, R-URING-46: a slot replaced by the same huge page ends up uncharged', () => {
    const rig = new Rig(release)
    rig.hugePool(1)
    const h = rig.hugetlb(1)
    rig.register([{ base: h, length: P }])
    expect(rig.vmPin).toBe(512)
    expect(rig.update(0, [{ base: h, length: 2 * P }]).result).toBe(1)
    rig.k.settle()
    expect(rig.vmPin).toBe(0)
    expect(rig.pinned).toBeGreaterThan(0)
  })

  it('URING vector 32: one page of a THP needs room for 512', () => {
    const rig = limited(release, 256)
    const t = rig.thp(1)
    expect(rig.buffer(t, P)).toEqual({ result: '-ENOMEM', acq: 1, rel: 1, vmPin: 0 })
    expect(rig.task.refusal).toMatchObject({
      rule: 'R-URING-42',
      needed: 512,
      limit: 256 + rig.ring.chargedPages,
    })
    rig.task.limits.memlock = (512 + rig.ring.chargedPages) * P
    expect(rig.buffer(t, P)).toMatchObject({ result: 0, vmPin: 512 })
  })

  it('URING vector 33, R-URING-19: an update charges the new buffer before the old one goes', () => {
    const rig = limited(release, 12)
    const a = rig.anon(10)
    const b = rig.anon(10)
    rig.buffer(a, 10 * P)
    expect(rig.update(0, [{ base: b, length: 10 * P }])).toEqual({
      result: '-ENOMEM',
      acq: 10,
      rel: 10,
      vmPin: 0,
    })
    expect(rig.ring.buffers!.buffer(0)!.ubuf).toBe(a)
    expect(charged(rig)).toBe(10)
  })

  it('URING vector 36: the limit is the caller’s, the counter is the ring’s user’s', () => {
    const rig = limited(release, 1000)
    const other = testTask(rig.k, {
      comm: 'other',
      uid: 45052,
      limits: { memlock: 40 * 1024 },
      mm: rig.task.mm,
    })
    const a = rig.anon(20)
    expect(rig.buffer(a, 20 * P, rig.ring, other).result).toBe('-ENOMEM')
    expect(other.refusal).toMatchObject({ needed: 20, limit: 10 })
    other.limits.memlock = 8 * 1024 * 1024
    expect(rig.buffer(a, 20 * P, rig.ring, other).result).toBe(0)
    expect(charged(rig)).toBe(20)
    expect(rig.k.user(45052).lockedVm).toBe(0)
  })

  it('R-URING-42 reaching the limit exactly is allowed, one page more is not; a limit counts whole pages', () => {
    const rig = limited(release, 10)
    rig.task.limits.memlock! += 4095
    const a = rig.anon(11)
    expect(rig.buffer(a, 11 * P).result).toBe('-ENOMEM')
    expect(rig.buffer(a, 10 * P).result).toBe(0)
  })

  it('R-URING-43 one counter per user over all its rings', () => {
    const rig = limited(release, 10)
    rig.task.limits.memlock = Infinity
    const second = rig.newRing()
    const a = rig.anon(10)
    rig.task.limits.memlock = (10 + rig.ring.chargedPages + second.chargedPages) * P
    expect(rig.buffer(a, 6 * P).result).toBe(0)
    expect(rig.buffer(a, 5 * P, second).result).toBe('-ENOMEM')
    expect(rig.buffer(a, 4 * P, second).result).toBe(0)
  })

  it('R-URING-45 two rings charge one huge page twice', () => {
    const rig = new Rig(release)
    rig.hugePool(1)
    const h = rig.hugetlb(1)
    rig.buffer(h, P)
    rig.buffer(h, P, rig.newRing())
    expect(rig.vmPin).toBe(1024)
  })

  it('R-URING-44 a folio that occurs twice in one buffer is charged once', () => {
    const rig = new Rig(release)
    rig.hugePool(2)
    const memfd = rig.hugetlbFile(2)
    const h = rig.map(1024, RW, MAP_SHARED, memfd, rig.place(1536))
    rig.mapped(memfd, 512, RW, MAP_SHARED, h + 2 * H)
    expect(rig.buffer(h, 3 * H)).toMatchObject({ result: 0, vmPin: 1024 })
  })

  it('R-URING-44 a folio of an earlier buffer of the same call, another one between: charged again on 6.18', () => {
    const rig = new Rig(release)
    rig.hugePool(2)
    const h = rig.hugetlb(2)
    const slices = [h, h + H, h + P].map((base) => ({ base, length: P }))
    expect(rig.register(slices).vmPin).toBe(release === '6.18' ? 1536 : 1024)
    rig.unregister()
    rig.sparse(3)
    expect(rig.update(0, slices).vmPin).toBe(1024)
  })

  it('R-URING-47 releasing does not ask for the limit', () => {
    const rig = limited(release, 10)
    rig.buffer(rig.anon(10), 10 * P)
    rig.task.limits.memlock = 0
    expect(rig.unregister()).toMatchObject({ result: 0, vmPin: -10 })
    expect(charged(rig)).toBe(0)
  })

  it('URING vector 35: an unprivileged ring with RLIMIT_MEMLOCK 0', () => {
    const rig = new Rig(release)
    const user = testTask(rig.k, { uid: 1000, limits: { memlock: 0 } })
    const ring = user.run(ioUringSetup(rig.k, { entries: 4 }))
    if (release !== '6.18') expect(typeof ring).toBe('object')
    else {
      expect(result(ring as number)).toBe('-ENOMEM')
      expect(user.refusal).toMatchObject({ rule: 'R-URING-42', needed: 1, used: 0, limit: 0 })
    }
  })

  it('R-URING-85 pin and charge are steps of their own; what two rings of a user share is the counter', () => {
    const between = (exploring: boolean): (number | string)[] => {
      const rig = limited(release, 4)
      const { k, task } = rig
      task.limits.memlock = Infinity
      const second = rig.newRing()
      task.limits.memlock = (4 + rig.ring.chargedPages + second.chargedPages) * P
      const iovecs = [{ base: rig.anon(4), length: 4 * P }]
      expect(rig.buffer(rig.anon(4), 4 * P, second).result).toBe(0)
      const results: (number | string)[] = []
      const register = function* () {
        results.push(result(yield* ioUringRegister(k, rig.ring, 0, { type: 'iovecs', iovecs }, 1)))
      }
      const unregister = function* () {
        results.push(result(yield* ioUringRegister(k, second, 1, null, 0)))
      }
      k.exploring = exploring
      k.scheduler.spawn('register', task, register())
      k.scheduler.spawn('unregister', testTask(k, { mm: task.mm }), unregister())
      k.scheduler.run()
      k.exploring = false
      return [...results, rig.pinned]
    }
    // pinned and not charged, charged and not in its slot: each can be met
    const rig = limited(release, 4)
    const { k, task, ring } = rig
    const iovecs = [{ base: rig.anon(4), length: 4 * P }]
    k.exploring = true
    const registering = k.scheduler.spawn(
      'register',
      task,
      ioUringRegister(k, ring, 0, { type: 'iovecs', iovecs }, 1),
    )
    const met = new Set<string>()
    const look = function* (): Kthread<void> {
      while (!registering.done) {
        met.add(
          `${rig.pinned} pinned, ${charged(rig)} charged, ${(ring.buffers?.buffer(0) ?? null) === null ? 'no' : 'a'} buffer`,
        )
        yield PREEMPT
      }
    }
    k.scheduler.spawn('look', testTask(k), look())
    k.scheduler.run()
    k.exploring = false
    expect([...met]).toEqual(
      expect.arrayContaining([
        '0 pinned, 0 charged, no buffer',
        '4 pinned, 0 charged, no buffer',
        '4 pinned, 4 charged, no buffer',
      ]),
    )
    // as a whole the registration finds no room; step by step the other ring gives its pages back meanwhile
    expect(between(false)).toEqual(['-ENOMEM', 0, 0])
    expect(between(true)).toEqual([0, 0, 4])
  })

  it('R-URING-8 ring memory is charged to the user on 6.18, to nobody before, and never to VmPin', () => {
    const rig = new Rig(release, {
      task: { uid: 1000, limits: { memlock: 101 * P } },
      setup: { entries: 4096 },
    })
    expect(rig.k.user(1000).lockedVm).toBe(release === '6.18' ? 101 : 0)
    expect(rig.vmPin).toBe(0)
    rig.ring.file.put()
    expect(rig.k.user(1000).lockedVm).toBe(0)
  })
})

it.each([
  [1, 2],
  [4, 2],
  [16, 2],
  [1024, 26],
  [4096, 101],
])('R-URING-8 a ring of %i entries takes %i pages', (entries, pages) => {
  const { rings, sqEntries } = ringMemory({ sq: entries, cq: 2 * entries }, 0)
  expect(Math.ceil(rings / P) + Math.ceil(sqEntries / P)).toBe(pages)
})
