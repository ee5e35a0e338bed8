import { describe, expect, it } from 'vitest'
import { PREEMPT, type Kthread } from '../../src/base/kthread.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import { PG_ANON_EXCLUSIVE, PG_LRU, ZONE_MOVABLE, ZONE_NORMAL } from '../../src/memory/page-flags.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { getUserPagesFast, pinUserPagesFast, PageArray } from '../../src/mm/gup.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_COLLAPSE,
  MADV_DONTNEED,
  MADV_PAGEOUT,
  MADV_WILLNEED,
  MAP_ANONYMOUS,
  MAP_HUGETLB,
  MAP_PRIVATE,
  MAP_SHARED,
} from '../../src/mm/mman.ts'
import { mincore } from '../../src/mm/mincore.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { HugePmd, PTE_MIGRATION, pmdIndex, pteSlot } from '../../src/mm/page-table.ts'
import { swapoff } from '../../src/mm/swapoff.ts'
import { punchHole, truncateFile } from '../../src/mm/truncate.ts'
import { putPages, unpinUserPages } from '../../src/mm/unpin.ts'
import { accessUser, loadUser, storeUser, type AccessResult } from '../../src/mm/user-access.ts'
import { result, testTask, type TestTask } from '../support/kernel.ts'
import { walkFailures } from '../support/walk-failures.ts'
import { RW, World } from './gup-fixture.ts'

const RELEASES: readonly ReleaseName[] = ['6.1', 'gup-v3', '6.6', '6.12', '6.18']
const P = PAGE_SIZE
const LT = FOLL_LONGTERM | FOLL_WRITE
const zones = { normal: 4096, movable: 4096 }

function wordAt(mm: Mm, address: number): number {
  const entry = mm.pageTable.pmd(pmdIndex(address))
  if (entry === null) return 0
  return entry instanceof HugePmd ? entry.bits : entry.bits[pteSlot(address)]!
}

const isMoving = (mm: Mm, address: number): boolean => (wordAt(mm, address) & PTE_MIGRATION) !== 0

/** What another task does as soon as it finds a migration entry, at once as far as it need not sleep. */
function* whenMoving<T>(k: Kernel, mm: Mm, address: number, body: () => Kthread<T>): Kthread<T> {
  for (let i = 0; !isMoving(mm, address); i++) {
    if (i > 1000) throw new Error('no migration entry was ever seen')
    yield PREEMPT
  }
  k.exploring = false
  const done = yield* body()
  k.exploring = true
  return done
}

interface Pinned {
  readonly result: number | string
  readonly pfns: readonly number[]
  readonly unpin: () => void
}

/** Pins pages for long as one task while another does something in between. */
function pinWhile<T>(
  w: World,
  at: number,
  pages: number,
  body: () => Kthread<T>,
  other: TestTask = testTask(w.k, { comm: 'other', mm: w.mm }),
  seen: { mm: Mm; at: number } = { mm: w.mm, at },
): { pin: Pinned; done: T } {
  const { k } = w
  const array = new PageArray(pages)
  k.exploring = true
  const pinning = k.scheduler.spawn('pin', w.task, pinUserPagesFast(k, at, pages, LT, array))
  const doing = k.scheduler.spawn('other', other, whenMoving(k, seen.mm, seen.at, body))
  k.scheduler.run()
  k.exploring = false
  if (other.mm === w.mm) other.mm = null
  const got = pinning.result!
  const unpin = (): void => {
    if (got > 0) unpinUserPages(k, array, got)
  }
  return {
    pin: { result: result(got), pfns: [...array.pfns.subarray(0, Math.max(0, got))], unpin },
    done: doing.result!,
  }
}

function valueAt(w: World, mm: Mm, address: number): number {
  const into = new Uint8Array(1)
  expect(w.task.run(loadUser(w.k, mm, address, into))).toEqual({ ok: true })
  return into[0]!
}

const zone = (w: World, pfn: number): number => w.k.memory.frames.zone(pfn)

