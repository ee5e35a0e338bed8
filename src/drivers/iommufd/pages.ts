import { EFAULT, EINVAL } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE, pageAlignDown } from '../../base/units.ts'
import { mmput } from '../../mm/exit-mmap.ts'
import type { OpenFile } from '../../mm/file.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../mm/gup-flags.ts'
import { LockedGuard, PageArray, pinUserPagesFast, pinUserPagesRemote } from '../../mm/gup.ts'
import { pinIsCounted } from '../../mm/gup-grab.ts'
import type { CurrentTask, Kernel, PageHolder, PinCharge, UserStruct } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { unpinUserPageRangeDirtyLock } from '../../mm/unpin.ts'
import { adjust, charge, dmaMap, type Account, type ChargeTerms } from '../../task/device/charge.ts'
import { FileReader } from './file-reader.ts'

/*
 * @caller iommufd areas
 * @entry ioctl IOMMU_IOAS_MAP or MAP_FILE with a device, attach of a device, accesses
 * @gup pin_user_pages_fast or, of another process, pin_user_pages_remote; FOLL_LONGTERM, FOLL_WRITE when writable; files: memfd_pin_folios
 * @lock none held, or mmap_lock for read, lent
 * @budget user->locked_vm (or VmLck) after the pin, VmPin always; CAP_IPC_LOCK lifts it
 * @errno ENOMEM over the limit; the real errno of the page comes first
 * @release IOAS_UNMAP, detach of the last device, close; dirty when writable
 * @test tests/drivers/iommufd/pages.test.ts
 */

/** Entries of the array that one GUP call fills: 64 KiB of pointers. */
const GUP_ENTRIES = 8192

/** What pins stretches of a range as they are needed. */
interface PfnReader {
  /** one frame a page, filled by `pin` */
  readonly pages: PageArray
  /** @returns pages, at least 1, or a negative errno */
  pin(index: number, n: number): Kthread<number>
  destroy(): Kthread<void>
}

/** Who pays for pins: nobody, the user, or the address space (R-IOMMUFD-7). */
export type AccountMode = 'none' | 'user' | 'mm'

/** `struct iopt_pages`: one linear range of user memory or of a file, pinned page by page as somebody needs it, each once. */
export class IoptPages implements PageHolder {
  readonly kernel: Kernel
  readonly name: string
  sourceMm: Mm
  /** whose limit counts */
  sourceTask: CurrentTask
  sourceUser: UserStruct
  /** a memfd or a hugetlb file, of which a reference is held; null: user memory */
  readonly file: OpenFile | null
  /** page aligned: the user address, or the position in the file */
  readonly uptr: number
  readonly nrPages: number
  readonly writable: boolean
  /** fixed when it is made */
  readonly accountMode: AccountMode
  /** areas that show it */
  areas = 0
  /** pages pinned, and pages charged */
  npinned = 0
  lastNpinned = 0
  /** frame of a page that is pinned; made with the first pin */
  #pfns: Int32Array | null = null
  /** areas in a domain and accesses that use a page */
  #users: Uint16Array | null = null

