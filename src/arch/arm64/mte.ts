import { EFAULT, EIO, EPERM } from '../../base/errno.ts'
import { PREEMPT, type Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { Unmodelled } from '../../base/unmodelled.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { PG_DIRTY, PG_MTE_TAGGED } from '../../memory/page-flags.ts'
import { MTE_GRANULES_PER_PAGE, MTE_GRANULE_SIZE } from '../../memory/tags.ts'
import { mmput } from '../../mm/exit-mmap.ts'
import { FOLL_FORCE, FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, getUserPageVmaRemote, getUserPagesRemote } from '../../mm/gup.ts'
import { UserIter } from '../../mm/iov-iter.ts'
import { accessOk, type Unreadable } from '../../mm/iovec.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { vmaLookup, type MmapReadGuard } from '../../mm/mmap-lock.ts'
import { dirtyLock, putPage } from '../../mm/unpin.ts'
import { VMH_MTE } from '../../mm/vm-flags.ts'
import { checkAttach } from '../../task/ptrace.ts'
import type { TaskStruct } from '../../task/task.ts'

/*
 * @caller arm64 MTE tags through ptrace
 * @entry ptrace(2), PTRACE_PEEKMTETAGS and PTRACE_POKEMTETAGS
 * @gup get_user_pages_remote FOLL_FORCE, FOLL_WRITE for POKE, one page; get_user_page_vma_remote from 6.6 on
 * @lock mmap_lock for read, killable, kept
 * @budget none
 * @errno EIO, whatever the page's errno was; EFAULT for the tracer's buffer
 * @release after each page; dirty after POKE
 * @test tests/arch/arm64/mte.test.ts
 */

export const PTRACE_PEEKMTETAGS = 33
export const PTRACE_POKEMTETAGS = 34

/** Memory of the tracer, a byte for each tag. `struct iovec`, whose length is written back. */
export interface TagsIovec {
  readonly base: number
  /** bytes, that is tags; afterwards how many were transferred */
  length: number
  /** the length cannot be written back */
  readonly unwritable?: boolean
}

/** An address of the tracee, with or without the tag that a pointer carries in bits 56 to 59. */
export interface TaggedAddress {
  readonly address: number
  /** 0 to 15 */
  readonly tag: number
}

/**
 * `mte_ptrace_copy_tags`: PTRACE_PEEKMTETAGS and PTRACE_POKEMTETAGS.
 * @param at rounded down to a granule of 16 bytes
 * @returns 0, with the number of tags in `iovec.length`; -ESRCH, -EIO, -EFAULT, -EPERM
 * @throws Unmodelled for no tags at all where the release does not say what that returns
 * @rule R-MTE-1
 * @rule R-MTE-2
 */
export function* mtePtraceCopyTags(
  k: Kernel,
  pid: number,
  request: typeof PTRACE_PEEKMTETAGS | typeof PTRACE_POKEMTETAGS,
  at: number | TaggedAddress,
  iovec: TagsIovec | Unreadable,
): Kthread<number> {
  const task = checkAttach(k, pid)
  if (typeof task === 'number') return task
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-MTE-2', { why })
  if (!k.settings.mte) return refused(EIO, 'the processor does not tag memory')
  if (iovec === 'unreadable') return refused(EFAULT, 'the iovec cannot be read')
  const mm = tracedMm(k, task)
  if (mm === null) return refused(EPERM, 'the process has no memory, or is not dumpable')
  if (!accessOk(iovec.base, iovec.length)) return refused(EFAULT, 'the buffer is no user memory')
  const { address, tag } = typeof at === 'number' ? { address: at, tag: 0 } : at
  const start = address - (address % MTE_GRANULE_SIZE)
  k.current.refusal = null
  mm.users++
  const result = yield* accessRemoteTags(
    k,
    mm,
    { address: start, tag },
    iovec,
    request === PTRACE_POKEMTETAGS,
  )
  yield* mmput(k, mm)
  if (result < 0) return result
  // @rule R-MTE-5
  if (iovec.unwritable === true)
    return refuse(k.current, EFAULT, 'R-MTE-5', { why: 'the iovec cannot be written' })
  iovec.length = result
  return 0
}

/** The tracee's memory, null when the tracer may not look at it. */
function tracedMm(k: Kernel, { mm, trace }: TaskStruct): Mm | null {
  if (mm === null || trace?.tracer !== k.current) return null
  return mm.dumpable || trace.capable ? mm : null
}

/**
 * `__access_remote_tags`: page after page, until one cannot be had, has no tags, or the tracer's buffer ends.
 * @returns tags transferred, at least 1; -EIO, -EFAULT
 * @rule R-MTE-3
 * @rule R-MTE-4
 * @rule R-MTE-5
 */
function* accessRemoteTags(
  k: Kernel,
  mm: Mm,
  at: TaggedAddress,
  { base, length }: TagsIovec,
  write: boolean,
): Kthread<number> {
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.readKillable())
  if (typeof guard === 'number')
    return refuse(k.current, EIO, 'R-MTE-2', { why: 'killed while waiting for mmap_lock' })
  const buffer = new UserIter(k, k.current.mm!, [{ base, length }])
  let error = 0
  let done = 0
  while (done < length) {
    if (k.exploring) yield PREEMPT
    const address = at.address + done * MTE_GRANULE_SIZE
    const pfn = yield* taggedPage(k, guard, { ...at, address }, write)
    if (pfn < 0) {
      error = pfn
      break
    }
    const granule = (address % PAGE_SIZE) / MTE_GRANULE_SIZE
    const most = Math.min(length - done, MTE_GRANULES_PER_PAGE - granule)
    const moved = write
      ? yield* copyTagsFromUser(k, buffer, pfn, granule, most)
      : yield* copyTagsToUser(k, buffer, pfn, granule, most)
    putPage(k, pfn)
    if (moved === 0) break
    done += moved
  }
  guard.release()
  if (done > 0) return done
  if (length === 0) return noTags(k)
  const cause = k.current.refusal
  const why = error < 0 ? 'not even the first tag is there' : "the tracer's buffer cannot be accessed"
  return refuse(k.current, error < 0 ? EIO : EFAULT, 'R-MTE-5', { address: at.address, why }, cause)
}

