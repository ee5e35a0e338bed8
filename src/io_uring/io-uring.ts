import { EFAULT } from '../base/errno.ts'
import { PREEMPT, WaitQueue, type Kthread } from '../base/kthread.ts'
import { Mutex } from '../base/locks.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { AddressSpace, OpenFile, driverKind, type FileKind } from '../mm/file.ts'
import type { CurrentTask, Kernel, PageHolder, PinCharge, UserStruct } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import type { BufferTable } from './buffer.ts'
import { accountLocked, unaccountLocked } from './memlock.ts'
import { cancelRequests, type Request, type Sqe } from './request.ts'
import { Generation, releaseGenerations, releaseTable, type RsrcNode } from './rsrc-node.ts'
import {
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SINGLE_ISSUER,
  checkSetup,
  ringMemoryPages,
  type QueueSizes,
  type SetupParams,
} from './setup-flags.ts'

/** One completion queue entry. */
export interface Cqe {
  readonly userData: number
  readonly res: number
  readonly flags: number
}

/** What a restricted ring still may do (IORING_REGISTER_RESTRICTIONS). */
export interface Restrictions {
  readonly registerOps: ReadonlySet<number>
  readonly sqeOps: ReadonlySet<number>
  /** IOSQE_* a request may have, and those it must have */
  readonly sqeFlagsAllowed: number
  readonly sqeFlagsRequired: number
}

/**
 * `struct io_ring_ctx`: one ring. Everything that changes is protected by `uringLock`; `locked_vm` of its
 * user is the only state it shares with other rings (R-URING-85).
 */
export class IoUring implements PageHolder {
  readonly kernel: Kernel
  readonly id: number
  readonly name: string
  /** IORING_SETUP_*. Immutable */
  readonly flags: number
  readonly sizes: QueueSizes
  /** made by a 32-bit program. Immutable */
  readonly compat: boolean
  /**
   * Whose locked_vm is charged: null when the creator had CAP_IPC_LOCK, else the user of its real uid.
   * Decided at setup, once and for all; later changes of identity do not matter.
   * @rule R-URING-7
   */
  readonly user: UserStruct | null
  /** whose VmPin is charged: the creator's mm. Kept as a structure; its address space may be long gone (R-URING-7) */
  readonly mmAccount: Mm
  /** pages of ring memory charged at setup (R-URING-8) */
  readonly chargedPages: number
  readonly uringLock: Mutex
  /** the open file description; descriptors and mappings of the ring hold it (R-URING-65) */
  readonly file: IoUringFile
  /** with SINGLE_ISSUER the only task that may use it; null while any task may (R-URING-3) */
  submitterTask: CurrentTask | null = null
  /** made with R_DISABLED and not enabled yet */
  disabled: boolean
  /** registered, but in force only from ENABLE_RINGS on (R-URING-4) */
  restrictions: Restrictions | null = null
  restricted = false
  dying = false
  buffers: BufferTable | null = null
  /** what holds a buffer on behalf of this ring: slots, and requests whose slot was emptied */
  readonly nodes = new Set<RsrcNode>()
  /** the current generation of requests and what is left of older ones; never empty (R-URING-20) */
  readonly generations: Generation[] = [new Generation()]
  /** UNREGISTER waits for requests: the table counts as empty (R-URING-21) */
  quiescing = false
  readonly quiesceQueue: WaitQueue
  /** the submission queue: entries the program has filled in and the kernel has not taken */
  readonly sqes: Sqe[] = []
  /** requests that are not done */
  readonly requests = new Set<Request>()
  /** woken requests of a DEFER_TASKRUN ring, which go on when their task waits for completions */
  readonly deferred: Request[] = []
  /** the completion queue: posted and not taken, oldest first; at most `sizes.cq` */
  readonly cqes: Cqe[] = []
  /** completions that found the queue full */
  readonly overflow: Cqe[] = []

  /** @internal `ioUringSetup` makes rings */
  constructor(
    k: Kernel,
    params: SetupParams,
    sizes: QueueSizes,
    user: UserStruct | null,
    mmAccount: Mm,
    chargedPages: number,
  ) {
    this.kernel = k
    this.id = k.nextId()
    this.name = `io_uring ring ${this.id} of ${k.current.comm}`
    this.flags = params.flags ?? 0
    this.sizes = sizes
    this.compat = params.compat ?? false
    this.user = user
    this.mmAccount = mmAccount
    this.chargedPages = chargedPages
    this.disabled = (this.flags & IORING_SETUP_R_DISABLED) !== 0
    if ((this.flags & IORING_SETUP_SINGLE_ISSUER) !== 0 && !this.disabled) this.submitterTask = k.current
    this.uringLock = new Mutex(`uring_lock of ring ${this.id}`, k)
    this.quiesceQueue = new WaitQueue(`requests of ring ${this.id} that use buffers`)
    this.file = new IoUringFile(k, this)
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const { buffer } of this.#ownNodes()) buffer.forEachPin((pfn) => visit(pfn, 0, 1))
  }

