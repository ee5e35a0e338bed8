import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES, type ReleaseName } from '../../src/base/release.ts'
import { coalesce } from '../../src/io_uring/coalesce.ts'
import { MREMAP_FIXED, MREMAP_MAYMOVE, MAP_SHARED } from '../../src/mm/mman.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { PageArray } from '../../src/mm/page-array.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import { H, P, RW, Rig } from './rig.ts'

/** pins given back at registration, by release */
type Dropped = Readonly<Record<ReleaseName, number>>

interface Case {
  readonly what: string
  readonly pages: number
  readonly dropped: Dropped
  readonly build: (rig: Rig) => number
}

const dropped = (v61: number, one: number, folios: number): Dropped => ({
  '6.1': v61,
  'gup-v3': one,
  '6.6': one,
  '6.12': folios,
  '6.18': folios,
})

function huge(rig: Rig, pages: number): number {
  rig.hugePool(pages)
  return rig.hugetlb(pages)
}

const cases: readonly Case[] = [
  { what: 'one small page', pages: 1, dropped: dropped(0, 0, 0), build: (rig) => rig.anon(1) },
  { what: 'small pages', pages: 6, dropped: dropped(0, 0, 0), build: (rig) => rig.anon(6) },
  {
    what: 'one page of a huge page',
    pages: 1,
    dropped: dropped(0, 0, 0),
    build: (rig) => huge(rig, 1) + 5 * P,
  },
  {
    what: 'five pages at +3 of a huge page',
    pages: 5,
    dropped: dropped(0, 4, 4),
    build: (rig) => huge(rig, 1) + 3 * P,
  },
  {
    what: 'two pages across a huge page border',
    pages: 2,
    dropped: dropped(0, 0, 0),
    build: (rig) => huge(rig, 2) + H - P,
  },
  { what: 'two whole huge pages', pages: 1024, dropped: dropped(0, 0, 1022), build: (rig) => huge(rig, 2) },
  {
    what: 'the end of THP A and the start of THP B',
    pages: 6,
    dropped: dropped(0, 0, 4),
    build: (rig) => rig.thp(2) + H - 3 * P,
  },
  { what: 'a whole THP', pages: 512, dropped: dropped(0, 511, 511), build: (rig) => rig.thp(1) },
]

describe.each(RELEASE_NAMES)('%s', (release) => {
  it.each(cases)('R-URING-39, R-HUGE-5 $what', ({ pages, dropped: drops, build }) => {
    const rig = new Rig(release)
    const address = build(rig)
    expect(rig.buffer(address, pages * P)).toMatchObject({ result: 0, acq: pages, rel: drops[release] })
    expect(rig.unregister()).toMatchObject({ rel: pages - drops[release] })
    expect(rig.k.warnings).toEqual([])
  })

  it('R-URING-39 a large folio after small pages is not joined', () => {
    const rig = new Rig(release)
    const t = rig.thp(1)
    const small = rig.anon(2, RW, t - 2 * P)
    expect(rig.buffer(small, 4 * P)).toMatchObject({ result: 0, acq: 4, rel: 0 })
  })

  it('R-URING-40 a pin on a large folio keeps it after munmap', () => {
    const rig = new Rig(release)
    const t = rig.thp(1)
    expect(rig.buffer(t, H).result).toBe(0)
    const { frames } = rig.k.memory
    const head = rig.ring.buffers!.buffer(0)!.pfnAt(frames, 0)
    rig.unmap(t, 512)
    expect(frames.refcount[head]).toBe(release === '6.1' ? 512 : 1)
    rig.unregister()
    expect(frames.refcount[head]).toBe(0)
  })

  it('R-URING-38 pages of one folio that do not follow one another: joined by the base of the series only', () => {
    const rig = new Rig(release)
    // one page of a memfd, three times side by side: all pages lie in one folio
    const memfd = rig.memfd(1)
    const a = rig.map(1, RW, MAP_SHARED, memfd, rig.place(3))
    rig.map(1, RW, MAP_SHARED, memfd, a + P)
    rig.mapped(memfd, 1, RW, MAP_SHARED, a + 2 * P)
    const outcome = rig.buffer(a, 3 * P)
    const buffer = rig.ring.buffers!.buffer(0)!
    if (release === 'gup-v3') {
      expect(outcome).toEqual({ result: 0, acq: 3, rel: 2, vmPin: 1 })
      expect(rig.k.warnings.map(({ id }) => id)).toEqual(['io-uring-coalesce-order'])
      expect(() => buffer.pfnAt(rig.k.memory.frames, 1)).toThrow(/Unmodelled: .*R-URING-38/)
    } else {
      expect(outcome).toEqual({ result: 0, acq: 3, rel: 0, vmPin: 3 })
      expect(rig.k.warnings).toEqual([])
      expect(buffer.pfnAt(rig.k.memory.frames, 2)).toBe(buffer.pfnAt(rig.k.memory.frames, 0))
    }
    expect(rig.unregister().result).toBe(0)
    expect(rig.pinned).toBe(0)
  })

  it('R-URING-39 two pages of one THP that lie apart, made neighbours by mremap', () => {
    const rig = new Rig(release)
    const t = rig.thp(1)
    const { frames } = rig.k.memory
    rig.task.run(mremap(rig.k, rig.task.space, t + 9 * P, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, t + 3 * P))
    const outcome = rig.buffer(t + 2 * P, 2 * P)
    expect(outcome).toMatchObject({ result: 0, acq: 2, rel: release === 'gup-v3' ? 1 : 0 })
    if (release === 'gup-v3') return
    const buffer = rig.ring.buffers!.buffer(0)!
    expect(buffer.pfnAt(frames, 1) - buffer.pfnAt(frames, 0)).toBe(7)
  })
})

