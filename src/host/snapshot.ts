/**
 * What was seen of one process at one moment: the only input of `explain`, and one JSON file when stored.
 *
 * Conventions: addresses are plain numbers (47 bits, exact); sizes are bytes unless a field says pages;
 * `null` means "not seen" and has an entry in `unseen`, it never means zero; text read from the kernel is
 * latin1 (one character per byte) in `maps` and decoded as UTF-8 where valid in every other field.
 */
import * as z from 'zod'
import { SNAPSHOT_SCHEMA_VERSION } from './snapshot-format.ts'

const address = z.number().int().nonnegative().describe('user address, bytes')
const bytes = z.number().nonnegative().describe('bytes')
const count = z.number().int().nonnegative()

const Dax = z.enum(['yes', 'no', 'unknown']).describe('whether file pages are device memory (R-MNT-3)')

/** What is behind a mapping (R-MNT-2). `kind` decides which checks of the kernel apply. */
export const Backing = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('anonymous'), label: z.string().describe('NAME of `[anon:NAME]`, else empty') }),
  z.object({ kind: z.literal('heap') }).describe('anonymous, overlaps the brk area'),
  z.object({ kind: z.literal('stack') }).describe('anonymous, the stack of the first thread'),
  z.object({
    kind: z.literal('shmem'),
    source: z.enum(['memfd', 'tmpfs', 'devtmpfs', 'shared-anonymous', 'internal']),
    label: z.string().describe('memfd name, path, or empty'),
  }),
  z
    .object({ kind: z.literal('sysv'), key: count, shmid: count })
    .describe('SysV segment of small pages: shmem pages behind vm_ops of its own'),
  z.object({
    kind: z.literal('hugetlb'),
    source: z.enum(['anonymous', 'memfd', 'file', 'sysv']),
    pageSize: bytes.nullable(),
    label: z.string(),
  }),
  z.object({
    kind: z.literal('file'),
    fstype: z.string().describe('as mountinfo prints it: ext4, xfs, btrfs, overlay, ramfs, fuse, nfs4, …'),
    path: z.string(),
    dax: Dax,
  }),
  z.object({ kind: z.literal('dev-zero-private') }).describe('anonymous memory whose vm_file is /dev/zero'),
  z.object({ kind: z.literal('secretmem') }),
  z.object({ kind: z.literal('io_uring-ring') }),
  z.object({ kind: z.literal('perf') }),
  z.object({ kind: z.literal('kvm-vcpu') }),
  z.object({ kind: z.literal('socket'), inode: count }).describe('ring of a packet socket or AF_XDP socket'),
  z
    .object({ kind: z.literal('driver'), path: z.string() })
    .describe('anon inode by name, or character device by path'),
  z.object({ kind: z.literal('vvar') }),
  z.object({ kind: z.literal('vdso') }),
  z.object({ kind: z.literal('vsyscall') }).describe('above user space; not a VMA (R-MAPS-3)'),
  z.object({ kind: z.literal('unknown'), why: z.string() }),
])

const Usage = z.object({
  rss: bytes,
  swap: bytes,
  anonymous: bytes,
  anonHugePages: bytes.describe('PMD-mapped anonymous huge pages'),
  shmemPmdMapped: bytes,
  filePmdMapped: bytes,
  hugetlb: bytes.describe('Shared_Hugetlb + Private_Hugetlb; never part of rss (R-SMAPS-3)'),
  locked: bytes,
})

