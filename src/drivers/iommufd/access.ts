import { EFAULT, EINVAL, ENOENT, EOVERFLOW, EPERM } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, pinUserPagesRemote } from '../../mm/gup.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { unpinUserPagesDirtyLock } from '../../mm/unpin.ts'
import { loadUser, storeUser } from '../../mm/user-access.ts'
import type { IoPagetable, IoptArea } from './io-pagetable.ts'

/*
 * @caller iommufd reads and writes
 * @entry iommufd_access_rw in the kernel, one page of another process
 * @gup pin_user_pages_remote, FOLL_WRITE for a write
 * @lock mmap_lock for read, kept
 * @budget none
 * @errno the errno of the page
 * @release at once; dirty when written
 * @test tests/drivers/iommufd/pages.test.ts
 */

interface Held {
  readonly iova: number
  readonly length: number
  readonly parts: readonly { readonly area: IoptArea; readonly first: number; readonly end: number }[]
  users: number
}

/** `struct iommufd_access`: a driver in the kernel that works on memory by IOVA, without an IOMMU. */
export class IommufdAccess {
  readonly #k: Kernel
  #ioas: IoPagetable | null
  readonly #held: Held[] = []

  /** @param notice a range is being unmapped: the driver unpins what it has of it */
  constructor(k: Kernel, ioas: IoPagetable, notice: (iova: number, length: number) => void = () => {}) {
    this.#k = k
    this.#ioas = ioas
    ioas.accessNotices.add(notice)
  }

  #refused(errno: number, rule: string, why: string): number {
    return refuse(this.#k.current, errno, rule, { why })
  }

  /**
   * `iommufd_access_pin_pages`.
   * @returns 0 or a negative errno with nothing pinned
   * @rule R-IOMMUFD-11
   */
  *pinPages(iova: number, length: number, write: boolean): Kthread<number> {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-11', why)
    if (length === 0) return refused(EINVAL, 'no bytes')
    if (iova + length >= 2 ** 64) return refused(EOVERFLOW, 'the range wraps around')
    const ioas = this.#ioas
    if (ioas === null) return refused(ENOENT, 'the access is detached')
    return yield* ioas.locked(() => this.#pinLocked(ioas, iova, length, write))
  }

  *#pinLocked(ioas: IoPagetable, iova: number, length: number, write: boolean): Kthread<number> {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-11', why)
    const same = this.#held.find((held) => held.iova === iova && held.length === length)
    if (same !== undefined) {
      same.users++
      return 0
    }
    const covering = ioas.cover(iova, length)
    if (covering === null) return refused(ENOENT, 'the range is not mapped as a whole')
    const parts: Held['parts'][number][] = []
    let error = 0
    for (const { area, from, to } of covering) {
      const start = area.offset + from - area.iova
      const end = area.offset + to - area.iova
      if (area.preventAccess || start % PAGE_SIZE !== 0 || end % PAGE_SIZE !== 0)
        error = refused(EINVAL, 'the mapping is being unmapped, or the range is not aligned')
      else if (write ? !area.write : !area.read) error = refused(EPERM, 'the mapping does not permit this')
      else error = yield* area.pages.use(start / PAGE_SIZE, end / PAGE_SIZE, () => 0)
      if (error < 0) break
      area.accesses++
      parts.push({ area, first: start / PAGE_SIZE, end: end / PAGE_SIZE })
    }
    if (error === 0) this.#held.push({ iova, length, parts, users: 1 })
    else yield* letGo(parts)
    return error
  }

  /** `iommufd_access_unpin_pages`: of exactly what was pinned. @throws RangeError otherwise */
  *unpinPages(iova: number, length: number): Kthread<void> {
    const at = this.#held.findIndex((held) => held.iova === iova && held.length === length)
    if (at < 0) throw new RangeError('unpin of an interval that was not pinned (R-IOMMUFD-11)')
    const held = this.#held[at]!
    if (--held.users > 0) return
    this.#held.splice(at, 1)
    yield* letGo(held.parts)
  }

