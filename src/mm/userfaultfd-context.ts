import { WaitQueue } from '../base/kthread.ts'
import type { Mm } from './mm.ts'
import { UFFD_FEATURE_SIGBUS, UFFD_FEATURE_WP_ASYNC } from './userfaultfd-flags.ts'
import type { Vma } from './vma.ts'

/** One message as read from the descriptor. Addresses and lengths in bytes. */
export type UffdMessage =
  /** `flags`: UFFD_PAGEFAULT_FLAG_*; `address`: of the page, or exact with UFFD_FEATURE_EXACT_ADDRESS */
  | { readonly event: 'pagefault'; readonly flags: number; readonly address: number }
  /** a new descriptor that watches the child */
  | { readonly event: 'fork'; readonly child: Userfaultfd }
  | { readonly event: 'remap'; readonly from: number; readonly to: number; readonly length: number }
  | { readonly event: 'remove' | 'unmap'; readonly start: number; readonly end: number }

/** A fault that sleeps until its page is dealt with. */
export interface UffdWaiter {
  readonly address: number
  woken: boolean
}

export interface UserfaultfdOptions {
  /** UFFD_FEATURE_* agreed upon */
  readonly features?: number
  /** UFFD_FEATURE_SIGBUS: SIGBUS instead of a message */
  readonly sigbus?: boolean
  /** created with UFFD_USER_MODE_ONLY: accesses by the kernel get SIGBUS */
  readonly userModeOnly?: boolean
  /** the address space it is about: of whoever creates it. null: the first one it is used on */
  readonly mm?: Mm | null
  /** UFFDIO_API has been called; default true */
  readonly ready?: boolean
}

/** A userfaultfd context: what stands behind one descriptor. */
export class Userfaultfd {
  readonly id: number
  readonly userModeOnly: boolean
  /** UFFD_FEATURE_* */
  features: number
  /** UFFDIO_API has been called: nothing else is answered before */
  ready: boolean
  /** messages nobody has read yet, oldest first */
  readonly pending: UffdMessage[] = []
  /** faults that sleep */
  readonly waiters: UffdWaiter[] = []
  /** where faults sleep */
  readonly queue: WaitQueue
  /** where readers, and events that wait to be read, sleep */
  readonly messages: WaitQueue
  mm: Mm | null
  /** changes of the address space whose events have not been read: filling pages is refused meanwhile */
  changing = 0
  released = false
  #holders = 1

  constructor(id: number, options: UserfaultfdOptions) {
    this.id = id
    this.features = (options.features ?? 0) | (options.sigbus === true ? UFFD_FEATURE_SIGBUS : 0)
    this.userModeOnly = options.userModeOnly ?? false
    this.ready = options.ready ?? true
    this.mm = options.mm ?? null
    this.queue = new WaitQueue(`userfaultfd ${id}`)
    this.messages = new WaitQueue(`messages of userfaultfd ${id}`)
  }

  has(feature: number): boolean {
    return (this.features & feature) !== 0
  }

  /** Queues a message and wakes who reads. */
  tell(message: UffdMessage): void {
    this.pending.push(message)
    this.messages.wakeAll()
  }

  /** read(2) without blocking: the next message, or null. */
  read(): UffdMessage | null {
    const message = this.pending.shift() ?? null
    if (message !== null && message.event !== 'pagefault') this.messages.wakeAll()
    return message
  }

  /** Lets faults in [start, end) try again. */
  wake(start: number, end: number): void {
    for (const waiter of this.waiters)
      if (waiter.address >= start && waiter.address < end) waiter.woken = true
    this.queue.wakeAll()
  }

  /** Another descriptor of the same context: dup(2), fork(2). */
  get(): this {
    this.#holders++
    return this
  }

  /** @returns whether it was the last descriptor; `uffdClose` is due then */
  drop(): boolean {
    return --this.#holders === 0
  }
}

/** Writes are only to be noticed in the page table, nobody is asked. */
export function isUffdWpAsync(vma: Vma): boolean {
  return vma.uffd !== null && vma.uffd.has(UFFD_FEATURE_WP_ASYNC)
}
