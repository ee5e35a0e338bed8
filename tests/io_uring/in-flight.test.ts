import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import type { IoUring } from '../../src/io_uring/io-uring.ts'
import {
  IORING_REGISTER_ENABLE_RINGS,
  IORING_REGISTER_RESTRICTIONS,
  IORING_UNREGISTER_BUFFERS,
  ioUringRegister,
} from '../../src/io_uring/register.ts'
import {
  IORING_OP_READ,
  IORING_OP_READ_FIXED,
  IORING_OP_WRITE,
  IORING_OP_WRITE_FIXED,
} from '../../src/io_uring/request.ts'
import {
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_R_DISABLED,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SUBMIT_ALL,
} from '../../src/io_uring/setup-flags.ts'
import { BufferIter } from '../../src/mm/iov-iter.ts'
import { makePipe, pipeRead, pipeWrite, type PipeEnd } from '../../src/task/pipe.ts'
import { result } from '../support/kernel.ts'
import { P, Rig } from './rig.ts'

/** A ring with a buffer of two pages, and a pipe that is empty. */
class Flight extends Rig {
  readonly pipe: { read: PipeEnd; write: PipeEnd }
  readonly r: number
  readonly w: number
  readonly a: number

  constructor(release: (typeof RELEASE_NAMES)[number], flags = 0) {
    super(release, { setup: { entries: 8, flags } })
    this.pipe = makePipe(this.k, true)
    this.r = this.fd(this.pipe.read)
    this.w = this.fd(this.pipe.write)
    this.a = this.anon(2)
    this.store(this.a, 'A')
  }

  /** READ_FIXED of ten bytes from the pipe. */
  reads(userData: number, addr = this.a, more: object = {}): void {
    this.submit([{ opcode: IORING_OP_READ_FIXED, fd: this.r, addr, len: 10, userData, ...more }])
  }

  feed(text: string): void {
    this.ok(pipeWrite(this.k, this.pipe.write, new BufferIter(new TextEncoder().encode(text))))
    this.k.scheduler.runUntilIdle()
  }

  drain(length: number): number {
    const n = this.task.run(pipeRead(this.k, this.pipe.read, new BufferIter(new Uint8Array(length))))
    this.k.scheduler.runUntilIdle()
    return n
  }
}

