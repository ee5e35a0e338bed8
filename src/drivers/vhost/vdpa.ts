import { EEXIST, EFAULT, EINVAL, ENOMEM, EPERM } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { Unmodelled } from '../../base/unmodelled.ts'
import { PAGE_SIZE, pageAlignDown } from '../../base/units.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, pinUserPages } from '../../mm/gup.ts'
import { pinIsCounted } from '../../mm/gup-grab.ts'
import type { Kernel, PinCharge } from '../../mm/kernel.ts'
import type { MmapReadGuard } from '../../mm/mmap-lock.ts'
import type { Mm } from '../../mm/mm.ts'
import { unpinUserPageRangeDirtyLock, unpinUserPages } from '../../mm/unpin.ts'
import { adjust, checkCharge, dmaMap, kmalloc } from '../../task/device/charge.ts'
import { Device } from '../../task/device/device.ts'
import { deviceRead, deviceWrite } from '../../task/device/dma.ts'
import { leak } from '../../task/device/leak.ts'
import { PageRuns, visitPins } from '../../task/device/runs.ts'

/*
 * @caller vhost-vdpa
 * @entry write(2) of an IOTLB UPDATE
 * @gup pin_user_pages FOLL_LONGTERM, FOLL_WRITE when the device may write, 512 pages a call
 * @lock mmap_lock for read, kept
 * @budget VmPin run by run, nothing lifts the limit
 * @errno EFAULT for everything; ENOMEM behind it
 * @release an IOTLB INVALIDATE, close; dirty when the device may write
 * @test tests/drivers/vhost/vdpa.test.ts
 */

export const VHOST_ACCESS_RO = 1
export const VHOST_ACCESS_WO = 2
export const VHOST_ACCESS_RW = 3
/** bytes of a `vhost_msg` or `vhost_msg_v2` */
export const VHOST_MSG_SIZE = 72
/** a page full of page pointers */
const PAGE_LIST = 512
const ULONG_MAX = 2 ** 64 - 1

/** A message that is written to the device. */
export type VhostMessage =
  | {
      readonly type: 'update'
      readonly iova: number
      readonly size: number
      readonly uaddr: number
      /** VHOST_ACCESS_* */
      readonly perm: number
      /** default 0 */
      readonly asid?: number
    }
  | { readonly type: 'invalidate'; readonly iova: number; readonly size: number; readonly asid?: number }
  | { readonly type: 'unknown' }
  | { readonly type: 'short' }

type Update = Extract<VhostMessage, { type: 'update' }>

export interface VhostVdpaData {
  /** IOVAs the device can use: [start, end); default all below 2^48 */
  readonly range?: { readonly start: number; readonly end: number }
  /** address spaces; default 1 */
  readonly asids?: number
  /** the device works on virtual addresses and pins nothing; default false */
  readonly useVa?: boolean
}

/** Entries of the IOTLB that follow one another: contiguous runs that are pinned, charged and mapped. */
interface Entries {
  readonly iova: number
  readonly runs: PageRuns
  readonly perm: number
}

function endOf({ iova, runs }: Entries): number {
  return iova + runs.pages * PAGE_SIZE
}

/** An open `/dev/vhost-vdpa-0`: memory by IOVA, from messages that are written to it. */
export class VhostVdpa extends Device {
  readonly data: Required<VhostVdpaData>
  #mm: Mm | null = null
  #entries: Entries[] = []

  constructor(
    k: Kernel,
    { range = { start: 0, end: 2 ** 48 }, asids = 1, useVa = false }: VhostVdpaData = {},
  ) {
    super(k, '/dev/vhost-vdpa-0')
    this.data = { range, asids, useVa }
  }

