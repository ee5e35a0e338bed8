import { EINVAL, ENAMETOOLONG, ENOENT, ENOTTY, ESRCH } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { utf8 } from '../../base/utf8.ts'
import { mmput } from '../../mm/exit-mmap.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { findVma } from '../../mm/mmap-lock.ts'
import type { Mm } from '../../mm/mm.ts'
import { VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE } from '../../mm/vm-flags.ts'
import type { Vma } from '../../mm/vma.ts'
import { lockForRead } from '../../mm/write-lock.ts'
import { mapsHeader } from './maps-line.ts'

/** query_flags: properties the mapping must have, and which one is meant. */
export const PROCMAP_QUERY_VMA_READABLE = 0x01
export const PROCMAP_QUERY_VMA_WRITABLE = 0x02
export const PROCMAP_QUERY_VMA_EXECUTABLE = 0x04
export const PROCMAP_QUERY_VMA_SHARED = 0x08
/** the mapping at the address, or the first above it that fits */
export const PROCMAP_QUERY_COVERING_OR_NEXT_VMA = 0x10
export const PROCMAP_QUERY_FILE_BACKED_VMA = 0x20
const ALL_FLAGS = 0x3f
const PROPERTIES = 0x0f

/** What `struct procmap_query` is filled with. */
export interface ProcmapQuery {
  readonly address: number
  /** PROCMAP_QUERY_*, default 0 */
  readonly flags?: number
  /** bytes there are for the name and its end; 0, the default: the name is not wanted */
  readonly nameSize?: number
}

/** What the kernel fills in. */
export interface ProcmapAnswer {
  /** bytes */
  readonly start: number
  /** bytes */
  readonly end: number
  /** PROCMAP_QUERY_VMA_* */
  readonly flags: number
  /** bytes */
  readonly pageSize: number
  /** bytes */
  readonly offset: number
  readonly inode: number
  /** `MAJ:MIN`, hexadecimal */
  readonly device: string
  /** '' where there is none or it was not wanted */
  readonly name: string
}

/**
 * ioctl(PROCMAP_QUERY) on an open /proc/PID/maps.
 * @param mm what the file was opened on
 * @returns what is known of one mapping, or -ENOTTY, -EINVAL, -ESRCH, -ENOENT, -ENAMETOOLONG
 * @rule R-MAPS-5
 * @rule R-AS-168
 */
export function* procmapQuery(
  k: Kernel,
  mm: Mm | null,
  query: ProcmapQuery,
): Kthread<ProcmapAnswer | number> {
  const { address, flags = 0, nameSize = 0 } = query
  const no = (errno: number, why: string): number => refuse(k.current, errno, 'R-MAPS-5', { address, why })
  if (!k.release.proc.hasProcmapQuery) return no(ENOTTY, 'this release has no such request')
  if ((flags & ~ALL_FLAGS) !== 0) return no(EINVAL, 'an unknown flag')
  if (mm === null || mm.users === 0) return no(ESRCH, 'the address space is gone')
  mm.users++
  const guard = (k.exploring ? null : mm.mmapLock.tryRead()) ?? (yield* lockForRead(k, mm))
  let vma = findVma(guard, address)
  while (vma !== null && !fits(vma, address, flags))
    vma = (flags & PROCMAP_QUERY_COVERING_OR_NEXT_VMA) === 0 ? null : findVma(guard, vma.end)
  const answer = vma === null ? no(ENOENT, 'no mapping fits') : describe(k, mm, vma, nameSize > 0)
  guard.release()
  yield* mmput(k, mm)
  if (typeof answer === 'number' || answer.name === '') return answer
  if (utf8(answer.name).length + 1 > Math.min(nameSize, PAGE_SIZE))
    return no(ENAMETOOLONG, 'the name is longer')
  return answer
}

function fits(vma: Vma, address: number, flags: number): boolean {
  if ((flags & PROCMAP_QUERY_COVERING_OR_NEXT_VMA) === 0 && vma.start > address) return false
  if ((flags & PROCMAP_QUERY_FILE_BACKED_VMA) !== 0 && vma.file === null) return false
  const wanted = flags & PROPERTIES
  return (properties(vma) & wanted) === wanted
}

function properties({ flags }: Vma): number {
  return (
    ((flags & VM_READ) !== 0 ? PROCMAP_QUERY_VMA_READABLE : 0) |
    ((flags & VM_WRITE) !== 0 ? PROCMAP_QUERY_VMA_WRITABLE : 0) |
    ((flags & VM_EXEC) !== 0 ? PROCMAP_QUERY_VMA_EXECUTABLE : 0) |
    ((flags & VM_MAYSHARE) !== 0 ? PROCMAP_QUERY_VMA_SHARED : 0)
  )
}

function describe(k: Kernel, mm: Mm, vma: Vma, withName: boolean): ProcmapAnswer {
  const { start, end, offset, device, inode, name } = mapsHeader(k, mm, vma)
  const pageSize = vma.isHugetlb ? vma.file!.mapping.pageSize : PAGE_SIZE
  return { start, end, flags: properties(vma), pageSize, offset, inode, device, name: withName ? name : '' }
}
