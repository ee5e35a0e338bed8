import { WaitQueue, type Kthread } from '../base/kthread.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { FileDescription } from './fd-table.ts'

/**
 * `struct ubuf_info`: who lends the pages of a transfer to a socket, and learns when the socket needs them no
 * more. The socket has one reference for each piece it keeps.
 */
export interface UbufInfo {
  /** the socket has begun to take the pages */
  used: boolean
  /** bytes were copied out of the pages after all */
  copied: boolean
  get(): void
  put(): void
}

/**
 * The open description of a connected socket. What carries its bytes is in `net/`.
 * @rule R-URING-101
 */
export abstract class Socket implements FileDescription {
  readonly kernel: Kernel
  readonly name: string
  /** SOCK_SUPPORT_ZC: it can send from pages it does not copy */
  readonly zeroCopy: boolean
  /** those who wait for bytes */
  readonly readQueue: WaitQueue
  #refs = 1

  constructor(k: Kernel, kind: string, zeroCopy: boolean) {
    this.kernel = k
    this.name = `${kind} socket ${k.nextId()}`
    this.zeroCopy = zeroCopy
    this.readQueue = new WaitQueue(`${this.name} to read from`)
  }

  get(): this {
    this.#refs++
    return this
  }

  put(): void {
    if (--this.#refs === 0) this.released()
  }

  /** a stream has more for the next reader, or nobody will send anything again */
  abstract readonly nonEmpty: boolean

  /**
   * sendmsg(2) to the other end.
   * @param ubuf the pages are not to be copied; null: an ordinary send
   * @returns bytes, or a negative errno (SIGPIPE is the caller's)
   */
  abstract send(iter: IovIter, ubuf: UbufInfo | null): Kthread<number>

  /** recvmsg(2). @returns bytes, 0 at the end of a stream, -EAGAIN where nothing is there, another negative errno */
  abstract receive(iter: IovIter): Kthread<number>

  /** The last descriptor is gone. */
  protected abstract released(): void
}
