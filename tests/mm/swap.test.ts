import { describe, expect, it } from 'vitest'
import { result } from '../support/kernel.ts'
import { PG_DIRTY, PG_SWAPBACKED, PG_SWAPCACHE } from '../../src/memory/page-flags.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_COLD, MADV_FREE, MADV_PAGEOUT, MADV_WILLNEED, PROT_READ } from '../../src/mm/mman.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { mlock } from '../../src/mm/mlock.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import { swapoff } from '../../src/mm/swapoff.ts'
import { punchHole, truncateFile } from '../../src/mm/truncate.ts'
import { regularFileKind } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { P, World } from './fault-support.ts'

/** A program on a machine with swap space. */
function withSwap(slots = 64, release: ReleaseName = '6.18'): World {
  const w = new World({ release })
  w.k.swap.swapon(slots)
  return w
}

function advise(w: World, at: number, pages: number, advice: number, mm: Mm = w.mm): number | string {
  return result(w.task.run(madvise(w.k, mm, at, pages * P, advice)))
}

function shown(w: World, at: number, pages: number, mm: Mm = w.mm): string[] {
  return Array.from({ length: pages }, (_, i) => w.shows(at + i * P, mm))
}

describe('MADV_PAGEOUT of anonymous memory', () => {
  it('FLT vector 61: unpinned → swap entry; pinned → same page; mlocked → EINVAL', () => {
    const w = withSwap()
    const at = w.map(3)
    for (let i = 0; i < 3; i++) w.store(at + i * P, 10 + i)
    const pinned = w.pfn(at + P)
    w.pin(pinned)
    expect(advise(w, at, 2, MADV_PAGEOUT)).toBe(0)
    expect(shown(w, at, 2)).toEqual(['swap', 'anon X w'])
    expect([w.pfn(at + P), w.mm.swapents, w.mm.rssAnon, w.k.swap.used]).toEqual([pinned, 1, 2, 1])
    expect(w.task.run(mlock(w.k, w.mm, at + 2 * P, P))).toBe(0)
    expect(advise(w, at + 2 * P, 1, MADV_PAGEOUT)).toBe('-EINVAL')
    expect(w.load(at)).toBe(10)
    expect([w.shows(at), w.k.swap.used]).toEqual(['anon X w', 0])
    w.drop(pinned)
  })

  it('GUP vector 58, R-GUP-75, R-GUP-78: a pinned page stays present and follows once it is unpinned', () => {
    const w = withSwap()
    const at = w.map(1)
    w.store(at, 1)
    const pfn = w.pfn(at)
    w.pin(pfn)
    advise(w, at, 1, MADV_PAGEOUT)
    expect(w.pfn(at)).toBe(pfn)
    w.drop(pfn)
    advise(w, at, 1, MADV_PAGEOUT)
    expect(w.shows(at)).toBe('swap')
  })

  it('FLT vector 65: GET ref, PAGEOUT, read: swap entry, then the same page with X', () => {
    const w = withSwap()
    const at = w.map(1)
    w.store(at, 7)
    const pfn = w.pfn(at)
    w.get(pfn)
    advise(w, at, 1, MADV_PAGEOUT)
    expect([w.shows(at), w.ref(pfn), w.mapped(pfn)]).toEqual(['swap', 2, 0])
    expect(w.k.memory.frames.has(pfn, PG_SWAPCACHE)).toBe(true)
    expect(w.load(at)).toBe(7)
    expect([w.shows(at), w.pfn(at), w.ref(pfn)]).toEqual(['anon X w', pfn, 3])
    w.drop(pfn)
  })

  it('R-FLT-70 the page that only the swap cache still knows goes with its last entry', () => {
    const w = withSwap()
    const at = w.map(1)
    w.store(at, 7)
    const pfn = w.pfn(at)
    w.get(pfn)
    advise(w, at, 1, MADV_PAGEOUT)
    w.zap(at, 1)
    expect([w.ref(pfn), w.k.swap.used]).toEqual([1, 0])
    w.drop(pfn)
  })

  it('R-FLT-90 pages that somebody else maps, and zero pages, are left alone', () => {
    const w = withSwap()
    const at = w.map(2)
    w.store(at, 1)
    w.load(at + P)
    const child = w.fork()
    advise(w, at, 2, MADV_PAGEOUT)
    expect(shown(w, at, 2)).toEqual(['anon', 'zero'])
    w.exit(child)
    advise(w, at, 2, MADV_PAGEOUT)
    expect(shown(w, at, 2)).toEqual(['swap', 'zero'])
    expect(advise(w, at, 2, MADV_COLD)).toBe(0)
  })

  it('R-FLT-93 without swap, or without room, pages stay', () => {
    const w = withSwap(0)
    const at = w.map(3)
    for (let i = 0; i < 3; i++) w.store(at + i * P, i)
    expect(advise(w, at, 3, MADV_PAGEOUT)).toBe(0)
    expect(shown(w, at, 3)).toEqual(['anon X w', 'anon X w', 'anon X w'])
    w.k.swap.swapon(2)
    expect(advise(w, at, 3, MADV_PAGEOUT)).toBe(0)
    expect(shown(w, at, 3)).toEqual(['swap', 'swap', 'anon X w'])
    w.zap(at, 1)
    expect(advise(w, at, 3, MADV_PAGEOUT)).toBe(0)
    expect(shown(w, at, 3)).toEqual(['none', 'swap', 'swap'])
  })

  it('R-FLT-11 the entry remembers X; a shared page comes back without', () => {
    const w = withSwap()
    const at = w.map(2)
    w.store(at, 1)
    advise(w, at, 1, MADV_PAGEOUT)
    const child = w.fork()
    w.store(at + P, 2)
    expect([w.k.swap.count(w.entry(at).pfn), w.mm.swapents, child.swapents]).toEqual([2, 1, 1])
    w.load(at, child)
    const a = w.pfn(at, child)
    expect(w.shows(at, child)).toBe('anon')
    w.store(at, 3)
    expect([w.shows(at), w.load(at), w.pfn(at) === a]).toEqual(['anon X w', 3, false])
    expect(w.load(at, child)).toBe(1)
    w.exit(child)
    expect(w.k.swap.used).toBe(0)
  })

  it('R-FLT-96 MADV_WILLNEED brings pages into the swap cache: a page without exclusive marker is not owned', () => {
    const w = withSwap()
    const at = w.map(3)
    for (let i = 0; i < 3; i++) w.store(at + i * P, 40 + i)
    advise(w, at, 3, MADV_PAGEOUT)
    w.exit(w.fork())
    w.load(at)
    expect(w.shows(at)).toBe('anon X w')
    expect(advise(w, at, 3, MADV_WILLNEED)).toBe(0)
    expect([shown(w, at, 3), w.k.swap.used]).toEqual([['anon X w', 'swap', 'swap'], 2])
    expect([w.load(at + P), w.shows(at + P)]).toEqual([41, 'anon'])
    w.store(at + 2 * P, 1)
    expect(w.shows(at + 2 * P)).toBe('anon X w')
    advise(w, at + P, 1, MADV_PAGEOUT)
    expect(w.load(at + P)).toBe(41)
    w.task.run(munmap(w.k, w.mm, at, 3 * P))
    expect(w.k.swap.used).toBe(0)
  })

  it('R-FLT-55 a swap entry stays what it is under mprotect', () => {
    const w = withSwap()
    const at = w.map(1)
    w.store(at, 5)
    w.task.run(mprotect(w.k, w.mm, at, P, PROT_READ))
    advise(w, at, 1, MADV_PAGEOUT)
    expect([w.load(at), w.shows(at)]).toEqual([5, 'anon X'])
  })

  it('R-FLT-94 swapoff brings every page back', () => {
    const w = withSwap()
    const at = w.map(2)
    w.store(at, 5)
    w.store(at + P, 6)
    const file = shmemFileSetup(w.k, '/memfd:f', 2 * P)
    const shared = w.map(2, { file, shared: true })
    w.store(shared, 7)
    advise(w, at, 1, MADV_PAGEOUT)
    const child = w.fork()
    advise(w, shared, 2, MADV_PAGEOUT)
    advise(w, at, 1, MADV_PAGEOUT)
    expect(w.task.run(swapoff(w.k))).toBe(0)
    expect([w.shows(at), w.load(at), w.k.swap.used, w.mm.swapents]).toEqual(['anon', 5, 0, 0])
    expect([w.shows(shared), w.load(shared)]).toEqual(['none', 7])
    advise(w, at, 1, MADV_PAGEOUT)
    w.exit(child)
    w.zap(at, 1)
    file.put()
  })
})

