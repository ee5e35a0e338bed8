import type { ReleaseName } from '../../src/base/release.ts'
import { IORING_OP_SEND_ZC, type Sqe } from '../../src/io_uring/request.ts'
import { BufferIter } from '../../src/mm/iov-iter.ts'
import { makeDatagramPair, makeStreamPair, type StreamSocket } from '../../src/net/loopback.ts'
import type { Socket } from '../../src/task/socket.ts'
import { result, type TestTaskOptions } from '../support/kernel.ts'
import { P, Rig } from './rig.ts'

export const FIXED = 4
export const REPORT = 8
const F_MORE = 2
export const F_NOTIF = 8
const COPIED = 1 << 31

/** A completion: [user_data, result or errno, F_*]; of a notification `copied` where it says so. */
type Seen = [number, number | string, ...('more' | 'notif')[]]

/** A ring with a registered buffer of two pages full of A, and sockets. */
export class Net extends Rig {
  readonly udp: readonly [Socket, Socket]
  /** the reader of a stream that takes no byte before it has read one */
  readonly stream: readonly [StreamSocket, StreamSocket]
  readonly u: number
  readonly s: number
  readonly a: number

  constructor(release: ReleaseName, flags = 0, task?: TestTaskOptions) {
    super(release, { setup: { entries: 8, flags }, ...(task && { task }) })
    this.udp = makeDatagramPair(this.k)
    this.stream = makeStreamPair(this.k, { room: 1 })
    this.u = this.fd(this.udp[0])
    this.s = this.fd(this.stream[0])
    this.ok(this.stream[0].send(new BufferIter(new Uint8Array(1)), null))
    this.a = this.anon(2)
    this.store(this.a, 'A'.repeat(2 * P))
  }

  zc(fd: number, userData: number, more: Partial<Sqe> = {}): Sqe {
    return { opcode: IORING_OP_SEND_ZC, fd, addr: this.a, len: 10, ioprio: FIXED, userData, ...more }
  }

  seen(ring = this.ring): Seen[] {
    return ring.cqes.splice(0).map(({ userData, res, flags }) => {
      const what: ('more' | 'notif')[] = []
      if ((flags & F_MORE) !== 0) what.push('more')
      if ((flags & F_NOTIF) !== 0) what.push('notif')
      return [userData, res === COPIED ? 'copied' : result(res), ...what]
    })
  }

  /** One request. @returns what it completes with, and what its notification says; null: there is none */
  both(sqe: Partial<Sqe>, ring = this.ring): [number | string, number | string | null] {
    this.submit([{ ...this.zc(this.u, 1), ...sqe }], ring)
    const [first, second] = this.seen(ring)
    return [first![1], second?.[1] ?? null]
  }

  received(socket: Socket, length = 100): string {
    const bytes = new Uint8Array(length)
    const n = this.task.run(socket.receive(new BufferIter(bytes)))
    this.k.scheduler.runUntilIdle()
    return n < 0 ? String(result(n)) : String.fromCharCode(...bytes.subarray(0, n))
  }

  /** The reader of the stream takes what blocks it, and all that is there then. */
  flow(): string {
    let text = ''
    for (;;) {
      const next = this.received(this.stream[1])
      if (next === '' || next === '-EAGAIN') break
      text += next
    }
    return text.slice(1)
  }
}
