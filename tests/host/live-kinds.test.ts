import { readFileSync } from 'node:fs'
import { afterAll, describe, expect, test } from 'vitest'
import { captureProcess, anonExclusive, pageAt, pageRunsIn, swapEntry } from '../../src/host/index.ts'
import type { Mapping, Snapshot } from '../../src/host/index.ts'
import { NOBODY, asNobody, isRoot, python, seesFrames, startTarget } from './live.ts'

/** File system of /var/tmp: of the mounts above it the longest, of those the last. */
const fstype = readFileSync('/proc/self/mountinfo', 'latin1')
  .split('\n')
  .map((line) => ({ point: line.split(' ')[4] ?? '', type: line.split(' - ')[1]?.split(' ')[0] ?? '' }))
  .filter(({ point }) => ['/', '/var', '/var/tmp'].includes(point))
  .reduce((best, mount) => (mount.point.length >= best.point.length ? mount : best)).type

interface Seen {
  readonly snapshot: Snapshot
  readonly mapping: Mapping
  readonly start: number
  readonly length: number
}

const P = 4096

/** Top byte (bits 56..63) of the pagemap words of the range, as in the table of R-PM-2; soft-dirty is left out. */
function topBytes({ snapshot, start, length }: Seen): string {
  const seen = new Set<string>()
  for (let at = start; at < start + length; at += P) {
    const page = pageAt(snapshot.pages, at)
    seen.add(typeof page === 'string' ? page : (page.bits >>> 1).toString(16).padStart(2, '0'))
  }
  return [...seen].join(' ')
}

interface Expectation {
  readonly backing: object
  /** flags the mapping must have, and with a leading ! must not have */
  readonly flags?: string
  /** R-PM-2 */
  readonly pages?: string
  readonly fileSize?: number | null
  /** the vector of the specification this is */
  readonly vector?: number
}

const onDisk = { kind: 'file', fstype }

const expectations: Readonly<Record<string, Expectation>> = {
  anonymous: {
    backing: { kind: 'anonymous', label: '' },
    flags: 'rd wr mr mw me ac !lo',
    pages: '81',
    fileSize: null,
  },
  untouched: { backing: { kind: 'anonymous' }, pages: 'none', fileSize: null },
  'zero page': { backing: { kind: 'anonymous' }, pages: '80' },
  'PROT_NONE over written pages': {
    backing: { kind: 'anonymous' },
    flags: '!rd !wr mr mw me',
    pages: '81',
    vector: 19,
  },
  'shared anonymous': {
    backing: { kind: 'shmem', source: 'shared-anonymous' },
    flags: 'sh ms',
    pages: 'a1',
    fileSize: 4 * P,
  },
  '/dev/zero shared': {
    backing: { kind: 'shmem', source: 'shared-anonymous' },
    flags: 'sh ms',
    pages: 'a1',
    fileSize: 4 * P,
  },
  '/dev/zero private': {
    backing: { kind: 'dev-zero-private' },
    flags: 'wr !ms',
    pages: '81',
    fileSize: null,
  },
  memfd: { backing: { kind: 'shmem', source: 'memfd', label: 'pins' }, pages: 'a1', fileSize: 4 * P },
  'memfd shorter than its mapping': {
    backing: { kind: 'shmem', source: 'memfd' },
    pages: 'none',
    fileSize: P,
  },
  'tmpfs file': { backing: { kind: 'shmem', source: 'tmpfs' }, pages: 'a1' },
  'SysV segment': { backing: { kind: 'sysv', key: 0 }, flags: 'sh ms', pages: 'none', fileSize: 4 * P },
  'regular file, private, written': { backing: onDisk, flags: 'wr mw ac !ms', pages: '81', fileSize: 4 * P },
  'regular file, shared': { backing: onDisk, flags: 'sh ms', fileSize: 4 * P },
  secretmem: { backing: { kind: 'secretmem' }, flags: 'lo dd', pages: 'a1', fileSize: 4 * P },
  'io_uring ring': { backing: { kind: 'io_uring-ring' }, flags: 'de mm', fileSize: null },
  'registered buffer': { backing: { kind: 'anonymous' }, pages: '81' },
  'perf ring': { backing: { kind: 'perf' }, fileSize: null },
  'packet ring': { backing: { kind: 'socket' }, fileSize: null },
  'KVM vcpu': { backing: { kind: 'kvm-vcpu' }, fileSize: null },
  'huge page, transparent': { backing: { kind: 'anonymous' }, flags: 'hg' },
  'hugetlb, anonymous': {
    backing: { kind: 'hugetlb', source: 'anonymous', pageSize: 2 ** 21 },
    flags: 'ht',
    pages: 'none',
  },
  'hugetlb, memfd': {
    backing: { kind: 'hugetlb', source: 'memfd', pageSize: 2 ** 21 },
    flags: 'ht sh',
    pages: 'none',
    fileSize: 2 ** 21,
  },
  locked: { backing: { kind: 'anonymous' }, flags: 'lo', pages: '81' },
  'guard region': { backing: { kind: 'anonymous' } },
  'odd name': { backing: { ...onDisk, path: expect.stringContaining('a\nb\\c') }, fileSize: P },
}

