import { EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { fillHugetlb } from './hugetlb-uffd.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { newCachedPage, pageCacheRemove } from './filemap.ts'
import { maybeWrite, vmPageProt, readProt } from './page-prot.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_DEVICE_EXCLUSIVE,
  PTE_DIRTY,
  PTE_MARKER_POISON,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_MIGRATION,
  PTE_SWAP,
  PTE_UFFD_WP,
  PTE_WRITE,
  pmdIndex,
  pteSlot,
} from './page-table.ts'
import { addFilePage, addNewAnonPage, anonVmaPrepare } from './rmap.ts'
import type { Userfaultfd } from './userfaultfd-context.ts'
import {
  UFFDIO_CONTINUE_MODE_DONTWAKE,
  UFFDIO_CONTINUE_MODE_WP,
  UFFDIO_COPY_MODE_DONTWAKE,
  UFFDIO_COPY_MODE_WP,
  UFFDIO_POISON_MODE_DONTWAKE,
  UFFDIO_ZEROPAGE_MODE_DONTWAKE,
} from './userfaultfd-flags.ts'
import { addressSpaceGone, validateRange } from './userfaultfd-register.ts'
import { changing } from './userfaultfd-wp.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { VM_SHARED, VM_UFFD_WP } from './vm-flags.ts'
import { lockForRead } from './write-lock.ts'

/** What a range is filled with. */
export interface Fill {
  readonly how: 'copy' | 'zero' | 'continue' | 'poison'
  /** whole pages, for `copy` */
  readonly bytes: Uint8Array | null
  /** the pages arrive write-protected */
  readonly protect: boolean
  readonly wake: boolean
}

/**
 * UFFDIO_COPY: fills pages from `dst` on with bytes, and lets those who wait for them go on.
 * @param bytes whole pages; read from the caller's memory before
 * @param mode UFFDIO_COPY_MODE_*
 * @param length as asked for; one that is possible is that of `bytes`
 * @returns bytes filled; fewer than asked when a later page could not be filled (the request then fails with
 * EAGAIN). For the first page -EEXIST, -ENOENT (not watched), -EFAULT (beyond the end of the file), -EINVAL, -ENOMEM;
 * -EAGAIN while events wait to be read, -ESRCH
 * @rule R-FLT-113
 * @rule R-FLT-125
 */
export function uffdCopy(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  dst: number,
  bytes: Uint8Array,
  mode = 0,
  length = bytes.length,
): Kthread<number> {
  const protect = (mode & UFFDIO_COPY_MODE_WP) !== 0
  const wake = (mode & UFFDIO_COPY_MODE_DONTWAKE) === 0
  const known = UFFDIO_COPY_MODE_DONTWAKE | UFFDIO_COPY_MODE_WP
  return fill(k, context, mm, dst, length, mode & ~known, { how: 'copy', bytes, protect, wake })
}

/**
 * UFFDIO_ZEROPAGE: as `uffdCopy`, with zeros; private memory gets the zero page.
 * @param length bytes
 * @param mode UFFDIO_ZEROPAGE_MODE_*
 * @rule R-FLT-113
 */
export function uffdZeropage(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  dst: number,
  length: number,
  mode = 0,
): Kthread<number> {
  const wake = (mode & UFFDIO_ZEROPAGE_MODE_DONTWAKE) === 0
  const unknown = mode & ~UFFDIO_ZEROPAGE_MODE_DONTWAKE
  return fill(k, context, mm, dst, length, unknown, { how: 'zero', bytes: null, protect: false, wake })
}

/**
 * UFFDIO_CONTINUE: maps pages that are in the cache of their file.
 * @param length bytes
 * @param mode UFFDIO_CONTINUE_MODE_*
 * @returns as `uffdCopy`; -EFAULT where nothing is cached
 * @rule R-FLT-113
 */
