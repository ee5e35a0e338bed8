import { describe, expect, it } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { IORING_REGISTER_DST_REPLACE } from '../../src/io_uring/clone.ts'
import type { IoUring } from '../../src/io_uring/io-uring.ts'
import { IORING_REGISTER_CLONE_BUFFERS } from '../../src/io_uring/register.ts'
import type { CloneBuffers } from '../../src/io_uring/user-args.ts'
import { makePipe } from '../../src/task/pipe.ts'
import { P, Rig, type Outcome } from './rig.ts'

const REPLACE = IORING_REGISTER_DST_REPLACE

class Pair extends Rig {
  readonly b: IoUring

  constructor(release: ReleaseName) {
    super(release)
    this.b = this.newRing()
  }

  /** Clones into a ring; from the first ring unless told otherwise. */
  clone(arg: Partial<CloneBuffers> = {}, into: IoUring = this.b): Outcome {
    const clone = { type: 'clone-buffers', source: this.ring, ...arg } as const
    return this.call(IORING_REGISTER_CLONE_BUFFERS, clone, 1, into)
  }

  /** n buffers of one page in the first ring. @returns the address of the first */
  pages(n: number): number {
    const a = this.anon(n)
    this.register(Array.from({ length: n }, (_, i) => ({ base: a + i * P, length: P })))
    return a
  }
}

const releases: ReleaseName[] = ['6.12', '6.18']

