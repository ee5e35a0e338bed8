/** The acceptance matrix of io-uring.md §6, asked of snapshots: columns 6.1, gup-v3, 6.6, 6.12, 6.18. */
import { describe, expect, it } from 'vitest'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import type { Backing } from '../../src/host/snapshot.ts'
import { row, type Request } from './asking.ts'
import {
  A,
  RW,
  SHARED_RW,
  anonymous,
  fileOn,
  hugetlb,
  memfd,
  type MappingSpec,
  type PageLook,
  type SnapshotSpec,
} from './snapshots.ts'

const P = PAGE_SIZE
const stack: Backing = { kind: 'stack' }
const tmpfs: Backing = { kind: 'shmem', source: 'tmpfs', label: '/t' }
const sharedAnonymous: Backing = { kind: 'shmem', source: 'shared-anonymous', label: '' }
const sysv: Backing = { kind: 'sysv', key: 0, shmid: 7 }
const devZero: Backing = { kind: 'dev-zero-private' }
const driver: Backing = { kind: 'driver', path: '/dev/thing' }
const unknown: Backing = { kind: 'unknown', why: 'no mount of the process has device 00:2a' }
const HUGE_RW = 'rd wr mr mw me de ht'
const HUGE_SHARED = 'rd wr sh mr mw me ms de ht'
const touched: readonly (readonly [PageLook, number])[] = [['anon', 4]]
const fileSeen: readonly (readonly [PageLook, number])[] = [['file', 4]]

const one = (spec: MappingSpec): readonly MappingSpec[] => [spec]
const file = (fstype: string, flags: string, look: MappingSpec['look'] = []): readonly MappingSpec[] =>
  one({ backing: fileOn(fstype), flags, look })

