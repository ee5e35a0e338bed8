import { ENOMEM, EPERM } from '../../base/errno.ts'
import { refuse } from '../../base/refusal.ts'
import type { CurrentTask, Kernel, UserStruct } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { limitPages } from '../../mm/vm-accounting.ts'

/**
 * One of the three independent budgets that are compared with RLIMIT_MEMLOCK.
 * @rule R-DRV-2
 */
export type Account =
  | { readonly budget: 'user->locked_vm'; readonly user: UserStruct }
  | { readonly budget: 'mm->locked_vm' | 'mm->pinned_vm'; readonly mm: Mm }

/** How a caller compares its charge with the limit. */
export interface ChargeTerms {
  /** the rule that decides */
  readonly rule: string
  /** default ENOMEM */
  readonly errno?: number
  /** the limit does not apply (the caller honours CAP_IPC_LOCK, and the task has it); the charge is made all the same */
  readonly exempt: boolean
  /** what would lift the limit; null: nothing does */
  readonly capability: 'CAP_IPC_LOCK' | null
  /** whose limit; default the current task's */
  readonly task?: CurrentTask
}

/** Pages charged to an account now. */
export function usedOf(account: Account): number {
  if (account.budget === 'user->locked_vm') return account.user.lockedVm
  return account.budget === 'mm->locked_vm' ? account.mm.lockedVm : account.mm.pinnedVm
}

/** RLIMIT_MEMLOCK in pages, rounded down. @rule R-DRV-1 */
export function memlockLimit(task: CurrentTask): number {
  return limitPages(task.rlimit('memlock'))
}

/** `capable(CAP_IPC_LOCK)`: asked of the initial user namespace. @rule R-DRV-3 */
export function canLock(k: Kernel): boolean {
  return k.current.capable('CAP_IPC_LOCK')
}

/**
 * Would this many more pages exceed the limit? Nothing is charged.
 * @param pages residency does not matter, nor whether they are charged elsewhere already (R-DRV-4, R-DRV-6)
 * @returns 0, or what `terms` says with the arithmetic as the reason
 * @rule R-DRV-1
 * @rule R-DRV-4
 * @rule R-DRV-6
 */
export function checkCharge(k: Kernel, account: Account, pages: number, terms: ChargeTerms): number {
  const used = usedOf(account)
  const limit = memlockLimit(terms.task ?? k.current)
  const due = k.dueFailure !== null && k.dueFailure.hits('charge')
  if (!due && (terms.exempt || used + pages <= limit)) return 0
  return refuse(k.current, terms.errno ?? ENOMEM, terms.rule, {
    needed: pages,
    used,
    limit,
    budget: account.budget,
    ...(terms.capability !== null && { capability: terms.capability }),
    why: 'RLIMIT_MEMLOCK leaves no room for the pages of this request',
  })
}

/** Charges pages where the limit allows it. @returns 0, or as `checkCharge` with nothing charged */
export function charge(k: Kernel, account: Account, pages: number, terms: ChargeTerms): number {
  const error = checkCharge(k, account, pages, terms)
  if (error === 0) adjust(account, pages)
  return error
}

/** Charges without a limit; negative counts take a charge back. */
export function adjust(account: Account, pages: number): void {
  if (account.budget === 'user->locked_vm') account.user.lockedVm += pages
  else if (account.budget === 'mm->locked_vm') account.mm.lockedVm += pages
  else account.mm.pinnedVm += pages
}

/**
 * `can_do_mlock()`, where a device asks it first.
 * @returns 0 or -EPERM
 * @rule R-DRV-5
 */
export function canDoMlock(k: Kernel): number {
  if (k.current.rlimit('memlock') !== 0 || canLock(k)) return 0
  return refuse(k.current, EPERM, 'R-DRV-5', {
    limit: 0,
    capability: 'CAP_IPC_LOCK',
    why: 'RLIMIT_MEMLOCK is 0 and CAP_IPC_LOCK is missing',
  })
}

/**
 * A small allocation of a driver: it succeeds, unless a test wants the next one to fail.
 * @param rule of the caller that says what a failure gives
 * @returns 0 or -ENOMEM
 */
export function kmalloc(k: Kernel, rule: string): number {
  if (k.dueFailure === null || !k.dueFailure.hits('kmalloc')) return 0
  return refuse(k.current, ENOMEM, rule, { why: 'the kernel has no memory for its own structures' })
}

/** An array for so many 8-byte pointers: kvmalloc() has none of more than INT_MAX bytes. */
export function pointerArray(k: Kernel, entries: number, rule: string): number {
  if (entries * 8 > 0x7fffffff)
    return refuse(k.current, ENOMEM, rule, {
      wanted: entries,
      why: 'the kernel cannot allocate an array of page pointers that long',
    })
  return kmalloc(k, rule)
}

/**
 * The IOMMU or the DMA layer maps a run: it succeeds, unless a test wants the next one to fail.
 * @returns 0 or -errno
 */
export function dmaMap(k: Kernel, rule: string, errno = ENOMEM): number {
  if (k.dueFailure === null || !k.dueFailure.hits('dma-map')) return 0
  return refuse(k.current, errno, rule, { why: 'the device-side mapping failed' })
}
