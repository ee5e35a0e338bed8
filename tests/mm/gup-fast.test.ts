import { describe, expect, test } from 'vitest'
import { PREEMPT, type Kthread } from '../../src/base/kthread.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import { PG_REFERENCED } from '../../src/memory/page-flags.ts'
import { FastWalk, walkLocklessExplored } from '../../src/mm/gup-fast.ts'
import { FOLL_FORCE, FOLL_GET, FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { PageArray, pinUserPagesFast, pinUserPagesRemote, pinUserPagesUnlocked } from '../../src/mm/gup.ts'
import { hugetlbFileSetup, hugetlbPool } from '../../src/mm/hugetlb.ts'
import { MADV_DONTNEED, MAP_PRIVATE } from '../../src/mm/mman.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { forkMm } from '../../src/mm/fork.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { VM_READ } from '../../src/mm/vm-flags.ts'
import { HugePmd, pmdIndex, pteSlot } from '../../src/mm/page-table.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import { result, testTask } from '../support/kernel.ts'
import { RO, RW, World } from './gup-fixture.ts'

const all: ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']
const W = FOLL_WRITE
const LT = FOLL_LONGTERM

function explored(release: ReleaseName = 'gup-v3'): World {
  const w = new World(release)
  w.k.exploring = true
  w.k.batch = 1
  return w
}

function* forkAfter(w: World, steps: number): Kthread<Mm | number> {
  for (let i = 0; i < steps; i++) yield PREEMPT
  return yield* forkMm(w.k, w.mm, 'child')
}

describe('the phases of the lockless walk', () => {
  test('R-GUP-57 snapshot, grab, re-check, record: a page at a time under the explorer', () => {
    const w = explored()
    const a = w.map(2, { touched: true })
    const pages = new PageArray(2)
    const walk = new FastWalk(w.k, w.mm, a, 2, FOLL_PIN | W, pages.pfns)
    const pfn = w.pfn(a)
    const seen: number[][] = [[w.ref(pfn), walk.taken]]
    while (walk.step()) seen.push([w.ref(pfn), walk.taken])
    expect(seen).toEqual([
      [1, 0],
      [1, 0],
      [1025, 0],
      [1025, 0],
      [1025, 1],
      [1025, 1],
      [1025, 1],
      [1025, 1],
    ])
    expect(walk.taken).toBe(2)
    expect(w.k.memory.frames.has(pfn, PG_REFERENCED)).toBe(true)
    unpinUserPages(w.k, pages, 2)
  })

  test('R-GUP-57 an entry that changed after the grab gives the page back', () => {
    const w = explored()
    const a = w.map(1, { touched: true })
    const pages = new PageArray(1)
    const walk = new FastWalk(w.k, w.mm, a, 1, FOLL_PIN | W, pages.pfns)
    const pfn = w.pfn(a)
    walk.step()
    walk.step()
    expect(w.ref(pfn)).toBe(1025)
    w.task.run(madvise(w.k, w.mm, a, PAGE_SIZE, MADV_DONTNEED))
    expect(w.ref(pfn)).toBe(1024)
    while (walk.step());
    expect(walk.taken).toBe(0)
    expect(w.k.memory.frames.refcount[pfn]).toBe(0)
    expect([w.k.pinAcquired, w.k.pinReleased]).toEqual([1, 1])
  })

  test('R-GUP-57, R-GUP-61 a page freed between snapshot and grab is not taken', () => {
    const w = explored()
    const a = w.map(1, { touched: true })
    const walk = new FastWalk(w.k, w.mm, a, 1, FOLL_GET | W, new Int32Array(1))
    walk.step()
    w.task.run(munmap(w.k, w.mm, a, PAGE_SIZE))
    while (walk.step());
    expect(walk.taken).toBe(0)
  })

  test('R-GUP-59 a fork during the walk takes all pins back, and the slow part starts over', () => {
    const w = explored()
    const a = w.map(3, { touched: true })
    const pages = new PageArray(3)
    const walk = walkLocklessExplored(w.k, w.mm, a, 3, FOLL_PIN | W, pages.pfns)
    for (let i = 0; i < 6; i++) walk.next()
    w.mm.writeProtectSeq += 2
    let step = walk.next()
    while (step.done !== true) step = walk.next()
    expect(step.value).toBe(0)
    expect([w.k.pinAcquired, w.k.pinReleased]).toEqual([3, 3])
    expect([0, 1, 2].map((i) => w.ref(w.pfn(a + i * PAGE_SIZE)))).toEqual([1, 1, 1])
  })

  test('R-GUP-55 while fork write-protects, a pin does not even start; GET does', () => {
    const w = new World()
    const a = w.map(1, { touched: true })
    w.mm.writeProtectSeq = 1
    const pages = new PageArray(1)
    const walk = (flags: number): number => {
      const body = walkLocklessExplored(w.k, w.mm, a, 1, flags, pages.pfns)
      for (;;) {
        const step = body.next()
        if (step.done === true) return step.value
      }
    }
    expect(walk(FOLL_PIN | W)).toBe(0)
    expect(walk(FOLL_GET | W)).toBe(1)
    w.k.memory.put(pages.pfns[0]!)
    w.mm.writeProtectSeq = 0
  })

  test('R-GUP-76 fork and fast pin in turn: whatever the order, the pinned page stays the parent’s', () => {
    for (let lead = 0; lead < 12; lead++) {
      const w = explored()
      const a = w.map(2, { touched: true })
      const pages = new PageArray(2)
      const other = testTask(w.k, { comm: 'forker', mm: w.mm })
      const pinner = w.k.scheduler.spawn('pinner', w.task, pinUserPagesFast(w.k, a, 2, W, pages))
      const forker = w.k.scheduler.spawn('forker', other, forkAfter(w, lead))
      w.k.scheduler.run()
      const child = forker.result as Mm
      expect(pinner.result).toBe(2)
      for (let i = 0; i < 2; i++) {
        const at = a + i * PAGE_SIZE
        w.k.exploring = false
        w.write(at, 1, 77)
        expect(w.pfn(at), `lead ${lead}`).toBe(pages.pfns[i])
        expect(w.pfn(at, child)).not.toBe(pages.pfns[i])
      }
      unpinUserPages(w.k, pages, 2)
    }
  })

  test('R-GUP-57 pages behind the first one that is not kept are never grabbed', () => {
    const w = new World()
    const a = w.map(3, { touched: true })
    const child = w.fork()
    w.write(a)
    const pin = w.pinFast(a, 3)
    // page 0 is kept; page 1 is grabbed and given back; page 2 is first seen by the slow part
    expect([pin.result, pin.acquired, pin.released]).toEqual([3, 4, 1])
    for (let i = 0; i < 3; i++) {
      expect(pin.pfns[i]).toBe(w.pfn(a + i * PAGE_SIZE))
      expect(pin.pfns[i]).not.toBe(w.pfn(a + i * PAGE_SIZE, child.space))
    }
    pin.unpin()
  })

  test.each(['gup-v3', '6.1'] as const)(
    'R-GUP-57 a PROT_NONE entry is not followed by %s, even with FOLL_FORCE',
    (release) => {
      const w = new World(release)
      const a = w.map(1, { touched: true })
      const leaf = w.mm.pageTable.leafFor(a)
      const before = leaf.bits[pteSlot(a)]!
      leaf.bits[pteSlot(a)] = before | (1 << 6)
      const walk = new FastWalk(w.k, w.mm, a, 1, FOLL_GET | FOLL_FORCE, new Int32Array(1))
      while (walk.step());
      expect(walk.taken).toBe(0)
      leaf.bits[pteSlot(a)] = before
    },
  )

  test.each(all)('R-GUP-4 identical results with batches of 1 and 512 on %s', (release) => {
    const run = (batch: number): unknown => {
      const w = new World(release)
      w.k.batch = batch
      const a = w.map(600, { touched: true })
      w.map(8, { at: a + 600 * PAGE_SIZE, file: w.memfd(8) })
      const read = w.pinFast(a, 608)
      const write = w.pin(a, 608, W)
      const answer = [
        read.result,
        read.acquired,
        read.released,
        write.result,
        write.acquired,
        write.released,
        read.pfns,
        write.pfns,
      ]
      read.unpin()
      write.unpin()
      return answer
    }
    expect(run(1)).toEqual(run(512))
  })
})

describe.each(all)('huge pages on %s', (release) => {
  const zones = { zones: { normal: 16384 } }

  test('GUP vector 38: a whole THP', () => {
    const w = new World(release, zones)
    const a = w.mapThp()
    w.write(a)
    const head = w.pfn(a)
    for (const pin of [() => w.pin(a, 512, W | LT), () => w.pinFast(a, 512, W | LT)]) {
      const before = w.ref(head)
      const done = pin()
      expect([done.result, done.acquired, done.released]).toEqual([512, 512, 0])
      expect(w.k.memory.frames.pincount(head)).toBe(512)
      expect(w.ref(head)).toBe(before + 512)
      expect(done.pfns).toEqual(Array.from({ length: 512 }, (_, i) => head + i))
      done.unpin()
      expect([w.k.memory.frames.pincount(head), w.ref(head)]).toEqual([0, before])
    }
  })

  test('R-GUP-37 a range that starts and ends inside huge pages', () => {
    const w = new World(release, zones)
    const a = w.mapThp(2)
    w.write(a)
    w.write(a + PMD_SIZE)
    const start = a + 500 * PAGE_SIZE
    const slow = w.pin(start, 30, W)
    const fast = w.pinFast(start, 30, W)
    expect([slow.result, fast.result]).toEqual([30, 30])
    expect(slow.pfns).toEqual(fast.pfns)
    expect(slow.pfns).toEqual(Array.from({ length: 30 }, (_, i) => w.pfn(start + i * PAGE_SIZE)))
    slow.unpin()
    fast.unpin()
  })

  test('R-GUP-62 pages of a THP mapped one by one are pinned on the folio', () => {
    const w = new World(release, zones)
    const a = w.mapThp()
    w.write(a)
    const head = w.pfn(a)
    w.unmap(a + 511 * PAGE_SIZE, 1)
    const before = w.ref(head)
    for (const pin of [() => w.pin(a, 4, W), () => w.pinFast(a, 4, W), () => w.pinFast(a, 4, W | LT)]) {
      const done = pin()
      expect(done.pfns).toEqual([head, head + 1, head + 2, head + 3])
      expect([w.ref(head), w.k.memory.frames.pincount(head), done.acquired]).toEqual([before + 4, 4, 4])
      done.unpin()
      expect([w.ref(head), w.k.memory.frames.pincount(head)]).toEqual([before, 0])
    }
  })

  test('R-GUP-57 several secretmem pages: one is grabbed, none is kept', () => {
    const w = new World(release)
    const a = w.map(3, { file: w.secretmem(3), touched: true })
    const pin = w.pinFast(a, 3, W)
    expect([result(pin.result), pin.acquired, pin.released]).toEqual(['-EFAULT', 1, 1])
  })

  test('GUP vector 37, R-GUP-63: the huge zero page is counted like any large folio', () => {
    const w = new World(release, zones)
    const a = w.mapThp()
    const pin = w.pinFast(a, 512)
    expect([pin.result, pin.acquired]).toEqual([512, 512])
    expect(w.k.isHugeZero(pin.pfns[0]!)).toBe(true)
    pin.unpin()
  })

  test('R-GUP-57 6.18 leaves the huge zero page to the slow path, which asks what the mapping permits', () => {
    const w = new World(release, zones)
    const a = w.mapThp()
    w.pinFast(a, 1).unpin()
    const guard = w.mm.mmapLock.tryWrite()!
    guard.vmas.find(a)!.flags &= ~VM_READ
    guard.release()
    const pin = w.pinFast(a, 1)
    expect(result(pin.result)).toBe(release === '6.18' ? '-EFAULT' : 1)
    if (pin.result === 1) pin.unpin()
  })

  test('GUP vector 45, R-GUP-73: one pinned subpage, fork: all copied, the parent’s PMD split', () => {
    const w = new World(release, zones)
    const a = w.mapThp()
    w.write(a)
    const pin = w.pin(a + 5 * PAGE_SIZE, 1, W)
    const before = w.pfn(a)
    const child = w.fork()
    for (const i of [5, 100]) expect(w.pfn(a + i * PAGE_SIZE, child.space)).not.toBe(before + i)
    expect(w.mm.pageTable.pmd(pmdIndex(a)) instanceof HugePmd).toBe(false)
    expect(w.pfn(a + 5 * PAGE_SIZE)).toBe(before + 5)
    pin.unpin()
  })

  test('GUP vector 39: hugetlb, 16 small pages of one huge page', () => {
    const w = new World(release, zones)
    hugetlbPool(w.k, PMD_SIZE).resize(4)
    const file = hugetlbFileSetup(w.k, {
      size: PMD_SIZE,
      pageSize: PMD_SIZE,
      name: '/anon_hugepage',
      noreserve: true,
    })
    const a = w.map(512, { at: 0x40000000, file, flags: MAP_PRIVATE })
    const pages = new PageArray(16)
    const { pinAcquired, pinReleased } = w.k
    expect(w.underLock((guard) => pinUserPagesRemote(w.k, w.mm, a, 16, 0, pages, guard))).toBe(16)
    expect([w.k.pinAcquired - pinAcquired, w.k.pinReleased - pinReleased]).toEqual([16, 0])
    expect(w.k.memory.frames.pincount(w.pfn(a))).toBe(16)
    unpinUserPages(w.k, pages, 16)
    file.put()
  })

  test('GUP vector 52, R-HUGE-49: forced write to private read-only hugetlb', () => {
    const w = new World(release, zones)
    hugetlbPool(w.k, PMD_SIZE).resize(4)
    const file = hugetlbFileSetup(w.k, {
      size: PMD_SIZE,
      pageSize: PMD_SIZE,
      name: '/anon_hugepage',
      noreserve: true,
    })
    const a = w.map(512, { at: 0x40000000, file, flags: MAP_PRIVATE, prot: RO })
    const got = w.get(a, 1, FOLL_FORCE | W)
    expect(result(got.result)).toBe(release === '6.18' ? 1 : '-EFAULT')
    got.put()
    file.put()
  })

  test('R-GUP-29, R-HTL-1 a hugetlb mapping and a task being killed', () => {
    const w = new World(release, zones)
    hugetlbPool(w.k, PMD_SIZE).resize(4)
    const file = hugetlbFileSetup(w.k, {
      size: PMD_SIZE,
      pageSize: PMD_SIZE,
      name: '/anon_hugepage',
      noreserve: true,
    })
    const a = w.map(512, { at: 0x40000000, file, flags: MAP_PRIVATE })
    w.task.fatalSignalPending = true
    expect(result(w.pin(a, 1, W).result)).toBe(['gup-v3', '6.1'].includes(release) ? '-EFAULT' : '-EINTR')
    w.task.fatalSignalPending = false
    file.put()
  })

  test('GUP vector 44, R-FLT-6, R-GUP-72: a child starts without the mark of its pinned parent', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    w.pinFast(a, 1, W).unpin()
    const child = w.fork()
    expect([w.mm.hasPinned, child.space.hasPinned]).toEqual([true, false])
    const inChild = w.as(child)
    inChild.write(a)
    const gets = Array.from({ length: 1100 }, () => inChild.getFast(a, 1))
    const grandchild = inChild.fork()
    expect(w.pfn(a, grandchild.space)).toBe(w.pfn(a, child.space))
    for (const get of gets) get.put()
  })

  test('R-GUP-58 which shared file pages a long-term write pin gets from the fast path', () => {
    for (const kind of ['shmem', 'ext4'] as const) {
      const w = new World(release)
      const a = w.map(1, { file: kind === 'shmem' ? w.memfd(1) : w.ext4(1), touched: true })
      const walk = new FastWalk(w.k, w.mm, a, 1, FOLL_PIN | W | LT, new Int32Array(1))
      while (walk.step());
      const refused = kind === 'ext4' && !['gup-v3', '6.1'].includes(release)
      expect(walk.taken, kind).toBe(refused ? 0 : 1)
      if (walk.taken === 1) w.unpinOne(w.pfn(a))
    }
  })
})

test('R-GUP-43 an unlocked pin of a mixture takes the whole range', () => {
  const w = new World()
  const a = w.map(2, { prot: RW })
  w.map(2, { at: a + 2 * PAGE_SIZE, file: w.memfd(2) })
  const pages = new PageArray(4)
  expect(w.task.run(pinUserPagesUnlocked(w.k, a, 4, pages, W))).toBe(4)
  unpinUserPages(w.k, pages, 4)
})
