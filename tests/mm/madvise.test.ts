import { describe, expect, it } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { driverKind } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_COLD,
  MADV_DODUMP,
  MADV_DOFORK,
  MADV_DONTDUMP,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
  MADV_HUGEPAGE,
  MADV_HWPOISON,
  MADV_KEEPONFORK,
  MADV_MERGEABLE,
  MADV_NOHUGEPAGE,
  MADV_NORMAL,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_RANDOM,
  MADV_REMOVE,
  MADV_SEQUENTIAL,
  MADV_WILLNEED,
  MADV_WIPEONFORK,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
} from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mseal } from '../../src/mm/mseal.ts'
import { VM_IO, VM_PFNMAP } from '../../src/mm/vm-flags.ts'
import { ALL, ANON, H, NEWER, P, Q, R, RW, SHARED_ANON, Space } from './address-space.ts'

const advise = (s: Space, page: number, pages: number, advice: number): number | string =>
  s.call(madvise(s.k, s.mm, Q + page * P, pages * P, advice))

function device(s: Space, page: number): void {
  const kind = {
    ...driverKind('device'),
    mmapMethod: (_k: unknown, vma: { flags: number }) => {
      vma.flags |= VM_IO | VM_PFNMAP
      return 0
    },
  }
  s.at(page, 1, R, MAP_SHARED, createFile(s.k, kind, { path: '/dev/x', size: P }))
}