/** @rule R-MTE-6 */
function noTags(k: Kernel): number {
  if (k.release.remote.noTagsIsFault)
    return refuse(k.current, EFAULT, 'R-MTE-6', { why: 'no tags were asked for' })
  throw new Unmodelled('a transfer of no tags, whose result is never set', 'R-MTE-6')
}

/**
 * One page with tags, by the release's way to its VMA.
 * @returns the pfn with a FOLL_GET reference, or a negative errno with nothing held
 * @rule R-MTE-4
 * @rule R-MTE-7
 * @rule R-MTE-8
 * @rule R-MTE-10
 * @rule R-COM-20
 * @rule R-COM-21
 * @rule R-COM-22
 */
function* taggedPage(
  k: Kernel,
  guard: MmapReadGuard,
  { address, tag }: TaggedAddress,
  write: boolean,
): Kthread<number> {
  const flags = write ? FOLL_FORCE | FOLL_WRITE : FOLL_FORCE
  const { tagsVma } = k.release.remote
  // GUP looks past the tag of an address, the look-up of a VMA does not
  const whole = address + tag * 2 ** 56
  const page = new PageArray(1)
  let pfn = 0
  if (tagsVma === 'helper') pfn = yield* getUserPageVmaRemote(k, guard, address, flags, whole)
  else {
    const got = yield* getUserPagesRemote(k, guard.mm, address, 1, flags, page, guard)
    pfn = got === 1 ? page.pfns[0]! : got
  }
  if (pfn <= 0) return pfn < 0 ? pfn : -EIO
  const vma = vmaLookup(guard, tagsVma === 'from-gup' ? address : whole)
  if (vma === null) k.warnOnce('mte-no-vma', 'no VMA after a GUP call that kept the lock')
  if (vma === null || (vma.highFlags & VMH_MTE) === 0) {
    putPage(k, pfn)
    const why = vma === null ? 'a page was had, but no mapping is there' : 'the mapping has no PROT_MTE'
    return refuse(k.current, EIO, vma === null ? 'R-MTE-7' : 'R-MTE-4', { address, why })
  }
  const { frames } = k.memory
  const marked = frames.has(vma.isHugetlb ? frames.head(pfn) : pfn, PG_MTE_TAGGED)
  if (!marked && pfn !== k.zeroPfn && !k.isHugeZero(pfn))
    k.warnOnce('mte-untagged-page', 'a page of a mapping with PROT_MTE is not marked as tagged')
  return pfn
}

/** `mte_copy_tags_to_user`. @returns tags copied */
function* copyTagsToUser(
  k: Kernel,
  buffer: UserIter,
  pfn: number,
  granule: number,
  n: number,
): Kthread<number> {
  const tags = new Uint8Array(n)
  k.memory.contents.tags.read(pfn, granule, tags)
  return yield* buffer.copyTo(tags)
}

/** `mte_copy_tags_from_user`; the page is dirty afterwards, even if no tag could be read. */
function* copyTagsFromUser(
  k: Kernel,
  buffer: UserIter,
  pfn: number,
  granule: number,
  n: number,
): Kthread<number> {
  const tags = new Uint8Array(n)
  const copied = yield* buffer.copyFrom(tags)
  if (copied > 0) k.memory.contents.tags.write(pfn, granule, tags.subarray(0, copied))
  const head = k.memory.frames.head(pfn)
  if (!k.memory.frames.has(head, PG_DIRTY)) yield* dirtyLock(k, head)
  return copied
}
