import { EBUSY, EFAULT, EINVAL, ESRCH } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { makeDeviceExclusive, makeDeviceExclusiveRange, putExclusivePage } from '../../mm/device-exclusive.ts'
import { mmput } from '../../mm/exit-mmap.ts'
import { PageArray } from '../../mm/gup.ts'
import { accessOk } from '../../mm/iovec.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import type { MmapReadGuard } from '../../mm/mmap-lock.ts'
import { registerNotifier, unregisterNotifier, type MmuNotifier } from '../../mm/mmu-notifier.ts'
import { kmalloc } from '../../task/device/charge.ts'
import { Device } from '../../task/device/device.ts'

/** How HMM_DMIRROR_EXCLUSIVE takes its pages. */
export interface ExclusiveOptions {
  /** keep the page's lock and reference: the processor waits until `letGo`. One page at a time. */
  readonly hold?: boolean
}

/**
 * An open `/dev/hmm_dmirror0`: a device with page tables of its own that mirror the memory of the process that opened
 * it, and with atomic operations. For these it takes pages away from the processor; it has one until the processor
 * touches the page, or the mapping changes. MMU notifiers tell it so. It holds no page but while it is asked to.
 * @rule R-DEX-15
 */
export class HmmMirror extends Device {
  readonly #mm: Mm
  readonly #notifier: MmuNotifier
  /** the device's page table: frames by page number, no references */
  readonly #exclusive = new Map<number, number>()
  /** the page that is locked and referenced, 0 for none */
  #held = 0

  constructor(k: Kernel) {
    super(k, '/dev/hmm_dmirror0')
    this.#mm = k.current.mm!
    this.#notifier = {
      start: 0,
      end: Infinity,
      invalidate: (start, end, { event, owner }) => {
        if (event !== 'exclusive' || owner !== this) this.#drop(start, end)
      },
    }
    registerNotifier(this.#mm, this.#notifier)
  }

  override forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    if (this.#held !== 0) visit(this.#held, 1, 0)
  }

  #drop(start: number, end: number): void {
    for (const page of this.#exclusive.keys()) {
      const address = page * PAGE_SIZE
      if (start <= address && address < end) this.#exclusive.delete(page)
    }
  }

  /**
   * HMM_DMIRROR_EXCLUSIVE: the device gets pages to itself. Up to 6.12 in one request, where a page that cannot be had
   * is left out; on 6.18 page by page, until one cannot be had.
   * @param start bytes, page aligned, as `length`
   * @returns pages it has now; -EINVAL, -ESRCH (the process is gone), -ENOMEM, -EBUSY (it holds a page already), or why
   *   the first page cannot be had
   * @rule R-DEX-15
   */
  *exclusive(start: number, length: number, { hold = false }: ExclusiveOptions = {}): Kthread<number> {
    const k = this.kernel
    const mm = this.#mm
    const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-DEX-15', { why })
    if (start % PAGE_SIZE !== 0 || length % PAGE_SIZE !== 0 || length <= 0 || !accessOk(start, length))
      return refused(EINVAL, 'the range is not of whole pages of user memory')
    if (hold && length !== PAGE_SIZE) return refused(EINVAL, 'one page is held at a time')
    if (hold && this.#held !== 0) return refused(EBUSY, 'a page is held already')
    if (mm.users === 0) return refused(ESRCH, 'the process whose memory it mirrors is gone')
    const noMemory = kmalloc(k, 'R-DEX-15')
    if (noMemory < 0) return noMemory
    mm.users++
    const taken = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    const result =
      k.release.fault.deviceExclusive === 'range'
        ? yield* this.#takeRange(taken, start, length, hold)
        : yield* this.#takePages(taken, start, length, hold)
    taken.release()
    yield* mmput(k, mm)
    return result
  }

  *#takeRange(guard: MmapReadGuard, start: number, length: number, hold: boolean): Kthread<number> {
    const pages = new PageArray(length / PAGE_SIZE)
    const got = yield* makeDeviceExclusiveRange(this.kernel, guard, start, start + length, pages, this)
    let had = 0
    for (let i = 0; i < got; i++) {
      const pfn = pages.pfns[i]!
      if (pfn === 0) continue
      this.#map(start + i * PAGE_SIZE, pfn, hold)
      had++
    }
    return got < 0 ? got : had
  }

  *#takePages(guard: MmapReadGuard, start: number, length: number, hold: boolean): Kthread<number> {
    for (let done = 0; done < length; done += PAGE_SIZE) {
      const pfn = yield* makeDeviceExclusive(this.kernel, guard, start + done, this)
      if (pfn < 0) return done > 0 ? done / PAGE_SIZE : pfn
      this.#map(start + done, pfn, hold)
    }
    return length / PAGE_SIZE
  }

  #map(address: number, pfn: number, hold: boolean): void {
    this.#exclusive.set(address / PAGE_SIZE, pfn)
    if (hold) this.#held = pfn
    else putExclusivePage(this.kernel, pfn)
  }

  /** Lets go of the page it holds: from now on the processor may have it back. */
  letGo(): void {
    const pfn = this.#held
    this.#held = 0
    if (pfn !== 0) putExclusivePage(this.kernel, pfn)
  }

  /** Whether the device has the page of an address to itself now. */
  has(address: number): boolean {
    return this.#exclusive.has(Math.floor(address / PAGE_SIZE))
  }

  /**
   * An atomic operation of the device: adds to a 32-bit word. Without the page it takes a fault first, which asks for it.
   * @param address of the word, aligned
   * @returns what was there before (unsigned); -EFAULT when the page cannot be had
   * @rule R-DEX-15
   */
  *fetchAdd(address: number, value: number): Kthread<number> {
    const k = this.kernel
    const start = address - (address % PAGE_SIZE)
    if (!this.has(address)) {
      k.current.refusal = null
      const got = yield* this.exclusive(start, PAGE_SIZE)
      if (got !== 1)
        return refuse(
          k.current,
          EFAULT,
          'R-DEX-15',
          { address, why: 'the device cannot have the page to itself' },
          k.current.refusal,
        )
    }
    const pfn = this.#exclusive.get(start / PAGE_SIZE)!
    const word = new Uint32Array(1)
    const bytes = new Uint8Array(word.buffer)
    k.memory.contents.read(pfn, address % PAGE_SIZE, bytes)
    const before = word[0]!
    word[0] = before + value
    k.memory.contents.write(pfn, address % PAGE_SIZE, bytes)
    return before
  }

  // oxlint-disable-next-line require-yield -- nothing here sleeps
  protected override *teardown(): Kthread<void> {
    this.letGo()
    unregisterNotifier(this.#mm, this.#notifier)
    this.#exclusive.clear()
  }
}
