import type { Kthread } from '../base/kthread.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_INTERRUPTIBLE,
  FAULT_FLAG_KILLABLE,
  FAULT_FLAG_TRIED,
  FAULT_FLAG_USER,
  FAULT_FLAG_WRITE,
  VM_FAULT_COMPLETED,
  VM_FAULT_ERROR,
  VM_FAULT_HWPOISON,
  VM_FAULT_HWPOISON_LARGE,
  VM_FAULT_OOM,
  VM_FAULT_RETRY,
  VM_FAULT_SIGBUS,
} from './fault-flags.ts'
import type { Kernel } from './kernel.ts'
import { handleMmFault } from './memory.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_WRITE,
  pmdIndex,
  pteSlot,
} from './page-table.ts'
import { expandStack } from './stack.ts'
import { VM_ACCESS_FLAGS, VM_GROWSDOWN, VM_WRITE } from './vm-flags.ts'
import { lockForRead } from './write-lock.ts'

export const SEGV_MAPERR = 1
export const SEGV_ACCERR = 2
export const BUS_ADRERR = 2
export const BUS_MCEERR_AR = 4
/** si_code of a general protection fault */
export const SI_KERNEL = 128

/** How an access ended: done, or with the signal the program gets and its si_code. */
export type AccessResult =
  | { readonly ok: true }
  | { readonly ok: false; readonly signal: 'SIGSEGV' | 'SIGBUS' | 'SIGKILL'; readonly code: number }

const OK: AccessResult = { ok: true }
const mapError: AccessResult = { ok: false, signal: 'SIGSEGV', code: SEGV_MAPERR }
const accessError: AccessResult = { ok: false, signal: 'SIGSEGV', code: SEGV_ACCERR }
const busError: AccessResult = { ok: false, signal: 'SIGBUS', code: BUS_ADRERR }
const machineCheck: AccessResult = { ok: false, signal: 'SIGBUS', code: BUS_MCEERR_AR }
const protection: AccessResult = { ok: false, signal: 'SIGSEGV', code: SI_KERNEL }
const killed: AccessResult = { ok: false, signal: 'SIGKILL', code: 0 }

/** First address that is not canonical, and the first of the kernel's half. */
const CANONICAL_END = 2 ** 47
const KERNEL_HALF = 2 ** 64 - 2 ** 47

/** What the hardware does without the kernel: an access that the page tables allow. */
function touch(mm: Mm, address: number, write: boolean): boolean {
  const entry = mm.pageTable.pmd(pmdIndex(address))
  if (entry === null) return false
  const huge = entry instanceof HugePmd
  const slot = pteSlot(address)
  const bits = huge ? entry.bits : entry.bits[slot]!
  if ((bits & (PTE_PRESENT | PTE_PROTNONE)) !== PTE_PRESENT || (write && (bits & PTE_WRITE) === 0))
    return false
  const touched = bits | (write ? PTE_ACCESSED | PTE_DIRTY : PTE_ACCESSED)
  if (huge) entry.bits = touched
  else entry.bits[slot] = touched
  return true
}

/** Whether a load would need no fault. It marks the entry accessed, as the load that follows does. */
export function isReadableNow(mm: Mm, address: number): boolean {
  return address >= 0 && address < CANONICAL_END && touch(mm, address, false)
}

/** The page an address shows, which `touch` has just found present. */
function framed(mm: Mm, address: number): number {
  const entry = mm.pageTable.pmd(pmdIndex(address))!
  const slot = pteSlot(address)
  return entry instanceof HugePmd ? entry.pfn + (slot % PTRS_PER_PTE) : entry.pfn[slot]!
}

/** The page an address shows now. @returns its pfn, 0 when an access would fault */
export function presentPfn(mm: Mm, address: number): number {
  const entry = mm.pageTable.pmd(pmdIndex(address))
  if (entry === null) return 0
  const bits = entry instanceof HugePmd ? entry.bits : entry.bits[pteSlot(address)]!
  return (bits & (PTE_PRESENT | PTE_PROTNONE)) === PTE_PRESENT ? framed(mm, address) : 0
}

/**
 * A program (or, with mode 'kernel', a kernel copy on its behalf) touches one byte. Faults as often as it
 * takes, grows stacks, sleeps for I/O and userfaults.
 * @param address any byte address
 * @returns ok, or the signal; a kernel copy turns every failure into -EFAULT or a short count
 * @throws Unmodelled when memory is exhausted: the OOM killer would choose a victim
 * @rule R-FLT-20
 */
