/** What is behind a mapping (R-MNT-2, R-MNT-3), decided from its maps line, its VmFlags and the mounts. */
import { PMD_SIZE } from '../base/units.ts'
import { decodeMapsName } from './maps.ts'
import type { MapsRecord } from './maps.ts'
import { mountOf } from './mountinfo.ts'
import type { Mount } from './mountinfo.ts'
import type { Backing } from './snapshot.ts'

/** What stat says about the path of a mapping, when it is still the mapped file. */
export type PathType = 'regular' | 'character-device' | 'block-device' | 'other' | 'unknown'

/** What the decision needs besides the mapping itself. */
export interface ClassContext {
  readonly mounts: readonly Mount[]
  /** `maj:min` of mounts the kernel keeps for itself, from `learnInternalDevices` */
  readonly internal: InternalDevices
  /** type of the file at the mapping's path, seen from the process; 'unknown' when it is gone or another file */
  pathType(record: MapsRecord): PathType
  /** `queue/dax` of the block device, `maj:min` in hex as maps prints it: true, false, or null when not readable */
  blockDeviceDax(hexDevice: string): boolean | null
}

export interface InternalDevices {
  readonly shmem: ReadonlySet<string>
  readonly hugetlb: ReadonlySet<string>
}

/** Flags and page size from smaps; null when smaps was not read that far. */
export interface SmapsFacts {
  readonly flags: readonly string[]
  readonly kernelPageSize: number
}

const MEMFD = '/memfd:'
const SYSV = /^\/SYSV([0-9a-f]{8})$/

/**
 * Learns the numbers of the kernel's internal shmem and hugetlb mounts from any listing: they change from
 * boot to boot. Shared anonymous memory is always shmem; a memfd or SysV mapping that is not aligned to a
 * huge page cannot be hugetlb.
 * @rule R-MAPS-4
 */
export function learnInternalDevices(
  records: readonly MapsRecord[],
  mounts: readonly Mount[],
): InternalDevices {
  const shmem = new Set<string>()
  const hugetlb = new Set<string>()
  for (const record of records) {
    if (record.inode === 0 && record.device === '00:00') continue
    const raw = record.rawName
    if (!raw.endsWith(' (deleted)') || !raw.startsWith('/')) continue
    if (raw === '/dev/zero (deleted)' && record.perms[3] === 's') {
      if (!isMounted(record, raw, mounts)) shmem.add(record.device)
    } else if (raw === '/anon_hugepage (deleted)') {
      if (!isMounted(record, raw, mounts)) hugetlb.add(record.device)
    } else if ((raw.startsWith(MEMFD) || raw.startsWith('/SYSV')) && !hugeAligned(record)) {
      if (!isMounted(record, raw, mounts)) shmem.add(record.device)
    }
  }
  return { shmem, hugetlb }
}

function isMounted(record: MapsRecord, path: string, mounts: readonly Mount[]): boolean {
  return mountOf(mounts, record.device, path) !== null
}

function hugeAligned(record: MapsRecord): boolean {
  return record.start % PMD_SIZE === 0 && record.end % PMD_SIZE === 0 && record.offset % PMD_SIZE === 0
}

/**
 * Decides what backs a mapping; first match wins.
 * @param smaps null when VmFlags were not seen: hugetlb is then recognised by name, mount and alignment
 * @rule R-MNT-2
 * @rule R-MAPS-3
 */
export function classifyMapping(
  record: MapsRecord,
  smaps: SmapsFacts | null,
  context: ClassContext,
): Backing {
  const raw = record.rawName
  const { name } = decodeMapsName(raw)
  if (record.device === '00:00' && record.inode === 0) return classifyFileless(raw, record)

  const internalFile = raw.endsWith(' (deleted)') && !isMounted(record, name, context.mounts)
  const mount = internalFile ? null : mountOf(context.mounts, record.device, name)
  const sysv = internalFile ? SYSV.exec(name) : null
  const memfd = internalFile && name.startsWith(MEMFD)

  if (
    smaps !== null ? smaps.flags.includes('ht') : looksHugetlb(record, name, internalFile, mount, context)
  ) {
    const source =
      sysv !== null
        ? 'sysv'
        : memfd
          ? 'memfd'
          : internalFile && name === '/anon_hugepage'
            ? 'anonymous'
            : 'file'
    return { kind: 'hugetlb', source, pageSize: smaps?.kernelPageSize ?? mountPageSize(mount), label: name }
  }
  if (internalFile) {
    if (name === '/secretmem') return { kind: 'secretmem' }
    if (sysv !== null || memfd) {
      if (smaps === null && hugeAligned(record) && !context.internal.shmem.has(record.device)) {
        return { kind: 'unknown', why: 'shmem or hugetlb: VmFlags were not seen' }
      }
      if (sysv !== null) return { kind: 'sysv', key: parseInt(sysv[1]!, 16), shmid: record.inode }
      return { kind: 'shmem', source: 'memfd', label: name.slice(MEMFD.length) }
    }
    if (name === '/dev/zero' && record.perms[3] === 's')
      return { kind: 'shmem', source: 'shared-anonymous', label: '' }
  }
  const anonShmem = /^\[anon_shmem:(.*)\]$/s.exec(name)
  if (anonShmem !== null) return { kind: 'shmem', source: 'shared-anonymous', label: anonShmem[1]! }
  if (name.startsWith('anon_inode:')) return classifyAnonInode(name.slice('anon_inode:'.length))
  const socket = /^socket:\[(\d+)\]$/.exec(name)
  if (socket !== null) return { kind: 'socket', inode: Number(socket[1]) }
  if (mount === null) {
    if (context.internal.shmem.has(record.device)) return { kind: 'shmem', source: 'internal', label: name }
    if (name === '/[aio]' || name.startsWith('/dmabuf')) return { kind: 'driver', path: name }
    return { kind: 'unknown', why: `no mount of the process has device ${record.device}` }
  }
  return classifyMounted(record, name, mount, context)
}

