import { ECANCELED } from '../base/errno.ts'
import type { Kthread, Sleeper, WaitQueue } from '../base/kthread.ts'
import type { CurrentTask, Kernel } from '../mm/kernel.ts'
import type { FileDescription } from '../task/fd-table.ts'
import type { RegisteredBuffer } from './buffer.ts'
import { IORING_CQE_F_MORE, type IoUring } from './io-uring.ts'
import type { Notification } from './notification.ts'
import { IORING_SETUP_DEFER_TASKRUN } from './setup-flags.ts'
import { dropHold, holdBuffer, type BufferHold, type RsrcNode } from './rsrc-node.ts'
import type { Iovec, IovecArray, Unreadable } from './user-args.ts'

// IORING_OP_*, io_uring_enter(2)
export const IORING_OP_NOP = 0
export const IORING_OP_READ_FIXED = 4
export const IORING_OP_WRITE_FIXED = 5
export const IORING_OP_READ = 22
export const IORING_OP_WRITE = 23
export const IORING_OP_SEND = 26
export const IORING_OP_RECV = 27
export const IORING_OP_SEND_ZC = 47
export const IORING_OP_SENDMSG_ZC = 48
export const IORING_OP_READV_FIXED = 60
export const IORING_OP_WRITEV_FIXED = 61

// IOSQE_*
export const IOSQE_FIXED_FILE = 1 << 0
export const IOSQE_IO_DRAIN = 1 << 1
export const IOSQE_IO_LINK = 1 << 2
export const IOSQE_IO_HARDLINK = 1 << 3
export const IOSQE_BUFFER_SELECT = 1 << 5
/** no completion when the request succeeds */
export const IOSQE_CQE_SKIP_SUCCESS = 1 << 6

/** `struct io_uring_sqe`, as far as the operations of the model look at it. 64-bit fields as in `Iovec`. */
export interface Sqe {
  /** IORING_OP_* */
  readonly opcode: number
  readonly fd?: number
  /** user address */
  readonly addr?: number
  /** bytes, 32 bits */
  readonly len?: number
  /** position in the file, bytes; -1: where the file stands */
  readonly off?: number
  /** slot of the buffer table */
  readonly bufIndex?: number
  /** IOSQE_* */
  readonly flags?: number
  readonly userData?: number
  readonly ioprio?: number
  /** rw_flags, nop_flags, msg_flags, … */
  readonly opFlags?: number
  /** what `addr` points to where that is a vector of `len` entries (READV_FIXED, WRITEV_FIXED) */
  readonly iovecs?: IovecArray
  /** what `addr` points to where that is a `struct msghdr` (SENDMSG_ZC) */
  readonly message?: Message | Unreadable
}

/** `struct msghdr` without address and control data. */
export interface Message {
  readonly iovecs: IovecArray
  /** msg_iovlen */
  readonly count: number
}

/** Tells what a descriptor of the submitting task leads to. */
export type FdLookup = (fd: number) => FileDescription | null

/** The request waits: it goes on when a queue is woken. */
export interface Waits {
  readonly queue: WaitQueue
}

/** How a request goes on after a first try: its result, or what it waits for. */
export type Issue = (k: Kernel, request: Request) => Kthread<number | Waits>

/** `struct io_kiocb`: a request from submission to completion. Belongs to the task that submitted it. */
export class Request implements Sleeper {
  readonly kernel: Kernel
  readonly ring: IoUring
  readonly sqe: Sqe
  readonly task: CurrentTask
  readonly lookup: FdLookup
  readonly name: string
  /** held while the request lasts; null: none yet, or the operation has none */
  file: FileDescription | null = null
  /** the registered buffer it works on (R-URING-58) */
  buffer: RegisteredBuffer | null = null
  /** of a send that does not copy: what holds its memory when the request is done (R-URING-100) */
  notification: Notification | null = null
  /** the vector of the request, copied, with signed fields; null: it has none */
  vector: readonly Iovec[] | null = null
  /** IORING_CQE_F_* of the completion, beside F_MORE */
  cqeFlags = 0
  #hold: BufferHold | null = null
  #issue: Issue | null = null
  #queue: WaitQueue | null = null
  #running = false

  constructor(k: Kernel, ring: IoUring, sqe: Sqe, lookup: FdLookup) {
    this.kernel = k
    this.ring = ring
    this.sqe = sqe
    this.task = k.current
    this.lookup = lookup
    this.name = `request of ring ${ring.id}`
    ring.requests.add(this)
  }

  get done(): boolean {
    return !this.ring.requests.has(this)
  }

  /** Takes a registered buffer for as long as the request lasts. */
  hold(node: RsrcNode): void {
    this.#hold = holdBuffer(this.kernel, node)
    this.buffer = node.buffer
  }

