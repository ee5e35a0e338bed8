import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_DONTNEED } from '../../src/mm/mman.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { BufferIter, UserIter } from '../../src/mm/iov-iter.ts'
import type { IovecArray } from '../../src/mm/iovec.ts'
import { makePipe, pipeRead, pipeWrite, type PipeEnd } from '../../src/task/pipe.ts'
import { SPLICE_F_GIFT, SPLICE_F_NONBLOCK, vmsplice } from '../../src/task/vmsplice.ts'
import { P, World } from '../mm/fault-support.ts'
import { result, testTask } from '../support/kernel.ts'

class Splices extends World {
  readonly read: PipeEnd
  readonly write: PipeEnd

  constructor(release: (typeof RELEASE_NAMES)[number] = '6.18') {
    super({ release })
    const { read, write } = makePipe(this.k, true)
    this.read = read
    this.write = write
  }

  vector(iovecs: IovecArray, flags = SPLICE_F_NONBLOCK, end = this.write): number | string {
    const count = iovecs === 'unreadable' ? 1 : iovecs.length
    return result(this.task.run(vmsplice(this.k, end, iovecs, count, flags)))
  }

  splice(base: number, length = P): number | string {
    return this.vector([{ base, length }])
  }

  /** The next `n` bytes of the pipe. */
  bytes(n: number): number[] {
    const into = new Uint8Array(n)
    expect(this.task.run(pipeRead(this.k, this.read, new BufferIter(into)))).toBe(n)
    return [...into]
  }

  close(): void {
    this.read.put()
    this.write.put()
  }
}

describe('vmsplice', () => {
  it.each(RELEASE_NAMES)(
    'R-PIPE-3 an empty piece ends what was begun and is passed over at the beginning: %s',
    (release) => {
      const w = new Splices(release)
      const at = w.map(1)
      const into = w.map(4)
      const out = (): number | string => w.vector([{ base: into, length: 4 * P }], SPLICE_F_NONBLOCK, w.read)
      // the second page cannot be read: up to 6.12 its place is taken
      const stopped = (from: number, length: number): number | string =>
        result(w.task.run(pipeWrite(w.k, w.write, new UserIter(w.k, w.mm, [{ base: from, length }]))))
      expect(stopped(at, 2 * P)).toBe(P)
      expect(w.splice(at)).toBe(P)
      const newer = release === '6.18'
      expect([out(), out()]).toEqual(newer ? [2 * P, '-EAGAIN'] : [P, P])
      // read(2) passes over it
      expect(stopped(at, 2 * P)).toBe(P)
      expect(w.splice(at)).toBe(P)
      expect(w.bytes(2 * P).length).toBe(2 * P)
      w.close()
    },
  )

  it.each(RELEASE_NAMES)(
    'FLT vector 77: the places of the pipe decide, the batch is faulted in: %s',
    (release) => {
      const w = new Splices(release)
      const at = w.map(4)
      for (let i = 0; i < 15; i++) expect(w.splice(at, 1)).toBe(1)
      expect(w.splice(at + P, 2 * P)).toBe(P)
      expect([w.faults(at + P), w.faults(at + 2 * P)]).toEqual([0, 0])
      expect(w.splice(at, 1)).toBe('-EAGAIN')
      expect(w.splice(0x1000)).toBe('-EAGAIN')
      w.close()
    },
  )

  it('FLT vector 78: what cannot be had ends it', () => {
    const w = new Splices()
    const at = w.map(3)
    w.task.run(munmap(w.k, w.mm, at + P, P))
    expect([w.splice(at, 3 * P), w.splice(at + P)]).toEqual([P, '-EFAULT'])
    expect(w.task.refusal).toMatchObject({ rule: 'R-PIPE-4', cause: { rule: 'R-GUP-15' } })
    w.close()
  })

  it('FLT vector 79, R-PIPE-5: the pipe shows what the page holds when it is read', () => {
    const w = new Splices()
    const at = w.map(2)
    w.store(at, 1)
    w.splice(at, 2)
    w.store(at, 2)
    expect(w.bytes(2)).toEqual([2, 0])
    w.splice(at, 1)
    w.task.run(munmap(w.k, w.mm, at, P))
    expect(w.bytes(1)).toEqual([2])
    w.store(at + P, 3)
    w.splice(at + P, 1)
    w.task.run(madvise(w.k, w.mm, at + P, P, MADV_DONTNEED))
    w.store(at + P, 4)
    expect(w.bytes(1)).toEqual([3])
    w.close()
  })

  it('FLT vector 80, R-PIPE-5: a page that COW left behind comes out as it was', () => {
    const w = new Splices()
    const at = w.map(1)
    w.store(at, 1)
    w.splice(at, 1)
    const child = w.fork()
    w.store(at, 2)
    w.exit(child)
    w.exit(w.mm)
    w.task.mm = null
    expect(w.bytes(1)).toEqual([1])
    w.close()
  })

  it('R-PIPE-3 checks flags, descriptor, vector, and the state of the pipe last', () => {
    const w = new Splices()
    const at = w.map(1)
    const one = [{ base: at, length: P }]
    expect(w.vector(one, 16)).toBe('-EINVAL')
    expect(result(w.task.run(vmsplice(w.k, null, one, 1, 0)))).toBe('-EBADF')
    w.read.put()
    expect(w.vector([{ base: at, length: -1 }])).toBe('-EINVAL')
    expect(w.vector('unreadable')).toBe('-EFAULT')
    expect(w.vector([{ base: 2 ** 47, length: 1 }])).toBe('-EFAULT')
    expect(w.vector([{ base: 2 ** 47 - P, length: 0 }])).toBe(0)
    expect(w.vector(one, SPLICE_F_NONBLOCK | SPLICE_F_GIFT)).toBe('-EPIPE')
    w.write.put()
  })

  it('R-PIPE-3 waits without SPLICE_F_NONBLOCK, O_NONBLOCK or not', () => {
    const w = new Splices()
    const at = w.map(1)
    for (let i = 0; i < 16; i++) w.splice(at, 1)
    const other = testTask(w.k, { mm: w.mm, comm: 'reader' })
    let spliced = 0
    w.k.scheduler.spawn(
      'writer',
      w.task,
      (function* () {
        spliced = yield* vmsplice(w.k, w.write, [{ base: at, length: 5 }], 1, 0)
      })(),
    )
    expect(spliced).toBe(0)
    other.run(pipeRead(w.k, w.read, new BufferIter(new Uint8Array(1))))
    w.k.scheduler.run()
    expect(spliced).toBe(5)
    w.close()
  })

  it('R-PIPE-3 out of the reading end bytes are copied', () => {
    const w = new Splices()
    const at = w.map(2)
    w.store(at, 7)
    w.splice(at, 100)
    expect(w.vector([{ base: at + P, length: 50 }], SPLICE_F_NONBLOCK, w.read)).toBe(50)
    expect(w.load(at + P)).toBe(7)
    expect(w.vector([{ base: 0x1000, length: 50 }], SPLICE_F_NONBLOCK, w.read)).toBe('-EFAULT')
    expect(w.vector([{ base: at, length: 80 }], SPLICE_F_NONBLOCK, w.read)).toBe(50)
    expect(w.vector([{ base: at, length: 80 }], SPLICE_F_NONBLOCK, w.read)).toBe('-EAGAIN')
    w.close()
  })
})
