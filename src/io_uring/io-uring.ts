import { EFAULT } from '../base/errno.ts'
import { PREEMPT, WaitQueue, type Kthread } from '../base/kthread.ts'
import { Mutex } from '../base/locks.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { CurrentTask, Kernel, PageHolder, PinCharge, UserStruct } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import type { BufferTable } from './buffer.ts'
import type { Notification } from './notification.ts'
import { freeRegion, kernelRegion, userRegion, type Region } from './region.ts'
import { cancelRequests, type Request, type Sqe } from './request.ts'
import { IoUringFile } from './ring-file.ts'
import { Generation, releaseGenerations, releaseTable, type RsrcNode } from './rsrc-node.ts'
import {
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_NO_MMAP,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SINGLE_ISSUER,
  checkPoller,
  checkSetup,
  ringMemory,
  type QueueSizes,
  type SetupParams,
} from './setup-flags.ts'

// IORING_CQE_F_*
/** the request will complete once more */
export const IORING_CQE_F_MORE = 1 << 1
/** the socket has more to receive */
export const IORING_CQE_F_SOCK_NONEMPTY = 1 << 2
/** the memory of a send is free again */
export const IORING_CQE_F_NOTIF = 1 << 3

/** One completion queue entry. */
export interface Cqe {
  readonly userData: number
  readonly res: number
  /** IORING_CQE_F_* */
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
  /** memory of the queues: completions with the indices, and submission entries */
  readonly rings: Region
  readonly sqEntries: Region
  /** rings of provided buffers by group number */
  readonly groups = new Map<number, Region>()
  /** groups of low numbers are there, with or without a ring (`groupsMadeAtOnce`) */
  hasGroups = false
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
  /** sends whose memory may still be in use (R-URING-100) */
  readonly notifications = new Set<Notification>()
  /** who cannot go on before all of them have come */
  readonly notificationQueue: WaitQueue
  /** those that are due, and posted when the submitter is done with its batch */
  readonly due: Notification[] = []
  /** sends of the batch that have failed: due after those that succeeded (R-URING-100) */
  readonly failedSends: Notification[] = []
  /** a task is submitting requests */
  submitting = false
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
    rings: Region,
    sqEntries: Region,
  ) {
    this.kernel = k
    this.id = k.nextId()
    this.name = `io_uring ring ${this.id} of ${k.current.comm}`
    this.flags = params.flags ?? 0
    this.sizes = sizes
    this.compat = params.compat ?? false
    this.user = user
    this.mmAccount = mmAccount
    this.rings = rings
    this.sqEntries = sqEntries
    this.disabled = (this.flags & IORING_SETUP_R_DISABLED) !== 0
    if ((this.flags & IORING_SETUP_SINGLE_ISSUER) !== 0 && !this.disabled) this.submitterTask = k.current
    this.uringLock = new Mutex(`uring_lock of ring ${this.id}`, k)
    this.quiesceQueue = new WaitQueue(`requests of ring ${this.id} that use buffers`)
    this.notificationQueue = new WaitQueue(`notifications of ${this.name}`)
    this.file = new IoUringFile(k, this, () => ioRingRelease(this))
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const { buffer } of this.#ownNodes()) buffer.forEachPin((pfn) => visit(pfn, 0, 1))
    for (const region of this.#regions()) region.forEachPage(visit)
  }

  #regions(): Region[] {
    return [this.rings, this.sqEntries, ...this.groups.values()]
  }

  /** pages of shared memory charged to the user (R-URING-49) */
  get chargedPages(): number {
    return this.#regions().reduce((sum, { charged }) => sum + charged, 0)
  }

  charges(): readonly PinCharge[] {
    let pinned = 0
    for (const { buffer } of this.#ownNodes()) pinned += buffer.acctPages
    let lent = 0
    for (const { charged } of this.notifications) lent += charged
    const lockedVm = pinned + lent + this.chargedPages
    return [{ user: this.user, lockedVm, mm: this.mmAccount, pinnedVm: pinned }]
  }

  /** Nodes whose buffer this ring answers for: of several rings that share one, the first that still has it. */
  *#ownNodes(): Generator<RsrcNode> {
    for (const node of this.nodes) {
      const [first] = node.buffer.nodes
      if (first === node) yield node
    }
  }

  /** Posts a completion. @rule R-URING-94 */
  post(userData: number, res: number, flags = 0): void {
    const cqe = { userData, res, flags }
    if (this.overflow.length > 0 || this.cqes.length >= this.sizes.cq) this.overflow.push(cqe)
    else this.cqes.push(cqe)
  }

  /**
   * The last piece of memory of a send is free. The submitter hears of it after its batch, on its next way back
   * to the program, or on a DEFER_TASKRUN ring when it asks for completions.
   * @rule R-URING-100
   */
  notify(notification: Notification): void {
    this.due.push(notification)
    const deferred = (this.flags & IORING_SETUP_DEFER_TASKRUN) !== 0
    if (this.dying) this.postDue()
    else if (!this.submitting && !deferred && this.due.length === 1)
      this.kernel.scheduler.spawn(`notifications of ${this.name}`, notification.task, this.#posting())
  }

  *#posting(): Kthread<void> {
    this.postDue()
  }

  /** Posts notifications that are due, then lets go of what they held: tags come after all of them. */
  postDue(): void {
    let due = this.due.splice(0)
    if (this.kernel.release.ioUring.notifiesNewestFirst && due.length > 1)
      due = [...this.notifications].filter((notification) => due.includes(notification)).reverse()
    for (const notification of due) notification.post()
    for (const notification of due) notification.release()
    if (due.length > 0) this.notificationQueue.wakeAll()
    if (this.dying && this.notifications.size === 0) freeRing(this.kernel, this)
  }

  /** Moves completions that found the queue full to where there is room now. @rule R-URING-94 */
  flushOverflow(): void {
    while (this.overflow.length > 0 && this.cqes.length < this.sizes.cq)
      this.cqes.push(this.overflow.shift()!)
  }
}

