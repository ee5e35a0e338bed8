import { EAGAIN, ECONNRESET, EFAULT, EMSGSIZE, EPIPE } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import type { Kernel, PageHolder } from '../mm/kernel.ts'
import { Socket, type UbufInfo } from '../task/socket.ts'
import { MAX_SKB_FRAGS, SocketBuffer } from './socket-buffer.ts'

/** Bytes of one datagram, at most: 65535 less the headers of IPv4 and UDP. */
export const MAX_DATAGRAM = 65507
/** what a datagram costs its receiver is at most twice its bytes and this; what fits is never dropped */
const DATAGRAM_COST = 1024
const RECEIVE_BUFFER = 200_000
/** bytes that a stream surely takes while its reader is stalled; how many more it takes is not modelled */
const SEND_BUFFER = 1 << 20

/**
 * One end of a connected UDP pair over the loopback device. A datagram reaches the other end within the call that
 * sends it, and is copied there: a send from lent pages is over when it returns.
 * @rule R-URING-101
 */
export class DatagramSocket extends Socket {
  /** @internal `makeDatagramPair` sets it; null: the other end is closed */
  peer: DatagramSocket | null = null
  readonly #received: Uint8Array[] = []

  constructor(k: Kernel) {
    super(k, 'UDP', true)
  }

  get nonEmpty(): boolean {
    return false
  }

  *send(iter: IovIter, ubuf: UbufInfo | null): Kthread<number> {
    const k = this.kernel
    const refused = (why: string): number => refuse(k.current, EMSGSIZE, 'R-URING-101', { why })
    if (this.peer === null) throw new Unmodelled('a datagram to a socket that is closed', 'R-URING-101')
    const { count } = iter
    if (count > MAX_DATAGRAM) return refused('a datagram has at most 65507 bytes')
    if (ubuf !== null && count > 0) ubuf.used = true
    const buffer = new SocketBuffer(k)
    const error = yield* buffer.fill(iter, ubuf)
    if (error < 0) return error
    if (ubuf !== null && buffer.pieces > MAX_SKB_FRAGS) {
      buffer.drop()
      return refused('a datagram is made of at most 17 pieces of pages')
    }
    this.peer?.accept(buffer.copyOut(count))
    return count
  }

  private accept(datagram: Uint8Array): void {
    this.#received.push(datagram)
    const cost = this.#received.reduce((sum, { length }) => sum + 2 * length + DATAGRAM_COST, 0)
    if (cost > RECEIVE_BUFFER)
      throw new Unmodelled('datagrams that nobody reads may be dropped', 'R-URING-101')
    this.readQueue.wakeAll()
  }

  /** One datagram; what does not fit, or cannot be stored, is lost. */
  *receive(iter: IovIter): Kthread<number> {
    const datagram = this.#received.shift()
    if (datagram === undefined) return -EAGAIN
    const wanted = datagram.subarray(0, iter.count)
    if ((yield* iter.copyTo(wanted)) === wanted.length) return wanted.length
    return refuse(this.kernel.current, EFAULT, 'R-URING-101', {
      why: 'the memory to receive into cannot be written',
    })
  }

  protected released(): void {
    if (this.peer !== null) this.peer.peer = null
    this.#received.length = 0
  }
}

/** Two UDP sockets connected to each other. Both have one reference, the caller's. */
export function makeDatagramPair(k: Kernel): readonly [DatagramSocket, DatagramSocket] {
  const pair = [new DatagramSocket(k), new DatagramSocket(k)] as const
  pair[0].peer = pair[1]
  pair[1].peer = pair[0]
  return pair
}

/** What becomes of a stream's other end. */
type PeerState = 'open' | 'closed' | 'reset' | 'broken'

/**
 * One end of a connected stream over the loopback device. Bytes go to the other end, and are copied there, as far
 * as it has room; the rest stays with the sender, lent pages as they are, until the reader makes room.
 * @rule R-URING-101
 */
export class StreamSocket extends Socket implements PageHolder {
  /** @internal `makeStreamPair` sets it */
  peer!: StreamSocket
  /** bytes that it takes beyond what it has */
  #room: number
  /** bytes that were copied and nobody has read */
  readonly #received: Uint8Array[] = []
  readonly #unsent: SocketBuffer
  #open = true
  #peerState: PeerState = 'open'
  /** a read has yet to report the reset */
  #resetUnread = false

  constructor(k: Kernel, kind: string, zeroCopy: boolean, room: number) {
    super(k, kind, zeroCopy)
    this.#room = room
    this.#unsent = new SocketBuffer(k)
    k.holders.add(this)
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    this.#unsent.forEachReference(visit)
  }

  get nonEmpty(): boolean {
    if (!this.zeroCopy) return this.kernel.release.ioUring.unixTellsMore && this.#received.length > 0
    return this.#received.length > 0 || this.#atEnd
  }