describe.each(RELEASES)('migration, %s', (release) => {
  it('R-FLT-51 an access waits for the page and finds it where it is now', () => {
    const w = new World(release, { zones })
    const a = w.map(2, { touched: true })
    const old = w.pfn(a)
    const { pin, done } = pinWhile<AccessResult>(w, a, 2, function* () {
      expect(w.k.memory.frames.mapcount[old]).toBe(0)
      expect(w.mm.rssAnon).toBe(2)
      return yield* storeUser(w.k, w.mm, a, Uint8Array.of(77))
    })
    expect([pin.result, done]).toEqual([2, { ok: true }])
    expect([zone(w, old), zone(w, pin.pfns[0]!), pin.pfns[0]]).toEqual([ZONE_MOVABLE, ZONE_NORMAL, w.pfn(a)])
    expect([valueAt(w, w.mm, a), valueAt(w, w.mm, a + P)]).toEqual([77, 2])
    pin.unpin()
  })

  it('R-FLT-51 a fatal signal does not end the wait', () => {
    const w = new World(release, { zones })
    const a = w.map(1, { touched: true })
    const other = testTask(w.k, { comm: 'other', mm: w.mm })
    const { pin, done } = pinWhile<AccessResult>(
      w,
      a,
      1,
      function* () {
        other.fatalSignalPending = true
        return yield* accessUser(w.k, w.mm, a, true)
      },
      other,
    )
    expect([pin.result, done.ok, pin.pfns[0]]).toEqual([1, true, w.pfn(a)])
    pin.unpin()
  })

  it('R-GUP-36 another GUP call waits as well', () => {
    const w = new World(release, { zones })
    const a = w.map(1, { touched: true })
    const pages = new PageArray(1)
    const { pin, done } = pinWhile(w, a, 1, () => getUserPagesFast(w.k, a, 1, FOLL_WRITE, pages))
    expect([pin.result, done, pages.pfns[0]]).toEqual([1, 1, w.pfn(a)])
    putPages(w.k, pages, 1)
    pin.unpin()
  })

  it('R-FLT-141 MADV_DONTNEED meanwhile: the pin gets another page', () => {
    const w = new World(release, { zones })
    const a = w.map(1, { touched: true })
    const { pin } = pinWhile(w, a, 1, () => madvise(w.k, w.mm, a, P, MADV_DONTNEED))
    expect([pin.result, valueAt(w, w.mm, a), w.mm.rssAnon]).toEqual([1, 0, 1])
    pin.unpin()
  })

  it('R-AS-111 mincore counts the page', () => {
    const w = new World(release, { zones })
    const a = w.map(1, { touched: true })
    const answer = w.map(1, { touched: true })
    const { pin } = pinWhile(w, a, 1, () => mincore(w.k, w.mm, a, P, answer))
    expect(valueAt(w, w.mm, answer)).toBe(1)
    pin.unpin()
  })

  it('R-FLT-140 somebody holds a reference: the page stays as it was', () => {
    const w = new World(release, { zones })
    const a = w.map(1, { touched: true })
    const old = w.pfn(a)
    const get = w.getFast(a, 1)
    const { pin, done } = pinWhile<AccessResult>(w, a, 1, () => accessUser(w.k, w.mm, a, true))
    expect([pin.result, done.ok, w.pfn(a)]).toEqual(['-ENOMEM', true, old])
    expect(w.k.memory.frames.has(old, PG_ANON_EXCLUSIVE)).toBe(true)
    expect(w.k.memory.frames.has(old, PG_LRU)).toBe(true)
    const before = w.k.pgfault
    w.write(a, 1, 5)
    expect(w.k.pgfault).toBe(before)
    get.put()
  })

  it('R-FLT-140 the reference goes while the page is tried again', () => {
    const w = new World(release, { zones })
    const a = w.map(1, { touched: true })
    const old = w.pfn(a)
    const get = w.getFast(a, 1)
    const { pin } = pinWhile(w, a, 1, function* () {
      get.put()
      yield PREEMPT
    })
    expect([pin.result, w.pfn(a) === old, zone(w, w.pfn(a))]).toEqual([1, false, ZONE_NORMAL])
    pin.unpin()
  })

  it('R-GUP-50 two tasks pin the same pages at once', () => {
    const w = new World(release, { zones })
    const a = w.map(4, { touched: true })
    const pages = new PageArray(4)
    const { pin, done } = pinWhile(w, a, 4, () => pinUserPagesFast(w.k, a, 4, LT, pages))
    expect([pin.result, done]).toEqual([4, 4])
    expect([...pages.pfns]).toEqual(pin.pfns)
    unpinUserPages(w.k, pages, 4)
    pin.unpin()
  })

  it('R-FLT-21 a page of a file that is being moved is not mapped again before it is in place', () => {
    const w = new World(release, { zones })
    const file = w.memfd(1)
    const a = w.map(1, { file, touched: true })
    const b = w.map(1, { file })
    const old = w.pfn(a)
    const { pin, done } = pinWhile<AccessResult>(w, a, 1, () => storeUser(w.k, w.mm, b, Uint8Array.of(8)))
    expect([pin.result, done.ok, w.pfn(a), w.pfn(b)]).toEqual([1, true, pin.pfns[0], pin.pfns[0]])
    expect([w.pfn(a) === old, valueAt(w, w.mm, a), file.mapping.pages.get(0)]).toEqual([false, 8, w.pfn(a)])
    pin.unpin()
  })

  it.each(['hole', 'truncate'] as const)('R-FLT-75 a %s in the file meanwhile', (what) => {
    const w = new World(release, { zones })
    const file = w.memfd(2)
    const a = w.map(2, { file, touched: true })
    const { pin } = pinWhile(w, a, 2, () =>
      what === 'hole' ? punchHole(w.k, file.mapping, 0, P) : truncateFile(w.k, file.mapping, P),
    )
    if (what === 'hole') {
      expect([pin.result, valueAt(w, w.mm, a), valueAt(w, w.mm, a + P)]).toEqual([2, 0, 2])
      pin.unpin()
    } else {
      expect([pin.result, valueAt(w, w.mm, a), w.mm.rssShmem]).toEqual([1, 1, 1])
      pin.unpin()
    }
  })

  it('R-GUP-50 a page of the swap cache is moved', () => {
    const w = new World(release, { zones })
    w.k.swap.swapon(64)
    const a = w.map(2, { touched: true })
    expect(w.task.run(madvise(w.k, w.mm, a, 2 * P, MADV_PAGEOUT))).toBe(0)
    const child = w.fork()
    expect(w.task.run(madvise(w.k, w.mm, a, 2 * P, MADV_WILLNEED))).toBe(0)
    w.read(a, 2)
    const old = w.pfn(a)
    expect([w.k.swap.slotOf(old) > 0, zone(w, old)]).toEqual([true, ZONE_MOVABLE])
    const pages = new PageArray(2)
    expect(w.task.run(pinUserPagesFast(w.k, a, 2, FOLL_LONGTERM, pages))).toBe(2)
    expect(zone(w, w.pfn(a))).toBe(ZONE_NORMAL)
    expect([valueAt(w, w.mm, a), valueAt(w, child.space, a + P)]).toEqual([1, 2])
    unpinUserPages(w.k, pages, 2)
    w.exit(child)
    expect(w.task.run(swapoff(w.k))).toBe(0)
  })

  it('R-HUGE-45 a hugetlb page is moved, and who meets its entry waits', () => {
    const w = new World(release, { zones })
    const pool = hugetlbPool(w.k)
    pool.resize(2)
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB
    const a = w.map(512, { flags, touched: true })
    const old = w.pfn(a)
    expect(zone(w, old)).toBe(ZONE_MOVABLE)
    const { pin, done } = pinWhile<AccessResult>(w, a, 3, () => storeUser(w.k, w.mm, a + P, Uint8Array.of(9)))
    expect([pin.result, done.ok, zone(w, pin.pfns[0]!), w.pfn(a)]).toEqual([
      3,
      true,
      ZONE_NORMAL,
      pin.pfns[0],
    ])
    expect([valueAt(w, w.mm, a), valueAt(w, w.mm, a + P)]).toEqual([1, 9])
    expect([pool.total, pool.free, pool.reserved, w.mm.hugetlbPages]).toEqual([2, 1, 0, 512])
    pin.unpin()
  })

  it('R-HUGE-64 an exhausted pool: a page is made for the move, and the old one dissolves', () => {
    const w = new World(release, { zones })
    const pool = hugetlbPool(w.k)
    pool.resize(1)
    const flags = MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB
    const a = w.map(512, { flags, touched: true })
    const free = w.k.memory.buddy.free[ZONE_MOVABLE]!
    const pages = new PageArray(1)
    expect(w.task.run(pinUserPagesFast(w.k, a, 1, LT, pages))).toBe(1)
    expect([zone(w, w.pfn(a)), pool.total, pool.free]).toEqual([ZONE_NORMAL, 1, 0])
    expect(w.k.memory.buddy.free[ZONE_MOVABLE]).toBe(free + 512)
    unpinUserPages(w.k, pages, 1)
    w.unmap(a, 512)
    expect([pool.total, pool.free]).toEqual([1, 1])
  })
})

