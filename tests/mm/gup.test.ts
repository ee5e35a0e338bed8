import { describe, expect, test } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { FOLL_FORCE, FOLL_LONGTERM, FOLL_NOWAIT, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import {
  LockedGuard,
  PageArray,
  getDumpPage,
  getUserPagesFastOnly,
  getUserPageVmaRemote,
  getUserPagesUnlocked,
  pinUserPagesRemote,
  pinUserPagesUnlocked,
} from '../../src/mm/gup.ts'
import { putPage, unpinUserPages } from '../../src/mm/unpin.ts'
import { MADV_DONTNEED, MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_PRIVATE, MAP_SHARED } from '../../src/mm/mman.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  createUserfaultfd,
  uffdClose,
  uffdRegister,
} from '../../src/mm/userfaultfd.ts'
import { result } from '../support/kernel.ts'
import { NONE, RO, WO, World } from './gup-fixture.ts'

const all: ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']
const W = FOLL_WRITE
const LT = FOLL_LONGTERM

describe.each(all)('%s', (release) => {
  test('GUP vector 1: pin fast of touched memory, every page +1024', () => {
    const w = new World(release)
    const a = w.map(4, { touched: true })
    const before = [0, 1, 2, 3].map((i) => w.ref(w.pfn(a + i * PAGE_SIZE)))
    const pin = w.pinFast(a, 4, W | LT)
    expect([pin.result, pin.acquired, pin.released]).toEqual([4, 4, 0])
    expect(pin.pfns).toEqual([0, 1, 2, 3].map((i) => w.pfn(a + i * PAGE_SIZE)))
    expect(pin.pfns.map((pfn) => w.ref(pfn))).toEqual(before.map((ref) => ref + 1024))
    expect(w.mm.hasPinned).toBe(true)
    pin.unpin()
  })

  test('GUP vector 2: unpin_user_pages gives all back', () => {
    const w = new World(release)
    const a = w.map(4, { touched: true })
    const pin = w.pinFast(a, 4, W | LT)
    const released = w.k.pinReleased
    pin.unpin()
    expect(w.k.pinReleased - released).toBe(4)
    expect(pin.pfns.map((pfn) => w.ref(pfn))).toEqual([1, 1, 1, 1])
  })

  test('GUP vector 3: untouched memory, all by the slow part', () => {
    const w = new World(release)
    const a = w.map(4)
    const pin = w.pinFast(a, 4, W | LT)
    expect([pin.result, pin.acquired, pin.released]).toEqual([4, 4, 0])
    pin.unpin()
  })

  test('GUP vector 4: half touched, fast and slow part together', () => {
    const w = new World(release)
    const a = w.map(4)
    w.write(a, 2)
    const pin = w.pinFast(a, 4, W | LT)
    expect([pin.result, pin.acquired]).toEqual([4, 4])
    expect(pin.pfns).toEqual([0, 1, 2, 3].map((i) => w.pfn(a + i * PAGE_SIZE)))
    pin.unpin()
  })

  test('GUP vector 5, R-GUP-38: a hole behind two pages gives two pages and the reason', () => {
    const w = new World(release)
    const a = w.map(2, { touched: true })
    const pin = w.pinFast(a, 4, W)
    expect([pin.result, pin.acquired]).toEqual([2, 2])
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-15', page: 2, address: a + 2 * PAGE_SIZE })
    pin.unpin()
  })

  test('GUP vector 6, R-GUP-38: two writable pages, then two read-only ones', () => {
    const w = new World(release)
    const a = w.map(2, { touched: true })
    w.map(2, { at: a + 2 * PAGE_SIZE, prot: RO })
    const pin = w.pin(a, 4, W | LT)
    expect([pin.result, pin.acquired]).toEqual([2, 2])
    expect(w.task.refusal).toMatchObject({
      rule: 'R-GUP-16.8',
      page: 2,
      why: expect.stringMatching(/not writable/),
    })
    pin.unpin()
  })

  test('GUP vector 7: write pin of read-only memory', () => {
    const w = new World(release)
    const a = w.map(1, { prot: RO })
    const pin = w.pin(a, 1, W)
    expect([result(pin.result), pin.acquired]).toEqual(['-EFAULT', 0])
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-16.8', page: 0, address: a })
  })

  test('GUP vector 8, R-GUP-42: PROT_NONE; the attempt marks the mm all the same', () => {
    const w = new World(release)
    const a = w.map(1, { prot: NONE })
    expect(result(w.pinFast(a, 1).result)).toBe('-EFAULT')
    expect(w.mm.hasPinned).toBe(true)
  })

  test('GUP vector 9: hole, remotely', () => {
    const w = new World(release)
    const pages = new PageArray(1)
    const got = w.underLock((guard) => pinUserPagesRemote(w.k, w.mm, 0x7000000, 1, 0, pages, guard))
    expect(result(got)).toBe('-EFAULT')
  })

  test('GUP vector 32: get fast of a page shared with a child takes the shared page', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    w.fork()
    const before = w.pfn(a)
    const got = w.getFast(a, 1)
    expect(got.result).toBe(1)
    expect(got.pfns).toEqual([before])
    expect(w.pfn(a)).toBe(before)
    got.put()
  })

  test('GUP vector 30: shared once, child gone: the page becomes exclusive again', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    w.exit(w.fork())
    const before = w.pfn(a)
    const pages = new PageArray(1)
    const acquired = w.k.pinAcquired
    const got = w.underLock((guard) => pinUserPagesRemote(w.k, w.mm, a, 1, 0, pages, guard))
    expect([got, pages.pfns[0], w.k.pinAcquired - acquired]).toEqual([1, before, 1])
    unpinUserPages(w.k, pages, 1)
  })

  test('GUP vector 31: the same with one more reference is copied', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    w.exit(w.fork())
    const get = w.getFast(a, 1)
    const pages = new PageArray(1)
    const got = w.underLock((guard) => pinUserPagesRemote(w.k, w.mm, a, 1, 0, pages, guard))
    expect(got).toBe(1)
    expect(pages.pfns[0]).not.toBe(get.pfns[0])
    unpinUserPages(w.k, pages, 1)
    get.put()
  })

  test('GUP vector 51, R-GUP-56: PROT_WRITE only, present: the fast path reads it, the slow one refuses', () => {
    const w = new World(release)
    const a = w.map(1, { prot: WO, touched: true })
    const got = w.getFast(a, 1)
    expect(got.result).toBe(1)
    got.put()
    expect(result(w.get(a, 1).result)).toBe('-EFAULT')
  })

  test('GUP vector 53: forced write to a shared read-only file', () => {
    const w = new World(release)
    const a = w.map(1, { prot: RO, file: w.memfd(1) })
    expect(result(w.get(a, 1, FOLL_FORCE | W).result)).toBe('-EFAULT')
    expect(w.task.refusal).toMatchObject({ why: expect.stringMatching(/shared mappings/) })
  })

  test('GUP vector 54: forced read of PROT_NONE', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    w.map(1, { at: a, prot: NONE })
    const got = w.get(a, 1, FOLL_FORCE)
    expect(got.result).toBe(1)
    got.put()
  })

  test('R-FLT-50, R-GUP-19 forced write to a private read-only mapping gets a page of its own', () => {
    const w = new World(release)
    const a = w.map(1, { prot: RO })
    const got = w.get(a, 1, FOLL_FORCE | W)
    expect(got.result).toBe(1)
    expect(got.pfns).toEqual([w.pfn(a)])
    got.put()
  })

  test('GUP vector 56: a pinned page dropped by MADV_DONTNEED is stale', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const pin = w.pinFast(a, 1, W)
    w.task.run(madvise(w.k, w.mm, a, PAGE_SIZE, MADV_DONTNEED))
    w.write(a)
    const [old] = pin.pfns
    expect(w.pfn(a)).not.toBe(old)
    expect(w.k.memory.frames.mapcount[old!]).toBe(0)
    expect(w.ref(old!)).toBe(1024)
    pin.unpin()
  })

  test('R-GUP-2 an address inside a page counts from that page', () => {
    const w = new World(release)
    const a = w.map(2, { touched: true })
    for (const got of [w.get(a + 100, 2), w.getFast(a + 100, 2)]) {
      expect(got.pfns).toEqual([w.pfn(a), w.pfn(a + PAGE_SIZE)])
      got.put()
    }
  })

  test('R-GUP-90 a core dump sees touched pages and holes', () => {
    const w = new World(release)
    const a = w.map(3)
    w.write(a)
    w.read(a + PAGE_SIZE)
    const dump = (i: number): number => w.task.run(getDumpPage(w.k, a + i * PAGE_SIZE))
    const page = dump(0)
    expect(page).toBe(w.pfn(a))
    putPage(w.k, page)
    expect([dump(1), dump(2)]).toEqual([0, 0])
    expect(w.pfn(a + 2 * PAGE_SIZE)).toBe(0)
  })

  test('R-GUP-3 pages null only faults in', () => {
    const w = new World(release)
    const a = w.map(3)
    expect(w.task.run(getUserPagesUnlocked(w.k, a, 3, null, W))).toBe(3)
    expect([0, 1, 2].map((i) => w.ref(w.pfn(a + i * PAGE_SIZE)))).toEqual([1, 1, 1])
  })

  test('R-GUP-99 fast only takes what is there and nothing else', () => {
    const w = new World(release)
    const a = w.map(4)
    w.write(a, 2)
    const got = w.attempt(4, (pages) =>
      w.task.run(
        (function* () {
          return getUserPagesFastOnly(w.k, a, 4, 0, pages)
        })(),
      ),
    )
    expect(got.result).toBe(2)
    expect(w.pfn(a + 2 * PAGE_SIZE)).toBe(0)
    got.put()
  })

  test('R-GUP-60 an overflown count gives no more references', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const { refcount } = w.k.memory.frames
    const pfn = w.pfn(a)
    const honest = refcount[pfn]!
    refcount[pfn] = -5
    expect(result(w.pin(a, 1, W).result)).toBe('-ENOMEM')
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-60', page: 0, address: a })
    expect(result(w.pinFast(a, 1, W).result)).toBe('-ENOMEM')
    refcount[pfn] = honest
  })

  test('R-GUP-96, R-COM-23 one page and the promise of its VMA', () => {
    const w = new World(release)
    const a = w.map(1)
    const pfn = w.underLock((guard) => getUserPageVmaRemote(w.k, guard, a, W))
    expect(pfn).toBe(w.pfn(a))
    putPage(w.k, pfn)
    expect(result(w.underLock((guard) => getUserPageVmaRemote(w.k, guard, 0x7000000, 0)))).toBe('-EFAULT')
    expect(result(w.underLock((guard) => getUserPageVmaRemote(w.k, guard, a, FOLL_NOWAIT)))).toBe('-EINVAL')
    expect(w.k.warnings.map(({ id }) => id)).toEqual(['gup-vma-nowait'])
  })

  test('GUP vector 49: short write pin of a shared ext4 page', () => {
    const w = new World(release)
    const a = w.map(1, { file: w.ext4(1), flags: MAP_SHARED })
    const pin = w.pinFast(a, 1, W)
    expect(pin.result).toBe(1)
    pin.unpin()
  })

  test('GUP vector 50: touched secretmem is grabbed, then refused', () => {
    const w = new World(release)
    const a = w.map(1, { file: w.secretmem(1), touched: true })
    const pin = w.pinFast(a, 1, W | LT)
    expect([result(pin.result), pin.acquired, pin.released]).toEqual(['-EFAULT', 1, 1])
    expect(w.task.refusal).toMatchObject({ why: expect.stringMatching(/secretmem/) })
  })
})

