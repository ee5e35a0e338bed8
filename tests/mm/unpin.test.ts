import { describe, expect, test } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { PG_DIRTY, PG_LOCKED } from '../../src/memory/page-flags.ts'
import { FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { MismatchedReleaseError, folioAddPin } from '../../src/mm/gup-grab.ts'
import { PageArray } from '../../src/mm/gup.ts'
import type { MmEvent } from '../../src/mm/events.ts'
import {
  putPage,
  unpinUserPage,
  unpinUserPageRangeDirtyLock,
  unpinUserPages,
  unpinUserPagesDirtyLock,
} from '../../src/mm/unpin.ts'
import { World } from './gup-fixture.ts'

const all: ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']
const W = FOLL_WRITE

describe('unpin_user_pages', () => {
  test.each(all)('GUP vector 60: an errno taken for a count warns and releases nothing, on %s', (release) => {
    const w = new World(release)
    const pin = w.pinFast(w.map(2, { touched: true }), 2, W)
    unpinUserPages(w.k, pin.pages, -14)
    expect(w.k.warnings).toHaveLength(1)
    expect(w.k.pinReleased).toBe(0)
    pin.unpin()
  })

  test.each(all)('R-GUP-66 null entries on %s', (release) => {
    const w = new World(release)
    const pin = w.pinFast(w.map(1, { touched: true }), 1, W)
    const pages = new PageArray(3)
    pages.pfns[1] = pin.pfns[0]!
    if (['6.12', '6.18'].includes(release)) {
      unpinUserPages(w.k, pages, 3)
      expect(w.k.pinReleased).toBe(1)
    } else {
      expect(() => unpinUserPages(w.k, pages, 3)).toThrow('null entry')
      pin.unpin()
    }
  })

  test('R-GUP-65 the last reference frees the page', () => {
    const w = new World()
    const a = w.map(1, { touched: true })
    const pin = w.pinFast(a, 1, W)
    w.unmap(a, 1)
    const [pfn] = pin.pfns
    const free = w.k.memory.buddy.free[0]!
    expect(w.ref(pfn!)).toBe(1024)
    pin.unpin()
    expect(w.k.memory.buddy.free[0]).toBe(free + 1)
  })

  test('R-GUP-65 a page obtained by GET cannot be unpinned', () => {
    const w = new World()
    const get = w.getFast(w.map(1, { touched: true }), 1)
    expect(() => unpinUserPage(w.k, get.pfns[0]!)).toThrow(MismatchedReleaseError)
    expect([w.k.pinReleased, w.ref(get.pfns[0]!)]).toEqual([0, 2])
    get.put()
  })

  test('R-GUP-65 1100 GETs do not pass for a pin in a kernel that checks itself', () => {
    const w = new World()
    const a = w.map(1, { touched: true })
    const gets = Array.from({ length: 1100 }, () => w.getFast(a, 1))
    expect(() => unpinUserPages(w.k, gets[0]!.pages, 1)).toThrow(MismatchedReleaseError)
    for (const get of gets) get.put()
  })

  test('R-GUP-65 a pinned page cannot be put', () => {
    const w = new World()
    const pin = w.pinFast(w.map(1, { touched: true }), 1, W)
    expect(() => putPage(w.k, pin.pfns[0]!)).toThrow(MismatchedReleaseError)
    pin.unpin()
  })

  test('R-GUP-115 a pin is released exactly once', () => {
    const w = new World()
    const pin = w.pinFast(w.map(1, { touched: true }), 1, W)
    pin.unpin()
    expect(() => pin.unpin()).toThrow(MismatchedReleaseError)
  })

  test('R-GUP-65 a large folio counts exactly', () => {
    const w = new World('6.18', { zones: { normal: 4096 } })
    const a = w.mapThp()
    w.write(a)
    const pin = w.pin(a, 2, W)
    expect(() => unpinUserPages(w.k, w.pagesOf([pin.pfns[0]!, pin.pfns[0]!, pin.pfns[0]!]), 3)).toThrow(
      MismatchedReleaseError,
    )
    expect(w.k.memory.frames.pincount(pin.pfns[0]!)).toBe(0)
  })

  test('R-GUP-64 a count that wrapped comes back', () => {
    const w = new World()
    const a = w.map(1, { touched: true })
    const pin = w.pinFast(a, 1, W)
    const [pfn] = pin.pfns
    const { refcount } = w.k.memory.frames
    const honest = refcount[pfn!]!
    refcount[pfn!] = -0x80000000 + 100
    pin.unpin()
    expect(refcount[pfn!]).toBe(0x7fffffff - 923)
    refcount[pfn!] = honest - 1024
  })
})

describe('dirtying', () => {
  test('R-GUP-67 make_dirty dirties each folio before its pin goes', () => {
    const w = new World()
    const a = w.map(2, { file: w.ext4(2), touched: true })
    const { frames } = w.k.memory
    for (const makeDirty of [false, true]) {
      const pin = w.pinFast(a, 2, W)
      for (const pfn of pin.pfns) frames.clear(pfn, PG_DIRTY)
      w.task.run(unpinUserPagesDirtyLock(w.k, pin.pages, 2, makeDirty))
      expect(pin.pfns.map((pfn) => frames.has(pfn, PG_DIRTY))).toEqual([makeDirty, makeDirty])
    }
    expect(w.k.pinReleased).toBe(4)
  })

  test('R-GUP-67, R-GUP-117 it waits for whoever has the folio locked', () => {
    const w = new World()
    const file = w.ext4(1)
    const a = w.map(1, { file, touched: true })
    const pin = w.pinFast(a, 1, W)
    const [pfn] = pin.pfns
    const { frames } = w.k.memory
    frames.clear(pfn!, PG_DIRTY)
    frames.set(pfn!, PG_LOCKED)
    const task = w.k.scheduler.spawn('unpin', w.task, unpinUserPagesDirtyLock(w.k, pin.pages, 1, true))
    expect(w.k.scheduler.runUntilIdle()).toBe(false)
    expect([task.done, w.k.pinReleased]).toEqual([false, 0])
    frames.clear(pfn!, PG_LOCKED)
    file.mapping.io.wakeAll()
    w.k.scheduler.run()
    expect([frames.has(pfn!, PG_DIRTY), w.k.pinReleased]).toEqual([true, 1])
  })

  test('R-GUP-66 the dirtying path checks neither errno nor null', () => {
    const w = new World('6.18')
    const pages = new PageArray(1)
    expect(() => w.task.run(unpinUserPagesDirtyLock(w.k, pages, -14, true))).toThrow(RangeError)
    expect(() => w.task.run(unpinUserPagesDirtyLock(w.k, pages, 1, true))).toThrow('null entry')
    w.task.run(unpinUserPagesDirtyLock(w.k, pages, -14, false))
    expect(w.k.warnings).toHaveLength(1)
  })

  test('R-GUP-66 a range of consecutive pages, by folio', () => {
    const w = new World('6.18', { zones: { normal: 4096 } })
    const a = w.mapThp()
    w.write(a)
    const pin = w.pin(a, 512, W)
    const head = pin.pfns[0]!
    w.k.memory.frames.clear(head, PG_DIRTY)
    w.task.run(unpinUserPageRangeDirtyLock(w.k, head, 512, true))
    expect([w.k.memory.frames.pincount(head), w.k.memory.frames.has(head, PG_DIRTY)]).toEqual([0, true])
    expect(w.k.pinReleased).toBe(512)
  })
})

test('R-GUP-68 folio_add_pin is not acquired, but released', () => {
  const w = new World('6.6')
  const pin = w.pinFast(w.map(1, { touched: true }), 1, W)
  const [pfn] = pin.pfns
  folioAddPin(w.k, pfn!)
  expect([w.k.pinAcquired, w.ref(pfn!)]).toEqual([1, 1 + 2048])
  unpinUserPage(w.k, pfn!)
  pin.unpin()
  expect(w.k.pinReleased).toBe(2)
})

test('R-GUP-62, R-FLT-171 an observer hears of every pin and unpin once, runs of frames as one event', () => {
  const w = new World('6.18', { zones: { normal: 4096 } })
  const a = w.mapThp()
  w.write(a)
  const events: MmEvent[] = []
  w.k.observer = (event) => events.push(event)
  const pin = w.pin(a, 4, W)
  const fast = w.pinFast(a + 8 * PAGE_SIZE, 2, W)
  pin.unpin()
  fast.unpin()
  const head = pin.pfns[0]!
  expect(events).toEqual([
    { type: 'pin', pfn: head, pages: 4 },
    { type: 'pin', pfn: head + 8, pages: 2 },
    { type: 'unpin', pfn: head, pages: 4 },
    { type: 'unpin', pfn: head + 8, pages: 2 },
  ])
})
