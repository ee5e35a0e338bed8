import { EACCES, EFAULT, EINVAL, EPERM, ESRCH } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { mmput } from '../mm/exit-mmap.ts'
import { FOLL_WRITE } from '../mm/gup-flags.ts'
import { LockedGuard, PageArray, pinUserPagesRemote } from '../mm/gup.ts'
import { UserIter } from '../mm/iov-iter.ts'
import { importIovec, iovecFromUser, type Iovec, type IovecArray } from '../mm/iovec.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import { unpinUserPagesDirtyLock } from '../mm/unpin.ts'
import { presentPfn } from '../mm/user-access.ts'
import { alignDown, unsigned } from '../mm/user-range.ts'
import { mmAccess } from './ptrace-access.ts'
import { findTask } from './task.ts'

/*
 * @caller process_vm_readv, process_vm_writev
 * @entry the system calls
 * @gup pin_user_pages_remote, FOLL_WRITE for writev, batches
 * @lock mmap_lock for read, lent
 * @budget none
 * @errno EFAULT, or a short count
 * @release after each batch; dirty when written
 * @test tests/task/process-vm-access.test.ts
 */

/** Arguments of process_vm_readv(2) and process_vm_writev(2). */
export interface ProcessVmCall {
  readonly pid: number
  /** the caller's side */
  readonly local: IovecArray
  /** an unsigned long */
  readonly localCount: number
  /** the other process's side */
  readonly remote: IovecArray
  readonly remoteCount: number
  /** must be 0 */
  readonly flags: number
}

/** Pages pinned at once: two pages of pointers. */
const PAGES_PER_LOOP = (2 * PAGE_SIZE) / 8

/**
 * process_vm_readv(2) and process_vm_writev(2): copies between the caller's memory and another process's,
 * piece by piece; the pages of each batch are pinned while they are copied. The *remote* length decides how
 * many pages that are.
 *
 * The page-pointer array is taken to be there: allocations of the model do not fail (ENOMEM, step 6 of
 * R-PVM-1), and nothing makes the access check wait (EINTR, step 8).
 * @returns bytes copied, or -EINVAL, -EFAULT, -ESRCH, -EPERM with nothing copied
 * @rule R-PVM-1
 */
export function* processVmRw(k: Kernel, call: ProcessVmCall, write: boolean): Kthread<number> {
  const { current } = k
  // @rule R-PVM-1.1
  if (call.flags !== 0) return refuse(current, EINVAL, 'R-PVM-1.1', { why: 'flags must be 0' })
  // @rule R-PVM-1.2
  const local = importIovec(k, call.local, call.localCount, 'R-PVM-1.2')
  if (typeof local === 'number') return local
  // @rule R-PVM-1.3
  if (local.total === 0) return 0
  // @rule R-PVM-1.4
  const remote = iovecFromUser(current, call.remote, call.remoteCount, 'R-PVM-1.4')
  if (typeof remote === 'number') return remote
  // @rule R-PVM-1.5
  if (remote.every(({ length }) => length === 0)) return 0
  // @rule R-PVM-1.7
  const task = findTask(k, call.pid)
  if (task === null) return refuse(current, ESRCH, 'R-PVM-1.7', { why: 'there is no such process' })
  // @rule R-PVM-1.8
  const mm = mmAccess(k, task, 'attach', 'R-PVM-1.8')
  if (mm === -EACCES) return refuse(current, EPERM, 'R-PVM-1.8', { ...current.refusal })
  if (typeof mm === 'number') return mm
  const result = yield* transfer(k, mm, new UserIter(k, current.mm!, local.entries), remote, write)
  yield* mmput(k, mm)
  return result
}

/**
 * Remote entries in order, each as a whole before the next, until the local side is full or something fails.
 * @rule R-PVM-2
 * @rule R-PVM-7
 */
function* transfer(
  k: Kernel,
  mm: Mm,
  iter: UserIter,
  remote: readonly Iovec[],
  write: boolean,
): Kthread<number> {
  const wanted = iter.count
  let error = 0
  for (const { base, length } of remote) {
    if (iter.count === 0 || error !== 0) break
    if (length > 0) error = yield* transferOne(k, mm, iter, base, length, write)
  }
  return wanted === iter.count ? error : wanted - iter.count
}