describe('the zero page', () => {
  test.each(all)('R-COM-4 a plain reference counts on %s, whatever a pin does', (release) => {
    const w = new World(release)
    const before = w.ref(w.k.zeroPfn)
    const got = w.get(w.map(1), 1)
    expect([got.pfns, w.ref(w.k.zeroPfn)]).toEqual([[w.k.zeroPfn], before + 1])
    got.put()
  })

  test.each(['6.1', '6.6', '6.12', '6.18'] as const)(
    'GUP vector 34, R-GUP-63: not counted on %s',
    (release) => {
      const w = new World(release)
      const a = w.map(4)
      const before = w.ref(w.k.zeroPfn)
      const pin = w.pinFast(a, 4)
      expect([pin.result, pin.acquired, pin.released]).toEqual([4, 0, 0])
      expect(new Set(pin.pfns)).toEqual(new Set([w.k.zeroPfn]))
      expect(w.ref(w.k.zeroPfn)).toBe(before)
      pin.unpin()
      expect(w.k.pinReleased).toBe(0)
    },
  )

  test('GUP vector 35, R-GUP-63: counted in the series', () => {
    const w = new World('gup-v3')
    const a = w.map(4)
    const before = w.ref(w.k.zeroPfn)
    const pin = w.pinFast(a, 4)
    expect([pin.result, pin.acquired]).toEqual([4, 4])
    expect(w.ref(w.k.zeroPfn)).toBe(before + 4 * 1024)
    pin.unpin()
    expect(w.ref(w.k.zeroPfn)).toBe(before)
  })

  test.each(['gup-v3', '6.6', '6.12', '6.18'] as const)(
    'GUP vector 36: a long-term read pin breaks COW on %s',
    (release) => {
      const w = new World(release)
      const a = w.map(1)
      const pin = w.pin(a, 1, LT)
      expect(pin.result).toBe(1)
      expect(pin.pfns[0]).not.toBe(w.k.zeroPfn)
      expect(pin.pfns[0]).toBe(w.pfn(a))
      pin.unpin()
    },
  )

  test('R-GUP-26 on 6.1 the same pin takes the zero page', () => {
    const w = new World('6.1')
    const pin = w.pin(w.map(1), 1, LT)
    expect(pin.pfns).toEqual([w.k.zeroPfn])
    pin.unpin()
  })
})

