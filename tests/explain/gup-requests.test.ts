/** gup:get and gup:pin with flags: verdict, errno, rule and page. Columns as in acceptance.test.ts. */
import { describe, expect, it } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { explain } from '../../src/explain/explain.ts'
import { answerTo, row, verdictOn } from './asking.ts'
import {
  A,
  RW,
  SHARED_RW,
  fileOn,
  hugetlb,
  memfd,
  snapshot,
  unprivileged,
  type MappingSpec,
} from './snapshots.ts'

const P = PAGE_SIZE
const readOnly = 'rd mr mw me ac'
const get = (access: 'read' | 'write', ...flags: string[]) => ({ name: 'gup:get', access, flags })
const pin = (access: 'read' | 'write', ...flags: string[]) => ({ name: 'gup:pin', access, flags })
const ext4Shared: MappingSpec = { backing: fileOn('ext4'), flags: SHARED_RW }

describe('gup:get', () => {
  it('R-GUP-16 a read of read-only memory works, a write is refused', () => {
    expect(row([{ flags: readOnly, look: [['anon', 4]] }], get('read'))).toBe('0 0 0 0 0')
    expect(row([{ flags: readOnly, look: [['anon', 4]] }], get('write'))).toBe('fa fa fa fa fa')
  })

  it('R-GUP-16 memory that can only be written cannot be read', () => {
    expect(row([{ flags: 'wr mr mw me ac', look: [['anon', 4]] }], get('read'))).toBe('fa fa fa fa fa')
  })

  it('R-GUP-16 FOLL_FORCE writes read-only private memory, not shared memory', () => {
    expect(row([{ flags: readOnly, look: [['anon', 4]] }], get('write', 'FOLL_FORCE'))).toBe('0 0 0 0 0')
    expect(
      row([{ backing: memfd, flags: 'rd sh mr mw me ms', look: [['file', 4]] }], get('write', 'FOLL_FORCE')),
    ).toBe('fa fa fa fa fa')
  })

  it('R-GUP-16 FOLL_FORCE on read-only private hugetlb works on 6.18 only', () => {
    const huge: MappingSpec = {
      pages: 512,
      backing: hugetlb('anonymous'),
      flags: 'rd mr mw me de ht',
      look: [['hugetlb']],
    }
    expect(row([huge], get('write', 'FOLL_FORCE'))).toBe('fa fa fa fa 0')
  })

  it('R-GUP-16 FOLL_ANON wants anonymous memory', () => {
    expect(row([{ backing: memfd, flags: SHARED_RW }], get('read', 'FOLL_ANON'))).toBe('fa fa fa fa fa')
    expect(row([{}], get('read', 'FOLL_ANON'))).toBe('0 0 0 0 0')
  })

  it('R-GUP-31 FOLL_NOFAULT takes what is there and stops at the first page that is not', () => {
    const seen = snapshot({ mappings: [{ look: [['anon', 2]] }] })
    for (const view of [seen, unprivileged(seen)]) {
      const verdict = verdictOn(view, '6.18', get('read', 'FOLL_NOFAULT'))
      expect(verdict).toMatchObject({ ok: false, errno: 'EFAULT', rule: 'R-GUP-31', page: 2 })
    }
  })

  it('R-GUP-20 a write to a tracked shared file is refused for long-term pins only', () => {
    expect(row([ext4Shared], get('write'))).toBe('0 0 0 0 0')
    expect(row([ext4Shared], pin('write'))).toBe('0 0 0 0 0')
    expect(row([ext4Shared], pin('write', 'FOLL_LONGTERM'))).toBe('0 0 fa fa fa')
    expect(row([ext4Shared], pin('read', 'FOLL_LONGTERM'))).toBe('0 0 0 0 0')
  })

  it('R-GUP-28 pages of a file on device memory: refused for long, not determined otherwise', () => {
    const pmem: MappingSpec = { backing: fileOn('ext4', 'yes'), flags: SHARED_RW, look: [['file', 4]] }
    expect(row([pmem], pin('write', 'FOLL_LONGTERM'))).toBe('op op op op op')
    expect(row([pmem], get('write'))).toBe('? ? ? ? ?')
    expect(verdictOn(snapshot({ mappings: [pmem] }), '6.18', get('write'))).toMatchObject({
      ok: null,
      rule: 'R-GUP-28',
    })
  })

  it('R-GUP-12 a range that ends in a hole gives the pages before it', () => {
    const seen = snapshot({ mappings: [{ pages: 2 }] })
    const verdict = verdictOn(seen, '6.18', { ...get('read'), pages: 4 })
    expect(verdict).toMatchObject({
      ok: false,
      errno: 'EFAULT',
      page: 2,
      address: `0x${(A + 2 * P).toString(16)}`,
    })
  })
})

