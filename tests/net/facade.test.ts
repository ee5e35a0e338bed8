import { describe, expect, it } from 'vitest'
import { connectSockets, Machine, openIoUring } from '../../src/index.ts'
import type { ExecImage } from '../../src/mm/exec-mm.ts'
import { execve } from '../../src/task/exec.ts'
import { answer } from '../drivers/rig.ts'
import { watchMachine } from '../support/kernel.ts'

const NOTHING: ExecImage = { segments: [], startBrk: 0x1000_0000, code: [0, 0], data: [0, 0] }

describe('sockets of two processes', () => {
  const machine = (): Machine => watchMachine(new Machine({ release: '6.18', memory: '32M' }))

  it.each(['tcp', 'udp', 'unix'] as const)('R-URING-101 %s: what one sends the other receives', (kind) => {
    const m = machine()
    const [one, other] = [m.spawn('one'), m.spawn('other')]
    const [a, b] = connectSockets(one, other, { kind })
    const from = one.mmap({ length: '8k' })
    const into = other.mmap({ length: '8k' })
    one.store(from, new Uint8Array([1, 2, 3]))
    expect([a.send(from, 3), answer(() => b.receive(into, '8k'))]).toEqual([3, 3])
    expect([...other.load(into, 3)]).toEqual([1, 2, 3])
    expect(answer(() => b.receive(into, 1))).toBe('-EAGAIN')
    expect(answer(() => a.send(-4096, 1))).toBe('-EFAULT')
    b.close()
    expect(answer(() => b.receive(into, 1))).toBe('-EBADF')
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
      while (typeof answer(() => b.receive(into, '8k')) === 'number');
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

  it('R-URING-105 exec waits for what the process has lent, and no signal ends that; exit does not wait', () => {
    const m = machine()
    const [server, reader] = [m.spawn('server'), m.spawn('reader')]
    const from = server.mmap({ length: '8k' })
    const into = reader.mmap({ length: '8k' })
    const [a, b] = connectSockets(server, reader, { room: 1 })
    const ring = openIoUring(server, { entries: 8 })
    ring.registerBuffers([{ base: from, length: 8192 }])
    ring.sendZc({ fd: a.fd, address: from, length: 8192, index: 0 })
    const { kernel } = m
    const request = { path: '/bin/true', argv: ['true'], envp: [], image: NOTHING }
    let done: unknown = null
    kernel.scheduler.spawn(
      'exec',
      server,
      (function* () {
        done = yield* execve(kernel, server, request, () => server.files.closeMarked())
      })(),
    )
    for (const killed of [false, true]) {
      server.signalPending = server.fatalSignalPending = killed
      expect([kernel.scheduler.runUntilIdle(), done]).toEqual([false, null])
    }
    server.signalPending = server.fatalSignalPending = false
    const drain = (): void => {
      let got: number | string = 1
      while (typeof got === 'number' && got > 0) got = answer(() => b.receive(into, '8k'))
    }
    drain()
    kernel.scheduler.run()
    expect([done, m.pins().length]).toEqual([0, 0])
    // the new program has the sockets, which were not marked, and no ring
    const again = server.mmap({ length: '8k' })
    const other = openIoUring(server, { entries: 8 })
    other.registerBuffers([{ base: again, length: 8192 }])
    other.sendZc({ fd: a.fd, address: again, length: 8192, index: 0 })
    server.exit()
    expect(m.pins().length).toBeGreaterThan(0)
    drain()
    reader.exit()
    expect(m.pins()).toEqual([])
  })

  it('two machines have no network between them', () => {
    const [one, other] = [machine().spawn('one'), machine().spawn('other')]
    expect(() => connectSockets(one, other)).toThrow(RangeError)
  })
})
