import { EACCES, EEXIST, EINVAL, ENOENT, ENOSPC, EPERM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { OpenFile, SYSV_HUGETLB, SYSV_SHM } from '../mm/file.ts'
import { createFile } from '../mm/filemap.ts'
import { hugetlbFileSetup } from '../mm/hugetlb.ts'
import type { Kernel } from '../mm/kernel.ts'
import { MAP_FIXED, MAP_HUGE_SHIFT, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE } from '../mm/mman.ts'
import type { Mm } from '../mm/mm.ts'
import { doMmap } from '../mm/mmap.ts'
import { doMunmap, firstOverlapping } from '../mm/munmap.ts'
import { mmPopulate } from '../mm/populate.ts'
import { alignDown, alignUp, asWord, isPageAligned, rangeEnd } from '../mm/user-range.ts'
import { VM_LOCKED } from '../mm/vm-flags.ts'
import { chargeObject } from '../mm/vm-accounting.ts'
import type { Vma } from '../mm/vma.ts'
import { lockForWrite, tryWriteNow } from '../mm/write-lock.ts'

export const IPC_PRIVATE = 0
export const IPC_CREAT = 0o1000
export const IPC_EXCL = 0o2000
export const SHM_HUGETLB = 0o4000
export const SHM_NORESERVE = 0o10000
export const SHM_RDONLY = 0o10000
export const SHM_RND = 0o20000
export const SHM_REMAP = 0o40000
export const SHM_EXEC = 0o100000
/** in the mode of a segment that goes with its last attachment */
export const SHM_DEST = 0o1000

/** kernel.shmmax and kernel.shmall as the kernel sets them: no limit worth the name */
const SHMMAX = 2 ** 64 - 2 ** 25
const SHMMNI = 4096
/** vm.hugetlb_shm_group as it is at boot */
const HUGETLB_SHM_GROUP = 0

/** `struct shmid_kernel`: one segment. */
interface Segment {
  readonly id: number
  /** IPC_PRIVATE once it is marked for removal */
  key: number
  /** bytes, as asked for */
  readonly size: number
  readonly uid: number
  readonly gid: number
  /** permission bits, SHM_DEST */
  mode: number
  /** attachments on their way: they count as well */
  attaching: number
  /** the object; each attachment has an open file of its own on top of it */
  readonly file: OpenFile
}

/** `struct ipc_namespace`, the shared memory of it. */
interface Namespace {
  readonly segments: Map<number, Segment>
  lastId: number
}

const namespaces = new WeakMap<Kernel, Namespace>()

function namespaceOf(k: Kernel): Namespace {
  let found = namespaces.get(k)
  if (found === undefined) {
    found = { segments: new Map(), lastId: -1 }
    namespaces.set(k, found)
  }
  return found
}

/** What IPC_STAT tells. */
export interface ShmStatus {
  readonly key: number
  /** bytes */
  readonly size: number
  readonly mode: number
  readonly uid: number
  /** VMAs that show the segment, halves of split ones counted each */
  readonly attached: number
}

/**
 * shmget(2): finds or makes a segment.
 * @param key IPC_PRIVATE makes one that nobody finds
 * @param size bytes; huge pages and pages are rounded up to
 * @param flags IPC_CREAT, IPC_EXCL, SHM_HUGETLB, SHM_NORESERVE and permission bits
 * @returns the id, -EINVAL, -ENOENT, -EEXIST, -EACCES, -ENOSPC, -ENOMEM, -EPERM
 * @rule R-AS-171
 */
export function* shmget(k: Kernel, key: number, size: number, flags: number): Kthread<number> {
  const { segments } = namespaceOf(k)
  const known = key === IPC_PRIVATE ? undefined : [...segments.values()].find((each) => each.key === key)
  if (known !== undefined) {
    if ((flags & (IPC_CREAT | IPC_EXCL)) === (IPC_CREAT | IPC_EXCL))
      return refuse(k.current, EEXIST, 'R-AS-171', { why: 'a segment with this key exists' })
    if (asWord(size) < 0 || size > known.size)
      return refuse(k.current, EINVAL, 'R-AS-171', { why: 'the segment is smaller' })
    const wanted = ((flags >> 6) | (flags >> 3) | flags) & 7
    return permits(k, known, wanted) ? known.id : denied(k, 'R-AS-171')
  }
  if (key !== IPC_PRIVATE && (flags & IPC_CREAT) === 0)
    return refuse(k.current, ENOENT, 'R-AS-171', { why: 'there is no segment with this key' })
  return newSegment(k, key, asWord(size), flags)
}

function newSegment(k: Kernel, key: number, size: number, flags: number): number {
  const { segments } = namespaceOf(k)
  if (size < 1 || size > SHMMAX)
    return refuse(k.current, EINVAL, 'R-AS-171', { why: 'a segment has at least one byte' })
  const file = newObject(k, key, size, flags)
  if (typeof file === 'number') return file
  if (segments.size >= SHMMNI) {
    file.put()
    return refuse(k.current, ENOSPC, 'R-AS-171', {
      used: segments.size,
      limit: SHMMNI,
      why: 'there are as many segments as kernel.shmmni allows',
    })
  }
  const namespace = namespaceOf(k)
  const id = ++namespace.lastId
  const { uid } = k.current
  file.mapping.inode = id
  file.mapping.owner = uid
  segments.set(id, { id, key, size, uid, gid: groupOf(k), mode: flags & 0o777, attaching: 0, file })
  return id
}

/** The memory of a segment, charged or promised as a whole. @rule R-AS-40 */
function newObject(k: Kernel, key: number, size: number, flags: number): OpenFile | number {
  const path = `/SYSV${(key >>> 0).toString(16).padStart(8, '0')} (deleted)`
  const noreserve = (flags & SHM_NORESERVE) !== 0
  if ((flags & SHM_HUGETLB) !== 0) {
    const log2 = (flags >>> MAP_HUGE_SHIFT) & 63
    if (log2 !== 0 && log2 !== 21 && log2 !== 30)
      return refuse(k.current, EINVAL, 'R-AS-171', { why: 'this machine has no huge pages of the size' })
    if (!k.current.capable('CAP_IPC_LOCK') && groupOf(k) !== HUGETLB_SHM_GROUP)
      return refuse(k.current, EPERM, 'R-AS-171', {
        why: 'huge shared memory needs CAP_IPC_LOCK or the group vm.hugetlb_shm_group',
      })
    const pageSize = log2 === 30 ? 2 ** 30 : 2 ** 21
    const whole = Math.ceil(size / pageSize) * pageSize
    return hugetlbFileSetup(k, { size: whole, pageSize, name: path, noreserve, kind: SYSV_HUGETLB })
  }
  const file = createFile(k, SYSV_SHM, { path, size })
  const charged = !noreserve || k.settings.overcommit === 'never'
  const { mm } = k.current
  if (!charged || mm === null) return file
  const error = chargeObject(k, mm, file.mapping, alignUp(size) / PAGE_SIZE)
  if (error === 0) return file
  file.put()
  return error
}

function groupOf(k: Kernel): number {
  return k.current.gid ?? k.current.uid
}

/** `ipcperms`: do the permission bits or CAP_IPC_OWNER allow this access? @param wanted rwx */
function permits(k: Kernel, { uid, gid, mode }: Segment, wanted: number): boolean {
  const task = k.current
  const shift = task.uid === uid ? 6 : groupOf(k) === gid ? 3 : 0
  return (wanted & ~(mode >> shift) & 7) === 0 || task.capable('CAP_IPC_OWNER')
}

function denied(k: Kernel, rule: string): number {
  return refuse(k.current, EACCES, rule, { why: 'the permissions of the segment do not allow it' })
}

/** How `shmat` wants the segment, from its arguments alone. */
interface Placement {
  readonly addr: number
  readonly fixed: boolean
}

/**
 * shmat(2): maps a segment, as shared memory with an open file of its own.
 * @param addr bytes; 0: the kernel chooses
 * @param flags SHM_RDONLY, SHM_EXEC, SHM_RND, SHM_REMAP
 * @returns the address, -EINVAL, -EACCES, or what mmap(2) refuses with, -EINTR
 * @rule R-AS-172
 */
export function* shmat(k: Kernel, mm: Mm, id: number, addr: number, flags: number): Kthread<number> {
  const invalid = (why: string): number => refuse(k.current, EINVAL, 'R-AS-172', { address: addr, why })
  if (id < 0) return invalid('there is no such segment')
  const place = placement(asWord(addr), flags)
  if (typeof place === 'string') return invalid(place)
  const segment = namespaceOf(k).segments.get(id)
  if (segment === undefined) return invalid('there is no such segment')
  const writes = (flags & SHM_RDONLY) === 0
  const executes = (flags & SHM_EXEC) !== 0
  if (!permits(k, segment, 4 | (writes ? 2 : 0) | (executes ? 1 : 0))) return denied(k, 'R-AS-172')
  const file = attachment(k, segment, writes)
  segment.attaching++
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') {
    segment.attaching--
    file.put()
    return guard
  }
  const { size } = segment.file.mapping
  const replaces = (flags & SHM_REMAP) !== 0
  const end = rangeEnd(place.addr, alignUp(size))
  let result: number
  if (place.fixed && !replaces && end === null) result = invalid('the range wraps around')
  else if (place.fixed && !replaces && firstOverlapping(guard.vmas, place.addr, place.addr + size) !== null)
    result = invalid('something is mapped there already')
  else {
    result = yield* doMmap(k, guard, {
      addr: place.addr,
      length: size,
      prot: PROT_READ | (writes ? PROT_WRITE : 0) | (executes ? PROT_EXEC : 0),
      flags: place.fixed ? MAP_SHARED | MAP_FIXED : MAP_SHARED,
      file,
      pgoff: 0,
    })
  }
  segment.attaching--
  const populate = result >= 0 && (mm.defFlags & VM_LOCKED) !== 0
  guard.release()
  file.put()
  if (populate) yield* mmPopulate(k, mm, result, alignUp(size), true)
  return result
}

