import type { ReleaseName } from '../base/release.ts'
import type { Backing } from '../host/snapshot.ts'
import {
  DEV_ZERO,
  HUGETLBFS,
  RAMFS,
  SECRETMEM,
  SHMEM,
  SYSV_SHM,
  driverKind,
  regularFileKind,
  type FileKind,
  type Unclassified,
} from '../mm/file.ts'
import { PMD_SIZE } from '../base/units.ts'

/**
 * File systems known to keep pages in the page cache, to track dirty pages where they can be written, and to
 * fault in the ordinary way.
 * @rule R-GUP-20
 */
const classifiedFileSystems = new Set(
  (
    'ext2 ext3 ext4 xfs btrfs f2fs jfs nilfs2 ocfs2 gfs2 bcachefs zfs vfat msdos exfat ntfs ntfs3 hfs hfsplus udf bdev ' +
    'overlay fuse fuseblk virtiofs nfs nfs4 cifs smb3 ceph 9p squashfs erofs iso9660'
  ).split(' '),
)

/**
 * The engine's kind for what a mapping was seen to be; null for memory without a file. What nobody has
 * classified on that release becomes a kind at which the engine stops.
 * @rule R-MNT-2
 */
export function fileKindOf(backing: Backing, release: ReleaseName): FileKind | null {
  switch (backing.kind) {
    case 'anonymous':
    case 'heap':
    case 'stack':
    case 'vvar':
    case 'vdso':
    case 'vsyscall':
      return null
    case 'shmem':
      return SHMEM
    case 'sysv':
      return SYSV_SHM
    case 'hugetlb':
      return backing.pageSize === PMD_SIZE || backing.pageSize === null
        ? HUGETLBFS
        : otherHugetlb(backing.pageSize)
    case 'file':
      return regularKind(backing)
    case 'dev-zero-private':
      return DEV_ZERO
    case 'secretmem':
      return SECRETMEM
    case 'io_uring-ring':
      return ringKind(release)
    case 'perf':
      return perfKind(release)
    case 'kvm-vcpu':
      return driverKind('kvm-vcpu')
    case 'socket':
      return driverKind('socket')
    case 'driver':
      return unclassified(
        driverKind(backing.path),
        `what the driver of ${backing.path} does`,
        'R-GUP-20',
        'pages',
      )
    case 'unknown':
      return unclassified(
        driverKind('unknown'),
        `what backs this mapping (${backing.why})`,
        'R-MNT-2',
        'checks',
      )
  }
}

function unclassified(kind: FileKind, what: string, rule: string, from: Unclassified['from']): FileKind {
  return { ...kind, unclassified: { what, rule, from } }
}

function otherHugetlb(pageSize: number): FileKind {
  return unclassified(
    { ...HUGETLBFS, hugetlb: false },
    `huge pages of ${pageSize} bytes`,
    'R-HUGE-58',
    'checks',
  )
}

function regularKind({ fstype, dax }: Extract<Backing, { kind: 'file' }>): FileKind {
  if (fstype === 'ramfs') return RAMFS
  const kind = regularFileKind(fstype)
  // @rule R-GUP-28
  if (dax === 'yes') return unclassified(kind, 'pages of a DAX file', 'R-GUP-28', 'pages')
  if (classifiedFileSystems.has(fstype)) return kind
  const hooksNotKnown = { ...kind, pageMkwrite: false, canWriteback: false }
  return unclassified(hooksNotKnown, `what the file system ${fstype} does`, 'R-GUP-20', 'pages')
}

/**
 * The rings' own memory was mapped in several ways over time (io-uring.md §6); two releases were not looked at.
 * @rule R-URING-36
 */
function ringKind(release: ReleaseName): FileKind {
  const kind = driverKind('io_uring')
  if (release !== 'gup-v3' && release !== '6.6') return kind
  return unclassified(kind, `how release ${release} maps io_uring's own rings`, 'R-URING-36', 'checks')
}

/**
 * Seen on 6.18 only (io-uring.md §6).
 * @rule R-URING-36
 */
function perfKind(release: ReleaseName): FileKind {
  if (release !== '6.18') {
    return unclassified(
      driverKind('perf_event'),
      `how release ${release} maps perf ring buffers`,
      'R-URING-36',
      'checks',
    )
  }
  return unclassified(
    driverKind('perf_event', true),
    'how a perf ring buffer faults its pages in',
    'R-URING-36',
    'pages',
  )
}
