import {
  EACCES,
  EBADF,
  EBUSY,
  EFAULT,
  EINVAL,
  ENODEV,
  ENOMEM,
  ENOPROTOOPT,
  ENOTSOCK,
  EOPNOTSUPP,
  EPERM,
  EPROTONOSUPPORT,
  ESOCKTNOSUPPORT,
} from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { PG_DRIVER, PG_UPTODATE } from '../memory/page-flags.ts'
import { driverKind, type FileKind } from '../mm/file.ts'
import type { Unreadable } from '../mm/iovec.ts'
import type { Kernel } from '../mm/kernel.ts'
import { PageArray } from '../mm/page-array.ts'
import { VM_DONTDUMP, VM_DONTEXPAND, VM_MIXEDMAP } from '../mm/vm-flags.ts'
import { vmInsertPages } from '../mm/vm-insert-pages.ts'
import { kmalloc } from '../task/device/charge.ts'
import { Device, DeviceFile } from '../task/device/device.ts'
import type { FileDescription } from '../task/fd-table.ts'
import { xdpUmemCreate, type XdpUmem, type XdpUmemReg } from './xdp-umem.ts'

export const SOCK_RAW = 3
/** types socket(2) knows are below; the flags it knows beside them are SOCK_NONBLOCK and SOCK_CLOEXEC */
const SOCK_MAX = 11
const SOCK_TYPE_MASK = 0xf
const SOCK_FLAGS = 0o4000 | 0o2000000
const SOL_SOCKET = 1
export const SOL_XDP = 283
// options of setsockopt(2)
export const XDP_RX_RING = 2
export const XDP_TX_RING = 3
export const XDP_UMEM_REG = 4
export const XDP_UMEM_FILL_RING = 5
export const XDP_UMEM_COMPLETION_RING = 6
export const XDP_MAX_TX_SKB_BUDGET = 9
// offsets of mmap(2)
export const XDP_PGOFF_RX_RING = 0
export const XDP_PGOFF_TX_RING = 0x80000000
export const XDP_UMEM_PGOFF_FILL_RING = 0x100000000
export const XDP_UMEM_PGOFF_COMPLETION_RING = 0x180000000
// flags of bind(2)
export const XDP_SHARED_UMEM = 1
export const XDP_COPY = 2
export const XDP_ZEROCOPY = 4
export const XDP_USE_NEED_WAKEUP = 8
const BIND_FLAGS = XDP_SHARED_UMEM | XDP_COPY | XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP

/** bytes before the descriptors of a ring (XDP_MMAP_OFFSETS of 6.18) */
const RING_HEADER = 320
/** packets */
const LEAST_BUDGET = 32

type RingOption =
  typeof XDP_RX_RING | typeof XDP_TX_RING | typeof XDP_UMEM_FILL_RING | typeof XDP_UMEM_COMPLETION_RING

const ringAt = new Map<number, RingOption>([
  [XDP_PGOFF_RX_RING, XDP_RX_RING],
  [XDP_PGOFF_TX_RING, XDP_TX_RING],
  [XDP_UMEM_PGOFF_FILL_RING, XDP_UMEM_FILL_RING],
  [XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_COMPLETION_RING],
])

/** One network interface, as AF_XDP sees it. */
export interface NetDevice {
  readonly name: string
  readonly queues: number
  /** the driver can move packets without copying */
  readonly zerocopy: boolean
  /** queue → what is bound there */
  readonly pools: Map<number, XskPool>
}

/** `struct xsk_buff_pool`: what a bound queue holds of a umem. */
interface XskPool {
  readonly umem: XdpUmem
  readonly device: NetDevice
  readonly queue: number
  readonly zerocopy: boolean
  /** sockets that use it; one that is closed does so until its work item has run */
  users: number
  /** those of them that are not closed */
  readonly sockets: Set<XskSocket>
}

const devices = new WeakMap<Kernel, Map<string, NetDevice>>()

/** The interfaces of a kernel by name; `lo` is always there. */
export function netDevices(k: Kernel): Map<string, NetDevice> {
  let known = devices.get(k)
  if (known === undefined) {
    known = new Map([['lo', { name: 'lo', queues: 1, zerocopy: false, pools: new Map() }]])
    devices.set(k, known)
  }
  return known
}

