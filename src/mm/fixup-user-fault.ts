import { EFAULT, EINTR } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_KILLABLE,
  FAULT_FLAG_TRIED,
  FAULT_FLAG_WRITE,
  VM_FAULT_COMPLETED,
  VM_FAULT_ERROR,
  VM_FAULT_RETRY,
} from './fault-flags.ts'
import { vmFaultToErrno } from './gup-faultin.ts'
import type { Kernel } from './kernel.ts'
import { LockedGuard } from './locked-guard.ts'
import { handleMmFault } from './memory.ts'
import type { Mm } from './mm.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { expandStack } from './stack.ts'
import { VM_GROWSDOWN, VM_READ, VM_WRITE } from './vm-flags.ts'
import { vmaFacts } from './vma.ts'

/**
 * `fixup_user_fault`: takes one fault on behalf of the user, as futexes need it. No page is returned.
 *
 * The lock is held on return in every case. A LockedGuard lends it (`unlocked` of the kernel): when the
 * fault dropped it, `lock.guard` is another guard than the one lent, and every VMA seen before is stale.
 * @param faultFlags FAULT_FLAG_WRITE or 0
 * @returns 0, -EFAULT, -ENOMEM, -EINTR
 * @rule R-GUP-95
 */
export function* fixupUserFault(
  k: Kernel,
  mm: Mm,
  address: number,
  faultFlags: number,
  lock: LockedGuard | MmapReadGuard,
): Kthread<number> {
  const lent = lock instanceof LockedGuard
  const holder = lent ? lock : new LockedGuard(lock)
  let flags = faultFlags | (lent ? FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE : 0)
  const { current } = k
  for (;;) {
    const guard = holder.guard!
    const vma = guard.vmas.find(address)
    let inside = vma !== null && vma.start <= address
    // @rule R-GUP-13
    if (!inside && vma !== null && k.release.gup.expandsStack && (vma.flags & VM_GROWSDOWN) !== 0) {
      inside = expandStack(k, guard, vma, address) === 0
    }
    if (vma === null || !inside)
      return refuse(current, EFAULT, 'R-GUP-95', { address, page: 0, why: 'nothing is mapped here' })
    const needed = (flags & FAULT_FLAG_WRITE) !== 0 ? VM_WRITE : VM_READ
    if ((vma.flags & needed) === 0) {
      return refuse(current, EFAULT, 'R-GUP-95', {
        address,
        page: 0,
        vma: vmaFacts(vma),
        why: 'the mapping does not permit this access',
      })
    }
    if ((flags & FAULT_FLAG_KILLABLE) !== 0 && current.fatalSignalPending) {
      return refuse(current, EINTR, 'R-GUP-95', { address, page: 0, why: 'the calling task is being killed' })
    }
    const fault = yield* handleMmFault(k, guard, vma, address, flags)
    if ((fault & VM_FAULT_COMPLETED) !== 0) {
      holder.guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
      return 0
    }
    if ((fault & VM_FAULT_ERROR) !== 0) {
      const why = 'touching the page would raise a signal or needs memory that is not there'
      return refuse(
        current,
        vmFaultToErrno(fault, 0),
        'R-GUP-95',
        { address, page: 0, vma: vmaFacts(vma), why },
        current.refusal,
      )
    }
    if ((fault & VM_FAULT_RETRY) === 0) return 0
    holder.guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    flags |= FAULT_FLAG_TRIED
  }
}