describe('gup:pin', () => {
  it('R-GUP-26 a long-term read pin of a private file mapping copies the page first where the release does', () => {
    const mapped: MappingSpec = { backing: fileOn('ext4'), flags: RW, look: [['file', 4]] }
    const seen = { mappings: [mapped] }
    expect(answerTo(seen, pin('read', 'FOLL_LONGTERM'), '6.18').copied).toBe(4)
    expect(answerTo(seen, pin('read', 'FOLL_LONGTERM'), '6.1').copied).toBe(0)
    expect(answerTo(seen, pin('read'), '6.18').copied).toBe(0)
  })

  it('R-GUP-17 FOLL_SAME_FILE stops at the mapping of another file', () => {
    const seen = snapshot({
      mappings: [
        { pages: 2, backing: memfd, flags: SHARED_RW },
        { start: A + 2 * P, pages: 2, backing: memfd, flags: SHARED_RW },
      ],
    })
    expect(verdictOn(seen, 'gup-v3', pin('write', 'FOLL_SAME_FILE'))).toMatchObject({
      ok: false,
      errno: 'EFAULT',
      page: 2,
    })
    expect(verdictOn(seen, 'gup-v3', pin('write'))).toMatchObject({ ok: true })
  })

  it('R-GUP-16 a DAX mapping cannot be pinned for long; other pins of it are not modelled', () => {
    const mapping: MappingSpec = { backing: fileOn('xfs', 'yes'), flags: SHARED_RW, look: [['file', 4]] }
    expect(row([mapping], pin('write', 'FOLL_LONGTERM'))).toBe('op op op op op')
    expect(row([mapping], pin('write'))).toBe('? ? ? ? ?')
  })

  it('R-MNT-3 where DAX cannot be seen the verdict is given only if it does not matter', () => {
    const mapping: MappingSpec = { backing: fileOn('xfs', 'unknown'), flags: SHARED_RW }
    const longterm = answerTo({ mappings: [mapping] }, pin('write', 'FOLL_LONGTERM'))
    expect(longterm.verdict.ok).toBeNull()
    expect(longterm.verdict.undecided).toMatch(/EFAULT if .*no DAX.*EOPNOTSUPP if .*\(DAX\)/)
    const readOnlyOne = answerTo({ mappings: [{ ...mapping, flags: 'mr mw me' }] }, get('read'))
    expect(readOnlyOne.verdict).toMatchObject({ ok: false, errno: 'EFAULT' })
    expect(readOnlyOne.assumptions.join()).toMatch(/DAX.*the verdict does not depend on it/)
  })

  it('R-GUP-34 a missing page that a userfaultfd serves is waited for: undecided, with what it waits for', () => {
    const { verdict, hints } = answerTo({ mappings: [{ flags: `${RW} um`, look: [['anon', 2]] }] })
    expect(verdict).toMatchObject({ ok: null, rule: 'R-GUP-34' })
    expect(verdict.undecided).toMatch(/sleep until somebody serves it: userfaultfd/)
    expect(hints).toEqual([])
  })
})

describe('what it would do to the process', () => {
  it('R-URING-23 absent pages are made resident, shared ones copied', () => {
    expect(answerTo({ mappings: [{ look: [['anon', 1]] }] })).toMatchObject({
      faultedIn: 3,
      copied: 0,
      pinned: { pages: 4, hugePages: 0 },
    })
    expect(answerTo({ mappings: [{ look: [['anon-shared', 4]] }] })).toMatchObject({
      faultedIn: 0,
      copied: 4,
    })
    expect(
      answerTo({
        mappings: [
          {
            look: [
              ['anon', 2],
              ['swapped', 2],
            ],
          },
        ],
      }),
    ).toMatchObject({ faultedIn: 2, copied: 0 })
  })

  it('R-URING-22 pages are counted from the floor of the first byte to the ceiling of the last', () => {
    expect(answerTo({ mappings: [{}] }, { start: A + P - 1, length: 2 }).pinned).toEqual({
      pages: 2,
      hugePages: 0,
    })
  })

  it('R-URING-39 huge pages are told apart from small ones', () => {
    const two: MappingSpec = {
      pages: 1024,
      look: [
        ['thp', 512],
        ['anon', 512],
      ],
      anonHugePages: 512 * P,
    }
    expect(answerTo({ mappings: [two] }).pinned).toEqual({ pages: 1024, hugePages: 1 })
    expect(answerTo({ mappings: [{ pages: 512, look: [['thp-pages']] }] }).pinned).toEqual({
      pages: 512,
      hugePages: 1,
    })
  })

  it('R-URING-24 the refusal names page, address, mapping and every step', () => {
    const seen = {
      mappings: [
        { pages: 2 },
        {
          start: A + 2 * P,
          pages: 2,
          backing: { kind: 'secretmem' as const },
          flags: `${SHARED_RW} lo dd`,
          name: '/secretmem',
        },
      ],
    }
    const { verdict } = answerTo(seen)
    expect(verdict).toMatchObject({
      ok: false,
      errno: 'EFAULT',
      page: 2,
      address: `0x${(A + 2 * P).toString(16)}`,
      mapping: { start: `0x${(A + 2 * P).toString(16)}`, backing: 'secretmem', name: '/secretmem' },
    })
    expect(verdict.chain.map((step) => step.rule)).toEqual(['R-URING-24', verdict.rule])
    expect(verdict.rule).toMatch(/^R-GUP-16/)
  })
})

describe('R-GUP-5 flags that a release does not have', () => {
  const anonymous = snapshot({ mappings: [{ look: [['anon', 1]] }] })
  const asked = { range: { start: A, length: P }, request: 'gup:pin', flags: ['FOLL_SAME_FILE'] }

  it('one line says where the flag exists', () => {
    expect(() => explain({ ...asked, snapshot: anonymous, release: '6.18' })).toThrow(
      'FOLL_SAME_FILE does not exist on 6.18; name gup-v3 with --kernel',
    )
    expect(() =>
      explain({
        ...asked,
        snapshot: anonymous,
        release: '6.18',
        flags: ['FOLL_SAME_FILE', 'FOLL_HONOR_NUMA_FAULT'],
      }),
    ).toThrow('no release has them together')
  })

  it('the other releases are answered with "no such flag", not with a verdict', () => {
    const answer = explain({ ...asked, snapshot: anonymous, release: 'gup-v3' })
    expect(answer.verdict.ok).toBe(true)
    expect(answer.otherReleases.map(({ release, ok, rule }) => [release, ok, rule])).toEqual(
      ['6.1', '6.6', '6.12', '6.18'].map((release) => [release, null, 'R-GUP-5']),
    )
  })
})
