import { describe, expect, test } from 'vitest'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import { FOLL_DUMP, FOLL_FORCE, FOLL_GET, FOLL_SPLIT_PMD, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { getUserPages } from '../../src/mm/gup.ts'
import { hugetlbFileSetup, hugetlbPool } from '../../src/mm/hugetlb.ts'
import { MAP_ANONYMOUS, MAP_HUGETLB, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED } from '../../src/mm/mman.ts'
import { PG_REFERENCED } from '../../src/memory/page-flags.ts'
import { RELEASES, counts } from '../support/huge.ts'
import { result } from '../support/kernel.ts'
import { World } from './gup-fixture.ts'

const AT = 0x40000000
const W = FOLL_WRITE

describe.each(RELEASES)('GUP and hugetlb on %s', (release) => {
  function world(pool: number): World {
    const w = new World(release, { zones: { normal: 16384 } })
    expect(hugetlbPool(w.k, PMD_SIZE).resize(pool)).toBe(pool)
    return w
  }
  const mapHuge = (w: World, pages = 1, flags = MAP_PRIVATE): number =>
    w.map(512 * pages, { at: AT, flags: flags | MAP_ANONYMOUS | MAP_HUGETLB })

  test('R-HTL-1 missing pages are faulted in, sub-pages recorded, across two huge pages', () => {
    const w = world(2)
    const a = mapHuge(w, 2)
    const got = w.get(a + PMD_SIZE - 2 * PAGE_SIZE, 4)
    const [first, second] = [w.pfn(a), w.pfn(a + PMD_SIZE)]
    expect(got.pfns).toEqual([first + 510, first + 511, second, second + 1])
    got.put()
  })

  test('R-HTL-1 without an array the pages are counted and left untouched', () => {
    const w = world(2)
    const a = mapHuge(w, 2)
    w.write(a)
    const { frames } = w.k.memory
    const head = w.pfn(a)
    frames.clear(head, PG_REFERENCED)
    const before = counts(w.k, head)
    expect(w.underLock((guard) => getUserPages(w.k, guard, a, 1024, 0, null))).toBe(1024)
    expect(counts(w.k, head)).toEqual(before)
    expect([frames.has(head, PG_REFERENCED), w.pfn(a + PMD_SIZE) > 0]).toEqual([false, true])
  })

  test('R-HTL-1 a read pin of a page shared with a child unshares it, a plain reference does not', () => {
    const w = world(2)
    const a = mapHuge(w)
    w.write(a)
    const child = w.fork()
    const head = w.pfn(a)
    w.get(a, 1).put()
    expect(w.pfn(a)).toBe(head)
    const pin = w.pin(a, 1)
    expect([pin.pfns, w.pfn(a) === head]).toEqual([[w.pfn(a)], false])
    pin.unpin()
    w.exit(child)
  })

  test('R-HTL-1, R-HTL-4 an overflown count: no page, ENOMEM', () => {
    const w = world(1)
    const a = mapHuge(w)
    w.write(a)
    const { refcount } = w.k.memory.frames
    const head = w.pfn(a)
    const before = refcount[head]!
    refcount[head] = -5
    expect(result(w.get(a + 3 * PAGE_SIZE, 1).result)).toBe('-ENOMEM')
    refcount[head] = before
    expect(w.k.warnings.map(({ id }) => id)).toEqual(['gup-refcount'])
  })

  test('R-HTL-2 references and pins of sub-pages are counted on the folio', () => {
    const w = world(1)
    const a = mapHuge(w)
    w.write(a)
    const before = counts(w.k, w.pfn(a))
    const got = w.get(a + 5 * PAGE_SIZE, 3)
    expect([counts(w.k, w.pfn(a)), got.acquired]).toEqual([{ ...before, ref: before.ref + 3 }, 0])
    got.put()
    const pin = w.pin(a + 5 * PAGE_SIZE, 3, W)
    expect(counts(w.k, w.pfn(a))).toEqual({ ...before, ref: before.ref + 3, pin: 3 })
    expect(pin.acquired).toBe(3)
    pin.unpin()
  })

  test('R-HTL-4, R-HTL-6 a core dump brings in what the page cache has and nothing else', () => {
    const w = world(2)
    const file = hugetlbFileSetup(w.k, {
      size: 2 * PMD_SIZE,
      pageSize: PMD_SIZE,
      name: '/huge',
      noreserve: true,
    })
    const a = w.map(1024, { at: AT, file, flags: MAP_SHARED })
    const dump = FOLL_DUMP | FOLL_FORCE | FOLL_GET
    expect(result(w.get(a, 1, dump).result)).toBe('-EFAULT')
    expect(w.task.refusal!.rule).toBe('R-GUP-23')
    w.write(a)
    const again = w.map(1024, { at: AT + 4 * PMD_SIZE, file, flags: MAP_SHARED })
    const got = w.get(again, 1, dump)
    expect(got.pfns).toEqual([w.pfn(a)])
    got.put()
    file.put()
  })

  test('R-HTL-5 FOLL_SPLIT_PMD: EOPNOTSUPP from 6.12 on, of no effect before', () => {
    const w = world(1)
    const a = mapHuge(w)
    const got = w.get(a, 1, FOLL_SPLIT_PMD)
    expect(result(got.result)).toBe(release === '6.12' || release === '6.18' ? '-EOPNOTSUPP' : 1)
    got.put()
  })

  test('R-HTL-7 no page left: EFAULT, and no small page instead', () => {
    const w = world(1)
    w.write(mapHuge(w))
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE
    const b = w.map(512, { at: AT + 4 * PMD_SIZE, flags })
    expect(result(w.pin(b, 1, W).result)).toBe('-EFAULT')
    expect(w.task.refusal).toMatchObject({ rule: 'R-GUP-33', cause: { rule: 'R-HUGE-46' } })
    expect(w.pfn(b)).toBe(0)
  })
})