describe.each(releases)('CLONE_BUFFERS on %s', (release) => {
  const ranges = release === '6.18'

  it('URING vector 54: the pins and the charge stay until the last sharer lets go', () => {
    const rig = new Pair(release)
    const a = rig.pages(4)
    expect(rig.clone()).toEqual({ result: 0, acq: 0, rel: 0, vmPin: 0 })
    rig.store(a, 'A')
    const fd = rig.letters('R')
    expect(rig.request({ opcode: 4, fd, addr: a, len: 1 }, rig.b)).toBe(1)
    expect(rig.sees(a)).toBe('R')
    expect([rig.unregister(), rig.vmPin]).toEqual([{ result: 0, acq: 0, rel: 0, vmPin: 0 }, 4])
    expect(rig.unregister(rig.b)).toEqual({ result: 0, acq: 0, rel: 4, vmPin: -4 })
  })

  it('R-URING-71 clones have no tags and pin as long as a request runs', () => {
    const rig = new Pair(release)
    const a = rig.anon(1)
    rig.register2({ nr: 1, data: [{ base: a, length: P }], tags: [7] })
    rig.clone()
    const { read, write } = makePipe(rig.k)
    expect(rig.request({ opcode: 4, fd: rig.fd(read), addr: a, len: 1 }, rig.b)).toBeNull()
    rig.unregister()
    if (ranges) rig.unregister(rig.b)
    else rig.b.file.put()
    expect(rig.completions()).toEqual(ranges ? [[7, 0]] : [])
    expect(rig.pinned).toBe(ranges ? 1 : 0)
    write.put()
    rig.k.scheduler.runUntilIdle()
    expect([rig.pinned, rig.completions(rig.b)]).toEqual([0, ranges ? [[99, 0]] : []])
  })

  it('URING vector 55: ranges that do not fit', () => {
    const rig = new Pair(release)
    rig.pages(4)
    const reserved = '-EINVAL'
    expect(rig.clone({ srcOff: 2, nr: 3 }).result).toBe(ranges ? '-EOVERFLOW' : reserved)
    expect(rig.clone({ nr: 5 }).result).toBe('-EINVAL')
    expect(rig.clone({ srcOff: 1 }).result).toBe('-EINVAL')
    if (!ranges) return
    expect(rig.clone({ dstOff: 0xfffffffe, nr: 4 }).result).toBe('-EOVERFLOW')
    expect(rig.clone({ dstOff: 16381, nr: 4 }).result).toBe('-EINVAL')
    expect(rig.clone({ srcOff: 1, dstOff: 3, nr: 2 })).toMatchObject({ result: 0, vmPin: 0 })
    const slots = [0, 1, 2, 3, 4, 5].map((slot) => rig.b.buffers!.buffer(slot) !== null)
    expect(slots).toEqual([false, false, false, true, true, false])
  })

  it('URING vector 56, R-URING-75: rings that are charged to different accounts', () => {
    const rig = new Pair(release)
    rig.pages(1)
    const child = rig.fork()
    const others = rig.newRing({}, child)
    const clone = { type: 'clone-buffers', source: rig.ring } as const
    expect(rig.call(IORING_REGISTER_CLONE_BUFFERS, clone, 1, others, child).result).toBe('-EINVAL')
    expect(rig.call(IORING_REGISTER_CLONE_BUFFERS, clone, 1, rig.b, child).result).toBe(0)
    rig.task.capabilities.delete('CAP_IPC_LOCK')
    expect(rig.clone({}, rig.newRing()).result).toBe('-EINVAL')
    rig.exit(child)
  })

  it('R-URING-72, R-URING-73 order of the checks', () => {
    const rig = new Pair(release)
    expect(rig.clone().result).toBe('-ENXIO')
    expect(rig.clone({ source: 'closed' }).result).toBe('-EBADF')
    expect(rig.clone({ source: 'other-file' }).result).toBe('-EOPNOTSUPP')
    expect(rig.clone({ pad: 1, source: 'closed' }).result).toBe('-EINVAL')
    expect(rig.clone({ flags: 4, source: 'closed' }).result).toBe('-EINVAL')
    expect(rig.call(IORING_REGISTER_CLONE_BUFFERS, 'unreadable', 1, rig.b).result).toBe('-EFAULT')
    expect(rig.call(IORING_REGISTER_CLONE_BUFFERS, null, 1, rig.b).result).toBe('-EINVAL')
    rig.sparse(1, rig.b)
    expect(rig.call(IORING_REGISTER_CLONE_BUFFERS, 'unreadable', 1, rig.b).result).toBe(
      ranges ? '-EFAULT' : '-EBUSY',
    )
    expect(rig.clone({ flags: 4 }).result).toBe(ranges ? '-EINVAL' : '-EBUSY')
    expect(rig.clone({ pad: 1, source: 'closed' }).result).toBe('-EBUSY')
  })

  if (!ranges) return

  it('R-URING-74 replacing keeps what lies outside the range; a ring can clone itself', () => {
    const rig = new Pair(release)
    const a = rig.pages(3)
    const own = rig.anon(4)
    const data = [0, 1, 2, 3].map((i) => ({ base: own + i * P, length: P }))
    rig.register2({ nr: 4, data, tags: [10, 11, 12, 13] }, rig.b)
    expect(rig.clone({ flags: REPLACE, dstOff: 1, nr: 2 })).toMatchObject({
      result: 0,
      acq: 0,
      rel: 2,
      vmPin: -2,
    })
    expect(rig.completions(rig.b)).toEqual([
      [12, 0],
      [11, 0],
    ])
    const bases = (ring: IoUring): (number | undefined)[] =>
      [0, 1, 2, 3, 4].map((slot) => ring.buffers!.buffer(slot)?.ubuf)
    expect(bases(rig.b)).toEqual([own, a, a + P, own + 3 * P, undefined])
    expect(rig.clone({ source: rig.b, flags: REPLACE, srcOff: 1, dstOff: 3, nr: 2 }).result).toBe(0)
    expect(bases(rig.b)).toEqual([own, a, a + P, a, a + P])
    rig.sparse(2, rig.newRing())
    const sparse = rig.newRing()
    rig.sparse(2, sparse)
    expect(rig.clone({ source: sparse, flags: REPLACE, dstOff: 0 }).result).toBe(0)
    expect(bases(rig.b)).toEqual([undefined, undefined, a + P, a, a + P])
  })

  it('R-URING-73 a source that belongs to another task', () => {
    const rig = new Pair(release)
    const child = rig.fork()
    const theirs = rig.newRing({ flags: 1 << 12 }, child)
    expect(rig.clone({ source: theirs }).result).toBe('-EEXIST')
    rig.exit(child)
  })
})