/**
 * io_uring_setup(2). The ring's file has one reference, the caller's: install `ring.file` in a descriptor
 * table, or `put()` it.
 *
 * @returns the ring, -EFAULT, -EINVAL, -ENOMEM when RLIMIT_MEMLOCK leaves no room for the queues, or with
 * NO_MMAP what pinning gives
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
  const bytes = ringMemory(sizes, params.flags ?? 0)
  if (k.exploring) yield PREEMPT
  const noMmap = ((params.flags ?? 0) & IORING_SETUP_NO_MMAP) !== 0
  const rings = noMmap
    ? yield* userRegion(k, user, params.ringsAddr ?? 0, bytes.rings)
    : kernelRegion(k, user, Math.ceil(bytes.rings / PAGE_SIZE))
  if (typeof rings === 'number') return rings
  const sqEntries = noMmap
    ? yield* userRegion(k, user, params.sqesAddr ?? 0, bytes.sqEntries)
    : kernelRegion(k, user, Math.ceil(bytes.sqEntries / PAGE_SIZE))
  if (typeof sqEntries === 'number') {
    freeRegion(k, user, rings)
    return sqEntries
  }
  const error = checkPoller(k, params)
  if (error < 0) {
    freeRegion(k, user, sqEntries)
    freeRegion(k, user, rings)
    return error
  }
  const ring = new IoUring(k, params, sizes, user, mm, rings, sqEntries)
  k.holders.add(ring)
  followTasks(k)
  return ring
}

const hooked = new WeakSet<Kernel>()

/** A task that exits takes its requests with it, on every ring; one that execs waits. @rule R-URING-97 */
function followTasks(k: Kernel): void {
  if (hooked.has(k)) return
  hooked.add(k)
  k.exitHooks.add((task) => {
    for (const holder of k.holders) if (holder instanceof IoUring) cancelRequests(holder, task)
  })
  k.execHooks.add((task) => waitForSends(k, task))
}

/** A task that execs waits, and no signal ends it, until nobody has memory of its sends any more. @rule R-URING-105 */
function* waitForSends(k: Kernel, task: CurrentTask): Kthread<void> {
  const lends = (ring: IoUring): boolean => [...ring.notifications].some((lent) => lent.task === task)
  for (const holder of k.holders) {
    if (!(holder instanceof IoUring) || !lends(holder)) continue
    holder.postDue()
    while (lends(holder)) {
      const queue = holder.notificationQueue
      yield { queue, what: queue.name, signals: 'none' }
    }
  }
}

/**
 * The last reference to the ring's file is gone: requests are cancelled, every buffer is unpinned and
 * uncharged, then the ring memory. No completions: nobody is left to read them. While a socket still has memory
 * of a send, everything stays.
 *
 * The kernel does this from a work item some 12 to 24 ms later (R-URING-66); here it happens at once.
 * @rule R-URING-102
 */
export function ioRingRelease(ring: IoUring): void {
  ring.dying = true
  cancelRequests(ring, null)
  ring.postDue()
}

function freeRing(k: Kernel, ring: IoUring): void {
  if (!k.holders.delete(ring)) return
  const table = ring.buffers
  ring.buffers = null
  if (table !== null) releaseTable(k, table, false)
  releaseGenerations(k, ring)
  k.delayedWork.delete(ring)
  for (const region of [ring.rings, ring.sqEntries, ...ring.groups.values()]) freeRegion(k, ring.user, region)
  ring.groups.clear()
}
