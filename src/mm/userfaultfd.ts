import { EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, EPERM } from '../base/errno.ts'
import { WaitQueue, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { installAnonPage } from './anon-fault.ts'
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_INTERRUPTIBLE,
  FAULT_FLAG_RETRY_NOWAIT,
  FAULT_FLAG_USER,
  FAULT_FLAG_WRITE,
  VM_FAULT_RETRY,
  VM_FAULT_SIGBUS,
} from './fault-flags.ts'
import { refuseFault } from './fault-refusal.ts'
import { newCachedPage } from './filemap.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard, MmapWriteGuard } from './mmap-lock.ts'
import { vmPageProt } from './page-prot.ts'
import { HugePmd, PTE_ACCESSED, PTE_DIRTY, PTE_SPECIAL, pmdIndex, pteSlot } from './page-table.ts'
import { addFilePage, anonVmaPrepare } from './rmap.ts'
import { vmaModify } from './vma-merge.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { VM_MAYWRITE, VM_SHARED, VM_UFFD_MISSING } from './vm-flags.ts'
import { lockForRead, lockForWrite, tryWriteNow } from './write-lock.ts'

export const UFFDIO_REGISTER_MODE_MISSING = 1
export const UFFDIO_REGISTER_MODE_WP = 2
export const UFFDIO_REGISTER_MODE_MINOR = 4
export const UFFD_PAGEFAULT_FLAG_WRITE = 1

/** One page-fault message as read from the descriptor. */
export interface UffdMessage {
  /** UFFD_PAGEFAULT_FLAG_* */
  readonly flags: number
  /** page aligned */
  readonly address: number
}

interface Waiter {
  readonly address: number
  readonly message: UffdMessage
  woken: boolean
}

export interface UserfaultfdOptions {
  /** UFFD_FEATURE_SIGBUS: SIGBUS instead of a message */
  sigbus?: boolean
  /** created with UFFD_USER_MODE_ONLY: accesses by the kernel get SIGBUS */
  userModeOnly?: boolean
}

/** A userfaultfd context. MISSING mode only; registering for WP or MINOR is Unmodelled. */
export class Userfaultfd {
  readonly id: number
  readonly sigbus: boolean
  readonly userModeOnly: boolean
  /** messages nobody has read yet, oldest first */
  readonly pending: UffdMessage[] = []
  /** faults that sleep until somebody fills their page */
  readonly waiters: Waiter[] = []
  readonly queue: WaitQueue
  /** the address space it was registered in */
  mm: Mm | null = null
  released = false

  constructor(id: number, options: UserfaultfdOptions) {
    this.id = id
    this.sigbus = options.sigbus ?? false
    this.userModeOnly = options.userModeOnly ?? false
    this.queue = new WaitQueue(`userfaultfd ${id}`)
  }

  /** read(2) without blocking: the next message, or null. */
  read(): UffdMessage | null {
    return this.pending.shift() ?? null
  }

  /** UFFDIO_WAKE: lets faults in [start, end) try again. */
  wake(start: number, end: number): void {
    for (const waiter of this.waiters)
      if (waiter.address >= start && waiter.address < end) waiter.woken = true
    this.queue.wakeAll()
  }
}

export function createUserfaultfd(k: Kernel, options: UserfaultfdOptions = {}): Userfaultfd {
  return new Userfaultfd(k.nextId(), options)
}

/**
 * `handle_userfault`: hands a missing page over to whoever reads the descriptor and sleeps without
 * `mmap_lock` until it is there.
 * @returns VM_FAULT_RETRY with the guard released (kept with FAULT_FLAG_RETRY_NOWAIT), or VM_FAULT_SIGBUS
 * @rule R-FLT-120
 */
export function* handleUserfault(
  k: Kernel,
  guard: MmapReadGuard,
  vma: Vma,
  address: number,
  faultFlags: number,
): Kthread<number> {
  const context = vma.uffd
  const sigbus = (why: string): number => refuseFault(k, VM_FAULT_SIGBUS, 'R-FLT-120', vma, address, why)
  if (context === null) return sigbus('the range is watched by a userfaultfd that is not known')
  // @rule R-FLT-122
  if (context.sigbus) return sigbus('the page is missing and its userfaultfd asks for SIGBUS')
  if ((faultFlags & FAULT_FLAG_USER) === 0 && context.userModeOnly) {
    return sigbus('the page is missing and its userfaultfd serves user-mode accesses only')
  }
  // @rule R-FLT-121
  if ((faultFlags & FAULT_FLAG_ALLOW_RETRY) === 0) {
    return sigbus('the page is missing and its userfaultfd cannot be asked while mmap_lock must be kept')
  }
  if ((faultFlags & FAULT_FLAG_RETRY_NOWAIT) !== 0) return VM_FAULT_RETRY
  guard.release()
  if (context.released) return VM_FAULT_RETRY
  const message = { flags: (faultFlags & FAULT_FLAG_WRITE) !== 0 ? UFFD_PAGEFAULT_FLAG_WRITE : 0, address }
  const waiter: Waiter = { address, message, woken: false }
  context.pending.push(message)
  context.waiters.push(waiter)
  const interruptible = (faultFlags & FAULT_FLAG_INTERRUPTIBLE) !== 0
  while (!waiter.woken && !context.released) {
    yield { queue: context.queue, what: context.queue.name, signals: interruptible ? 'any' : 'fatal' }
    if (k.current.fatalSignalPending || (interruptible && k.current.signalPending)) break
  }
  context.waiters.splice(context.waiters.indexOf(waiter), 1)
  const unread = context.pending.indexOf(message)
  if (unread >= 0) context.pending.splice(unread, 1)
  return VM_FAULT_RETRY
}

