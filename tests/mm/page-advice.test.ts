import { describe, expect, it } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { mincore } from '../../src/mm/mincore.ts'
import { openAgain } from '../../src/mm/filemap.ts'
import {
  MADV_COLD,
  MADV_FREE,
  MADV_HUGEPAGE,
  MADV_MERGEABLE,
  MADV_PAGEOUT,
  MADV_WILLNEED,
  MAP_ANONYMOUS,
  MAP_DROPPABLE,
  MAP_PRIVATE,
  MAP_SHARED,
} from '../../src/mm/mman.ts'
import { type Leaf, PTE_ACCESSED, PTE_SWAP, pmdIndex, pteSlot } from '../../src/mm/page-table.ts'
import { PG_SWAPBACKED } from '../../src/memory/page-flags.ts'
import { loadUser } from '../../src/mm/user-access.ts'
import { ALL, H, NEWER, P, Q, RW, Space } from './address-space.ts'

const advise = (s: Space, page: number, pages: number, advice: number): number | string =>
  s.call(madvise(s.k, s.mm, Q + page * P, pages * P, advice))

/** mincore's bytes of pages of the area, as a word. */
function cached(s: Space, page: number, pages: number): string {
  const answer = s.at(5000, 1)
  expect(s.call(mincore(s.k, s.mm, Q + page * P, pages * P, answer))).toBe(0)
  const bytes = new Uint8Array(pages)
  s.task.run(loadUser(s.k, s.mm, answer, bytes))
  s.at(5000, 1, 0)
  return bytes.join('')
}

function entry(s: Space, page: number): { bits: number; pfn: number } {
  const address = Q + page * P
  const leaf = s.mm.pageTable.pmd(pmdIndex(address)) as Leaf
  return { bits: leaf.bits[pteSlot(address)]!, pfn: leaf.pfn[pteSlot(address)]! }
}