describe('MADV_FREE', () => {
  it('FLT vector 63: the page written again is kept, others read 0', () => {
    const w = withSwap()
    const at = w.map(4)
    for (let i = 0; i < 4; i++) w.store(at + i * P, 10 + i)
    expect(advise(w, at, 4, MADV_FREE)).toBe(0)
    expect([w.load(at), w.shows(at), w.mm.rssAnon]).toEqual([10, 'anon X w', 4])
    w.store(at + P, 99)
    advise(w, at, 4, MADV_PAGEOUT)
    expect(shown(w, at, 4)).toEqual(['none', 'anon X w', 'none', 'none'])
    expect([w.load(at), w.load(at + P)]).toEqual([0, 99])
    advise(w, at + P, 1, MADV_PAGEOUT)
    expect(w.shows(at + P)).toBe('swap')
  })

  it.each([
    ['6.12', true],
    ['6.18', false],
  ] as const)('FLT vector 64: write, pin, MADV_FREE, PAGEOUT: same page (%s)', (release, swapbacked) => {
    const w = withSwap(64, release)
    const at = w.map(1)
    w.store(at, 1)
    const pfn = w.pfn(at)
    w.pin(pfn)
    advise(w, at, 1, MADV_FREE)
    expect(w.k.memory.frames.has(pfn, PG_SWAPBACKED)).toBe(false)
    advise(w, at, 1, MADV_PAGEOUT)
    expect([w.pfn(at), w.load(at)]).toEqual([pfn, 1])
    expect(w.k.memory.frames.has(pfn, PG_SWAPBACKED)).toBe(swapbacked)
    w.drop(pfn)
  })

  it('R-FLT-73 swapped pages are gone at once', () => {
    const w = withSwap()
    const at = w.map(2)
    w.store(at, 1)
    w.store(at + P, 2)
    advise(w, at, 2, MADV_PAGEOUT)
    advise(w, at, 1, MADV_FREE)
    expect([shown(w, at, 2), w.mm.swapents, w.k.swap.used]).toEqual([['none', 'swap'], 1, 1])
    expect(w.load(at)).toBe(0)
  })

  it('R-FLT-73 a page shared with the child loses its data too, a dirty one does not', () => {
    const w = withSwap()
    const at = w.map(2)
    w.store(at, 1)
    w.store(at + P, 2)
    const [a, b] = [w.pfn(at), w.pfn(at + P)]
    w.k.memory.frames.set(b, PG_DIRTY)
    const child = w.fork()
    advise(w, at, 2, MADV_FREE, child)
    const { frames } = w.k.memory
    expect([frames.has(a, PG_SWAPBACKED), frames.has(b, PG_SWAPBACKED)]).toEqual([false, true])
    w.exit(child)
  })
})

