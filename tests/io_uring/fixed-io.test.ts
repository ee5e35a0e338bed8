import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED } from '../../src/io_uring/request.ts'
import { regularFileKind } from '../../src/mm/file.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_DONTNEED, MAP_PRIVATE, MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE } from '../../src/mm/mman.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { punchHole, truncateFile } from '../../src/mm/truncate.ts'
import { P, PROT_READ, RW, Rig } from './rig.ts'

describe.each(RELEASE_NAMES)('%s', (release) => {
  /** Four pages, the first full of As where it is looked at, registered in slot 0. */
  function registered(kind: 'private' | 'shared' = 'private'): { rig: Rig; a: number } {
    const rig = new Rig(release)
    const a = kind === 'private' ? rig.anon(4) : rig.mapped(rig.memfd(4), 4, RW, MAP_SHARED)
    rig.store(a, 'A')
    expect(rig.buffer(a, 4 * P).result).toBe(0)
    return { rig, a }
  }

  const dontneed = (rig: Rig, at: number): void =>
    rig.ok(madvise(rig.k, rig.task.space, at, 4 * P, MADV_DONTNEED))

  it('URING vector 38: a child works on its parent’s pages', () => {
    const { rig, a } = registered()
    const child = rig.fork()
    rig.store(a, 'c', child)
    expect(rig.sent(a, child)).toBe('A')
    expect([rig.sees(a), rig.sees(a, child)]).toEqual(['A', 'c'])
    // R-URING-63: a read after the fork is seen by the parent only
    expect(rig.readFixed(rig.letters('R'), a, 1)).toBe(1)
    expect([rig.sees(a), rig.sees(a, child)]).toEqual(['R', 'c'])
    rig.exit(child)
  })

  it('R-URING-67 a child that registers on an inherited ring pins its own pages; they outlive it', () => {
    const rig = new Rig(release)
    const a = rig.anon(1)
    rig.store(a, 'A')
    const child = rig.fork()
    rig.store(a, 'c', child)
    expect(rig.buffer(a, P, rig.ring, child)).toMatchObject({ result: 0, vmPin: 1 })
    rig.exit(child)
    expect(rig.sent(a)).toBe('c')
  })

  it('URING vector 39: after munmap the old address still sends and stores the old bytes', () => {
    const { rig, a } = registered()
    rig.unmap(a, 4)
    expect(rig.sent(a)).toBe('A')
    expect(rig.readFixed(rig.letters('R'), a, P)).toBe(P)
    expect([rig.sent(a), rig.sees(a)]).toEqual(['R', 'SIGSEGV'])
    expect(rig.vmPin).toBe(4)
  })

  it('AS vector 55: munmap and a new mapping in its place do not reach what is registered', () => {
    const { rig, a } = registered()
    for (let i = 0; i < 4; i++) rig.touch(a + i * P)
    const anon = rig.task.space.rssAnon
    rig.unmap(a, 4)
    expect(anon - rig.task.space.rssAnon).toBe(4)
    rig.anon(4, RW, a)
    rig.store(a, 'N')
    expect([rig.sent(a), rig.sees(a), rig.vmPin]).toEqual(['A', 'N', 4])
    expect(rig.unregister()).toMatchObject({ result: 0, vmPin: -4 })
  })

  it('FLT vector 28: a read after MADV_DONTNEED fills the pinned page, nothing else', () => {
    const { rig, a } = registered()
    dontneed(rig, a)
    const fd = rig.letters('\xab')
    expect(rig.readFixed(fd, a, P)).toBe(P)
    expect(rig.sees(a)).toBe('.')
    expect(rig.sent(a)).toBe('\xab')
  })

  it('URING vector 40: after MADV_DONTNEED of private memory a read lands where nobody looks', () => {
    const { rig, a } = registered()
    dontneed(rig, a)
    expect(rig.readFixed(rig.letters('R'), a, 1)).toBe(1)
    expect(rig.sees(a)).toBe('.')
    rig.store(a, 'N')
    expect(rig.sent(a)).toBe('R')
  })

  it('URING vector 41: after MADV_DONTNEED of shared memory the same page comes back', () => {
    const { rig, a } = registered('shared')
    dontneed(rig, a)
    expect(rig.readFixed(rig.letters('R'), a, 1)).toBe(1)
    expect(rig.sees(a)).toBe('R')
    rig.store(a, 'W')
    expect(rig.sent(a)).toBe('W')
  })

  it('URING vector 42: after a hole was punched the file and the buffer go separate ways', () => {
    const rig = new Rig(release)
    const file = rig.memfd(4)
    const a = rig.map(4, RW, MAP_SHARED, file)
    rig.store(a, 'A')
    expect(rig.buffer(a, 4 * P).result).toBe(0)
    rig.ok(punchHole(rig.k, file.mapping, 0, P))
    rig.store(a, 'N')
    expect([rig.sent(a), rig.fileText(file, 1)]).toEqual(['A', 'N'])
    rig.ok(truncateFile(rig.k, file.mapping, 0))
    expect([rig.sent(a), rig.sees(a)]).toEqual(['A', 'SIGBUS'])
    file.put()
  })

  it('URING vector 43: memory made read-only takes what is read', () => {
    const { rig, a } = registered()
    rig.protect(a, 4, PROT_READ)
    expect(rig.readFixed(rig.letters('R'), a, 1)).toBe(1)
    expect(rig.sees(a)).toBe('R')
  })

  it('URING vector 44: after mremap the old address is the buffer’s, the new one nobody’s', () => {
    const { rig, a } = registered()
    const b = rig.place(4)
    const flags = MREMAP_MAYMOVE | MREMAP_FIXED
    rig.ok(mremap(rig.k, rig.task.space, a, 4 * P, 4 * P, flags, b))
    expect(rig.writeFixed(rig.fd(rig.memfd(1)), b, 1)).toBe('-EFAULT')
    rig.store(b, 'B')
    expect(rig.sent(a)).toBe('B')
  })

  it('URING vector 45, R-URING-56: the range must lie in the buffer, also an empty one', () => {
    const rig = new Rig(release)
    const a = rig.anon(1)
    expect(rig.buffer(a + 100, 1000).result).toBe(0)
    const fd = rig.letters('x', 2 * P)
    const read = (from: number, len: number): number | string | null => rig.readFixed(fd, from, len)
    expect([read(a + 1100, 0), read(a + 1100, 1), read(a + 1101, 0), read(a + 99, 1)]).toEqual([
      0,
      '-EFAULT',
      '-EFAULT',
      '-EFAULT',
    ])
    expect([
      read(a + 100, 1000),
      read(a + 100, 1001),
      read(0, 0),
      read(-P, 1),
      read(2 ** 64 - 8, 16),
    ]).toEqual([1000, '-EFAULT', '-EFAULT', '-EFAULT', '-EFAULT'])
    expect([rig.sees(a + 99), rig.sees(a + 100), rig.sees(a + 1099), rig.sees(a + 1100)]).toEqual([
      '.',
      'x',
      'x',
      '.',
    ])
  })

  it('URING vector 46, R-URING-55: an empty slot, a slot beyond the table, no table', () => {
    const rig = new Rig(release)
    const fd = rig.letters('x')
    expect(rig.readFixed(fd, 0, 0)).toBe('-EFAULT')
    rig.sparse(2)
    expect([rig.readFixed(fd, 0, 0), rig.readFixed(fd, 0, 0, { bufIndex: 2 })]).toEqual([
      '-EFAULT',
      '-EFAULT',
    ])
  })

  it('URING vector 47: bad descriptor, bad slot, bad range, bad mode: which error wins', () => {
    const { rig, a } = registered()
    const early = release !== '6.18'
    expect(rig.readFixed(77, a, 1)).toBe('-EBADF')
    expect(rig.readFixed(77, a, 1, { bufIndex: 5 })).toBe(early ? '-EFAULT' : '-EBADF')
    expect(rig.readFixed(77, a - 1, 1)).toBe(release === '6.12' ? '-EFAULT' : '-EBADF')
    const readOnly = rig.fd(rig.file(regularFileKind('ext4'), 1, { writable: false }))
    expect([rig.writeFixed(readOnly, a, 1), rig.writeFixed(readOnly, a - 1, 1)]).toEqual([
      '-EBADF',
      '-EFAULT',
    ])
    expect(rig.writeFixed(readOnly, a, 1, { bufIndex: 5 })).toBe('-EFAULT')
  })

  it('R-URING-60 a transfer goes on through the pages of a huge page and across unaligned borders', () => {
    const rig = new Rig(release)
    rig.hugePool(1)
    const h = rig.hugetlb(1)
    expect(rig.buffer(h + 100, 5 * P).result).toBe(0)
    const text = new Uint8Array(3 * P).map((_, i) => 65 + (i % 26))
    const file = rig.memfd(0)
    const fd = rig.fd(file)
    rig.store(h + 4000, text)
    expect(rig.writeFixed(fd, h + 4000, 3 * P)).toBe(3 * P)
    expect(rig.fileText(file, 3 * P)).toBe(String.fromCharCode(...text))
    expect(rig.readFixed(fd, h + 101, 3 * P)).toBe(3 * P)
    expect([rig.sees(h + 100), rig.sees(h + 101), rig.sees(h + 126), rig.sees(h + 100 + 3 * P)]).toEqual([
      '.',
      'A',
      'Z',
      String.fromCharCode(text.at(-1)!),
    ])
  })

  it('R-URING-58 a transfer through private pages of a file does not touch the file', () => {
    const rig = new Rig(release)
    const ok = release !== 'gup-v3' && release !== '6.1'
    const file = rig.file(regularFileKind('ext4'), 2)
    const a = rig.mapped(file.get(), 2, RW, MAP_PRIVATE)
    const outcome = rig.buffer(a, 2 * P)
    expect(outcome.result).toBe(ok ? 0 : '-EOPNOTSUPP')
    if (ok) {
      expect(rig.readFixed(rig.letters('R'), a, 1)).toBe(1)
      expect([rig.sees(a), rig.fileText(file, 1)]).toEqual(['R', '\0'])
    }
    file.put()
  })

  it('R-URING-92 an entry that is refused before it is tried ends the batch', () => {
    const { rig, a } = registered()
    const fd = rig.letters('x')
    const nop = (userData: number): { opcode: number; userData: number } => ({ opcode: 0, userData })
    expect(rig.submit([nop(1), { opcode: 200, userData: 2 }, nop(3)])).toBe(2)
    const [tried, refused] = [
      [1, 0],
      [2, '-EINVAL'],
    ]
    const inOrder = release === '6.12' || release === '6.18'
    expect(rig.completions()).toEqual(inOrder ? [tried, refused] : [refused, tried])
    expect(rig.submit([])).toBe(1)
    expect(rig.completions()).toEqual([[3, 0]])
    const outside = { opcode: IORING_OP_READ_FIXED, fd, addr: a - 1, len: 1, userData: 4 }
    const early = release === '6.12'
    expect(rig.submit([outside, nop(5)])).toBe(early ? 1 : 2)
    expect(rig.completions()).toEqual(
      early
        ? [[4, '-EFAULT']]
        : [
            [4, '-EFAULT'],
            [5, 0],
          ],
    )
    const noSlot = { opcode: IORING_OP_WRITE_FIXED, fd, addr: a, len: 1, bufIndex: 9, userData: 6 }
    rig.ring.sqes.length = 0
    expect(rig.submit([noSlot, nop(7)])).toBe(release === '6.18' ? 2 : 1)
  })

  it('R-URING-57 an empty slot is a bad range: until 6.6 the descriptor is looked at first', () => {
    const rig = new Rig(release)
    rig.sparse(2)
    const to = (bufIndex: number): unknown[] => [
      rig.submit([{ opcode: IORING_OP_WRITE_FIXED, fd: 999, addr: 0, len: 0, bufIndex, userData: 1 }]),
      rig.completions()[0]![1],
    ]
    const slotFirst = release !== '6.12' && release !== '6.18'
    expect(to(1)).toEqual([1, slotFirst || release === '6.18' ? '-EBADF' : '-EFAULT'])
    expect(to(2)).toEqual([1, release === '6.18' ? '-EBADF' : '-EFAULT'])
  })
})
