import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES, type ReleaseName } from '../../src/base/release.ts'
import {
  IORING_OP_NOP,
  IORING_OP_RECV,
  IORING_OP_SEND,
  IORING_OP_SENDMSG_ZC,
  type Sqe,
} from '../../src/io_uring/request.ts'
import { BufferIter } from '../../src/mm/iov-iter.ts'
import { makeStreamPair } from '../../src/net/loopback.ts'
import { makePipe } from '../../src/task/pipe.ts'
import { FIXED, F_NOTIF, Net, REPORT } from './net-rig.ts'
import { P } from './rig.ts'

const KERNEL = -(2 ** 47)
const NOP: Sqe = { opcode: IORING_OP_NOP, userData: 99 }

/** What a release answers: the old ones (as seen on 6.1), 6.12 and 6.18. */
type Answers<T> = readonly [old: T, r612: T, r618: T]

function of<T>(release: ReleaseName, answers: Answers<T>): T {
  return answers[release === '6.18' ? 2 : release === '6.12' ? 1 : 0]
}

type Both = [number | string, number | string | null]

describe.each(RELEASE_NAMES)('%s', (release) => {
  const plain = { ioprio: REPORT }
  const fixed = { ioprio: FIXED | REPORT }

  it('R-URING-99 what of SEND_ZC is looked at first', () => {
    const n = new Net(release)
    n.buffer(n.a, P)
    const unix = n.fd(makeStreamPair(n.k, { zeroCopy: false })[0])
    const pipe = n.fd(makePipe(n.k).write)
    const all = <T>(answer: T): Answers<T> => [answer, answer, answer]
    const noSlot: Both = ['-EFAULT', 'copied']
    const early = (later: string): Answers<Both> => [['-EFAULT', 0], noSlot, [later, 'copied']]
    const late = (sooner: string): Answers<Both> => [[sooner, 'copied'], noSlot, noSlot]
    for (const [sqe, answers] of [
      [
        { ioprio: 2 },
        [
          ['-EINVAL', null],
          ['-EINVAL', 0],
          ['-EINVAL', 0],
        ],
      ],
      [
        { ioprio: 2 | FIXED, bufIndex: 9 },
        [
          ['-EINVAL', null],
          ['-EINVAL', 0],
          ['-EINVAL', 0],
        ],
      ],
      [{ ...fixed, bufIndex: 9 }, early('-EFAULT')],
      [{ ...fixed, bufIndex: 9, fd: 999 }, early('-EBADF')],
      [{ ...fixed, bufIndex: 9, fd: pipe }, early('-ENOTSOCK')],
      [{ ...fixed, bufIndex: 9, fd: unix }, early('-EOPNOTSUPP')],
      [{ ...fixed, len: P + 1 }, all<Both>(['-EFAULT', 'copied'])],
      [{ ...fixed, len: P + 1, fd: unix }, all<Both>(['-EOPNOTSUPP', 'copied'])],
      [{ ...plain, addr: KERNEL }, late('-EFAULT')],
      [{ ...plain, addr: KERNEL, fd: 999 }, late('-EBADF')],
      [{ ...plain, addr: KERNEL, fd: pipe }, late('-ENOTSOCK')],
      [{ ...plain, addr: KERNEL, fd: unix }, late('-EOPNOTSUPP')],
    ] as [Partial<Sqe>, Answers<Both>][])
      expect([sqe, ...n.both(sqe)]).toEqual([sqe, ...of(release, answers)])
  })

  it('R-URING-99 an empty slot is found when SEND_ZC is tried', () => {
    const n = new Net(release)
    n.sparse(1)
    const unix = n.fd(makeStreamPair(n.k, { zeroCopy: false })[0])
    expect(n.both(fixed)).toEqual(['-EFAULT', 'copied'])
    expect(n.both({ ...fixed, fd: 999 })).toEqual(['-EBADF', 'copied'])
    expect(n.both({ ...fixed, fd: unix })).toEqual(['-EOPNOTSUPP', 'copied'])
  })

  it('R-URING-99 which failures end the batch', () => {
    const n = new Net(release, 0, { uid: 1000, limits: { memlock: 100 * P } })
    const ends = (sqe: Partial<Sqe>): boolean => {
      n.submit([n.zc(n.u, 1, sqe), NOP])
      const taken = n.ring.sqes.length === 0
      n.ring.sqes.length = 0
      n.seen()
      return !taken
    }
    const message = { opcode: IORING_OP_SENDMSG_ZC, ioprio: 0, message: 'unreadable' } as const
    expect(ends({ ioprio: 2 })).toBe(true)
    expect(ends(fixed)).toBe(of(release, [true, true, false]))
    expect(ends({ ...plain, addr: KERNEL })).toBe(of(release, [false, true, true]))
    expect(ends(message)).toBe(of(release, [false, true, true]))
    n.task.limits.memlock = 0
    expect(ends(plain)).toBe(of(release, [false, false, true]))
    expect(ends({ ...plain, fd: 999 })).toBe(of(release, [false, false, true]))
  })

  it('R-URING-50 when ordinary memory is charged, and a message', () => {
    const n = new Net(release, 0, { uid: 1000, limits: { memlock: 100 * P } })
    n.task.limits.memlock = n.k.user(1000).lockedVm * P
    const unix = n.fd(makeStreamPair(n.k, { zeroCopy: false })[0])
    const no: Both = ['-ENOMEM', 'copied']
    for (const [sqe, answers] of [
      [{ ...plain, fd: 999 }, [['-EBADF', 'copied'], ['-EBADF', 'copied'], no]],
      [{ ...plain, fd: unix }, [['-EOPNOTSUPP', 'copied'], ['-EOPNOTSUPP', 'copied'], no]],
      [{ ...plain, addr: n.place(1) }, [no, no, no]],
      [
        { opcode: IORING_OP_SENDMSG_ZC, ...plain, message: { iovecs: [{ base: n.a, length: 7 }], count: 1 } },
        [[7, 'copied'], [7, 'copied'], no],
      ],
    ] as [Partial<Sqe>, Answers<Both>][])
      expect([sqe, ...n.both(sqe)]).toEqual([sqe, ...of(release, answers)])
  })

  it('R-URING-99 messages: what is looked at first, and how many entries they have', () => {
    const n = new Net(release)
    const unix = n.fd(makeStreamPair(n.k, { zeroCopy: false })[0])
    const entry = { base: n.a, length: 1 }
    const message = (sqe: Partial<Sqe>): Both => n.both({ opcode: IORING_OP_SENDMSG_ZC, ...plain, ...sqe })
    const unreadable = { message: 'unreadable' } as const
    const long = { message: { iovecs: [entry], count: 1025 } }
    expect(message(unreadable)).toEqual(['-EFAULT', 'copied'])
    const [bad, copies] = of<[string, string]>(release, [
      ['-EBADF', '-EOPNOTSUPP'],
      ['-EFAULT', '-EFAULT'],
      ['-EFAULT', '-EFAULT'],
    ])
    for (const wrong of [
      unreadable,
      { message: { iovecs: 'unreadable', count: 1 } },
      { message: { iovecs: [{ base: KERNEL, length: 10 }], count: 1 } },
    ] as Partial<Sqe>[]) {
      expect(message({ ...wrong, fd: 999 })).toEqual([bad, 'copied'])
      expect(message({ ...wrong, fd: unix })).toEqual([copies, 'copied'])
    }
    expect(message(long)).toEqual([of(release, ['-EINVAL', '-EINVAL', '-EMSGSIZE']), 'copied'])
    expect(message({ ...long, fd: 999 })[0]).toBe(of(release, ['-EBADF', '-EINVAL', '-EMSGSIZE']))
    if (release === '6.18') return
    expect(message({ ...fixed, ...unreadable })).toEqual(['-EINVAL', 'copied'])
  })

  it('R-URING-104 memory, length and flags of SEND and RECV', () => {
    const n = new Net(release)
    const pipe = n.fd(makePipe(n.k).read)
    const send = { opcode: IORING_OP_SEND, fd: n.u, addr: n.a, len: 3 }
    const recv = { opcode: IORING_OP_RECV, fd: n.u, addr: n.a, len: 3, opFlags: 0x40 }
    for (const [sqe, unread] of [
      [send, '-EMSGSIZE'],
      [recv, '-EAGAIN'],
    ] as const) {
      expect(n.request({ ...sqe, addr: KERNEL })).toBe('-EFAULT')
      expect(n.request({ ...sqe, addr: KERNEL, fd: 999 })).toBe(of(release, ['-EBADF', '-EFAULT', '-EFAULT']))
      expect(n.request({ ...sqe, addr: KERNEL, fd: pipe })).toBe(
        of(release, ['-ENOTSOCK', '-EFAULT', '-EFAULT']),
      )
      const long = { ...sqe, len: 2 ** 31 }
      expect(n.request(long)).toBe(of(release, [unread, '-EINVAL', '-EINVAL']))
      expect(n.request({ ...long, fd: 999 })).toBe(of(release, ['-EBADF', '-EINVAL', '-EINVAL']))
      expect(n.request({ ...long, addr: KERNEL })).toBe(of(release, ['-EFAULT', '-EINVAL', '-EINVAL']))
    }
    if (release !== '6.18') expect(n.request({ ...send, ioprio: 16 })).toBe('-EINVAL')
  })

  it('R-URING-104 a stream of AF_UNIX tells that it has more on 6.18 only, and never that it has ended', () => {
    const n = new Net(release)
    const [a, b] = makeStreamPair(n.k, { zeroCopy: false })
    const recv = { opcode: IORING_OP_RECV, fd: n.fd(b), addr: n.a, len: 5, userData: 1 }
    n.ok(a.send(new BufferIter(new Uint8Array(8)), null))
    a.put()
    for (let i = 0; i < 3; i++) n.submit([recv])
    expect(n.ring.cqes.splice(0).map(({ res, flags }) => [res, flags])).toEqual([
      [5, release === '6.18' ? 4 : 0],
      [3, 0],
      [0, 0],
    ])
  })

  it('R-URING-100 the order of notifications: those that failed last, on old releases the newest first', () => {
    const n = new Net(release)
    n.buffer(n.a, P)
    n.submit([n.zc(999, 1), n.zc(n.u, 2), n.zc(999, 3), n.zc(n.u, 4)])
    const due = n.ring.cqes.splice(0).filter(({ flags }) => flags === F_NOTIF)
    expect(due.map(({ userData }) => userData)).toEqual(
      of(release, [
        [4, 3, 2, 1],
        [2, 4, 1, 3],
        [2, 4, 1, 3],
      ]),
    )
    const [sender, reader] = makeStreamPair(n.k, { room: 100 })
    n.ok(sender.send(new BufferIter(new Uint8Array(100)), null))
    const fd = n.fd(sender)
    n.submit([n.zc(fd, 5), n.zc(fd, 6)])
    n.seen()
    n.received(reader)
    const old = of(release, [true, false, false])
    expect(n.seen().map(([userData]) => userData)).toEqual(old ? [6, 5] : [5, 6])
  })

  it('R-URING-101 a send to a stalled stream that fails: over at once, or with the bytes before it', () => {
    const n = new Net(release)
    const hole = n.place(1)
    const old = of(release, [true, false, false])
    n.submit([n.zc(n.s, 1, { ...plain, addr: hole })])
    const failed = [1, '-EFAULT', 'more']
    expect(n.seen()).toEqual(old ? [failed, [1, 'copied', 'notif']] : [failed, [1, 0, 'notif']])
    n.submit([n.zc(n.s, 2, plain), n.zc(n.s, 3, { ...plain, addr: hole })])
    expect(n.seen().filter(([, , what]) => what === 'notif')).toEqual(old ? [[3, 'copied', 'notif']] : [])
    n.flow()
    expect(n.seen().map(([userData]) => userData)).toEqual(old ? [2] : [2, 3])
  })

  it('R-URING-102 a pending send of ordinary memory keeps what is replaced after it on old releases', () => {
    const n = new Net(release)
    n.submit([n.zc(n.s, 1, plain)])
    n.register2({ nr: 1, data: [{ base: n.a, length: P }], tags: [77] })
    n.update(0, [{ base: n.a + P, length: P }])
    n.k.settle()
    const old = of(release, [true, false, false])
    expect(n.pinned).toBe(old ? 2 : 1)
    n.flow()
    n.k.settle()
    expect(n.pinned).toBe(1)
    const order = n.seen().map(([userData]) => userData)
    expect(order).toEqual(old ? [1, 1, 77] : [1, 77, 1])
  })
})