export function uffdContinue(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  dst: number,
  length: number,
  mode = 0,
): Kthread<number> {
  const protect = (mode & UFFDIO_CONTINUE_MODE_WP) !== 0
  const wake = (mode & UFFDIO_CONTINUE_MODE_DONTWAKE) === 0
  const known = UFFDIO_CONTINUE_MODE_DONTWAKE | (k.release.uffd.continueWp ? UFFDIO_CONTINUE_MODE_WP : 0)
  return fill(k, context, mm, dst, length, mode & ~known, { how: 'continue', bytes: null, protect, wake })
}

/**
 * UFFDIO_POISON: from now on an access finds a poisoned page. The release has the request
 * (UFFD_FEATURE_POISON).
 * @param length bytes
 * @param mode UFFDIO_POISON_MODE_*
 * @returns as `uffdCopy`
 * @rule R-FLT-113
 */
export function uffdPoison(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  dst: number,
  length: number,
  mode = 0,
): Kthread<number> {
  const wake = (mode & UFFDIO_POISON_MODE_DONTWAKE) === 0
  const unknown = mode & ~UFFDIO_POISON_MODE_DONTWAKE
  return fill(k, context, mm, dst, length, unknown, { how: 'poison', bytes: null, protect: false, wake })
}

function* fill(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  dst: number,
  length: number,
  unknownMode: number,
  what: Fill,
): Kthread<number> {
  if (context.changing > 0) return changing(k)
  const invalid = validateRange(k, dst, length)
  if (invalid < 0) return invalid
  if (unknownMode !== 0) return refuse(k.current, EINVAL, 'R-FLT-113', { why: 'the mode is not known' })
  if (!k.mms.has(mm)) return addressSpaceGone(k)
  const guard = yield* lockForRead(k, mm)
  const done = fillRange(k, guard, dst, length, what)
  guard.release()
  if (done > 0 && what.wake) context.wake(dst, dst + done)
  return done
}

/** `mfill_atomic`: bytes filled, or -errno when that is none. */
function fillRange(k: Kernel, guard: MmapReadGuard, dst: number, length: number, what: Fill): number {
  const vma = guard.vmas.find(dst)
  if (vma === null || vma.start > dst) return notWatched(k, dst)
  const isPrivate = (vma.flags & VM_SHARED) === 0
  const { preparesBeforeChecks } = k.release.uffd
  if (isPrivate && preparesBeforeChecks) anonVmaPrepare(k, vma, guard.mm)
  if (dst + length > vma.end || vma.uffd === null) return notWatched(k, dst)
  const error = checkKind(k, vma, dst, what)
  if (error < 0) return error
  if (vma.isHugetlb) return fillHugetlb(k, guard.mm, vma, dst, length, what)
  if (isPrivate) anonVmaPrepare(k, vma, guard.mm)
  for (let done = 0; done < length; done += PAGE_SIZE) {
    const failed = fillPage(k, guard.mm, vma, dst + done, done, what)
    if (failed < 0) return done > 0 ? done : failed
  }
  return length
}

function notWatched(k: Kernel, address: number): number {
  const why = 'the range is not within one mapping that a userfaultfd watches'
  return refuse(k.current, ENOENT, 'R-FLT-113', { address, why })
}

/** Whether this kind of mapping can be filled in this way. 0 or -EINVAL. */
function checkKind(k: Kernel, vma: Vma, address: number, { how, protect }: Fill): number {
  const facts = { address, vma: vmaFacts(vma) }
  if (protect && (vma.flags & VM_UFFD_WP) === 0) {
    const why = 'pages are to arrive protected where nobody watches for writes'
    return refuse(k.current, EINVAL, 'R-FLT-113', { ...facts, why })
  }
  if (vma.isHugetlb) return 0
  const shmem = !vma.isAnonymous && vma.file?.mapping.kind.shmemOps === true
  if (shmem || (vma.isAnonymous && how !== 'continue')) return 0
  return refuse(k.current, EINVAL, 'R-FLT-113', { ...facts, why: 'this kind of mapping cannot be filled' })
}