describe.each(ALL)('advice about pages on %s', (release: ReleaseName) => {
  it('R-AS-103 COLD: pages of this mapping alone no longer look used', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.store(0, 1)
    const file = s.memfd(1)
    s.at(10, 1, RW, MAP_SHARED, file)
    s.at(20, 1, RW, MAP_SHARED, file)
    s.store(10, 1)
    s.load(20)
    expect(advise(s, 0, 2, MADV_COLD)).toBe(0)
    expect(advise(s, 10, 1, MADV_COLD)).toBe(0)
    expect([0, 10].map((page) => entry(s, page).bits & PTE_ACCESSED)).toEqual([0, PTE_ACCESSED])
    expect(s.load(0)).toBe(1)
  })

  it('R-AS-103 WILLNEED reads a file into the cache and maps nothing', () => {
    const s = new Space(release)
    s.at(0, 6, RW, MAP_SHARED, s.file(4))
    expect(cached(s, 0, 6)).toBe('000000')
    expect(advise(s, 1, 5, MADV_WILLNEED)).toBe(0)
    expect(cached(s, 0, 6)).toBe('011100')
    expect(s.mm.rssFile).toBe(0)
    s.at(20, 2, RW, MAP_SHARED, s.memfd(2))
    expect(advise(s, 20, 2, MADV_WILLNEED)).toBe(0)
    expect(cached(s, 20, 2)).toBe('00')
  })

  it('R-AS-169 PAGEOUT without swap: anonymous pages stay', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.store(0, 7)
    expect(advise(s, 0, 2, MADV_PAGEOUT)).toBe(0)
    expect([s.load(0), s.mm.rssAnon]).toEqual([7, 1])
  })

  it('R-AS-169 PAGEOUT of a file: clean pages leave the cache, dirty ones only the page table', () => {
    const s = new Space(release)
    const file = s.file(4)
    s.at(0, 4, RW, MAP_SHARED, file)
    advise(s, 0, 4, MADV_WILLNEED)
    s.load(0)
    s.store(1, 5)
    expect(s.mm.rssFile).toBe(4)
    expect(advise(s, 0, 4, MADV_PAGEOUT)).toBe(0)
    expect([cached(s, 0, 4), s.mm.rssFile]).toEqual(['0100', 0])
    expect(s.load(1)).toBe(5)
  })

  it('R-AS-169 PAGEOUT of a memory file: what was never written goes', () => {
    const s = new Space(release)
    s.at(0, 2, RW, MAP_SHARED, s.memfd(2))
    s.store(0, 3)
    s.load(1)
    expect(advise(s, 0, 2, MADV_PAGEOUT)).toBe(0)
    expect([cached(s, 0, 2), s.mm.rssShmem]).toEqual(['10', 0])
    expect(s.load(0)).toBe(3)
  })

  it('R-AS-169 PAGEOUT leaves pages that others map, and private copies', () => {
    const s = new Space(release)
    const file = s.file(2)
    s.at(0, 2, RW, MAP_PRIVATE, file)
    s.at(10, 1, RW, MAP_SHARED, file)
    s.load(10)
    s.store(1, 9)
    s.load(0)
    expect(advise(s, 0, 2, MADV_PAGEOUT)).toBe(0)
    expect([s.mm.rssFile, s.mm.rssAnon]).toEqual([2, 1])
    expect(s.load(1)).toBe(9)
  })

  it("R-AS-169 PAGEOUT leaves somebody else's file alone", () => {
    const s = new Space(release)
    const file = s.file(2)
    file.mapping.owner = 0
    const mine = openAgain(s.k, file.mapping, '/data', { readable: true, writable: false })
    s.at(0, 2, 1, MAP_PRIVATE, mine)
    s.load(0)
    s.load(1)
    expect(advise(s, 0, 2, MADV_PAGEOUT)).toBe(0)
    expect(s.mm.rssFile).toBe(2)
    // nor does mincore say what is cached
    file.mapping.owner = s.task.uid
    expect(advise(s, 0, 2, MADV_PAGEOUT)).toBe(0)
    expect(cached(s, 0, 2)).toBe('00')
    file.mapping.owner = 0
    expect(cached(s, 0, 2)).toBe('11')
  })

  it('R-AS-170 FREE and reclaim: what was not written again is gone', () => {
    const s = new Space(release)
    s.at(0, 3)
    for (const page of [0, 1, 2]) s.store(page, 4)
    expect(advise(s, 0, 3, MADV_FREE)).toBe(0)
    expect(s.k.memory.frames.has(entry(s, 0).pfn, PG_SWAPBACKED)).toBe(false)
    expect(s.load(0)).toBe(4)
    s.store(1, 5)
    expect(advise(s, 0, 3, MADV_PAGEOUT)).toBe(0)
    expect(s.mm.rssAnon).toBe(1)
    expect([0, 1, 2].map((page) => s.load(page))).toEqual([0, 5, 0])
    expect(s.k.memory.frames.has(entry(s, 1).pfn, PG_SWAPBACKED)).toBe(true)
  })

  it('R-AS-170 FREE: a page that somebody holds is not dropped', () => {
    const s = new Space(release)
    s.at(0, 1)
    s.store(0, 4)
    const { pfn } = entry(s, 0)
    s.k.memory.get(pfn)
    advise(s, 0, 1, MADV_FREE)
    advise(s, 0, 1, MADV_PAGEOUT)
    s.k.memory.put(pfn)
    expect(s.load(0)).toBe(4)
  })

  it('R-AS-105 FREE drops what is swapped out', () => {
    const s = new Space(release)
    s.at(0, 1)
    s.store(0, 1)
    const leaf = s.mm.pageTable.leafFor(Q)
    const slot = pteSlot(Q)
    s.k.memory.put(leaf.pfn[slot]!)
    s.k.memory.frames.mapcount[leaf.pfn[slot]!] = 0
    leaf.set(slot, s.k.swap.allocate(Uint8Array.of(8)), PTE_SWAP)
    s.mm.rssAnon--
    s.mm.swapents++
    expect(advise(s, 0, 1, MADV_FREE)).toBe(0)
    expect([s.mm.swapents, s.k.swap.used, s.load(0)]).toEqual([0, 0, 0])
  })

  it('R-AS-170 a huge page freed lazily goes as one', () => {
    const s = new Space(release)
    const pages = H / P
    s.at(0, pages)
    advise(s, 0, pages, MADV_HUGEPAGE)
    s.store(3, 1)
    expect(s.mm.rssAnon).toBe(pages)
    expect(advise(s, 0, pages, MADV_FREE)).toBe(0)
    expect(s.load(3)).toBe(1)
    expect(advise(s, 0, pages, MADV_PAGEOUT)).toBe(0)
    expect([s.mm.rssAnon, s.load(3)]).toEqual([0, 0])
  })
})

describe.each(NEWER)('droppable memory on %s', (release) => {
  it('R-AS-22 is dropped by reclaim although it was written', () => {
    const s = new Space(release)
    s.at(0, 2, RW, MAP_ANONYMOUS | MAP_DROPPABLE)
    s.store(0, 6)
    expect(s.k.memory.frames.has(entry(s, 0).pfn, PG_SWAPBACKED)).toBe(false)
    expect(advise(s, 0, 2, MADV_PAGEOUT)).toBe(0)
    expect([s.mm.rssAnon, s.load(0)]).toEqual([0, 0])
  })

  it('R-AS-103 is never mergeable', () => {
    const s = new Space(release)
    s.at(0, 2, RW, MAP_ANONYMOUS | MAP_DROPPABLE)
    expect(advise(s, 0, 1, MADV_MERGEABLE)).toBe(0)
    expect(s.list()).toEqual(['0+2 rw-'])
  })
})