/** What `optval` of setsockopt(2) points to. */
export type XskOptionValue = XdpUmemReg | number | Unreadable

/** `struct sockaddr_xdp`. */
export interface SockaddrXdp {
  /** name of the interface, instead of its number */
  readonly device: string
  readonly queue?: number
  /** XDP_* */
  readonly flags?: number
  /** with XDP_SHARED_UMEM: what `sxdp_shared_umem_fd` leads to */
  readonly sharedUmem?: FileDescription | null
}

/** `struct xdp_sock`: an AF_XDP socket. */
export class XskSocket extends Device {
  /** registered here, or shared with the socket it was bound to */
  umem: XdpUmem | null = null
  pool: XskPool | null = null
  readonly rings = new Map<RingOption, PageArray>()
  /** slots of the transmit ring; 0: there is none */
  #txEntries = 0

  constructor(k: Kernel) {
    super(
      k,
      'socket:[AF_XDP]',
      socketKind(() => this),
    )
  }

  override forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const pages of this.rings.values()) for (const pfn of pages.pfns) visit(pfn, 1, 0)
  }

  /**
   * setsockopt(2).
   * @param length bytes, as passed
   * @returns 0 or a negative errno
   * @throws Unmodelled for options of every socket (SOL_SOCKET)
   * @rule R-XDP-2
   */
  *setsockopt(level: number, option: number, value: XskOptionValue, length: number): Kthread<number> {
    const k = this.kernel
    const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-XDP-2', { why })
    if (length < 0) return refused(EINVAL, 'the length is negative')
    if (level === SOL_SOCKET) throw new Unmodelled('options of every socket (SOL_SOCKET)', 'R-XDP-2')
    if (level !== SOL_XDP) return refused(ENOPROTOOPT, 'no option of AF_XDP')
    if (option === XDP_UMEM_REG) {
      if (length < 24) return refused(EINVAL, 'the structure is too short')
      if (value === 'unreadable') return refused(EFAULT, 'the structure cannot be read')
      if (typeof value === 'number') throw new TypeError('XDP_UMEM_REG takes a structure')
      if (this.pool !== null) return refused(EBUSY, 'the socket is bound')
      if (this.umem !== null) return refused(EBUSY, 'the socket has a umem already')
      const { addr, len, chunkSize, headroom } = value
      const reg = length >= 32 ? value : { addr, len, chunkSize, ...(headroom !== undefined && { headroom }) }
      const umem = yield* xdpUmemCreate(k, reg)
      if (typeof umem === 'number') return umem
      this.umem = umem
      return 0
    }
    if (option === XDP_MAX_TX_SKB_BUDGET && k.release.drivers.xdpTxBudget)
      return this.#setBudget(value, length)
    if (!isRingOption(option)) return refused(ENOPROTOOPT, 'no option of AF_XDP')
    if (length < 4) return refused(EINVAL, 'the number of entries is too short')
    if (value === 'unreadable') return refused(EFAULT, 'the number of entries cannot be read')
    if (typeof value !== 'number') throw new TypeError('a ring takes a number of entries')
    return this.#makeRing(option, value)
  }

  /** How many packets one call sends at most, which nothing here looks at. @rule R-XDP-16 */
  #setBudget(value: XskOptionValue, length: number): number {
    const k = this.kernel
    const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-XDP-16', { why })
    if (length !== 4) return refused(EINVAL, 'the budget is a number of four bytes')
    if (value === 'unreadable') return refused(EFAULT, 'the budget cannot be read')
    if (typeof value !== 'number') throw new TypeError('XDP_MAX_TX_SKB_BUDGET takes a number')
    const fits = value >= LEAST_BUDGET && value <= this.#txEntries
    return fits ? 0 : refused(EACCES, 'the budget is below 32 or beyond the slots of the transmit ring')
  }

  #makeRing(option: RingOption, entries: number): number {
    const k = this.kernel
    const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-XDP-2', { why })
    if (this.pool !== null) return refused(EBUSY, 'the socket is bound')
    if (entries === 0 || !Number.isInteger(Math.log2(entries)))
      return refused(EINVAL, 'the number of entries is no power of two')
    if (this.rings.has(option)) return refused(EINVAL, 'the socket has this ring already')
    const bytes = RING_HEADER + entries * (option === XDP_RX_RING || option === XDP_TX_RING ? 16 : 8)
    const pages = new PageArray(Math.ceil(bytes / PAGE_SIZE))
    for (let i = 0; i < pages.length; i++) {
      const pfn = k.memory.allocFolio(0, { movable: false })
      if (pfn === 0) {
        for (let done = 0; done < i; done++) k.memory.put(pages.pfns[done]!)
        return refused(ENOMEM, 'there is no memory for the ring')
      }
      k.memory.frames.set(pfn, PG_DRIVER | PG_UPTODATE)
      pages.pfns[i] = pfn
    }
    this.rings.set(option, pages)
    if (option === XDP_TX_RING) this.#txEntries = entries
    return 0
  }

  /**
   * bind(2).
   * @returns 0 or a negative errno
   * @rule R-XDP-14
   */
  *bind(address: SockaddrXdp): Kthread<number> {
    const k = this.kernel
    const { queue = 0, flags = 0 } = address
    const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-XDP-14', { why })
    if ((flags & ~BIND_FLAGS) !== 0) return refused(EINVAL, 'a flag that bind does not know')
    if (this.pool !== null) return refused(EBUSY, 'the socket is bound already')
    const device = netDevices(k).get(address.device)
    if (device === undefined) return refused(ENODEV, 'no such interface')
    if (!this.rings.has(XDP_RX_RING) && !this.rings.has(XDP_TX_RING))
      return refused(EINVAL, 'the socket has neither a receive nor a transmit ring')
    if ((flags & XDP_SHARED_UMEM) !== 0) return yield* this.#bindShared(address, device, queue, flags)
    if (this.umem === null) return refused(EINVAL, 'the socket has no umem')
    return yield* this.#bindPool(this.umem, device, queue, flags)
  }

  /**
   * A umem that another socket registered. On the same queue both use its pool and its rings; another queue or
   * interface gets a pool of its own, which takes a fill and a completion ring of its own.
   * @throws Unmodelled for a pool that is to work without copying elsewhere, too
   */
  *#bindShared(
    { sharedUmem = null }: SockaddrXdp,
    device: NetDevice,
    queue: number,
    flags: number,
  ): Kthread<number> {
    const refused = (errno: number, why: string): number =>
      refuse(this.kernel.current, errno, 'R-XDP-14', { why })
    if ((flags & (XDP_COPY | XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP)) !== 0)
      return refused(EINVAL, 'XDP_SHARED_UMEM goes with no other flag')
    if (this.umem !== null) return refused(EINVAL, 'the socket has a umem of its own')
    if (!(sharedUmem instanceof DeviceFile) || !(sharedUmem.device instanceof XskSocket))
      return refused(ENOTSOCK, 'the umem is to be shared with something that is no AF_XDP socket')
    const { umem, pool } = sharedUmem.device
    if (umem === null || pool === null) return refused(EBADF, 'the socket to share with is not bound')
    if (pool.device !== device || pool.queue !== queue) {
      if (pool.zerocopy)
        throw new Unmodelled('a umem in use without copying, shared with another queue', 'R-XDP-14')
      const error = yield* this.#bindPool(umem, device, queue, XDP_COPY)
      if (error < 0) return error
    } else {
      if (this.rings.has(XDP_UMEM_FILL_RING) || this.rings.has(XDP_UMEM_COMPLETION_RING))
        return refused(EINVAL, 'on one queue the rings of the first socket are used: there can be no others')
      pool.users++
      pool.sockets.add(this)
      this.pool = pool
    }
    umem.users++
    this.umem = umem
    return 0
  }

  // oxlint-disable-next-line require-yield -- nothing here sleeps
  *#bindPool(umem: XdpUmem, device: NetDevice, queue: number, flags: number): Kthread<number> {
    const k = this.kernel
    const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-XDP-14', { why })
    if (!this.rings.has(XDP_UMEM_FILL_RING) || !this.rings.has(XDP_UMEM_COMPLETION_RING))
      return refused(EINVAL, 'this queue would have no fill or no completion ring')
    if (kmalloc(k, 'R-XDP-14') < 0)
      return refused(ENOMEM, 'there is no memory for the buffer pool of the queue; the umem stays as it is')
    if (queue >= device.queues) return refused(EINVAL, 'the interface has no such queue')
    const other = device.pools.get(queue)
    if (other !== undefined) return refuseBusy(k, other)
    const zerocopy = (flags & XDP_ZEROCOPY) !== 0
    if (zerocopy && !device.zerocopy)
      return refused(EOPNOTSUPP, 'the driver of the interface cannot do without copying: XDP_COPY would do')
    this.pool = { umem, device, queue, zerocopy, users: 1, sockets: new Set([this]) }
    umem.users++
    device.pools.set(queue, this.pool)
    return 0
  }

  /**
   * The socket is gone: its rings at once, the queue and the umem by a work item after a grace period.
   * @rule R-XDP-12
   * @rule R-XDP-13
   * @rule R-XDP-15
   */
  // oxlint-disable-next-line require-yield -- nothing here sleeps
  protected override *teardown(): Kthread<void> {
    for (const pages of this.rings.values()) for (const pfn of pages.pfns) this.kernel.memory.put(pfn)
    this.rings.clear()
    const { umem, pool } = this
    if (umem === null) return
    pool?.sockets.delete(this)
    this.kernel.delayedWork.set(this, () => {
      if (pool !== null && --pool.users === 0) {
        pool.device.pools.delete(pool.queue)
        umem.put()
      }
      umem.put()
    })
  }
}

