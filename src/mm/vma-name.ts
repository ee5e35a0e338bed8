import { EAGAIN, EBADF, EFAULT, EINVAL, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { finishUprobes } from './uprobe-hooks.ts'
import { isReadable, type UserString } from './user-string.ts'
import { alignUp, asWord, isPageAligned, rangeEnd } from './user-range.ts'
import { changedShape, vmaModify } from './vma-merge.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { lockForWrite, tryWriteNow } from './write-lock.ts'

/** ANON_VMA_NAME_MAX_LEN: with the byte that ends it */
const MAX_LENGTH = 80
const FORBIDDEN = '\\`$[]'

/**
 * prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME): names anonymous memory, private or shared, for /proc. VMAs in
 * order: a hole is skipped and remembered, a mapping of a file ends the walk.
 * @param addr page aligned
 * @param len bytes, rounded up to pages
 * @param name null takes names away
 * @returns 0, -EINVAL, -EFAULT, -ENOMEM (hole), -EBADF (a file is mapped), -EAGAIN (map_count), -EINTR
 * @rule R-AS-109
 */
export function* setAnonVmaName(
  k: Kernel,
  mm: Mm,
  addr: number,
  len: number,
  name: UserString | null,
): Kthread<number> {
  const invalid = (why: string): number => refuse(k.current, EINVAL, 'R-AS-109', { why })
  if (!k.settings.anonVmaName) return invalid('this kernel is built without names for anonymous memory')
  if (name !== null && !isReadable(name))
    return refuse(k.current, EFAULT, 'R-AS-109', { why: 'the name cannot be read' })
  if (name !== null && name.length >= MAX_LENGTH) return invalid('the name is longer than 79 bytes')
  if (name !== null && ![...name].every(isPermitted))
    return invalid('the name has a character it may not have')
  const start = asWord(addr)
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const word = asWord(len)
  const length = alignUp(word)
  const end = rangeEnd(start, length)
  let result: number
  if (!isPageAligned(start)) result = invalid('the address is not page aligned')
  else if ((word !== 0 && length === 0) || end === null) result = invalid('the range wraps around')
  else result = length === 0 ? 0 : nameRange(k, guard, start, end < 0 ? Infinity : end, name)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  guard.release()
  return result
}

function isPermitted(character: string): boolean {
  return character >= ' ' && character <= '~' && !FORBIDDEN.includes(character)
}

function nameRange(
  k: Kernel,
  guard: MmapWriteGuard,
  start: number,
  end: number,
  name: string | null,
): number {
  const { mm, vmas } = guard
  let hole = -1
  for (let at = start; at < end;) {
    const vma = at < 0 ? null : vmas.find(at)
    if (vma === null || vma.start > at) {
      if (hole < 0) hole = at
      if (vma === null || vma.start >= end) break
      at = vma.start
    }
    const to = Math.min(vma.end, end)
    if (!mayBeNamed(k, vma))
      return refuse(k.current, EBADF, 'R-AS-109', {
        address: at,
        vma: vmaFacts(vma),
        why: 'a file is mapped here',
      })
    if (vma.anonName !== name) {
      const target = vmaModify(k, mm, vmas, vma, at, to, changedShape(vma, { anonName: name }))
      if (target === -ENOMEM)
        return refuse(
          k.current,
          EAGAIN,
          'R-AS-109',
          { address: at, why: 'the mapping cannot be split' },
          k.current.refusal,
        )
      if (typeof target === 'number') return target
    }
    at = to
  }
  if (hole === -1) return 0
  return refuse(k.current, ENOMEM, 'R-AS-109', { address: hole, why: 'a part of the range is not mapped' })
}

/**
 * Memory without a file; where the release says so also the shared kind, whose file is its own. What happens
 * to the mapping of a memfd could be seen on no kernel.
 */
function mayBeNamed(k: Kernel, vma: Vma): boolean {
  if (vma.file === null) return true
  if (!k.release.mm.namesSharedAnonymous || !vma.file.mapping.kind.shmemOps) return false
  if (vma.file.mapping.sharedAnonymous) return true
  throw new Unmodelled('a name for the memory of a memfd or tmpfs file', 'R-AS-109')
}
