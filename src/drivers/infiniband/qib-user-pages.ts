import { EFAULT, EINVAL, ENOMEM } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { FOLL_FORCE, FOLL_LONGTERM, FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, pinUserPages } from '../../mm/gup.ts'
import { accessOk } from '../../mm/iovec.ts'
import type { Kernel, PinCharge } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { unpinUserPages, unpinUserPagesDirtyLock } from '../../mm/unpin.ts'
import { adjust, canLock, charge, dmaMap } from '../../task/device/charge.ts'
import { Device } from '../../task/device/device.ts'
import { deviceWrite } from '../../task/device/dma.ts'

/*
 * @caller qib
 * @entry TID update on /dev/ipath*
 * @gup pin_user_pages FOLL_WRITE FOLL_LONGTERM; 6.1 FOLL_FORCE, too
 * @lock mmap_lock for read, kept
 * @budget VmPin before the pin, CAP_IPC_LOCK lifts it
 * @errno ENOMEM over the limit; the real errno of the page
 * @release TID free, close; dirty
 * @test tests/drivers/infiniband/qib-user-pages.test.ts
 */

/** Receive memory of one TID update: `tids[i]` is the hardware's number for its i-th page. */
interface Receive {
  readonly mm: Mm
  readonly pages: PageArray
}

/** An open `/dev/ipath0`: expected receives write into pages that the program has named. */
export class QibContext extends Device {
  /** receive buffers the hardware can name (device data) */
  readonly tids: number
  readonly #receives = new Map<number, Receive>()
  #lastId = 0

  constructor(k: Kernel, tids = 2048) {
    super(k, '/dev/ipath0')
    this.tids = tids
  }

  override forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const { pages } of this.#receives.values()) for (const pfn of pages.pfns) visit(pfn, 0, 1)
  }

  override charges(): readonly PinCharge[] {
    return [...this.#receives.values()].map(({ mm, pages }) => ({
      user: null,
      lockedVm: 0,
      mm,
      pinnedVm: pages.length,
    }))
  }

  /**
   * TID update: whole pages of the program become the target of an expected receive.
   * @param vaddr user address, of a page
   * @param length bytes, whole pages
   * @returns a number for `tidFree` of at least 1, or a negative errno with nothing pinned or charged
   * @rule R-QIB-1
   * @rule R-QIB-3
   */
  *tidUpdate(vaddr: number, length: number): Kthread<number> {
    const k = this.kernel
    if (!accessOk(vaddr, length))
      return refuse(k.current, EFAULT, 'R-QIB-1', { address: vaddr, why: 'the range is not user memory' })
    const n = Math.ceil(length / PAGE_SIZE)
    const pages = yield* qibGetUserPages(k, vaddr, n)
    if (typeof pages === 'number') return pages
    const mm = k.current.mm!
    let used = 0
    for (const receive of this.#receives.values()) used += receive.pages.length
    const error =
      used + n > this.tids
        ? refuse(k.current, ENOMEM, 'R-QIB-3', { why: 'the hardware has no free TID' })
        : dmaMap(k, 'R-QIB-3')
    if (error < 0) {
      yield* this.#letGo({ mm, pages })
      return error
    }
    const id = ++this.#lastId
    this.#receives.set(id, { mm, pages })
    return id
  }

  /** TID free. @returns 0 or -EINVAL */
  *tidFree(id: number): Kthread<number> {
    const receive = this.#receives.get(id)
    if (receive === undefined)
      return refuse(this.kernel.current, EINVAL, 'R-QIB-1', { why: 'there is no such receive' })
    this.#receives.delete(id)
    yield* this.#letGo(receive)
    return 0
  }

  /**
   * `qib_release_user_pages`: the hardware may have written. What is charged is taken back only from a task that has
   * an address space still.
   * @rule R-QIB-3
   */
  *#letGo({ mm, pages }: Receive): Kthread<void> {
    const k = this.kernel
    yield* unpinUserPagesDirtyLock(k, pages, pages.length, true)
    if (k.current.mm !== null) adjust({ budget: 'mm->pinned_vm', mm }, -pages.length)
  }

  /** A packet arrives: the hardware writes it. */
  receive(id: number, offset: number, packet: Uint8Array): boolean {
    const receive = this.#receives.get(id)
    if (receive === undefined) throw new RangeError(`no receive ${id}`)
    return deviceWrite(this.kernel, (page) => receive.pages.pfns[page] ?? 0, offset, packet)
  }

  protected override *teardown(): Kthread<void> {
    for (const receive of this.#receives.values()) yield* this.#letGo(receive)
    this.#receives.clear()
  }
}

/**
 * `qib_get_user_pages`: charges, then pins all pages for writing and for long, under the mmap lock.
 * @returns the pages, or a negative errno with nothing pinned or charged
 * @rule R-QIB-1
 * @rule R-QIB-2
 */
export function* qibGetUserPages(k: Kernel, start: number, n: number): Kthread<PageArray | number> {
  const mm = k.current.mm!
  const account = { budget: 'mm->pinned_vm', mm } as const
  const terms = { rule: 'R-QIB-1', exempt: canLock(k), capability: 'CAP_IPC_LOCK' } as const
  const over = charge(k, account, n, terms)
  if (over < 0) return over
  const flags = FOLL_LONGTERM | FOLL_WRITE | (k.release.drivers.forcesPins ? FOLL_FORCE : 0)
  const pages = new PageArray(n)
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  let done = 0
  let error = 0
  while (done < n) {
    const rest = done === 0 ? pages : new PageArray(n - done)
    const got = yield* pinUserPages(k, guard, start + done * PAGE_SIZE, n - done, flags, rest)
    if (got < 0) {
      error = got
      break
    }
    if (rest !== pages) pages.pfns.set(rest.pfns.subarray(0, got), done)
    done += got
  }
  guard.release()
  if (error === 0) return pages
  k.warnOnce('qib-lock-addr', `Failed to lock addr ${start.toString(16)}, ${n} pages: errno ${-error}`)
  unpinUserPages(k, pages, done)
  adjust(account, -n)
  return error
}
