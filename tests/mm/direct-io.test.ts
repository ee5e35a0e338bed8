import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES, releases } from '../../src/base/release.ts'
import { PG_DIRTY } from '../../src/memory/page-flags.ts'
import { regularFileKind } from '../../src/mm/file.ts'
import { fileRead, fileWrite } from '../../src/mm/file-io.ts'
import { completeIo, createFile, openAgain } from '../../src/mm/filemap.ts'
import { BufferIter, UserIter } from '../../src/mm/iov-iter.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { writebackFile } from '../../src/mm/writeback.ts'
import { result } from '../support/kernel.ts'
import { Disk } from './disk-support.ts'
import { P, World } from './fault-support.ts'

describe('direct I/O', () => {
  it('FLT vector 81, R-DIO-8: a read over the end of the file fills all its memory', () => {
    const w = new Disk(5000)
    const at = w.memory(4, 9)
    expect(w.pins(() => w.pread(at, 4 * P, 0))).toEqual([5000, 2, 2])
    expect([w.load(at), w.load(at + P), w.load(at + P + 2048), w.load(at + 4 * P - 1)]).toEqual([1, 2, 0, 0])
    expect([w.pread(at, P, 8192), w.pread(at + 1, 100, 9000)]).toEqual([0, 0])
    w.close()
  })

  it('FLT vector 82: what cannot be had fails all of it, after a part was moved', () => {
    const w = new Disk(8 * P)
    const at = w.edge(1, 9)
    expect(w.pins(() => w.pwrite(at, 2 * P, 0))).toEqual(['-EFAULT', 1, 1])
    expect([w.byte(0), w.byte(P), w.size]).toEqual([9, 2, 8 * P])
    expect(w.pins(() => w.pread(at, 2 * P, P))).toEqual(['-EFAULT', 1, 1])
    expect(w.load(at)).toBe(2)
    expect(w.pread(at + P, P, 0)).toBe('-EFAULT')
    expect(w.task.refusal?.rule).toBe('R-GUP-15')
    w.close()
  })

  it('FLT vector 83: a write replaces the cached pages of its range, private copies stay', () => {
    const w = new Disk(3 * P)
    const from = w.memory(3, 9)
    const shared = w.map(3, { file: w.file, shared: true })
    const shown = w.map(3, { file: w.file })
    const copied = w.map(3, { file: w.file })
    const [a, b, c] = [w.load(shared), w.load(shown), w.load(shared + P)]
    w.store(copied, 7)
    expect([a, b, c]).toEqual([1, 1, 2])
    const before = w.file.mapping.pages.get(0)
    const kept = w.file.mapping.pages.get(1)
    expect(w.pwrite(from, P, 0)).toBe(P)
    expect(w.file.mapping.pages.get(0)).toBe(0)
    expect(w.file.mapping.pages.get(1)).toBe(kept)
    expect([w.load(shared), w.load(shown), w.load(copied)]).toEqual([9, 9, 7])
    expect(before).not.toBe(0)
    w.close()
  })

  it('R-DIO-5 a store that only the cache has is read, and written before it is overwritten in part', () => {
    const w = new Disk(2 * P)
    const to = w.memory(1, 9)
    const shared = w.map(2, { file: w.file, shared: true })
    w.store(shared + 100, 77)
    expect(w.pread(to, P, 0)).toBe(P)
    expect(w.load(to + 100)).toBe(77)
    w.store(shared + 600, 78)
    expect(w.pwrite(to, 512, 0)).toBe(512)
    expect([w.load(shared), w.load(shared + 600)]).toEqual([1, 78])
    w.close()
  })

  it('FLT vector 84: a write that stops inside a new block has grown the file', () => {
    const w = new Disk(0)
    const at = w.edge(1, 9)
    expect(w.pwrite(at, 2 * P, 3584)).toBe('-EFAULT')
    expect(w.size).toBe(7680)
    expect([w.byte(0), w.byte(3584), w.byte(7679)]).toEqual([0, 9, 9])
    w.close()
    const other = new Disk(0)
    const from = other.edge(1, 9)
    expect(other.pwrite(from, 2 * P, 0)).toBe('-EFAULT')
    expect(other.size).toBe(0)
    other.grow(2 * P)
    expect(other.byte(0)).toBe(0)
    other.close()
  })

  it('FLT vector 85: sectors on the disk, anything in holes; memory in pieces of whole sectors', () => {
    const w = new Disk(2 * P)
    w.grow(4 * P)
    const at = w.memory(4, 9)
    expect(w.pread(at, 100, 0)).toBe('-EINVAL')
    expect(w.task.refusal?.rule).toBe('R-DIO-2')
    expect(w.pins(() => w.pread(at, 100, 2 * P + 5))).toEqual([100, 0, 0])
    expect(w.pread(at, P + 100, P)).toBe(P + 100)
    expect(w.pwrite(at, 100, 2 * P)).toBe('-EINVAL')
    expect(w.pins(() => w.pread(at + 1, 2 * P, 0))).toEqual(['-EINVAL', 3, 3])
    expect(w.task.refusal?.rule).toBe('R-DIO-3')
    expect(w.pread(at + 1, 512, 512)).toBe(512)
    w.close()
  })

  it.each(RELEASE_NAMES)(
    'R-DIO-3 until 6.12 all memory that is left is looked at before any is taken: %s',
    (release) => {
      const w = new Disk(2 * P, release)
      const at = w.memory(4, 9)
      const newer = release === '6.18'
      expect(w.pins(() => w.pread(at + 1, 2 * P, 0))).toEqual(newer ? ['-EINVAL', 3, 3] : ['-EINVAL', 0, 0])
      expect(w.pread(at + 1, 512, 512)).toBe(newer ? 512 : '-EINVAL')
      expect(w.pwrite(at + 4 * P + 33, P, 0)).toBe(newer ? '-EFAULT' : '-EINVAL')
      expect(w.pread(at + 512, P, 0)).toBe(P)
      w.close()
    },
  )

  it.each(RELEASE_NAMES)(
    'R-DIO-12 a write that stops before its first byte has grown the file from 6.12 on: %s',
    (release) => {
      const w = new Disk(3000, release)
      const at = w.edge(1, 9)
      expect(w.pwrite(at + P, P, 5632)).toBe('-EFAULT')
      const newer = release === '6.12' || release === '6.18'
      expect(w.size).toBe(newer ? 5632 : 3000)
      w.close()
    },
  )

  it('R-DIO-10 what a failed direct write leaves to the page cache zeroes no tail', () => {
    const w = new Disk(3000)
    const shared = w.map(1, { file: w.file, shared: true })
    w.store(shared + 3500, 77)
    expect(w.pwrite(shared + P, P, 5632)).toBe('-EFAULT')
    expect([w.size, w.byte(3500)]).toEqual([5632, 77])
    w.close()
  })

  it('R-DIO-4 what is less than a sector at the end is given back, and asked for again', () => {
    const w = new Disk(2 * P)
    const at = w.edge(1, 9)
    expect(w.pins(() => w.pread(at + 100, 2 * P, 0))).toEqual(['-EFAULT', 3, 3])
    expect([w.load(at + 100), w.load(at + 100 + 3583), w.load(at + P - 1)]).toEqual([1, 1, 9])
    expect(w.pins(() => w.pread(at + P - 412, P, 0))).toEqual(['-EFAULT', 1, 1])
    w.close()
  })

  it.each(RELEASE_NAMES)('FLT vector 86: a page across two runs is pinned for each: %s', (release) => {
    const w = new Disk(P, release)
    w.grow(3 * P)
    const at = w.memory(4, 9)
    const pins = releases[release].gup.directIoPins
    expect(w.pins(() => w.pwrite(at + 512, 3 * P, 0))).toEqual(pins ? [3 * P, 5, 5] : [3 * P, 0, 0])
    expect(w.pins(() => w.pread(at + 512, 3 * P, 0))).toEqual(pins ? [3 * P, 4, 4] : [3 * P, 0, 0])
    w.close()
  })

  it('FLT vector 87, R-DIO-11: into a page of the very file, which is dirty then', () => {
    const w = new Disk(4 * P)
    const shared = w.map(4, { file: w.file, shared: true })
    expect(w.pread(shared, P, 2 * P)).toBe(P)
    expect(w.load(shared)).toBe(3)
    expect(w.k.memory.frames.has(w.file.mapping.pages.get(0), PG_DIRTY)).toBe(true)
    // from there back to the disk, by way of a page that the write itself drops
    expect(w.pwrite(shared, 2 * P, P)).toBe(2 * P)
    expect([w.load(shared), w.load(shared + P), w.load(shared + 2 * P)]).toEqual([3, 3, 2])
    w.close()
  })

  it('R-DIO-6 what only the cache has shown so far is on the disk when the cache gives it up', () => {
    const w = new World({ release: '6.18' })
    const path = 'disk/g'
    const file = createFile(w.k, regularFileKind('ext4'), { path, size: P })
    const direct = openAgain(w.k, file.mapping, path, { readable: true, writable: true, direct: true })
    const shared = w.map(1, { file, shared: true })
    w.load(shared)
    w.k.memory.contents.write(file.mapping.pages.get(0), 100, Uint8Array.of(5))
    const iter = new UserIter(w.k, w.mm, [{ base: shared, length: P }])
    expect(w.task.run(fileWrite(w.k, direct, 0, iter))).toBe(P)
    expect(w.load(shared + 100)).toBe(5)
    file.put()
    direct.put()
  })

  it.each(RELEASE_NAMES)('FLT vector 88, R-DIO-9: what the last page has beyond the end: %s', (release) => {
    const tail = (then: (w: Disk) => void): number => {
      const w = new Disk(5000, release)
      const shared = w.map(2, { file: w.file, shared: true })
      w.store(shared + 5500, 84)
      then(w)
      const left = w.load(shared + 5500)
      w.close()
      return left
    }
    expect(tail((w) => writebackFile(w.k, w.file.mapping))).toBe(0)
    expect(tail((w) => w.grow(2 * P))).toBe(release === '6.18' ? 0 : 84)
    expect(tail((w) => expect(w.pwrite(w.memory(1, 9), P, 2 * P)).toBe(P))).toBe(84)
    const appended = (w: Disk): number =>
      w.task.run(fileWrite(w.k, w.file, 2 * P, new BufferIter(Uint8Array.of(1))))
    expect(tail((w) => expect(appended(w)).toBe(1))).toBe(0)
  })

  it('R-DIO-6 pages in flight stay pinned until the disk is done; munmap makes the pin stale', () => {
    const w = new Disk(P)
    const at = w.memory(1, 9)
    w.file.mapping.slowIo = true
    const pinned = (): number => {
      let pins = 0
      for (const holder of w.k.holders) holder.forEachReference((_pfn, _references, held) => (pins += held))
      return pins
    }
    let answer = 0
    const iter = new UserIter(w.k, w.mm, [{ base: at, length: P }])
    w.k.scheduler.spawn(
      'reader',
      w.task,
      (function* () {
        answer = yield* fileRead(w.k, w.direct, 0, iter)
      })(),
    )
    w.k.scheduler.runUntilIdle()
    expect([answer, pinned()]).toEqual([0, 1])
    w.task.run(munmap(w.k, w.mm, at, P))
    completeIo(w.k, w.file.mapping)
    w.k.scheduler.run()
    expect([answer, pinned()]).toEqual([P, 0])
    w.close()
  })

  it('R-DIO-13 zeroing memory that is the hole itself: EIO when the read comes to it', () => {
    const w = new Disk(0)
    w.grow(2 * P)
    const shared = w.map(2, { file: w.file, shared: true })
    w.map(1)
    expect(w.pread(shared + P, P, 0)).toBe(P)
    const other = new Disk(0)
    other.grow(2 * P)
    const mapped = other.map(2, { file: other.file, shared: true })
    other.task.run(munmap(other.k, other.mm, mapped + 2 * P, P))
    expect(other.pread(mapped + P, 2 * P, 0)).toBe('-EIO')
    expect(other.task.refusal?.rule).toBe('R-DIO-13')
    w.close()
    other.close()
  })

  it('R-DIO-1 rights, positions and lengths', () => {
    const w = new Disk(P)
    const at = w.memory(1, 9)
    expect([w.pread(at, P, -1), w.pwrite(at, P, -1), w.pwrite(at, P, 2 ** 60), w.pwrite(at, 0, 3)]).toEqual([
      '-EINVAL',
      '-EINVAL',
      '-EFBIG',
      0,
    ])
    const readOnly = openAgain(w.k, w.file.mapping, 'disk/f', {
      readable: true,
      writable: false,
      direct: true,
    })
    const iter = new UserIter(w.k, w.mm, [{ base: at, length: P }])
    expect(result(w.task.run(fileWrite(w.k, readOnly, 0, iter)))).toBe('-EBADF')
    readOnly.put()
    w.close()
  })
})
