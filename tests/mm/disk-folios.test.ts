import { describe, expect, it } from 'vitest'
import { PAGE_SIZE as P, PMD_SIZE } from '../../src/base/units.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { PG_DIRTY, PG_MLOCKED } from '../../src/memory/page-flags.ts'
import { regularFileKind, type OpenFile } from '../../src/mm/file.ts'
import { fileRead, fileWrite } from '../../src/mm/file-io.ts'
import { createFile, openAgain } from '../../src/mm/filemap.ts'
import { BufferIter, UserIter } from '../../src/mm/iov-iter.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_COLD,
  MADV_DONTNEED,
  MADV_NOHUGEPAGE,
  MADV_PAGEOUT,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PROT_READ,
} from '../../src/mm/mman.ts'
import { mlock, munlock } from '../../src/mm/mlock.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { msync } from '../../src/mm/msync.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { HugePmd, Leaf, PTE_PRESENT, pmdIndex, pteSlot } from '../../src/mm/page-table.ts'
import { dropIdlePages, fallocateHole, truncateFile } from '../../src/mm/truncate.ts'
import { storeUser } from '../../src/mm/user-access.ts'
import { writebackFile } from '../../src/mm/writeback.ts'
import {
  BASE,
  RELEASES,
  counts,
  entryAt,
  exit,
  fork,
  get,
  map,
  pin,
  smallKernel,
  touch,
} from '../support/huge.ts'
import { result, testTask, type TestTask } from '../support/kernel.ts'

const OTHER = BASE + 16 * PMD_SIZE
const MS_SYNC = 4

/** A new file of ext4 and a process that maps it. */
class Rig {
  readonly k: Kernel
  readonly task: TestTask
  readonly file: OpenFile

  constructor(release: ReleaseName = '6.18', k = smallKernel(release)) {
    this.k = k
    this.task = testTask(k)
    this.file = createFile(k, regularFileKind('ext4'), { path: 'disk/f', size: 0 })
  }

  /** write(2) of bytes of 7. */
  write(offset: number, length: number): this {
    const done = this.task.run(
      fileWrite(this.k, this.file, offset, new BufferIter(new Uint8Array(length).fill(7))),
    )
    expect(done).toBe(length)
    return this
  }

  /** The same from memory at an address. */
  writeFrom(address: number, offset: number, length: number): number | string {
    const iter = new UserIter(this.k, this.task.space, [{ base: address, length }])
    return result(this.task.run(fileWrite(this.k, this.file, offset, iter)))
  }

  sync(): this {
    writebackFile(this.k, this.file.mapping)
    return this
  }

  truncate(size: number): this {
    expect(this.task.run(truncateFile(this.k, this.file.mapping, size))).toBe(0)
    return this
  }

  punch(offset: number, length: number): this {
    expect(this.task.run(fallocateHole(this.k, this.file, offset, length))).toBe(0)
    return this
  }

  /** POSIX_FADV_DONTNEED, pages */
  drop(start: number, end: number): this {
    writebackFile(this.k, this.file.mapping, start, end)
    dropIdlePages(this.k, this.file.mapping, start, end)
    return this
  }

  map(options: { at?: number; pages?: number; flags?: number; offset?: number } = {}): this {
    const { at = BASE, pages = 512, flags = MAP_SHARED, offset = 0 } = options
    expect(map(this.task, at, pages * P, { flags, file: this.file, offset: offset * P })).toBe(at)
    return this
  }

  advise(advice: number, page = 0, pages = 512): this {
    expect(this.task.run(madvise(this.k, this.task.space, BASE + page * P, pages * P, advice))).toBe(0)
    return this
  }

  read(page: number, at = BASE): this {
    expect(touch(this.task, at + page * P, false)).toBe('ok')
    return this
  }

  store(page: number, at = BASE): this {
    expect(touch(this.task, at + page * P, true)).toBe('ok')
    return this
  }

  /** page faults that something takes */
  faults(what: () => void): number {
    const before = this.k.pgfault
    what()
    return this.k.pgfault - before
  }