  /** @param address or position in `file` */
  constructor(
    k: Kernel,
    address: number,
    length: number,
    writable: boolean,
    mode: AccountMode,
    file: OpenFile | null = null,
  ) {
    this.kernel = k
    this.file = file === null ? null : file.get()
    this.name = `iommufd pages ${k.nextId()} of ${k.current.comm}`
    this.sourceMm = k.current.mm!
    this.sourceTask = k.current
    this.sourceUser = k.user(k.current.uid)
    this.uptr = pageAlignDown(address)
    this.nrPages = Math.ceil((address + length - this.uptr) / PAGE_SIZE)
    this.writable = writable
    this.accountMode = mode
    k.holders.add(this)
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    if (this.npinned === 0) return
    for (const pfn of this.#pfns!) if (pfn !== 0 && pinIsCounted(this.kernel, pfn)) visit(pfn, 0, 1)
  }

  charges(): readonly PinCharge[] {
    const { accountMode: mode, lastNpinned: n } = this
    return [
      {
        user: mode === 'user' ? this.sourceUser : null,
        lockedVm: mode === 'user' ? n : 0,
        mm: this.sourceMm,
        pinnedVm: n,
        mmLockedVm: mode === 'mm' ? n : 0,
      },
    ]
  }

  /** Frames by index, 0 where nothing is pinned; empty before the first pin. */
  get pfns(): Int32Array {
    return this.#pfns ?? new Int32Array(0)
  }

  /** @returns the frame of a page, 0 while it is not pinned */
  pfnAt(index: number): number {
    return this.#pfns?.[index] ?? 0
  }

  /**
   * One user more for pages [first, end): those that nobody has pinned are asked for, up to 8192 at a time.
   * @param mapped told of each stretch as soon as it is there; a negative result undoes everything
   * @returns 0, or a negative errno with nothing changed
   * @rule R-IOMMUFD-4
   * @rule R-IOMMUFD-5
   * @rule R-IOMMUFD-8
   */
  *use(first: number, end: number, mapped: (from: number, to: number) => number): Kthread<number> {
    this.#pfns ??= new Int32Array(this.nrPages)
    this.#users ??= new Uint16Array(this.nrPages)
    const entries = Math.min(this.nrPages, GUP_ENTRIES)
    const reader: PfnReader =
      this.file === null
        ? new UserReader(this, entries)
        : new FileReader(this.kernel, this.file, this.uptr, entries)
    let error = 0
    let at = first
    while (at < end && error === 0) {
      const stop = Math.min(end, at + GUP_ENTRIES)
      const span = this.#span(at, stop)
      if (this.#users[at] === 0) {
        const got = yield* reader.pin(at, span - at)
        if (got < 0) {
          error = got
          break
        }
        this.#pfns.set(reader.pages.pfns.subarray(0, got), at)
        this.npinned += got
        error = this.#takeUp(at, at + got, mapped)
        at += got
      } else {
        error = this.#takeUp(at, span, mapped)
        at = span
      }
    }
    yield* reader.destroy()
    if (error === 0) error = yield* this.#updatePinned()
    if (error === 0) return 0
    yield* this.#letGo(first, at)
    return error
  }

  /** Index behind the pages from `at` on that are all used by somebody, or all by nobody. */
  #span(at: number, stop: number): number {
    const users = this.#users!
    const used = users[at]! > 0
    let end = at + 1
    while (end < stop && users[end]! > 0 === used) end++
    return end
  }

  #takeUp(from: number, to: number, mapped: (from: number, to: number) => number): number {
    const users = this.#users!
    for (let index = from; index < to; index++) users[index]!++
    return mapped(from, to)
  }

  /**
   * One user less for pages [first, end); what nobody uses is unpinned and uncharged. It has been unmapped before.
   * @rule R-IOMMUFD-8
   */
  *unuse(first: number, end: number): Kthread<void> {
    yield* this.#letGo(first, end)
    yield* this.#updatePinned()
  }

  *#letGo(first: number, end: number): Kthread<void> {
    const [pfns, users] = [this.#pfns!, this.#users!]
    for (let at = first; at < end;) {
      if (--users[at]! > 0) {
        at++
        continue
      }
      const pfn = pfns[at]!
      let count = 1
      while (at + count < end && users[at + count] === 1 && pfns[at + count] === pfn + count)
        users[at + count++] = 0
      pfns.fill(0, at, at + count)
      this.npinned -= count
      yield* unpinUserPageRangeDirtyLock(this.kernel, pfn, count, this.writable)
      at += count
    }
  }

  /**
   * `iopt_pages_update_pinned`: what has been pinned is charged afterwards, and what is not pinned any more taken
   * back.
   * @returns 0, -ENOMEM over the limit, -EINVAL when the address space that pays has gone
   * @rule R-IOMMUFD-7
   */
  *#updatePinned(): Kthread<number> {
    const k = this.kernel
    const { accountMode: mode, sourceMm: mm } = this
    const pages = this.npinned - this.lastNpinned
    if (pages === 0) return 0
    const terms = {
      rule: 'R-IOMMUFD-7',
      exempt: pages < 0,
      capability: 'CAP_IPC_LOCK',
      task: this.sourceTask,
    } as const
    let error = 0
    if (mode === 'mm' && mm.users === 0) {
      if (pages > 0)
        error = refuse(k.current, EINVAL, 'R-IOMMUFD-7', { why: 'the address space that pays has gone' })
    } else if (mode !== 'none') error = yield* account(k, this.#account, pages, terms)
    if (error < 0) return error
    adjust({ budget: 'mm->pinned_vm', mm }, pages)
    this.lastNpinned = this.npinned
    return 0
  }

  /** What is compared with the limit. */
  get #account(): Account {
    return this.accountMode === 'mm'
      ? { budget: 'mm->locked_vm', mm: this.sourceMm }
      : { budget: 'user->locked_vm', user: this.sourceUser }
  }

  /**
   * IOMMU_IOAS_CHANGE_PROCESS, the first half: the calling process is charged for what is pinned.
   * @returns 0, or -ENOMEM over its limit with nothing charged
   * @rule R-IOMMUFD-15
   */
  *chargeCaller(): Kthread<number> {
    const k = this.kernel
    const { current } = k
    const mm = current.mm!
    const [pages, mode] = [this.lastNpinned, this.accountMode]
    if (mode !== 'none') {
      const terms = { rule: 'R-IOMMUFD-15', exempt: false, capability: 'CAP_IPC_LOCK' } as const
      const to: Account =
        mode === 'mm'
          ? { budget: 'mm->locked_vm', mm }
          : { budget: 'user->locked_vm', user: k.user(current.uid) }
      const error = yield* account(k, to, pages, terms)
      if (error < 0) return error
    }
    adjust({ budget: 'mm->pinned_vm', mm }, pages)
    return 0
  }

  /** The second half: from now on `task` pays, and who did is given back what he was charged. */
  *moveTo(task: CurrentTask): Kthread<void> {
    yield* this.#uncharge()
    this.sourceTask = task
    this.sourceMm = task.mm!
    this.sourceUser = this.kernel.user(task.uid)
  }

  /** What `chargeCaller` charged `task` is taken back. */
  *undoCharge(task: CurrentTask): Kthread<void> {
    const { sourceTask, sourceMm, sourceUser } = this
    this.sourceMm = task.mm!
    this.sourceUser = this.kernel.user(task.uid)
    yield* this.#uncharge()
    this.sourceTask = sourceTask
    this.sourceMm = sourceMm
    this.sourceUser = sourceUser
  }

  *#uncharge(): Kthread<void> {
    const pages = -this.lastNpinned
    const gone = this.accountMode === 'mm' && this.sourceMm.users === 0
    const terms = { rule: 'R-IOMMUFD-15', exempt: true, capability: null } as const
    if (this.accountMode !== 'none' && !gone) yield* account(this.kernel, this.#account, pages, terms)
    adjust({ budget: 'mm->pinned_vm', mm: this.sourceMm }, pages)
  }

  /** One area less; without any the range is forgotten. */
  putArea(): void {
    if (--this.areas > 0 || !this.kernel.holders.delete(this)) return
    this.file?.put()
  }
}