// on 6.1 a fast pin keeps mmap_lock all the time: who needs it for writing comes when the pin is complete
describe.each(RELEASES.filter((name) => name !== '6.1'))('migration without mmap_lock, %s', (release) => {
  it('R-FLT-62 fork copies the entry, which belongs to nobody alone afterwards', () => {
    const w = new World(release, { zones })
    const a = w.map(1, { touched: true })
    const { pin, done: child } = pinWhile(w, a, 1, function* () {
      const mm = yield* forkMm(w.k, w.mm, 'child')
      if (typeof mm === 'number') throw new Error(`fork: ${mm}`)
      expect([isMoving(mm, a), mm.rssAnon]).toEqual([true, 1])
      return mm
    })
    expect(pin.result).toBe(1)
    // the pin's write broke the sharing
    expect(w.pfn(a)).not.toBe(w.pfn(a, child))
    w.write(a, 1, 9)
    expect([valueAt(w, w.mm, a), valueAt(w, child, a)]).toEqual([9, 1])
    pin.unpin()
    w.exit(testTask(w.k, { mm: child }))
  })

  it('R-FLT-141 unmapped meanwhile: nothing is left of it', () => {
    const w = new World(release, { zones })
    const a = w.map(2, { touched: true })
    const { frames } = w.k.memory
    const { pin } = pinWhile(w, a, 2, () => munmap(w.k, w.mm, a, P))
    expect(pin.result).toBe('-EFAULT')
    expect(w.mm.rssAnon).toBe(1)
    expect(zone(w, w.pfn(a + P))).toBe(ZONE_NORMAL)
    expect(frames.has(w.pfn(a + P), PG_LRU)).toBe(true)
  })

  it('R-FLT-55 mprotect meanwhile takes write permission from the entry', () => {
    const w = new World(release, { zones })
    const a = w.map(1, { touched: true })
    const { pin, done } = pinWhile(w, a, 1, () => mprotect(w.k, w.mm, a, P, 1))
    expect([pin.result, done]).toEqual(['-EFAULT', 0])
    expect(w.task.run(accessUser(w.k, w.mm, a, true)).ok).toBe(false)
    expect(w.k.memory.frames.has(w.pfn(a), PG_ANON_EXCLUSIVE)).toBe(true)
  })

  it('R-FLT-76 mremap meanwhile takes the entry along', () => {
    const w = new World(release, { zones })
    const a = w.map(1, { touched: true })
    const to = a + 64 * PMD_SIZE
    const { pin, done } = pinWhile(w, a, 1, () => mremap(w.k, w.mm, a, P, P, 3, to))
    expect([pin.result, done, valueAt(w, w.mm, to)]).toEqual(['-EFAULT', to, 1])
    expect(zone(w, w.pfn(to))).toBe(ZONE_NORMAL)
  })

  it('R-HUGE-50 fork and munmap over the entry of a hugetlb page', () => {
    const w = new World(release, { zones })
    hugetlbPool(w.k).resize(4)
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB
    const a = w.map(512, { flags, touched: true })
    const { pin, done: child } = pinWhile(w, a, 1, function* () {
      const mm = yield* forkMm(w.k, w.mm, 'child')
      if (typeof mm === 'number') throw new Error(`fork: ${mm}`)
      expect(isMoving(mm, a)).toBe(true)
      return mm
    })
    expect([pin.result, w.pfn(a) === w.pfn(a, child)]).toEqual([1, false])
    pin.unpin()
    w.exit(testTask(w.k, { mm: child }))
    const b = w.map(512, { flags, touched: true })
    expect(pinWhile(w, b, 1, () => munmap(w.k, w.mm, b, PMD_SIZE)).pin.result).toBe('-EFAULT')
  })
})