/**
 * `process_vm_rw_single_vec`: one remote entry in batches of pages.
 *
 * The local buffer of a batch is reached with mmap_lock dropped and the pages pinned.
 * @param base signed
 * @returns 0 or -EFAULT
 * @rule R-PVM-3
 */
function* transferOne(
  k: Kernel,
  mm: Mm,
  iter: UserIter,
  base: number,
  length: number,
  write: boolean,
): Kthread<number> {
  // the sum is exact for every range GUP may accept: others fail at their first page
  const start = alignDown(base)
  let offset = base - start
  let left = length
  // @rule R-PVM-8
  let pagesLeft = Math.ceil((offset + length) / PAGE_SIZE)
  const pages = new PageArray(Math.min(pagesLeft, PAGES_PER_LOOP))
  for (let address = start; pagesLeft > 0 && iter.count > 0;) {
    const n = Math.min(pagesLeft, PAGES_PER_LOOP)
    const pinned = yield* pinBatch(k, mm, unsigned(address), n, write, pages)
    if (pinned < 0) return pinned
    if (k.exploring) yield PREEMPT
    const bytes = Math.min(pinned * PAGE_SIZE - offset, left)
    const copied = yield* copyPages(k, iter, pages, offset, bytes, write)
    // @rule R-PVM-6
    // @rule R-PVM-11
    yield* unpinUserPagesDirtyLock(k, pages, pinned, write)
    // @rule R-PVM-5
    if (copied < 0) return copied
    left -= bytes
    offset = 0
    pagesLeft -= pinned
    address += pinned * PAGE_SIZE
  }
  return 0
}

/**
 * @returns pages pinned, at least one; -EFAULT whatever GUP said
 * @rule R-PVM-4
 */
function* pinBatch(
  k: Kernel,
  mm: Mm,
  address: number,
  n: number,
  write: boolean,
  pages: PageArray,
): Kthread<number> {
  const locked = new LockedGuard(mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read()))
  // @rule R-PVM-9
  const pinned = yield* pinUserPagesRemote(k, mm, address, n, write ? FOLL_WRITE : 0, pages, locked)
  locked.guard?.release()
  if (pinned > 0) return pinned
  const cause = k.current.refusal
  return refuse(
    k.current,
    EFAULT,
    'R-PVM-4',
    { address, ...cause, why: 'the memory of the other process cannot be accessed there' },
    cause,
  )
}

/**
 * `process_vm_rw_pages`: from or into pinned pages, page by page; the local side may fault and stops at the
 * byte that does.
 * @param offset in the first page
 * @returns 0, also when the local side is full; -EFAULT
 * @rule R-PVM-5
 */
function* copyPages(
  k: Kernel,
  iter: UserIter,
  pages: PageArray,
  offset: number,
  length: number,
  write: boolean,
): Kthread<number> {
  const { contents } = k.memory
  const scratch = new Uint8Array(PAGE_SIZE)
  for (let done = 0; done < length && iter.count > 0;) {
    const at = offset + done
    const pfn = pages.pfns[Math.floor(at / PAGE_SIZE)]!
    const inPage = at % PAGE_SIZE
    const bytes = Math.min(length - done, PAGE_SIZE - inPage, together(k, iter, pfn, inPage, write))
    const part = scratch.subarray(0, bytes)
    let copied: number
    if (write) {
      copied = yield* iter.copyFrom(part)
      contents.write(pfn, inPage, part.subarray(0, copied))
    } else {
      contents.read(pfn, inPage, part)
      copied = yield* iter.copyTo(part)
    }
    done += copied
    if (copied < part.length)
      return refuse(k.current, EFAULT, 'R-PVM-5', { why: 'the local buffer cannot be accessed there' })
  }
  return 0
}

/**
 * Bytes that can be copied at once. Where both sides show the same page, the kernel's copy runs upwards
 * and reads again what it has written: pieces no longer than the distance do the same. Whether it is the same
 * page is known once the local one is there.
 * @rule R-PVM-13
 */
function together(k: Kernel, iter: UserIter, pfn: number, inPage: number, write: boolean): number {
  const { base, length } = iter.place
  const local = presentPfn(k.current.mm!, base)
  if (local === 0) return 1
  if (local !== pfn) return length
  const ahead = (base % PAGE_SIZE) - inPage
  const distance = write ? -ahead : ahead
  return distance > 0 ? Math.min(length, distance) : length
}
