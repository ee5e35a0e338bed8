import { describe, expect, it } from 'vitest'
import { Unmodelled } from '../../src/base/unmodelled.ts'
import { PG_DIRTY } from '../../src/memory/page-flags.ts'
import { fileWrite } from '../../src/mm/file-io.ts'
import { pageCacheRemove } from '../../src/mm/filemap.ts'
import { UserIter } from '../../src/mm/iov-iter.ts'
import { MAP_FIXED, MAP_SHARED } from '../../src/mm/mman.ts'
import { mmap } from '../../src/mm/mmap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { punchHole } from '../../src/mm/truncate.ts'
import { writebackFile } from '../../src/mm/writeback.ts'
import { result } from '../support/kernel.ts'
import { P } from './fault-support.ts'
import { Disk } from './disk-support.ts'

/** write(2) through the page cache, from memory that nobody has mapped. */
function failingWrite(w: Disk, offset: number): number | string {
  const at = w.edge(1, 9) + P
  const iter = new UserIter(w.k, w.mm, [{ base: at, length: P }])
  return result(w.task.run(fileWrite(w.k, w.file, offset, iter)))
}

describe('direct I/O and the blocks of a file', () => {
  it('R-DIO-12 a write that goes on in the page cache leaves there what is mapped', () => {
    const w = new Disk(0)
    const at = w.map(2, { file: w.file, shared: true })
    expect(w.pins(() => w.pwrite(at, P, 2048))).toEqual([P, 0, 0])
    expect(w.size).toBe(2048 + P)
    expect(w.present(at, 2)).toEqual([0])
    expect(w.file.mapping.pages.get(1)).toBe(0)
    expect(w.k.memory.frames.has(w.pfn(at), PG_DIRTY)).toBe(false)
    w.close()
  })

  it('R-DIO-12 a new block that a write stopped in is read as zeros where its run begins before the end', () => {
    // [file grown to, position, bytes there are, bytes written, size after, how many of the bytes there were show]
    const cases = [
      [0, 0, 1536, P, 1536, 1536],
      [0, 512, 1536, 3584, 2048, 1536],
      [P, 0, 1536, P, P, 0],
      [1000, 0, 1536, P, 1536, 0],
      [2 * P, 512, 5632, 2 * P, 2 * P, 3584],
      [P, 0, 5632, 2 * P, 5632, P],
    ] as const
    for (const [grown, offset, there, length, size, shown] of cases) {
      const w = new Disk(0)
      w.grow(grown)
      const end = w.edge(2, 9) + 2 * P
      for (let i = 1; i <= there; i++) w.store(end - i, 9)
      expect(w.pwrite(end - there, length, offset)).toBe('-EFAULT')
      const bytes = Array.from({ length: size }, (_, i) => w.byte(i))
      expect([w.size, bytes.filter((byte) => byte === 9).length]).toEqual([size, shown])
      w.close()
    }
  })

  it('R-DIO-13 what a failed write had reserved beyond the end is an error once the file has grown over it', () => {
    const w = new Disk(0)
    const to = w.memory(1, 9)
    expect(failingWrite(w, 0)).toBe('-EFAULT')
    writebackFile(w.k, w.file.mapping)
    expect(w.pwrite(to, P, 4 * P)).toBe(P)
    for (let again = 0; again < 2; again++) expect(w.pread(to, P, 0)).toBe('-EIO')
    expect(w.task.refusal?.rule).toBe('R-DIO-13')
    expect(w.pread(to, P, P)).toBe(P)
    expect(w.pwrite(w.memory(1, 8), P, 0)).toBe(P)
    expect(w.pread(to, P, 0)).toBe(P)
    expect(w.load(to)).toBe(8)
    w.close()
  })

  it('R-DIO-13 a direct write of the block ends it, also one that fails', () => {
    const w = new Disk(0)
    expect(failingWrite(w, 0)).toBe('-EFAULT')
    writebackFile(w.k, w.file.mapping)
    const to = w.memory(1, 9)
    expect(w.pwrite(to, P, 4 * P)).toBe(P)
    expect(w.pwrite(w.edge(1, 9) + P, P, 0)).toBe('-EFAULT')
    expect(w.pins(() => w.pread(to, P, 0))).toEqual([P, 0, 0])
    w.close()
  })

  it('R-DIO-13 nothing is left when the page is still there to be written', () => {
    const w = new Disk(0)
    const to = w.memory(1, 9)
    expect(failingWrite(w, 0)).toBe('-EFAULT')
    w.grow(4 * P)
    expect(w.pins(() => w.pread(to, P, 0))).toEqual([P, 1, 1])
    w.close()
  })

  it('R-DIO-14 blocks that a stopped write keeps are there, and nobody knows what they hold', () => {
    const w = new Disk(0)
    expect(w.pwrite(w.edge(1, 9), 4 * P - 512, 512)).toBe('-EFAULT')
    expect(w.size).toBe(512 + P)
    w.grow(9 * P)
    const to = w.memory(4, 9)
    expect(w.pins(() => w.pread(to, 2 * P, 0))).toEqual([2 * P, 2, 2])
    expect([w.load(to), w.load(to + 512), w.load(to + P + 511), w.load(to + P + 512)]).toEqual([0, 9, 9, 0])
    expect(w.pins(() => w.pread(to, P, 4 * P))).toEqual([P, 0, 0])
    // written as a whole it is known
    expect(w.pwrite(w.memory(1, 7), P, 2 * P)).toBe(P)
    expect(w.pread(to, P, 2 * P)).toBe(P)
    expect(w.load(to)).toBe(7)
    expect(() => w.byte(3 * P)).toThrow(Unmodelled)
  })

  it.each([
    ['the same size', 512 + P],
    ['a smaller one', P],
  ])('R-DIO-14 ftruncate to %s frees them', (_, size) => {
    const w = new Disk(0)
    expect(w.pwrite(w.edge(1, 9), 4 * P - 512, 512)).toBe('-EFAULT')
    w.grow(size)
    w.grow(9 * P)
    const to = w.memory(4, 9)
    expect(w.pins(() => w.pread(to, P, 2 * P))).toEqual([P, 0, 0])
    expect(w.byte(3 * P)).toBe(0)
    w.close()
  })

  it('R-DIO-14 a direct write that would end behind the end and fails frees them, one inside does not', () => {
    const after = (offset: number): Disk => {
      const w = new Disk(0)
      expect(w.pwrite(w.edge(1, 9), 4 * P - 512, 512)).toBe('-EFAULT')
      expect(w.pwrite(w.edge(1, 9) + P, P, offset)).toBe('-EFAULT')
      w.grow(9 * P)
      return w
    }
    for (const offset of [P, 8 * P]) {
      const w = after(offset)
      const to = w.memory(1, 9)
      expect(w.pins(() => w.pread(to, P, 2 * P))).toEqual([P, 0, 0])
      w.close()
    }
    expect(() => after(0).byte(2 * P)).toThrow(Unmodelled)
  })

  it('R-DIO-6 only what was written leaves the cache once more', () => {
    const w = new Disk(0)
    w.grow(4 * P)
    const at = w.map(4, { file: w.file })
    w.task.run(munmap(w.k, w.mm, at + 4 * P, P))
    expect(w.pwrite(at + 3 * P + 3072, 2 * P, 2 * P)).toBe('-EFAULT')
    expect(w.file.mapping.pages.get(3)).not.toBe(0)
    w.close()
  })

  it('R-DIO-14 within the file a stopped write leaves a hole', () => {
    const w = new Disk(0)
    w.grow(9 * P)
    expect(w.pwrite(w.edge(1, 9), 4 * P - 512, 512)).toBe('-EFAULT')
    expect([w.size, w.byte(2 * P), w.byte(3 * P)]).toEqual([9 * P, 0, 0])
    w.close()
  })

  it('R-DIO-15 a write does not tell what it reads from where it has just written', () => {
    const race = new Disk(4 * P)
    const at = race.map(4, { file: race.file, shared: true })
    expect(() => race.pwrite(at, 3 * P, 2 * P)).toThrow('R-DIO-15')
    // one run, one bio: all of it is read before
    const w = new Disk(6 * P)
    const shared = w.map(4, { file: w.file, shared: true })
    expect(w.pwrite(shared, 3 * P, 2 * P)).toBe(3 * P)
    expect([w.byte(2 * P), w.byte(3 * P), w.byte(4 * P), w.byte(5 * P)]).toEqual([1, 2, 3, 6])
    w.close()
  })

  it.each([
    ['dhdddddddddd', 1, [1]],
    ['dhdddddddddd', 0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]],
    ['hhhdddhhhddd', 1, [0, 1, 2, 6, 7, 8]],
    ['hdhdhdhdhdhd', 4, [0, 2, 4, 6, 8, 10]],
  ])(
    'R-FLT-39 of blocks and holes %s, page %i is read: what is there by then is mapped',
    (layout, page, mapped) => {
      const w = new Disk(12 * P)
      for (let i = 0; i < 12; i++) if (layout[i] === 'h') w.task.run(punchHole(w.k, w.file.mapping, i * P, P))
      w.file.mapping.pages.forEach((index) => pageCacheRemove(w.k, w.file.mapping, index))
      const at = w.map(64, { file: w.file, shared: true })
      const aligned = Math.ceil(at / (16 * P)) * 16 * P
      w.task.run(munmap(w.k, w.mm, at, 64 * P))
      const request = {
        addr: aligned,
        length: 12 * P,
        prot: 1,
        flags: MAP_SHARED | MAP_FIXED,
        file: w.file,
        offset: 0,
      }
      w.task.run(mmap(w.k, w.mm, request))
      w.load(aligned + page * P)
      expect(w.present(aligned, 12)).toEqual(mapped)
      w.close()
    },
  )

  it('R-FLT-75 a hole in a page that has no block does not give it one', () => {
    const w = new Disk(0)
    w.grow(2 * P)
    w.load(w.map(2, { file: w.file, shared: true }) + P)
    expect(w.task.run(punchHole(w.k, w.file.mapping, P, 3000))).toBe(0)
    expect(w.k.memory.frames.has(w.file.mapping.pages.get(1), PG_DIRTY)).toBe(false)
    const to = w.memory(1, 9)
    expect(w.pins(() => w.pread(to, P, P))).toEqual([P, 0, 0])
    w.close()
  })
})