  /** Folios of the cache, `first[pages]`; d: dirty. */
  get folios(): string {
    const { frames } = this.k.memory
    const list: [number, string][] = []
    this.file.mapping.pages.forEach((index, pfn) => {
      if (frames.head(pfn) !== pfn) return
      const pages = frames.nrPages(pfn)
      const text = pages > 1 ? `${index}[${pages}]` : String(index)
      list.push([index, frames.has(pfn, PG_DIRTY) ? `${text}d` : text])
    })
    return list
      .sort(([a], [b]) => a - b)
      .map(([, text]) => text)
      .join(' ')
  }

  /** What a mapping at an address shows: `PMD`, or runs of present pages. */
  shows(at = BASE, pages = 512, task = this.task): string {
    if (task.space.pageTable.pmd(pmdIndex(at)) instanceof HugePmd) return 'PMD'
    const runs: [number, number][] = []
    for (let page = 0; page < pages; page++) {
      const address = at + page * P
      const entry = task.space.pageTable.pmd(pmdIndex(address))
      if (!(entry instanceof Leaf) || (entry.bits[pteSlot(address)]! & PTE_PRESENT) === 0) continue
      const last = runs.at(-1)
      if (last?.[1] === page - 1) last[1] = page
      else runs.push([page, page])
    }
    return runs.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(' ')
  }

  get head(): number {
    return this.k.memory.frames.head(this.file.mapping.pages.get(0))
  }

  byte(offset: number): number {
    const into = new Uint8Array(1)
    expect(this.task.run(fileRead(this.k, this.file, offset, new BufferIter(into)))).toBe(1)
    return into[0]!
  }
}

const DOWN_TO_0 = '256[128]d 384[64]d 448[32]d 480[16]d 496[8]d 504[4]d 508[2]d 510d'