/** `mfill_atomic_pte`: 0 or -errno. */
function fillPage(k: Kernel, mm: Mm, vma: Vma, address: number, offset: number, what: Fill): number {
  const facts = { address, vma: vmaFacts(vma) }
  const present = (): number =>
    refuse(k.current, EEXIST, 'R-FLT-113', { ...facts, why: 'a page is there already' })
  if (mm.pageTable.pmd(pmdIndex(address)) instanceof HugePmd) return present()
  const slot = pteSlot(address)
  const leaf = mm.pageTable.leafFor(address)
  const before = leaf.bits[slot]!
  // markers do not keep pages away, but from the requests that install no page
  const taken = (before & (PTE_PRESENT | PTE_SWAP | PTE_MIGRATION | PTE_DEVICE_EXCLUSIVE)) !== 0
  const mapping = vma.isAnonymous ? null : vma.file!.mapping
  const index = vma.pageIndex(address)
  const beyondEnd = mapping !== null && index * PAGE_SIZE >= mapping.size
  const atEnd = (errno: number): number =>
    refuse(k.current, errno, 'R-FLT-113', { ...facts, why: 'the address lies beyond the end of the file' })
  const wp = what.protect ? PTE_UFFD_WP : 0
  const writable = wp === 0 ? maybeWrite(vma) : 0
  const base = vmPageProt(vma) & ~PTE_WRITE

  if (what.how === 'poison') {
    if (beyondEnd) return atEnd(EFAULT)
    if (before !== 0) return present()
    leaf.set(slot, 0, PTE_MARKER_POISON)
    return 0
  }
  if (what.how === 'continue') {
    if (beyondEnd) return atEnd(EINVAL)
    const pfn = mapping!.pages.get(index)
    if (pfn === 0) {
      const why = 'nothing is cached that could be mapped'
      return refuse(k.current, EFAULT, 'R-FLT-113', { ...facts, why })
    }
    if (taken) return present()
    addFilePage(k, mm, vma, pfn)
    const write = (vma.flags & VM_SHARED) === 0 ? 0 : writable
    leaf.set(slot, pfn, base | PTE_ACCESSED | PTE_DIRTY | write | wp)
    return 0
  }
  if ((vma.flags & VM_SHARED) !== 0) {
    if (beyondEnd) return atEnd(EFAULT)
    if (mapping!.pages.get(index) !== 0) return present()
    const page = newCachedPage(k, mapping!, index)
    if (page === 0) return refuse(k.current, ENOMEM, 'R-FLT-113', { address, why: 'no free page is left' })
    if (taken) {
      pageCacheRemove(k, mapping!, index)
      return present()
    }
    if (what.bytes !== null) k.memory.contents.write(page, 0, what.bytes.subarray(offset, offset + PAGE_SIZE))
    addFilePage(k, mm, vma, page)
    leaf.set(slot, page, base | PTE_ACCESSED | PTE_DIRTY | writable | wp)
    return 0
  }
  if (what.how === 'zero') {
    if (beyondEnd) return atEnd(EFAULT)
    if (before !== 0) return present()
    leaf.set(slot, k.zeroPfn, (readProt(vma) & ~PTE_WRITE) | PTE_SPECIAL | PTE_ACCESSED)
    return 0
  }
  if (beyondEnd) return atEnd(EFAULT)
  if (taken) return present()
  const pfn = k.memory.allocFolio(0, { movable: true })
  if (pfn === 0) return refuse(k.current, ENOMEM, 'R-FLT-113', { address, why: 'no free page is left' })
  k.memory.contents.write(pfn, 0, what.bytes!.subarray(offset, offset + PAGE_SIZE))
  addNewAnonPage(k, mm, vma, address, pfn)
  leaf.set(slot, pfn, base | PTE_ACCESSED | PTE_DIRTY | writable | wp)
  return 0
}