describe.each(RELEASE_NAMES)('%s', (release) => {
  const waits = release !== '6.18'
  const late = release === '6.1' || release === 'gup-v3'

  it('R-URING-96 a read from an empty pipe waits, although the pipe is not to block', () => {
    const f = new Flight(release)
    f.buffer(f.a, P)
    f.reads(1)
    expect(f.completions()).toEqual([])
    f.feed('hello')
    expect(f.completions()).toEqual([[1, 5]])
    expect([f.sees(f.a), f.sees(f.a + 4)]).toEqual(['h', 'o'])
    expect(f.request({ opcode: IORING_OP_READ, fd: f.w, addr: f.a, len: 1 })).toBe('-EBADF')
    f.reads(2)
    f.files.close(f.w)
    f.k.scheduler.runUntilIdle()
    expect(f.completions()).toEqual([[2, 0]])
  })

  it('R-URING-96 which of several readers goes first; who goes away empty-handed waits again', () => {
    const f = new Flight(release)
    f.buffer(f.a, P)
    for (const i of [1, 2, 3]) f.reads(i)
    const newestFirst = !late && release !== '6.6'
    f.feed('short')
    expect(f.completions()).toEqual([[newestFirst ? 3 : 1, 5]])
    f.feed('long enough for two and more')
    expect(f.completions()).toEqual(
      newestFirst
        ? [
            [1, 10],
            [2, 10],
          ]
        : [
            [2, 10],
            [3, 10],
          ],
    )
    expect(f.drain(100)).toBe(8)
  })

  it('R-URING-96 a write that fails has woken the readers: they wait again, in the order they were woken', () => {
    const f = new Flight(release)
    f.buffer(f.a, P)
    for (const i of [1, 2]) f.reads(i)
    const nowhere = { opcode: IORING_OP_WRITE, fd: f.w, addr: f.place(1), len: 8 }
    expect(f.request(nowhere)).toBe('-EFAULT')
    f.feed('short')
    // newest first twice is oldest first
    expect(f.completions()).toEqual([[1, 5]])
  })

  it('R-URING-96 what the completion of one request wakes goes on, too', () => {
    const f = new Flight(release)
    const big = f.anon(16)
    f.feed('x'.repeat(65536))
    f.submit([{ opcode: IORING_OP_WRITE, fd: f.w, addr: f.a, len: 4, userData: 1 }])
    // the request holds the last writing end
    f.files.close(f.w)
    const read = (userData: number, addr: number, len: number) => ({
      opcode: IORING_OP_READ,
      fd: f.r,
      addr,
      len,
      userData,
    })
    f.submit([read(2, big, 65536), read(3, f.a, 10), read(4, f.a, 10)])
    f.k.scheduler.runUntilIdle()
    const results = new Map(f.completions())
    expect([results.get(1), results.get(2)]).toEqual([4, 65536])
    // one gets the four bytes, the other one the end of the pipe
    const newestFirst = release === '6.12' || release === '6.18'
    expect([results.get(3), results.get(4)]).toEqual(newestFirst ? [0, 4] : [4, 0])
  })

  it('R-URING-96 a write to a full pipe waits for room and takes what there is', () => {
    const f = new Flight(release)
    f.buffer(f.a, 2 * P)
    f.feed('x'.repeat(65536))
    f.submit([{ opcode: IORING_OP_WRITE_FIXED, fd: f.w, addr: f.a, len: 2 * P, userData: 1 }])
    expect([f.drain(100), f.completions()]).toEqual([100, []])
    expect(f.drain(P - 100)).toBe(P - 100)
    expect(f.completions()).toEqual([[1, P]])
  })

  it('R-URING-20, R-URING-52 a replaced buffer stays while a request works on it; its tag comes last', () => {
    const f = new Flight(release)
    const b = f.anon(1)
    expect(f.register2({ nr: 1, data: [{ base: f.a, length: P }], tags: [7] }).result).toBe(0)
    f.reads(1)
    expect(f.update(0, [{ base: b, length: P }])).toMatchObject({ result: 1, acq: 1, rel: 0, vmPin: 1 })
    f.k.settle()
    expect([f.pinned, f.completions()]).toEqual([2, []])
    expect(f.readFixed(f.letters('n'), b, 1)).toBe(1)
    f.feed('old')
    f.k.settle()
    expect([f.sees(f.a), f.sees(b)]).toEqual(['o', 'n'])
    expect(f.completions()).toEqual([
      [1, 3],
      [7, 0],
    ])
    expect([f.pinned, f.vmPin]).toEqual([1, 1])
  })

  it('R-URING-20 a request holds up other slots until 6.12; what waited goes in order, on 6.1 backwards', () => {
    const f = new Flight(release)
    const [b, c] = [f.anon(1), f.anon(1)]
    const data = [f.a, b, c].map((base) => ({ base, length: P }))
    f.register2({ nr: 3, data, tags: [10, 11, 12] })
    f.reads(1)
    f.update(1, [{ base: 0, length: 0 }])
    f.k.settle()
    f.reads(2, c, { bufIndex: 2 })
    f.update(2, [{ base: 0, length: 0 }])
    f.k.settle()
    expect(f.completions()).toEqual(waits ? [] : [[11, 0]])
    expect(f.pinned).toBe(waits ? 3 : 2)
    f.feed('0123456789abcdefghij')
    f.k.settle()
    const tags = f.completions().flatMap(([userData]) => (userData > 9 ? [userData] : []))
    // a work item takes what has gathered from its end
    const both = late ? [12, 11] : [11, 12]
    expect(tags).toEqual(waits ? both : [12])
    expect(f.pinned).toBe(1)
  })

  if (late) {
    it('R-URING-20 released late, but at once by UNREGISTER and by the end of the ring', () => {
      for (const how of ['time', 'unregister', 'end']) {
        const f = new Flight(release)
        f.register2({
          nr: 2,
          data: [
            { base: f.a, length: P },
            { base: 0, length: 0 },
          ],
          tags: [7, 0],
        })
        f.update(0, [{ base: 0, length: 0 }])
        expect([f.pinned, f.vmPin, f.completions()]).toEqual([1, 1, []])
        if (how === 'time') f.k.settle()
        else if (how === 'unregister') expect(f.unregister().result).toBe(0)
        else f.ring.file.put()
        expect([f.pinned, f.vmPin]).toEqual([0, 0])
        expect(f.completions()).toEqual(how === 'end' ? [] : [[7, 0]])
      }
    })
  }

  if (waits) {
    it('URING vector 51: UNREGISTER waits for a pending READ_FIXED; meanwhile nothing can be done', () => {
      const f = new Flight(release)
      f.buffer(f.a, P)
      f.reads(1)
      const { scheduler } = f.k
      const call = ioUringRegister(f.k, f.ring, IORING_UNREGISTER_BUFFERS, null, 0)
      const unregister = scheduler.spawn('unregister', f.task, call)
      scheduler.runUntilIdle()
      expect(unregister.done).toBe(false)
      expect(f.unregister().result).toBe('-ENXIO')
      expect(f.buffer(f.a, P).result).toBe('-EBUSY')
      expect(f.update(0, [{ base: f.a, length: P }]).result).toBe('-EINVAL')
      expect(f.readFixed(f.letters('x'), f.a, 1)).toBe('-EFAULT')
      f.feed('old')
      expect([unregister.result, f.sees(f.a), f.vmPin]).toEqual([0, 'o', 0])
      expect(f.completions()).toEqual([[1, 3]])
    })

    it('R-URING-21 a signal ends the wait with EINTR and the table stays', () => {
      const f = new Flight(release)
      f.buffer(f.a, P)
      f.reads(1)
      const { scheduler } = f.k
      const call = ioUringRegister(f.k, f.ring, IORING_UNREGISTER_BUFFERS, null, 0)
      const unregister = scheduler.spawn('unregister', f.task, call)
      scheduler.runUntilIdle()
      f.task.signalPending = true
      unregister.signalled(false)
      scheduler.runUntilIdle()
      f.task.signalPending = false
      expect(result(unregister.result!)).toBe('-EINTR')
      expect([f.vmPin, f.readFixed(f.letters('x'), f.a, 1)]).toEqual([1, 1])
      f.feed('old')
      expect(f.unregister()).toMatchObject({ result: 0, rel: 1, vmPin: -1 })
    })
  } else {
    it('URING vector 51: UNREGISTER returns at once; the pending READ_FIXED lands in the old pages', () => {
      const f = new Flight(release)
      const b = f.anon(1)
      f.register2({ nr: 1, data: [{ base: f.a, length: 2 * P }], tags: [7] })
      f.reads(1)
      expect(f.unregister()).toMatchObject({ result: 0, rel: 0, vmPin: 0 })
      expect(f.unregister().result).toBe('-ENXIO')
      expect(f.buffer(b, P)).toMatchObject({ result: 0, acq: 1, vmPin: 1 })
      expect([f.pinned, f.vmPin]).toEqual([3, 3])
      f.feed('old')
      expect([f.sees(f.a), f.sees(b)]).toEqual(['o', '.'])
      expect([f.pinned, f.vmPin]).toEqual([1, 1])
      expect(f.completions()).toEqual([
        [1, 3],
        [7, 0],
      ])
    })
  }

  it('R-URING-66 the end of a ring cancels its requests and releases everything', () => {
    const f = new Flight(release)
    f.buffer(f.a, 2 * P)
    f.reads(1)
    f.unmap(f.a, 2)
    f.ring.file.put()
    expect([f.pinned, f.vmPin, f.completions()]).toEqual([0, 0, []])
    f.feed('nobody')
    expect(f.drain(10)).toBe(6)
  })

  it('R-URING-97 a task that exits takes its requests with it, those of others go on', () => {
    const f = new Flight(release)
    f.buffer(f.a, P)
    const child = f.fork()
    f.reads(1)
    f.submit([{ opcode: IORING_OP_READ, fd: f.r, addr: f.a + 100, len: 10, userData: 2 }], f.ring, child)
    f.exit(child)
    expect(f.completions()).toEqual([[2, '-ECANCELED']])
    f.feed('parent')
    expect(f.completions()).toEqual([[1, 6]])
  })

  it('R-URING-93 a waiting READ goes to the memory of the task that submitted it, as it is mapped then', () => {
    const f = new Flight(release)
    const child = f.fork()
    const read = { opcode: IORING_OP_READ, fd: f.r, addr: f.a, len: 10 }
    f.submit([{ ...read, userData: 1 }], f.ring, child)
    f.feed('child')
    expect([f.sees(f.a), f.sees(f.a, child)]).toEqual(['A', 'c'])
    f.submit([{ ...read, userData: 2 }])
    f.unmap(f.a, 2)
    f.feed('lost')
    expect(f.completions()).toEqual([
      [1, 5],
      [2, '-EFAULT'],
    ])
    f.exit(child)
  })

  it('R-URING-94 completions that find the queue full wait until there is room', () => {
    const f = new Flight(release)
    const small: IoUring = f.newRing({ entries: 1 })
    for (const userData of [1, 2, 3]) f.submit([{ opcode: 0, userData }], small)
    expect(f.completions(small)).toEqual([
      [1, 0],
      [2, 0],
    ])
    f.submit([], small)
    expect(f.completions(small)).toEqual([[3, 0]])
  })

  it('R-URING-92 which rings take requests', () => {
    const f = new Flight(release)
    const disabled = f.newRing({ flags: IORING_SETUP_R_DISABLED })
    expect(f.submit([{ opcode: 0 }], disabled)).toBe('-EBADFD')
    const other = f.fork()
    const own = f.newRing({ flags: IORING_SETUP_SINGLE_ISSUER })
    expect([f.submit([{ opcode: 0 }], own, other), f.submit([], own)]).toEqual(['-EEXIST', 1])
    const all = f.newRing({ flags: IORING_SETUP_SUBMIT_ALL })
    expect(f.submit([{ opcode: 99 }, { opcode: 0, flags: 0x80 }, { opcode: 0, flags: 32 }], all)).toBe(3)
    expect(f.completions(all).map(([, res]) => res)).toEqual(['-EINVAL', '-EINVAL', '-EOPNOTSUPP'])
    f.exit(other)
  })

  it('R-URING-4 a restricted ring refuses operations and flags that were not allowed', () => {
    const f = new Flight(release)
    const ring = f.newRing({ flags: IORING_SETUP_R_DISABLED })
    const restrictions = [
      { allow: 'sqe-op', opcode: 0 },
      { allow: 'sqe-op', opcode: 5 },
      { allow: 'sqe-flags', flags: 16 },
    ] as const
    const arg = { type: 'restrictions', restrictions } as const
    expect(f.call(IORING_REGISTER_RESTRICTIONS, arg, 3, ring).result).toBe(0)
    expect(f.call(IORING_REGISTER_ENABLE_RINGS, null, 0, ring).result).toBe(0)
    const tried = [{ opcode: 0 }, { opcode: 4 }, { opcode: 0, flags: 16 }, { opcode: 0, flags: 64 }]
    expect(tried.map((sqe) => f.request(sqe, ring))).toEqual([0, '-EACCES', 0, '-EACCES'])
  })

  it('R-URING-95 NOP and its flags', () => {
    const f = new Flight(release)
    const flags = { 'gup-v3': 0, '6.1': 0, '6.6': 0, '6.12': 1, '6.18': 0x1f }[release]
    for (const opFlags of [1, 2, 4, 8, 16, 32]) {
      const done = f.request({ opcode: 0, fd: 99, len: 77, opFlags, bufIndex: 3 })
      const known = { 1: 77, 2: '-EBADF', 4: 0, 8: '-EFAULT', 16: 0 }[opFlags]
      expect([opFlags, done]).toEqual([opFlags, (flags & opFlags) === 0 ? '-EINVAL' : known])
    }
    f.buffer(f.a, P)
    if (flags > 1) expect(f.request({ opcode: 0, opFlags: 8 })).toBe(0)
  })

  it('R-URING-96 on a DEFER_TASKRUN ring a woken request goes on when its task asks for completions', () => {
    const f = new Flight(release, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)
    f.buffer(f.a, P)
    f.reads(1)
    f.feed('later')
    expect([f.sees(f.a), f.completions()]).toEqual(['A', []])
    f.submit([])
    expect([f.sees(f.a), f.completions()]).toEqual(['l', [[1, 5]]])
  })
})
