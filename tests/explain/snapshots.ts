/** Snapshots built by hand: what /proc would show of one process, in a few words per mapping. */
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import {
  KPF_ANON,
  KPF_ANON_EXCLUSIVE,
  KPF_COMPOUND_HEAD,
  KPF_COMPOUND_TAIL,
  KPF_HUGE,
  KPF_MMAP,
  KPF_SWAPBACKED,
  KPF_THP,
  KPF_ZERO_PAGE,
  PM_FILE,
  PM_GUARD_REGION,
  PM_MMAP_EXCLUSIVE,
  PM_PRESENT,
  PM_SWAP,
  PM_UFFD_WP,
} from '../../src/host/pagemap.ts'
import { Snapshot, type Backing, type Mapping } from '../../src/host/snapshot.ts'

/** A 2 MiB-aligned address; mappings of the tests lie here unless they say otherwise. */
export const A = 0x7f1200000000

/** How pages of a mapping look in pagemap and kpageflags. */
export type PageLook =
  | 'anon'
  /** mapped by another process too */
  | 'anon-shared'
  | 'zero'
  | 'file'
  | 'swapped'
  | 'guard'
  | 'uffd-wp'
  | 'uffd-wp-marker'
  /** 2 MiB mapped by one entry */
  | 'thp'
  /** pages of a 2 MiB folio, mapped one by one */
  | 'thp-pages'
  /** the same after fork: both processes map them */
  | 'thp-pages-shared'
  /** 2 MiB of shared memory mapped by one entry */
  | 'shmem-huge'
  | 'huge-zero'
  | 'hugetlb'
  | 'hugetlb-file'

export interface MappingSpec {
  /** default A */
  start?: number
  /** 4 KiB pages; default 4 */
  pages?: number
  /** VmFlags; default a private anonymous rw mapping */
  flags?: string
  backing?: Backing
  /** pages from the start and how they look; gaps are absent. `[look, pages?, firstPage?]` */
  look?: readonly (readonly [PageLook, number?, number?])[]
  offset?: number
  inode?: number
  name?: string
  /** default long enough for the mapping; null not read */
  fileSize?: number | null
  /** bytes of smaps AnonHugePages; default what `look` says */
  anonHugePages?: number
}

export const RW = 'rd wr mr mw me ac'
export const SHARED_RW = 'rd wr sh mr mw me ms'

export const anonymous: Backing = { kind: 'anonymous', label: '' }
export const memfd: Backing = { kind: 'shmem', source: 'memfd', label: 'm' }
export const fileOn = (fstype: string, dax: 'yes' | 'no' | 'unknown' = 'no'): Backing => ({
  kind: 'file',
  fstype,
  path: '/f',
  dax,
})
export const hugetlb = (source: 'anonymous' | 'memfd' | 'file' | 'sysv', pageSize = PMD_SIZE): Backing => ({
  kind: 'hugetlb',
  source,
  pageSize,
  label: 'h',
})

const fileless = new Set(['anonymous', 'heap', 'stack', 'vvar', 'vdso', 'vsyscall'])

