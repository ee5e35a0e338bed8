import { PAGE_SIZE } from '../base/units.ts'
import type { CurrentTask, Kernel } from '../mm/kernel.ts'
import type { UbufInfo } from '../task/socket.ts'
import type { RegisteredBuffer } from './buffer.ts'
import { IORING_CQE_F_NOTIF, type IoUring } from './io-uring.ts'
import { accountLocked, unaccountLocked } from './memlock.ts'
import { dropHold, holdBuffer, holdGeneration, type BufferHold, type RsrcNode } from './rsrc-node.ts'

/** in `res` of a notification that was to report it: bytes were copied, or nothing was taken */
export const IORING_NOTIF_USAGE_ZC_COPIED = 1 << 31

/**
 * `struct io_notif_data`: the second completion of a send that does not copy, due when the memory of the send is
 * free again. Until then it has the registered buffer, or what was charged for ordinary memory. The request has
 * one reference, the socket one for each piece of memory.
 * @rule R-URING-100
 */
export class Notification implements UbufInfo {
  readonly ring: IoUring
  /** who submitted the send */
  readonly task: CurrentTask
  readonly userData: number
  /** IORING_SEND_ZC_REPORT_USAGE */
  report = false
  used = false
  copied = false
  /** pages of the user's locked_vm */
  charged = 0
  /** the registered buffer that is sent from */
  buffer: RegisteredBuffer | null = null
  readonly #kernel: Kernel
  #hold: BufferHold | null = null
  #refs = 1

  constructor(k: Kernel, ring: IoUring, userData: number) {
    this.#kernel = k
    this.ring = ring
    this.task = k.current
    this.userData = userData
    ring.notifications.add(this)
    // @rule R-URING-102
    if (k.release.ioUring.plainSendsHoldBuffers) this.#hold = holdGeneration(ring)
  }

  get(): void {
    this.#refs++
  }

  put(): void {
    if (--this.#refs === 0) this.ring.notify(this)
  }

  hold(node: RsrcNode): void {
    this.#hold ??= holdBuffer(this.#kernel, node)
    this.buffer = node.buffer
  }

  /**
   * Charges ordinary memory: as many pages as the bytes can touch, however they lie.
   * @param bytes of the send
   * @returns 0 or -ENOMEM
   * @rule R-URING-50
   */
  charge(bytes: number): number {
    const pages = Math.floor(bytes / PAGE_SIZE) + 2
    const error = accountLocked(this.#kernel, this.ring.user, pages)
    if (error === 0 && this.ring.user !== null) this.charged = pages
    return error
  }

  /** @internal The ring calls it: posts the completion. */
  post(): void {
    const { ring } = this
    const res = this.report && (this.copied || !this.used) ? IORING_NOTIF_USAGE_ZC_COPIED : 0
    if (!ring.dying) ring.post(this.userData, res, IORING_CQE_F_NOTIF)
  }

  /** @internal The ring calls it next: gives back charge and buffer. */
  release(): void {
    const { ring } = this
    ring.notifications.delete(this)
    unaccountLocked(ring.user, this.charged)
    if (this.#hold !== null) dropHold(this.#kernel, ring, this.#hold)
  }
}
