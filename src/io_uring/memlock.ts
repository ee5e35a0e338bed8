import { ENOMEM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { ORDER_MASK } from '../memory/page-flags.ts'
import type { Kernel, UserStruct } from '../mm/kernel.ts'
import type { Account, Segments } from './buffer.ts'
import type { IoUring } from './io-uring.ts'

/** The last large folio the current register call has looked at (`last_hpage`); 0 none. */
export interface LastHead {
  head: number
}

/**
 * Pages one buffer must charge. A small page counts every time it occurs; a large folio counts with its
 * full size, once: not when it was the last one this call looked at, nor when it occurs earlier in the
 * buffer or in a buffer of the ring's table.
 *
 * The charge sticks to the buffer that made it: when that buffer goes, the folio is uncharged although
 * another slot may still pin it. That is the kernel's accounting hole, kept here.
 * @returns pages
 * @rule R-URING-44
 * @rule R-URING-45
 * @rule R-URING-46
 */
export function acctPages(k: Kernel, ring: IoUring, segments: Segments, last: LastHead): number {
  const { frames } = k.memory
  const { flags } = frames
  const { pfns } = segments.pages
  const table = ring.buffers
  let seen: Set<number> | null = null
  let charged = 0
  for (let i = 0; i < segments.nrPins; i++) {
    const pfn = pfns[i]!
    // @rule R-URING-16
    if ((flags[pfn]! & ORDER_MASK) === 0) {
      charged++
      continue
    }
    const head = frames.head(pfn)
    const known = seen !== null && seen.has(head)
    seen ??= new Set()
    seen.add(head)
    if (head === last.head) continue
    last.head = head
    if (known || (table !== null && table.hasHead(head))) continue
    charged += frames.nrPages(head)
  }
  return charged
}

/**
 * Charges a user's locked_vm. The limit is the soft RLIMIT_MEMLOCK of the task that calls; the counter is
 * that of the ring's user. Reaching the limit exactly is allowed; nothing is charged when it is refused.
 * @param user null: not limited, nothing to do
 * @returns 0 or -ENOMEM
 * @rule R-URING-42
 * @rule R-URING-43
 */
export function accountLocked(k: Kernel, user: UserStruct | null, pages: number): number {
  if (user === null) return 0
  const limit = Math.floor(k.current.rlimit('memlock') / PAGE_SIZE)
  const used = user.lockedVm
  if (used + pages > limit) {
    return refuse(k.current, ENOMEM, 'R-URING-42', {
      needed: pages,
      used,
      limit,
      why: 'RLIMIT_MEMLOCK leaves no room for the pages of this request',
    })
  }
  user.lockedVm = used + pages
  return 0
}

/** Takes a charge back; limits are not consulted. @rule R-URING-47 */
export function unaccountLocked(user: UserStruct | null, pages: number): void {
  if (user !== null) user.lockedVm -= pages
}

/**
 * Charges a buffer: `locked_vm` of the ring's user, where it has one, and `pinned_vm` (VmPin) of the mm that
 * made the ring, always.
 * @returns 0 or -ENOMEM
 * @rule R-URING-41
 * @rule R-URING-67
 * @rule R-URING-69
 * @rule R-URING-89
 */
export function accountBuffer(k: Kernel, { user, mmAccount }: Account, pages: number): number {
  const result = accountLocked(k, user, pages)
  if (result === 0) mmAccount.pinnedVm += pages
  return result
}

/** @rule R-URING-47 */
export function unaccountBuffer({ user, mmAccount }: Account, pages: number): void {
  unaccountLocked(user, pages)
  mmAccount.pinnedVm -= pages
}