describe('migration of THPs', () => {
  function withThp(): { w: World; a: number } {
    const w = new World('6.18', { zones })
    const a = w.mapThp()
    w.write(a, 8)
    expect(w.mm.pageTable.pmd(pmdIndex(a))).toBeInstanceOf(HugePmd)
    return { w, a }
  }

  it('R-FLT-30 a PMD entry is waited for and stays a PMD entry', () => {
    const { w, a } = withThp()
    const { pin, done } = pinWhile<AccessResult>(w, a, 4, () => storeUser(w.k, w.mm, a + P, Uint8Array.of(9)))
    expect([pin.result, done.ok, zone(w, pin.pfns[0]!)]).toEqual([4, true, ZONE_NORMAL])
    expect(w.mm.pageTable.pmd(pmdIndex(a))).toBeInstanceOf(HugePmd)
    expect([valueAt(w, w.mm, a), valueAt(w, w.mm, a + P), w.mm.rssAnon]).toEqual([1, 9, 512])
    pin.unpin()
  })

  it('R-HUGE-25 split meanwhile, R-FLT-141 its pages find their place', () => {
    const { w, a } = withThp()
    const { pin } = pinWhile(w, a, 4, () => munmap(w.k, w.mm, a + 100 * P, P))
    expect([pin.result, w.mm.rssAnon, valueAt(w, w.mm, a + 7 * P)]).toEqual([4, 511, 8])
    expect(w.k.memory.frames.has(w.pfn(a + 200 * P), PG_ANON_EXCLUSIVE)).toBe(true)
    pin.unpin()
  })

  it('R-HUGE-35 fork meanwhile', () => {
    const { w, a } = withThp()
    const { pin, done: child } = pinWhile(w, a, 1, function* () {
      const mm = yield* forkMm(w.k, w.mm, 'child')
      if (typeof mm === 'number') throw new Error(`fork: ${mm}`)
      expect([isMoving(mm, a), mm.rssAnon]).toEqual([true, 512])
      return mm
    })
    expect([pin.result, valueAt(w, child, a + 3 * P)]).toEqual([1, 4])
    pin.unpin()
    w.exit(testTask(w.k, { mm: child }))
  })

  it('R-FLT-141 unmapped meanwhile, mprotected meanwhile', () => {
    const one = withThp()
    expect(pinWhile(one.w, one.a, 1, () => munmap(one.w.k, one.w.mm, one.a, PMD_SIZE)).pin.result).toBe(
      '-EFAULT',
    )
    expect(one.w.mm.rssAnon).toBe(0)
    const two = withThp()
    const { pin } = pinWhile(two.w, two.a, 1, () => mprotect(two.w.k, two.w.mm, two.a, PMD_SIZE, 1))
    expect(pin.result).toBe('-EFAULT')
    expect(two.w.task.run(accessUser(two.w.k, two.w.mm, two.a, true)).ok).toBe(false)
  })

  it('R-HUGE-61 MADV_COLLAPSE waits for pages on their way', () => {
    const w = new World('6.18', { zones })
    const a = w.map(512, { touched: true })
    const { pin, done } = pinWhile(w, a + 5 * P, 1, () => madvise(w.k, w.mm, a, PMD_SIZE, MADV_COLLAPSE))
    // whether the page is pinned when it is looked at again, or only after the pages have been copied
    expect([pin.result, [0, -11].includes(done)]).toEqual([1, true])
    expect(valueAt(w, w.mm, a + 5 * P)).toBe(6)
    pin.unpin()
  })
})

