import { describe, expect, it } from 'vitest'
import { PMD_SIZE } from '../../src/base/units.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { PG_KSM } from '../../src/memory/page-flags.ts'
import { FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { getUserPagesFast, PageArray, pinUserPagesFast } from '../../src/mm/gup.ts'
import { ksmScan } from '../../src/mm/ksm.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_HUGEPAGE,
  MADV_MERGEABLE,
  MADV_PAGEOUT,
  MADV_UNMERGEABLE,
  MREMAP_MAYMOVE,
  MREMAP_FIXED,
} from '../../src/mm/mman.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { unpinUserPages, putPages } from '../../src/mm/unpin.ts'
import { P, World } from './fault-support.ts'

/** Pages with the same content in a mergeable mapping. */
function equalPages(pages: number, release: ReleaseName = '6.18'): { w: World; at: number } {
  const w = new World({ release })
  const at = w.map(pages)
  for (let i = 0; i < pages; i++) w.store(at + i * P, 7)
  advise(w, at, pages, MADV_MERGEABLE)
  return { w, at }
}

function advise(w: World, at: number, pages: number, advice: number, mm: Mm = w.mm): void {
  expect(w.task.run(madvise(w.k, mm, at, pages * P, advice))).toBe(0)
}

function scan(w: World, scans = 3): void {
  w.task.run(ksmScan(w.k, scans))
}

function pfns(w: World, at: number, pages: number, mm: Mm = w.mm): number[] {
  return Array.from({ length: pages }, (_, i) => w.pfn(at + i * P, mm))
}

const isMerged = (w: World, at: number, mm: Mm = w.mm): boolean =>
  w.k.memory.frames.has(w.pfn(at, mm), PG_KSM)

/** One page, got and let go of at once. */
function gup(w: World, at: number, pin: boolean, flags: number): number {
  const pages = new PageArray(1)
  const { k } = w
  w.task.mm = w.mm
  expect(
    w.task.run(pin ? pinUserPagesFast(k, at, 1, flags, pages) : getUserPagesFast(k, at, 1, flags, pages)),
  ).toBe(1)
  const pfn = pages.pfns[0]!
  if (pin) unpinUserPages(k, pages, 1)
  else putPages(k, pages, 1)
  return pfn
}

