import { describe, expect, it } from 'vitest'
import { result } from '../support/kernel.ts'
import { createFile, openAgain, readIntoCache } from '../../src/mm/filemap.ts'
import { F_SEAL_WRITE, regularFileKind } from '../../src/mm/file.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import { fallocateHole, ftruncate, punchHole, truncateFile } from '../../src/mm/truncate.ts'
import { P, World } from './fault-support.ts'

const SIGBUS = { ok: false, signal: 'SIGBUS', code: 2 }

describe('truncate', () => {
  it('FLT vector 33, FLT vector 34: a pinned memfd page is orphaned; after re-extending a new one is there', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:a', P)
    const at = w.map(1, { file, shared: true })
    w.store(at, 9)
    const a = w.pfn(at)
    w.pin(a)
    expect(w.task.run(truncateFile(w.k, file.mapping, 0))).toBe(0)
    expect([w.shows(at), w.ref(a), w.mapped(a), w.k.memory.frames.mapping[a]]).toEqual(['none', 1024, 0, 0])
    expect(file.mapping.pages.count).toBe(0)
    expect(w.touch(at)).toEqual(SIGBUS)
    w.task.run(truncateFile(w.k, file.mapping, P))
    expect(w.load(at)).toBe(0)
    expect(w.pfn(at)).not.toBe(a)
    w.drop(a)
  })

  it('FLT vector 35: hole punch of a pinned memfd page: the address gets a new page', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:a', 2 * P)
    const at = w.map(2, { file, shared: true })
    w.store(at, 9)
    w.store(at + P, 8)
    const a = w.pfn(at)
    w.pin(a)
    expect(w.task.run(punchHole(w.k, file.mapping, 0, P))).toBe(0)
    expect([w.ref(a), w.mapped(a)]).toEqual([1024, 0])
    expect([w.load(at), w.load(at + P)]).toEqual([0, 8])
    expect(w.pfn(at)).not.toBe(a)
    w.drop(a)
  })

  it('FLT vector 38: truncate takes private copies beyond the end, the one below stays', () => {
    const w = new World()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: 8 * P })
    readIntoCache(w.k, file.mapping, 0, 8)
    const at = w.map(8, { file })
    w.store(at + 2 * P, 1)
    w.store(at + 6 * P, 1)
    w.task.run(truncateFile(w.k, file.mapping, 4 * P))
    expect(w.touch(at + 6 * P)).toEqual(SIGBUS)
    expect(w.shows(at + 2 * P)).toBe('anon X w')
    w.task.run(truncateFile(w.k, file.mapping, 8 * P))
    expect([w.load(at + 6 * P), w.shows(at + 6 * P)]).toEqual([0, 'file'])
  })

  it('R-FLT-75 a hole of a disk file ends where the largest file ends', () => {
    const w = new World()
    const disk = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: 0 })
    const memory = shmemFileSetup(w.k, '/memfd:a', P)
    const last = 2 ** 44 - 2 * P
    const punched = (file: typeof disk, length: number): number | string =>
      result(w.task.run(punchHole(w.k, file.mapping, last, length)))
    expect([punched(disk, P), punched(disk, 2 * P), punched(memory, 2 * P)]).toEqual([0, '-EFBIG', 0])
  })

  it('FLT vector 39: hole punch keeps private copies and unmaps the rest', () => {
    const w = new World()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: 4 * P })
    readIntoCache(w.k, file.mapping, 0, 4)
    const at = w.map(4, { file })
    w.load(at)
    w.store(at + P, 7)
    w.task.run(punchHole(w.k, file.mapping, 0, 4 * P))
    expect([w.shows(at), w.load(at + P), w.shows(at + P)]).toEqual(['none', 7, 'anon X w'])
    expect(file.mapping.pages.count).toBe(0)
  })

  it('R-FLT-74 the rest of the last page reads zero afterwards', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:a', P)
    const at = w.map(1, { file, shared: true })
    w.store(at + 99, 1)
    w.store(at + 101, 1)
    w.task.run(truncateFile(w.k, file.mapping, 100))
    expect([w.load(at + 99), w.load(at + 101)]).toEqual([1, 0])
  })

  it('R-FLT-75 a hole inside pages is zeroed, whole pages go', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:a', 3 * P)
    const at = w.map(3, { file, shared: true })
    for (const offset of [10, 200, P, 2 * P + 10, 2 * P + 200]) w.store(at + offset, 1)
    const first = w.pfn(at)
    w.task.run(punchHole(w.k, file.mapping, 100, 2 * P))
    expect([10, 200, P, 2 * P + 10, 2 * P + 200].map((offset) => w.load(at + offset))).toEqual([
      1, 0, 0, 0, 1,
    ])
    expect(w.pfn(at)).toBe(first)
  })

  it('R-FLT-75 a hole within one page is zeroed in place', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:a', P)
    const at = w.map(1, { file, shared: true })
    for (const offset of [9, 10, 19, 20]) w.store(at + offset, 1)
    w.task.run(punchHole(w.k, file.mapping, 10, 10))
    expect([9, 10, 19, 20].map((offset) => w.load(at + offset))).toEqual([1, 0, 0, 1])
  })

  it('R-FLT-75 a hole that ends inside the first page unmaps the file from there on, pages and copies stay', () => {
    for (const [release, disk] of [
      ['6.18', true],
      ['6.12', true],
      ['6.1', true],
      ['6.18', false],
      ['6.1', false],
    ] as const) {
      const w = new World({ release })
      const file = disk
        ? createFile(w.k, regularFileKind('ext4'), { path: 'disk/f', size: 3 * P })
        : shmemFileSetup(w.k, '/memfd:a', 3 * P)
      const shared = w.map(3, { file, shared: true })
      const copies = w.map(3, { file })
      for (let i = 0; i < 3; i++) w.store(shared + i * P, 5)
      w.store(copies + P, 6)
      w.task.run(punchHole(w.k, file.mapping, 100, 100))
      const mapped = [0, 1, 2].map((i) => w.shows(shared + i * P) !== 'none')
      expect(mapped).toEqual(release === '6.1' && disk ? [true, true, true] : [true, false, false])
      expect([w.load(copies + P), file.mapping.pages.count]).toEqual([6, 3])
    }
  })

  it('R-FLT-75 a hole that ends beyond the end of a disk file takes its partial last page', () => {
    const w = new World({ release: '6.18' })
    for (const [kind, length, left] of [
      ['ext4', 2001, 1],
      ['ext4', 2000, 2],
      ['shmem', 2001, 2],
    ] as const) {
      const size = P + 2000
      const file =
        kind === 'shmem'
          ? shmemFileSetup(w.k, '/memfd:a', size)
          : createFile(w.k, regularFileKind(kind), { path: '/d', size })
      readIntoCache(w.k, file.mapping, 0, 2)
      w.task.run(punchHole(w.k, file.mapping, P, length))
      expect([kind, length, file.mapping.pages.count]).toEqual([kind, length, left])
    }
  })

  it('R-FLT-75 a write-sealed memfd cannot be punched, an empty hole is refused', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:a', P)
    expect(result(w.task.run(punchHole(w.k, file.mapping, 0, 0)))).toBe('-EINVAL')
    file.mapping.seals = F_SEAL_WRITE
    expect(result(w.task.run(punchHole(w.k, file.mapping, 0, P)))).toBe('-EPERM')
  })

  it('R-FLT-74, R-FLT-75 a descriptor that is not open for writing', () => {
    const w = new World()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P, writable: false })
    expect(result(w.task.run(ftruncate(w.k, file, P)))).toBe('-EINVAL')
    expect(result(w.task.run(fallocateHole(w.k, file, 0, P)))).toBe('-EBADF')
    expect(result(w.task.run(fallocateHole(w.k, file, 0, 0)))).toBe('-EINVAL')
    file.put()
  })

  it('R-FLT-1 the cache goes with the last reference to the file', () => {
    const w = new World()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: 2 * P })
    const at = w.map(2, { file, shared: true })
    w.store(at, 1)
    const a = w.pfn(at)
    expect(w.ref(a)).toBe(3)
    file.put()
    expect(w.ref(a)).toBe(3)
    const free = w.k.memory.buddy.free[0]!
    w.task.run(munmap(w.k, w.mm, at, 2 * P))
    expect(w.k.memory.buddy.free[0]).toBe(free + 2)
    expect(w.k.mappings.size).toBe(0)
  })

  it('R-AS-126 a file opened twice keeps its pages until both are closed', () => {
    const w = new World()
    const first = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P })
    const second = openAgain(w.k, first.mapping, '/f', { readable: true, writable: false })
    readIntoCache(w.k, first.mapping, 0, 1)
    first.put()
    expect([second.mapping.pages.count, w.k.mappings.size]).toEqual([1, 1])
    second.put()
    expect([second.mapping.pages.count, w.k.mappings.size]).toEqual([0, 0])
  })
})