const rows: readonly (readonly [string, SnapshotSpec | readonly MappingSpec[], string, Request?])[] = [
  ['private anonymous rw, untouched', one({}), '0 0 0 0 0'],
  ['private anonymous rw, touched', one({ look: touched }), '0 0 0 0 0'],
  ['heap', one({ backing: { kind: 'heap' }, look: touched }), '0 0 0 0 0'],
  ['stack', one({ backing: stack, flags: `${RW} gd`, look: touched }), '0 0 0 0 0'],
  ['anonymous PROT_WRITE only', one({ flags: 'wr mr mw me ac' }), '0 0 0 0 0'],
  ['shared anonymous', one({ backing: sharedAnonymous, flags: SHARED_RW }), '0 0 0 0 0'],
  ['memfd shared', one({ backing: memfd, flags: SHARED_RW, look: fileSeen }), '0 0 0 0 0'],
  ['memfd private', one({ backing: memfd, look: fileSeen }), '0 0 0 0 0'],
  ['tmpfs file shared', one({ backing: tmpfs, flags: SHARED_RW }), '0 0 0 0 0'],
  ['tmpfs file private', one({ backing: tmpfs }), '0 0 0 0 0'],
  ['SysV shm', one({ backing: sysv, flags: SHARED_RW, look: fileSeen }), 'op op 0 0 0'],
  [
    'hugetlb private, touched',
    one({ pages: 512, backing: hugetlb('anonymous'), flags: HUGE_RW, look: [['hugetlb']] }),
    '0 0 0 0 0',
  ],
  [
    'hugetlb private, untouched',
    one({ pages: 512, backing: hugetlb('anonymous'), flags: HUGE_RW }),
    '0 0 0 0 0',
  ],
  [
    'hugetlb shared',
    one({ pages: 512, backing: hugetlb('anonymous'), flags: HUGE_SHARED, look: [['hugetlb-file']] }),
    '0 0 0 0 0',
  ],
  [
    'hugetlb memfd',
    one({ pages: 1024, backing: hugetlb('memfd'), flags: HUGE_SHARED, look: [['hugetlb-file']] }),
    '0 0 0 0 0',
  ],
  ['hugetlbfs file private', one({ pages: 512, backing: hugetlb('file'), flags: HUGE_RW }), '0 0 0 0 0'],
  ['SysV hugetlb', one({ pages: 512, backing: hugetlb('sysv'), flags: HUGE_SHARED }), '0 0 0 0 0'],
  [
    'hugetlb MAP_NORESERVE, pool empty',
    one({ pages: 512, backing: hugetlb('anonymous'), flags: `${HUGE_RW} nr` }),
    'fa fa fa fa fa',
  ],
  [
    'hugetlb MAP_NORESERVE, none left for the second page',
    one({
      pages: 1024,
      backing: hugetlb('anonymous'),
      flags: `${HUGE_SHARED} nr`,
      look: [['hugetlb-file', 512]],
    }),
    'fa fa fa fa fa',
  ],
  [
    'hugetlb MAP_NORESERVE, one spare page',
    {
      mappings: one({ pages: 512, backing: hugetlb('anonymous'), flags: `${HUGE_RW} nr` }),
      pool: { total: 3, free: 3, reserved: 2 },
    },
    '0 0 0 0 0',
  ],
  [
    'hugetlb MAP_NORESERVE, the pool may grow',
    {
      mappings: one({ pages: 512, backing: hugetlb('anonymous'), flags: `${HUGE_RW} nr` }),
      pool: { overcommit: 1 },
    },
    '0 0 0 0 0',
  ],
  [
    'hugetlb of 1 GiB pages',
    one({ pages: 512, backing: hugetlb('anonymous', 2 ** 30), flags: HUGE_RW, look: [['hugetlb']] }),
    '? ? ? ? ?',
  ],
  ['transparent huge page', one({ pages: 512, look: [['thp']] }), '0 0 0 0 0'],
  ['transparent huge page mapped by ptes', one({ pages: 512, look: [['thp-pages']] }), '0 0 0 0 0'],
  ['private /dev/zero', one({ backing: devZero, look: touched }), 'op op 0 0 0'],
  ['ext4 private rw', file('ext4', RW), 'op op 0 0 0'],
  ['ext4 private rw, read before', file('ext4', RW, fileSeen), 'op op 0 0 0'],
  ['ext4 shared rw, untouched', file('ext4', SHARED_RW), 'op op fa fa fa'],
  ['ext4 shared rw, touched', file('ext4', SHARED_RW, fileSeen), 'op op fa fa fa'],
  ['xfs shared rw', file('xfs', SHARED_RW), 'op op fa fa fa'],
  ['btrfs private rw', file('btrfs', RW), 'op op 0 0 0'],
  ['ramfs shared rw', file('ramfs', SHARED_RW), 'op op fa fa fa'],
  ['ramfs private rw', file('ramfs', RW), 'op op 0 0 0'],
  ['overlay shared rw', file('overlay', SHARED_RW), 'op op fa fa fa'],
  ['overlay private rw', file('overlay', RW), 'op op 0 0 0'],
  ['file shared, read-only', file('ext4', 'rd mr me ms'), 'fa fa fa fa fa'],
  ['file private, read-only', file('ext4', 'rd mr mw me', fileSeen), 'fa fa fa fa fa'],
  ['text', file('ext4', 'rd ex mr mw me', fileSeen), 'fa fa fa fa fa'],
  [
    'vdso',
    one({ pages: 2, backing: { kind: 'vdso' }, flags: 'rd ex mr mw me de', look: [['file', 2]] }),
    'fa fa fa fa fa',
  ],
  ['anonymous PROT_READ', one({ flags: 'rd mr mw me ac', look: touched }), 'fa fa fa fa fa'],
  ['anonymous PROT_NONE', one({ flags: 'mr mw me' }), 'fa fa fa fa fa'],
  ['anonymous PROT_NONE over written pages', one({ flags: 'mr mw me ac', look: touched }), 'fa fa fa fa fa'],
  ['anonymous PROT_EXEC', one({ flags: 'ex mr mw me' }), 'fa fa fa fa fa'],
  ['vvar', one({ backing: { kind: 'vvar' }, flags: 'rd mr pf io de dd' }), 'fa fa fa fa fa'],
  ['device memory', one({ backing: driver, flags: `${SHARED_RW} io pf de dd` }), 'fa fa fa fa fa'],
  [
    'secretmem',
    one({ backing: { kind: 'secretmem' }, flags: `${SHARED_RW} lo dd`, look: fileSeen }),
    'fa fa fa fa fa',
  ],
  ['sealed memfd, private rw', one({ backing: memfd }), '0 0 0 0 0'],
  [
    'sealed memfd, shared read-only',
    one({ backing: memfd, flags: 'rd mr me ms', look: fileSeen }),
    'fa fa fa fa fa',
  ],
  ['memfd beyond its end, all', one({ backing: memfd, flags: SHARED_RW, fileSize: 0 }), 'fa fa fa fa fa'],
  [
    'memfd beyond its end, part',
    one({ backing: memfd, flags: SHARED_RW, fileSize: 2 * P }),
    'fa fa fa fa fa',
  ],
  ['ext4 private beyond its end, part', one({ backing: fileOn('ext4'), fileSize: P + 1 }), 'fa fa fa fa fa'],
  [
    'io_uring ring',
    one({ pages: 1, backing: { kind: 'io_uring-ring' }, flags: `${SHARED_RW} de mm`, look: [['file']] }),
    'op ? ? 0 0',
  ],
  ['KVM vcpu', one({ pages: 1, backing: { kind: 'kvm-vcpu' }, flags: SHARED_RW }), 'op op 0 0 0'],
  [
    'packet ring',
    one({ backing: { kind: 'socket', inode: 5 }, flags: `${SHARED_RW} de dd`, look: fileSeen }),
    'op op 0 0 0',
  ],
  [
    'perf ring',
    one({ backing: { kind: 'perf' }, flags: `${SHARED_RW} de dd`, look: fileSeen }),
    '? ? ? ? fa',
  ],
  ['fs-DAX shared', one({ backing: fileOn('ext4', 'yes'), flags: SHARED_RW }), 'op op op op op'],
  ['fs-DAX private', one({ backing: fileOn('xfs', 'yes') }), 'op op op op op'],
  [
    'below the stack',
    one({ backing: stack, start: A + 16 * P, flags: `${RW} gd` }),
    'fa 0 fa fa fa',
    { pages: 2, start: A + 14 * P },
  ],
  [
    'below the stack, beyond its limit',
    { mappings: one({ backing: stack, start: A + 16 * P, flags: `${RW} gd` }), stack: 4 * P },
    'fa fa fa fa fa',
    { pages: 2, start: A + 14 * P },
  ],
  ['MADV_DONTFORK', one({ flags: `${RW} dc`, look: touched }), '0 0 0 0 0'],
  ['mlocked', one({ flags: `${RW} lo`, look: touched }), '0 0 0 0 0'],
  ['mseal, dropped, growable', one({ flags: `${RW} gd sl dp`, look: touched }), '0 0 0 0 0'],
  ['zero page', one({ look: [['zero', 4]] }), '0 0 0 0 0'],
  ['huge zero page', one({ pages: 512, look: [['huge-zero']] }), '0 0 0 0 0'],
  ['COW-shared after fork', one({ look: [['anon-shared', 4]] }), '0 0 0 0 0'],
  [
    'swapped out',
    one({
      look: [
        ['anon', 2],
        ['swapped', 2],
      ],
    }),
    '0 0 0 0 0',
  ],
  ['userfaultfd, missing pages', one({ flags: `${RW} um`, look: [['anon', 2]] }), 'fa fa fa ? ?'],
  ['userfaultfd, all there', one({ flags: `${RW} um`, look: touched }), '0 0 0 0 0'],
  [
    'userfaultfd write-protected page',
    one({
      flags: `${RW} uw`,
      look: [
        ['anon', 1],
        ['uffd-wp', 1],
      ],
    }),
    'fa fa fa ? ?',
    { pages: 2 },
  ],
  [
    'userfaultfd write-protect marker',
    one({ flags: `${RW} uw`, look: [['uffd-wp-marker', 1]] }),
    'fa fa fa ? ?',
  ],
  ['write-protect marker nobody watches any more', one({ look: [['uffd-wp-marker', 1]] }), '0 0 0 0 0'],
  ['driver, shared rw, page there', one({ backing: driver, flags: SHARED_RW, look: fileSeen }), '? ? ? ? ?'],
  ['driver, read-only', one({ backing: driver, flags: 'rd mr me ms', look: fileSeen }), 'fa fa fa fa fa'],
  ['unclassified file system, shared rw', file('newfs', SHARED_RW), '? ? ? ? ?'],
  ['unknown', one({ backing: unknown }), '? ? ? ? ?'],
  ['unknown, device memory', one({ backing: unknown, flags: `${RW} io pf` }), 'fa fa fa fa fa'],
]