function shape(vma: Vma, flags: number, uffd: Userfaultfd | null): Parameters<typeof vmaModify>[6] {
  return { flags, highFlags: vma.highFlags, file: vma.file, uffd, policy: vma.policy, anonName: vma.anonName }
}

/**
 * UFFDIO_REGISTER: from now on missing pages of [start, start + length) are announced to the descriptor.
 * @param mode UFFDIO_REGISTER_MODE_*
 * @returns 0, -EINVAL, -EPERM (not writable), -EBUSY (another descriptor has it), -ENOMEM (map_count)
 * @throws Unmodelled for the WP and MINOR modes
 * @rule R-FLT-110
 */
export function* uffdRegister(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  start: number,
  length: number,
  mode: number,
): Kthread<number> {
  const all = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR
  if (mode === 0 || (mode & ~all) !== 0) {
    return refuse(k.current, EINVAL, 'R-FLT-110', { why: 'the mode names no way of watching that exists' })
  }
  if (start % PAGE_SIZE !== 0 || length % PAGE_SIZE !== 0 || length <= 0) {
    return refuse(k.current, EINVAL, 'R-FLT-110', {
      address: start,
      why: 'the range is empty or not page aligned',
    })
  }
  if (mode !== UFFDIO_REGISTER_MODE_MISSING)
    throw new Unmodelled('userfaultfd modes other than MISSING', 'R-FLT-114')
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const end = start + length
  const error = checkRegister(k, guard, context, start, end) || setUffd(k, guard, start, end, null, context)
  if (error === 0) context.mm = mm
  guard.release()
  return error
}

function checkRegister(
  k: Kernel,
  guard: MmapWriteGuard,
  context: Userfaultfd,
  start: number,
  end: number,
): number {
  const first = guard.vmas.find(start)
  if (first === null || first.start >= end) {
    return refuse(k.current, EINVAL, 'R-FLT-110', { address: start, why: 'nothing is mapped in the range' })
  }
  for (let vma: Vma | null = first; vma !== null && vma.start < end; vma = vma.next) {
    const facts = { address: Math.max(start, vma.start), vma: vmaFacts(vma) }
    const kind = vma.file?.mapping.kind
    if (!vma.isAnonymous && kind?.shmem !== true && !vma.isHugetlb) {
      return refuse(k.current, EINVAL, 'R-FLT-110', {
        ...facts,
        why: 'this kind of mapping cannot be watched',
      })
    }
    if ((vma.flags & VM_MAYWRITE) === 0) {
      return refuse(k.current, EPERM, 'R-FLT-110', { ...facts, why: 'the mapping may never be written' })
    }
    if (vma.isHugetlb) {
      const size = vma.file!.mapping.pageSize
      if (Math.max(start, vma.start) % size !== 0 || Math.min(end, vma.end) % size !== 0) {
        return refuse(k.current, EINVAL, 'R-FLT-110', { ...facts, why: 'the range cuts a huge page' })
      }
    }
    if (vma.uffd !== null && vma.uffd !== context) {
      return refuse(k.current, EBUSY, 'R-FLT-110', {
        ...facts,
        why: 'another userfaultfd watches the mapping',
      })
    }
  }
  return 0
}

/** Gives the VMAs of a range to a context, or takes them from `owner` when `to` is null. */
function setUffd(
  k: Kernel,
  guard: MmapWriteGuard,
  start: number,
  end: number,
  owner: Userfaultfd | null,
  to: Userfaultfd | null,
): number {
  const { mm, vmas } = guard
  for (let at = start; at < end;) {
    const vma = vmas.find(at)
    if (vma === null || vma.start >= end) return 0
    const from = Math.max(at, vma.start)
    at = Math.min(end, vma.end)
    if (to === null ? vma.uffd !== owner || owner === null : vma.uffd === to) continue
    const flags = to === null ? vma.flags & ~VM_UFFD_MISSING : vma.flags | VM_UFFD_MISSING
    const changed = vmaModify(k, mm, vmas, vma, from, at, shape(vma, flags, to))
    if (typeof changed === 'number') return changed
    changed.flags = flags
    changed.uffd = to
  }
  return 0
}

/**
 * UFFDIO_UNREGISTER: the range is ordinary memory again; faults that wait in it go on as such.
 * @returns 0 or -errno
 */