describe('large folios in the page cache of disk files', () => {
  it.each([
    [0, 2 * P, '0[2]d'],
    [0, 3 * P, '0[2]d 2d'],
    [0, 7 * P, '0[4]d 4[2]d 6d'],
    [0, 512 * P, '0[512]d'],
    [0, 513 * P, '0[512]d 512d'],
    [0, 1024 * P, '0[512]d 512[512]d'],
    [0, 511 * P, `0[256]d ${DOWN_TO_0}`],
    [P, 8 * P, '1d 2[2]d 4[4]d 8d'],
    [2 * P, 8 * P, '2[2]d 4[4]d 8[2]d'],
    [3 * P, 30 * P, '3d 4[4]d 8[8]d 16[16]d 32d'],
    [256 * P, 512 * P, '256[256]d 512[256]d'],
    [100, P, '0d 1d'],
    [100, 3 * P, '0[2]d 2d 3d'],
    [0, 3 * P + 1, '0[2]d 2d 3d'],
    [100, 512 * P, '0[256]d 256[256]d 512d'],
  ])('R-HUGE-31.1 write(2) at %i of %i bytes: %s', (offset, length, folios) => {
    expect(new Rig().write(offset, length).folios).toBe(folios)
  })

  it.each(RELEASES.filter((release) => release !== '6.18'))(
    'R-HUGE-31.1 %s has small pages only',
    (release) => {
      expect(new Rig(release).write(0, 3 * P).folios).toBe('0d 1d 2d')
    },
  )

  it('R-HUGE-31.1 only ext4 was seen to make them', () => {
    const k = smallKernel('6.18')
    const task = testTask(k)
    const file = createFile(k, regularFileKind('xfs'), { path: 'x', size: 0 })
    task.run(fileWrite(k, file, 0, new BufferIter(new Uint8Array(2 * P))))
    expect(k.memory.frames.isLarge(file.mapping.pages.get(0))).toBe(false)
  })

  it('R-HUGE-31.1 pages that are cached stay, folios lie between them', () => {
    expect(new Rig().write(5 * P, P).write(0, 16 * P).folios).toBe('0[4]d 4d 5d 6[2]d 8[8]d')
    expect(new Rig().write(8 * P, 8 * P).write(4 * P, 30 * P).folios).toBe('4[4]d 8[8]d 16[16]d 32[2]d')
    expect(new Rig().write(0, P).write(0, 9 * P).folios).toBe('0d 1d 2[2]d 4[4]d 8d')
  })

  it('R-HUGE-31.1 where memory has no room for one it is smaller', () => {
    const rig = new Rig()
    let left = 3
    rig.k.memory.failAllocation = () => left-- > 0
    expect(rig.write(0, 16 * P).folios).toBe('0[2]d 2[2]d 4[4]d 8[8]d')
    rig.k.memory.failAllocation = null
  })

  it('R-HUGE-31.1 what a write leaves of its first and last page is read from the disk', () => {
    const rig = new Rig()
      .write(0, 4 * P)
      .sync()
      .drop(0, 4)
    rig.file.mapping.storage!.write(0, new Uint8Array([1, 2, 3]))
    rig.write(2, 2 * P)
    expect([rig.folios, rig.byte(0), rig.byte(1), rig.byte(2)]).toEqual(['0[2]d 2d', 1, 2, 7])
  })

  it('R-HUGE-31.1 memory that is not there: the folio that was begun stays, the next ones are smaller', () => {
    const rig = new Rig()
    map(rig.task, OTHER, 2048 * P)
    expect(rig.writeFrom(OTHER, 0, 2048 * P)).toBe(2048 * P)
    expect(rig.folios).toMatch(
      /^0\[512\]d 512\[256\]d 768\[128\]d 896\[64\]d 960\[32\]d .* 1020\[2\]d 1022d 1023d 1024d/,
    )

    const other = new Rig()
    map(other.task, OTHER, 511 * P)
    expect(other.writeFrom(OTHER, P, 511 * P)).toBe(511 * P)
    expect(other.folios).toMatch(
      /^1d 2\[2\]d 4\[4\]d 8\[8\]d 16\[16\]d 32\[16\]d 48\[8\]d 56\[4\]d 60\[2\]d 62d 63d 64d/,
    )

    const odd = new Rig()
    map(odd.task, OTHER, 1025 * P)
    expect(odd.writeFrom(OTHER + 100, 0, 1024 * P)).toBe(1024 * P)
    expect(odd.folios).toMatch(/^0\[512\]d 512\[256\]d 768d 769d/)
  })

  it('R-HUGE-31.1 memory that ends: a short count, and the folio is as large as the write was to be', () => {
    const rig = new Rig()
    map(rig.task, OTHER, 3 * P)
    expect([rig.writeFrom(OTHER, 0, 8 * P), rig.folios, rig.file.mapping.size]).toEqual([
      3 * P,
      '0[8]d',
      3 * P,
    ])
    const none = new Rig()
    expect(none.writeFrom(OTHER, 12 * P + 5, 8 * P)).toBe('-EFAULT')
    expect([none.folios, none.file.mapping.size]).toEqual(['12[4]d', 12 * P + 5])
  })

  it('R-HUGE-31.1 that over blocks of the disk is not modelled', () => {
    const rig = new Rig()
      .write(0, 8 * P)
      .sync()
      .drop(0, 8)
    map(rig.task, OTHER, 8 * P)
    expect(() => rig.writeFrom(OTHER, 0, 8 * P)).toThrow('Unmodelled: a write to pages on the disk')
  })

  it('R-HUGE-31.2 a read fault maps 2 MiB by a PMD, read-only; one write fault makes all of it writable and dirty', () => {
    const rig = new Rig()
      .write(0, 1024 * P)
      .sync()
      .map()
    expect([rig.faults(() => rig.read(5)), rig.shows(), entryAt(rig.task, BASE)!.write]).toEqual([
      1,
      'PMD',
      false,
    ])
    expect(counts(rig.k, rig.head)).toEqual({ ref: 514, entire: 1, total: 1, pin: 0 })
    expect(rig.folios).toBe('0[512] 512[512]')
    expect([rig.faults(() => rig.store(7)), rig.faults(() => rig.store(9))]).toEqual([1, 0])
    expect([rig.shows(), rig.folios]).toEqual(['PMD', '0[512]d 512[512]'])
    const child = fork(rig.task)
    expect(rig.shows(BASE, 512, child)).toBe('')
    touch(child, BASE, false)
    expect([rig.shows(BASE, 512, child), counts(rig.k, rig.head).total]).toEqual(['PMD', 2])
    exit(child)
  })

  it('R-HUGE-31.2 no PMD: the VMA too short, off by a page, NOHUGEPAGE, or the file ends in the folio', () => {
    expect(
      new Rig()
        .write(0, 512 * P)
        .map({ pages: 256 })
        .read(5)
        .shows(),
    ).toBe('5')
    expect(
      new Rig()
        .write(0, 512 * P)
        .map({ at: BASE + P })
        .read(5, BASE + P)
        .shows(BASE + P),
    ).toBe('5')
    const plain = new Rig()
      .write(0, 512 * P)
      .map()
      .advise(MADV_NOHUGEPAGE)
      .read(5)
    expect(plain.shows()).toBe('0-511')
    expect(
      new Rig()
        .write(0, 512 * P)
        .truncate(511 * P)
        .map()
        .read(50)
        .shows(),
    ).toBe('50')
    expect(
      new Rig()
        .write(0, 512 * P)
        .truncate(511 * P)
        .map()
        .store(50)
        .shows(),
    ).toBe('50')
    expect(
      new Rig()
        .write(0, 512 * P)
        .truncate(511 * P + 1)
        .map()
        .read(50)
        .shows(),
    ).toBe('PMD')
  })

  it('R-HUGE-31.2 a private mapping: reads by PMD, a write removes it and copies its page', () => {
    const rig = new Rig()
      .write(0, 512 * P)
      .map({ flags: MAP_PRIVATE })
      .read(5)
    expect(rig.shows()).toBe('PMD')
    expect([rig.store(7).shows(), rig.read(100).shows()]).toEqual(['7', '7 96-111'])
  })

  it('R-HUGE-31.3 folios mapped by ptes: as a whole, but fault-around leaves the one with the last page out', () => {
    const rig = new Rig()
      .write(0, 1024 * P)
      .map({ flags: MAP_PRIVATE })
      .store(21)
    expect(rig.read(20).shows()).toBe('0-511')
    const last = new Rig()
      .write(0, 64 * P)
      .map({ flags: MAP_PRIVATE, pages: 64 })
      .store(21)
    expect(last.read(20).shows()).toBe('16-31')
    expect(
      new Rig()
        .write(0, 64 * P)
        .map({ pages: 64 })
        .read(20)
        .shows(),
    ).toBe('0-63')
    expect(
      new Rig()
        .write(0, 64 * P)
        .truncate(40 * P)
        .map({ pages: 64 })
        .read(20)
        .store(5)
        .shows(),
    ).toBe('5 20')
  })

  it('R-HUGE-31.3 fault-around maps the whole of folios that stick out of its window at either end', () => {
    const eights = (pages: number) => {
      const rig = new Rig()
      for (let page = 0; page < pages; page += 8) rig.write(page * P, Math.min(8, pages - page) * P)
      return rig
    }
    const shifted = { at: BASE + 3 * P, pages: 300 }
    expect(eights(32).map(shifted).read(21).shows()).toBe('11-31')
    expect(eights(33).map(shifted).read(21).shows()).toBe('11-34')
    expect(
      eights(33)
        .map({ at: BASE + 17 * P, offset: 1, pages: 17 })
        .read(21)
        .shows(),
    ).toBe('17-32')
  })

  it('R-HUGE-31.3 a shared write maps the whole folio where nothing of it is mapped, else its page', () => {
    const rig = new Rig()
      .write(0, 48 * P)
      .sync()
      .map({ pages: 48 })
    expect([rig.store(3).shows(), rig.faults(() => rig.store(4))]).toEqual(['0-31', 0])
    expect(rig.read(40).shows()).toBe('0-47')
    expect([rig.faults(() => rig.store(41)), rig.faults(() => rig.store(42))]).toEqual([1, 1])
    expect(rig.folios).toBe('0[32]d 32[16]d')
    rig.sync()
    expect([rig.faults(() => rig.store(4)), rig.faults(() => rig.store(5)), rig.folios]).toEqual([
      1,
      1,
      '0[32]d 32[16]',
    ])
  })

  it('R-HUGE-31.4 msync of one page writes the folio and makes its PMD read-only', () => {
    const rig = new Rig()
      .write(0, 512 * P)
      .map()
      .store(5)
    expect(rig.task.run(msync(rig.k, rig.task.space, BASE + 20 * P, P, MS_SYNC))).toBe(0)
    expect([rig.folios, rig.shows(), entryAt(rig.task, BASE)!.write]).toEqual(['0[512]', 'PMD', false])
    expect([rig.faults(() => rig.read(6)), rig.faults(() => rig.store(7)), rig.folios]).toEqual([
      0,
      1,
      '0[512]d',
    ])
  })

  it('R-HUGE-31.4 the bytes of all its pages reach the disk', () => {
    const rig = new Rig().write(0, 512 * P).map()
    rig.task.run(storeUser(rig.k, rig.task.space, BASE + 300 * P, Uint8Array.of(9)))
    rig.task.run(munmap(rig.k, rig.task.space, BASE, PMD_SIZE))
    expect(rig.drop(0, 512).folios).toBe('')
    expect([rig.byte(300 * P), rig.byte(300 * P + 1)]).toEqual([9, 7])
  })

  it('R-HUGE-31.4 POSIX_FADV_DONTNEED takes whole folios only', () => {
    expect(new Rig().write(0, 1024 * P).drop(0, 513).folios).toBe('512[512]')
    expect(new Rig().write(0, 512 * P).drop(1, 512).folios).toBe('0[512]')
    const mapped = new Rig()
      .write(0, 512 * P)
      .map()
      .read(3)
    expect(mapped.drop(0, 512).folios).toBe('0[512]')
  })

  it('R-HUGE-31.5 a hole or a truncation splits a clean folio as it does that of a memory file', () => {
    const clean = (pages: number): Rig => new Rig().write(0, pages * P).sync()
    expect(clean(512).truncate(100 * P).folios).toBe('0[64] 64[32] 96[4]')
    expect(clean(512).truncate(100 * P + 5).folios).toBe('0[64] 64[32] 96[4] 100d')
    expect(
      clean(512)
        .truncate(256 * P)
        .truncate(512 * P).folios,
    ).toBe('0[256]')
    expect(clean(16).punch(3 * P, 2 * P).folios).toBe('0[2] 2 5 6[2] 8[8]')
    expect(clean(512).punch(100 * P, 100 * P).folios).toBe(
      '0[64] 64[32] 96[4] 200 201 202[2] 204[4] 208[16] 224[32] 256[256]',
    )
    expect(clean(512).punch(100 * P + 5, 100).folios).toBe(
      '0[64] 64[32] 96[4] 100d 101 102[2] 104[8] 112[16] 128[128] 256[256]',
    )
    const mapped = clean(1024)
      .map()
      .read(5)
      .truncate(100 * P)
    expect([mapped.shows(), mapped.read(50).shows()]).toEqual(['', '0-63'])
  })

  it('R-HUGE-31.5 a dirty one stays whole, with zeros in the hole', () => {
    const rig = new Rig().write(0, 512 * P).punch(100 * P, P)
    expect([rig.folios, rig.byte(100 * P), rig.byte(99 * P)]).toEqual(['0[512]d', 0, 7])
    expect(new Rig().write(0, 512 * P).punch(0, 512 * P).folios).toBe('')
    const cut = new Rig()
      .write(0, 512 * P)
      .truncate(100 * P)
      .truncate(512 * P)
    expect([cut.folios, cut.byte(99 * P), cut.byte(100 * P), cut.byte(300 * P)]).toEqual(['0[512]d', 7, 0, 0])
    expect(cut.map().read(5).shows()).toBe('PMD')
    const written = new Rig()
      .write(0, 1024 * P)
      .sync()
      .map()
      .store(5)
      .punch(100 * P, P)
    expect([written.shows(), written.read(50).shows()]).toEqual(['', 'PMD'])
  })

  it('R-HUGE-31.5 a dirty one is unmapped everywhere, but for private copies', () => {
    for (const cut of [
      (rig: Rig) => rig.punch(100 * P, P),
      (rig: Rig) => rig.punch(100 * P + 5, 50),
      (rig: Rig) => rig.punch(0, 256 * P),
      (rig: Rig) => rig.truncate(300 * P),
    ]) {
      const rig = new Rig()
        .write(0, 600 * P)
        .map()
        .map({ at: OTHER, flags: MAP_PRIVATE })
      rig.advise(MADV_NOHUGEPAGE).read(0).store(7, OTHER).read(9, OTHER)
      expect([rig.shows(), rig.shows(OTHER)]).toEqual(['0-511', '0-511'])
      cut(rig)
      expect([rig.shows(), rig.shows(OTHER), rig.folios.split(' ')[0]]).toEqual(['', '7', '0[512]d'])
    }
  })

  it('R-FLT-75, R-HUGE-31.5 a hole that begins at the end of the file or behind it does nothing', () => {
    for (const isClean of [false, true]) {
      const rig = new Rig().write(0, 512 * P).truncate(256 * P + 5)
      if (isClean) rig.sync()
      const folios = isClean ? '0[512]' : '0[512]d'
      rig.map({ pages: 300 }).store(100)
      if (isClean) rig.sync()
      for (const start of [510 * P, 257 * P, 256 * P + 5]) {
        expect([rig.punch(start, 2 * P).folios, rig.shows()]).toEqual([folios, '100'])
      }
      expect(rig.punch(256 * P + 4, P).shows()).toBe('')
    }
  })

  it('R-FLT-74, R-HUGE-31.5 a file that grows or keeps its size loses what a folio has behind its end', () => {
    const cut = (size: number) =>
      new Rig()
        .write(0, 512 * P)
        .truncate(size)
        .sync()
        .map({ pages: 300 })
        .read(100)
    const grown = cut(256 * P).truncate(300 * P)
    expect([grown.folios, grown.shows()]).toEqual(['0[256] 256[32] 288[8] 296[4]', ''])
    const same = cut(256 * P + 5).truncate(256 * P + 5)
    expect([same.folios, same.shows()]).toEqual(['0[256] 256d', ''])
    const zeroed = cut(256 * P + 5).truncate(256 * P + 9)
    expect([zeroed.folios, zeroed.shows()]).toEqual(['0[512]d', ''])
    const whole = cut(256 * P + 5).truncate(512 * P)
    expect([whole.folios, whole.shows()]).toEqual(['0[512]d', '100'])
  })

  it('R-FLT-74 a folio that a write began behind the end of the file goes with a change of the size', () => {
    const begun = () => {
      const rig = new Rig().map({ pages: 2 })
      expect(rig.writeFrom(BASE, 0, 2 * P)).toBe('-EFAULT')
      return rig
    }
    expect(begun().folios).toBe('0[2]d')
    expect(begun().truncate(0).folios).toBe('')
    expect(begun().truncate(P).folios).toBe('0[2]d')
    expect(begun().sync().truncate(P).folios).toBe('0')
  })

  it('R-HUGE-31.5 it is clean, and is split, when its last dirty block is cut away', () => {
    const eight = () => new Rig().write(0, 8 * P)
    const punched = eight()
      .punch(0, 4 * P)
      .punch(5 * P, 3 * P)
    expect([punched.folios, punched.punch(4 * P, P).folios]).toEqual(['0[8]d', '0[4] 5 6[2]'])
    expect(
      eight()
        .truncate(3 * P)
        .punch(0, 3 * P).folios,
    ).toBe('')
    expect(
      eight()
        .punch(0, 5 * P)
        .truncate(4 * P + 7).folios,
    ).toBe('0[4] 4')
    expect(
      eight()
        .sync()
        .write(3 * P, P)
        .punch(3 * P, P).folios,
    ).toBe('0[2] 2 4 5 6[2]')
    const inTwo = eight()
      .sync()
      .write(3 * P, 2 * P)
    expect([inTwo.punch(3 * P, P).folios, inTwo.punch(4 * P, P).folios]).toEqual(['0[8]d', '0[4] 5 6[2]'])
  })

  it('R-HUGE-31.5 a store through a mapping makes all its blocks dirty, and so do entries that a hole removes', () => {
    const rig = new Rig()
      .write(0, 8 * P)
      .sync()
      .map({ pages: 8 })
      .store(0)
    expect(rig.punch(0, 3 * P).folios).toBe('0[8]d')
    expect(rig.punch(3 * P, 5 * P).folios).toBe('0[8]d')
    expect(rig.punch(0, 3 * P).folios).toBe('3 4[4]')
  })

  it('R-HUGE-31.5 memory that is not there makes no block dirty but those without a place', () => {
    const eight = () => new Rig().write(0, 8 * P)
    const whole = eight().sync()
    expect([whole.writeFrom(BASE, 3 * P, P), whole.folios]).toEqual(['-EFAULT', '0[8]'])
    const holed = eight()
      .punch(3 * P, P)
      .sync()
    expect([holed.writeFrom(BASE, 3 * P, 2 * P), holed.folios]).toEqual(['-EFAULT', '0[8]d'])
    expect(holed.punch(3 * P, P).folios).toBe('0[2] 2 4 5 6[2]')
  })

  it('R-HUGE-31.4 a page behind the end of the file is written with its folio', () => {
    const rig = new Rig().write(0, 2 * P).truncate(P)
    expect([rig.folios, rig.drop(1, 2).folios]).toEqual(['0[2]d', '0[2]'])
  })

  it('R-HUGE-31.5 a clean one that somebody holds leaves the cache as a whole', () => {
    const rig = new Rig()
      .write(0, 512 * P)
      .sync()
      .map()
      .read(5)
    const held = get(rig.task, BASE + 7 * P)
    rig.punch(100 * P, P)
    expect([rig.folios, rig.shows()]).toEqual(['', ''])
    expect([rig.byte(99 * P), rig.byte(100 * P)]).toEqual([7, 0])
    held.release()
  })

  it('R-HUGE-31.5 direct I/O on a hole of a dirty folio is not modelled', () => {
    const rig = new Rig()
      .write(0, 512 * P)
      .punch(100 * P, P)
      .sync()
    const direct = openAgain(rig.k, rig.file.mapping, 'disk/f', {
      readable: true,
      writable: true,
      direct: true,
    })
    map(rig.task, OTHER, 4 * P)
    const read = (offset: number): number => {
      const iter = new UserIter(rig.k, rig.task.space, [{ base: OTHER, length: P }])
      return rig.task.run(fileRead(rig.k, direct, offset, iter))
    }
    expect(read(99 * P)).toBe(P)
    expect(() => read(100 * P)).toThrow('Unmodelled: direct I/O on a hole')
    // written to, it has a place again
    rig.write(100 * P, P).sync()
    expect(read(100 * P)).toBe(P)
    direct.put()
  })

  it('R-HUGE-31.6 COLD on a part splits a clean folio, a dirty one stays mapped', () => {
    const rig = new Rig()
      .write(0, 512 * P)
      .sync()
      .map()
      .read(5)
      .advise(MADV_COLD)
    expect([rig.shows(), rig.folios]).toEqual(['PMD', '0[512]'])
    rig.advise(MADV_COLD, 3, 1)
    expect([rig.shows(), rig.k.memory.frames.isLarge(rig.file.mapping.pages.get(0))]).toEqual(['', false])
    const dirty = new Rig()
      .write(0, 512 * P)
      .map()
      .read(5)
      .advise(MADV_COLD, 3, 1)
    expect([dirty.shows(), dirty.folios]).toEqual(['PMD', '0[512]d'])
  })

  it('R-HUGE-31.6 PAGEOUT on the whole unmaps it; when clean and not held it leaves the cache', () => {
    const rig = new Rig()
      .write(0, 512 * P)
      .sync()
      .map()
      .read(5)
      .advise(MADV_PAGEOUT)
    expect([rig.shows(), rig.folios]).toEqual(['', ''])
    const dirty = new Rig()
      .write(0, 512 * P)
      .map()
      .read(5)
      .advise(MADV_PAGEOUT)
    expect([dirty.shows(), dirty.folios]).toEqual(['', '0[512]d'])
    const held = new Rig()
      .write(0, 512 * P)
      .sync()
      .map()
      .read(5)
    const reference = get(held.task, BASE)
    expect([held.advise(MADV_PAGEOUT).shows(), held.folios]).toEqual(['', '0[512]'])
    reference.release()
  })

  it('R-HUGE-31.7 calls on a part remove the PMD, calls on the whole keep it', () => {
    const fresh = (): Rig =>
      new Rig()
        .write(0, 1024 * P)
        .sync()
        .map()
        .read(5)
    for (const [pages, shown] of [
      [1, ''],
      [512, 'PMD'],
    ] as const) {
      const rig = fresh()
      const { space } = rig.task
      rig.task.run(mprotect(rig.k, space, BASE, pages * P, PROT_READ))
      expect(rig.shows()).toBe(shown)
    }
    expect([fresh().advise(MADV_DONTNEED, 3, 1).shows(), fresh().advise(MADV_DONTNEED).shows()]).toEqual([
      '',
      '',
    ])
    expect(fresh().advise(MADV_DONTNEED, 3, 1).read(3).shows()).toBe('PMD')
    const moved = (to: number): Rig => {
      const rig = fresh()
      const how = MREMAP_MAYMOVE | MREMAP_FIXED
      expect(rig.task.run(mremap(rig.k, rig.task.space, BASE, PMD_SIZE, PMD_SIZE, how, to))).toBe(to)
      return rig
    }
    expect(moved(OTHER).shows(OTHER)).toBe('PMD')
    const off = moved(OTHER + P)
    expect([off.shows(OTHER + P), off.read(0, OTHER + P).shows(OTHER + P)]).toEqual(['', '0-15'])
  })

  it('R-HUGE-31.7 mlock: a PMD as a whole, of a part pages that are not mlocked', () => {
    const rig = new Rig().write(0, 1024 * P).map()
    const { task, k } = rig
    expect(task.run(mlock(k, task.space, BASE, PMD_SIZE))).toBe(0)
    expect([rig.shows(), k.memory.frames.has(rig.head, PG_MLOCKED)]).toEqual(['PMD', true])
    expect(task.run(munlock(k, task.space, BASE, PMD_SIZE))).toBe(0)
    expect(k.memory.frames.has(rig.head, PG_MLOCKED)).toBe(false)
    const half = new Rig().write(0, 1024 * P).map()
    expect(half.task.run(mlock(half.k, half.task.space, BASE, PMD_SIZE / 2))).toBe(0)
    expect([half.shows(), half.k.memory.frames.has(half.head, PG_MLOCKED)]).toEqual(['0-255', false])
  })

  it('R-HUGE-31.7 pins: refused for writing in a shared mapping, taken from a private copy', () => {
    const rig = new Rig()
      .write(0, 512 * P)
      .map()
      .read(5)
    const refused = pin(rig.task, BASE)
    expect([refused.result, rig.shows()]).toEqual(['-EFAULT', 'PMD'])
    const own = new Rig()
      .write(0, 512 * P)
      .map({ flags: MAP_PRIVATE })
      .read(5)
    const held = pin(own.task, BASE + 9 * P)
    expect([held.result, own.shows()]).toEqual([1, '9'])
    held.release()
  })
})