describe('KSM', () => {
  it('FLT vector 59, R-FLT-130: 8 equal pages, one pinned: 7 share one page, the pinned one keeps X', () => {
    const { w, at } = equalPages(8)
    const pinned = w.pfn(at + 5 * P)
    w.pin(pinned)
    scan(w)
    const all = pfns(w, at, 8)
    const shared = all[0]!
    expect(all.map((pfn) => pfn === shared)).toEqual([true, true, true, true, true, false, true, true])
    expect([w.mapped(shared), w.ref(shared), all[5], w.shows(at + 5 * P)]).toEqual([7, 7, pinned, 'anon X w'])
    expect([w.mm.rssAnon, w.shows(at)]).toEqual([8, 'anon'])
    w.drop(pinned)
    scan(w)
    expect(w.mapped(shared)).toBe(8)
  })

  it('FLT vector 60, R-FLT-12: a pin of a merged page, for reading too, gets a page of its own; FOLL_GET does not', () => {
    const { w, at } = equalPages(4)
    scan(w)
    const shared = w.pfn(at)
    expect(gup(w, at, false, 0)).toBe(shared)
    expect([w.pfn(at), w.mapped(shared)]).toEqual([shared, 4])
    expect(gup(w, at, true, 0)).toBe(w.pfn(at))
    expect([w.pfn(at) === shared, w.shows(at)]).toEqual([false, 'anon X'])
    expect(gup(w, at + P, true, FOLL_WRITE)).toBe(w.pfn(at + P))
    expect([w.pfn(at + P) === shared, w.shows(at + P), w.mapped(shared)]).toEqual([false, 'anon X w', 2])
  })

  it('R-FLT-132 pages must have been seen unchanged once, and be equal', () => {
    const { w, at } = equalPages(3)
    w.store(at + 2 * P + 50, 1)
    scan(w, 1)
    expect(isMerged(w, at)).toBe(false)
    scan(w, 1)
    expect([isMerged(w, at), isMerged(w, at + P), isMerged(w, at + 2 * P)]).toEqual([true, true, false])
  })

  it('R-FLT-132 a plain reference on the first of equal pages keeps all of them apart', () => {
    const { w, at } = equalPages(3)
    const held = w.pfn(at)
    w.get(held)
    scan(w)
    expect(pfns(w, at, 3).includes(held)).toBe(true)
    // the first page is the one others are compared with, and it cannot be merged
    expect([isMerged(w, at), isMerged(w, at + P), isMerged(w, at + 2 * P)]).toEqual([false, false, false])
    w.drop(held)
    scan(w)
    expect(w.mapped(w.pfn(at))).toBe(3)
  })

  it('R-FLT-132 a page whose merge is undone while a child shares it stays what it has become', () => {
    const { w, at } = equalPages(2)
    const [held, shared] = pfns(w, at, 2) as [number, number]
    w.get(held)
    const child = w.fork()
    expect(w.pfn(at + P, child)).toBe(shared)
    scan(w)
    // the parent's place got a new page when the first one could not join; the child still shows the old one
    expect([w.pfn(at + P) === shared, isMerged(w, at + P)]).toEqual([false, false])
    expect([w.pfn(at + P, child), isMerged(w, at + P, child)]).toEqual([shared, true])
    w.drop(held)
    scan(w)
    expect([w.pfn(at + P, child), w.mapped(shared)]).toEqual([shared, 1])
    w.exit(child)
  })

  it('R-FLT-131 a write copies, even for the last one who has it', () => {
    const { w, at } = equalPages(2)
    scan(w)
    const shared = w.pfn(at)
    w.store(at, 8)
    expect([w.pfn(at) === shared, w.shows(at), w.load(at + P)]).toEqual([false, 'anon X w', 7])
    expect([w.mapped(shared), w.faults(at + P, true), w.pfn(at + P) === shared]).toEqual([1, 1, false])
  })

  it('R-FLT-131 fork shares merged pages; a child is scanned as its parent is', () => {
    const { w, at } = equalPages(2)
    scan(w)
    const shared = w.pfn(at)
    const child = w.fork()
    expect([w.mapped(shared), isMerged(w, at, child)]).toEqual([4, true])
    w.store(at, 9, child)
    w.store(at, 9)
    scan(w)
    expect([w.pfn(at) === w.pfn(at, child), isMerged(w, at)]).toEqual([true, true])
    w.exit(child)
    expect(w.mapped(shared)).toBe(1)
  })

  it('R-FLT-132 a page shared by fork is no twin of itself', () => {
    const { w, at } = equalPages(1)
    const child = w.fork()
    scan(w)
    expect(isMerged(w, at)).toBe(false)
    w.exit(child)
  })

  it.each([
    ['6.1', 'anon X w'],
    ['6.12', 'anon X'],
    ['6.18', 'anon X'],
  ] as const)('R-KSM-1 MADV_UNMERGEABLE gives every place its own page (%s: %s)', (release, shows) => {
    const { w, at } = equalPages(4, release)
    scan(w)
    advise(w, at, 2, MADV_UNMERGEABLE)
    expect([0, 1, 2].map((i) => isMerged(w, at + i * P))).toEqual([false, false, true])
    expect([w.shows(at), w.load(at)]).toEqual([shows, 7])
    advise(w, at, 4, MADV_UNMERGEABLE)
    scan(w)
    expect(new Set(pfns(w, at, 4)).size).toBe(4)
    expect(w.k.ksm.mms.size).toBe(0)
  })

  it('R-AS-72 mremap unmerges what it moves', () => {
    const { w, at } = equalPages(2)
    scan(w)
    const to = at + 64 * P
    expect(w.task.run(mremap(w.k, w.mm, at, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, to))).toBe(to)
    expect([isMerged(w, to), w.shows(to), isMerged(w, at + P)]).toEqual([false, 'anon X', true])
  })

  it('R-FLT-52 a merged page that only one place shows is swapped out and comes back as an ordinary one', () => {
    const { w, at } = equalPages(2)
    w.k.swap.swapon(8)
    scan(w)
    advise(w, at, 2, MADV_PAGEOUT)
    expect(w.shows(at)).toBe('anon')
    w.store(at, 1)
    advise(w, at, 2, MADV_PAGEOUT)
    expect([w.shows(at), w.shows(at + P)]).toEqual(['swap', 'swap'])
    expect([w.load(at + P), w.shows(at + P), isMerged(w, at + P)]).toEqual([7, 'anon X w', false])
  })

  it('R-FLT-52 found again in the swap cache it is still merged, and not owned', () => {
    const { w, at } = equalPages(2)
    w.k.swap.swapon(8)
    scan(w)
    const pfn = w.pfn(at + P)
    w.get(pfn)
    w.store(at, 1)
    advise(w, at, 2, MADV_PAGEOUT)
    expect([w.load(at + P), w.pfn(at + P), isMerged(w, at + P), w.shows(at + P)]).toEqual([
      7,
      pfn,
      true,
      'anon',
    ])
    w.drop(pfn)
  })

  it('R-HUGE-26 pages of a huge page are merged after it has been split', () => {
    const w = new World({ release: '6.18' })
    const at = 0x7f0000000000
    w.mapFixed(at, 512)
    advise(w, at, 512, MADV_HUGEPAGE)
    w.store(at, 1)
    for (let page = 1; page < 512; page++) w.store(at + page * P, 2)
    const head = w.pfn(at)
    expect(w.k.memory.frames.isLarge(head)).toBe(true)
    advise(w, at, 512, MADV_MERGEABLE)
    scan(w)
    expect(w.k.memory.frames.isLarge(head)).toBe(false)
    expect([w.mapped(w.pfn(at + P)), w.mm.rssAnon, w.load(at)]).toEqual([511, PMD_SIZE / P, 1])
  })

  it('R-HUGE-62 pages of zeros of a huge page become the zero page, not a merged one', () => {
    const w = new World({ release: '6.18' })
    const at = 0x7f0000000000
    w.mapFixed(at, 512)
    advise(w, at, 512, MADV_HUGEPAGE)
    w.store(at, 1)
    advise(w, at, 512, MADV_MERGEABLE)
    scan(w)
    expect([w.pfn(at + P), w.mm.rssAnon, w.load(at)]).toEqual([w.k.zeroPfn, 1, 1])
  })
})
