import { expect, it } from 'vitest'
import { IORING_OP_READV_FIXED, IORING_OP_WRITEV_FIXED, type Sqe } from '../../src/io_uring/request.ts'
import type { IovecArray } from '../../src/io_uring/user-args.ts'
import { fileWrite } from '../../src/mm/file-io.ts'
import { BufferIter } from '../../src/mm/iov-iter.ts'
import { makePipe, pipeWrite } from '../../src/task/pipe.ts'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { P, Rig } from './rig.ts'

/** A ring with a buffer of four pages, and a file that begins with the digits. */
class Vectors extends Rig {
  readonly b: number
  readonly source = this.memfd(0)
  readonly fd1: number

  constructor(release: (typeof RELEASE_NAMES)[number]) {
    super(release)
    this.b = this.anon(4)
    this.fd1 = this.fd(this.source)
    this.ok(fileWrite(this.k, this.source, 0, new BufferIter(new TextEncoder().encode('0123456789abcdef'))))
    this.buffer(this.b, 4 * P)
  }

  vector(opcode: number, iovecs: IovecArray, more: Partial<Sqe> = {}): number | string | null {
    const len = iovecs === 'unreadable' ? 1 : iovecs.length
    return this.request({ opcode, fd: this.fd1, iovecs, len, ...more })
  }

  text(offset: number, length: number): string {
    let text = ''
    for (let i = 0; i < length; i++) text += this.sees(this.b + offset + i)
    return text
  }
}

it('URING vector 67: READV_FIXED fills the pieces in order, also those that overlap; WRITEV_FIXED takes them back', () => {
  const v = new Vectors('6.18')
  const pieces = [
    { base: v.b, length: 5 },
    { base: v.b + 8190, length: 4 },
    { base: v.b + 2, length: 2 },
  ]
  expect(v.vector(IORING_OP_READV_FIXED, pieces)).toBe(11)
  expect([v.text(0, 6), v.text(8188, 6)]).toEqual(['019a4.', '..5678'])
  const target = v.memfd(0)
  expect(v.vector(IORING_OP_WRITEV_FIXED, pieces, { fd: v.fd(target) })).toBe(11)
  expect(v.fileText(target, 11)).toBe('019a456789a')
})

it('R-URING-103 what is refused, and in which order', () => {
  const v = new Vectors('6.18')
  const read = (iovecs: IovecArray, more: Partial<Sqe> = {}): number | string | null =>
    v.vector(IORING_OP_READV_FIXED, iovecs, more)
  const one = { base: v.b, length: 1 }
  const many = new Array<typeof one>(1024).fill(one)
  const writeOnly = v.fd(v.file(v.source.mapping.kind, 1, { readable: false }))
  expect(read([])).toBe(0)
  expect(read([], { bufIndex: 9 })).toBe('-EFAULT')
  expect(read([], { fd: 999 })).toBe('-EBADF')
  expect(read([], { iovecs: 'unreadable' })).toBe(0)
  expect(read(many)).toBe(16)
  expect(read([...many, one], { fd: 999, bufIndex: 9 })).toBe('-EINVAL')
  expect(read('unreadable', { fd: 999 })).toBe('-EFAULT')
  expect(read([one, { base: v.b, length: -1 }], { fd: 999 })).toBe('-EINVAL')
  expect(read([one], { fd: 999, bufIndex: 9 })).toBe('-EBADF')
  expect(read([one, { base: v.b, length: 0 }])).toBe('-EFAULT')
  expect(read([one, { base: v.b + 4 * P, length: 1 }])).toBe('-EFAULT')
  expect(read([one, { base: -(2 ** 47), length: 1 }])).toBe('-EFAULT')
  expect(read([one], { fd: writeOnly })).toBe('-EBADF')
  expect(read([one], { fd: writeOnly, bufIndex: 9 })).toBe('-EFAULT')
  expect(() => read([one, { base: v.b, length: 2 ** 30 }])).toThrow('Unmodelled')
})

it('R-URING-103 on an empty pipe it waits, and fills its pieces then', () => {
  const v = new Vectors('6.18')
  const pipe = makePipe(v.k)
  const pieces = [
    { base: v.b, length: 3 },
    { base: v.b + P, length: 9 },
  ]
  expect(v.vector(IORING_OP_READV_FIXED, pieces, { fd: v.fd(pipe.read) })).toBe(null)
  v.ok(pipeWrite(v.k, pipe.write, new BufferIter(new TextEncoder().encode('abcdef'))))
  v.k.scheduler.runUntilIdle()
  expect(v.completions()).toEqual([[99, 6]])
  expect([v.text(0, 4), v.text(P, 4)]).toEqual(['abc.', 'def.'])
})

it.each(RELEASE_NAMES.filter((name) => name !== '6.18'))(
  'R-URING-103 %s has no such operation',
  (release) => {
    const v = new Vectors(release)
    expect(v.vector(IORING_OP_READV_FIXED, [{ base: v.b, length: 1 }])).toBe('-EINVAL')
  },
)
