import { PREEMPT, type Kthread } from '../../src/base/kthread.ts'
import { describe, expect, test } from 'vitest'
import { PMD_SIZE } from '../../src/base/units.ts'
import { PG_ANON_EXCLUSIVE, PG_DIRTY, PG_LOCKED } from '../../src/memory/page-flags.ts'
import {
  makeDeviceExclusive,
  makeDeviceExclusiveRange,
  putExclusivePage,
} from '../../src/mm/device-exclusive.ts'
import { audit } from '../../src/mm/audit.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { PageArray } from '../../src/mm/gup.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_DONTNEED, MAP_ANONYMOUS, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED } from '../../src/mm/mman.ts'
import { HugePmd, pmdIndex } from '../../src/mm/page-table.ts'
import { hugetlbPool } from '../../src/mm/hugetlb-pool.ts'
import { accessUser } from '../../src/mm/user-access.ts'
import { result, testTask } from '../support/kernel.ts'
import { walkFailures } from '../support/walk-failures.ts'
import { NONE, RO, World } from './gup-fixture.ts'

import {
  OWNER,
  P,
  RANGES,
  RELEASES,
  byte,
  held,
  isExclusive,
  listen,
  take,
} from './device-exclusive-fixture.ts'

describe.each(RELEASES)('device-exclusive pages on %s', (release) => {
  const keeps = release === '6.18'

  test('R-DEX-3 the entry keeps the reference and the page stays exclusive; the processor gets it back', () => {
    const w = new World(release)
    const a = w.map(2, { touched: true })
    const pfn = w.pfn(a)
    const { frames } = w.k.memory
    const heard = listen(w)
    const taken = take(w, a, 1, { keep: true })
    expect(taken).toEqual({ result: 1, pfns: [pfn] })
    const letGo = held(w, [pfn])
    expect([isExclusive(w, a), w.ref(pfn), frames.mapcount[pfn]]).toEqual([true, 2, keeps ? 1 : 0])
    expect([frames.has(pfn, PG_LOCKED), frames.has(pfn, PG_DIRTY)]).toEqual([true, true])
    expect([frames.has(pfn, PG_ANON_EXCLUSIVE), w.mm.rssAnon]).toEqual([true, 2])
    expect(audit(w.k)).toEqual([])
    letGo()
    expect([isExclusive(w, a), w.ref(pfn), audit(w.k)]).toEqual([true, 1, []])
    const { pgfault } = w.k
    expect(byte(w, a)).toBe(1)
    expect([w.pfn(a), w.ref(pfn), frames.mapcount[pfn], w.mm.rssAnon]).toEqual([pfn, 1, 1, 2])
    w.write(a, 1, 9)
    // one fault for the read, none for the write after it
    expect([w.k.pgfault - pgfault, byte(w, a), w.pfn(a)]).toEqual([1, 9, pfn])
    // @rule R-DEX-5
    expect(heard).toEqual(['exclusive mine 1', keeps ? 'clear null 1' : 'exclusive null 1'])
  })

  test('R-DEX-5 the device writes, the processor reads; a second request restores first', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const heard = listen(w)
    const [pfn] = take(w, a).pfns
    w.k.memory.contents.write(pfn!, 0, new Uint8Array([77]))
    expect(take(w, a).pfns).toEqual([pfn])
    expect(byte(w, a)).toBe(77)
    const back = keeps ? 'clear null 1' : 'exclusive null 1'
    expect(heard).toEqual(['exclusive mine 1', back, 'exclusive mine 1', back])
  })

  test('R-DEX-1, R-DEX-2 untouched memory and the zero page are filled, a page shared after fork is copied first', () => {
    const w = new World(release)
    const a = w.map(2)
    w.read(a + P)
    const zero = w.pfn(a + P)
    expect(take(w, a, 2).pfns.every((pfn) => pfn !== 0 && pfn !== zero)).toBe(true)
    expect([byte(w, a), byte(w, a + P)]).toEqual([0, 0])
    w.write(a)
    const child = w.fork()
    const shared = w.pfn(a)
    const { pfns } = take(w, a)
    expect(pfns).not.toContain(shared)
    expect([w.pfn(a, child.space), isExclusive(w, a, child.space)]).toEqual([shared, false])
    expect([byte(w, a), byte(w, a, child)]).toEqual([1, 1])
    w.exit(child)
  })

  test('R-DEX-2 what GUP refuses', () => {
    const w = new World(release)
    const a = w.map(1)
    const none = w.map(1, { prot: NONE })
    const ro = w.map(1, { prot: RO })
    for (const at of [0x7000000, none, ro]) expect(result(take(w, at).result)).toBe('-EFAULT')
    expect(take(w, a, 3).result).toBe(1)
    expect(isExclusive(w, a)).toBe(true)
  })

  test('R-DEX-3 pages that are not anonymous', () => {
    const w = new World(release)
    const shared = w.map(1, { file: w.memfd(1), touched: true })
    const anon = w.map(1, { flags: MAP_SHARED | MAP_ANONYMOUS, touched: true })
    for (const at of [shared, anon]) {
      const got = take(w, at)
      expect(keeps ? result(got.result) : got).toEqual(keeps ? '-EOPNOTSUPP' : { result: 1, pfns: [0] })
      expect([isExclusive(w, at), w.ref(w.pfn(at))]).toEqual([false, 2])
    }
    const cow = w.map(1, { file: w.memfd(1), flags: MAP_PRIVATE })
    expect(take(w, cow).pfns[0]).not.toBe(0)
    expect([isExclusive(w, cow), byte(w, cow)]).toEqual([true, 0])
  })

  test('REMOTE vector 63, REMOTE vector 70: one aligned THP (R-DEX-4, R-DEX-7)', () => {
    const w = new World(release, { zones: { normal: 4096 } })
    const a = w.mapThp()
    w.write(a)
    const head = w.pfn(a)
    expect(w.mm.pageTable.pmd(pmdIndex(a))).toBeInstanceOf(HugePmd)
    if (keeps) {
      // tails work; only the pages that were asked for are converted
      expect(take(w, a + 5 * P).pfns).toEqual([head + 5])
      expect([4, 5, 6].map((i) => isExclusive(w, a + i * P))).toEqual([false, true, false])
    } else {
      const pages = new PageArray(512)
      const got = w.underLock((g) => makeDeviceExclusiveRange(w.k, g, a, a + PMD_SIZE, pages, OWNER))
      expect([got, pages.pfns[0], [...pages.pfns].filter((pfn) => pfn !== 0).length]).toEqual([512, head, 1])
      expect([w.ref(head), w.k.memory.frames.totalMapcount(head)]).toEqual([513, 0])
      expect([0, 1, 511].map((i) => isExclusive(w, a + i * P))).toEqual([true, true, true])
      putExclusivePage(w.k, head)
      // from its middle on there are tails only
      w.read(a, 512)
      expect(take(w, a + 5 * P, 3).pfns).toEqual([0, 0, 0])
      expect(isExclusive(w, a + 5 * P)).toBe(false)
    }
    w.read(a, 512)
    expect([w.ref(head), w.k.memory.frames.totalMapcount(head)]).toEqual([512, 512])
    expect(w.unmap(a, 512)).toBe(0)
  })

  test('REMOTE vector 64: hugetlb (R-DEX-6)', () => {
    const w = new World(release, { zones: { normal: 4096 } })
    hugetlbPool(w.k).resize(2)
    const a = w.map(512, { flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB })
    const plain = w.map(1, { at: a - P, touched: true })
    const refuses = release === '6.12' || release === '6.18'
    const got = take(w, a)
    expect(refuses ? result(got.result) : got).toEqual(refuses ? '-EOPNOTSUPP' : { result: 1, pfns: [0] })
    if (!keeps) expect(take(w, plain, 3).result).toBe(refuses ? 1 : 3)
    expect(w.unmap(a, 512)).toBe(0)
  })

  test('R-DEX-2 R-DEX-7 everything that can fail fails once', () => {
    const failures = walkFailures(release, (k) => {
      const task = testTask(k)
      const w = new World(k, {}, task)
      const a = w.map(3, { touched: true })
      const child = w.fork()
      const untouched = w.map(2)
      return () => {
        take(w, a, 3)
        take(w, untouched, 2)
        expect(audit(k)).toEqual([])
        const second = task.run(forkMm(k, w.mm, 'second'))
        if (typeof second !== 'number') w.exit(testTask(k, { comm: 'second', mm: second }))
        task.run(madvise(k, w.mm, a, P, MADV_DONTNEED))
        task.run(accessUser(k, w.mm, a + P, true))
        w.exit(child)
        expect(audit(k)).toEqual([])
        w.exit(task)
      }
    })
    expect(failures).toBeGreaterThan(5)
  })
})