function mappingOf(spec: MappingSpec, index: number): Mapping {
  const { start = A, pages = 4, flags = RW, backing = anonymous, offset = 0, look = [] } = spec
  const end = start + pages * PAGE_SIZE
  const words = flags.split(' ').filter((word) => word !== '')
  const has = (word: string): boolean => words.includes(word)
  const hasFile = !fileless.has(backing.kind)
  const perms = `${has('rd') ? 'r' : '-'}${has('wr') ? 'w' : '-'}${has('ex') ? 'x' : '-'}${has('ms') ? 's' : 'p'}`
  const huge = look.filter(([kind]) => kind === 'thp').reduce((sum, [, n = 512]) => sum + n * PAGE_SIZE, 0)
  const anonymousBytes = look
    .filter(([kind]) => kind.startsWith('anon') || kind.startsWith('thp') || kind === 'uffd-wp')
    .reduce((sum, [, n = kind512(look)]) => sum + n * PAGE_SIZE, 0)
  return {
    start,
    end,
    perms,
    offset,
    device: hasFile ? '00:2a' : '00:00',
    inode: hasFile ? (spec.inode ?? 100 + index) : 0,
    name: spec.name ?? defaultName(backing, index),
    deleted: false,
    nameAmbiguous: false,
    flags: words,
    flagsFrom: 'smaps',
    pageSize: backing.kind === 'hugetlb' ? (backing.pageSize ?? PMD_SIZE) : PAGE_SIZE,
    usage: {
      rss: 0,
      swap: 0,
      anonymous: anonymousBytes,
      anonHugePages: spec.anonHugePages ?? huge,
      shmemPmdMapped: look
        .filter(([kind]) => kind === 'shmem-huge')
        .reduce((sum, [, n = 512]) => sum + n * PAGE_SIZE, 0),
      filePmdMapped: 0,
      hugetlb: 0,
      locked: 0,
    },
    thpEligible: null,
    backing,
    fileSize: spec.fileSize === undefined ? (hasFile ? offset + end - start : null) : spec.fileSize,
    fileSizeFrom: hasFile ? 'map_files' : 'none',
    blockSize: hasFile ? 4096 : null,
  }
}

function kind512(look: NonNullable<MappingSpec['look']>): number {
  return look.some(([kind]) => kind.startsWith('thp')) ? 512 : 1
}

function defaultName(backing: Backing, index: number): string {
  switch (backing.kind) {
    case 'anonymous':
      return ''
    case 'heap':
    case 'stack':
    case 'vvar':
    case 'vdso':
    case 'vsyscall':
      return `[${backing.kind}]`
    default:
      return `/file${index}`
  }
}

const bit = (...bits: number[]): number => bits.reduce((word, n) => word + 2 ** n, 0)
const ANON = bit(KPF_ANON, KPF_MMAP, KPF_SWAPBACKED)
const EXCLUSIVE = bit(KPF_ANON_EXCLUSIVE)

interface Row {
  bits: number
  kpf: number
  present: boolean
}

function rowOf(look: PageLook, isHead: boolean): Row {
  const part = bit(isHead ? KPF_COMPOUND_HEAD : KPF_COMPOUND_TAIL)
  const seen = (bits: number, kpf: number): Row => ({ bits: bits | PM_PRESENT, kpf, present: true })
  const unseen = (bits: number): Row => ({ bits, kpf: -1, present: false })
  switch (look) {
    case 'anon':
      return seen(PM_MMAP_EXCLUSIVE, ANON + EXCLUSIVE)
    case 'anon-shared':
      return seen(0, ANON)
    case 'zero':
      return seen(0, bit(KPF_ZERO_PAGE))
    case 'file':
      return seen(PM_FILE | PM_MMAP_EXCLUSIVE, bit(KPF_MMAP))
    case 'swapped':
      return unseen(PM_SWAP)
    case 'guard':
      return unseen(PM_SWAP | PM_GUARD_REGION)
    case 'uffd-wp':
      return seen(PM_MMAP_EXCLUSIVE | PM_UFFD_WP, ANON + EXCLUSIVE)
    case 'uffd-wp-marker':
      return unseen(PM_SWAP | PM_UFFD_WP)
    case 'thp':
    case 'thp-pages':
      return seen(PM_MMAP_EXCLUSIVE, ANON + EXCLUSIVE + bit(KPF_THP) + part)
    case 'thp-pages-shared':
      return seen(0, ANON + bit(KPF_THP) + part)
    case 'shmem-huge':
      return seen(PM_FILE | PM_MMAP_EXCLUSIVE, bit(KPF_MMAP, KPF_SWAPBACKED, KPF_THP) + part)
    case 'huge-zero':
      return seen(PM_FILE, bit(KPF_ZERO_PAGE, KPF_THP) + part)
    case 'hugetlb':
      return seen(PM_MMAP_EXCLUSIVE, bit(KPF_ANON, KPF_MMAP, KPF_HUGE) + EXCLUSIVE + part)
    case 'hugetlb-file':
      return seen(PM_FILE | PM_MMAP_EXCLUSIVE, bit(KPF_MMAP, KPF_HUGE) + part)
  }
}