describe('pages shared with a child', () => {
  test.each(all)('GUP vector 29: read pin fast, child alive, on %s', (release) => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    w.fork()
    const before = w.pfn(a)
    const pin = w.pinFast(a, 1)
    expect([pin.result, pin.acquired, pin.released]).toEqual([1, 2, 1])
    expect(pin.pfns[0]).not.toBe(before)
    pin.unpin()
  })

  test.each(all)('GUP vector 33: write pin fast, child alive, on %s', (release) => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    w.fork()
    const before = w.pfn(a)
    const pin = w.pinFast(a, 1, W | LT)
    expect([pin.result, pin.acquired, pin.released]).toEqual([1, 1, 0])
    expect(pin.pfns[0]).not.toBe(before)
    pin.unpin()
  })

  test.each(all)('GUP vector 40: a pinned page is copied for the child on %s', (release) => {
    const w = new World(release)
    const a = w.map(2, { touched: true })
    const pin = w.pinFast(a, 1, W)
    const [pfn] = pin.pfns
    const child = w.fork()
    expect(w.pfn(a)).toBe(pfn)
    expect(w.pfn(a, child.space)).not.toBe(pfn)
    expect(w.pfn(a + PAGE_SIZE, child.space)).toBe(w.pfn(a + PAGE_SIZE))
    w.write(a)
    expect(w.pfn(a)).toBe(pfn)
    pin.unpin()
  })

  test.each([
    ['GUP vector 41: 1022 references look like a pin', 1022, true],
    ['GUP vector 41: 1021 do not', 1021, false],
  ] as const)('%s', (_name, references, copied) => {
    const w = new World('6.18')
    const a = w.map(2, { touched: true })
    w.pinFast(a + PAGE_SIZE, 1, W).unpin()
    const gets = Array.from({ length: references }, () => w.getFast(a, 1))
    const child = w.fork()
    expect(w.pfn(a, child.space) !== w.pfn(a)).toBe(copied)
    for (const get of gets) get.put()
  })

  test.each(all)('GUP vector 42: without any pin 1100 references are shared on %s', (release) => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const gets = Array.from({ length: 1100 }, () => w.getFast(a, 1))
    const child = w.fork()
    expect(w.pfn(a, child.space)).toBe(w.pfn(a))
    for (const get of gets) get.put()
  })

  test.each(all)('GUP vector 43, R-GUP-72: a failed pin is enough for them to be copied on %s', (release) => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const none = w.map(1, { prot: NONE })
    expect(result(w.pinFast(none, 1).result)).toBe('-EFAULT')
    const gets = Array.from({ length: 1100 }, () => w.getFast(a, 1))
    const child = w.fork()
    expect(w.pfn(a, child.space)).not.toBe(w.pfn(a))
    for (const get of gets) get.put()
  })
})

