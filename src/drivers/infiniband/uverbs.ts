import { EACCES, EINVAL } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { refuse } from '../../base/refusal.ts'
import { Unmodelled } from '../../base/unmodelled.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import type { Kernel, PinCharge } from '../../mm/kernel.ts'
import { Device } from '../../task/device/device.ts'
import { deviceRead, deviceWrite } from '../../task/device/dma.ts'
import { IB_ACCESS_LOCAL_WRITE, IB_ACCESS_ON_DEMAND, checkMrAccess, isWritable } from './access.ts'
import { ibUmemGet } from './umem.ts'

/** Pinned memory behind a memory region, whichever way its driver pinned it. */
export interface MrMemory {
  readonly writable: boolean
  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void
  charges(): readonly PinCharge[]
  /** the frame of a page of the region, 0 beyond it */
  pfnAt(page: number): number
  release(): Kthread<void>
}

/** What a program asks for with ibv_reg_mr(3). */
export interface RegMr {
  /** user address */
  readonly start: number
  /** bytes */
  readonly length: number
  /** IB_ACCESS_* */
  readonly access: number
  /** address that the other side uses; default `start` */
  readonly hcaVa?: number
  /** whether the protection domain exists; default true */
  readonly pd?: boolean
}

/** An RDMA driver, as far as it registers memory. */
export interface RdmaProvider {
  readonly name: string
  /** pages on demand instead of pinning */
  readonly onDemand: boolean
  readonly flush: boolean
  /** `reg_user_mr` */
  regUserMr(k: Kernel, reg: RegMr, device: UverbsDevice): Kthread<MrMemory | number>
}

/** Drivers that leave pinning to the core: mlx5, rxe, … */
export const coreProvider: RdmaProvider = {
  name: 'core',
  onDemand: false,
  flush: false,
  *regUserMr(k, { start, length, access }) {
    return yield* ibUmemGet(k, start, length, access)
  },
}

interface Mr {
  readonly memory: MrMemory
  readonly reg: RegMr
  access: number
}

/** An open `/dev/infiniband/uverbs*`: memory regions and queue buffers by handle. */
export class UverbsDevice extends Device {
  readonly provider: RdmaProvider
  readonly regions = new Map<number, Mr>()
  #lastHandle = 0

  constructor(k: Kernel, provider: RdmaProvider = coreProvider) {
    super(k, '/dev/infiniband/uverbs0')
    this.provider = provider
  }

  override forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const { memory } of this.regions.values()) memory.forEachReference(visit)
  }

  override charges(): readonly PinCharge[] {
    return [...this.regions.values()].flatMap(({ memory }) => [...memory.charges()])
  }

  /**
   * REG_MR.
   * @returns a handle of at least 1, or a negative errno with nothing pinned or charged
   * @throws Unmodelled for memory that is paged on demand
   * @rule R-UMEM-1
   */
  *regMr(reg: RegMr): Kthread<number> {
    const k = this.kernel
    const { start, hcaVa = start, access, pd = true } = reg
    if (start % PAGE_SIZE !== hcaVa % PAGE_SIZE)
      return refuse(k.current, EINVAL, 'R-UMEM-1', {
        why: 'the two addresses of the region lie at different offsets of their pages',
      })
    const forbidden = checkMrAccess(k, access, this.provider)
    if (forbidden < 0) return forbidden
    if (!pd) return refuse(k.current, EINVAL, 'R-UMEM-1', { why: 'there is no such protection domain' })
    // @rule R-UMEM-8
    if ((access & IB_ACCESS_ON_DEMAND) !== 0) throw new Unmodelled('paging on demand', 'R-UMEM-8')
    return this.#keep(yield* this.provider.regUserMr(k, reg, this), reg)
  }

  /**
   * ibv_create_cq(3) and the like of drivers whose queues lie in memory of the program: its buffer is pinned as a
   * region is, and fails with the same errors.
   * @returns a handle, or a negative errno
   * @rule R-UMEM-1
   */
  *createQueue(start: number, length: number): Kthread<number> {
    const reg = { start, length, access: IB_ACCESS_LOCAL_WRITE }
    return this.#keep(yield* ibUmemGet(this.kernel, start, length, reg.access), reg)
  }

  #keep(memory: MrMemory | number, reg: RegMr): number {
    if (typeof memory === 'number') return memory
    const handle = ++this.#lastHandle
    this.regions.set(handle, { memory, reg, access: reg.access })
    return handle
  }

  /** DEREG_MR, or the end of a queue. @returns 0 or -EINVAL */
  *deregMr(handle: number): Kthread<number> {
    const region = this.regions.get(handle)
    if (region === undefined) return this.#noRegion()
    yield* region.memory.release()
    this.regions.delete(handle)
    return 0
  }

  /**
   * REREG_MR that changes nothing but the access.
   * @returns 0, -EINVAL, or -EACCES where read-only memory would become writable
   * @rule R-UMEM-9
   */
  // oxlint-disable-next-line require-yield -- pins are kept as they are
  *reregAccess(handle: number, access: number): Kthread<number> {
    const k = this.kernel
    const region = this.regions.get(handle)
    if (region === undefined) return this.#noRegion()
    const forbidden = checkMrAccess(k, access, this.provider)
    if (forbidden < 0) return forbidden
    if (k.release.drivers.umemReregChecksAccess && isWritable(access) && !region.memory.writable)
      return refuse(k.current, EACCES, 'R-UMEM-9', { why: 'the memory was pinned for reading only' })
    region.access = access
    return 0
  }

  #noRegion(): number {
    return refuse(this.kernel.current, EINVAL, 'R-UMEM-1', { why: 'there is no such memory region' })
  }

  /** The device reads a region, at bytes from its start. @returns whether all of it is there */
  read(handle: number, offset: number, into: Uint8Array): boolean {
    const { memory, reg } = this.#region(handle)
    const at = (page: number): number => memory.pfnAt(page)
    return (
      offset + into.length <= reg.length &&
      deviceRead(this.kernel, at, (reg.start % PAGE_SIZE) + offset, into)
    )
  }

  /** The device writes a region. @returns false also where the access of the region does not permit it */
  write(handle: number, offset: number, from: Uint8Array): boolean {
    const { memory, reg, access } = this.#region(handle)
    if (!isWritable(access) || offset + from.length > reg.length) return false
    return deviceWrite(this.kernel, (page) => memory.pfnAt(page), (reg.start % PAGE_SIZE) + offset, from)
  }

  #region(handle: number): Mr {
    const region = this.regions.get(handle)
    if (region === undefined) throw new RangeError(`no memory region ${handle}`)
    return region
  }

  protected override *teardown(): Kthread<void> {
    for (const { memory } of this.regions.values()) yield* memory.release()
    this.regions.clear()
  }
}