describe('make_device_exclusive_range', () => {
  test.each(RANGES)('R-DEX-2 on %s a page whose lock is taken is left out, the count is GUP’s', (release) => {
    const w = new World(release)
    const a = w.map(3, { touched: true })
    const busy = w.pfn(a + P)
    w.k.memory.frames.set(busy, PG_LOCKED)
    expect(take(w, a, 3)).toEqual({ result: 3, pfns: [w.pfn(a), 0, w.pfn(a + 2 * P)] })
    w.k.memory.frames.clear(busy, PG_LOCKED)
    expect([0, 1, 2].map((i) => isExclusive(w, a + i * P))).toEqual([true, false, true])
    expect(w.ref(busy)).toBe(1)
    // entries beyond the count are not written
    const pages = new PageArray(5)
    pages.pfns.fill(-1)
    expect(w.underLock((g) => makeDeviceExclusiveRange(w.k, g, a + P, a + 5 * P, pages, OWNER))).toBe(2)
    expect([...pages.pfns].slice(2)).toEqual([-1, -1, -1])
    for (const pfn of pages.pfns.subarray(0, 2)) putExclusivePage(w.k, pfn)
  })
})

describe('make_device_exclusive', () => {
  test('R-DEX-7 waits for the page, killable; an address within the page will do', () => {
    const w = new World('6.18')
    const a = w.map(1, { touched: true })
    const pfn = w.pfn(a)
    w.k.memory.frames.set(pfn, PG_LOCKED)
    const guard = w.mm.mmapLock.tryRead()!
    const waiting = w.k.scheduler.spawn('driver', w.task, makeDeviceExclusive(w.k, guard, a + 8, OWNER))
    w.k.scheduler.runUntilIdle()
    w.task.fatalSignalPending = true
    waiting.signalled(true)
    w.k.scheduler.runUntilIdle()
    expect([result(waiting.result as number), w.ref(pfn)]).toEqual(['-EINTR', 1])
    w.task.fatalSignalPending = false
    const second = w.k.scheduler.spawn('driver', w.task, makeDeviceExclusive(w.k, guard, a + 8, OWNER))
    w.k.scheduler.runUntilIdle()
    putExclusivePage(w.k, (w.k.memory.get(pfn), pfn))
    w.k.scheduler.runUntilIdle()
    expect(second.result).toBe(pfn)
    putExclusivePage(w.k, pfn)
    guard.release()
    expect([isExclusive(w, a), w.ref(pfn)]).toEqual([true, 1])
  })

  test('R-DEX-7 starts over when the page is gone by the time its lock is had', () => {
    const w = new World('6.18')
    const a = w.map(1, { touched: true })
    const pfn = w.pfn(a)
    w.k.memory.frames.set(pfn, PG_LOCKED)
    const guard = w.mm.mmapLock.tryRead()!
    const driver = w.k.scheduler.spawn('driver', w.task, makeDeviceExclusive(w.k, guard, a, OWNER))
    w.k.scheduler.runUntilIdle()
    // somebody else drops it, which needs the lock for reading only
    w.task.run(madvise(w.k, w.mm, a, P, MADV_DONTNEED))
    putExclusivePage(w.k, (w.k.memory.get(pfn), pfn))
    w.k.scheduler.runUntilIdle()
    const fresh = driver.result as number
    expect([fresh > 0, fresh === w.pfn(a), isExclusive(w, a)]).toEqual([true, true, true])
    putExclusivePage(w.k, fresh)
    guard.release()
    expect(byte(w, a)).toBe(0)
  })
})

