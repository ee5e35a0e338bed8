import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE } from '../base/units.ts'
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
import { NEEDS_USERFAULT_MINOR, NEEDS_USERFAULT_WP, type UserfaultReason } from './fault-sleep.ts'
import type { Kernel } from './kernel.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import {
  UFFD_FEATURE_EXACT_ADDRESS,
  UFFD_FEATURE_SIGBUS,
  UFFD_PAGEFAULT_FLAG_MINOR,
  UFFD_PAGEFAULT_FLAG_WP,
  UFFD_PAGEFAULT_FLAG_WRITE,
} from './userfaultfd-flags.ts'
import type { UffdMessage, UffdWaiter } from './userfaultfd-context.ts'
import type { Vma } from './vma.ts'

/**
 * `handle_userfault`: hands a fault over to whoever reads the descriptor and sleeps without `mmap_lock`
 * until it is dealt with.
 * @param address exact; the message names its page (a huge page's first address for hugetlb) unless
 *   UFFD_FEATURE_EXACT_ADDRESS was agreed upon
 * @returns VM_FAULT_RETRY with the guard released (kept with FAULT_FLAG_RETRY_NOWAIT), or VM_FAULT_SIGBUS
 * @rule R-FLT-120
 * @rule R-FLT-111
 */
export function* handleUserfault(
  k: Kernel,
  guard: MmapReadGuard,
  vma: Vma,
  address: number,
  faultFlags: number,
  reason: UserfaultReason,
): Kthread<number> {
  const context = vma.uffd
  const what = describe(reason)
  const sigbus = (why: string): number =>
    refuseFault(k, VM_FAULT_SIGBUS, 'R-FLT-120', vma, address, `the page ${what} and its userfaultfd ${why}`)
  if (context === null) return sigbus('is not known')
  // @rule R-DMP-4
  if (k.current.dumpsCore === true) return sigbus('is not waited for by a core dump')
  // @rule R-FLT-122
  if (context.has(UFFD_FEATURE_SIGBUS)) return sigbus('asks for SIGBUS')
  if ((faultFlags & FAULT_FLAG_USER) === 0 && context.userModeOnly) {
    return sigbus('serves user-mode accesses only')
  }
  // @rule R-FLT-121
  if ((faultFlags & FAULT_FLAG_ALLOW_RETRY) === 0) {
    return sigbus('cannot be asked while mmap_lock must be kept')
  }
  if ((faultFlags & FAULT_FLAG_RETRY_NOWAIT) !== 0) return VM_FAULT_RETRY
  const unit = vma.isHugetlb ? vma.file!.mapping.pageSize : PAGE_SIZE
  const exact = context.has(UFFD_FEATURE_EXACT_ADDRESS)
  guard.release()
  if (context.released) return VM_FAULT_RETRY
  const message: UffdMessage = {
    event: 'pagefault',
    flags: messageFlags(faultFlags, reason),
    address: exact ? address : address - (address % unit),
  }
  const waiter: UffdWaiter = { address: message.address, woken: false }
  context.waiters.push(waiter)
  context.tell(message)
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

function describe(reason: UserfaultReason): string {
  if (reason === NEEDS_USERFAULT_WP) return 'is write-protected'
  return reason === NEEDS_USERFAULT_MINOR ? 'is cached but not mapped' : 'is missing'
}

/** @rule R-FLT-112 */
function messageFlags(faultFlags: number, reason: UserfaultReason): number {
  const write = (faultFlags & FAULT_FLAG_WRITE) !== 0 ? UFFD_PAGEFAULT_FLAG_WRITE : 0
  if (reason === NEEDS_USERFAULT_WP) return write | UFFD_PAGEFAULT_FLAG_WP
  return reason === NEEDS_USERFAULT_MINOR ? write | UFFD_PAGEFAULT_FLAG_MINOR : write
}
