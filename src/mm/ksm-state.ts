import type { Mm } from './mm.ts'

/**
 * Kernel samepage merging: what ksmd knows between its scans. Nothing scans by itself; `ksmScan` runs ksmd for
 * whole scans. Every page is looked at (smart_scan off), a page of zeros is a page like others (use_zero_pages off),
 * and any number of places may share one page.
 */
export class Ksm {
  /** address spaces to scan, in order of their first MADV_MERGEABLE or fork */
  readonly mms = new Set<Mm>()
  /** pages of the stable tree; those that have been freed meanwhile drop out when they are met */
  readonly stable = new Set<number>()
  /** what the pages of each mm contained at the last scan, by address */
  readonly checksums = new Map<Mm, Map<number, number>>()

  /** `ksm_enter`. */
  enter(mm: Mm): void {
    this.mms.add(mm)
  }

  /** `ksm_fork`: a child of a process that ksmd scans is scanned too. */
  fork(child: Mm, parent: Mm): void {
    if (this.mms.has(parent)) this.mms.add(child)
  }

  /** `ksm_exit`. */
  exit(mm: Mm): void {
    this.mms.delete(mm)
    this.checksums.delete(mm)
  }
}