/** Pages of hand-made folios A, B (512 pages) and C (16 pages), pinned once each. */
function pinned(rig: Rig, names: readonly (readonly ['A' | 'B' | 'C', number])[]): PageArray {
  const { memory } = rig.k
  const heads = new Map<string, number>()
  const pages = new PageArray(names.length)
  names.forEach(([folio, index], i) => {
    let head = heads.get(folio)
    if (head === undefined) {
      head = memory.allocFolio(folio === 'C' ? 4 : 9, { movable: false })
      heads.set(folio, head)
    }
    memory.get(head)
    memory.frames.addPincount(head, 1)
    rig.k.pinAcquired++
    pages.pfns[i] = head + index
  })
  for (const head of heads.values()) memory.put(head)
  return pages
}

describe.each(['6.12', '6.18'] as const)('%s', (release) => {
  it.each([
    {
      what: 'from inside A over its end into B',
      names: [
        ['A', 510],
        ['A', 511],
        ['B', 0],
      ],
      segments: 2,
    },
    {
      what: 'A left before its end',
      names: [
        ['A', 0],
        ['A', 1],
        ['B', 0],
      ],
      segments: 3,
    },
    {
      what: 'B entered after its start',
      names: [
        ['A', 510],
        ['A', 511],
        ['B', 1],
      ],
      segments: 3,
    },
    {
      what: 'C is smaller than A',
      names: [
        ['A', 510],
        ['A', 511],
        ['C', 0],
      ],
      segments: 3,
    },
    {
      what: 'A is larger than C',
      names: [
        ['C', 14],
        ['C', 15],
        ['A', 0],
      ],
      segments: 3,
    },
    {
      what: 'A after itself, as two mappings in a row show it',
      names: [
        ['A', 510],
        ['A', 511],
        ['A', 0],
        ['A', 1],
      ],
      segments: 2,
    },
    {
      what: 'backwards inside A',
      names: [
        ['A', 1],
        ['A', 0],
      ],
      segments: 2,
    },
  ] as const)('R-URING-39, R-HUGE-5 $what', ({ names, segments }) => {
    const rig = new Rig(release)
    const joined = coalesce(rig.k, pinned(rig, names), names.length)
    expect(joined.nrPins).toBe(segments)
    expect(rig.pinned).toBe(segments)
    expect(joined.folioShift).toBe(segments < names.length ? 21 : 12)
    unpinUserPages(rig.k, joined.pages, joined.nrPins)
  })
})
