import { EFAULT, EINVAL } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../base/units.ts'
import { FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, getUserPages } from '../../mm/gup.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { vmaLookup, type MmapReadGuard } from '../../mm/mmap-lock.ts'
import { registerNotifier, unregisterNotifier, type MmuNotifier } from '../../mm/mmu-notifier.ts'
import { putPage } from '../../mm/unpin.ts'
import { vmaFacts } from '../../mm/vma.ts'
import { Device } from '../../task/device/device.ts'
import { deviceRead, deviceWrite } from '../../task/device/dma.ts'

/*
 * @caller SGI GRU
 * @entry TLB miss of the coprocessor
 * @gup get_user_pages one page, FOLL_WRITE for a write
 * @lock mmap_lock for read, kept
 * @budget none
 * @errno an exception of the coprocessor
 * @release at once
 * @test tests/drivers/misc/grufault.test.ts
 */

/** What becomes of a TLB miss: the translation is there, it is tried again later, or the program sees an exception. */
export type GruFault = 'dropped-in' | 'retry' | 'exception'

interface TlbEntry {
  readonly pfn: number
  /** bytes the entry covers */
  readonly size: number
  readonly writable: boolean
}

/**
 * An open `/dev/gru` with one context: a coprocessor with a TLB of its own for the memory of one process. It holds no
 * page: entries are dropped before a mapping changes.
 */
export class GruContext extends Device {
  readonly #mm: Mm
  /** the GRU's own memory: [start, end) */
  readonly #window: { readonly start: number; readonly end: number }
  readonly #tlb = new Map<number, TlbEntry>()
  readonly #notifier: MmuNotifier
  /** a miss in interrupt context has left it to the program to poll */
  userPolling = false
  /** invalidations of ranges that are under way: nothing is dropped in meanwhile */
  activeRanges = 0

  constructor(k: Kernel, window: { readonly start: number; readonly end: number } = { start: 0, end: 0 }) {
    super(k, '/dev/gru')
    this.#mm = k.current.mm!
    this.#window = window
    this.#notifier = { start: 0, end: Infinity, invalidate: (start, end) => this.#flush(start, end) }
    registerNotifier(this.#mm, this.#notifier)
  }

  // nothing stays referenced
  override forEachReference(): void {}

  #flush(start: number, end: number): void {
    for (const [address, { size }] of this.#tlb) {
      if (address < end && start < address + size) this.#tlb.delete(address)
    }
  }

  /**
   * `gru_try_dropin`: serves a TLB miss.
   * @param context in an interrupt nothing is looked up: the program polls, and its next call goes on
   * @rule R-GRU-2
   * @rule R-GRU-3
   */
  *tlbMiss(address: number, write: boolean, context: 'process' | 'interrupt' = 'process'): Kthread<GruFault> {
    if (context === 'interrupt') {
      this.userPolling = true
      return 'retry'
    }
    this.userPolling = false
    if (this.activeRanges > 0) return 'retry'
    const mm = this.#mm
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    const entry = yield* this.#lookup(guard, address, write)
    guard.release()
    if (typeof entry === 'number') return 'exception'
    this.#tlb.set(address - (address % entry.size), entry)
    return 'dropped-in'
  }

  /**
   * BCOPY of many pages: those after the first are looked up ahead, until one cannot be had.
   * @returns pages looked up
   * @rule R-GRU-3
   */
  *preload(address: number, pages: number, write: boolean): Kthread<number> {
    let done = 0
    while (done < pages && (yield* this.tlbMiss(address + done * PAGE_SIZE, write)) === 'dropped-in') done++
    return done
  }

  *#lookup(guard: MmapReadGuard, address: number, write: boolean): Kthread<TlbEntry | number> {
    const k = this.kernel
    if (this.#window.start <= address && address < this.#window.end)
      return refuse(k.current, EINVAL, 'R-GRU-2', {
        address,
        why: "the address lies in the GRU's own memory",
      })
    const vma = vmaLookup(guard, address)
    if (vma === null) return refuse(k.current, EFAULT, 'R-GRU-2', { address, why: 'nothing is mapped here' })
    const size = vma.isHugetlb ? PMD_SIZE : PAGE_SIZE
    const facts = vmaFacts(vma)
    const pfn = yield* nonAtomicPteLookup(k, guard, address, write)
    if (pfn < 0) return refuse(k.current, EFAULT, 'R-GRU-1', { address, vma: facts }, k.current.refusal)
    const head = size === PMD_SIZE ? k.memory.frames.head(pfn) : pfn
    return { pfn: head, size, writable: write }
  }

  /** What the coprocessor reads. @returns false: a TLB miss */
  read(address: number, into: Uint8Array): boolean {
    return deviceRead(this.kernel, (page) => this.#translate(page, false), address, into)
  }

  write(address: number, from: Uint8Array): boolean {
    return deviceWrite(this.kernel, (page) => this.#translate(page, true), address, from)
  }

  #translate(page: number, write: boolean): number {
    const address = page * PAGE_SIZE
    const entry = this.#tlb.get(address) ?? this.#tlb.get(address - (address % PMD_SIZE))
    if (entry === undefined || (write && !entry.writable)) return 0
    const inside = (address % entry.size) / PAGE_SIZE
    return entry.size === PAGE_SIZE && !this.#tlb.has(address) ? 0 : entry.pfn + inside
  }

  // oxlint-disable-next-line require-yield -- nothing here sleeps
  protected override *teardown(): Kthread<void> {
    unregisterNotifier(this.#mm, this.#notifier)
    this.#tlb.clear()
  }
}

/**
 * `non_atomic_pte_lookup`: the frame of a page, whose reference is dropped at once.
 * @returns the frame, or -EFAULT
 * @rule R-GRU-1
 */
export function* nonAtomicPteLookup(
  k: Kernel,
  guard: MmapReadGuard,
  address: number,
  write: boolean,
): Kthread<number> {
  const page = new PageArray(1)
  if ((yield* getUserPages(k, guard, address, 1, write ? FOLL_WRITE : 0, page)) <= 0) return -EFAULT
  const pfn = page.pfns[0]!
  putPage(k, pfn)
  return pfn
}
