import { EACCES, EINVAL, EPERM } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { PG_DIRTY } from '../../memory/page-flags.ts'
import { FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, getUserPages } from '../../mm/gup.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { findVma, type MmapReadGuard } from '../../mm/mmap-lock.ts'
import { registerNotifier, unregisterNotifier, type MmuNotifier } from '../../mm/mmu-notifier.ts'
import { putPage, putPages } from '../../mm/unpin.ts'
import { vmaFacts } from '../../mm/vma.ts'
import { dmaMap, kmalloc } from '../../task/device/charge.ts'
import { Device } from '../../task/device/device.ts'
import { deviceRead, deviceWrite } from '../../task/device/dma.ts'

/*
 * @caller radeon userptr
 * @entry ioctl DRM_IOCTL_RADEON_GEM_USERPTR, command streams
 * @gup get_user_pages, FOLL_WRITE unless READONLY
 * @lock mmap_lock for read, kept
 * @budget none
 * @errno not seen: the error is swallowed
 * @release any change of the mapping, GEM close; dirty unless READONLY
 * @test tests/drivers/gpu/radeon-ttm.test.ts
 */

export const RADEON_GEM_USERPTR_READONLY = 1
export const RADEON_GEM_USERPTR_ANONONLY = 2
export const RADEON_GEM_USERPTR_VALIDATE = 4
export const RADEON_GEM_USERPTR_REGISTER = 8

/** `struct drm_radeon_gem_userptr` */
export interface GemUserptr {
  readonly addr: number
  readonly size: number
  /** RADEON_GEM_USERPTR_* */
  readonly flags: number
}

/** A buffer object over user memory. References, not pins: what changes the mapping takes them away first. */
class UserptrObject {
  readonly mm: Mm
  readonly addr: number
  readonly size: number
  readonly flags: number
  readonly notifier: MmuNotifier | null
  /** what it holds while it is bound; null: not bound, or what could not be had (R-RADEON-6) */
  pages: PageArray | null = null
  bound = false

  constructor(mm: Mm, { addr, size, flags }: GemUserptr, notifier: MmuNotifier | null) {
    this.mm = mm
    this.addr = addr
    this.size = size
    this.flags = flags
    this.notifier = notifier
  }

  get readOnly(): boolean {
    return (this.flags & RADEON_GEM_USERPTR_READONLY) !== 0
  }
}

/** An open `/dev/dri/card0` of a radeon chip. */
export class RadeonDevice extends Device {
  /** R600 or newer: memory can be mapped read-only (device data) */
  readonly r600: boolean
  readonly #objects = new Map<number, UserptrObject>()
  #lastHandle = 0

  constructor(k: Kernel, { r600 = true }: { readonly r600?: boolean } = {}) {
    super(k, '/dev/dri/card0')
    this.r600 = r600
  }

