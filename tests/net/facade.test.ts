import { describe, expect, it } from 'vitest'
import { connectSockets, Machine, openIoUring, SyscallError } from '../../src/index.ts'
import { watchMachine } from '../support/kernel.ts'

const outcome = (call: () => number): number | string => {
  try {
    return call()
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    return error.code
  }
}

describe('sockets of two processes', () => {
  const machine = (): Machine => watchMachine(new Machine({ release: '6.18', memory: '32M' }))

  it.each(['tcp', 'udp', 'unix'] as const)('R-URING-101 %s: what one sends the other receives', (kind) => {
    const m = machine()
    const [one, other] = [m.spawn('one'), m.spawn('other')]
    const [a, b] = connectSockets(one, other, { kind })
    const from = one.mmap({ length: '8k' })
    const into = other.mmap({ length: '8k' })
    one.store(from, new Uint8Array([1, 2, 3]))
    expect([a.send(from, 3), outcome(() => b.receive(into, '8k'))]).toEqual([3, 3])
    expect([...other.load(into, 3)]).toEqual([1, 2, 3])
    expect(outcome(() => b.receive(into, 1))).toBe('EAGAIN')
    expect(outcome(() => a.send(-4096, 1))).toBe('EFAULT')
    b.close()
    expect(outcome(() => b.receive(into, 1))).toBe('EBADF')
    a.close()
    one.exit()
    other.exit()
  })

  it('R-URING-101 a send that is lent its pages ends with a notification, and only TCP waits for it', () => {
    const m = machine()
    const [one, other] = [m.spawn('one'), m.spawn('other')]
    const ring = openIoUring(one, { entries: 8 })
    const from = one.mmap({ length: '8k' })
    const into = other.mmap({ length: '8k' })
    const results = (kind: 'tcp' | 'udp' | 'unix'): number[] => {
      const [a, b] = connectSockets(one, other, { kind, room: 1 })
      ring.sendZc({ fd: a.fd, address: from, length: 8192, userData: 7 })
      const before = ring.completions().length
      while (typeof outcome(() => b.receive(into, '8k')) === 'number');
      const counts = [before, ring.completions().length]
      a.close()
      b.close()
      return counts
    }
    expect([results('udp'), results('tcp'), results('unix')]).toEqual([
      [2, 0],
      [1, 1],
      [2, 0],
    ])
    one.exit()
    other.exit()
  })

  it('two machines have no network between them', () => {
    const [one, other] = [machine().spawn('one'), machine().spawn('other')]
    expect(() => connectSockets(one, other)).toThrow(RangeError)
  })
})