/** Sizes of deleted files are known only through map_files (root) or an fd that is still open. */
const closedWithoutFd = new Set(['shared anonymous', '/dev/zero shared'])

const observers = [
  { who: 'as root', run: <T>(action: () => T): T => action(), uid: undefined, here: isRoot && seesFrames },
  {
    who: 'as a user on his own process',
    run: isRoot ? asNobody : <T>(action: () => T): T => action(),
    uid: isRoot ? NOBODY : undefined,
    here: true,
  },
]

for (const { who, run, uid, here } of observers) {
  if (python === null || !here) {
    test.skip(`R-MNT-2 mapping kinds ${who} (needs ${python === null ? 'python3' : 'root outside containers'})`, () => {})
    continue
  }
  const target = startTarget('kinds', [], uid)
  const made = (await target.line()) as Record<string, [number, number] | string>
  const placed = Object.entries(made).filter((entry): entry is [string, [number, number]] =>
    Array.isArray(entry[1]),
  )
  const snapshot = run(() =>
    captureProcess(target.pid, {
      ranges: placed.map(([, [start, length]]) => ({ start, end: start + length, note: null })),
    }),
  )
  const seen = new Map<string, Seen>(
    placed.map(([name, [start, length]]) => {
      const mapping = snapshot.mappings.find(
        (candidate) => candidate.start <= start && start < candidate.end,
      )!
      return [name, { snapshot, mapping, start, length }]
    }),
  )
  afterAll(() => target.end())

  describe(`R-MNT-2 ${who}`, () => {
    test('R-CONS-3 a resting process is seen in one stable try', () => {
      expect(snapshot).toMatchObject({
        consistency: 'stable',
        tries: 1,
        tier: uid === undefined && isRoot ? 'T3' : 'T1',
      })
      expect(snapshot.mappings.every((mapping) => mapping.flagsFrom === 'smaps')).toBe(true)
    })

    test('HOST vector 13: frame numbers and their facts are seen by root only, and said so', () => {
      const page = pageAt(snapshot.pages, seen.get('anonymous')!.start)
      const said = snapshot.unseen.some((entry) => entry.what.includes('page frame numbers'))
      if (snapshot.tier === 'T3') {
        expect(page).toMatchObject({ mapCount: 1, kpageflags: expect.any(Number) })
        expect((page as { entry: number }).entry).toBeGreaterThan(0)
        expect(said).toBe(false)
      } else {
        expect(page).toMatchObject({ bits: 0x102, entry: 0, kpageflags: -1, mapCount: -1 })
        expect(said).toBe(true)
      }
    })

    for (const [name, wanted] of Object.entries(expectations)) {
      const one = seen.get(name)
      if (one === undefined || (name.includes('regular file') && fstype === 'tmpfs')) {
        test.skip(`R-MNT-2 ${name} (${String(made[name])})`, () => {})
        continue
      }
      test(`${wanted.vector === undefined ? 'R-MNT-2' : `HOST vector ${wanted.vector}:`} ${name}`, () => {
        expect(one.mapping.backing).toMatchObject(wanted.backing)
        for (const flag of wanted.flags?.split(' ') ?? []) {
          if (flag.startsWith('!')) expect(one.mapping.flags).not.toContain(flag.slice(1))
          else expect(one.mapping.flags).toContain(flag)
        }
        if (wanted.pages !== undefined) expect(topBytes(one)).toBe(wanted.pages)
        if (wanted.fileSize !== undefined) {
          expect(one.mapping.fileSize).toBe(wanted.fileSize)
          if (closedWithoutFd.has(name))
            expect(one.mapping.fileSizeFrom).toBe(snapshot.tier === 'T3' ? 'map_files' : 'mapping-length')
        }
      })
    }

    test('R-FLT-161 guard markers are seen, on kernels that have them', (context) => {
      const guard = seen.get('guard region')
      if (guard === undefined) return context.skip(`MADV_GUARD_INSTALL: ${String(made['guard region'])}`)
      const page = pageAt(snapshot.pages, guard.start)
      if (typeof page === 'string') throw new Error(`guard page is ${page}`)
      expect(swapEntry(page.bits, page.entry)).toMatchObject({ kind: 'marker', guard: true })
    })

    test('R-PM-4 AnonExclusive is known with kpageflags and open without', () => {
      const page = pageAt(snapshot.pages, seen.get('anonymous')!.start)
      if (typeof page === 'string') throw new Error(page)
      expect(anonExclusive(page)).toBe(snapshot.tier === 'T3' ? 'yes' : 'unknown')
    })

    test('R-SMAPS-1 a transparent huge page is one', (context) => {
      const thp = seen.get('huge page, transparent')!
      if (snapshot.system.thp?.enabled === 'never') return context.skip('transparent huge pages are off')
      expect(thp.mapping.usage!.anonHugePages).toBeGreaterThanOrEqual(2 ** 21)
      const runs = [...pageRunsIn(snapshot.pages, thp.start, thp.start + thp.length)]
      expect(runs.reduce((pages, run) => pages + run.count, 0)).toBe(512)
      // Head and tails differ in kpageflags; without them all 512 pages look the same.
      expect(runs).toHaveLength(snapshot.tier === 'T3' ? 2 : 1)
    })

    test('HOST vector 25: the registered buffer is listed by the ring that holds it', (context) => {
      const buffer = seen.get('registered buffer')
      if (buffer === undefined) return context.skip(`io_uring: ${String(made['registered buffer'])}`)
      const held = snapshot.rings.flatMap((ring) => ring.buffers).filter((slot) => slot !== null)
      expect(held).toContainEqual({ index: 0, address: buffer.start + 100, length: 5000 })
      expect(snapshot.userRegistered.bytes).toBeGreaterThanOrEqual(6 * P)
    })

    test('HOST vector 30: a registered buffer that was unmapped is still listed and still pinned', (context) => {
      const stale = made['registered, then unmapped']
      if (typeof stale === 'string') return context.skip(`io_uring: ${stale}`)
      const [start, length] = stale!
      const held = snapshot.rings.flatMap((ring) => ring.buffers)
      expect(held).toContainEqual({ index: 0, address: start, length })
      expect(snapshot.mappings.some((mapping) => mapping.start < start + length && start < mapping.end)).toBe(
        false,
      )
      expect(snapshot.process.memory!.pinned).toBe(6 * P)
    })

    test('R-MAPS-2 a living file that is called (deleted) is not taken for deleted', () => {
      const odd = seen.get('odd name')!
      expect(odd.mapping.name).toMatch(/\/a\nb\\c \(deleted\)$/)
      expect(odd.mapping).toMatchObject({ deleted: false, nameAmbiguous: false })
    })

    test('R-ST-4 limits, capabilities and system facts are there', () => {
      expect(snapshot.process.uid.real).toBe(uid ?? process.getuid!())
      expect(snapshot.process.initialUserNamespace).toEqual(expect.any(Boolean))
      expect(Number(snapshot.system.sysctl['vm.max_map_count'])).toBeGreaterThan(0)
      expect(snapshot.system.meminfo['MemTotal']).toBeGreaterThan(2 ** 20)
      expect(snapshot.kernel.release).toMatch(/^\d+\.\d+/)
      expect(snapshot.maps.split('\n').length).toBeGreaterThan(snapshot.mappings.length)
    })
  })
}
