import type { MmapReadGuard } from './mmap-lock.ts'

/**
 * The `int *locked` of GUP: what a caller lends to a call that may drop `mmap_lock`.
 *
 * `guard !== null` is `*locked == 1`: the lock has been held continuously since before the call.
 * `guard === null` is `*locked == 0`: the lock is not held, and every VMA looked up before is stale.
 * A caller tests it before it releases: `locked.guard?.release()`.
 * @rule R-GUP-45
 */
export class LockedGuard {
  guard: MmapReadGuard | null

  constructor(guard: MmapReadGuard | null) {
    this.guard = guard
  }
}
