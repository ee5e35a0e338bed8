import { describe, expect, it } from 'vitest'
import { hugetlbFileSetup, hugetlbPool } from '../../src/mm/hugetlb.ts'
import { MAP_ANONYMOUS, MAP_NONBLOCK, MAP_SHARED } from '../../src/mm/mman.ts'
import { mlock } from '../../src/mm/mlock.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mseal } from '../../src/mm/mseal.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { remapFilePages } from '../../src/mm/remap-file-pages.ts'
import { ALL, H, NEWER, P, Q, R, RW, Space } from './address-space.ts'

const remap = (s: Space, addr: number, size: number, pgoff: number, prot = 0, flags = 0): number | string =>
  s.call(remapFilePages(s.k, s.mm, addr, size, prot, pgoff, flags))
const pages = (s: Space): string[] =>
  s.vmas().map((vma) => `${(vma.start - Q) / P}+${vma.pages} at ${vma.pgoff}`)

describe.each(ALL)('remap_file_pages on %s', (release) => {
  it('AS vector 48: the size is rounded down, the rest of the mapping stays', () => {
    const s = new Space(release)
    s.at(0, 4, RW, MAP_SHARED, s.memfd(8))
    expect(remap(s, Q, P + 1, 5)).toBe(0)
    expect(pages(s)).toEqual(['0+1 at 5', '1+3 at 1'])
    expect(s.mm.rssShmem).toBe(1)
  })

  it('R-AS-112 arguments', () => {
    const s = new Space(release)
    s.at(0, 4, RW, MAP_SHARED, s.memfd(8))
    expect(remap(s, Q, P, 0, R)).toBe('-EINVAL')
    expect(remap(s, Q, P - 1, 0)).toBe('-EINVAL')
    expect(remap(s, Q, -P, 0)).toBe('-EINVAL')
    expect(remap(s, Q, P, -1)).toBe('-EINVAL')
    expect(remap(s, Q, P, 2 ** 52)).toBe('-EOVERFLOW')
    expect(remap(s, Q + 10 * P, P, 0)).toBe('-EINVAL')
    expect(remap(s, Q + 1, P, 7)).toBe(0)
    expect(pages(s)).toEqual(['0+1 at 7', '1+3 at 1'])
  })

  it('R-AS-112 mappings: shared ones, several when nothing but the pages differs', () => {
    const s = new Space(release)
    s.at(0, 2)
    expect(remap(s, Q, P, 0)).toBe('-EINVAL')
    s.at(0, 1, R, MAP_SHARED, s.file(1, { writable: false }))
    expect(remap(s, Q, P, 0)).toBe('-EINVAL')
    const file = s.memfd(16)
    s.at(0, 4, RW, MAP_SHARED, file)
    expect(remap(s, Q, P, 9)).toBe(0)
    expect(remap(s, Q, 4 * P, 8)).toBe(0)
    expect(pages(s)).toEqual(['0+4 at 8'])
    s.call(mprotect(s.k, s.mm, Q + 2 * P, P, R))
    expect(remap(s, Q, 4 * P, 1)).toBe('-EINVAL')
    s.at(0, 4, RW, MAP_SHARED, file)
    s.call(munmap(s.k, s.mm, Q + 2 * P, P))
    expect(remap(s, Q, 4 * P, 1)).toBe('-EINVAL')
    s.at(0, 4, RW, MAP_SHARED | MAP_ANONYMOUS)
    expect(remap(s, Q, P, 3)).toBe(0)
    s.store(3, 7)
    expect(s.load(0)).toBe(7)
  })

  it('R-AS-112 keeps protection and lock, populates unless told not to', () => {
    const s = new Space(release)
    s.at(0, 4, RW, MAP_SHARED, s.memfd(8))
    s.call(mlock(s.k, s.mm, Q, P))
    expect(remap(s, Q, P, 4)).toBe(0)
    expect([s.mm.lockedVm, s.flags(0)]).toEqual([1, 'rd wr sh mr mw me ms lo'])
    s.call(mprotect(s.k, s.mm, Q + P, P, R))
    const resident = s.mm.rssShmem
    expect(remap(s, Q + P, P, 6, 0, MAP_NONBLOCK)).toBe(0)
    expect([s.mm.rssShmem, s.list()[1]]).toEqual([resident, '1+1 r--'])
  })

  it('R-AS-112 huge pages: whole ones', () => {
    const s = new Space(release)
    hugetlbPool(s.k, H).resize(4)
    const file = hugetlbFileSetup(s.k, {
      size: 2 * H,
      pageSize: H,
      name: '/memfd:h (deleted)',
      noreserve: true,
    })
    s.map({ addr: Q, length: 2 * H, flags: MAP_SHARED | 0x10, file })
    expect(remap(s, Q, P, 0)).toBe('-EINVAL')
    expect(remap(s, Q, H, 1)).toBe('-EINVAL')
    s.map({ addr: Q, length: 2 * H, flags: MAP_SHARED | 0x10, file })
    expect(remap(s, Q, H, 512)).toBe(0)
    expect(pages(s)).toEqual(['0+512 at 512', '512+512 at 512'])
    file.put()
  })
})

describe.each(NEWER)('remap_file_pages on %s', (release) => {
  it('R-AS-116 a sealed mapping is not replaced', () => {
    const s = new Space(release)
    s.at(0, 2, RW, MAP_SHARED, s.memfd(2))
    s.call(mseal(s.k, s.mm, Q, P, 0))
    expect(remap(s, Q, P, 1)).toBe('-EPERM')
    expect(remap(s, Q + P, P, 0)).toBe(0)
  })
})
