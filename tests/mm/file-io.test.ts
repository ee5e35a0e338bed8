import { describe, expect, it } from 'vitest'
import { Unmodelled } from '../../src/base/unmodelled.ts'
import type { Kthread } from '../../src/base/kthread.ts'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { PG_DIRTY } from '../../src/memory/page-flags.ts'
import {
  DEV_ZERO,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_GROW,
  F_SEAL_WRITE,
  SECRETMEM,
  UNMAPPABLE,
  regularFileKind,
  type OpenFile,
} from '../../src/mm/file.ts'
import { completeIo, createFile } from '../../src/mm/filemap.ts'
import { fileRead, fileWrite } from '../../src/mm/file-io.ts'
import { hugetlbFileSetup, hugetlbPool } from '../../src/mm/hugetlb.ts'
import { BufferIter, PagesIter, UserIter, type IovIter } from '../../src/mm/iov-iter.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import { truncateFile } from '../../src/mm/truncate.ts'
import { result } from '../support/kernel.ts'
import { P, World } from './fault-support.ts'

class Files extends World {
  io(body: Kthread<number>): number | string {
    return result(this.task.run(body))
  }

  memfd(pages: number): OpenFile {
    return shmemFileSetup(this.k, '/memfd:a', pages * P)
  }

  write(file: OpenFile, offset: number, text: string): number | string {
    return this.io(fileWrite(this.k, file, offset, new BufferIter(new TextEncoder().encode(text))))
  }

  read(file: OpenFile, offset: number, length: number): string {
    const into = new Uint8Array(length)
    const n = this.task.run(fileRead(this.k, file, offset, new BufferIter(into)))
    return n < 0 ? String(result(n)) : new TextDecoder().decode(into.subarray(0, n)).replaceAll('\0', '.')
  }

  user(address: number, length: number): IovIter {
    return new UserIter(this.k, this.mm, [{ base: address, length }])
  }

  /** Two pages of which the second is unmapped. @returns where they begin */
  onePage(): number {
    const at = this.map(2)
    this.store(at, 1)
    expect(this.task.run(munmap(this.k, this.mm, at + P, P))).toBe(0)
    return at
  }
}

