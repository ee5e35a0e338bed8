import { describe, expect, it } from 'vitest'
import { brk } from '../../src/mm/brk.ts'
import { MAP_GROWSDOWN, MCL_FUTURE } from '../../src/mm/mman.ts'
import { mlockall } from '../../src/mm/mlock.ts'
import { mseal } from '../../src/mm/mseal.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { ALL, ANON, P, Q, RW, Space } from './address-space.ts'

/** A heap that starts at q and is `pages` long. */
function heap(s: Space, pages = 0): (page: number) => number {
  s.mm.startBrk = Q
  s.mm.brk = Q
  const set = (page: number): number => (s.task.run(brk(s.k, s.mm, Q + page * P)) - Q) / P
  if (pages > 0) expect(set(pages)).toBe(pages)
  return set
}

describe.each(ALL)('brk on %s', (release) => {
  it('AS vector 36, R-AS-6: an obstacle 20 pages up', () => {
    const s = new Space(release)
    const set = heap(s)
    s.at(20, 1)
    expect(set(19)).toBe(19)
    expect(set(20)).toBe(19)
    expect(s.list()).toEqual(['0+19 rw-', '20+1 rw-'])
    expect(s.flags(0)).toBe('rd wr mr mw me ac')
  })

  it('AS vector 37: RLIMIT_DATA 0 with an unlimited hard limit', () => {
    const s = new Space(release, { limits: { data: 0 } })
    const set = heap(s)
    expect(s.try({ addr: Q + 100 * P })).toBe(Q + 100 * P)
    expect(set(1)).toBe(0)
    expect(s.task.refusal!.why).toBe('the heap would exceed RLIMIT_DATA')
  })

  it('R-AS-77 never an errno', () => {
    const s = new Space(release)
    heap(s, 2)
    for (const wanted of [0, 1, -1, 2 ** 47]) expect(s.task.run(brk(s.k, s.mm, wanted))).toBe(Q + 2 * P)
    expect(s.task.run(brk(s.k, s.mm, Q + P + 5))).toBe(Q + P + 5)
    expect(s.list()).toEqual(['0+2 rw-'])
  })

  it('R-AS-78 shrinking over holes and over nothing', () => {
    const s = new Space(release)
    const set = heap(s, 8)
    s.call(munmap(s.k, s.mm, Q + 3 * P, 2 * P))
    expect(set(7)).toBe(7)
    expect(set(4)).toBe(4)
    expect(set(3)).toBe(4)
    expect(s.list()).toEqual(['0+3 rw-'])
    // a second heap VMA behind the hole
    expect(set(6)).toBe(6)
    expect(s.list()).toEqual(['0+3 rw-', '4+2 rw-'])
    expect(s.mm.committed).toBe(5)
  })

  it('R-AS-79 a mapping that ends where the heap begins is no part of it', () => {
    const s = new Space(release)
    s.at(-2, 2)
    const set = heap(s)
    expect(set(1)).toBe(1)
    expect(set(2)).toBe(2)
    expect(s.list()).toEqual(['-2+2 rw-', '0+2 rw-'])
  })

  it('R-AS-79 the guard gap of a growable mapping above', () => {
    const s = new Space(release)
    const set = heap(s)
    s.at(400, 1, RW, ANON | MAP_GROWSDOWN)
    expect(set(144)).toBe(0)
    expect(set(143)).toBe(143)
  })

  it('R-AS-79 MCL_FUTURE counts against the limit and populates', () => {
    const s = new Space(release, { limits: { memlock: 2 * P } })
    const set = heap(s)
    s.call(mlockall(s.k, s.mm, MCL_FUTURE))
    expect(set(3)).toBe(0)
    expect(set(2)).toBe(2)
    expect([s.mm.lockedVm, s.mm.rssAnon]).toEqual([2, 2])
  })

  it('R-AS-116 a sealed heap does not shrink', () => {
    const s = new Space(release)
    const set = heap(s, 4)
    if (!s.k.release.mm.hasMseal) {
      expect(s.call(mseal(s.k, s.mm, Q, P, 0))).toBe('-ENOSYS')
      return
    }
    s.call(mseal(s.k, s.mm, Q + 3 * P, P, 0))
    expect(set(2)).toBe(4)
  })
})
