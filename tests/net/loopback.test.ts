import { describe, expect, it } from 'vitest'
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../src/mm/mman.ts'
import { mmap } from '../../src/mm/mmap.ts'
import { BufferIter, UserIter } from '../../src/mm/iov-iter.ts'
import { storeUser } from '../../src/mm/user-access.ts'
import { MAX_DATAGRAM, makeDatagramPair, makeStreamPair } from '../../src/net/loopback.ts'
import type { Socket, UbufInfo } from '../../src/task/socket.ts'
import { result, testKernel, testTask, type TestTask } from '../support/kernel.ts'

const P = 4096

/** Who lends pages: counts what the socket still has. */
class Lender implements UbufInfo {
  used = false
  copied = false
  refs = 0
  get(): void {
    this.refs++
  }
  put(): void {
    this.refs--
  }
}

class World {
  readonly k = testKernel({ release: '6.18' })
  readonly task: TestTask = testTask(this.k)
  readonly at: number

  constructor(pages = 4) {
    const request = { addr: 0, length: pages * P, prot: PROT_READ | PROT_WRITE, offset: 0, file: null }
    const flags = MAP_PRIVATE | MAP_ANONYMOUS
    this.at = this.task.run(mmap(this.k, this.task.space, { ...request, flags }))
    this.store(0, 'A'.repeat(pages * P))
  }

  store(offset: number, text: string): void {
    const bytes = new TextEncoder().encode(text)
    this.task.run(storeUser(this.k, this.task.space, this.at + offset, bytes))
  }

  send(socket: Socket, text: string): number | string {
    const iter = new BufferIter(new TextEncoder().encode(text))
    return result(this.task.run(socket.send(iter, null)))
  }

  /** Sends ranges of the memory without copying. */
  lend(socket: Socket, lender: Lender, ...ranges: [offset: number, length: number][]): number | string {
    const user = ranges.map(([offset, length]) => ({ base: this.at + offset, length }))
    return result(this.task.run(socket.send(new UserIter(this.k, this.task.space, user), lender)))
  }

  receive(socket: Socket, length = 100): string {
    const bytes = new Uint8Array(length)
    const n = this.task.run(socket.receive(new BufferIter(bytes)))
    return n < 0 ? String(result(n)) : String.fromCharCode(...bytes.subarray(0, n))
  }
}

describe('R-URING-101 datagrams', () => {
  it('are copied when they are sent, and what is stored afterwards is not in them', () => {
    const w = new World()
    const [a, b] = makeDatagramPair(w.k)
    const lender = new Lender()
    expect(w.lend(a, lender, [0, 3])).toBe(3)
    expect(lender).toMatchObject({ used: true, copied: true, refs: 0 })
    w.store(0, 'BBB')
    expect([w.receive(b), w.receive(b)]).toEqual(['AAA', '-EAGAIN'])
  })

  it('keep their borders; what the reader has no room for is lost', () => {
    const w = new World()
    const [a, b] = makeDatagramPair(w.k)
    expect([w.send(a, 'hello'), w.send(a, ''), w.send(a, 'world')]).toEqual([5, 0, 5])
    expect([w.receive(b, 2), w.receive(b), w.receive(b)]).toEqual(['he', '', 'world'])
  })

  it.each([
    ['65507 bytes', [[0, MAX_DATAGRAM]], MAX_DATAGRAM, true],
    ['one byte more', [[0, MAX_DATAGRAM + 1]], '-EMSGSIZE', false],
    ['no bytes', [], 0, false],
    ['18 pieces', Array.from({ length: 18 }, (_, i) => [i * 200, 100]), '-EMSGSIZE', true],
    ['17 pieces', Array.from({ length: 17 }, (_, i) => [i * 200, 100]), 1700, true],
    ['40 pieces that are one', Array.from({ length: 40 }, (_, i) => [i * 10, 10]), 400, true],
    ['a page that is not there', [[16 * P, 2 * P]], '-EFAULT', true],
  ] as [string, [number, number][], number | string, boolean][])(
    'from lent pages: %s',
    (_name, ranges, expected, used) => {
      const w = new World(17)
      const [a, b] = makeDatagramPair(w.k)
      const lender = new Lender()
      expect(w.lend(a, lender, ...ranges)).toBe(expected)
      expect(lender).toMatchObject({ used, refs: 0 })
      if (typeof expected === 'string') expect(w.receive(b)).toBe('-EAGAIN')
    },
  )

  it('are not modelled where they could be dropped', () => {
    const w = new World(16)
    const [a] = makeDatagramPair(w.k)
    w.lend(a, new Lender(), [0, 60000])
    expect(() => w.lend(a, new Lender(), [0, 60000])).toThrow('Unmodelled')
  })
})

