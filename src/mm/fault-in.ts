import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE, TASK_SIZE, pageAlign, pageAlignDown } from '../base/units.ts'
import { FAULT_FLAG_WRITE } from './fault-flags.ts'
import { fixupUserFault } from './fixup-user-fault.ts'
import type { Kernel } from './kernel.ts'
import { LockedGuard } from './locked-guard.ts'
import type { Mm } from './mm.ts'
import { accessUser, storeUser } from './user-access.ts'

/*
 * The fault_in_* family: makes a buffer of current's mm accessible before a copy that may not fault.
 * Each returns the number of bytes that were NOT made accessible: 0 is success.
 */

const ZERO = new Uint8Array(1)

/**
 * `fault_in_readable`: reads one byte of every page.
 * @param size bytes
 * @returns bytes not accessible
 * @rule R-GUP-95
 */
export function* faultInReadable(k: Kernel, address: number, size: number): Kthread<number> {
  return yield* touchEach(k, address, size, false)
}

/**
 * `fault_in_writeable`: stores a zero byte at `address` and at the start of every further page. What stood
 * there is gone.
 * @returns bytes not accessible
 * @rule R-GUP-95
 */
export function* faultInWriteable(k: Kernel, address: number, size: number): Kthread<number> {
  return yield* touchEach(k, address, size, true)
}

/**
 * `fault_in_safe_writeable`: takes write faults without storing anything.
 *
 * The series' base computes the rest with an unsigned wrap: once a page has succeeded, a failure behind it
 * is reported as 0. That release keeps the defect here.
 * @returns bytes not accessible
 * @rule R-GUP-95
 */
export function* faultInSafeWriteable(k: Kernel, address: number, size: number): Kthread<number> {
  if (size === 0) return 0
  if (!isUserRange(address, size)) return size
  const mm = currentMm(k)
  const locked = new LockedGuard(mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read()))
  const end = address + size
  let page = address
  for (; page < end; page = pageAlignDown(page) + PAGE_SIZE) {
    if ((yield* fixupUserFault(k, mm, page, FAULT_FLAG_WRITE, locked)) !== 0) break
  }
  locked.guard!.release()
  if (page >= end) return 0
  if (page > address && k.release.gup.safeWriteableLosesFailure) return 0
  return end - page
}

function* touchEach(k: Kernel, address: number, size: number, write: boolean): Kthread<number> {
  if (size === 0) return 0
  if (!isUserRange(address, size)) return size
  const mm = currentMm(k)
  const end = address + size
  for (let at = address; at < end; at = pageAlign(at + 1)) {
    const result = write ? yield* storeUser(k, mm, at, ZERO) : yield* accessUser(k, mm, at, false)
    if (!result.ok) return end - at
  }
  return 0
}

function isUserRange(address: number, size: number): boolean {
  return address >= 0 && address + size <= TASK_SIZE
}

function currentMm(k: Kernel): Mm {
  const { mm } = k.current
  if (mm === null) throw new Error('fault_in_*: a kernel thread has no user memory')
  return mm
}