describe('R-URING-24 one mapping', () => {
  for (const [name, spec, expected, request] of rows) {
    it(`R-URING-24 ${name}`, () => {
      expect(row(spec, request)).toBe(expected)
    })
  }

  it('R-HUGE-40 hugetlb that was never touched takes its reservation, not the spare pages of others', () => {
    const owner: MappingSpec = { pages: 512, backing: hugetlb('anonymous'), flags: HUGE_RW }
    const beggar: MappingSpec = { ...owner, start: A + PMD_SIZE, flags: `${HUGE_RW} nr` }
    expect(row([owner, beggar], { pages: 512 })).toBe('0 0 0 0 0')
    expect(row([owner, beggar], { start: A + PMD_SIZE })).toBe('fa fa fa fa fa')
  })
})

const second = (spec: MappingSpec): MappingSpec => ({ start: A + 2 * P, pages: 2, ...spec })
const first = (spec: MappingSpec): MappingSpec => ({ pages: 2, ...spec })
const ext4 = { backing: fileOn('ext4') }
const rangeOf = (a: MappingSpec, b: MappingSpec): readonly MappingSpec[] => [first(a), second(b)]

const pairs: readonly (readonly [string, readonly MappingSpec[], string])[] = [
  ['anon rw + anon rwx', rangeOf({ look: [['anon', 2]] }, { flags: `${RW} ex` }), '0 0 0 0 0'],
  [
    'memfd A + memfd A, offsets swapped',
    rangeOf(
      { backing: memfd, flags: SHARED_RW, inode: 9, name: '/memfd:m', offset: 2 * P, fileSize: 4 * P },
      { backing: memfd, flags: SHARED_RW, inode: 9, name: '/memfd:m', offset: 0, fileSize: 4 * P },
    ),
    '0 0 0 0 0',
  ],
  [
    'memfd A + memfd B',
    rangeOf({ backing: memfd, flags: SHARED_RW }, { backing: memfd, flags: SHARED_RW }),
    'in fa 0 0 0',
  ],
  [
    'one inode, side by side and not merged',
    rangeOf(
      { backing: memfd, flags: SHARED_RW, inode: 9, name: '/memfd:m', fileSize: 4 * P },
      { backing: memfd, flags: SHARED_RW, inode: 9, name: '/memfd:m', offset: 2 * P, fileSize: 4 * P },
    ),
    'in fa 0 0 0',
  ],
  [
    'one inode under two names',
    rangeOf(
      { backing: tmpfs, flags: SHARED_RW, inode: 9, name: '/t/a', offset: 2 * P, fileSize: 4 * P },
      { backing: tmpfs, flags: SHARED_RW, inode: 9, name: '/t/b', fileSize: 4 * P },
    ),
    'in fa 0 0 0',
  ],
  ['anon + memfd', rangeOf({}, { backing: memfd, flags: SHARED_RW }), 'in fa 0 0 0'],
  [
    'hugetlb + anon',
    [
      { pages: 512, backing: hugetlb('anonymous'), flags: HUGE_RW, look: [['hugetlb']] },
      { start: A + PMD_SIZE, pages: 4 },
    ],
    'in fa 0 0 0',
  ],
  [
    'anon + hugetlb',
    [
      { start: A + PMD_SIZE - 4 * P, pages: 4 },
      { start: A + PMD_SIZE, pages: 512, backing: hugetlb('anonymous'), flags: HUGE_RW },
    ],
    'in fa 0 0 0',
  ],
  ['anon + ext4 private', rangeOf({}, ext4), 'in fa 0 0 0'],
  ['ext4 private + anon', rangeOf(ext4, {}), 'op fa 0 0 0'],
  ['ext4 A private + ext4 B private', rangeOf(ext4, ext4), 'op fa 0 0 0'],
  [
    'ext4 A private twice',
    rangeOf(
      { ...ext4, inode: 9, name: '/a', offset: 4 * P, fileSize: 8 * P },
      { ...ext4, inode: 9, name: '/a', offset: 0, fileSize: 8 * P },
    ),
    'op op 0 0 0',
  ],
  ['anon + ext4 shared', rangeOf({}, { ...ext4, flags: SHARED_RW }), 'in fa fa fa fa'],
  ['anon + hole', [first({}), { start: A + 3 * P, pages: 1 }], 'fa fa fa fa fa'],
  [
    'memfd + hole',
    [first({ backing: memfd, flags: SHARED_RW }), { start: A + 3 * P, pages: 1 }],
    'fa fa fa fa fa',
  ],
  ['anon + read-only', rangeOf({}, { flags: 'rd mr mw me ac' }), 'fa fa fa fa fa'],
  [
    'anon + secretmem',
    rangeOf({}, { backing: { kind: 'secretmem' }, flags: `${SHARED_RW} lo dd` }),
    'fa fa fa fa fa',
  ],
  [
    'read-only + unknown: the first refusal is known',
    rangeOf({ flags: 'rd mr mw me ac' }, { backing: unknown }),
    'fa fa fa fa fa',
  ],
  ['anon + unknown', rangeOf({}, { backing: unknown }), '? ? ? ? ?'],
]

describe('R-URING-28 several mappings', () => {
  for (const [name, mappings, expected] of pairs) {
    it(`R-URING-28 ${name}`, () => {
      expect(row(mappings, { start: mappings[0]!.start ?? A })).toBe(expected)
    })
  }

  it('R-URING-24 a range in no mapping at all, and one beyond user space', () => {
    expect(row([{ backing: anonymous }], { start: A + 64 * P, pages: 2 })).toBe('fa fa fa fa fa')
    expect(row([{ backing: anonymous }], { start: 2 ** 47 - P, pages: 2 })).toBe('fa fa fa fa fa')
    expect(row([{ backing: anonymous }], { start: 0xffffffffff600000, length: P })).toBe('fa fa fa fa fa')
  })
})

describe('R-GUP-16 guard regions', () => {
  it('R-FLT-78 a guard page is refused where guard pages exist', () => {
    expect(
      row([
        {
          look: [
            ['anon', 2],
            ['guard', 1],
            ['anon', 1],
          ],
        },
      ])
        .split(' ')
        .at(-1),
    ).toBe('fa')
  })
})