describe('memory files', () => {
  it('R-FLT-95 a swapped page leaves no entry; the file brings it back', () => {
    const w = withSwap()
    const file = shmemFileSetup(w.k, '/memfd:f', 4 * P)
    const at = w.map(4, { file, shared: true })
    w.store(at, 1)
    w.load(at + P)
    expect(advise(w, at, 4, MADV_PAGEOUT)).toBe(0)
    expect(shown(w, at, 4)).toEqual(['none', 'none', 'none', 'none'])
    // a page that was only read is clean: it is a hole again
    expect([w.k.swap.used, file.mapping.swapped.size, file.mapping.pages.count, w.mm.swapents]).toEqual([
      1, 1, 0, 0,
    ])
    expect([w.load(at), w.load(at + P), w.k.swap.used]).toEqual([1, 0, 0])
    file.put()
  })

  it('R-FLT-92 a pinned page loses its entry, not its place', () => {
    const w = withSwap()
    const file = shmemFileSetup(w.k, '/memfd:f', P)
    const at = w.map(1, { file, shared: true })
    w.store(at, 1)
    const pfn = w.pfn(at)
    w.pin(pfn)
    advise(w, at, 1, MADV_PAGEOUT)
    expect([w.shows(at), w.k.swap.used]).toEqual(['none', 0])
    w.load(at)
    expect(w.pfn(at)).toBe(pfn)
    w.drop(pfn)
    file.put()
  })

  it('R-FLT-74 truncation and holes give slots back, the partial page comes in', () => {
    const w = withSwap()
    const file = shmemFileSetup(w.k, '/memfd:f', 4 * P)
    const at = w.map(4, { file, shared: true })
    for (let i = 0; i < 4; i++) w.store(at + i * P + 100, 1 + i)
    advise(w, at, 4, MADV_PAGEOUT)
    expect(w.k.swap.used).toBe(4)
    w.task.run(punchHole(w.k, file.mapping, 0, P))
    expect(w.k.swap.used).toBe(3)
    w.task.run(truncateFile(w.k, file.mapping, 2 * P + 50))
    expect([w.k.swap.used, file.mapping.pages.count]).toEqual([1, 1])
    w.task.run(truncateFile(w.k, file.mapping, 4 * P))
    expect([w.load(at + 100), w.load(at + P + 100), w.load(at + 2 * P + 100)]).toEqual([0, 2, 0])
    file.put()
  })

  it('R-FLT-91 pages of a disk file are dropped clean, kept dirty, unmapped always', () => {
    const w = withSwap()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: 2 * P })
    const at = w.map(2, { file, shared: true })
    w.load(at)
    w.store(at + P, 1)
    advise(w, at, 2, MADV_PAGEOUT)
    expect([shown(w, at, 2), file.mapping.pages.count]).toEqual([['none', 'none'], 1])
    file.put()
  })
})