  /**
   * Tries the operation; completes, or begins to wait.
   * @param finished gets it, if it succeeds and where a batch completes at its end (R-URING-92)
   */
  *run(issue: Issue, finished: Finished[]): Kthread<void> {
    this.#issue = issue
    this.#running = true
    const result = yield* issue(this.kernel, this)
    if (typeof result === 'number' && result >= 0 && this.kernel.release.ioUring.failedCompletesFirst) {
      finished.push({ request: this, result })
      return
    }
    this.#running = false
    if (typeof result === 'number') this.complete(result)
    else {
      this.#queue = result.queue
      this.#queue.enqueue(this)
    }
  }

  /** Ends it, unless it is being tried right now: then it ends as it would. */
  cancel(): void {
    if (!this.#running) this.complete(-ECANCELED)
  }

  /** Goes on after a wait. */
  *retry(finished: Finished[]): Kthread<void> {
    if (!this.done && this.#issue !== null) yield* this.run(this.#issue, finished)
  }

  /** What it waited for is there, perhaps: the task it belongs to looks. */
  wake(): void {
    this.#queue = null
    const { ring, kernel } = this
    if ((ring.flags & IORING_SETUP_DEFER_TASKRUN) !== 0) enqueue(kernel, ring.deferred, this)
    else taskWorkOf(kernel, this.task).add(this)
  }

  /**
   * Posts the completion, then lets go of the buffer and the file: a tag comes after the completions of the
   * requests that used the buffer.
   * @rule R-URING-52
   */
  complete(result: number): void {
    const { ring, kernel } = this
    ring.requests.delete(this)
    this.#queue?.dequeue(this)
    const quiet = result >= 0 && ((this.sqe.flags ?? 0) & IOSQE_CQE_SKIP_SUCCESS) !== 0
    const more = this.notification === null ? 0 : IORING_CQE_F_MORE
    if (!quiet && !ring.dying) ring.post(this.sqe.userData ?? 0, result, this.cqeFlags | more)
    if (this.notification !== null) {
      if (result < 0 && ring.submitting) ring.failedSends.push(this.notification)
      else this.notification.put()
    }
    if (this.#hold !== null) dropHold(kernel, ring, this.#hold)
    this.file?.put()
  }
}

/** A request that has succeeded and is not completed yet. */
export interface Finished {
  readonly request: Request
  readonly result: number
}

/** What a batch has finished completes at its end. */
export function completeAll(finished: readonly Finished[]): void {
  for (const { request, result } of finished) request.complete(result)
}

/**
 * Requests that are woken together run in the order of `pollWakesNewestFirst`.
 * @rule R-URING-96
 */
function enqueue(k: Kernel, queue: Request[], request: Request): void {
  if (k.release.ioUring.pollWakesNewestFirst) queue.unshift(request)
  else queue.push(request)
}

/** `task_work`: what a task does for its requests on its way back to the program. */
class TaskWork {
  readonly #kernel: Kernel
  readonly #task: CurrentTask
  readonly #queue: Request[] = []
  #running = false

  constructor(k: Kernel, task: CurrentTask) {
    this.#kernel = k
    this.#task = task
  }

  add(request: Request): void {
    enqueue(this.#kernel, this.#queue, request)
    if (this.#running) return
    this.#running = true
    this.#kernel.scheduler.spawn(`task work of ${this.#task.comm}`, this.#task, this.#run())
  }

  *#run(): Kthread<void> {
    const finished: Finished[] = []
    // a completion may let go of what others wait for
    while (this.#queue.length > 0) {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift())
        yield* runWoken(next, finished)
      completeAll(finished.splice(0))
    }
    this.#running = false
  }
}

const taskWork = new WeakMap<CurrentTask, TaskWork>()

function taskWorkOf(k: Kernel, task: CurrentTask): TaskWork {
  let work = taskWork.get(task)
  if (work === undefined) {
    work = new TaskWork(k, task)
    taskWork.set(task, work)
  }
  return work
}

/** Lets a woken request go on, under the lock of its ring. */
export function* runWoken(request: Request, finished: Finished[]): Kthread<void> {
  const { uringLock } = request.ring
  if (!uringLock.tryLock()) yield* uringLock.lock()
  yield* request.retry(finished)
  uringLock.unlock()
}

/**
 * Ends requests that wait: those of one task, or all of them. Requests that are being tried right now finish.
 * @rule R-URING-97
 */
export function cancelRequests(ring: IoUring, task: CurrentTask | null): void {
  for (const request of ring.requests) if (task === null || request.task === task) request.cancel()
}
