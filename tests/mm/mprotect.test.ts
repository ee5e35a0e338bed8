import { describe, expect, it } from 'vitest'
import { MAP_LOCKED, MAP_GROWSDOWN, MAP_SHARED, PROT_GROWSDOWN, PROT_GROWSUP } from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { ALL, ANON, P, Q, R, RW, Space, X } from './address-space.ts'

describe.each(ALL)('mprotect on %s', (release) => {
  const protect = (s: Space, page: number, pages: number, prot: number): number | string =>
    s.call(mprotect(s.k, s.mm, Q + page * P, pages * P, prot))

  it('AS vector 22: a hole behind the mapping', () => {
    const s = new Space(release)
    s.at(0, 4)
    expect(protect(s, 0, 8, R)).toBe('-ENOMEM')
    expect(s.list()).toEqual(['0+4 r--'])
  })

  it('AS vector 23: the second mapping refuses', () => {
    const s = new Space(release)
    s.at(0, 1, R)
    s.at(1, 1, R, MAP_SHARED, s.file(1, { writable: false }))
    s.at(2, 1, R)
    expect(protect(s, 0, 3, RW)).toBe('-EACCES')
    expect(s.list()).toEqual(['0+1 rw-', '1+1 r--', '2+1 r--'])
  })

  it('AS vector 24: order of the argument checks', () => {
    const s = new Space(release)
    s.at(0, 1)
    expect(protect(s, 100, 0, 0x100)).toBe(0)
    expect(protect(s, 0, 1, 0x100)).toBe('-EINVAL')
    expect(protect(s, 0, -1, 0x100)).toBe('-ENOMEM')
    expect(s.call(mprotect(s.k, s.mm, Q + 1, P, R))).toBe('-EINVAL')
    expect(protect(s, 0, 0, PROT_GROWSDOWN | PROT_GROWSUP)).toBe('-EINVAL')
    expect(protect(s, 100, 1, R)).toBe('-ENOMEM')
  })

  it('R-AS-62 PROT_GROWSDOWN starts at the start of the mapping', () => {
    const s = new Space(release)
    s.at(0, 4, RW, ANON | MAP_GROWSDOWN)
    s.at(300, 4)
    expect(protect(s, 2, 1, R | PROT_GROWSDOWN)).toBe(0)
    expect(s.list()[0]).toBe('0+3 r--')
    expect(protect(s, 302, 1, R | PROT_GROWSDOWN)).toBe('-EINVAL')
    expect(protect(s, 302, 1, R | PROT_GROWSUP)).toBe('-EINVAL')
    expect(protect(s, 298, 1, R | PROT_GROWSDOWN)).toBe('-ENOMEM')
  })

  it('R-AS-64 the charge of memory that becomes read-only', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(10, 2)
    s.touch(10)
    protect(s, 0, 2, R)
    protect(s, 10, 2, R)
    const drops = s.k.release.mm.readOnlyDropsAccount
    expect(s.flags(0)).toBe(drops ? 'rd mr mw me' : 'rd mr mw me ac')
    expect(s.flags(10)).toBe('rd mr mw me ac')
    expect(s.k.committed).toBe(drops ? 2 : 4)
    protect(s, 0, 2, RW)
    expect(s.k.committed).toBe(4)
  })

  it('R-AS-142, R-AS-141 pages move between the classes', () => {
    const s = new Space(release)
    s.at(0, 4)
    protect(s, 1, 2, R | X)
    expect([s.mm.totalVm, s.mm.dataVm, s.mm.execVm]).toEqual([4, 2, 2])
  })

  it('R-AS-65 locked memory that becomes writable is populated', () => {
    const s = new Space(release)
    s.at(0, 2, R, ANON | MAP_LOCKED)
    expect(s.mm.rssAnon).toBe(0)
    protect(s, 0, 2, RW)
    expect(s.mm.rssAnon).toBe(2)
  })

  it('R-AS-63 what was readable is no longer writable', () => {
    const s = new Space(release)
    s.at(0, 1)
    s.store(0, 9)
    protect(s, 0, 1, R)
    expect(s.touch(0)).toBe(false)
    expect(s.load(0)).toBe(9)
    protect(s, 0, 1, RW)
    s.store(0, 8)
    expect(s.load(0)).toBe(8)
  })
})