/** Charges pages or, with a negative count, takes a charge back; the mm's under its write lock. @returns 0 or -ENOMEM */
function* account(k: Kernel, to: Account, pages: number, terms: ChargeTerms): Kthread<number> {
  if (to.budget === 'user->locked_vm') return change()
  const guard = to.mm.mmapLock.tryWrite() ?? (yield* to.mm.mmapLock.write())
  const error = change()
  guard.release()
  return error

  function change(): number {
    if (pages > 0) return charge(k, to, pages, terms)
    adjust(to, pages)
    return 0
  }
}

/** `struct pfn_reader_user`: GUP on the source mm, one's own or another's, whose lock is kept from call to call. */
class UserReader implements PfnReader {
  readonly pages: PageArray
  readonly #source: IoptPages
  #lock: LockedGuard | null = null

  constructor(source: IoptPages, entries: number) {
    this.#source = source
    this.pages = new PageArray(entries)
  }

  /** @returns pages, at least 1, or a negative errno */
  *pin(index: number, n: number): Kthread<number> {
    const { kernel: k, sourceMm: mm, uptr, writable } = this.#source
    const start = uptr + index * PAGE_SIZE
    const flags = FOLL_LONGTERM | (writable ? FOLL_WRITE : 0)
    let got: number
    if (mm === k.current.mm) got = yield* pinUserPagesFast(k, start, n, flags, this.pages)
    else {
      if (this.#lock === null) {
        if (mm.users === 0)
          return refuse(k.current, EFAULT, 'R-IOMMUFD-5', {
            address: start,
            why: 'the address space has gone',
          })
        mm.users++
        this.#lock = new LockedGuard(null)
      }
      this.#lock.guard ??= mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
      got = yield* pinUserPagesRemote(k, mm, start, n, flags, this.pages, this.#lock)
    }
    if (got !== 0) return got
    k.warnOnce('iommufd-no-pages', 'iommufd: GUP gave no pages and no error')
    return refuse(k.current, EFAULT, 'R-IOMMUFD-5', { address: start, why: 'no page and no error' })
  }

  *destroy(): Kthread<void> {
    if (this.#lock === null) return
    this.#lock.guard?.release()
    yield* mmput(this.#source.kernel, this.#source.sourceMm)
  }
}

/**
 * `batch_to_domain`: contiguous pages are mapped with one call each.
 * @returns 0 or a negative errno
 * @rule R-IOMMUFD-6
 */
export function mapRuns(k: Kernel, pages: IoptPages, from: number, to: number, largePages: boolean): number {
  const { pfns } = pages
  for (let at = from; at < to;) {
    const error = dmaMap(k, 'R-IOMMUFD-6')
    if (error < 0) return error
    const pfn = pfns[at]!
    let count = 1
    while (largePages && at + count < to && pfns[at + count] === pfn + count) count++
    at += count
  }
  return 0
}