  /** bytes that the other end had no room for */
  get unsent(): number {
    return this.#unsent.length
  }

  get #atEnd(): boolean {
    return this.#peerState !== 'open' && this.peer.unsent === 0
  }

  *send(iter: IovIter, ubuf: UbufInfo | null): Kthread<number> {
    const k = this.kernel
    const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-URING-101', { why })
    if (this.#peerState !== 'open' && !this.zeroCopy) return refused(EPIPE, 'the other end is closed')
    if (this.#peerState === 'reset') {
      this.#peerState = 'broken'
      this.#resetUnread = false
      return refused(ECONNRESET, 'the other end was closed with bytes it had not read')
    }
    if (this.#peerState === 'broken') return refused(EPIPE, 'the other end is closed')
    const { count } = iter
    if (this.#unsent.length + count > SEND_BUFFER)
      throw new Unmodelled('a stream whose send buffer may be full', 'R-URING-101')
    const { failedSendTaken } = k.release.ioUring
    if (ubuf !== null && count > 0 && failedSendTaken) ubuf.used = true
    const buffer = new SocketBuffer(k)
    const error = yield* buffer.fill(iter, ubuf)
    if (error < 0) {
      // it has become a part of what is already on its way
      if (ubuf !== null && this.unsent > 0 && failedSendTaken) this.#unsent.attach(ubuf)
      return error
    }
    if (ubuf !== null && count > 0) ubuf.used = true
    if (this.#peerState === 'closed') {
      // it goes out, and comes back as a reset
      if (this.peer.unsent > 0)
        throw new Unmodelled(
          'bytes for a socket that was closed before all it sent had arrived',
          'R-URING-101',
        )
      buffer.copyOut(count)
      this.#peerState = 'broken'
      return count
    }
    this.#unsent.append(buffer)
    this.#transmit()
    return count
  }

  #transmit(): void {
    const { peer } = this
    if (peer.#room === 0 || this.#unsent.length === 0) return
    const bytes = this.#unsent.copyOut(peer.#room)
    peer.#room -= bytes.length
    peer.#received.push(bytes)
    peer.readQueue.wakeAll()
  }

  *receive(iter: IovIter): Kthread<number> {
    let done = 0
    while (iter.count > 0 && this.#received.length > 0) {
      const bytes = this.#received[0]!.subarray(0, iter.count)
      const copied = yield* iter.copyTo(bytes)
      if (copied < bytes.length) {
        iter.revert(copied)
        if (done > 0) break
        const why = 'the memory to receive into cannot be written'
        return refuse(this.kernel.current, EFAULT, 'R-URING-101', { why })
      }
      done += copied
      const rest = this.#received[0]!.subarray(copied)
      if (rest.length > 0) this.#received[0] = rest
      else this.#received.shift()
    }
    if (done > 0) {
      this.#room += done
      this.peer.#transmit()
      this.peer.#finish()
      return done
    }
    if (this.#received.length > 0) return 0
    if (this.#resetUnread) {
      this.#resetUnread = false
      if (this.#peerState === 'reset') this.#peerState = 'broken'
      const why = 'the other end was closed with bytes it had not read'
      return refuse(this.kernel.current, ECONNRESET, 'R-URING-101', { why })
    }
    return this.#atEnd ? 0 : -EAGAIN
  }

  /**
   * Closed with bytes it has not read it resets the connection: what is on its way is lost, both ways. Otherwise
   * what it has sent still arrives.
   */
  protected released(): void {
    this.#open = false
    const { peer } = this
    const reset = this.#received.length > 0 || peer.unsent > 0
    this.#received.length = 0
    if (reset) this.#unsent.drop()
    peer.#closedByPeer(reset)
    this.#finish()
  }

  #closedByPeer(reset: boolean): void {
    this.#peerState = reset ? 'reset' : 'closed'
    this.#resetUnread = reset
    this.#unsent.drop()
    this.#finish()
    this.readQueue.wakeAll()
  }

  /** It is closed, and nobody waits for what it has sent. */
  #finish(): void {
    if (this.#open || this.unsent > 0) return
    this.kernel.holders.delete(this)
    this.peer.readQueue.wakeAll()
  }
}

export interface StreamOptions {
  /** TCP; false: AF_UNIX, which cannot send without copying. Default true */
  readonly zeroCopy?: boolean
  /** bytes that an end takes before it has read any; default: any number */
  readonly room?: number
}

/** Two connected stream sockets. Both have one reference, the caller's. */
export function makeStreamPair(
  k: Kernel,
  { zeroCopy = true, room = Infinity }: StreamOptions = {},
): readonly [StreamSocket, StreamSocket] {
  const kind = zeroCopy ? 'TCP' : 'AF_UNIX'
  const pair = [new StreamSocket(k, kind, zeroCopy, room), new StreamSocket(k, kind, zeroCopy, room)] as const
  pair[0].peer = pair[1]
  pair[1].peer = pair[0]
  return pair
}
