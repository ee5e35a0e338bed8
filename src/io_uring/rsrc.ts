import { EFAULT, EINVAL, EOPNOTSUPP } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { FOLL_LONGTERM, FOLL_SAME_FILE, FOLL_WRITE } from '../mm/gup-flags.ts'
import { PageArray, pinUserPages, pinUserPagesFast } from '../mm/gup.ts'
import type { Kernel } from '../mm/kernel.ts'
import { unwatched, vmaLookup, type MmapReadGuard } from '../mm/mmap-lock.ts'
import { unpinUserPages } from '../mm/unpin.ts'
import { vmaFacts, type Vma } from '../mm/vma.ts'
import { RegisteredBuffer, pagesSpanned } from './buffer.ts'
import { coalesce } from './coalesce.ts'
import type { IoUring } from './io-uring.ts'
import { accountBuffer, acctPages, type LastHead } from './memlock.ts'
import { checkPinOverflow, unsigned64, type Iovec } from './user-args.ts'

/*
 * @caller io_uring fixed buffers
 * @entry io_uring_register(2), IORING_REGISTER_BUFFERS and its relatives
 * @gup pin_user_pages FOLL_WRITE FOLL_LONGTERM, with FOLL_SAME_FILE in the series; pin_user_pages_fast from 6.12 on
 * @lock mmap_lock for read, kept; none held with the fast form
 * @budget user->locked_vm (CAP_IPC_LOCK lifts it) and VmPin; large folios whole
 * @errno ENOMEM over the limit; EFAULT for a short pin
 * @release UNREGISTER_BUFFERS, an update of the slot, the last reference to the ring
 * @test tests/io_uring/rsrc.test.ts
 */

/**
 * Pins the pages of [base, base + length) of the current task for writing and for long
 * (`io_pin_pages`). After a failure nothing is pinned, in every release.
 * @param base user address, signed (see `Iovec`)
 * @param length bytes, at least 1
 * @returns the pages, all of them; or a negative errno
 * @rule R-URING-22
 * @rule R-URING-23
 * @rule R-URING-24
 * @rule R-GUP-18
 * @rule R-GUP-99
 * @rule R-GUP-114
 */
export function* ioPinPages(k: Kernel, base: number, length: number): Kthread<PageArray | number> {
  const overflow = checkPinOverflow(k, base, length)
  if (overflow < 0) return overflow
  const n = pagesSpanned(base, length)
  const start = unsigned64(Math.floor(base / PAGE_SIZE) * PAGE_SIZE)
  const pages = new PageArray(n)
  k.current.refusal = null
  // @rule R-URING-31
  // @rule R-URING-34
  const got = k.release.ioUring.pinsFast
    ? yield* pinUserPagesFast(k, start, n, FOLL_WRITE | FOLL_LONGTERM, pages)
    : yield* pinLocked(k, start, n, pages)
  if (got === n) return pages
  // @rule R-URING-35
  if (got < 0) return got
  unpinUserPages(k, pages, got)
  return refuse(
    k.current,
    EFAULT,
    'R-URING-24',
    {
      address: start + got * PAGE_SIZE,
      page: got,
      wanted: n,
      got,
      why: 'not every page of the buffer can be pinned',
    },
    k.current.refusal,
  )
}

/**
 * Until 6.11: pins under mmap_lock and looks at the mappings before it lets go of it, so what it looks at
 * belongs to the pages it pinned.
 * @returns pages pinned, or a negative errno with nothing pinned
 * @rule R-URING-30
 * @rule R-URING-84
 */
function* pinLocked(k: Kernel, start: number, n: number, pages: PageArray): Kthread<number> {
  const { pinCheck } = k.release.ioUring
  const { mm } = k.current
  if (mm === null) throw new Error('io_uring_register by a task without an address space')
  // @rule R-URING-28
  const sameFile = pinCheck === 'same-file' ? FOLL_SAME_FILE : 0
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  const got = yield* pinUserPages(k, guard, start, n, FOLL_WRITE | FOLL_LONGTERM | sameFile, pages)
  let error = 0
  if (got === n && pinCheck === 'same-file') error = checkFirstVma(k, guard, start)
  else if (got === n && pinCheck === 'vmas') error = checkEveryVma(k, guard, start, n)
  guard.release()
  if (error === 0) return got
  unpinUserPages(k, pages, n)
  return error
}