  /** Intervals that are pinned. */
  get pinned(): readonly { readonly iova: number; readonly length: number }[] {
    return this.#held
  }

  /**
   * `iommufd_access_rw`: copies between a buffer and memory by IOVA.
   * @returns 0 or a negative errno
   * @rule R-IOMMUFD-12
   */
  *rw(iova: number, bytes: Uint8Array, write: boolean): Kthread<number> {
    const refused = (errno: number, why: string): number => this.#refused(errno, 'R-IOMMUFD-12', why)
    if (this.#ioas === null) return refused(ENOENT, 'the access is detached')
    const parts = this.#ioas.cover(iova, bytes.length)
    if (parts === null) return refused(ENOENT, 'the range is not mapped as a whole')
    for (const { area, from, to } of parts) {
      if (write ? !area.write : !area.read) return refused(EPERM, 'the mapping does not permit this')
      const address = area.pages.uptr + area.offset + from - area.iova
      const error = yield* this.#copy(area, address, bytes.subarray(from - iova, to - iova), write)
      if (error < 0) return error
    }
    return 0
  }

  *#copy(area: IoptArea, address: number, bytes: Uint8Array, write: boolean): Kthread<number> {
    const k = this.#k
    const { pages } = area
    const mm = pages.sourceMm
    if (pages.file === null && mm === k.current.mm) {
      const done = yield* write
        ? storeUser(k, mm, address, bytes, 'kernel')
        : loadUser(k, mm, address, bytes, 'kernel')
      return done.ok ? 0 : this.#refused(EFAULT, 'R-IOMMUFD-12', 'the memory cannot be accessed')
    }
    const first = Math.floor((address - pages.uptr) / PAGE_SIZE)
    const end = Math.ceil((address + bytes.length - pages.uptr) / PAGE_SIZE)
    if (pages.file === null && end - first === 1 && mm.users > 0)
      return yield* this.#copyPage(area, address, bytes, write)
    const error = yield* pages.use(first, end, () => 0)
    if (error < 0) return error
    for (let done = 0; done < bytes.length;) {
      const offset = (address + done) % PAGE_SIZE
      const part = bytes.subarray(done, done + PAGE_SIZE - offset)
      const pfn = pages.pfnAt(Math.floor((address + done - pages.uptr) / PAGE_SIZE))
      if (write) k.memory.contents.write(pfn, offset, part)
      else k.memory.contents.read(pfn, offset, part)
      done += part.length
    }
    yield* pages.unuse(first, end)
    return 0
  }

  /** One page of another process: pinned while it is copied, neither for long nor charged. */
  *#copyPage({ pages }: IoptArea, address: number, bytes: Uint8Array, write: boolean): Kthread<number> {
    const k = this.#k
    const mm = pages.sourceMm
    const one = new PageArray(1)
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    const got = yield* pinUserPagesRemote(k, mm, address, 1, write ? FOLL_WRITE : 0, one, guard)
    guard.release()
    if (got !== 1)
      return got < 0 ? got : this.#refused(EINVAL, 'R-IOMMUFD-12', 'no page could be had for the copy')
    const [offset, pfn] = [address % PAGE_SIZE, one.pfns[0]!]
    if (write) k.memory.contents.write(pfn, offset, bytes)
    else k.memory.contents.read(pfn, offset, bytes)
    yield* unpinUserPagesDirtyLock(k, one, 1, write)
    return 0
  }

  /** The driver lets go of the IO address space, and of everything in it. */
  *detach(): Kthread<void> {
    for (const { parts } of this.#held.splice(0)) yield* letGo(parts)
    this.#ioas = null
  }
}

function* letGo(parts: Held['parts']): Kthread<void> {
  for (const { area, first, end } of parts) {
    area.accesses--
    yield* area.pages.unuse(first, end)
  }
}