/** Where it is to go, or why not. SHMLBA is a page on x86. */
function placement(addr: number, flags: number): Placement | string {
  const replaces = (flags & SHM_REMAP) !== 0
  if (addr === 0) return replaces ? 'SHM_REMAP without an address' : { addr, fixed: false }
  if (isPageAligned(addr)) return { addr, fixed: true }
  if ((flags & SHM_RND) === 0) return 'the address is not page aligned'
  const rounded = alignDown(addr)
  return rounded === 0 && replaces ? 'SHM_REMAP at address 0' : { addr: rounded, fixed: true }
}

/** The open file of one attachment. With the last VMA of the last one a segment marked for removal goes. */
function attachment(k: Kernel, segment: Segment, writable: boolean): OpenFile {
  const { file } = segment
  file.get()
  return new OpenFile(file.mapping, file.path, { readable: true, writable }, () => {
    if ((segment.mode & SHM_DEST) !== 0 && attached(segment) === 0) destroy(k, segment)
    file.put()
  })
}

function attached({ file, attaching }: Segment): number {
  return file.mapping.mappers.size + attaching
}

function destroy(k: Kernel, segment: Segment): void {
  if (namespaceOf(k).segments.delete(segment.id)) segment.file.put()
}

/**
 * shmdt(2): unmaps what is left of the attachment that began at an address, also where its first pages are
 * gone already.
 * @param addr page aligned
 * @returns 0, -EINVAL, -EINTR
 * @rule R-AS-173
 */
