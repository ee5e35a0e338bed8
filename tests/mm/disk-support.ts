import { expect } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { regularFileKind, type OpenFile } from '../../src/mm/file.ts'
import { fileRead, fileWrite } from '../../src/mm/file-io.ts'
import { createFile, openAgain } from '../../src/mm/filemap.ts'
import { BufferIter, UserIter } from '../../src/mm/iov-iter.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { truncateFile } from '../../src/mm/truncate.ts'
import { writebackFile } from '../../src/mm/writeback.ts'
import { result } from '../support/kernel.ts'
import { P, World } from './fault-support.ts'

/** A program with a file on a disk, opened twice: through the page cache and past it. */
export class Disk extends World {
  /** through the page cache */
  readonly file: OpenFile
  /** the same file with O_DIRECT */
  readonly direct: OpenFile

  /** @param size bytes; page n is filled with n + 1 */
  constructor(size: number, release: ReleaseName = '6.18') {
    super({ release })
    this.file = createFile(this.k, regularFileKind('ext4'), { path: 'disk/f', size })
    this.direct = openAgain(this.k, this.file.mapping, 'disk/f', {
      readable: true,
      writable: true,
      direct: true,
    })
    for (let at = 0; at < size; at += P) {
      const bytes = new Uint8Array(Math.min(P, size - at)).fill(at / P + 1)
      this.task.run(fileWrite(this.k, this.file, at, new BufferIter(bytes)))
    }
    writebackFile(this.k, this.file.mapping)
  }

  get size(): number {
    return this.file.mapping.size
  }

  pread(address: number, length: number, offset: number): number | string {
    const iter = new UserIter(this.k, this.mm, [{ base: address, length }])
    return result(this.task.run(fileRead(this.k, this.direct, offset, iter)))
  }

  pwrite(address: number, length: number, offset: number): number | string {
    const iter = new UserIter(this.k, this.mm, [{ base: address, length }])
    return result(this.task.run(fileWrite(this.k, this.direct, offset, iter)))
  }

  /** What a transfer acquires and releases. */
  pins(transfer: () => number | string): [result: number | string, acquired: number, released: number] {
    const { pinAcquired, pinReleased } = this.k
    const answer = transfer()
    return [answer, this.k.pinAcquired - pinAcquired, this.k.pinReleased - pinReleased]
  }

  /** One byte of the file, through the page cache. */
  byte(offset: number): number {
    const into = new Uint8Array(1)
    expect(this.task.run(fileRead(this.k, this.file, offset, new BufferIter(into)))).toBe(1)
    return into[0]!
  }

  /** Written pages of memory. */
  memory(pages: number, value: number): number {
    const at = this.map(pages)
    for (let page = 0; page < pages; page++) {
      for (const offset of [0, 2048, P - 1]) this.store(at + page * P + offset, value)
    }
    return at
  }

  /** The same with an unmapped page behind them. */
  edge(pages: number, value: number): number {
    const at = this.memory(pages + 1, value)
    this.task.run(munmap(this.k, this.mm, at + pages * P, P))
    return at
  }

  grow(size: number): void {
    this.task.run(truncateFile(this.k, this.file.mapping, size))
  }

  close(): void {
    this.file.put()
    this.direct.put()
  }
}