describe('hugetlb and stacks', () => {
  test.each([
    ['gup-v3', 1],
    ['6.1', '-EFAULT'],
    ['6.6', '-EFAULT'],
    ['6.12', '-EFAULT'],
    ['6.18', '-EFAULT'],
  ] as const)(
    'GUP vector 55, R-GUP-13: one page below a growing mapping, %s gives %s',
    (release, expected) => {
      const w = new World(release)
      const a = w.map(1, {
        at: 0x20000000,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN,
        touched: true,
      })
      const got = w.get(a - PAGE_SIZE, 1)
      expect(result(got.result)).toBe(expected)
      expect(w.k.warnings.some((warning) => warning.id === 'gup-stack')).toBe(
        !['gup-v3', '6.1'].includes(release),
      )
      got.put()
    },
  )
})

describe('the lock', () => {
  test('R-GUP-45 a lent lock that was not dropped is still there', () => {
    const w = new World()
    const a = w.map(2, { touched: true })
    const locked = new LockedGuard(w.mm.mmapLock.tryRead()!)
    const guard = locked.guard
    const pages = new PageArray(2)
    expect(w.task.run(pinUserPagesRemote(w.k, w.mm, a, 2, W, pages, locked))).toBe(2)
    expect(locked.guard).toBe(guard)
    locked.guard!.release()
    unpinUserPages(w.k, pages, 2)
  })

  test.each(['gup-v3', '6.6', '6.12', '6.18'] as const)(
    'GUP vector 14: longterm with a lent lock on %s',
    (release) => {
      const w = new World(release)
      const a = w.map(1)
      const locked = new LockedGuard(w.mm.mmapLock.tryRead()!)
      const pages = new PageArray(1)
      expect(w.task.run(pinUserPagesRemote(w.k, w.mm, a, 1, LT, pages, locked))).toBe(1)
      locked.guard?.release()
      unpinUserPages(w.k, pages, 1)
    },
  )

  test.each(all)('R-COM-9 on %s a task that is killed on the way keeps what it has', (release) => {
    const w = new World(release)
    const a = w.map(2)
    const uffd = createUserfaultfd(w.k)
    w.task.run(uffdRegister(w.k, uffd, w.mm, a + PAGE_SIZE, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    const pages = new PageArray(2)
    const pin = w.k.scheduler.spawn('pin', w.task, pinUserPagesUnlocked(w.k, a, 2, pages, W))
    w.k.scheduler.runUntilIdle()
    expect(pin.done).toBe(false)
    w.task.fatalSignalPending = true
    pin.signalled(true)
    w.k.scheduler.run()
    expect(pin.result).toBe(1)
    expect(w.task.refusal).toMatchObject({ errno: 4, page: 1 })
    w.task.fatalSignalPending = false
    unpinUserPages(w.k, pages, 1)
    w.task.run(uffdClose(w.k, uffd))
  })

  test('R-GUP-36, R-COM-9 a task being killed stops before the first page', () => {
    const w = new World()
    const a = w.map(1, { touched: true })
    w.task.fatalSignalPending = true
    expect(result(w.pin(a, 1, W).result)).toBe('-EINTR')
    // the lockless walk asks nobody
    const pin = w.pinFast(a, 1, W)
    expect(pin.result).toBe(1)
    w.task.fatalSignalPending = false
    pin.unpin()
  })

  test('R-GUP-113 a guard of somebody else is a mistake of the caller', () => {
    const w = new World()
    const other = new World()
    const guard = other.mm.mmapLock.tryRead()!
    expect(() => w.task.run(pinUserPagesRemote(w.k, w.mm, 0, 1, 0, new PageArray(1), guard))).toThrow(
      'another mm',
    )
    guard.release()
  })

  test('R-GUP-3 an array that is too small is a mistake of the caller', () => {
    const w = new World()
    const a = w.map(2)
    expect(() =>
      w.attempt(1, (pages) => w.underLock((guard) => pinUserPagesRemote(w.k, w.mm, a, 2, 0, pages, guard))),
    ).toThrow(RangeError)
  })
})

describe('dirty-tracked files', () => {
  test.each(['6.6', '6.12', '6.18'] as const)(
    'GUP vector 46: long-term write pin of shared ext4 on %s',
    (release) => {
      const w = new World(release)
      const a = w.map(1, { file: w.ext4(1) })
      expect(result(w.pin(a, 1, W | LT).result)).toBe('-EFAULT')
      expect(w.task.refusal).toMatchObject({ why: expect.stringMatching(/dirty pages are tracked/) })
    },
  )

  test.each(['6.1', 'gup-v3'] as const)('GUP vector 47: the same is pinned on %s', (release) => {
    const w = new World(release)
    const a = w.map(1, { file: w.ext4(1) })
    const pin = w.pin(a, 1, W | LT)
    expect(pin.result).toBe(1)
    pin.unpin()
  })

  test.each(['6.6', '6.12', '6.18'] as const)(
    'GUP vector 48: touched, through the fast path, on %s',
    (release) => {
      const w = new World(release)
      const a = w.map(1, { file: w.ext4(1), touched: true })
      const pin = w.pinFast(a, 1, W | LT)
      expect([result(pin.result), pin.acquired, pin.released]).toEqual(['-EFAULT', 1, 1])
    },
  )
})
