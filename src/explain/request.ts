import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE, pageAlign, pageAlignDown } from '../base/units.ts'
import type { PageHolder } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import { HugePmd, PTE_PRESENT, pmdIndex, pteSlot } from '../mm/page-table.ts'
import type { Snapshot } from '../host/snapshot.ts'
import type { Restored } from './restore.ts'

/** What a request did in the engine. */
export interface Outcome {
  /** what the caller of the real interface gets: >= 0, or -errno */
  readonly result: number
  /** pages held afterwards; fewer than asked is a failure for GUP callers that count */
  readonly held: number
  readonly holder: PageHolder | null
}

export interface RequestRange {
  readonly start: number
  /** bytes */
  readonly length: number
}

/** How a request is made, besides the range. */
export interface RequestOptions {
  /** FOLL_*: `gup:*` */
  readonly flags: number
  /** what the device, the guest or the caller may do with the memory */
  readonly access: 'write' | 'read'
  /** bytes into the file: `direct-io:*` */
  readonly offset: number
  /** address of the device; null: the user address */
  readonly iova: number | null
  /** bytes of a frame, and free ones before each: `xdp:umem-reg` */
  readonly frameSize: number
  readonly headroom: number
  /** frames need no alignment: `xdp:umem-reg` */
  readonly unaligned: boolean
  /** bytes of bounce buffers of the device: `vduse:reg-umem` */
  readonly bounceSize: number
  /** ibv_fork_init() was called: `rdma:reg-mr` */
  readonly forkSafe: boolean
  /** … with RDMAV_HUGEPAGES_SAFE: whole huge pages are advised */
  readonly hugepagesSafe: boolean
  /** addresses that the IOMMU has, 2 to that power */
  readonly iovaBits: number
}

export type OptionName = keyof RequestOptions

export const defaultOptions: RequestOptions = {
  flags: 0,
  access: 'write',
  offset: 0,
  iova: null,
  frameSize: PAGE_SIZE,
  headroom: 0,
  unaligned: false,
  bounceSize: 64 * 1024 * 1024,
  forkSafe: false,
  hugepagesSafe: false,
  iovaBits: 48,
}

/** Which counter a request charges, and what lifts the limit it is compared with. */
export interface Charges {
  readonly budget: 'user->locked_vm' | 'mm->locked_vm' | 'mm->pinned_vm'
  readonly liftedBy: 'CAP_IPC_LOCK' | null
  /** large folios count with their full size (R-URING-44); default: only the pages asked for */
  readonly wholeFolios?: true
  /** charged page by page: a refusal knows only how far it came, the request needs all of its pages */
  readonly pageByPage?: true
}

/** One thing that can be asked: the real caller's code, run in the engine. */
export interface Request {
  readonly name: string
  /** null: nothing */
  readonly charges: Charges | null
  /** the options it takes */
  readonly takes: readonly OptionName[]
  /** bytes beyond which nothing is looked at any more: the length alone refuses it */
  readonly longest: number
  /** somebody else makes it, or the kernel: no seccomp filter of the process sees it */
  readonly bySomebodyElse?: true
  /** what the answer takes for granted about the device, or should say about the interface */
  notes?(snapshot: Snapshot, release: string, range: RequestRange, options: RequestOptions): readonly string[]
  /**
   * Makes the request as the restored task. What it holds afterwards is registered with the kernel, so its
   * books balance.
   */
  run(restored: Restored, range: RequestRange, options: RequestOptions): Kthread<Outcome>
}

/** Pages from the one the range starts in to the one it ends in (R-URING-22). */
export function pagesOf(range: RequestRange): number {
  return (pageAlign(range.start + range.length) - pageAlignDown(range.start)) / PAGE_SIZE
}

/** The pages that a range shows; after a request that holds all of them, what it holds. */
export function shownPages(mm: Mm, { start, length }: RequestRange): PageHolder {
  return {
    name: 'pages of the range',
    forEachReference(visit) {
      for (let at = pageAlignDown(start); at < start + length; at += PAGE_SIZE) {
        const entry = mm.pageTable.pmd(pmdIndex(at))
        if (entry === null) continue
        const slot = pteSlot(at)
        if (entry instanceof HugePmd) visit(entry.pfn + slot, 1, 0)
        else if ((entry.bits[slot]! & PTE_PRESENT) !== 0) visit(entry.pfn[slot]!, 1, 0)
      }
    },
  }
}

/** All or nothing: every page of the range, or the errno. */
export function allOrNothing({ mm }: Restored, range: RequestRange, result: number): Outcome {
  return { result, held: result < 0 ? 0 : pagesOf(range), holder: shownPages(mm, range) }
}
