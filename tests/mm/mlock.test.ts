import { describe, expect, it } from 'vitest'
import { createFile } from '../../src/mm/filemap.ts'
import { driverKind } from '../../src/mm/file.ts'
import { MAP_SHARED, MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT } from '../../src/mm/mman.ts'
import { mlock, mlock2, mlockall, munlock, munlockall } from '../../src/mm/mlock.ts'
import { VM_DONTEXPAND, VM_IO } from '../../src/mm/vm-flags.ts'
import { ALL, P, Q, R, RW, Space } from './address-space.ts'

describe.each(ALL)('mlock on %s', (release) => {
  it('AS vector 39, R-AS-91: a hole behind the mapping', () => {
    const s = new Space(release)
    s.at(0, 4)
    expect(s.call(mlock(s.k, s.mm, Q, 8 * P))).toBe('-ENOMEM')
    expect([s.mm.lockedVm, s.mm.rssAnon]).toEqual([4, 0])
  })

  it('AS vector 40: a length that wraps to zero, and PROT_NONE', () => {
    const s = new Space(release)
    s.at(0, 2)
    expect(s.call(mlock(s.k, s.mm, Q, -1))).toBe(0)
    expect(s.mm.lockedVm).toBe(0)
    expect(s.call(mlock(s.k, s.mm, Q, -P))).toBe('-EINVAL')
    s.at(10, 2, 0)
    expect(s.call(mlock(s.k, s.mm, Q + 10 * P, 2 * P))).toBe('-ENOMEM')
    expect(s.mm.lockedVm).toBe(2)
    expect(s.flags(10)).toContain('lo')
    expect(s.call(mlock(s.k, s.mm, Q + 1, 0))).toBe(0)
    expect(s.mm.lockedVm).toBe(3)
  })

  it('AS vector 41: MCL_CURRENT alone ends MCL_FUTURE', () => {
    const s = new Space(release)
    expect(s.call(mlockall(s.k, s.mm, MCL_FUTURE))).toBe(0)
    s.at(0, 1)
    expect(s.flags(0)).toContain('lo')
    expect(s.mm.rssAnon).toBe(1)
    expect(s.call(mlockall(s.k, s.mm, MCL_CURRENT))).toBe(0)
    s.at(4, 1)
    expect(s.flags(4)).not.toContain('lo')
    expect(s.call(munlockall(s.k, s.mm))).toBe(0)
    expect(s.mm.lockedVm).toBe(0)
  })

  it('R-AS-95 mlockall arguments and limit', () => {
    const s = new Space(release, { limits: { memlock: 2 * P } })
    for (const flags of [0, 8, MCL_ONFAULT]) expect(s.call(mlockall(s.k, s.mm, flags))).toBe('-EINVAL')
    s.at(0, 3)
    expect(s.call(mlockall(s.k, s.mm, MCL_CURRENT))).toBe('-ENOMEM')
    expect(s.call(mlockall(s.k, s.mm, MCL_FUTURE))).toBe(0)
    expect(s.try({ length: 3 * P })).toBe('-EAGAIN')
  })

  it('R-AS-94 MLOCK_ONFAULT, then mlock, then munlock', () => {
    const s = new Space(release)
    s.at(0, 4)
    expect(s.call(mlock2(s.k, s.mm, Q, 4 * P, MLOCK_ONFAULT))).toBe(0)
    expect([s.mm.lockedVm, s.mm.rssAnon]).toEqual([4, 0])
    expect(s.flags(0)).toContain('lf')
    expect(s.call(mlock(s.k, s.mm, Q, 4 * P))).toBe(0)
    expect([s.mm.lockedVm, s.mm.rssAnon]).toEqual([4, 4])
    expect(s.flags(0)).not.toContain('lf')
    expect(s.call(munlock(s.k, s.mm, Q + 2 * P, 8 * P))).toBe('-ENOMEM')
    expect(s.mm.lockedVm).toBe(2)
    expect(s.list()).toEqual(['0+2 rw-', '2+2 rw-'])
  })

  it('R-AS-92 a file beyond its end', () => {
    const s = new Space(release)
    s.at(0, 4, RW, MAP_SHARED, s.file(2))
    expect(s.call(mlock(s.k, s.mm, Q, 4 * P))).toBe('-ENOMEM')
    expect(s.mm.lockedVm).toBe(4)
  })

  it('R-AS-93 special mappings are never locked', () => {
    const s = new Space(release)
    const kind = driverKind('device')
    const method = {
      ...kind,
      mmapMethod: (_k: unknown, vma: { flags: number }) => ((vma.flags |= VM_IO | VM_DONTEXPAND), 0),
    }
    s.at(0, 1, R, MAP_SHARED, createFile(s.k, method, { path: '/dev/x', size: P }))
    expect(s.call(mlock(s.k, s.mm, Q, P))).toBe(0)
    expect(s.mm.lockedVm).toBe(0)
  })

  it('R-AS-90 the limit', () => {
    const s = new Space(release, { limits: { memlock: 4 * P } })
    s.at(0, 6)
    expect(s.call(mlock(s.k, s.mm, Q, 5 * P))).toBe('-ENOMEM')
    expect(s.call(mlock(s.k, s.mm, Q, 3 * P))).toBe(0)
    expect(s.call(mlock(s.k, s.mm, Q + P, 3 * P))).toBe(0)
    expect(s.call(mlock(s.k, s.mm, Q + 2 * P, 3 * P))).toBe('-ENOMEM')
    const tiny = new Space(release, { limits: { memlock: 4095 } })
    tiny.at(0, 1)
    expect(tiny.call(mlock(tiny.k, tiny.mm, Q, 1))).toBe('-ENOMEM')
  })
})