const wholeHuge = new Set<PageLook>([
  'thp-pages-shared',
  'shmem-huge',
  'thp',
  'thp-pages',
  'huge-zero',
  'hugetlb',
  'hugetlb-file',
])

function pagesOf(mappings: readonly Mapping[], specs: readonly MappingSpec[]): Snapshot['pages'] {
  const pages: Snapshot['pages'] = {
    covered: mappings.map(({ start, end }) => ({ start, end })),
    start: [],
    count: [],
    bits: [],
    entry: [],
    step: [],
    kpageflags: [],
    mapCount: [],
  }
  let nextPfn = 0x100000
  const add = (start: number, count: number, row: Row, pfn: number): void => {
    if (count === 0) return
    pages.start.push(start)
    pages.count.push(count)
    pages.bits.push(row.bits)
    pages.entry.push(row.present ? pfn : (row.bits & PM_UFFD_WP) !== 0 ? 31 + 32 : 2 + 32 * 7)
    pages.step.push(row.present && count > 1 ? 1 : 0)
    pages.kpageflags.push(row.kpf)
    pages.mapCount.push(row.present ? 1 : -1)
  }
  specs.forEach((spec, i) => {
    const { start } = mappings[i]!
    let next = 0
    for (const [look, count = wholeHuge.has(look) ? 512 : 1, first = next] of spec.look ?? []) {
      const at = start + first * PAGE_SIZE
      if (wholeHuge.has(look)) {
        // whole folios of 512 pages; `first` may lie inside one
        nextPfn = Math.ceil(nextPfn / 512) * 512
        for (let done = 0; done < count;) {
          const inFolio = ((at / PAGE_SIZE) % 512) + done
          const offset = inFolio % 512
          const n = Math.min(512 - offset, count - done)
          const pfn = nextPfn + Math.floor(inFolio / 512) * 512 + offset
          if (offset === 0) add(at + done * PAGE_SIZE, 1, rowOf(look, true), pfn)
          const head = offset === 0 ? 1 : 0
          add(at + (done + head) * PAGE_SIZE, n - head, rowOf(look, false), pfn + head)
          done += n
        }
        nextPfn += 512 * (Math.ceil(count / 512) + 1)
      } else {
        add(at, count, rowOf(look, true), nextPfn)
        nextPfn += count + 1
      }
      next = first + count
    }
  })
  return pages
}

export interface SnapshotSpec {
  mappings: readonly MappingSpec[]
  /** RLIMIT_MEMLOCK in bytes, soft and hard; default unlimited */
  memlock?: number | null
  /** hard RLIMIT_MEMLOCK in bytes; default the soft one */
  memlockHard?: number | null
  /** bytes; default 8 MiB */
  stack?: number | null
  /** 16 hex digits; default none */
  capEff?: string
  /** 16 hex digits each; default not seen */
  capPrm?: string
  capBnd?: string
  seccomp?: number
  initialUserNamespace?: boolean
  /** bytes of buffers the user has registered already */
  registered?: number
  /** 2 MiB pool; default none */
  pool?: Partial<Snapshot['system']['hugetlbPools'][number]>
  thp?: 'always' | 'madvise' | 'never'
  /** bytes of VmLck and VmPin; default not read */
  locked?: number
  pinned?: number
  /** vm.max_map_count; default the kernel's */
  maxMapCount?: number
  /** kernel.yama.ptrace_scope; default not loaded */
  ptraceScope?: number
  kernel?: string
}

function memoryOf({ locked = 0, pinned = 0 }: SnapshotSpec): Snapshot['process']['memory'] {
  const others = { size: 0, rss: 0, rssAnon: 0, rssFile: 0, rssShmem: 0, data: 0, stack: 0, swap: 0 }
  return { ...others, hugetlb: 0, pageTables: 0, locked, pinned }
}