/** One mapping with everything known about it. */
export const Mapping = z.object({
  start: address.describe('first byte'),
  end: address.describe('one past the last byte'),
  perms: z.string().describe('`rw-p` as maps prints it; s = VM_MAYSHARE, not VM_SHARED'),
  offset: z.number().nonnegative().describe('file offset in bytes; 0 without a file; exact below 2^53'),
  device: z.string().describe('`maj:min` in hex as maps prints it'),
  inode: z.number().nonnegative().describe('exact below 2^53'),
  name: z.string().describe('without ` (deleted)`'),
  deleted: z.boolean(),
  nameAmbiguous: z
    .boolean()
    .describe('the name may really contain a backslash escape or ` (deleted)` (R-MAPS-2)'),
  flags: z.array(z.string()).describe('two-letter VmFlags mnemonics (R-SMAPS-4)'),
  flagsFrom: z
    .enum(['smaps', 'derived'])
    .describe('derived: smaps was not read this far; flags follow from perms and kind only'),
  pageSize: bytes.describe('KernelPageSize; 4096 when derived'),
  usage: Usage.nullable().describe('from smaps'),
  thpEligible: z.boolean().nullable(),
  backing: Backing,
  fileSize: bytes.nullable().describe('size of the file behind it'),
  fileSizeFrom: z.enum(['map_files', 'fd', 'path', 'sysvipc', 'mapping-length', 'none']),
  blockSize: bytes.nullable().describe('st_blksize of that file'),
})

/**
 * Page-level facts, as columns of equal length: row i describes `count[i]` neighbouring pages that look the
 * same. Pages inside `covered` and in no row had an all-zero pagemap word.
 */
export const PageTable = z.object({
  covered: z.array(z.object({ start: address, end: address })).describe('what pagemap was read for'),
  start: z.array(address).describe('address of the first page of the run; ascending'),
  count: z.array(count).describe('pages'),
  bits: z
    .array(count)
    .describe(
      'pagemap bits 55..63 shifted down: 1 soft-dirty, 2 mapped once, 4 uffd-wp, 8 guard marker, 64 file, 128 swap, 256 present',
    ),
  entry: z.array(z.number().int()).describe('PFN of the first page, or swap type + offset * 32; 0 = hidden'),
  step: z.array(z.number().int()).describe('what `entry` grows by per page: 0 or 1 (swap: 32)'),
  kpageflags: z.array(z.number().int()).describe('R-PM-5 word; -1 = not read'),
  mapCount: z.array(z.number().int()).describe('kpagecount; -1 = not read'),
})

const Limit = z.object({
  soft: bytes.nullable().describe('null = unlimited'),
  hard: bytes.nullable().describe('null = unlimited'),
})

const Ids = z.object({ real: count, effective: count, saved: count, fs: count })

const ProcessFacts = z.object({
  pid: count,
  tid: count.describe('the thread whose files were read (R-ACC-5)'),
  name: z.string(),
  state: z.string().describe('letter of `State:`'),
  threads: count,
  tracerPid: count,
  uid: Ids,
  gid: Ids,
  capEff: z.string().describe('16 hex digits'),
  capPrm: z.string().optional().describe('16 hex digits: what it may make effective by itself'),
  capBnd: z.string().optional().describe('16 hex digits: what an execve(2) may give it'),
  seccomp: count.optional().describe('2: its system calls pass a filter (seccomp(2))'),
  initialUserNamespace: z
    .boolean()
    .nullable()
    .describe('capabilities count for pinning only in the initial one'),
  thpEnabled: z.boolean().nullable().describe('false after PR_SET_THP_DISABLE'),
  memory: z
    .object({
      size: bytes,
      locked: bytes.describe('VmLck = mm.locked_vm'),
      pinned: bytes.describe('VmPin = mm.pinned_vm'),
      rss: bytes,
      rssAnon: bytes,
      rssFile: bytes,
      rssShmem: bytes,
      data: bytes,
      stack: bytes,
      swap: bytes,
      hugetlb: bytes,
      pageTables: bytes,
    })
    .nullable(),
  limits: z.object({ memlock: Limit, addressSpace: Limit, data: Limit, stack: Limit, openFiles: Limit }),
})