  charges(): readonly PinCharge[] {
    let pinned = 0
    for (const { buffer } of this.#ownNodes()) pinned += buffer.acctPages
    return [{ user: this.user, lockedVm: pinned + this.chargedPages, mm: this.mmAccount, pinnedVm: pinned }]
  }

  /** Nodes whose buffer this ring answers for: of several rings that share one, the first that still has it. */
  *#ownNodes(): Generator<RsrcNode> {
    for (const node of this.nodes) {
      const [first] = node.buffer.nodes
      if (first === node) yield node
    }
  }

  /** Posts a completion. @rule R-URING-94 */
  post(userData: number, res: number): void {
    const cqe = { userData, res, flags: 0 }
    if (this.overflow.length > 0 || this.cqes.length >= this.sizes.cq) this.overflow.push(cqe)
    else this.cqes.push(cqe)
  }

  /** Moves completions that found the queue full to where there is room now. @rule R-URING-94 */
  flushOverflow(): void {
    while (this.overflow.length > 0 && this.cqes.length < this.sizes.cq)
      this.cqes.push(this.overflow.shift()!)
  }
}

/** A ring's mappings show kernel pages that its own mmap method puts in place; they are not modelled. */
const RING_FILE: FileKind = {
  ...driverKind('io_uring'),
  kernelChoosesAddress: true,
  mmapMethod(): number {
    throw new Unmodelled('mmap of an io_uring descriptor', 'R-URING-65')
  },
}

/** The file of a ring. When its last reference goes, so does the ring. @rule R-URING-65 */
export class IoUringFile extends OpenFile {
  readonly ring: IoUring

  constructor(k: Kernel, ring: IoUring) {
    const mapping = new AddressSpace(k.nextId(), RING_FILE, 0)
    super(mapping, 'anon_inode:[io_uring]', { readable: true, writable: true }, () => ioRingRelease(k, ring))
    this.ring = ring
  }
}

/**
 * io_uring_setup(2). The ring's file has one reference, the caller's: install `ring.file` in a descriptor
 * table, or `put()` it.
 *
 * The memory of the queues is charged where the release charges it, but has no frames.
 * @returns the ring, -EFAULT, -EINVAL, or -ENOMEM when RLIMIT_MEMLOCK leaves no room for the queues
 * @throws Unmodelled see `checkSetup`
 * @rule R-URING-6
 * @rule R-URING-7
 * @rule R-URING-8
 */
export function* ioUringSetup(k: Kernel, params: SetupParams): Kthread<IoUring | number> {
  if (params.unreadable === true) {
    return refuse(k.current, EFAULT, 'R-URING-6', { why: 'the setup parameters cannot be read' })
  }
  const sizes = checkSetup(k, params)
  if (typeof sizes === 'number') return sizes
  const { mm } = k.current
  if (mm === null) throw new Error('io_uring_setup by a task without an address space')
  const user = k.current.capable('CAP_IPC_LOCK') ? null : k.user(k.current.uid)
  const pages =
    k.release.ioUring.chargesRingMemory && user !== null ? ringMemoryPages(sizes, params.flags ?? 0) : 0
  if (k.exploring) yield PREEMPT
  const charged = accountLocked(k, user, pages)
  if (charged < 0) return charged
  const ring = new IoUring(k, params, sizes, user, mm, pages)
  k.holders.add(ring)
  cancelAtExit(k)
  return ring
}

const hooked = new WeakSet<Kernel>()

/** A task that exits or execs takes its requests with it, on every ring. @rule R-URING-97 */
function cancelAtExit(k: Kernel): void {
  if (hooked.has(k)) return
  hooked.add(k)
  k.exitHooks.add((task) => {
    for (const holder of k.holders) if (holder instanceof IoUring) cancelRequests(holder, task)
  })
}

/**
 * The last reference to the ring's file is gone: requests are cancelled, every buffer is unpinned and
 * uncharged, then the ring memory. No completions: nobody is left to read them.
 *
 * The kernel does this from a work item some 12 to 24 ms later (R-URING-66); here it happens at once.
 */
export function ioRingRelease(k: Kernel, ring: IoUring): void {
  ring.dying = true
  cancelRequests(ring, null)
  const table = ring.buffers
  ring.buffers = null
  if (table !== null) releaseTable(k, table, false)
  releaseGenerations(k, ring)
  k.delayedWork.delete(ring)
  unaccountLocked(ring.user, ring.chargedPages)
  k.holders.delete(ring)
}
