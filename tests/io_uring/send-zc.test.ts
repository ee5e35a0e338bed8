import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { IORING_UNREGISTER_BUFFERS, ioUringRegister } from '../../src/io_uring/register.ts'
import {
  IORING_OP_NOP,
  IORING_OP_READ,
  IORING_OP_RECV,
  IORING_OP_SEND,
  IORING_OP_SENDMSG_ZC,
  IOSQE_BUFFER_SELECT,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_FIXED_FILE,
  type Sqe,
} from '../../src/io_uring/request.ts'
import { IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_SINGLE_ISSUER } from '../../src/io_uring/setup-flags.ts'
import { BufferIter } from '../../src/mm/iov-iter.ts'
import { makeStreamPair } from '../../src/net/loopback.ts'
import { execve } from '../../src/task/exec.ts'
import { makePipe } from '../../src/task/pipe.ts'
import { FIXED, F_NOTIF, Net, REPORT } from './net-rig.ts'
import { P } from './rig.ts'

describe.each(RELEASE_NAMES)('%s', (release) => {
  it('URING vector 61: a datagram is copied at once', () => {
    const n = new Net(release)
    n.buffer(n.a, P)
    n.submit([n.zc(n.u, 1)])
    n.store(n.a, 'B'.repeat(10))
    expect(n.seen()).toEqual([
      [1, 10, 'more'],
      [1, 0, 'notif'],
    ])
    expect(n.received(n.udp[1])).toBe('A'.repeat(10))
  })

  it('URING vector 62: what waits for a reader is sent as it is when the reader makes room', () => {
    const n = new Net(release)
    n.buffer(n.a, P)
    n.submit([n.zc(n.s, 1)])
    n.store(n.a, 'B'.repeat(10))
    expect(n.seen()).toEqual([[1, 10, 'more']])
    expect(n.flow()).toBe('B'.repeat(10))
    expect(n.seen()).toEqual([[1, 0, 'notif']])
  })

  if (release === '6.18') {
    it('URING vector 63: UNREGISTER returns at once, the buffer goes with the notification, the tag after it', () => {
      const n = new Net(release)
      n.register2({ nr: 1, data: [{ base: n.a, length: P }], tags: [77] })
      n.submit([n.zc(n.s, 1)])
      expect(n.unregister()).toMatchObject({ result: 0, rel: 0, vmPin: 0 })
      expect(n.seen()).toEqual([[1, 10, 'more']])
      n.unmap(n.a, 2)
      expect([n.pinned, n.vmPin, n.flow()]).toEqual([1, 1, 'A'.repeat(10)])
      expect(n.seen()).toEqual([
        [1, 0, 'notif'],
        [77, 0],
      ])
      expect([n.pinned, n.vmPin]).toEqual([0, 0])
    })
  } else {
    it('URING vector 63: UNREGISTER waits for the notification', () => {
      const n = new Net(release)
      n.buffer(n.a, P)
      n.submit([n.zc(n.s, 1)])
      const call = ioUringRegister(n.k, n.ring, IORING_UNREGISTER_BUFFERS, null, 0)
      const unregister = n.k.scheduler.spawn('unregister', n.task, call)
      n.k.scheduler.runUntilIdle()
      expect([unregister.done, n.pinned]).toEqual([false, 1])
      n.flow()
      expect([unregister.result, n.pinned, n.vmPin]).toEqual([0, 0, 0])
    })
  }

  it('URING vector 64: closing the ring and killing the task leaves every buffer pinned until then', () => {
    const n = new Net(release)
    n.register([
      { base: n.a, length: P },
      { base: n.a + P, length: P },
    ])
    n.submit([n.zc(n.s, 1), n.zc(n.s, 2, { ioprio: 0, addr: n.a + P })])
    n.ring.file.put()
    n.files.closeAll()
    n.exit(n.task)
    expect([n.pinned, n.k.holders.has(n.ring)]).toEqual([2, true])
    expect(n.flow()).toBe('A'.repeat(20))
    expect([n.pinned, n.k.holders.has(n.ring)]).toEqual([0, false])
  })

  it('R-URING-102 a ring that another process has gets the notification of one that was killed', () => {
    const n = new Net(release)
    n.buffer(n.a, P)
    const child = n.fork()
    n.submit([n.zc(n.s, 1)], n.ring, child)
    n.exit(child)
    expect(n.seen()).toEqual([[1, 10, 'more']])
    n.flow()
    expect(n.seen()).toEqual([[1, 0, 'notif']])
  })

  it('URING vector 66: what ordinary memory is charged, and fixed buffers are not', () => {
    const limits = { memlock: 100 * P }
    const n = new Net(release, 0, { uid: 1000, limits })
    const room = (pages: number): void => {
      n.task.limits.memlock = (n.k.user(1000).lockedVm + pages) * P
    }
    const plain = { ioprio: 0 }
    room(1)
    expect(n.both({ ...plain, len: 100 })).toEqual(['-ENOMEM', 0])
    expect(n.both({ ...plain, len: 0 })).toEqual(['-ENOMEM', 0])
    expect(n.task.refusal).toMatchObject({ rule: 'R-URING-42', needed: 2 })
    room(2)
    expect(n.both({ ...plain, len: 100 })).toEqual([100, 0])
    expect(n.both({ ...plain, len: P })).toEqual(['-ENOMEM', 0])
    n.ring.sqes.push(n.zc(n.u, 1, plain))
    n.submit([n.zc(n.u, 2, plain)])
    // 6.1 puts the failure first
    const results = n
      .seen()
      .sort(([x, , what], [y, , other]) => (what === other ? x - y : what === 'more' ? -1 : 1))
    expect(results.map(([, res]) => res)).toEqual([10, '-ENOMEM', 0, 0])
    n.task.limits.memlock = Infinity
    n.buffer(n.a, P)
    room(0)
    expect(n.both({})).toEqual([10, 0])
    room(4)
    n.submit([n.zc(n.s, 1, { ...plain, len: 2 * P })])
    room(0)
    expect(n.k.user(1000).lockedVm).toBe(n.ring.chargedPages + 1 + 4)
    n.flow()
    expect(n.k.user(1000).lockedVm).toBe(n.ring.chargedPages + 1)
  })

  it('R-URING-101 ordinary memory is only referenced: after fork, a store or DONTNEED the old page is sent', () => {
    const n = new Net(release)
    n.submit([n.zc(n.s, 1, { ioprio: 0 }), n.zc(n.s, 2, { ioprio: 0, addr: n.a + P })])
    const child = n.fork()
    n.store(n.a, 'BBBB')
    n.unmap(n.a + P, 1)
    expect(n.pinned).toBe(0)
    expect(n.flow()).toBe('A'.repeat(20))
    n.exit(child)
  })

  it('R-URING-100 notifications of a batch come after its completions', () => {
    const n = new Net(release)
    n.buffer(n.a, P)
    const nop = { opcode: IORING_OP_NOP, userData: 3 }
    n.submit([n.zc(n.u, 1), n.zc(999, 2), nop, n.zc(n.u, 4)])
    const [results, notifications] = [n.ring.cqes.slice(0, 4), n.ring.cqes.slice(4)]
    // 6.1 puts failures first
    expect(results.map(({ userData }) => userData).sort((x, y) => x - y)).toEqual([1, 2, 3, 4])
    expect(notifications.map(({ userData }) => userData).sort((x, y) => x - y)).toEqual([1, 2, 4])
    expect(notifications.every(({ flags }) => flags === F_NOTIF)).toBe(true)
  })

  it('R-URING-100 on a DEFER_TASKRUN ring the notification waits for somebody who asks', () => {
    const n = new Net(release, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)
    n.buffer(n.a, P)
    n.submit([n.zc(n.s, 1)])
    n.seen()
    n.flow()
    expect([n.seen(), n.pinned]).toEqual([[], 1])
    n.submit([])
    expect(n.seen()).toEqual([[1, 0, 'notif']])
  })

  it('R-URING-105 exec of another task takes nothing up that waits on such a ring', () => {
    const n = new Net(release, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)
    n.submit([n.zc(n.s, 1, { ioprio: 0 })])
    n.seen()
    n.flow()
    const child = n.fork()
    const image = { segments: [], startBrk: 0x1000_0000, code: [0, 0], data: [0, 0] } as const
    const request = { path: '/bin/true', argv: ['true'], envp: [], image }
    expect(child.run(execve(n.k, child, request, () => {}))).toBe(0)
    expect(n.seen()).toEqual([])
    n.exit(child)
    n.submit([])
    expect(n.seen()).toEqual([[1, 0, 'notif']])
  })

  it('URING vector 68, R-URING-59: SENDMSG_ZC with a registered buffer is of 6.18', () => {
    const n = new Net(release)
    n.buffer(n.a, P)
    const iovecs = [0, 200, 100].map((offset) => ({ base: n.a + offset, length: 1 }))
    n.store(n.a, 'a')
    n.store(n.a + 200, 'b')
    n.store(n.a + 100, 'c')
    const message = { opcode: IORING_OP_SENDMSG_ZC, message: { iovecs, count: 3 } }
    const works = release === '6.18'
    expect(n.both(message)).toEqual([works ? 3 : '-EINVAL', 0])
    if (works) expect(n.received(n.udp[1])).toBe('abc')
    expect(n.both({ ...message, ioprio: 0 })).toEqual([3, 0])
    expect(n.received(n.udp[1])).toBe('abc')
    if (!works) return
    const inside = iovecs[0]!
    for (const [second, res] of [
      [{ base: n.a + P, length: 1 }, '-EFAULT'],
      [{ base: inside.base, length: 0 }, '-EFAULT'],
    ] as const)
      expect(n.both({ ...message, message: { iovecs: [inside, second], count: 2 } })).toEqual([res, 0])
  })
})

