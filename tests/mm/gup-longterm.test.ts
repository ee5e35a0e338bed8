import { describe, expect, test } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { PG_LRU, ZONE_CMA, ZONE_MOVABLE, ZONE_NORMAL } from '../../src/memory/page-flags.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { pinUserPages } from '../../src/mm/gup.ts'
import { isLongtermPinnable } from '../../src/mm/gup-grab.ts'
import { MAP_SHARED } from '../../src/mm/mman.ts'
import { result } from '../support/kernel.ts'
import { World } from './gup-fixture.ts'

const all: ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']
const W = FOLL_WRITE
const LT = FOLL_LONGTERM
const movable = { zones: { normal: 4096, movable: 4096 } }
const cma = { zones: { normal: 4096, cma: 4096 } }

function zone(w: World, pfn: number): number {
  return w.k.memory.frames.zone(pfn)
}

describe.each(all)('%s', (release) => {
  test.each([
    ['ZONE_MOVABLE', movable, ZONE_MOVABLE],
    ['CMA', cma, ZONE_CMA],
  ] as const)('GUP vector 59: a page in %s is moved first', (_name, zones, from) => {
    const w = new World(release, zones)
    const a = w.map(1, { touched: true })
    w.write(a, 1, 42)
    const before = w.pfn(a)
    expect(zone(w, before)).toBe(from)
    for (const pin of [() => w.pin(a, 1, W | LT), () => w.pinFast(a, 1, W | LT)]) {
      const fresh = w.map(1, { touched: true })
      expect(zone(w, w.pfn(fresh))).toBe(from)
      const done = pin()
      expect(done.result).toBe(1)
      expect(zone(w, done.pfns[0]!)).toBe(ZONE_NORMAL)
      expect(done.pfns[0]).toBe(w.pfn(a))
      done.unpin()
    }
    const bytes = new Uint8Array(1)
    w.k.memory.contents.read(w.pfn(a), 0, bytes)
    expect(bytes[0]).toBe(42)
    expect(w.ref(w.pfn(a))).toBe(1)
  })

  test('FLT vector 67, R-FLT-143: a page in ZONE_MOVABLE moves with what is in it; a reference keeps it', () => {
    const w = new World(release, movable)
    const a = w.map(1, { touched: true })
    w.write(a, 1, 42)
    const before = w.pfn(a)
    const get = w.getFast(a, 1)
    expect(result(w.pin(a, 1, W | LT).result)).toBe('-ENOMEM')
    expect(w.pfn(a)).toBe(before)
    get.put()
    const pin = w.pin(a, 1, W | LT)
    expect([pin.result, pin.pfns[0]]).toEqual([1, w.pfn(a)])
    expect(w.pfn(a)).not.toBe(before)
    const bytes = new Uint8Array(1)
    w.k.memory.contents.read(w.pfn(a), 0, bytes)
    expect(bytes[0]).toBe(42)
    pin.unpin()
  })

  test('GUP vector 59, R-GUP-53: one round to move, one to keep, under the lock of the caller', () => {
    const w = new World(release, movable)
    const a = w.map(1, { touched: true })
    const guard = w.mm.mmapLock.tryRead()!
    const pin = w.attempt(1, (pages) => w.task.run(pinUserPages(w.k, guard, a, 1, W | LT, pages)))
    expect(guard.held).toBe(true)
    guard.release()
    expect([pin.result, pin.acquired, pin.released]).toEqual([1, 2, 1])
    pin.unpin()
  })

  test('R-GUP-53, R-GUP-57 the fast path leaves such a page to the slow one', () => {
    const w = new World(release, movable)
    const a = w.map(2, { touched: true })
    const pin = w.pinFast(a, 2, W | LT)
    expect([pin.result, pin.acquired, pin.released]).toEqual([2, 4, 2])
    expect(w.mm.mmapLock.locked).toBe(false)
    pin.unpin()
  })

  test('GUP vector 59: a page that cannot be moved, acquired equals released', () => {
    const w = new World(release, movable)
    const a = w.map(2, { touched: true })
    const get = w.getFast(a, 1)
    const pin = w.pin(a, 2, W | LT)
    expect([result(pin.result), pin.acquired - pin.released]).toEqual(['-ENOMEM', 0])
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-50', errno: 12 })
    get.put()
    const again = w.pin(a, 2, W | LT)
    expect(again.result).toBe(2)
    again.unpin()
  })

  test('R-GUP-50 pages faulted in by the pin itself are pinnable at once', () => {
    const w = new World(release, movable)
    const a = w.map(4)
    const pin = w.pinFast(a, 4, W | LT)
    expect([pin.result, pin.acquired, pin.released]).toEqual([4, 4, 0])
    expect(pin.pfns.map((pfn) => zone(w, pfn))).toEqual([0, 0, 0, 0])
    expect(w.task.memallocPin).toBe(false)
    pin.unpin()
  })

  test('R-GUP-50 without FOLL_LONGTERM the page stays where it is', () => {
    const w = new World(release, movable)
    const a = w.map(1, { touched: true })
    const before = w.pfn(a)
    const pin = w.pin(a, 1, W)
    expect(pin.pfns).toEqual([before])
    pin.unpin()
  })

  test('R-GUP-50 a page mapped by two processes and cached moves for all', () => {
    const w = new World(release, movable)
    const file = w.memfd(2)
    const a = w.map(2, { file, flags: MAP_SHARED, touched: true })
    const child = w.fork()
    w.as(child).read(a, 2)
    const pin = w.pin(a, 2, W | LT)
    expect(pin.result).toBe(2)
    for (let i = 0; i < 2; i++) {
      expect(w.pfn(a + i * PAGE_SIZE, child.space)).toBe(pin.pfns[i])
      expect(file.mapping.pages.get(i)).toBe(pin.pfns[i])
    }
    pin.unpin()
  })

  test('R-GUP-51 a page that can never be isolated is reported, not looped over', () => {
    const w = new World(release, movable)
    const a = w.map(1, { touched: true })
    w.k.memory.frames.clear(w.pfn(a), PG_LRU)
    expect(() => w.pin(a, 1, W | LT)).toThrow('livelock possible')
    expect(w.k.pinAcquired).toBe(w.k.pinReleased)
    expect(w.task.memallocPin).toBe(false)
  })

  test('R-GUP-49 which pages are long-term pinnable', () => {
    const w = new World(release, { zones: { normal: 100, movable: 100, cma: 100 } })
    expect(isLongtermPinnable(w.k, w.k.zeroPfn)).toBe(true)
    expect([50, 150, 250].map((pfn) => isLongtermPinnable(w.k, pfn))).toEqual([true, false, false])
  })

  test('R-GUP-52 a THP in ZONE_MOVABLE moves as a whole', () => {
    const w = new World(release, { zones: { normal: 8192, movable: 4096 } })
    const a = w.mapThp()
    w.write(a)
    expect(zone(w, w.pfn(a))).toBe(ZONE_MOVABLE)
    const pin = w.pin(a + 3 * PAGE_SIZE, 2, W | LT)
    expect([pin.result, pin.acquired, pin.released]).toEqual([2, 4, 2])
    const head = w.pfn(a)
    expect([zone(w, head), pin.pfns]).toEqual([ZONE_NORMAL, [head + 3, head + 4]])
    expect(w.k.memory.frames.pincount(head)).toBe(2)
    pin.unpin()
  })
})
