import { EAGAIN, EBUSY, EFAULT, EHWPOISON, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_INTERRUPTIBLE,
  FAULT_FLAG_KILLABLE,
  FAULT_FLAG_REMOTE,
  FAULT_FLAG_RETRY_NOWAIT,
  FAULT_FLAG_TRIED,
  FAULT_FLAG_UNSHARE,
  FAULT_FLAG_WRITE,
  VM_FAULT_COMPLETED,
  VM_FAULT_ERROR,
  VM_FAULT_HWPOISON,
  VM_FAULT_HWPOISON_LARGE,
  VM_FAULT_OOM,
  VM_FAULT_RETRY,
} from './fault-flags.ts'
import {
  FOLL_HWPOISON,
  FOLL_INTERRUPTIBLE,
  FOLL_NOFAULT,
  FOLL_NOWAIT,
  FOLL_REMOTE,
  FOLL_TRIED,
  FOLL_UNLOCKABLE,
  FOLL_WRITE,
} from './gup-flags.ts'
import type { GupCall } from './gup-follow.ts'
import { handleMmFault } from './memory.ts'
import { vmaFacts, type Vma } from './vma.ts'

/**
 * `faultin_page`: asks the fault handler for one page.
 *
 * @param unshare the walk said -EMLINK: the page is there but must become exclusive first
 * @param page index within the request, for the reason
 * @returns 0 look again; -EBUSY or -EAGAIN stop and retry later (the lock is gone unless FOLL_NOWAIT);
 *   -EFAULT, -ENOMEM, -EHWPOISON
 * @rule R-FLT-50
 */
export function* faultinPage(
  call: GupCall,
  vma: Vma,
  address: number,
  flags: number,
  unshare: boolean,
  page: number,
): Kthread<number> {
  const { k, locked } = call
  // @rule R-GUP-31
  if ((flags & FOLL_NOFAULT) !== 0) {
    const why = unshare
      ? 'FOLL_NOFAULT, and the page is shared and must be copied first'
      : 'FOLL_NOFAULT, and the page is not there with the wanted access'
    return refuse(k.current, EFAULT, 'R-GUP-31', { address, page, vma: vmaFacts(vma), why })
  }
  const guard = locked.guard!
  k.current.refusal = null
  const fault = yield* handleMmFault(k, guard, vma, address, faultFlags(flags, unshare))

  // @rule R-GUP-33
  if ((fault & VM_FAULT_COMPLETED) !== 0) {
    locked.guard = null
    return -EAGAIN
  }
  if ((fault & VM_FAULT_ERROR) !== 0) {
    const errno = vmFaultToErrno(fault, flags)
    return refuse(
      k.current,
      errno,
      'R-GUP-33',
      { address, page, vma: vmaFacts(vma), why: whyFaulted(fault) },
      k.current.refusal,
    )
  }
  if ((fault & VM_FAULT_RETRY) !== 0) {
    if ((flags & FOLL_NOWAIT) === 0) {
      if ((flags & FOLL_UNLOCKABLE) === 0)
        throw new Error('a fault dropped an mmap_lock that was not to be dropped (R-GUP-34)')
      locked.guard = null
    }
    return -EBUSY
  }
  return 0
}

/** @rule R-GUP-32 */
function faultFlags(flags: number, unshare: boolean): number {
  let fault = 0
  if ((flags & FOLL_WRITE) !== 0) fault |= FAULT_FLAG_WRITE
  if ((flags & FOLL_REMOTE) !== 0) fault |= FAULT_FLAG_REMOTE
  // @rule R-GUP-34
  // @rule R-COM-2
  if ((flags & FOLL_UNLOCKABLE) !== 0) {
    fault |= FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE
    if ((flags & FOLL_INTERRUPTIBLE) !== 0) fault |= FAULT_FLAG_INTERRUPTIBLE
  }
  // @rule R-GUP-48
  if ((flags & FOLL_NOWAIT) !== 0) fault |= FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_RETRY_NOWAIT
  if ((flags & FOLL_TRIED) !== 0) fault |= FAULT_FLAG_TRIED
  if (unshare) fault |= FAULT_FLAG_UNSHARE
  return fault
}

/** `vm_fault_to_errno`: positive errno, by precedence OOM, hwpoison, the signals. */
export function vmFaultToErrno(fault: number, flags: number): number {
  if ((fault & VM_FAULT_OOM) !== 0) return ENOMEM
  if ((fault & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)) !== 0)
    return (flags & FOLL_HWPOISON) !== 0 ? EHWPOISON : EFAULT
  return EFAULT
}

function whyFaulted(fault: number): string {
  if ((fault & VM_FAULT_OOM) !== 0) return 'no memory for the page'
  if ((fault & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)) !== 0) return 'the page is poisoned'
  return 'touching the page would raise a signal'
}