describe.each(RELEASES)('with others in between on %s', (release) => {
  function* after<T>(steps: number, body: Kthread<T>): Kthread<T> {
    for (let i = 0; i < steps; i++) yield PREEMPT
    return yield* body
  }

  /** Runs a driver with somebody else coming in after one, two, … of its steps. */
  function withOther(other: (w: World, a: number) => Kthread<unknown>): void {
    for (let n = 0; n < 24; n++) {
      const w = new World(release)
      const a = w.map(3, { touched: true })
      w.k.exploring = true
      w.k.batch = 1
      const { scheduler } = w.k
      const driver = scheduler.spawn('driver', testTask(w.k, { mm: w.mm }), takeAll(w, a, 3))
      scheduler.spawn('other', w.task, after(n, other(w, a)))
      scheduler.run()
      w.k.exploring = false
      expect([driver.result, w.mm.mmapLock.locked]).toEqual([3, false])
      expect(audit(w.k), `after ${n}`).toEqual([])
      w.read(a, 3)
    }
  }

  function* takeAll(w: World, a: number, n: number): Kthread<number> {
    const guard = w.mm.mmapLock.tryRead() ?? (yield* w.mm.mmapLock.read())
    const pages = new PageArray(n)
    if (w.k.release.fault.deviceExclusive === 'range')
      yield* makeDeviceExclusiveRange(w.k, guard, a, a + n * P, pages, OWNER)
    else
      for (let i = 0; i < n; i++) {
        const pfn = yield* makeDeviceExclusive(w.k, guard, a + i * P, OWNER)
        if (pfn > 0) putExclusivePage(w.k, pfn)
      }
    for (const pfn of pages.pfns) if (pfn !== 0) putExclusivePage(w.k, pfn)
    guard.release()
    return n
  }

  test('R-DEX-2 R-DEX-7 the page is dropped, read, written, or taken by a second device', () => {
    withOther((w, a) => madvise(w.k, w.mm, a, 3 * P, MADV_DONTNEED))
    withOther((w, a) => accessUser(w.k, w.mm, a + P, false))
    withOther((w, a) => accessUser(w.k, w.mm, a + P, true))
    withOther((w, a) => takeAll(w, a, 3))
  })

  test('R-DEX-9 fork comes in between', () => {
    withOther(function* (w) {
      const child = yield* forkMm(w.k, w.mm, 'child')
      if (typeof child !== 'number') yield* exitMmap(w.k, child)
    })
  })
})
