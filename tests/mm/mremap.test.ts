import { describe, expect, it } from 'vitest'
import { TASK_SIZE } from '../../src/base/units.ts'
import { MAP_LOCKED, MAP_SHARED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE } from '../../src/mm/mman.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { ALL, ANON, P, Q, R, RW, SHARED_ANON, Space } from './address-space.ts'

const MOVE = MREMAP_MAYMOVE
const TO = MREMAP_MAYMOVE | MREMAP_FIXED

describe.each(ALL)('mremap on %s', (release) => {
  const is618 = release === '6.18'
  const remap = (
    s: Space,
    page: number,
    old: number,
    now: number,
    flags: number,
    target = 0,
  ): number | string => {
    const result = s.call(mremap(s.k, s.mm, Q + page * P, old * P, now * P, flags, Q + target * P))
    return typeof result === 'number' ? (result - Q) / P : result
  }

  it('R-AS-68 an old length that wraps around overlaps nothing: EFAULT where nothing is mapped', () => {
    const s = new Space('6.18')
    expect(s.call(mremap(s.k, s.mm, Q, -P, P, MREMAP_FIXED | MREMAP_MAYMOVE, Q))).toBe('-EFAULT')
    expect(s.call(mremap(s.k, s.mm, Q, 2 * P, P, MREMAP_FIXED | MREMAP_MAYMOVE, Q))).toBe('-EINVAL')
  })

  it('R-AS-68 a destination on the source takes it before the tail is looked at', () => {
    const s = new Space(release)
    s.at(0, 9)
    // the old range wraps around: the two do not overlap by the rule, although the destination is the source
    expect(s.call(mremap(s.k, s.mm, Q + 4 * P, -2 * P, P, TO, Q + 4 * P))).toBe(is618 ? '-EFAULT' : '-EINVAL')
    expect(s.list()).toEqual(['0+4 rw-', '5+4 rw-'])
    s.at(20, 1)
    expect(s.call(mremap(s.k, s.mm, Q + 8 * P, -P, P, TO, Q + 20 * P))).toBe('-EINVAL')
    expect(s.list()).toEqual(['0+4 rw-', '5+4 rw-'])
  })

  it('AS vector 25, R-AS-66: arguments', () => {
    const s = new Space(release)
    s.at(0, 4)
    expect(remap(s, 0, 1, 2, 8)).toBe('-EINVAL')
    expect(remap(s, 0, 1, 2, MREMAP_FIXED, 20)).toBe('-EINVAL')
    expect(remap(s, 0, 1, 0, MOVE)).toBe('-EINVAL')
    expect(remap(s, 0, 0, 1, MOVE)).toBe('-EINVAL')
    expect(s.call(mremap(s.k, s.mm, Q + 1, P, P, MOVE, 0))).toBe('-EINVAL')
  })

  it('AS vector 26, R-AS-70: nothing to do is not checked', () => {
    const s = new Space(release)
    s.at(0, 4)
    expect(remap(s, 0, 8, 8, 0)).toBe(0)
    expect(remap(s, 100, 8, 8, 0)).toBe('-EFAULT')
  })

  it('AS vector 27, R-AS-70: shrinking takes what lies behind the mapping too', () => {
    const s = new Space(release)
    s.at(0, 4)
    s.at(20, 10)
    expect(remap(s, 0, 40, 22, 0)).toBe(0)
    expect(s.list()).toEqual(['0+4 rw-', '20+2 rw-'])
  })

  it('AS vector 28: growing more than the mapping has', () => {
    const s = new Space(release)
    s.at(0, 4)
    expect(remap(s, 0, 5, 6, MOVE)).toBe('-EFAULT')
  })

  it('AS vector 29: growing inside the mapping without MAYMOVE', () => {
    const s = new Space(release)
    s.at(0, 4)
    expect(remap(s, 0, 2, 3, 0)).toBe('-ENOMEM')
  })

  it('AS vector 30: duplicating a shared mapping', () => {
    const s = new Space(release)
    s.at(0, 4, RW, SHARED_ANON)
    s.store(1, 42)
    const copy = remap(s, 0, 0, 4, MOVE) as number
    expect(s.load(copy + 1)).toBe(42)
    s.store(copy + 1, 43)
    expect(s.load(1)).toBe(43)
  })

  it('AS vector 31: MREMAP_DONTUNMAP compares lengths', () => {
    const s = new Space(release)
    s.at(0, 1)
    const result = s.call(mremap(s.k, s.mm, Q, 1, P, MOVE | MREMAP_DONTUNMAP, Q + 50 * P))
    expect(result).toBe(is618 ? Q + 50 * P : '-EINVAL')
  })

  it('AS vector 32: an unmapped source leaves the target alone', () => {
    const s = new Space(release)
    s.at(20, 1)
    expect(remap(s, 0, 1, 1, TO, 20)).toBe('-EFAULT')
    expect(s.list()).toEqual(['20+1 rw-'])
  })

  it('AS vector 33: a source that runs into a hole', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(20, 4, R)
    s.store(1, 5)
    expect(remap(s, 0, 4, 4, TO, 20)).toBe(is618 ? 20 : '-EFAULT')
    // the pages of the target that no source page lies over stay
    expect(s.list()).toEqual(is618 ? ['20+2 rw-', '22+2 r--'] : ['0+2 rw-'])
    if (is618) expect(s.load(21)).toBe(5)
  })

  it('AS vector 34, R-AS-75: two mappings at once', () => {
    const s = new Space(release)
    s.at(0, 1)
    s.at(1, 1, R)
    s.store(0, 3)
    expect(remap(s, 0, 2, 2, TO, 20)).toBe(is618 ? 20 : '-EFAULT')
    expect(s.list()).toEqual(is618 ? ['20+1 rw-', '21+1 r--'] : ['0+1 rw-', '1+1 r--'])
    if (is618) expect(s.load(20)).toBe(3)
    expect(remap(s, is618 ? 20 : 0, 2, 3, TO, 40)).toBe('-EFAULT')
  })

  it('AS vector 35: MREMAP_DONTUNMAP of locked memory', () => {
    const s = new Space(release)
    s.at(0, 2, RW, ANON | MAP_LOCKED)
    s.store(0, 9)
    const target = remap(s, 0, 2, 2, MOVE | MREMAP_DONTUNMAP, 50) as number
    expect(target).toBe(50)
    expect(s.mm.lockedVm).toBe(is618 ? 4 : 2)
    expect(s.load(50)).toBe(9)
    expect(s.load(0)).toBe(0)
    expect(s.flags(0)).not.toContain('lo')
    expect(s.mm.totalVm).toBe(4)
    s.call(munmap(s.k, s.mm, Q, 2 * P))
    s.call(munmap(s.k, s.mm, Q + 50 * P, 2 * P))
    expect(s.mm.lockedVm).toBe(is618 ? 2 : 0)
  })

  it('R-AS-71 growing in place, into the next mapping, or elsewhere', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(4, 2)
    expect(remap(s, 0, 2, 4, 0)).toBe(0)
    expect(s.list()).toEqual(['0+6 rw-'])
    s.store(1, 7)
    expect(s.mm.committed).toBe(6)
    s.at(6, 1, R)
    expect(remap(s, 0, 6, 7, 0)).toBe('-ENOMEM')
    const moved = remap(s, 0, 6, 8, MOVE) as number
    expect(s.load(moved + 1)).toBe(7)
    expect(s.list()).toEqual(['6+1 r--', `${moved}+8 rw-`])
    expect([s.mm.totalVm, s.mm.committed]).toEqual([9, 8])
  })

  it('R-AS-72 the same physical pages at the new address', () => {
    const s = new Space(release)
    s.at(0, 4)
    for (let page = 0; page < 4; page++) s.store(page, 10 + page)
    expect(remap(s, 1, 2, 2, TO, 100)).toBe(100)
    expect([s.load(0), s.load(100), s.load(101), s.load(3)]).toEqual([10, 11, 12, 13])
    expect(s.touch(1)).toBe(false)
    expect(s.mm.rssAnon).toBe(4)
    // R-AS-137: moved back, it joins its old neighbours again
    expect(remap(s, 100, 2, 2, TO, 1)).toBe(1)
    expect(s.list()).toEqual(['0+4 rw-'])
  })

  it.for([
    ['the first page behind', 22, 1, 25, '22+4 rw-'],
    ['the last page behind', 24, 1, 25, '22+4 rw-'],
    ['all of it behind', 22, 3, 25, '22+6 rw-'],
    ['the last page before', 24, 1, 21, '21+4 rw-'],
    ['all of it before', 22, 3, 19, '19+6 rw-'],
  ] as const)(
    'R-AS-73 DONTUNMAP of untouched memory joins it on 6.18, stays apart before: %s',
    ([, from, pages, to, joined]) => {
      const s = new Space(release)
      s.at(22, 3)
      expect(remap(s, from, pages, pages, MOVE | MREMAP_DONTUNMAP, to)).toBe(to)
      const moved = `${to}+${pages} rw-`
      const apart = to < 22 ? [moved, '22+3 rw-'] : ['22+3 rw-', moved]
      expect(s.list()).toEqual(release === '6.18' ? [joined] : apart)
    },
  )

  it('R-AS-73 what DONTUNMAP leaves behind as a whole joins what is beside it until 6.12, not on 6.18', () => {
    const s = new Space(release)
    s.at(0, 6)
    s.touch(0)
    expect(remap(s, 0, 6, 6, TO, 11)).toBe(11)
    // a part of it keeps the page indices of where it was touched
    expect(remap(s, 14, 3, 3, MOVE | MREMAP_DONTUNMAP, 40)).toBe(40)
    s.at(17, 2)
    expect(s.list()).toEqual(['11+6 rw-', '17+2 rw-', '40+3 rw-'])
    expect(remap(s, 11, 6, 6, MOVE | MREMAP_DONTUNMAP, 30)).toBe(30)
    s.at(9, 2)
    const apart = ['9+2 rw-', '11+6 rw-', '17+2 rw-', '30+6 rw-', '40+3 rw-']
    expect(s.list()).toEqual(release === '6.18' ? apart : ['9+8 rw-', ...apart.slice(2)])
  })

  it('R-AS-73 DONTUNMAP of a part of locked memory: until 6.12 that part is unlocked, on 6.18 all of it', () => {
    const s = new Space(release)
    s.at(10, 4, RW, ANON | MAP_LOCKED)
    expect(remap(s, 11, 1, 1, MOVE | MREMAP_DONTUNMAP, 20)).toBe(20)
    const apart = ['10+1 rw-', '11+1 rw-', '12+2 rw-', '20+1 rw-']
    expect(s.list()).toEqual(release === '6.18' ? ['10+4 rw-', '20+1 rw-'] : apart)
    expect(s.mm.lockedVm).toBe(release === '6.18' ? 5 : 4)
  })

  it('R-AS-137, R-AS-4 DONTUNMAP of touched memory stays apart from what is left behind', () => {
    const s = new Space(release)
    s.at(22, 3)
    s.touch(22)
    expect(remap(s, 22, 1, 1, MOVE | MREMAP_DONTUNMAP, 25)).toBe(25)
    expect(s.list()).toEqual(['22+3 rw-', '25+1 rw-'])
  })

  it('R-AS-72 locked memory that grows is populated at its tail', () => {
    const s = new Space(release)
    s.at(0, 2, RW, ANON | MAP_LOCKED)
    expect(remap(s, 0, 2, 4, MOVE)).toBe(0)
    expect([s.mm.lockedVm, s.mm.rssAnon]).toEqual([4, 4])
  })

  it('R-AS-69 EAGAIN at the memlock limit', () => {
    const s = new Space(release, { limits: { memlock: 2 * P } })
    s.at(0, 2, RW, ANON | MAP_LOCKED)
    expect(remap(s, 0, 2, 3, MOVE)).toBe('-EAGAIN')
  })

  it('R-AS-74 duplicating onto itself destroys the source', () => {
    const s = new Space(release)
    s.at(0, 4, RW, MAP_SHARED, s.memfd(4))
    expect(remap(s, 0, 0, 4, TO, 0)).toBe('-EFAULT')
    expect(s.list()).toEqual([])
  })

  it('R-AS-67 R-AS-68 destination checks', () => {
    const s = new Space(release)
    s.at(0, 4)
    const to = (addr: number, target: number): number | string =>
      s.call(mremap(s.k, s.mm, addr, 2 * P, 2 * P, TO, target))
    expect(to(Q, Q + 20 * P + 1)).toBe('-EINVAL')
    expect(to(Q, TASK_SIZE - P)).toBe('-EINVAL')
    expect(to(Q, Q + P)).toBe('-EINVAL')
    expect(to(Q, -P)).toBe('-EINVAL')
    expect(to(Q + 50 * P, Q + 51 * P)).toBe(is618 ? '-EINVAL' : '-EFAULT')
    expect(s.call(mremap(s.k, s.mm, Q, P, 2 ** 47, MOVE, 0))).toBe(is618 ? '-EINVAL' : '-ENOMEM')
    expect(s.call(mremap(s.k, s.mm, Q, P, TASK_SIZE, MOVE, 0))).toBe('-ENOMEM')
    expect(s.call(mremap(s.k, s.mm, Q, 2 * P, 2 * P, MOVE, -1))).toBe(Q)
  })

  it('R-AS-72 max_map_count', () => {
    const s = new Space(release, {}, { settings: { maxMapCount: 6 } })
    for (let i = 0; i < 2; i++) s.at(10 * i, 1)
    expect(remap(s, 0, 1, 1, TO, 100)).toBe('-ENOMEM')
    s.at(20, 1)
    expect(remap(s, 0, 1, 600_000_000, MOVE)).not.toBe('-EFAULT')
    s.at(11, 1, R)
    expect(remap(s, 10, 1, 2, MOVE)).toBe('-ENOMEM')
  })
})