/**
 * The series: FOLL_SAME_FILE has seen to it that the range has one file, so one look-up tells the type.
 * A missing VMA after a complete pin under the lock cannot happen; it is answered all the same.
 * @rule R-URING-26
 * @rule R-URING-29
 */
function checkFirstVma(k: Kernel, guard: MmapReadGuard, address: number): number {
  const vma = vmaLookup(guard, address)
  return vma === null ? refuseNoVma(k, address, 'R-URING-29') : checkFileType(k, vma, address, 'R-URING-26')
}

/**
 * 6.1: every page's VMA must have the file of the first one, and that file must be of the right type;
 * the first page that has either fault decides.
 * @rule R-URING-25
 */
function checkEveryVma(k: Kernel, guard: MmapReadGuard, start: number, n: number): number {
  const end = start + n * PAGE_SIZE
  const first = vmaLookup(guard, start)
  if (first === null) return refuseNoVma(k, start, 'R-URING-25')
  const { file } = first
  for (let address = start; address < end;) {
    const vma = vmaLookup(guard, address)
    if (vma === null) return refuseNoVma(k, address, 'R-URING-25')
    if (vma.file !== file) {
      return refuse(k.current, EINVAL, 'R-URING-25', {
        address,
        page: (address - start) / PAGE_SIZE,
        vma: vmaFacts(unwatched(vma)),
        why: 'the buffer continues into a mapping of another file',
      })
    }
    const error = checkFileType(k, vma, address, 'R-URING-25')
    if (error < 0) return error
    address = vma.end
  }
  return 0
}

function checkFileType(k: Kernel, vma: Vma, address: number, rule: string): number {
  const { file } = vma
  if (file === null || file.mapping.kind.hugetlb || isShmemVma(vma)) return 0
  return refuse(k.current, EOPNOTSUPP, rule, {
    address,
    vma: vmaFacts(unwatched(vma)),
    why: 'the mapping has a file that is neither shmem nor hugetlb',
  })
}

/** `vma_is_shmem`: private mappings of a memfd count, SysV segments have vm_ops of their own and do not. */
function isShmemVma(vma: Vma): boolean {
  return vma.file !== null && vma.file.mapping.kind.shmemOps
}

function refuseNoVma(k: Kernel, address: number, rule: string): number {
  k.warnOnce('io-pin-pages-no-vma', 'io_uring: the pages were pinned, but no mapping is there')
  return refuse(k.current, EINVAL, rule, { address, why: 'the pages were pinned, but no mapping is there' })
}

/**
 * One entry of a register call: pin, coalesce, charge (`io_sqe_buffer_register`). The charge comes after
 * the pin, so running into the limit pins and unpins.
 *
 * 6.1 and 6.6 (and the series) lose the pins when the buffer's descriptor cannot be allocated (R-URING-51's
 * first leak row). Allocations of the model do not fail, and nothing is leaked here on any release.
 * @param iovec validated; {0, 0} for an empty slot
 * @returns the buffer, null for an empty slot, or a negative errno with nothing pinned or charged
 * @rule R-URING-11
 * @rule R-URING-48
 * @rule R-URING-51
 */
export function* sqeBufferRegister(
  k: Kernel,
  ring: IoUring,
  iovec: Iovec,
  last: LastHead,
): Kthread<RegisteredBuffer | null | number> {
  if (iovec.base === 0) return null
  const pages = yield* ioPinPages(k, iovec.base, iovec.length)
  if (typeof pages === 'number') return pages
  const segments = coalesce(k, pages, pages.length)
  if (k.exploring) yield PREEMPT
  const charge = acctPages(k, ring, segments, last)
  const error = accountBuffer(k, ring, charge)
  if (error < 0) {
    unpinUserPages(k, segments.pages, segments.nrPins)
    return error
  }
  // @rule R-URING-85
  if (k.exploring) yield PREEMPT
  return new RegisteredBuffer(iovec.base, iovec.length, pages.length, segments, charge, ring)
}