/** Who holds a queue: a socket in use, one that only mappings of its rings keep, or one whose release is to come. */
function refuseBusy(k: Kernel, { sockets }: XskPool): number {
  if (sockets.size === 0)
    return refuse(k.current, EBUSY, 'R-XDP-12', {
      why: 'the socket that was bound to this queue is closed, but a work item lets go of the queue a little later',
    })
  for (const { file } of sockets) {
    if (file.refs > file.mapping.mappers.size)
      return refuse(k.current, EBUSY, 'R-XDP-14', { why: 'another socket is bound to this queue' })
  }
  return refuse(k.current, EBUSY, 'R-XDP-13', {
    why: 'the socket that was bound to this queue is closed, but mappings of its rings keep it',
  })
}

function isRingOption(option: number): option is RingOption {
  return (
    option === XDP_RX_RING ||
    option === XDP_TX_RING ||
    option === XDP_UMEM_FILL_RING ||
    option === XDP_UMEM_COMPLETION_RING
  )
}

/** A mapping of a ring shows its pages from the start; it may not be longer than the ring. */
function socketKind(socket: () => XskSocket): FileKind {
  return {
    ...driverKind('AF_XDP'),
    mmapMethod(k, vma, mm) {
      const option = ringAt.get(vma.pgoff * PAGE_SIZE)
      const pages = option === undefined ? undefined : socket().rings.get(option)
      if (pages === undefined || vma.pages > pages.length)
        return refuse(k.current, EINVAL, 'R-XDP-13', { why: 'no ring of that length lies at this offset' })
      vma.flags |= VM_DONTEXPAND | VM_DONTDUMP | VM_MIXEDMAP
      vmInsertPages(k, mm, vma, pages)
      return 0
    },
  }
}

/**
 * socket(AF_XDP, …). The capability is asked for here and nowhere else: who has the descriptor may register.
 * @param type with flags, as passed
 * @returns the socket, -EINVAL, -EPERM, -ESOCKTNOSUPPORT or -EPROTONOSUPPORT
 * @rule R-XDP-1
 */
export function xskCreate(k: Kernel, type = SOCK_RAW, protocol = 0): XskSocket | number {
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-XDP-1', { why })
  const kind = type & SOCK_TYPE_MASK
  if ((type & ~(SOCK_TYPE_MASK | SOCK_FLAGS)) !== 0 || kind >= SOCK_MAX)
    return refused(EINVAL, 'there is no such type of socket, or no such flag')
  if (!k.current.capable('CAP_NET_RAW'))
    return refuse(k.current, EPERM, 'R-XDP-1', { capability: 'CAP_NET_RAW', why: 'CAP_NET_RAW is missing' })
  if (kind !== SOCK_RAW) return refused(ESOCKTNOSUPPORT, 'AF_XDP sockets are SOCK_RAW')
  if (protocol !== 0) return refused(EPROTONOSUPPORT, 'AF_XDP has no protocols')
  return new XskSocket(k)
}