describe('migration', () => {
  it('R-FLT-140 whatever fails, the books balance', () => {
    const failed = walkFailures('6.18', (k) => {
      const w = new World(k)
      hugetlbPool(k).resize(1)
      const a = w.map(3, { touched: true })
      const file = w.memfd(2)
      w.map(2, { file, touched: true, at: a + 3 * P })
      const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB
      const huge = w.map(512, { flags, touched: true, at: 0x4000_0000 })
      return () => {
        for (const [at, n] of [
          [a, 5],
          [huge, 2],
        ] as const) {
          const pages = new PageArray(n)
          const got = w.task.run(pinUserPagesFast(k, at, n, LT, pages))
          if (got > 0) unpinUserPages(k, pages, got)
        }
      }
    })
    expect(failed).toBeGreaterThan(10)
  })

  it('R-FLT-51 an entry of a snapshot of which nothing is known stays Unmodelled', () => {
    const w = new World('6.18', { zones })
    const a = w.map(1, { prot: RW })
    const leaf = w.mm.pageTable.leafFor(a)
    leaf.set(pteSlot(a), 0, PTE_MIGRATION)
    expect(() => w.read(a)).toThrow('Unmodelled: a migration entry (R-FLT-51)')
    w.mm.mmapLock.semaphore.releaseRead()
    leaf.set(pteSlot(a), 0, 0)
  })
})
