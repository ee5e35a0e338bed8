import { describe, expect, it } from 'vitest'
import type { Kthread } from '../../src/base/kthread.ts'
import { RELEASE_NAMES, type ReleaseName } from '../../src/base/release.ts'
import { BufferIter, UserIter } from '../../src/mm/iov-iter.ts'
import { makePipe, pipeRead, pipeWrite, type PipeEnd } from '../../src/task/pipe.ts'
import { P, World } from '../mm/fault-support.ts'
import { result } from '../support/kernel.ts'

class Pipes extends World {
  readonly read: PipeEnd
  readonly write: PipeEnd

  constructor(release: ReleaseName = '6.18') {
    super({ release })
    const { read, write } = makePipe(this.k, true)
    this.read = read
    this.write = write
  }

  io(body: Kthread<number>): number | string {
    return result(this.task.run(body))
  }

  /** Writes bytes 0, 1, 2, … */
  feed(length: number): number | string {
    return this.io(pipeWrite(this.k, this.write, new BufferIter(Uint8Array.from({ length }, (_, i) => i))))
  }

  drain(length: number): number | string {
    return this.io(pipeRead(this.k, this.read, new BufferIter(new Uint8Array(length))))
  }

  /** From or to user memory. */
  user(address: number, length: number): UserIter {
    return new UserIter(this.k, this.mm, [{ base: address, length }])
  }

  close(): void {
    this.read.put()
    this.write.put()
  }
}

describe('pipes', () => {
  it('FLT vector 75: sixteen pieces of pages; odd bytes go on in the last one', () => {
    const w = new Pipes()
    expect([w.feed(65536), w.feed(10), w.drain(10), w.feed(10)]).toEqual([65536, '-EAGAIN', 10, '-EAGAIN'])
    expect([w.drain(4086), w.feed(4000), w.feed(96), w.feed(96)]).toEqual([4086, 4000, 96, '-EAGAIN'])
    expect(w.drain(70_000)).toBe(15 * P + 4096)
    expect(w.drain(1)).toBe('-EAGAIN')
    w.close()
    expect(w.k.holders.size).toBe(2)
  })

  it('FLT vector 76: memory that cannot be read ends the write before the piece it lies in', () => {
    const w = new Pipes()
    const at = w.map(1)
    w.store(at, 1)
    const write = (from: number, length: number): number | string =>
      w.io(pipeWrite(w.k, w.write, w.user(from, length)))
    expect(write(at + 4086, 4106)).toBe('-EFAULT')
    expect([write(at, 10), write(at + 4086, 4106)]).toEqual([10, 10])
    expect([write(at, 2 * P), w.drain(100)]).toEqual([P, 100])
    // also where the write may sleep: it has not stopped for want of room
    const body = pipeWrite(w.k, w.write, w.user(at, 2 * P), false)
    expect(w.io(body)).toBe(P)
    w.close()
  })

  it.each(RELEASE_NAMES)('R-PIPE-2 a write that stops leaves an empty piece until 6.12: %s', (release) => {
    const w = new Pipes(release)
    const at = w.map(1)
    const write = (from: number, length: number): number | string =>
      w.io(pipeWrite(w.k, w.write, w.user(from, length)))
    expect(write(at + P, P)).toBe('-EFAULT')
    expect(write(at, 2 * P)).toBe(P)
    const pieces = (): number => w.read.pipe.buffers.length
    const newer = release === '6.18'
    expect(pieces()).toBe(newer ? 1 : 3)
    // odd bytes go on in the page of the empty piece
    expect(w.feed(100)).toBe(100)
    const left = newer ? 14 : 13
    expect(16 - pieces()).toBe(left)
    expect(w.feed(16 * P)).toBe(left * P)
    expect(w.drain(20 * P)).toBe(P + 100 + left * P)
    expect(w.drain(1)).toBe('-EAGAIN')
    w.close()
  })

  it('R-PIPE-1 a piece that cannot be stored stays; bytes come out as they went in', () => {
    const w = new Pipes()
    const at = w.map(1)
    w.store(at, 1)
    expect(w.feed(300)).toBe(300)
    expect(w.io(pipeRead(w.k, w.read, w.user(at + 4000, 200)))).toBe('-EFAULT')
    expect(w.io(pipeRead(w.k, w.read, w.user(at + 90, 200)))).toBe(200)
    expect([w.load(at + 90), w.load(at + 289)]).toEqual([0, 199])
    expect(w.drain(200)).toBe(100)
    w.close()
  })

  it('R-PIPE-1, R-PIPE-2 the wrong end, nothing to do, nobody on the other side', () => {
    const w = new Pipes()
    expect(w.io(pipeRead(w.k, w.write, new BufferIter(new Uint8Array(1))))).toBe('-EBADF')
    expect(w.io(pipeWrite(w.k, w.read, new BufferIter(new Uint8Array(1))))).toBe('-EBADF')
    expect([w.feed(0), w.drain(0), w.feed(1)]).toEqual([0, 0, 1])
    w.write.put()
    expect([w.drain(5), w.drain(5)]).toEqual([1, 0])
    w.read.put()
    const deaf = makePipe(w.k)
    deaf.read.put()
    expect(w.io(pipeWrite(w.k, deaf.write, new BufferIter(new Uint8Array(1))))).toBe('-EPIPE')
    deaf.write.put()
  })

  it('R-PIPE-1, R-PIPE-2 readers wait for bytes, writers for room; a signal ends the wait', () => {
    const w = new Pipes()
    const { scheduler } = w.k
    const into = new Uint8Array(3)
    const reader = scheduler.spawn('reader', w.task, pipeRead(w.k, w.read, new BufferIter(into), false))
    expect(scheduler.runUntilIdle()).toBe(false)
    expect(w.feed(3)).toBe(3)
    expect(scheduler.runUntilIdle()).toBe(true)
    expect([reader.result, [...into]]).toEqual([3, [0, 1, 2]])

    const writer = scheduler.spawn(
      'writer',
      w.task,
      pipeWrite(w.k, w.write, new BufferIter(new Uint8Array(70_000)), false),
    )
    expect(scheduler.runUntilIdle()).toBe(false)
    expect(w.drain(70_000)).toBe(65_536)
    expect(scheduler.runUntilIdle()).toBe(true)
    expect([writer.result, w.drain(70_000)]).toEqual([70_000, 4464])

    const idle = scheduler.spawn('idle', w.task, pipeRead(w.k, w.read, new BufferIter(into), false))
    scheduler.runUntilIdle()
    w.task.signalPending = true
    idle.signalled(false)
    expect(scheduler.runUntilIdle()).toBe(true)
    expect(result(idle.result!)).toBe('-EINTR')
    w.close()
  })

  it('what nobody has read goes with the pipe', () => {
    const w = new Pipes()
    expect(w.feed(5000)).toBe(5000)
    const again = w.write.get()
    w.close()
    expect(w.write.pipe.bytes).toBe(5000)
    again.put()
    expect(w.write.pipe.buffers).toEqual([])
  })
})
