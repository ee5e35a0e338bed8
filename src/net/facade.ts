import { EAGAIN, EBADF, EFAULT } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { UserIter } from '../mm/iov-iter.ts'
import { accessOk } from '../mm/iovec.ts'
import { sizeInBytes, type Process, type Size } from '../task/process.ts'
import { Socket } from '../task/socket.ts'
import { makeDatagramPair, makeStreamPair } from './loopback.ts'

/** How two sockets are connected. */
export interface ConnectOptions {
  /** what they speak; `unix` is a stream that cannot send without copying. Default `tcp` */
  readonly kind?: 'tcp' | 'udp' | 'unix'
  /** bytes that an end of a stream takes before it has read any: what a slow reader looks like. Default: any number */
  readonly room?: Size
}

/** A connected socket as its program sees it. `fd` is what io_uring's sends and receives take. */
export class SocketHandle {
  readonly process: Process
  /** the descriptor */
  readonly fd: number

  /** @internal `connectSockets` makes handles */
  constructor(process: Process, fd: number) {
    this.process = process
    this.fd = fd
  }

  /**
   * send(2), which copies the bytes.
   * @returns bytes
   * @throws SyscallError EBADF, ECONNRESET, EFAULT, EMSGSIZE, EPIPE
   */
  send(address: number, length: Size): number {
    return this.process.call(
      'send',
      this.#transfer(address, length, (socket, iter) => socket.send(iter, null)),
    )
  }

  /**
   * recv(2) with MSG_DONTWAIT. What a stream's sender could not get rid of moves up.
   * @returns bytes; 0 at the end of a stream
   * @throws SyscallError EAGAIN, EBADF, ECONNRESET, EFAULT
   */
  receive(address: number, length: Size): number {
    return this.process.call(
      'recv',
      this.#transfer(address, length, (socket, iter) => socket.receive(iter)),
    )
  }

  /** close(2). @throws SyscallError EBADF */
  close(): void {
    this.process.close(this.fd)
  }

  *#transfer(
    base: number,
    size: Size,
    move: (socket: Socket, iter: UserIter) => Kthread<number>,
  ): Kthread<number> {
    const { process } = this
    const { kernel, mm } = process
    const refused = (errno: number, why: string): number =>
      refuse(process, errno, 'R-URING-101', { address: base, why })
    const socket = process.files.get(this.fd)
    if (!(socket instanceof Socket)) return refused(EBADF, 'the descriptor is closed')
    if (mm === null) throw new Error(`${process.comm} has exited`)
    const length = sizeInBytes(size)
    if (!accessOk(base, length)) return refused(EFAULT, 'the range is not user memory')
    const done = yield* move(socket, new UserIter(kernel, mm, [{ base, length }]))
    return done === -EAGAIN ? refused(EAGAIN, 'nothing has arrived') : done
  }
}

/**
 * Two connected sockets over the loopback device, one in the descriptor table of each process.
 * @throws SyscallError EMFILE
 */
export function connectSockets(
  one: Process,
  other: Process,
  { kind = 'tcp', room }: ConnectOptions = {},
): readonly [SocketHandle, SocketHandle] {
  const { kernel } = one
  if (other.kernel !== kernel) throw new RangeError('the processes live on different machines')
  const stream = { zeroCopy: kind === 'tcp', ...(room !== undefined && { room: sizeInBytes(room) }) }
  const pair = kind === 'udp' ? makeDatagramPair(kernel) : makeStreamPair(kernel, stream)
  return [new SocketHandle(one, one.install(pair[0])), new SocketHandle(other, other.install(pair[1]))]
}
