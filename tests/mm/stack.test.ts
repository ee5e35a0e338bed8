import { describe, expect, it } from 'vitest'
import { MAP_GROWSDOWN, MAP_LOCKED } from '../../src/mm/mman.ts'
import { ALL, ANON, P, R, RW, Space } from './address-space.ts'

const STACK = ANON | MAP_GROWSDOWN

describe.each(ALL)('stack growth on %s', (release) => {
  it('AS vector 38: the mapping below keeps 256 pages of distance', () => {
    const s = new Space(release)
    s.at(0, 4)
    s.at(400, 1, RW, STACK)
    expect(s.touch(4 + 255)).toBe(false)
    expect(s.touch(4 + 256)).toBe(true)
    expect(s.list()).toEqual(['0+4 rw-', '260+141 rw-'])
    expect([s.mm.stackVm, s.mm.committed, s.mm.rssAnon]).toEqual([141, 145, 1])
  })

  it('R-AS-86 what cannot be accessed and what grows itself may be approached', () => {
    const s = new Space(release)
    s.at(0, 1, 0)
    s.at(10, 1, RW, STACK)
    expect(s.touch(1)).toBe(true)
    s.at(300, 1, RW, STACK)
    expect(s.touch(299)).toBe(true)
    expect(s.list()).toEqual(['0+1 ---', '1+10 rw-', '299+2 rw-'])
  })

  it('R-AS-86 RLIMIT_STACK', () => {
    const s = new Space(release, { limits: { stack: 10 * P } })
    s.at(1000, 1, RW, STACK)
    expect(s.touch(990)).toBe(false)
    expect(s.touch(991)).toBe(true)
  })

  it('R-AS-86 locked: counted, only the page touched is resident', () => {
    const s = new Space(release, { limits: { memlock: 6 * P } })
    s.at(1000, 1, RW, STACK | MAP_LOCKED)
    expect(s.touch(996)).toBe(true)
    expect([s.mm.lockedVm, s.mm.rssAnon]).toEqual([5, 2])
    expect(s.touch(900)).toBe(false)
  })

  it('R-AS-86 RLIMIT_AS', () => {
    const s = new Space(release, { limits: { as: 4 * P } })
    s.at(1000, 1, R | RW, STACK)
    expect(s.touch(996)).toBe(false)
    expect(s.touch(997)).toBe(true)
  })
})
