import { EINVAL, ENOBUFS, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../mm/gup-flags.ts'
import { PageArray, pinUserPages } from '../mm/gup.ts'
import type { Kernel, PageHolder, PinCharge, UserStruct } from '../mm/kernel.ts'
import { unpinUserPagesDirtyLock } from '../mm/unpin.ts'
import { unsigned } from '../mm/user-range.ts'
import { adjust, canLock, charge, kmalloc, pointerArray } from '../task/device/charge.ts'
import { runDetached } from '../task/device/device.ts'
import { deviceRead, deviceWrite } from '../task/device/dma.ts'
import { leak } from '../task/device/leak.ts'

/*
 * @caller AF_XDP umem
 * @entry setsockopt(XDP_UMEM_REG)
 * @gup pin_user_pages FOLL_WRITE FOLL_LONGTERM, one call
 * @lock mmap_lock for read, kept
 * @budget user->locked_vm before the pin; with CAP_IPC_LOCK nothing is charged
 * @errno ENOBUFS over the limit; ENOMEM for a short pin, which leaves a charge behind
 * @release last socket, sharing socket and ring mapping, then a work item; dirty
 * @test tests/net/xdp-umem.test.ts
 */

export const XDP_UMEM_UNALIGNED_CHUNK_FLAG = 1
export const XDP_UMEM_TX_SW_CSUM = 2
export const XDP_UMEM_TX_METADATA_LEN = 4

const XDP_UMEM_MIN_CHUNK_SIZE = 2048
const U32_MAX = 2 ** 32 - 1

/** `struct xdp_umem_reg`, 32 bytes; callers of older interfaces give 24, without flags and metadata. */
export interface XdpUmemReg {
  /** user address */
  readonly addr: number
  /** bytes */
  readonly len: number
  /** bytes of one frame */
  readonly chunkSize: number
  /** bytes; default 0 */
  readonly headroom?: number
  /** XDP_UMEM_*; default 0 */
  readonly flags?: number
  /** bytes; default 0 */
  readonly txMetadataLen?: number
}

/** `struct xdp_umem`: packet memory of AF_XDP sockets, pinned from its registration to its release. */
export class XdpUmem implements PageHolder {
  readonly kernel: Kernel
  readonly name: string
  readonly pages: PageArray
  readonly size: number
  readonly chunkSize: number
  readonly headroom: number
  readonly chunks: number
  readonly flags: number
  /** whose locked_vm is charged; null: the registrant had CAP_IPC_LOCK. The registrant, whoever lets go later */
  readonly user: UserStruct | null
  /** sockets and buffer pools that use it */
  users = 1

  /** @internal `xdpUmemCreate` makes umems @rule R-XDP-11 */
  constructor(k: Kernel, reg: XdpUmemReg, pages: PageArray, user: UserStruct | null) {
    this.kernel = k
    this.name = `AF_XDP umem ${k.nextId()} of ${k.current.comm}`
    this.pages = pages
    this.size = reg.len
    this.chunkSize = reg.chunkSize
    this.headroom = reg.headroom ?? 0
    this.chunks = Math.floor(reg.len / reg.chunkSize)
    this.flags = reg.flags ?? 0
    this.user = user
    k.holders.add(this)
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const pfn of this.pages.pfns) visit(pfn, 0, 1)
  }

  charges(): readonly PinCharge[] {
    return [{ user: this.user, lockedVm: this.pages.length, mm: null, pinnedVm: 0 }]
  }

  /** What a device or the kernel reads at an offset of the umem. @returns false beyond its pages */
  read(offset: number, into: Uint8Array): boolean {
    return deviceRead(this.kernel, (page) => this.pages.pfns[page] ?? 0, offset, into)
  }

  write(offset: number, from: Uint8Array): boolean {
    return deviceWrite(this.kernel, (page) => this.pages.pfns[page] ?? 0, offset, from)
  }

  /** One user less; the last one unpins and uncharges, by a work item of the kernel's. @rule R-XDP-12 */
  put(): void {
    if (--this.users === 0) runDetached(this.kernel, `release of ${this.name}`, this.#release())
  }

  *#release(): Kthread<void> {
    yield* unpinUserPagesDirtyLock(this.kernel, this.pages, this.pages.length, true)
    if (this.user !== null) adjust({ budget: 'user->locked_vm', user: this.user }, -this.pages.length)
    this.kernel.holders.delete(this)
  }
}

/**
 * `xdp_umem_create`: arguments, then the charge, then the pin, then the kernel's own mapping of the pages.
 * @returns the umem; -EINVAL, -ENOBUFS over RLIMIT_MEMLOCK, -ENOMEM when not every page can be pinned, or what
 *   pinning the first page gives
 * The limit comes first: with nothing mapped at the address the answer tells how much of the budget is used, without
 * using any.
 * @rule R-XDP-8
 * @rule R-DRV-17
 * @rule R-DRV-18
 */
export function* xdpUmemCreate(k: Kernel, reg: XdpUmemReg): Kthread<XdpUmem | number> {
  const error = kmalloc(k, 'R-XDP-9') || checkUmemReg(k, reg)
  if (error < 0) return error
  const pages = Math.ceil(reg.len / PAGE_SIZE)
  const user = canLock(k) ? null : k.user(k.current.uid)
  if (user !== null) {
    const over = charge(k, { budget: 'user->locked_vm', user }, pages, {
      rule: 'R-XDP-8',
      errno: ENOBUFS,
      exempt: false,
      capability: 'CAP_IPC_LOCK',
    })
    if (over < 0) return over
  }
  return yield* pinUmem(k, reg, pages, user)
}

