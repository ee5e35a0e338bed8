/** RLIMIT_MEMLOCK: the arithmetic, who is exempt, and what huge pages do to it. */
import { describe, expect, it } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { answerTo, code, verdictOn } from './asking.ts'
import {
  A,
  CAP_IPC_LOCK,
  SHARED_RW,
  hugetlb,
  memfd,
  snapshot,
  unprivileged,
  type MappingSpec,
  type SnapshotSpec,
} from './snapshots.ts'

const P = PAGE_SIZE
/** io_uring's budget */
const USER = {
  capability: 'not-effective',
  budget: 'user->locked_vm',
  liftedBy: 'CAP_IPC_LOCK',
} as const
/** pages a ring of 8 entries has (R-URING-8) */
const RING = 2
const small: MappingSpec = { pages: 4, look: [['anon', 4]] }
const on = (spec: SnapshotSpec, release: '6.12' | '6.18' = '6.18', request = {}) =>
  answerTo(spec, request, release)

describe('R-URING-42 the limit', () => {
  it('R-URING-42 reaching it exactly is allowed, one page more is not', () => {
    expect(on({ mappings: [small], memlock: 4 * P }, '6.12').verdict.ok).toBe(true)
    expect(on({ mappings: [small], memlock: 4 * P - 1 }, '6.12').verdict).toMatchObject({
      ok: false,
      errno: 'ENOMEM',
      rule: 'R-URING-42',
    })
    expect(on({ mappings: [small], memlock: (4 + RING) * P }).verdict.ok).toBe(true)
    expect(on({ mappings: [small], memlock: (4 + RING) * P - 1 }).verdict.ok).toBe(false)
  })

  it('R-URING-8 the ring itself is part of what is needed on 6.18', () => {
    expect(on({ mappings: [small], memlock: 64 * P }).memlock).toEqual({
      needed: 4 + RING,
      used: 0,
      limit: 64,
      exempt: false,
      ...USER,
    })
    expect(on({ mappings: [small], memlock: 64 * P }, '6.12').memlock).toEqual({
      needed: 4,
      used: 0,
      limit: 64,
      exempt: false,
      ...USER,
    })
    expect(on({ mappings: [small], memlock: 4 * P }).memlock).toEqual({
      needed: 4 + RING,
      used: 0,
      limit: 4,
      exempt: false,
      ...USER,
    })
  })

  it('R-URING-8 without room for the ring nothing is registered', () => {
    const answer = on({ mappings: [small], memlock: 0 })
    expect(answer.verdict).toMatchObject({ ok: false, errno: 'ENOMEM' })
    expect(answer.memlock).toMatchObject({ limit: 0, exempt: false })
    expect(answer.otherReleases.find((other) => other.release === '6.12')).toMatchObject({
      ok: false,
      errno: 'ENOMEM',
    })
  })

  it('R-ST-3 what the user has registered already counts, as a lower bound', () => {
    const spec: SnapshotSpec = { mappings: [small], memlock: 16 * P, registered: 10 * P }
    expect(on(spec).memlock).toEqual({ needed: 6, used: 10, limit: 16, exempt: false, ...USER })
    expect(on(spec).verdict.ok).toBe(true)
    expect(on({ ...spec, registered: 11 * P }).verdict).toMatchObject({ ok: false, errno: 'ENOMEM' })
  })

  it('R-URING-7 CAP_IPC_LOCK is exempt, in the initial user namespace only', () => {
    const spec: SnapshotSpec = { mappings: [small], memlock: 0, capEff: CAP_IPC_LOCK }
    expect(on(spec)).toMatchObject({ verdict: { ok: true }, memlock: { exempt: true } })
    expect(on({ ...spec, initialUserNamespace: false })).toMatchObject({
      verdict: { ok: false },
      memlock: { exempt: false },
    })
  })

  it('R-URING-42 a refusal before any charge shows no arithmetic', () => {
    expect(on({ mappings: [{ ...small, flags: 'rd mr mw me ac' }], memlock: 64 * P }).memlock).toBeNull()
    expect(on({ mappings: [small] }, '6.18', { name: 'gup:pin' }).memlock).toBeNull()
  })
})

