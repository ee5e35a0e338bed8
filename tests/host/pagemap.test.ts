import { describe, expect, test } from 'vitest'
import {
  KPF_ANON,
  KPF_ANON_EXCLUSIVE,
  KPF_COMPOUND_HEAD,
  KPF_COMPOUND_TAIL,
  KPF_KSM,
  KPF_THP,
  PM_FILE,
  PM_GUARD_REGION,
  PM_MMAP_EXCLUSIVE,
  PM_PRESENT,
  PM_SWAP,
  PM_UFFD_WP,
  hasKpf,
  pagemapBits,
  pagemapEntry,
  swapEntry,
} from '../../src/host/pagemap.ts'
import { PageRunBuilder, anonExclusive, pageAt, pageRunsIn } from '../../src/host/page-runs.ts'

const bitsOf = (topByte: number): number => pagemapBits(topByte * 2 ** 24)
const kpf = (...bits: number[]): number => bits.reduce((word, bit) => word + 2 ** bit, 0)

describe('words', () => {
  test('R-PM-1 every bit of the top is where the kernel puts it', () => {
    expect(bitsOf(0x80)).toBe(PM_PRESENT)
    expect(bitsOf(0x81)).toBe(PM_PRESENT | PM_MMAP_EXCLUSIVE)
    expect(bitsOf(0x83)).toBe(PM_PRESENT | PM_MMAP_EXCLUSIVE | PM_UFFD_WP)
    expect(pagemapBits(0x00800000)).toBe(1)
    expect(bitsOf(0x04)).toBe(PM_GUARD_REGION)
  })

  test('R-PM-1 the frame number uses 55 bits', () => {
    expect(pagemapEntry(0x00128d8b, 0x81000000)).toBe(0x128d8b)
    expect(pagemapEntry(0xffffffff, 0x8100_0001)).toBe(0x1ffffffff)
  })

  test('HOST vector 16: a private file page shows file and present, mapped by several', () => {
    expect(bitsOf(0xa0)).toBe(PM_PRESENT | PM_FILE)
  })

  test('HOST vector 17: a uffd-wp marker is not a swapped page', () => {
    const bits = bitsOf(0x42)
    expect(bits).toBe(PM_SWAP | PM_UFFD_WP)
    expect(swapEntry(bits, 0x3f)).toEqual({ kind: 'marker', uffdWp: true, poison: false, guard: false })
  })

  test.each([
    [
      'uffd-wp of [6.1]',
      PM_SWAP | PM_UFFD_WP,
      0x3e,
      { kind: 'marker', uffdWp: true, poison: false, guard: false },
    ],
    ['poison', PM_SWAP, 0x5f, { kind: 'marker', uffdWp: false, poison: true, guard: false }],
    ['guard', PM_SWAP, 0x9f, { kind: 'marker', uffdWp: false, poison: false, guard: true }],
    [
      'guard seen without privilege',
      PM_SWAP | PM_GUARD_REGION,
      0,
      { kind: 'marker', uffdWp: false, poison: false, guard: true },
    ],
    ['swap', PM_SWAP, 5 * 32, { kind: 'swap', type: 0, offset: 5 }],
    ['hidden', PM_SWAP, 0, { kind: 'hidden' }],
  ])('R-FLT-161 %s', (_, bits, entry, expected) => {
    expect(swapEntry(bits, entry)).toEqual(expected)
  })

  test('R-PM-5 flags above bit 31 are found', () => {
    expect(hasKpf(kpf(KPF_ANON_EXCLUSIVE), KPF_ANON_EXCLUSIVE)).toBe(true)
    expect(hasKpf(kpf(KPF_ANON_EXCLUSIVE), 33)).toBe(false)
    expect(hasKpf(2 ** 31, 31)).toBe(true)
  })
})

