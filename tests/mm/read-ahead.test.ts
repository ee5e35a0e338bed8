import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { FAULT_FLAG_ALLOW_RETRY, VM_FAULT_MAJOR } from '../../src/mm/fault-flags.ts'
import { regularFileKind, type OpenFile } from '../../src/mm/file.ts'
import { completeIo, createFile, pageCacheRemove, readIntoCache } from '../../src/mm/filemap.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_RANDOM, MADV_REMOVE, MADV_SEQUENTIAL, PROT_EXEC, PROT_READ } from '../../src/mm/mman.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { P, World } from './fault-support.ts'

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i)

function diskFile(w: World, pages: number): OpenFile {
  return createFile(w.k, regularFileKind('ext4'), { path: '/data', size: pages * P })
}

function cachedPages({ mapping }: OpenFile): number[] {
  const found: number[] = []
  mapping.pages.forEach((index) => found.push(index))
  return found.sort((a, b) => a - b)
}

/** 12 pages in one fault-around window, of which 2, 3, 6 and 7 are not cached. */
function holey(): { w: World; file: OpenFile; at: number } {
  const w = new World({ release: '6.18' })
  const file = diskFile(w, 12)
  readIntoCache(w.k, file.mapping, 0, 12)
  for (const index of [2, 3, 6, 7]) pageCacheRemove(w.k, file.mapping, index)
  return { w, file, at: w.map(12, { file, shared: true }) }
}

describe('what a fault reads of a disk file', () => {
  it.each([
    [0, range(0, 31)],
    [16, range(0, 31)],
    [17, range(1, 32)],
    [100, range(84, 115)],
    [255, range(239, 255)],
  ])('R-FLT-39 page %i of 256 brings 32 around it', (page, cached) => {
    const w = new World()
    const file = diskFile(w, 256)
    w.load(w.map(256, { file, shared: true }) + page * P)
    expect(cachedPages(file)).toEqual(cached)
  })

  it('R-FLT-39 MADV_SEQUENTIAL reads from the page on, MADV_RANDOM the page alone', () => {
    const advised = (advice: number): number[] => {
      const w = new World()
      const file = diskFile(w, 256)
      const at = w.map(256, { file, shared: true })
      expect(w.task.run(madvise(w.k, w.mm, at, 256 * P, advice))).toBe(0)
      w.load(at + 17 * P)
      return cachedPages(file)
    }
    expect(advised(MADV_SEQUENTIAL)).toEqual(range(17, 48))
    expect(advised(MADV_RANDOM)).toEqual([17])
  })

  it.each(RELEASE_NAMES)('R-FLT-39 code on %s', (release) => {
    const code = (advice: number | null): number[] => {
      const w = new World({ release })
      const file = diskFile(w, 256)
      const at = w.map(256, { file, shared: true, prot: PROT_READ | PROT_EXEC })
      w.task.run(munmap(w.k, w.mm, at, 90 * P))
      w.task.run(munmap(w.k, w.mm, at + 120 * P, 136 * P))
      if (advice !== null) expect(w.task.run(madvise(w.k, w.mm, at + 90 * P, 30 * P, advice))).toBe(0)
      w.load(at + 99 * P)
      return cachedPages(file)
    }
    const forward = release === '6.18'
    expect(code(null)).toEqual(forward ? range(99, 119) : range(83, 114))
    expect(code(MADV_RANDOM)).toEqual(forward ? range(99, 119) : [99])
    expect(code(MADV_SEQUENTIAL)).toEqual(range(99, 130))
  })

  it('R-FLT-39 a read that may drop the lock maps what came with its page, others only their page', () => {
    const read = holey()
    expect(read.w.fault(read.at + 3 * P, FAULT_FLAG_ALLOW_RETRY)).toBe(VM_FAULT_MAJOR)
    expect(read.w.present(read.at, 12)).toEqual(range(0, 11))
    const locked = holey()
    expect(locked.w.fault(locked.at + 3 * P, 0)).toBe(VM_FAULT_MAJOR)
    expect(locked.w.present(locked.at, 12)).toEqual([0, 1, 3, 4, 5, 8, 9, 10, 11])
    const write = holey()
    write.w.store(write.at + 3 * P, 1)
    expect(write.w.present(write.at, 12)).toEqual([3])
    for (const { file } of [read, locked, write]) expect(cachedPages(file)).toEqual(range(0, 11))
  })

  it('R-FLT-39 a hole punched through the mapping comes back with its neighbours', () => {
    const w = new World({ release: '6.18' })
    const file = diskFile(w, 2)
    readIntoCache(w.k, file.mapping, 0, 2)
    const at = w.map(2, { file, shared: true })
    expect(w.task.run(madvise(w.k, w.mm, at, P, MADV_REMOVE))).toBe(0)
    w.load(at)
    expect(w.present(at, 2)).toEqual([0, 1])
  })

  it('R-FLT-21 a slow disk reads the neighbours in the same go', () => {
    const { w, file, at } = holey()
    file.mapping.slowIo = true
    w.k.scheduler.spawn(
      'disk',
      w.task,
      (function* () {
        completeIo(w.k, file.mapping)
        yield* []
      })(),
    )
    w.load(at + 3 * P)
    expect(w.present(at, 12)).toEqual(range(0, 11))
    expect(w.k.pgmajfault).toBe(1)
  })
})