export const CAP_IPC_LOCK = '0000000000004000'
export const ALL_CAPABILITIES = '000001ffffffffff'

/** A privileged (T3) view of a process of uid 1000 that has just these mappings. */
export function snapshot(spec: SnapshotSpec): Snapshot {
  const mappings = spec.mappings.map(mappingOf)
  const unlimited = { soft: null, hard: null }
  const ids = { real: 1000, effective: 1000, saved: 1000, fs: 1000 }
  const memlock = spec.memlock === undefined ? null : spec.memlock
  const maps = mappings.map(
    (m) =>
      `${m.start.toString(16)}-${m.end.toString(16)} ${m.perms} ${m.offset.toString(16).padStart(8, '0')} ${m.device} ${m.inode}${m.name === '' ? '' : ` ${m.name}`}\n`,
  )
  return Snapshot.parse({
    schemaVersion: 1,
    takenAt: '2026-01-02T03:04:05.678Z',
    kernel: { release: spec.kernel ?? '6.18.44', version: '#1', machine: 'x86_64' },
    tier: 'T3',
    consistency: 'stable',
    tries: 1,
    process: {
      pid: 1234,
      tid: 1234,
      name: 'app',
      state: 'S',
      threads: 1,
      tracerPid: 0,
      uid: ids,
      gid: ids,
      capEff: spec.capEff ?? '0000000000000000',
      ...(spec.capPrm !== undefined && { capPrm: spec.capPrm }),
      ...(spec.capBnd !== undefined && { capBnd: spec.capBnd }),
      ...(spec.seccomp !== undefined && { seccomp: spec.seccomp }),
      initialUserNamespace: spec.initialUserNamespace ?? true,
      thpEnabled: true,
      memory: spec.locked === undefined && spec.pinned === undefined ? null : memoryOf(spec),
      limits: {
        memlock: { soft: memlock, hard: spec.memlockHard === undefined ? memlock : spec.memlockHard },
        addressSpace: unlimited,
        data: unlimited,
        stack: { soft: spec.stack === undefined ? 8 << 20 : spec.stack, hard: null },
        openFiles: { soft: 1024, hard: 4096 },
      },
    },
    ranges: null,
    maps: maps.join(''),
    mappings,
    pages: pagesOf(mappings, spec.mappings),
    mounts: [],
    rings: [],
    userRegistered: { bytes: spec.registered ?? 0, processes: 1, unreadable: 0 },
    system: {
      thp: {
        enabled: spec.thp ?? 'madvise',
        defrag: 'madvise',
        shmemEnabled: 'never',
        useZeroPage: true,
        pmdSize: PMD_SIZE,
        sizes: [{ size: PMD_SIZE, enabled: 'inherit', shmemEnabled: 'inherit' }],
      },
      hugetlbPools: [
        { pageSize: PMD_SIZE, total: 0, free: 0, reserved: 0, surplus: 0, overcommit: 0, ...spec.pool },
      ],
      meminfo: {},
      pins: null,
      sysctl: {
        ...(spec.maxMapCount !== undefined && { 'vm.max_map_count': String(spec.maxMapCount) }),
        ...(spec.ptraceScope !== undefined && { 'kernel.yama.ptrace_scope': String(spec.ptraceScope) }),
      },
    },
    unseen: [],
  } satisfies Snapshot)
}

/** The same process as its owner sees it without privileges (T1): no page frame numbers, no page flags. */
export function unprivileged(seen: Snapshot): Snapshot {
  const rows = seen.pages.start.length
  return {
    ...seen,
    tier: 'T1',
    pages: {
      ...seen.pages,
      entry: new Array<number>(rows).fill(0),
      step: new Array<number>(rows).fill(0),
      kpageflags: new Array<number>(rows).fill(-1),
      mapCount: new Array<number>(rows).fill(-1),
    },
  }
}