describe('runs', () => {
  const P = 4096
  function sample() {
    const builder = new PageRunBuilder()
    builder.cover(0, 10 * P)
    builder.cover(10 * P, 20 * P)
    for (let i = 0; i < 4; i++) builder.add(i * P, 258, 100 + i, -1, -1)
    builder.add(4 * P, 258, 50, -1, -1)
    builder.add(6 * P, 256, 7, -1, -1)
    builder.add(7 * P, 256, 7, -1, -1)
    builder.add(8 * P, 256, 7, -1, -1)
    builder.add(9 * P, 258, 8, -1, -1)
    return builder.pages
  }

  test('R-PM-1 equal neighbours with ascending or constant frames are one run', () => {
    const pages = sample()
    expect(
      [...pages.start.keys()].map((i) => [
        pages.start[i]! / P,
        pages.count[i],
        pages.entry[i],
        pages.step[i],
      ]),
    ).toEqual([
      [0, 4, 100, 1],
      [4, 1, 50, 0],
      [6, 3, 7, 0],
      [9, 1, 8, 0],
    ])
    expect(pages.covered).toEqual([{ start: 0, end: 20 * P }])
  })

  test('R-PM-1 clipping a run keeps its frame numbers', () => {
    expect(
      [...pageRunsIn(sample(), 2 * P, 5 * P)].map((run) => [run.start / P, run.count, run.entry]),
    ).toEqual([
      [2, 2, 102],
      [4, 1, 50],
    ])
    expect(
      [...pageRunsIn(sample(), 2 * P + 1, 2 * P + 2)].map((run) => [run.start / P, run.count, run.entry]),
    ).toEqual([[2, 1, 102]])
  })

  test('R-OUT-1 nothing there and not looked at are different answers', () => {
    expect(pageAt(sample(), 5 * P + 8)).toBe('none')
    expect(pageAt(sample(), 25 * P)).toBe('unknown')
    expect(pageAt(sample(), 7 * P + 1)).toMatchObject({ start: 7 * P, count: 1, entry: 7 })
  })
})

describe('AnonExclusive', () => {
  const run = (bits: number, kpageflags: number) => ({
    start: 0,
    count: 1,
    bits,
    entry: 1,
    step: 0,
    kpageflags,
    mapCount: 1,
  })
  const sole = PM_PRESENT | PM_MMAP_EXCLUSIVE

  test.each([
    ['not present', run(0, -1), 'no'],
    ['file page', run(sole | PM_FILE, -1), 'no'],
    ['mapped twice, unprivileged', run(PM_PRESENT, -1), 'no'],
    ['mapped once, unprivileged (R-FLT-162)', run(sole, -1), 'unknown'],
    ['small, bit 34', run(sole, kpf(KPF_ANON, KPF_ANON_EXCLUSIVE)), 'yes'],
    ['small, no bit 34', run(sole, kpf(KPF_ANON)), 'no'],
    ['KSM', run(sole, kpf(KPF_ANON, KPF_KSM, KPF_ANON_EXCLUSIVE)), 'no'],
    ['bit 34 of a page that is not anonymous', run(sole, kpf(KPF_ANON_EXCLUSIVE)), 'no'],
    [
      'head of a large folio',
      run(sole, kpf(KPF_ANON, KPF_THP, KPF_COMPOUND_HEAD, KPF_ANON_EXCLUSIVE)),
      'yes',
    ],
    [
      'tail of a large folio',
      run(sole, kpf(KPF_ANON, KPF_THP, KPF_COMPOUND_TAIL, KPF_ANON_EXCLUSIVE)),
      'unknown',
    ],
  ] as const)('R-PM-4 %s', (_, page, expected) => {
    expect(anonExclusive(page)).toBe(expected)
  })

  test('R-PM-4 tails of a folio mapped by one PMD share the head’s answer', () => {
    expect(
      anonExclusive(run(sole, kpf(KPF_ANON, KPF_THP, KPF_COMPOUND_TAIL, KPF_ANON_EXCLUSIVE)), true),
    ).toBe('yes')
  })
})