describe.each(ALL)('madvise on %s', (release: ReleaseName) => {
  it('AS vector 42, R-AS-100, R-AS-104: arguments and mappings that refuse', () => {
    const s = new Space(release)
    s.at(0, 1)
    s.at(2, 1, RW, SHARED_ANON)
    s.at(4, 1, RW, MAP_PRIVATE, s.file(1))
    device(s, 6)
    expect(s.call(madvise(s.k, s.mm, Q + 1, 0, MADV_NORMAL))).toBe('-EINVAL')
    expect(advise(s, 0, 0, 26)).toBe('-EINVAL')
    expect(advise(s, 2, 1, MADV_FREE)).toBe('-EINVAL')
    expect(advise(s, 4, 1, MADV_WIPEONFORK)).toBe('-EINVAL')
    expect(advise(s, 6, 1, MADV_DOFORK)).toBe('-EINVAL')
    expect(advise(s, 6, 1, MADV_DONTNEED)).toBe('-EINVAL')
    expect(advise(s, 6, 1, MADV_DODUMP)).toBe('-EINVAL')
    expect(s.call(madvise(s.k, s.mm, Q, -1, MADV_NORMAL))).toBe('-EINVAL')
    expect(advise(s, 1000, 1, MADV_NORMAL)).toBe('-ENOMEM')
    expect(advise(s, 0, 0, MADV_NORMAL)).toBe(0)
    expect(advise(s, 0, 1, MADV_HWPOISON)).toBe('-EPERM')
  })

  it('AS vector 43: DONTNEED over a hole up to a locked page', () => {
    const s = new Space(release)
    s.at(0, 4)
    s.at(6, 1, RW, ANON | MAP_LOCKED)
    s.at(7, 1)
    for (const page of [0, 1, 2, 3, 6, 7]) s.store(page, 1 + page)
    expect(advise(s, 0, 8, MADV_DONTNEED)).toBe('-EINVAL')
    expect([s.load(0), s.load(3), s.load(6), s.load(7)]).toEqual([0, 0, 7, 8])
    expect(advise(s, 6, 1, MADV_DONTNEED_LOCKED)).toBe(0)
    expect(s.load(6)).toBe(0)
  })

  it('R-AS-101 a hole is skipped and reported', () => {
    const s = new Space(release)
    s.at(0, 1)
    s.at(4, 1)
    s.store(0, 1)
    s.store(4, 1)
    expect(advise(s, 0, 5, MADV_DONTNEED)).toBe('-ENOMEM')
    expect([s.load(0), s.load(4)]).toEqual([0, 0])
  })

  it('AS vector 44: REMOVE', () => {
    const s = new Space(release)
    const file = s.file(2)
    s.at(0, 1)
    s.at(2, 1, RW, MAP_PRIVATE, file)
    s.at(4, 1, R, MAP_SHARED, s.reopen(file, true, false))
    s.at(6, 2, RW, SHARED_ANON)
    s.at(10, 1, RW, SHARED_ANON | MAP_LOCKED)
    s.store(6, 5)
    s.store(7, 6)
    expect(advise(s, 0, 1, MADV_REMOVE)).toBe('-EINVAL')
    expect(advise(s, 2, 1, MADV_REMOVE)).toBe('-EACCES')
    expect(advise(s, 4, 1, MADV_REMOVE)).toBe('-EACCES')
    expect(advise(s, 10, 1, MADV_REMOVE)).toBe('-EINVAL')
    expect(advise(s, 6, 1, MADV_REMOVE)).toBe(0)
    expect([s.load(6), s.load(7)]).toEqual([0, 6])
  })

  it('AS vector 45, R-AS-104: DONTNEED on huge pages', () => {
    const s = new Space(release)
    const pool = hugetlbPool(s.k)
    pool.resize(1)
    s.map({ addr: Q, length: H, flags: ANON | MAP_HUGETLB | MAP_FIXED })
    s.store(0, 5)
    expect(advise(s, 0, 1, MADV_DONTNEED)).toBe(0)
    expect(s.load(0)).toBe(5)
    expect(advise(s, 1, 511, MADV_DONTNEED)).toBe('-EINVAL')
    expect(advise(s, 0, 1, MADV_DONTFORK)).toBe('-EINVAL')
    expect(advise(s, 0, 512, MADV_DONTNEED)).toBe(0)
    expect(s.load(0)).toBe(0)
    expect(s.call(mprotect(s.k, s.mm, Q, P, R))).toBe('-EINVAL')
  })

  it('AS vector 46, R-AS-102: POPULATE_WRITE over a hole', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(4, 2)
    expect(advise(s, 0, 6, MADV_POPULATE_WRITE)).toBe('-ENOMEM')
    expect(s.mm.rssAnon).toBe(s.k.release.gup.madvPopulateFlag ? 2 : 4)
    s.at(10, 1, 0)
    expect(advise(s, 10, 1, MADV_POPULATE_READ)).toBe('-EINVAL')
  })

  it('FLT vector 52: POPULATE_WRITE over an unmapped page', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(3, 1)
    expect(advise(s, 0, 4, MADV_POPULATE_WRITE)).toBe('-ENOMEM')
    expect(s.mm.rssAnon).toBe(s.k.release.gup.madvPopulateFlag ? 2 : 3)
  })

  it('R-AS-103 flags', () => {
    const s = new Space(release)
    s.at(0, 8)
    const flags = (advice: number): string => {
      expect(advise(s, 2, 2, advice)).toBe(0)
      return s.flags(2).replace('rd wr mr mw me ', '').replace('ac', '').trim().replace('  ', ' ')
    }
    expect(flags(MADV_SEQUENTIAL)).toBe('sr')
    expect(s.list()).toEqual(['0+2 rw-', '2+2 rw-', '4+4 rw-'])
    expect(flags(MADV_RANDOM)).toBe('rr')
    expect(flags(MADV_NORMAL)).toBe('')
    expect(s.list()).toEqual(['0+8 rw-'])
    expect(flags(MADV_DONTFORK)).toBe('dc')
    expect(flags(MADV_DONTDUMP)).toBe('dc dd')
    expect(flags(MADV_DOFORK)).toBe('dd')
    expect(flags(MADV_DODUMP)).toBe('')
    expect(flags(MADV_WIPEONFORK)).toBe('wf')
    expect(flags(MADV_KEEPONFORK)).toBe('')
    expect(flags(MADV_HUGEPAGE)).toBe('hg')
    expect(flags(MADV_NOHUGEPAGE)).toBe('nh')
    expect(flags(MADV_MERGEABLE)).toBe('nh mg')
    for (const advice of [MADV_WILLNEED, MADV_COLD, MADV_PAGEOUT]) expect(advise(s, 0, 8, advice)).toBe(0)
  })

  it('R-AS-103 a split at the map_count limit is EAGAIN', () => {
    const s = new Space(release, {}, { settings: { maxMapCount: 1 } })
    s.at(0, 4)
    expect(advise(s, 1, 1, MADV_DONTFORK)).toBe('-EAGAIN')
    expect(s.task.refusal!.cause!.rule).toBe('R-AS-52')
  })

  it('R-AS-105 what DONTNEED leaves behind', () => {
    const s = new Space(release)
    const file = s.file(1)
    s.at(0, 1, RW, MAP_SHARED, file)
    s.store(0, 9)
    s.at(2, 1, RW, MAP_PRIVATE, file)
    s.store(2, 4)
    expect(advise(s, 0, 1, MADV_DONTNEED)).toBe(0)
    expect(advise(s, 2, 1, MADV_DONTNEED)).toBe(0)
    expect([s.load(0), s.load(2)]).toEqual([9, 9])
    s.at(4, 1)
    s.store(4, 3)
    expect(advise(s, 4, 1, MADV_FREE)).toBe(0)
    expect(s.load(4)).toBe(3)
  })

  it('R-AS-148 DONTNEED of whole tables', () => {
    const s = new Space(release)
    s.at(0, 512)
    s.touch(0)
    advise(s, 0, 512, MADV_DONTNEED)
    expect(s.mm.pageTable.leaves).toBe(release === '6.18' ? 0 : 1)
  })

  it('R-AS-106 guard pages', () => {
    const s = new Space(release)
    s.at(0, 4)
    s.store(1, 5)
    if (!s.k.release.mm.hasGuardPages) {
      expect(advise(s, 0, 0, MADV_GUARD_INSTALL)).toBe('-EINVAL')
      return
    }
    expect(advise(s, 1, 1, MADV_GUARD_INSTALL)).toBe(0)
    expect(s.list()).toEqual(['0+4 rw-'])
    expect(s.flags(0)).toBe('rd wr mr mw me gu ac')
    expect(s.touch(1)).toBe(false)
    expect(advise(s, 0, 4, MADV_DONTNEED)).toBe(0)
    expect(s.touch(1)).toBe(false)
    expect(advise(s, 1, 1, MADV_GUARD_REMOVE)).toBe(0)
    expect(s.load(1)).toBe(0)
  })
})

it.each(NEWER)('R-AS-116 %s: destructive advice on sealed read-only memory', (release) => {
  const s = new Space(release)
  s.at(0, 1)
  s.store(0, 1)
  s.at(2, 1, RW)
  s.call(mprotect(s.k, s.mm, Q, P, R))
  s.call(mseal(s.k, s.mm, Q, P, 0))
  s.call(mseal(s.k, s.mm, Q + 2 * P, P, 0))
  expect(advise(s, 0, 1, MADV_DONTNEED)).toBe('-EPERM')
  expect(advise(s, 0, 1, MADV_DONTFORK)).toBe('-EPERM')
  expect(advise(s, 0, 1, MADV_SEQUENTIAL)).toBe(0)
  expect(advise(s, 2, 1, MADV_DONTNEED)).toBe(0)
})