export function* uffdUnregister(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  start: number,
  length: number,
): Kthread<number> {
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  const error = setUffd(k, guard, start, start + length, context, null)
  guard.release()
  context.wake(start, start + length)
  return error
}

/** close(2): everything it watched is ordinary memory again, everybody who waits goes on. */
export function* uffdClose(k: Kernel, context: Userfaultfd): Kthread<void> {
  context.released = true
  const { mm } = context
  if (mm !== null && k.mms.has(mm)) {
    const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
    setUffd(k, guard, 0, Number.MAX_SAFE_INTEGER, context, null)
    guard.release()
  }
  context.queue.wakeAll()
}

/**
 * UFFDIO_COPY: fills pages from `dst` on with bytes, and lets those who wait for them go on.
 * @param bytes whole pages
 * @returns bytes filled; fewer than asked when a later page could not be filled. -EEXIST, -ENOENT,
 * -EFAULT (beyond the end of the file) or -ENOMEM for the first page
 * @rule R-FLT-113
 */
export function* uffdCopy(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  dst: number,
  bytes: Uint8Array,
): Kthread<number> {
  return yield* fill(k, context, mm, dst, bytes.length, bytes)
}

/**
 * UFFDIO_ZEROPAGE: as `uffdCopy`, with zeros; private anonymous memory gets the zero page.
 * @rule R-FLT-113
 */
export function* uffdZeropage(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  dst: number,
  length: number,
): Kthread<number> {
  return yield* fill(k, context, mm, dst, length, null)
}

function* fill(
  k: Kernel,
  context: Userfaultfd,
  mm: Mm,
  dst: number,
  length: number,
  bytes: Uint8Array | null,
): Kthread<number> {
  if (dst % PAGE_SIZE !== 0 || length % PAGE_SIZE !== 0 || length === 0) {
    return refuse(k.current, EINVAL, 'R-FLT-113', {
      address: dst,
      why: 'the range is empty or not page aligned',
    })
  }
  const guard = yield* lockForRead(k, mm)
  let done = 0
  let error = 0
  for (; done < length && error === 0; done += PAGE_SIZE) {
    error = fillPage(
      k,
      guard,
      context,
      dst + done,
      bytes === null ? null : bytes.subarray(done, done + PAGE_SIZE),
    )
    if (error < 0) break
  }
  guard.release()
  if (done > 0) context.wake(dst, dst + done)
  return done > 0 ? done : error
}

/** `mfill_atomic_pte`: 0 or -errno. */
function fillPage(
  k: Kernel,
  guard: MmapReadGuard,
  context: Userfaultfd,
  address: number,
  bytes: Uint8Array | null,
): number {
  const { mm } = guard
  const vma = guard.vmas.find(address)
  if (vma === null || vma.start > address || vma.uffd !== context) {
    return refuse(k.current, ENOENT, 'R-FLT-113', {
      address,
      why: 'the address is not watched by this userfaultfd',
    })
  }
  if (vma.isHugetlb) throw new Unmodelled('filling a hugetlb page through userfaultfd', 'R-FLT-113')
  const present = (): number =>
    refuse(k.current, EEXIST, 'R-FLT-113', { address, vma: vmaFacts(vma), why: 'a page is there already' })
  if (mm.pageTable.pmd(pmdIndex(address)) instanceof HugePmd) return present()
  const slot = pteSlot(address)
  const leaf = mm.pageTable.leafFor(address)
  if (leaf.bits[slot] !== 0) return present()
  if ((vma.flags & VM_SHARED) !== 0) {
    const { mapping } = vma.file!
    const index = vma.pageIndex(address)
    if (index * PAGE_SIZE >= mapping.size) {
      return refuse(k.current, EFAULT, 'R-FLT-113', {
        address,
        vma: vmaFacts(vma),
        why: 'the address lies beyond the end of the file',
      })
    }
    if (mapping.pages.get(index) !== 0) return present()
    const page = newCachedPage(k, mapping, index)
    if (page === 0) return refuse(k.current, ENOMEM, 'R-FLT-113', { address, why: 'no free page is left' })
    if (bytes !== null) k.memory.contents.write(page, 0, bytes)
    addFilePage(k, mm, vma, page)
    leaf.set(slot, page, vmPageProt(vma) | PTE_ACCESSED | PTE_DIRTY)
    return 0
  }
  if (bytes === null) {
    leaf.set(slot, k.zeroPfn, vmPageProt(vma) | PTE_SPECIAL | PTE_ACCESSED)
    return 0
  }
  const pfn = k.memory.allocFolio(0, { movable: true })
  if (pfn === 0) return refuse(k.current, ENOMEM, 'R-FLT-113', { address, why: 'no free page is left' })
  k.memory.contents.write(pfn, 0, bytes)
  anonVmaPrepare(k, vma, mm)
  installAnonPage(k, mm, vma, address, leaf, pfn)
  return 0
}
