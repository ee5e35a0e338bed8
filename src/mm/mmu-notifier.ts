import type { Mm } from './mm.ts'

/**
 * `struct mmu_interval_notifier`: somebody who keeps translations of a range of user memory without pinning it, and
 * lets go of them before they change.
 */
export interface MmuNotifier {
  /** bytes; [start, end) */
  readonly start: number
  readonly end: number
  /** Entries of [start, end) are about to change. Called under the mmap lock; may not sleep. */
  invalidate(start: number, end: number, range: MmuNotifierRange): void
}

/** `struct mmu_notifier_range`: why entries change. */
export interface MmuNotifierRange {
  /** MMU_NOTIFY_EXCLUSIVE: they become device-exclusive, or stop being so; MMU_NOTIFY_CLEAR: everything else */
  readonly event: 'clear' | 'exclusive'
  /** on whose behalf: the device that asked, which need not be told; null: the processor's */
  readonly owner: object | null
}

const CLEAR: MmuNotifierRange = { event: 'clear', owner: null }

/** From now on the notifier is told. */
export function registerNotifier(mm: Mm, notifier: MmuNotifier): void {
  mm.notifiers = [...(mm.notifiers ?? []), notifier]
}

export function unregisterNotifier(mm: Mm, notifier: MmuNotifier): void {
  const left = (mm.notifiers ?? []).filter((other) => other !== notifier)
  mm.notifiers = left.length === 0 ? null : left
}

/**
 * `mmu_notifier_invalidate_range_start`: before entries of a range are zapped, protected, moved or replaced by a copy.
 * @rule R-RADEON-5
 */
export function invalidateRange(mm: Mm, start: number, end: number, range: MmuNotifierRange = CLEAR): void {
  for (const notifier of mm.notifiers ?? [])
    if (notifier.start < end && start < notifier.end) notifier.invalidate(start, end, range)
}
