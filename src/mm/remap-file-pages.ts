import { EINVAL } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import {
  MAP_FIXED,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_POPULATE,
  MAP_SHARED,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from './mman.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { doMmap } from './mmap.ts'
import { mmPopulate } from './populate.ts'
import { alignDown, asWord, rangeEnd } from './user-range.ts'
import { takeChanges, tellChanges } from './userfaultfd-events.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { VM_LOCKED, VM_SHARED } from './vm-flags.ts'
import { lockForWrite, tryWriteNow } from './write-lock.ts'

/**
 * remap_file_pages(2): other pages of its file appear in a part of a shared mapping, which becomes a mapping
 * of its own.
 * @param addr rounded down to a page
 * @param size bytes, rounded down to pages
 * @param prot 0
 * @param pgoff pages into the file
 * @param flags MAP_NONBLOCK; everything else is ignored
 * @returns 0, -EINVAL, or what mmap(2) refuses with, -EINTR
 * @rule R-AS-112
 */
export function* remapFilePages(
  k: Kernel,
  mm: Mm,
  addr: number,
  size: number,
  prot: number,
  pgoff: number,
  flags: number,
): Kthread<number> {
  const invalid = (why: string, vma?: Vma): number =>
    refuse(k.current, EINVAL, 'R-AS-112', vma === undefined ? { why } : { why, vma: vmaFacts(vma) })
  if (prot !== 0) return invalid('the protection is not 0')
  const start = alignDown(asWord(addr))
  const length = alignDown(asWord(size))
  const end = rangeEnd(start, length)
  if (length === 0 || end === null) return invalid('the range is empty or wraps around')
  const first = asWord(pgoff)
  if (rangeEnd(first, length / PAGE_SIZE) === null) return invalid('the range of the file wraps around')
  // the kernel looks under the read lock and once more under the write lock
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const vma = start < 0 ? null : guard.vmas.find(start)
  let result: number
  if (vma === null || vma.start > start) result = invalid('nothing is mapped here')
  else if ((vma.flags & VM_SHARED) === 0) result = invalid('the mapping is not shared', vma)
  else if (!isUniform(guard, vma, end < 0 ? Infinity : end))
    result = invalid('the range leaves its mapping', vma)
  else {
    const file = vma.file!.get()
    const locked = (vma.flags & VM_LOCKED) !== 0 ? MAP_LOCKED : 0
    result = yield* doMmap(k, guard, {
      addr: start,
      length,
      // VM_READ, VM_WRITE and VM_EXEC are the PROT_ bits
      prot: vma.flags & (PROT_READ | PROT_WRITE | PROT_EXEC),
      flags: MAP_SHARED | MAP_FIXED | MAP_POPULATE | locked | (flags & MAP_NONBLOCK),
      file,
      pgoff: first,
    })
    file.put()
    const populate = result >= 0 && (locked !== 0 || (flags & MAP_NONBLOCK) === 0)
    const changes = takeChanges(mm)
    guard.release()
    yield* tellChanges(k, changes)
    if (populate) yield* mmPopulate(k, mm, start, length, true)
    return Math.min(result, 0)
  }
  guard.release()
  return result
}

/** The range lies in one mapping, or in several that differ in nothing but the pages they show. */
function isUniform(guard: MmapReadGuard, first: Vma, end: number): boolean {
  let last = first
  while (last.end < end) {
    const next = guard.vmas.find(last.end)
    if (
      next === null ||
      next.start !== last.end ||
      next.file !== first.file ||
      next.flags !== first.flags ||
      next.highFlags !== first.highFlags
    )
      return false
    last = next
  }
  return true
}