export function* accessUser(
  k: Kernel,
  mm: Mm,
  address: number,
  write: boolean,
  mode: 'user' | 'kernel' = 'user',
): Kthread<AccessResult> {
  if (!k.exploring && touch(mm, address, write)) return OK
  if (address >= CANONICAL_END || address < 0)
    return address >= KERNEL_HALF || address < 0 ? mapError : protection
  let flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE | FAULT_FLAG_INTERRUPTIBLE
  if (write) flags |= FAULT_FLAG_WRITE
  // @rule R-FLT-23
  if (mode === 'user') flags |= FAULT_FLAG_USER
  for (;;) {
    let guard = (k.exploring ? null : mm.mmapLock.tryRead()) ?? (yield* lockForRead(k, mm))
    if (touch(mm, address, write)) {
      guard.release()
      return OK
    }
    let vma = guard.vmas.find(address)
    if (vma !== null && vma.start > address && (vma.flags & VM_GROWSDOWN) !== 0) {
      guard.release()
      const grown = yield* growStack(k, mm, address)
      if (grown === null) return mapError
      guard = grown
      vma = guard.vmas.find(address)
    }
    if (vma === null || vma.start > address) {
      guard.release()
      return mapError
    }
    if ((write && (vma.flags & VM_WRITE) === 0) || (vma.flags & VM_ACCESS_FLAGS) === 0) {
      guard.release()
      return accessError
    }
    const code = yield* handleMmFault(k, guard, vma, address, flags)
    if ((code & VM_FAULT_RETRY) !== 0) {
      if (k.fatalSignalPending) return killed
      flags |= FAULT_FLAG_TRIED
    } else if ((code & VM_FAULT_COMPLETED) === 0) {
      guard.release()
      if ((code & VM_FAULT_ERROR) !== 0) return failure(k, code)
    }
  }
}

function failure(k: Kernel, code: number): AccessResult {
  if ((code & VM_FAULT_OOM) !== 0) throw new Unmodelled('the OOM killer', 'R-FLT-20')
  if ((code & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)) !== 0)
    return k.settings.memoryFailure ? machineCheck : busError
  return (code & VM_FAULT_SIGBUS) !== 0 ? busError : mapError
}

/**
 * `lock_mm_and_find_vma`, the part that grows a stack.
 * @returns a read guard, null when the stack cannot grow so far
 * @rule R-FLT-25
 */
function* growStack(k: Kernel, mm: Mm, address: number): Kthread<MmapReadGuard | null> {
  const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
  const vma = guard.vmas.find(address)
  // somebody else may have grown or removed it while nobody held the lock
  const there = vma !== null && vma.start <= address
  if (
    there ||
    (vma !== null && (vma.flags & VM_GROWSDOWN) !== 0 && expandStack(k, guard, vma, address) === 0)
  ) {
    return guard.downgrade()
  }
  guard.release()
  return null
}

/**
 * The program stores bytes, page after page.
 * @returns as `accessUser`; on a signal the pages before it have been written
 */
export function storeUser(
  k: Kernel,
  mm: Mm,
  address: number,
  bytes: Uint8Array,
  mode: 'user' | 'kernel' = 'user',
): Kthread<AccessResult> {
  return copyPages(k, mm, address, bytes, true, mode)
}

/** The program loads bytes into `into`, page after page. */
export function loadUser(
  k: Kernel,
  mm: Mm,
  address: number,
  into: Uint8Array,
  mode: 'user' | 'kernel' = 'user',
): Kthread<AccessResult> {
  return copyPages(k, mm, address, into, false, mode)
}

/** Between user memory and a buffer: each page is made accessible, then copied as far as it goes. */
function* copyPages(
  k: Kernel,
  mm: Mm,
  address: number,
  buffer: Uint8Array,
  write: boolean,
  mode: 'user' | 'kernel',
): Kthread<AccessResult> {
  const { contents } = k.memory
  for (let done = 0; done < buffer.length;) {
    const at = address + done
    const offset = at % PAGE_SIZE
    const part = buffer.subarray(done, done + PAGE_SIZE - offset)
    const result = yield* accessUser(k, mm, at, write, mode)
    if (!result.ok) return result
    if (write) contents.write(framed(mm, at), offset, part)
    else contents.read(framed(mm, at), offset, part)
    done += part.length
  }
  return OK
}