describe('read(2) and write(2) through the page cache', () => {
  it('FLT vector 71: holes of a memory file read as zeros and stay; a write fills one page', () => {
    const w = new Files()
    const file = w.memfd(2)
    expect(w.read(file, P - 2, 4)).toBe('....')
    expect(file.mapping.pages.count).toBe(0)
    expect(w.write(file, 100, 'abc')).toBe(3)
    expect(w.read(file, 98, 7)).toBe('..abc..')
    expect(file.mapping.pages.count).toBe(1)
    expect(w.k.memory.frames.has(file.mapping.pages.get(0), PG_DIRTY)).toBe(true)
    expect(file.mapping.size).toBe(2 * P)
  })

  it('R-FLT-172 holes of a disk file are filled by reading; nothing is read beyond the end', () => {
    const w = new Files()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P + 10 })
    expect(w.read(file, P + 5, 100)).toBe('.....')
    expect(file.mapping.pages.count).toBe(1)
    expect([w.read(file, P + 10, 1), w.read(file, 9 * P, 1)]).toEqual(['', ''])
    expect(w.io(fileRead(w.k, file, 9 * P, w.user(0x1000, P)))).toBe(0)
  })

  it('R-FLT-173 a write across a page border and the end of the file makes the file longer', () => {
    const w = new Files()
    const file = w.memfd(0)
    expect(w.write(file, P - 2, 'abcd')).toBe(4)
    expect(file.mapping.size).toBe(P + 2)
    expect(w.read(file, P - 3, 100)).toBe('.abcd')
    expect(w.write(file, 5, '')).toBe(0)
  })

  it('R-FLT-173 an end of the file that is no number of 53 bits is not guessed at', () => {
    const w = new Files()
    const file = w.memfd(0)
    expect(w.write(file, 2 ** 62, 'a'.repeat(1024))).toBe(1024)
    expect([file.mapping.size, w.read(file, 2 ** 62, 5)]).toEqual([2 ** 62 + 1024, 'aaaaa'])
    expect(() => w.write(file, 2 ** 63 - 4096, 'a')).toThrow(Unmodelled)
  })

  it.each(RELEASE_NAMES.map((release) => [release, release === '6.18'] as const))(
    'FLT vector 72, R-FLT-174: %s: a write that fails with EFAULT has moved the end of the file: %s',
    (release, moves) => {
      const w = new Files({ release })
      const file = w.memfd(8)
      const at = w.onePage()
      expect(w.io(fileWrite(w.k, file, 12 * P + 5, w.user(at + P, 100)))).toBe('-EFAULT')
      expect(file.mapping.size).toBe(moves ? 49157 : 8 * P)
      expect(file.mapping.pages.count).toBe(moves ? 1 : 0)
    },
  )

  it('FLT vector 73: a copy ends where the memory ends', () => {
    const w = new Files()
    const file = w.memfd(8)
    const at = w.onePage()
    expect(w.io(fileWrite(w.k, file, 0, w.user(at + 100, 2 * P)))).toBe(P - 100)
    expect(w.io(fileRead(w.k, file, 0, w.user(at + 100, 2 * P)))).toBe(P - 100)
    expect(w.io(fileRead(w.k, file, 0, w.user(at + P, P)))).toBe('-EFAULT')
  })

  it('FLT vector 74: F_SEAL_GROW lets through what ends within the file', () => {
    const w = new Files()
    const file = w.memfd(2)
    file.mapping.seals = F_SEAL_GROW
    const ten = '0123456789'
    expect([w.write(file, 8185, ten), w.write(file, 8180, ten), w.write(file, 8192, ten)]).toEqual([
      7,
      10,
      '-EPERM',
    ])
    for (const seal of [F_SEAL_WRITE, F_SEAL_FUTURE_WRITE]) {
      file.mapping.seals = seal
      expect([w.write(file, 0, ten), w.write(file, 0, '')]).toEqual(['-EPERM', 0])
    }
  })

  it('R-FLT-172 who may: open mode, kinds of file, positions', () => {
    const w = new Files()
    const only = (access: object): OpenFile =>
      createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P, ...access })
    expect(w.read(only({ readable: false }), 0, 1)).toBe('-EBADF')
    expect(w.write(only({ writable: false }), 0, 'a')).toBe('-EBADF')
    expect([w.read(only({}), -1, 1), w.write(only({}), -1, 'a')]).toEqual(['-EINVAL', '-EINVAL'])
    for (const kind of [SECRETMEM, UNMAPPABLE]) {
      const file = createFile(w.k, kind, { path: '/f', size: P })
      expect([w.read(file, 0, 1), w.write(file, 0, 'a')]).toEqual(['-EINVAL', '-EINVAL'])
    }
    const zero = createFile(w.k, DEV_ZERO, { path: '/dev/zero', size: 0 })
    expect([w.read(zero, 7, 3), w.io(fileWrite(w.k, zero, 7, w.user(0x1000, 8192)))]).toEqual(['...', 8192])
  })

  it('R-FLT-172 positions end at 2^63 - 1, negative ones come before the open mode', () => {
    const w = new Files()
    const disk = (access: object = {}): OpenFile =>
      createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P, ...access })
    expect(w.read(disk({ readable: false }), -1, 1)).toBe('-EINVAL')
    expect(w.write(disk({ writable: false }), -1, 'a')).toBe('-EINVAL')
    // the largest number of this kind below 2^63
    const last = 2 ** 63 - 1024
    for (const file of [disk(), w.memfd(1)]) {
      expect([w.read(file, last, 1024), w.read(file, last, 1023)]).toEqual(['-EINVAL', ''])
      expect(w.write(file, last, 'a'.repeat(1024))).toBe('-EINVAL')
    }
    expect(w.read(disk({ readable: false }), last, 4)).toBe('-EBADF')
  })

  it.each([false, true])('R-FLT-173, R-DIO-1 a file of ext4 ends at 2^44 - 4096, O_DIRECT: %s', (direct) => {
    const w = new Files()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P, direct })
    for (const at of [2 ** 44 - 4096, 2 ** 44 - 4095, 2 ** 62]) {
      expect(w.io(fileWrite(w.k, file, at, w.user(0x10_000, 100)))).toBe('-EFBIG')
      expect([w.write(file, at, ''), w.read(file, at, 5)]).toEqual([0, ''])
    }
    expect(() => w.write(file, 2 ** 44 - 4097, 'ab')).toThrow(Unmodelled)
    expect(file.mapping.size).toBe(P)
  })

  it('R-FLT-172 hugetlb files can be read, their holes stay; they cannot be written', () => {
    const w = new Files()
    hugetlbPool(w.k, 2 ** 21).resize(2)
    const file = hugetlbFileSetup(w.k, {
      size: 2 ** 22,
      pageSize: 2 ** 21,
      name: '/memfd:h',
      noreserve: true,
    })
    const at = w.map(1024, { file, shared: true })
    w.store(at + 2 ** 21 + 3 * P, 65)
    expect(w.read(file, 2 ** 21 + 3 * P - 1, 3)).toBe('.A.')
    expect(w.read(file, 0, 2)).toBe('..')
    expect(w.write(file, 0, 'a')).toBe('-EINVAL')
    expect(file.mapping.pages.count).toBe(1)
  })

  it('R-FLT-172 a slow disk keeps the reader asleep until the page has come', () => {
    const w = new Files()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P })
    file.mapping.slowIo = true
    const into = new Uint8Array(4)
    const reader = w.k.scheduler.spawn('reader', w.task, fileRead(w.k, file, 0, new BufferIter(into)))
    expect(w.k.scheduler.runUntilIdle()).toBe(false)
    completeIo(w.k, file.mapping)
    expect(w.k.scheduler.runUntilIdle()).toBe(true)
    expect(reader.result).toBe(4)
  })

  it('held pages take and give bytes whatever is mapped', () => {
    const w = new Files()
    const file = w.memfd(2)
    expect(w.write(file, 0, 'abcdefgh')).toBe(8)
    const other = w.memfd(2)
    expect([w.write(other, 0, 'x'), w.write(other, P, 'y')]).toEqual([1, 1])
    const [a, b] = [other.mapping.pages.get(0), other.mapping.pages.get(1)]
    w.k.memory.get(a)
    w.k.memory.get(b)
    w.task.run(truncateFile(w.k, other.mapping, 0))
    const pages = { pfnAt: (page: number) => [a, b][page]! }
    expect(w.io(fileRead(w.k, file, 0, new PagesIter(w.k, pages, P - 3, 8)))).toBe(8)
    expect(w.io(fileWrite(w.k, file, P, new PagesIter(w.k, pages, P - 3, 8)))).toBe(8)
    expect(w.read(file, P, 8)).toBe('abcdefgh')
    w.k.memory.put(a)
    w.k.memory.put(b)
  })

  it('R-FLT-175 a file read onto its own page repeats what lies before', () => {
    const w = new Files()
    const file = w.memfd(1)
    expect(w.write(file, 0, 'abc')).toBe(3)
    const at = w.map(1, { file, shared: true })
    expect(w.io(fileRead(w.k, file, 0, w.user(at + 3, 9)))).toBe(9)
    expect(w.read(file, 0, 13)).toBe('abcabcabcabc.')
    expect(w.io(fileWrite(w.k, file, 1, w.user(at, 4)))).toBe(4)
    expect(w.read(file, 0, 13)).toBe('aaaaacabcabc.')
  })
})