/** One io_uring instance reachable through an fd of the process. */
export const Ring = z.object({
  fd: count,
  inode: z.number().describe('identifies the ring (R-FD-5)'),
  status: z.enum(['seen', 'busy', 'denied']).describe('busy: buffers unknown, never "no buffers" (R-FD-4)'),
  buffers: z
    .array(z.object({ index: count, address, length: bytes }).nullable())
    .describe('null = empty slot; slots that the kernel left out are null'),
})

const MountFacts = z.object({
  mountPoint: z.string(),
  device: z.string().describe('`maj:min` in decimal'),
  fstype: z.string(),
  source: z.string(),
  options: z.string(),
  superOptions: z.string(),
})

const SystemFacts = z.object({
  thp: z
    .object({
      enabled: z.string(),
      defrag: z.string(),
      shmemEnabled: z.string(),
      useZeroPage: z.boolean(),
      pmdSize: bytes,
      sizes: z.array(
        z.object({ size: bytes, enabled: z.string().nullable(), shmemEnabled: z.string().nullable() }),
      ),
    })
    .nullable(),
  hugetlbPools: z.array(
    z.object({
      pageSize: bytes,
      total: count,
      free: count,
      reserved: count,
      surplus: count,
      overcommit: count,
    }),
  ),
  meminfo: z.record(z.string(), bytes).describe('bytes; HugePages_* are counts'),
  pins: z
    .object({
      acquired: count,
      released: count,
      exact: z.boolean().describe('stat_refresh was read first (R-GLOB-1)'),
    })
    .nullable(),
  sysctl: z.record(z.string(), z.string()).describe('absent key = absent feature (R-GLOB-5)'),
})

/** Something that could not be seen, and what it would take. */
export const Unseen = z.object({ what: z.string(), why: z.string(), needs: z.string() })

export const Snapshot = z.object({
  schemaVersion: z.literal(SNAPSHOT_SCHEMA_VERSION),
  takenAt: z.string().describe('ISO 8601, UTC'),
  kernel: z.object({ release: z.string().describe('uname -r'), version: z.string(), machine: z.string() }),
  tier: z.enum(['T0', 'T1', 'T2', 'T3']).describe('what the observer was allowed to read (R-ACC-7)'),
  consistency: z
    .enum(['stable', 'racy'])
    .describe('stable: maps was byte-equal before and after (R-CONS-3); it does not prove equal page state'),
  tries: count.describe('how often the process was read'),
  process: ProcessFacts,
  ranges: z
    .array(z.object({ start: address, end: address, note: z.string().nullable() }))
    .nullable()
    .describe('what was asked for; null = the whole process'),
  maps: z.string().describe('/proc/PID/maps in full: all mappings, one line each'),
  mappings: z
    .array(Mapping)
    .describe('in detail: those that overlap the ranges and one neighbour on each side; ascending'),
  pages: PageTable,
  mounts: z.array(MountFacts).describe('those the detailed mappings lie on'),
  rings: z.array(Ring),
  userRegistered: z
    .object({
      bytes: bytes.describe('sum of the io_uring buffers seen, in whole pages'),
      processes: count.describe('readable processes of the uid'),
      unreadable: count.describe('processes of the uid that could not be read'),
    })
    .describe("lower bound of what is charged to the user's RLIMIT_MEMLOCK (R-ST-3)"),
  system: SystemFacts,
  unseen: z.array(Unseen),
})

export type Backing = z.infer<typeof Backing>
export type Mapping = z.infer<typeof Mapping>
export type PageTable = z.infer<typeof PageTable>
export type Ring = z.infer<typeof Ring>
export type Unseen = z.infer<typeof Unseen>
/** Everything seen of one process; see the top of this file for the conventions. */
export type Snapshot = z.infer<typeof Snapshot>

/** JSON schema of a stored snapshot, for `schema/snapshot.schema.json`. */
export function snapshotJsonSchema(): object {
  return { title: 'pinscope snapshot', ...z.toJSONSchema(Snapshot) }
}