describe('6.18', () => {
  const plain = { ioprio: REPORT }
  const fixed = { ioprio: FIXED | REPORT }

  it('URING vector 65: what is refused, and that a notification follows all the same', () => {
    const n = new Net('6.18')
    n.buffer(n.a, P)
    const unix = n.fd(makeStreamPair(n.k, { zeroCopy: false })[0])
    const pipe = n.fd(makePipe(n.k).write)
    const kernel = -(2 ** 47)
    for (const [sqe, res, notification] of [
      [{ ...fixed, fd: unix }, '-EOPNOTSUPP', 'copied'],
      [{ ...fixed, fd: pipe }, '-ENOTSOCK', 'copied'],
      [{ ...fixed, bufIndex: 9 }, '-EFAULT', 'copied'],
      [{ ...fixed, len: P + 1 }, '-EFAULT', 'copied'],
      [{ ...fixed, addr: n.a - 1 }, '-EFAULT', 'copied'],
      [{ ...fixed, fd: 999 }, '-EBADF', 'copied'],
      [{ ...fixed, flags: IOSQE_FIXED_FILE }, '-EBADF', 'copied'],
      // which of two comes first
      [{ ...fixed, fd: unix, bufIndex: 9 }, '-EOPNOTSUPP', 'copied'],
      [{ ...fixed, fd: 999, bufIndex: 9 }, '-EBADF', 'copied'],
      [{ ...plain, fd: 999, addr: kernel }, '-EFAULT', 'copied'],
      [{ ...plain, addr: n.place(1) }, '-EFAULT', 0],
      [{ ...plain, len: 65508 }, '-EMSGSIZE', 'copied'],
      [{ ...plain, len: 0, addr: 0 }, 0, 'copied'],
      [{ ...plain, bufIndex: 9 }, 10, 'copied'],
      [{ ioprio: FIXED }, 10, 0],
      [{ ioprio: 2 }, '-EINVAL', 0],
      [{ ioprio: 16 | REPORT }, '-EINVAL', 0],
      [{ flags: IOSQE_CQE_SKIP_SUCCESS }, '-EINVAL', null],
      [{ flags: IOSQE_BUFFER_SELECT }, '-EOPNOTSUPP', null],
    ] as [Partial<Sqe>, number | string, number | string | null][])
      expect([sqe, ...n.both(sqe)]).toEqual([sqe, res, notification])
  })

  it('R-URING-99 what is found while an entry is prepared ends the batch', () => {
    const n = new Net('6.18')
    n.submit([n.zc(n.u, 1, { ioprio: 2 }), { opcode: IORING_OP_NOP, userData: 2 }])
    expect(n.seen()).toEqual([
      [1, '-EINVAL', 'more'],
      [1, 0, 'notif'],
    ])
    n.submit([])
    expect(n.seen()).toEqual([[2, 0]])
  })

  it('R-URING-99 messages: header, vector, charge, descriptor, buffer, socket', () => {
    const n = new Net('6.18')
    n.buffer(n.a, P)
    const unix = n.fd(makeStreamPair(n.k, { zeroCopy: false })[0])
    const one = { iovecs: [{ base: n.a, length: 1 }], count: 1 }
    const message = (sqe: Partial<Sqe>): unknown => n.both({ opcode: IORING_OP_SENDMSG_ZC, ...sqe })
    expect(message({ ...plain, fd: 999, message: 'unreadable' })).toEqual(['-EFAULT', 'copied'])
    expect(message({ ...fixed, fd: 999, message: { iovecs: 'unreadable', count: 1 } })).toEqual([
      '-EFAULT',
      'copied',
    ])
    expect(message({ ...fixed, fd: 999, message: { ...one, count: 1025 } })).toEqual(['-EMSGSIZE', 'copied'])
    expect(message({ ...fixed, fd: 999, bufIndex: 9, message: one })).toEqual(['-EBADF', 'copied'])
    expect(message({ ...fixed, fd: unix, bufIndex: 9, message: one })).toEqual(['-EFAULT', 'copied'])
    expect(message({ ...fixed, fd: unix, message: one })).toEqual(['-EOPNOTSUPP', 'copied'])
    expect(message({ ...fixed, message: { iovecs: [], count: 0 } })).toEqual([0, 'copied'])
  })

  it('R-URING-100 the connection is reset: nothing was copied', () => {
    const n = new Net('6.18')
    n.buffer(n.a, P)
    n.submit([n.zc(n.s, 1, fixed)])
    n.seen()
    n.stream[1].put()
    n.k.scheduler.runUntilIdle()
    expect(n.seen()).toEqual([[1, 0, 'notif']])
    expect([n.both({ ...fixed, fd: n.s }), n.both({ ...fixed, fd: n.s })]).toEqual([
      ['-ECONNRESET', 'copied'],
      ['-EPIPE', 'copied'],
    ])
  })

  it('R-URING-104 SEND and RECV', () => {
    const n = new Net('6.18')
    const send = { opcode: IORING_OP_SEND, fd: n.u, addr: n.a, len: 3 }
    const recv = { opcode: IORING_OP_RECV, fd: n.fd(n.udp[1]), addr: n.a + P, len: 10 }
    for (const ioprio of [2, 4, 8, 64]) expect(n.request({ ...send, ioprio })).toBe('-EINVAL')
    for (const ioprio of [2, 4, 8, 32]) expect(n.request({ ...recv, ioprio })).toBe('-EINVAL')
    expect(n.request({ ...recv, len: 2 ** 31 })).toBe('-EINVAL')
    for (const sqe of [send, recv]) {
      expect(n.request({ ...sqe, fd: 999, addr: -(2 ** 47) })).toBe('-EFAULT')
      expect(n.request({ ...sqe, fd: 999 })).toBe('-EBADF')
      expect(n.request({ ...sqe, fd: n.fd(makePipe(n.k).read) })).toBe('-ENOTSOCK')
    }
    expect(n.request({ ...recv, opFlags: 0x40 })).toBe('-EAGAIN')
    expect(n.request({ ...send, ioprio: 1 })).toBe(3)
    expect([n.request(recv), n.sees(n.a + P), n.sees(n.a + P + 3)]).toEqual([3, 'A', 'A'])
    expect(n.request(recv)).toBe(null)
    n.submit([{ ...send, userData: 1 }])
    expect(n.completions().sort(([x], [y]) => x - y)).toEqual([
      [1, 3],
      [99, 3],
    ])
    expect(() => n.request({ ...recv, opcode: IORING_OP_READ })).toThrow('Unmodelled')
  })

  it('R-URING-104 a stream says that there is more, or nothing ever again', () => {
    const n = new Net('6.18')
    const [a, b] = makeStreamPair(n.k)
    const recv = { opcode: IORING_OP_RECV, fd: n.fd(b), addr: n.a, len: 5, userData: 1 }
    n.ok(a.send(new BufferIter(new Uint8Array(8)), null))
    for (let i = 0; i < 3; i++) n.submit([recv])
    a.put()
    n.k.scheduler.runUntilIdle()
    expect(n.ring.cqes.splice(0).map(({ res, flags }) => [res, flags])).toEqual([
      [5, 4],
      [3, 0],
      [0, 4],
    ])
  })
})
