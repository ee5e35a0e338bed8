import { describe, expect, it } from 'vitest'
import { PG_DIRTY } from '../../src/memory/page-flags.ts'
import { SECRETMEM } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { mincore } from '../../src/mm/mincore.ts'
import {
  MADV_DONTNEED,
  MAP_ANONYMOUS,
  MAP_HUGETLB,
  MAP_PRIVATE,
  MAP_SHARED,
  MS_ASYNC,
  MS_INVALIDATE,
  MS_SYNC,
} from '../../src/mm/mman.ts'
import { mlock } from '../../src/mm/mlock.ts'
import { msync } from '../../src/mm/msync.ts'
import { FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { PageArray, pinUserPagesFast } from '../../src/mm/gup.ts'
import { type Leaf, PTE_DIRTY, PTE_WRITE, pmdIndex, pteSlot } from '../../src/mm/page-table.ts'
import { unpinUserPagesDirtyLock } from '../../src/mm/unpin.ts'
import { loadUser } from '../../src/mm/user-access.ts'
import { ALL, H, P, Q, R, RW, Space } from './address-space.ts'

const sync = (s: Space, page: number, pages: number, flags: number): number | string =>
  s.call(msync(s.k, s.mm, Q + page * P, pages * P, flags))
const core = (s: Space, page: number, pages: number, vec: number): number | string =>
  s.call(mincore(s.k, s.mm, Q + page * P, pages * P, vec))

describe.each(ALL)('msync and mincore on %s', (release) => {
  it('AS vector 47: what each of them refuses', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(3, 1)
    expect(sync(s, 0, 1, MS_ASYNC | MS_SYNC)).toBe('-EINVAL')
    expect(sync(s, 0, 1, 8)).toBe('-EINVAL')
    expect(sync(s, 0, 4, MS_SYNC)).toBe('-ENOMEM')
    s.call(mlock(s.k, s.mm, Q + 3 * P, P))
    // the locked mapping hides the hole before it
    expect(sync(s, 0, 4, MS_INVALIDATE)).toBe('-EBUSY')
    expect(core(s, 2, 1, 1)).toBe('-ENOMEM')
  })

  it('R-AS-110 ranges', () => {
    const s = new Space(release)
    s.at(0, 2)
    expect(s.call(msync(s.k, s.mm, Q + 1, P, 0))).toBe('-EINVAL')
    expect(s.call(msync(s.k, s.mm, Q, 0, 0))).toBe(0)
    expect(s.call(msync(s.k, s.mm, Q, -1, 0))).toBe(0)
    expect(s.call(msync(s.k, s.mm, Q, -P, 0))).toBe('-ENOMEM')
    expect(s.call(msync(s.k, s.mm, -(2 ** 47), P, 0))).toBe('-ENOMEM')
    expect(s.call(msync(s.k, s.mm, Q, 2 ** 50, 0))).toBe('-ENOMEM')
    expect(s.call(msync(s.k, s.mm, Q + P, P, 0))).toBe(0)
  })

  it('R-AS-110 MS_SYNC cleans the pages of a shared file mapping, those before an error too', () => {
    const s = new Space(release)
    const file = s.file(2)
    s.at(0, 2, RW, MAP_SHARED, file)
    s.store(0, 1)
    s.store(1, 1)
    const bits = (page: number): number => {
      const address = Q + page * P
      return (s.mm.pageTable.pmd(pmdIndex(address)) as Leaf).bits[pteSlot(address)]! & (PTE_DIRTY | PTE_WRITE)
    }
    expect(sync(s, 0, 1, MS_ASYNC)).toBe(0)
    expect(bits(0)).toBe(PTE_DIRTY | PTE_WRITE)
    expect(sync(s, 1, 3, MS_SYNC)).toBe('-ENOMEM')
    expect([bits(0), bits(1)]).toEqual([PTE_DIRTY | PTE_WRITE, 0])
    expect(s.k.memory.frames.has(file.mapping.pages.get(1), PG_DIRTY)).toBe(false)
    s.store(1, 2)
    expect(bits(1)).toBe(PTE_DIRTY | PTE_WRITE)
  })

  it('R-GUP-81 a pin does not hold writeback up, nor does writeback the pin', () => {
    const s = new Space(release)
    const file = s.file(1)
    s.at(0, 1, RW, MAP_SHARED, file)
    s.store(0, 1)
    const pages = new PageArray(1)
    expect(s.call(pinUserPagesFast(s.k, Q, 1, FOLL_WRITE, pages))).toBe(1)
    const page = pages.pfns[0]!
    expect(sync(s, 0, 1, MS_SYNC)).toBe(0)
    expect(s.k.memory.frames.has(page, PG_DIRTY)).toBe(false)
    s.k.memory.contents.write(page, 0, new Uint8Array([9]))
    s.task.run(unpinUserPagesDirtyLock(s.k, pages, 1, true))
    expect([s.k.memory.frames.has(page, PG_DIRTY), file.mapping.pages.get(0)]).toEqual([true, page])
  })

  it('R-AS-110 secret memory has nothing to sync to', () => {
    const s = new Space(release)
    s.at(0, 1, RW, MAP_SHARED, createFile(s.k, SECRETMEM, { path: '/secretmem (deleted)', size: P }))
    expect(sync(s, 0, 1, MS_SYNC)).toBe('-EINVAL')
    expect(sync(s, 0, 1, MS_ASYNC)).toBe(0)
    expect(sync(s, 0, 1, MS_INVALIDATE)).toBe(release === '6.18' ? '-EBUSY' : 0)
  })

  it('R-AS-111 arguments', () => {
    const s = new Space(release)
    s.at(0, 1)
    const call = (addr: number, length: number, vec: number): number | string =>
      s.call(mincore(s.k, s.mm, addr, length, vec))
    expect(call(Q + 1, P, Q)).toBe('-EINVAL')
    expect(call(Q, -1, Q)).toBe('-ENOMEM')
    expect(call(-(2 ** 47), P, Q)).toBe('-ENOMEM')
    expect(call(Q, 2 ** 47, Q)).toBe('-ENOMEM')
    expect(call(Q + 50 * P, 0, Q)).toBe(0)
    // a bad answer is seen at once in the kernel's half, else only when it is stored
    expect(call(Q + 50 * P, P, -P)).toBe('-EFAULT')
    expect(call(Q + 50 * P, P, 2 ** 50)).toBe('-EFAULT')
    expect(call(Q + 50 * P, P, 1)).toBe('-ENOMEM')
    expect(call(Q, P, 1)).toBe('-EFAULT')
  })

  it('R-AS-111 what counts as resident', () => {
    const s = new Space(release)
    s.at(100, 1)
    const look = (page: number, pages: number): string => {
      expect(core(s, page, pages, Q + 100 * P)).toBe(0)
      const bytes = new Uint8Array(pages)
      s.task.run(loadUser(s.k, s.mm, Q + 100 * P, bytes))
      return bytes.join('')
    }
    s.at(0, 3)
    s.store(0, 1)
    s.load(1)
    expect(look(0, 3)).toBe('110')
    const file = s.memfd(3)
    s.at(10, 3, RW, MAP_SHARED, file)
    s.at(20, 3, R, MAP_PRIVATE, file)
    s.store(11, 1)
    expect([look(10, 3), look(20, 3)]).toEqual(['010', '010'])
    // bytes before a hole have been stored already
    expect(core(s, 0, 4, Q + 100 * P)).toBe('-ENOMEM')
    expect(s.load(100)).toBe(1)
  })

  it('R-AS-111 huge pages: those mapped, not those that the file has beside them', () => {
    const s = new Space(release)
    hugetlbPool(s.k, H).resize(2)
    const pages = H / P
    s.at(0, 1)
    s.at(pages, 2 * pages, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB)
    s.store(2 * pages, 1)
    const look = (page: number): number => {
      expect(core(s, page, 2, Q)).toBe(0)
      return s.load(0)
    }
    expect([look(pages), look(2 * pages + 3)]).toEqual([0, 1])
    s.call(madvise(s.k, s.mm, Q + 2 * pages * P, H, MADV_DONTNEED))
    expect([s.mm.hugetlbPages, look(2 * pages + 3)]).toEqual([0, 0])
  })
})