export function* shmdt(k: Kernel, mm: Mm, addr: number): Kthread<number> {
  const start = asWord(addr)
  const invalid = (why: string): number => refuse(k.current, EINVAL, 'R-AS-173', { address: start, why })
  if (!isPageAligned(start)) return invalid('the address is not page aligned')
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const { vmas } = guard
  let first = start < 0 ? null : vmas.find(start)
  while (first !== null && !beganAt(first, start)) first = first.next
  if (first === null) {
    guard.release()
    return invalid('no attachment of shared memory began here')
  }
  const file = first.file!
  const end = start + alignUp(file.mapping.size)
  for (let vma: Vma | null = first; vma !== null && (vma === first || vma.end <= end);) {
    const next: Vma | null = vma.next
    // what cannot be unmapped stays, and shmdt says nothing about it
    if (vma.file === file && beganAt(vma, start)) yield* doMunmap(k, guard, vma.start, vma.end - vma.start)
    vma = next
  }
  guard.release()
  return 0
}

/** Is the VMA a piece of an attachment that began at this address? */
function beganAt(vma: Vma, start: number): boolean {
  const kind = vma.file?.mapping.kind
  return (kind === SYSV_SHM || kind === SYSV_HUGETLB) && vma.start - start === vma.pgoff * PAGE_SIZE
}

/**
 * shmctl(IPC_RMID): the segment goes now, or with its last attachment; nobody finds it by its key any more.
 * @returns 0, -EINVAL, -EPERM
 * @rule R-AS-174
 */
export function* shmRemove(k: Kernel, id: number): Kthread<number> {
  const segment = namespaceOf(k).segments.get(id)
  if (segment === undefined) return refuse(k.current, EINVAL, 'R-AS-174', { why: 'there is no such segment' })
  if (k.current.uid !== segment.uid && !k.current.capable('CAP_SYS_ADMIN'))
    return refuse(k.current, EPERM, 'R-AS-174', { why: 'the segment belongs to somebody else' })
  if (attached(segment) === 0) destroy(k, segment)
  else {
    segment.mode |= SHM_DEST
    segment.key = IPC_PRIVATE
  }
  return 0
}

/**
 * shmctl(IPC_STAT).
 * @returns what is known of the segment, -EINVAL or -EACCES
 * @rule R-AS-174
 */
export function shmStatus(k: Kernel, id: number): ShmStatus | number {
  const segment = namespaceOf(k).segments.get(id)
  if (segment === undefined) return refuse(k.current, EINVAL, 'R-AS-174', { why: 'there is no such segment' })
  if (!permits(k, segment, 4)) return denied(k, 'R-AS-174')
  const { key, size, mode, uid } = segment
  return { key, size, mode, uid, attached: attached(segment) }
}