function classifyFileless(name: string, record: MapsRecord): Backing {
  if (name === '[heap]') return { kind: 'heap' }
  if (name === '[stack]') return { kind: 'stack' }
  if (name === '[vdso]') return { kind: 'vdso' }
  if (name === '[vvar]' || name.startsWith('[vvar_')) return { kind: 'vvar' }
  if (name === '[vsyscall]') return { kind: 'vsyscall' }
  if (name === '') {
    return record.perms[3] === 'p'
      ? { kind: 'anonymous', label: '' }
      : { kind: 'unknown', why: 'shared mapping without a file' }
  }
  const anon = /^\[anon:(.*)\]$/s.exec(name)
  if (anon !== null) return { kind: 'anonymous', label: decodeMapsName(anon[1]!).name }
  return { kind: 'unknown', why: `special mapping ${name}` }
}

function classifyAnonInode(inodeName: string): Backing {
  const plain = inodeName.replace(/^\[(.*)\]$/, '$1')
  if (plain === 'io_uring') return { kind: 'io_uring-ring' }
  if (plain === 'perf_event') return { kind: 'perf' }
  if (plain.startsWith('kvm-vcpu')) return { kind: 'kvm-vcpu' }
  return { kind: 'driver', path: `anon_inode:${inodeName}` }
}

function classifyMounted(record: MapsRecord, name: string, mount: Mount, context: ClassContext): Backing {
  const type = context.pathType(record)
  const inDevices = mount.fstype === 'devtmpfs'
  if (type === 'character-device' || (type === 'unknown' && inDevices)) {
    return name === '/dev/zero' && record.perms[3] === 'p'
      ? { kind: 'dev-zero-private' }
      : { kind: 'driver', path: name }
  }
  if (type === 'block-device') return { kind: 'file', fstype: 'bdev', path: name, dax: 'no' }
  if (mount.fstype === 'tmpfs' || inDevices) {
    return { kind: 'shmem', source: inDevices ? 'devtmpfs' : 'tmpfs', label: name }
  }
  return { kind: 'file', fstype: mount.fstype, path: name, dax: daxOf(mount, record.device, context) }
}

/** File systems that can map device memory directly; overlay hands out the file of a lower one. */
const daxFileSystems = new Set(['ext2', 'ext4', 'xfs', 'erofs', 'virtiofs', 'overlay', 'famfs'])

/**
 * Whether pages of a file on this mount are device memory.
 * @rule R-MNT-3
 */
export function daxOf(
  mount: Mount,
  hexDevice: string,
  context: Pick<ClassContext, 'blockDeviceDax'>,
): 'yes' | 'no' | 'unknown' {
  if (!daxFileSystems.has(mount.fstype)) return 'no'
  const options = mount.superOptions.split(',')
  if (options.includes('dax') || options.includes('dax=always')) return 'yes'
  if (options.includes('dax=never')) return 'no'
  return context.blockDeviceDax(hexDevice) === false ? 'no' : 'unknown'
}

function looksHugetlb(
  record: MapsRecord,
  name: string,
  internalFile: boolean,
  mount: Mount | null,
  context: ClassContext,
): boolean {
  if (!hugeAligned(record)) return false
  return (
    (internalFile && name === '/anon_hugepage') ||
    mount?.fstype === 'hugetlbfs' ||
    context.internal.hugetlb.has(record.device)
  )
}

/** `pagesize=2M` of a hugetlbfs mount. */
function mountPageSize(mount: Mount | null): number | null {
  const match = /(?:^|,)pagesize=(\d+)([KMG])/.exec(mount?.superOptions ?? '')
  return match === null
    ? null
    : Number(match[1]) * { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }[match[2] as 'K' | 'M' | 'G']
}

/**
 * The VmFlags a mapping must have by its permissions and kind, for when smaps could not be read. Flags that
 * madvise, mlock or a driver may have added are not in it.
 */
export function deriveFlags(perms: string, backing: Backing): string[] {
  switch (backing.kind) {
    case 'vvar':
      return ['rd', 'mr', 'pf', 'io', 'de', 'dd']
    case 'vdso':
      return ['rd', 'ex', 'mr', 'mw', 'me', 'de']
    case 'vsyscall':
      return ['ex']
    default:
  }
  const shared = perms[3] === 's'
  const writable = perms[1] === 'w'
  const flags: string[] = []
  if (perms[0] === 'r') flags.push('rd')
  if (writable) flags.push('wr')
  if (perms[2] === 'x') flags.push('ex')
  if (shared && writable) flags.push('sh')
  flags.push('mr')
  // A shared mapping that is not writable now may come from a read-only fd: it is taken as one.
  if (!shared || writable) flags.push('mw')
  flags.push('me')
  if (shared) flags.push('ms')
  if (backing.kind === 'stack') flags.push('gd')
  if (backing.kind === 'secretmem') flags.push('lo')
  if (backing.kind === 'hugetlb' || backing.kind === 'io_uring-ring') flags.push('de')
  if (!shared && writable && backing.kind !== 'hugetlb') flags.push('ac')
  if (backing.kind === 'hugetlb') flags.push('ht')
  if (backing.kind === 'secretmem') flags.push('dd')
  if (backing.kind === 'io_uring-ring') flags.push('mm')
  return flags
}
