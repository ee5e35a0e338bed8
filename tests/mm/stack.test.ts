import { describe, expect, it } from 'vitest'
import { FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { PageArray, pinUserPagesRemote } from '../../src/mm/gup.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_DONTNEED, MAP_GROWSDOWN, MAP_LOCKED, MS_SYNC } from '../../src/mm/mman.ts'
import { mincore } from '../../src/mm/mincore.ts'
import { mlock } from '../../src/mm/mlock.ts'
import { msync } from '../../src/mm/msync.ts'
import { unpinUserPage } from '../../src/mm/unpin.ts'
import { ALL, ANON, P, Q, R, RW, Space } from './address-space.ts'
import { result } from '../support/kernel.ts'

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

  it('R-AS-88 madvise, mlock, msync and mincore do not grow it', () => {
    const s = new Space(release)
    s.at(10, 1, RW, STACK)
    const below = Q + 9 * P
    expect(s.call(madvise(s.k, s.mm, below, P, MADV_DONTNEED))).toBe('-ENOMEM')
    expect(s.call(mlock(s.k, s.mm, below, P))).toBe('-ENOMEM')
    expect(s.call(msync(s.k, s.mm, below, P, MS_SYNC))).toBe('-ENOMEM')
    expect(s.call(mincore(s.k, s.mm, below, P, Q + 10 * P))).toBe('-ENOMEM')
    expect(s.list()).toEqual(['10+1 rw-'])
  })

  it.each(['AS vector 60', 'FLT vector 53'])('%s: GUP one page below a growable mapping', () => {
    const s = new Space(release)
    s.at(10, 1, RW, STACK)
    const grows = s.k.release.gup.expandsStack
    const page = new PageArray(1)
    const guard = s.mm.mmapLock.tryRead()!
    const pinned = s.task.run(pinUserPagesRemote(s.k, s.mm, Q + 9 * P, 1, FOLL_WRITE, page, guard))
    guard.release()
    expect(result(pinned)).toBe(grows ? 1 : '-EFAULT')
    expect(s.list()).toEqual([grows ? '9+2 rw-' : '10+1 rw-'])
    if (grows) unpinUserPage(s.k, page.pfns[0]!)
  })

  it('R-AS-86 RLIMIT_AS', () => {
    const s = new Space(release, { limits: { as: 4 * P } })
    s.at(1000, 1, R | RW, STACK)
    expect(s.touch(996)).toBe(false)
    expect(s.touch(997)).toBe(true)
  })
})