/**
 * `xdp_umem_pin_pages` and what its caller does about it. A short pin leaves the pages that were not pinned
 * charged: their number is lost before it is taken back.
 * Which memory can be pinned for writing and for long is GUP's to say.
 * @rule R-XDP-9
 * @rule R-XDP-10
 * @rule R-DRV-8
 * @rule R-DRV-10
 */
function* pinUmem(
  k: Kernel,
  reg: XdpUmemReg,
  nrPages: number,
  user: UserStruct | null,
): Kthread<XdpUmem | number> {
  const uncharge = (pages: number): void => {
    if (user !== null) adjust({ budget: 'user->locked_vm', user }, -pages)
  }
  const noArray = pointerArray(k, nrPages, 'R-XDP-9')
  if (noArray < 0) {
    uncharge(nrPages)
    return noArray
  }
  const pages = new PageArray(nrPages)
  const { mm } = k.current
  if (mm === null) throw new Error('XDP_UMEM_REG by a task without an address space')
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  const got = yield* pinUserPages(k, guard, reg.addr, nrPages, FOLL_WRITE | FOLL_LONGTERM, pages)
  guard.release()
  if (got < 0) {
    uncharge(nrPages)
    return got
  }
  if (got < nrPages) {
    const { refusal } = k.current
    yield* unpinUserPagesDirtyLock(k, pages, got, true)
    uncharge(got)
    if (user !== null)
      leak(k, 'AF_XDP registration that was pinned in part (R-XDP-10)', {
        charge: { user, lockedVm: nrPages - got, mm: null, pinnedVm: 0 },
      })
    const facts = { address: reg.addr + got * PAGE_SIZE, page: got, wanted: nrPages, got }
    return refuse(
      k.current,
      ENOMEM,
      'R-XDP-9',
      { ...facts, why: 'not every page of the umem can be pinned' },
      refusal,
    )
  }
  const unmapped = kmalloc(k, 'R-XDP-9')
  if (unmapped < 0) {
    yield* unpinUserPagesDirtyLock(k, pages, nrPages, true)
    uncharge(nrPages)
    return unmapped
  }
  return new XdpUmem(k, reg, pages, user)
}

/**
 * What XDP_UMEM_REG is asked for, in the order of its checks.
 * @returns 0 or -EINVAL
 * @throws Unmodelled for headroom that only some builds of a release accept
 * @rule R-XDP-3
 * @rule R-XDP-7
 */
export function checkUmemReg(k: Kernel, reg: XdpUmemReg): number {
  const { chunkSize, headroom = 0, flags = 0 } = reg
  const addr = unsigned(reg.addr)
  const len = unsigned(reg.len)
  const unaligned = (flags & XDP_UMEM_UNALIGNED_CHUNK_FLAG) !== 0
  const refused = (rule: string, why: string): number => refuse(k.current, EINVAL, rule, { why })
  if (chunkSize < XDP_UMEM_MIN_CHUNK_SIZE || chunkSize > PAGE_SIZE)
    return refused('R-XDP-3', 'a chunk has 2048 to 4096 bytes, huge pages or not')
  // @rule R-XDP-4
  const { xdpTxMetadata } = k.release.drivers
  const known =
    XDP_UMEM_UNALIGNED_CHUNK_FLAG | (xdpTxMetadata ? XDP_UMEM_TX_SW_CSUM | XDP_UMEM_TX_METADATA_LEN : 0)
  if ((flags & ~known) !== 0) return refused('R-XDP-4', 'a flag that this release does not know')
  if (!unaligned && (chunkSize & (chunkSize - 1)) !== 0)
    return refused(
      'R-XDP-3',
      'the size of a chunk is no power of two, and XDP_UMEM_UNALIGNED_CHUNK_FLAG is not set',
    )
  if (addr % PAGE_SIZE !== 0)
    return refuse(k.current, EINVAL, 'R-XDP-3', { address: addr, why: 'the area does not begin with a page' })
  if (addr + len >= 2 ** 64) return refused('R-XDP-3', 'the end of the area wraps around the address space')
  if (Math.ceil(len / PAGE_SIZE) > U32_MAX) return refused('R-XDP-3', 'the area has 2^32 pages or more')
  const chunks = Math.floor(len / chunkSize)
  if (chunks === 0) return refused('R-XDP-3', 'the area is shorter than one chunk')
  if (chunks > U32_MAX) return refused('R-XDP-3', 'the area has 2^32 chunks or more')
  if (!unaligned && len % chunkSize !== 0)
    return refused('R-XDP-3', 'the length of the area is no multiple of the chunk size')
  return checkHeadroom(k, chunkSize, headroom) || checkMetadata(k, flags, reg.txMetadataLen ?? 0)
}

/** @rule R-XDP-5 */
function checkHeadroom(k: Kernel, chunkSize: number, headroom: number): number {
  const { xdpSpareChunk: spare } = k.release.drivers
  if (headroom > chunkSize - (spare === 'unknown' ? 257 : spare))
    return refuse(k.current, EINVAL, 'R-XDP-5', { why: 'the headroom leaves too little of a chunk' })
  if (spare === 'unknown' && headroom > chunkSize - 704)
    throw new Unmodelled(`headroom that release ${k.release.name} may or may not accept`, 'R-XDP-5')
  return 0
}

/** @rule R-XDP-6 */
function checkMetadata(k: Kernel, flags: number, length: number): number {
  if ((flags & XDP_UMEM_TX_METADATA_LEN) === 0) return 0
  if (length < 256 && length % 8 === 0 && length >= k.release.drivers.xdpLeastMetadata) return 0
  return refuse(k.current, EINVAL, 'R-XDP-6', { why: 'the length of the TX metadata is not acceptable' })
}