describe('R-URING-101 streams', () => {
  it('leave bytes in the pages of the sender until the reader makes room', () => {
    const w = new World()
    const [a, b] = makeStreamPair(w.k, { room: 5 })
    const lender = new Lender()
    expect([w.send(a, '012'), w.lend(a, lender, [0, 4]), w.send(a, 'xyz')]).toEqual([3, 4, 3])
    expect([a.unsent, lender.refs, lender.copied]).toEqual([5, 1, true])
    w.store(0, 'BCDE')
    expect(w.receive(b, 4)).toBe('012A')
    expect([a.unsent, lender.refs]).toEqual([1, 0])
    expect([w.receive(b), w.receive(b), w.receive(b)]).toEqual(['ADExy', 'z', '-EAGAIN'])
  })

  it('lend whole or not at all; what failed is over when the bytes before it have gone', () => {
    const w = new World(2)
    const [a, b] = makeStreamPair(w.k, { room: 1 })
    const [first, second] = [new Lender(), new Lender()]
    expect(w.lend(a, first, [P, 2 * P])).toBe('-EFAULT')
    expect(first).toMatchObject({ used: true, copied: false, refs: 0 })
    w.send(a, 'xy')
    expect(w.lend(a, second, [P, 2 * P])).toBe('-EFAULT')
    expect(second).toMatchObject({ used: true, copied: false, refs: 1 })
    w.send(a, 'z')
    expect([w.receive(b), second.refs, second.copied]).toEqual(['x', 0, true])
    expect([w.receive(b), w.receive(b), w.receive(b)]).toEqual(['y', 'z', '-EAGAIN'])
  })

  it('a reader that closes with bytes unread resets the connection', () => {
    const w = new World()
    const [a, b] = makeStreamPair(w.k, { room: 1 })
    const lender = new Lender()
    w.send(a, 'x')
    w.lend(a, lender, [0, 4])
    b.put()
    expect(lender).toMatchObject({ refs: 0, copied: false })
    expect([w.send(a, 'x'), w.send(a, 'x'), w.receive(a)]).toEqual(['-ECONNRESET', '-EPIPE', ''])
    a.put()
  })

  it('one that closes with none: a send passes, then EPIPE; AF_UNIX says so at once', () => {
    const w = new World()
    const [a, b] = makeStreamPair(w.k)
    b.put()
    const lender = new Lender()
    expect([w.lend(a, lender, [0, 4]), lender.copied, lender.refs]).toEqual([4, true, 0])
    expect(w.send(a, 'x')).toBe('-EPIPE')
    const [u, v] = makeStreamPair(w.k, { zeroCopy: false })
    w.send(u, 'abc')
    expect(w.receive(v, 1)).toBe('a')
    v.put()
    expect([w.send(u, 'x'), w.send(u, 'x'), w.receive(u), w.receive(u)]).toEqual([
      '-EPIPE',
      '-EPIPE',
      '-ECONNRESET',
      '',
    ])
  })

  it('what a sender had sent arrives after it has closed', () => {
    const w = new World()
    const [a, b] = makeStreamPair(w.k, { room: 2 })
    const lender = new Lender()
    w.lend(a, lender, [0, 4])
    a.put()
    expect([lender.refs, b.nonEmpty]).toEqual([1, true])
    expect([w.receive(b, 2), w.receive(b), w.receive(b)]).toEqual(['AA', 'AA', ''])
    expect(lender).toMatchObject({ refs: 0, copied: true })
  })

  it('closed on both sides nothing is kept', () => {
    const w = new World()
    const [a, b] = makeStreamPair(w.k, { room: 0 })
    const lender = new Lender()
    w.lend(a, lender, [0, 4])
    a.put()
    b.put()
    expect(lender).toMatchObject({ refs: 0, copied: false })
    expect([...w.k.holders].filter((holder) => holder === a || holder === b)).toEqual([])
  })
})