  override forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const { runs } of this.#entries) visitPins(this.kernel, runs, visit)
  }

  override charges(): readonly PinCharge[] {
    const pinnedVm = this.#entries.reduce((sum, { runs }) => sum + runs.pages, 0)
    return [{ user: null, lockedVm: 0, mm: this.#mm, pinnedVm }]
  }

  /** VHOST_SET_OWNER: whose memory it is about. @returns 0 */
  // oxlint-disable-next-line require-yield -- decided at once
  *setOwner(): Kthread<number> {
    this.#mm = this.kernel.current.mm
    return 0
  }

  /**
   * write(2) of one message.
   * @returns the size of the message; -EINVAL for a message that is none; -EFAULT for whatever else is wrong, with
   *   the error behind it as the cause of the refusal
   * @rule R-VHOST-1
   */
  *write(message: VhostMessage): Kthread<number> {
    const k = this.kernel
    const malformed = (why: string): number => refuse(k.current, EINVAL, 'R-VHOST-1', { why })
    if (message.type === 'short') return malformed('the message is too short')
    if (message.type === 'unknown') return malformed('the message is of no known type')
    if (message.type === 'update' && message.size === 0) return malformed('an update of no bytes')
    k.current.refusal = null
    const error = yield* this.#process(message)
    if (error === 0) return VHOST_MSG_SIZE
    const facts = { why: 'the message cannot be carried out: every reason for that is EFAULT here' }
    return refuse(k.current, EFAULT, 'R-VHOST-1', facts, k.current.refusal)
  }

  /** `vhost_vdpa_process_iotlb_msg`. @rule R-VHOST-2 */
  *#process(message: Extract<VhostMessage, { iova: number }>): Kthread<number> {
    const refused = (errno: number, why: string): number =>
      refuse(this.kernel.current, errno, 'R-VHOST-2', { why })
    if (this.#mm === null || this.kernel.current.mm !== this.#mm)
      return refused(EPERM, 'the device belongs to another address space')
    if ((message.asid ?? 0) >= this.data.asids) return refused(EINVAL, 'there is no such address space')
    if (message.type === 'update') return yield* this.#update(message)
    yield* this.#unmap(message.iova, message.iova + message.size)
    return 0
  }

  *#update(message: Update): Kthread<number> {
    const { iova, size } = message
    const { range, useVa } = this.data
    const refused = (errno: number, why: string): number =>
      refuse(this.kernel.current, errno, 'R-VHOST-2', { why })
    if (iova < range.start || iova + size > range.end)
      return refused(EINVAL, "the range lies outside of the device's IOVAs")
    if (this.#entries.some((e) => e.iova < iova + size && iova < endOf(e)))
      return refused(EEXIST, 'the range overlaps one that is mapped')
    if (useVa) throw new Unmodelled('a vDPA device that works on virtual addresses', 'R-VHOST-2')
    return yield* this.#paMap(message)
  }

  /**
   * `vhost_vdpa_pa_map`: pins 512 pages a call, maps contiguous runs as they end.
   * @returns 0, or a negative errno with everything undone but for a leak
   * @rule R-VHOST-3
   * @rule R-VHOST-4
   * @rule R-VHOST-5
   */
  *#paMap({ iova, size, uaddr, perm }: Update): Kthread<number> {
    const k = this.kernel
    const mm = this.#mm!
    const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-VHOST-2', { why })
    const noMemory = kmalloc(k, 'R-VHOST-2')
    if (noMemory < 0) return noMemory
    if (size > ULONG_MAX - (iova % PAGE_SIZE)) return refused(EINVAL, 'the range is too long')
    // the offset is that of the IOVA, whatever the address is
    const npages = Math.ceil((size + (iova % PAGE_SIZE)) / PAGE_SIZE)
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    const account = { budget: 'mm->pinned_vm', mm } as const
    let error = checkCharge(k, account, npages, { rule: 'R-VHOST-2', exempt: false, capability: null })
    if (error === 0) error = yield* this.#pinAndMap(guard, iova, npages, uaddr, perm)
    guard.release()
    if (error < 0) yield* this.#unmap(iova, iova + size)
    return error
  }

  *#pinAndMap(
    guard: MmapReadGuard,
    start: number,
    npages: number,
    uaddr: number,
    perm: number,
  ): Kthread<number> {
    const k = this.kernel
    const flags = FOLL_LONGTERM | ((perm & VHOST_ACCESS_WO) !== 0 ? FOLL_WRITE : 0)
    const pages = new PageArray(Math.min(npages, PAGE_LIST))
    const { pfns } = pages
    const into: Entries = { iova: start, runs: new PageRuns(), perm }
    this.#entries.push(into)
    // the run that is pinned and not mapped yet
    let [mapPfn, count] = [0, 0]
    // batches pinned since a run was mapped: what tells the kernel that something is outstanding
    let chunks = 0
    const giveUp = (error: number): number => {
      if (chunks > 0) {
        for (let pfn = mapPfn; pfn < mapPfn + count; pfn++) unpinOne(k, pfn)
      } else if (count > 0) {
        const left = Int32Array.from({ length: count }, (_, i) => mapPfn + i).filter((pfn) =>
          pinIsCounted(k, pfn),
        )
        leak(k, 'vhost-vdpa update that failed after a run was mapped (R-VHOST-5)', { pfns: left })
      }
      return error
    }
    for (let done = 0; done < npages;) {
      const wanted = Math.min(npages - done, PAGE_LIST)
      const at = pageAlignDown(uaddr) + done * PAGE_SIZE
      const got = yield* pinUserPages(k, guard, at, wanted, flags, pages)
      if (got !== wanted) {
        if (got < 0) return giveUp(got)
        unpinUserPages(k, pages, got)
        const facts = { address: at + got * PAGE_SIZE, page: done + got, wanted, got }
        const why = 'not every page of the range can be pinned'
        return giveUp(refuse(k.current, ENOMEM, 'R-VHOST-4', { ...facts, why }, k.current.refusal))
      }
      chunks++
      for (let i = 0; i < got; i++) {
        if (count > 0 && pfns[i] !== mapPfn + count) {
          const error = this.#map(into, mapPfn, count)
          if (error < 0) {
            for (let left = i; left < got; left++) unpinOne(k, pfns[left]!)
            return giveUp(error)
          }
          count = 0
          chunks = 0
        }
        if (count === 0) mapPfn = pfns[i]!
        count++
      }
      done += got
    }
    if (count === 0) return refuse(k.current, EINVAL, 'R-VHOST-2', { why: 'the range has no pages' })
    const error = this.#map(into, mapPfn, count)
    return error < 0 ? giveUp(error) : 0
  }

  /** `vhost_vdpa_map`: an entry, the device's mapping, then the charge. @returns 0 or a negative errno */
  #map(into: Entries, pfn: number, count: number): number {
    const k = this.kernel
    const error = kmalloc(k, 'R-VHOST-4') || dmaMap(k, 'R-VHOST-4')
    if (error < 0) return error
    into.runs.push(pfn, count)
    adjust({ budget: 'mm->pinned_vm', mm: this.#mm! }, count)
    return 0
  }

  /**
   * Takes every entry of a range out: pages are dirtied and unpinned, then unmapped.
   * @rule R-VHOST-6
   */
  *#unmap(start: number, end: number): Kthread<void> {
    const kept: Entries[] = []
    const gone: { pfn: number; count: number; perm: number }[] = []
    for (const entries of this.#entries) {
      let iova = entries.iova
      // runs in front of the range, and behind it
      const pieces = [start, Infinity].map(() => ({ ...entries, iova: -1, runs: new PageRuns() }))
      entries.runs.forEach((pfn, count) => {
        const next = iova + count * PAGE_SIZE
        if (iova < end && start < next) gone.push({ pfn, count, perm: entries.perm })
        else {
          const piece = pieces[next <= start ? 0 : 1]!
          if (piece.iova < 0) piece.iova = iova
          piece.runs.push(pfn, count)
        }
        iova = next
      })
      kept.push(...pieces.filter(({ runs }) => runs.pages > 0))
    }
    this.#entries = kept
    for (const { pfn, count, perm } of gone) {
      yield* unpinUserPageRangeDirtyLock(this.kernel, pfn, count, (perm & VHOST_ACCESS_WO) !== 0)
      adjust({ budget: 'mm->pinned_vm', mm: this.#mm! }, -count)
    }
  }

  /** What the device reads. @returns false: nothing it may read is mapped there */
  deviceRead(iova: number, into: Uint8Array): boolean {
    return deviceRead(this.kernel, (page) => this.#translate(page, VHOST_ACCESS_RO), iova, into)
  }

  deviceWrite(iova: number, from: Uint8Array): boolean {
    return deviceWrite(this.kernel, (page) => this.#translate(page, VHOST_ACCESS_WO), iova, from)
  }

  #translate(page: number, access: number): number {
    const iova = page * PAGE_SIZE
    const entries = this.#entries.find((e) => pageAlignDown(e.iova) <= iova && iova < endOf(e))
    if (entries === undefined || (entries.perm & access) === 0) return 0
    return entries.runs.pfnAt(page - Math.floor(entries.iova / PAGE_SIZE))
  }

  protected override *teardown(): Kthread<void> {
    yield* this.#unmap(0, Infinity)
  }
}

function unpinOne(k: Kernel, pfn: number): void {
  const one = new PageArray(1)
  one.pfns[0] = pfn
  unpinUserPages(k, one, 1)
}