describe('R-URING-44 huge pages are charged whole', () => {
  const huge: MappingSpec = {
    pages: 512,
    backing: hugetlb('anonymous'),
    flags: 'rd wr mr mw me de ht',
    look: [['hugetlb']],
  }

  it('R-URING-44 one small page of a hugetlb page charges 512', () => {
    expect(on({ mappings: [huge], memlock: 1024 * P }, '6.12', { pages: 1 }).memlock!.needed).toBe(512)
    expect(on({ mappings: [huge], memlock: 256 * P }, '6.12', { pages: 1 }).verdict).toMatchObject({
      ok: false,
      errno: 'ENOMEM',
    })
  })

  it('R-URING-44 one small page inside a transparent huge page too, with and without privileges', () => {
    for (const look of ['thp', 'thp-pages'] as const) {
      const seen = snapshot({ mappings: [{ pages: 512, look: [[look]] }], memlock: 600 * P })
      expect(answerTo(seen, { start: A + 7 * P, pages: 1 }).memlock!.needed, look).toBe(512 + RING)
    }
    const seen = unprivileged(snapshot({ mappings: [{ pages: 512, look: [['thp']] }], memlock: 256 * P }))
    expect(answerTo(seen, { start: A + 7 * P, pages: 1 }).verdict).toMatchObject({
      ok: false,
      errno: 'ENOMEM',
    })
  })

  it('R-URING-44 and one small page of a huge page of shared memory', () => {
    const seen = snapshot({
      mappings: [{ pages: 512, backing: memfd, flags: SHARED_RW, look: [['shmem-huge']] }],
      memlock: 600 * P,
    })
    for (const view of [seen, unprivileged(seen)]) {
      expect(answerTo(view, { start: A + 7 * P, pages: 1 }).memlock!.needed).toBe(512 + RING)
      expect(verdictOn(view, '6.12', { start: A + 7 * P, pages: 1 }).ok).toBe(true)
    }
  })

  it('R-PM-4 a page of a split huge page shared by fork is copied, and the copy is a small one', () => {
    const seen = snapshot({ mappings: [{ pages: 512, look: [['thp-pages-shared']] }], memlock: 256 * P })
    const answer = answerTo(seen, { start: A + 7 * P, pages: 1 })
    expect(answer).toMatchObject({ verdict: { ok: true }, copied: 1, memlock: { needed: 1 + RING } })
  })

  it('R-URING-44 a folio that spans two mappings is charged once', () => {
    const seen = snapshot({ mappings: [{ pages: 512, look: [['thp-pages']] }], memlock: null })
    const [whole] = seen.mappings
    const half = A + 256 * P
    const split = {
      ...seen,
      mappings: [
        { ...whole!, end: half },
        { ...whole!, start: half, flags: [...whole!.flags, 'ex'] },
      ],
    }
    expect(answerTo(split, { start: half - P, pages: 2 }, '6.12')).toMatchObject({
      verdict: { ok: true },
      memlock: { needed: 512 },
    })
  })
})

describe('R-OUT-1 what cannot be seen and decides is said', () => {
  /** two spans of 2 MiB, one of them huge: which one shows only with page frame numbers */
  const half: MappingSpec = {
    pages: 1024,
    look: [
      ['thp', 512],
      ['anon', 512],
    ],
  }
  const limited = (memlock: number) => snapshot({ mappings: [half], memlock: memlock * P })

  it('R-OUT-1 a limit between the two charges leaves the verdict undecided', () => {
    const { verdict, hints } = answerTo(unprivileged(limited(256)), { pages: 1 })
    expect(verdict.ok).toBeNull()
    expect(verdict.undecided).toMatch(
      /ENOMEM if 512 resident pages .* succeed if .* small pages.*page frame numbers are hidden/,
    )
    expect(hints).toEqual([])
  })

  it('R-OUT-1 a limit above both gives the verdict and both numbers', () => {
    const answer = answerTo(unprivileged(limited(1024)), { pages: 1 })
    expect(answer.verdict.ok).toBe(true)
    expect(answer.memlock!.needed).toBe(512 + RING)
    expect(answer.assumptions.join()).toMatch(/charges 514 pages .* 3 if/)
  })

  it('R-SMAPS-4 where smaps was not read either, nothing says what is huge', () => {
    const seen = unprivileged(limited(256))
    const derived = {
      ...seen,
      mappings: seen.mappings.map((m) => ({ ...m, usage: null, flagsFrom: 'derived' as const })),
    }
    expect(answerTo(derived, { pages: 1 }).verdict.ok).toBeNull()
  })

  it('R-URING-44 pages of unknown size are taken for small ones only where that is said', () => {
    const spec: SnapshotSpec = { mappings: [small], memlock: 64 * P }
    expect(answerTo(unprivileged(snapshot(spec))).assumptions.join()).toMatch(/taken for small ones/)
    expect(answerTo(unprivileged(snapshot({ ...spec, thp: 'never' }))).assumptions).toEqual([])
    expect(answerTo(snapshot(spec)).assumptions).toEqual([])
  })

  it('R-OUT-1 page frame numbers decide it', () => {
    expect(code(verdictOn(limited(256), '6.18', { pages: 1 }))).toBe('nomem')
    expect(code(verdictOn(limited(256), '6.18', { start: A + 512 * P, pages: 1 }))).toBe('0')
  })
})