  override forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const { pages } of this.#objects.values()) for (const pfn of pages?.pfns ?? []) visit(pfn, 1, 0)
  }

  /**
   * DRM_IOCTL_RADEON_GEM_USERPTR.
   * @returns a handle of at least 1, or a negative errno. That the pages could not be had is no error (R-RADEON-6)
   * @rule R-RADEON-1
   */
  *gemUserptr(args: GemUserptr): Kthread<number> {
    const k = this.kernel
    const { addr, size, flags } = args
    const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-RADEON-1', { why })
    if (addr % PAGE_SIZE !== 0 || size % PAGE_SIZE !== 0)
      return refused(EINVAL, 'address and size must be whole pages')
    if ((flags & ~15) !== 0) return refused(EINVAL, 'a flag that is not known')
    const readOnly = (flags & RADEON_GEM_USERPTR_READONLY) !== 0
    if (readOnly && !this.r600) return refused(EINVAL, 'chips before R600 cannot map read-only')
    const guarded = RADEON_GEM_USERPTR_ANONONLY | RADEON_GEM_USERPTR_REGISTER
    if (!readOnly && (flags & guarded) !== guarded)
      return refused(EACCES, 'memory the chip may write must be ANONONLY and REGISTER')
    const noMemory = kmalloc(k, 'R-RADEON-1')
    if (noMemory < 0) return noMemory
    const mm = k.current.mm!
    const register = (flags & RADEON_GEM_USERPTR_REGISTER) !== 0
    const handle = ++this.#lastHandle
    const notifier: MmuNotifier | null = register
      ? { start: addr, end: addr + size, invalidate: () => this.#unbind(this.#objects.get(handle)!) }
      : null
    const object = new UserptrObject(mm, args, notifier)
    this.#objects.set(handle, object)
    if (notifier !== null) registerNotifier(mm, notifier)
    if ((flags & RADEON_GEM_USERPTR_VALIDATE) !== 0) yield* this.#bind(object)
    return handle
  }

  /** A command stream that uses an object: it is bound again where it has been invalidated. @returns 0 or -EINVAL */
  *commandStream(handle: number): Kthread<number> {
    const object = this.#objects.get(handle)
    if (object === undefined) return this.#noObject()
    if (!object.bound) yield* this.#bind(object)
    return 0
  }

  /** DRM_IOCTL_GEM_CLOSE. @returns 0 or -EINVAL */
  // oxlint-disable-next-line require-yield -- nothing here sleeps
  *gemClose(handle: number): Kthread<number> {
    const object = this.#objects.get(handle)
    if (object === undefined) return this.#noObject()
    this.#free(object)
    this.#objects.delete(handle)
    return 0
  }

  #noObject(): number {
    return refuse(this.kernel.current, EINVAL, 'R-RADEON-1', { why: 'there is no such object' })
  }

  /**
   * `radeon_ttm_backend_bind`: whatever becomes of the pages, the chip's table is written.
   * @rule R-RADEON-6
   */
  *#bind(object: UserptrObject): Kthread<void> {
    const k = this.kernel
    const mm = k.current.mm!
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
    const pages = yield* pinUserptr(k, guard, object)
    guard.release()
    object.bound = true
    object.pages = typeof pages === 'number' ? null : pages
  }

  /** `radeon_ttm_tt_unpin_userptr`. @rule R-RADEON-5 */
  #unbind(object: UserptrObject): void {
    const { pages } = object
    object.bound = false
    object.pages = null
    const { frames } = this.kernel.memory
    for (const pfn of pages?.pfns ?? []) {
      if (!object.readOnly) frames.set(frames.head(pfn), PG_DIRTY)
      putPage(this.kernel, pfn)
    }
  }

  #free(object: UserptrObject): void {
    this.#unbind(object)
    if (object.notifier !== null) unregisterNotifier(object.mm, object.notifier)
  }

  /** What the chip reads. @returns false where its table has no page of the object */
  read(handle: number, offset: number, into: Uint8Array): boolean {
    return deviceRead(this.kernel, this.#translation(handle), offset, into)
  }

  write(handle: number, offset: number, from: Uint8Array): boolean {
    if (this.#objects.get(handle)?.readOnly !== false) return false
    return deviceWrite(this.kernel, this.#translation(handle), offset, from)
  }

  #translation(handle: number): (page: number) => number {
    return (page) => this.#objects.get(handle)?.pages?.pfns[page] ?? 0
  }

  // oxlint-disable-next-line require-yield -- nothing here sleeps
  protected override *teardown(): Kthread<void> {
    for (const object of this.#objects.values()) this.#free(object)
    this.#objects.clear()
  }
}

/**
 * `radeon_ttm_tt_pin_userptr`: plain references, nothing charged. Only memory of the process that made the object, and
 * with ANONONLY of one anonymous mapping.
 * @returns the pages, or a negative errno with nothing held
 * @rule R-RADEON-2
 * @rule R-RADEON-3
 * @rule R-RADEON-4
 */
function* pinUserptr(k: Kernel, guard: MmapReadGuard, object: UserptrObject): Kthread<PageArray | number> {
  const { addr, size } = object
  if (k.current.mm !== object.mm)
    return refuse(k.current, EPERM, 'R-RADEON-2', { why: 'the memory belongs to another process' })
  if ((object.flags & RADEON_GEM_USERPTR_ANONONLY) !== 0) {
    const vma = findVma(guard, addr)
    if (vma === null || vma.file !== null || vma.end < addr + size)
      return refuse(k.current, EPERM, 'R-RADEON-2', {
        address: addr,
        ...(vma !== null && { vma: vmaFacts(vma) }),
        why: 'the memory is not all of one anonymous mapping',
      })
  }
  const n = size / PAGE_SIZE
  const pages = new PageArray(n)
  let done = 0
  while (done < n) {
    const rest = new PageArray(n - done)
    const flags = object.readOnly ? 0 : FOLL_WRITE
    const got = yield* getUserPages(k, guard, addr + done * PAGE_SIZE, n - done, flags, rest)
    if (got < 0) {
      putPages(k, pages, done)
      return got
    }
    pages.pfns.set(rest.pfns.subarray(0, got), done)
    done += got
  }
  const unmapped = kmalloc(k, 'R-RADEON-4') || dmaMap(k, 'R-RADEON-4')
  if (unmapped === 0) return pages
  putPages(k, pages, n)
  return unmapped
}
