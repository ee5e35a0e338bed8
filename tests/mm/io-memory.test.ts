import { describe, expect, test } from 'vitest'
import type { IoMemory } from '../../src/memory/io-space.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import { createFile, openAgain } from '../../src/mm/filemap.ts'
import type { OpenFile } from '../../src/mm/file.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { FOLL_FORCE, FOLL_LONGTERM, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import {
  PageArray,
  getUserPages,
  pinUserPages,
  pinUserPagesFast,
  pinUserPagesUnlocked,
} from '../../src/mm/gup.ts'
import {
  genericAccessPhys,
  ioMemoryKind,
  remapPfnRange,
  type IoMemoryKindOptions,
} from '../../src/mm/io-memory.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { mincore } from '../../src/mm/mincore.ts'
import { mlock } from '../../src/mm/mlock.ts'
import {
  MADV_COLD,
  MADV_COLLAPSE,
  MADV_DODUMP,
  MADV_DOFORK,
  MADV_DONTDUMP,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_FREE,
  MADV_HUGEPAGE,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_REMOVE,
  MADV_WILLNEED,
  MADV_WIPEONFORK,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_DONTUNMAP,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PROT_NONE,
} from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import {
  HugePmd,
  Leaf,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_WRITE,
  pmdIndex,
  pteSlot,
} from '../../src/mm/page-table.ts'
import { unmapMappingRange } from '../../src/mm/truncate.ts'
import { unpinUserPage } from '../../src/mm/unpin.ts'
import { accessUser } from '../../src/mm/user-access.ts'
import type { Vma } from '../../src/mm/vma.ts'
import { ALL, P, Q, R, RW, Space } from './address-space.ts'

/** A program and a device of some pages. */
class Bar extends Space {
  readonly bar: IoMemory
  readonly device: OpenFile

  constructor(release: (typeof ALL)[number] = '6.18', pages = 8, options: IoMemoryKindOptions = {}) {
    super(release)
    this.bar = this.k.memory.io.request('bar0', pages)
    this.device = createFile(this.k, ioMemoryKind('pci', this.bar, options), { path: '/bar', size: 0 })
  }

  /** maps pages of the device at q + page */
  show(page: number, pages: number, prot = RW, flags = MAP_SHARED, offset = 0): number {
    return this.at(page, pages, prot, flags, this.device, offset)
  }

  entry(page: number): { pfn: number; bits: number } {
    const leaf = this.mm.pageTable.pmd(pmdIndex(Q + page * P))
    if (!(leaf instanceof Leaf)) return { pfn: 0, bits: 0 }
    const slot = pteSlot(Q + page * P)
    return { pfn: leaf.pfn[slot]!, bits: leaf.bits[slot]! }
  }

  /** faults that an access takes */
  faults(page: number, write: boolean): number {
    const before = this.k.pgfault
    expect(this.touch(page, write)).toBe(true)
    return this.k.pgfault - before
  }

  vma(page: number): Vma {
    return this.vmas().find((one) => one.start <= Q + page * P && one.end > Q + page * P)!
  }

  /** generic_access_phys at a page. @returns result, errno by name */
  access(page: number, bytes: Uint8Array, write = false, offset = 0): number | string {
    return this.call(genericAccessPhys(this.k, this.vma(page), Q + page * P + offset, bytes, write))
  }
}

describe.each(ALL)('raw mappings on %s', (release) => {
  test('R-FLT-44 loads and stores reach the device, and nothing is counted', () => {
    const s = new Bar(release)
    s.show(0, 4, RW, MAP_SHARED, 2)
    expect(s.flags(0)).toBe('rd wr sh mr mw me ms pf io de dd')
    expect(s.entry(1)).toMatchObject({ pfn: s.bar.pfn + 3 })
    expect(s.entry(1).bits & (PTE_PRESENT | PTE_SPECIAL | PTE_WRITE)).toBe(
      PTE_PRESENT | PTE_SPECIAL | PTE_WRITE,
    )
    expect(s.bar.pfn).toBeGreaterThanOrEqual(s.k.memory.frames.count)
    expect([s.faults(1, false), s.faults(1, true)]).toEqual([0, 0])
    s.store(1, 77)
    expect(s.bar.bytes[3 * P]).toBe(77)
    s.bar.bytes[3 * P] = 9
    expect(s.load(1)).toBe(9)
    expect([s.mm.rss, s.mm.totalVm]).toEqual([0, 4])
  })

  test('R-FLT-44 a mapping longer than the device is refused and leaves nothing', () => {
    const s = new Bar(release)
    expect(s.try({ length: 9 * P, flags: MAP_SHARED, file: s.device })).toBe('-EINVAL')
    expect(s.try({ length: 8 * P, flags: MAP_SHARED, file: s.device, offset: P })).toBe('-EINVAL')
    expect(s.vmas()).toEqual([])
  })

  test('R-GUP-16.1 no flavour of GUP takes such a page', () => {
    const s = new Bar(release)
    s.show(0, 2)
    s.at(2, 1)
    s.touch(2)
    for (const flags of [0, FOLL_WRITE, FOLL_FORCE, FOLL_WRITE | FOLL_LONGTERM]) {
      const pages = new PageArray(3)
      const { k, mm } = s
      const slow = s.call(
        (function* () {
          const guard = yield* mm.mmapLock.read()
          const got = yield* pinUserPages(k, guard, Q, 3, flags, pages)
          guard.release()
          return got
        })(),
      )
      expect(slow).toBe('-EFAULT')
      expect(s.task.refusal?.rule).toBe('R-GUP-16.1')
      expect(s.call(pinUserPagesFast(k, Q, 3, flags, pages))).toBe('-EFAULT')
      const got = s.call(
        (function* () {
          const guard = yield* mm.mmapLock.read()
          const result = yield* getUserPages(k, guard, Q + P, 1, flags & ~FOLL_LONGTERM, null)
          guard.release()
          return result
        })(),
      )
      expect(got).toBe('-EFAULT')
    }
  })

  test('R-FLT-54 mprotect takes write away and gives it back without faults', () => {
    const s = new Bar(release)
    s.show(0, 4)
    expect(s.call(mprotect(s.k, s.mm, Q, P, R))).toBe(0)
    expect([s.touch(0), s.touch(0, false)]).toEqual([false, true])
    expect(s.call(mprotect(s.k, s.mm, Q, 4 * P, PROT_NONE))).toBe(0)
    expect([s.touch(0, false), s.touch(3, false)]).toEqual([false, false])
    expect(s.call(mprotect(s.k, s.mm, Q, 4 * P, RW))).toBe(0)
    expect([s.faults(0, true), s.faults(3, true)]).toEqual([0, 0])
    expect(s.bar.bytes.every((byte) => byte === 0)).toBe(true)
  })

  test('R-FLT-42 a driver that tracks writes is asked once for each page', () => {
    const s = new Bar(release, 8, { tracksWrites: true })
    s.show(0, 2)
    expect([s.faults(0, false), s.faults(0, true), s.faults(0, true)]).toEqual([0, 1, 0])
    // dirty entries get their write permission back at once
    expect(s.call(mprotect(s.k, s.mm, Q, 2 * P, R))).toBe(0)
    expect(s.call(mprotect(s.k, s.mm, Q, 2 * P, RW))).toBe(0)
    expect([s.faults(0, true), s.faults(1, true)]).toEqual([0, 1])
  })

  test('R-FLT-60 a child maps the device, too', () => {
    const s = new Bar(release)
    s.show(0, 2)
    const child = s.task.run(forkMm(s.k, s.mm, 'child'))
    if (typeof child === 'number') throw new Error('fork')
    s.store(0, 5)
    const entry = child.pageTable.pmd(pmdIndex(Q)) as Leaf
    expect([entry.pfn[pteSlot(Q)], entry.used]).toEqual([s.bar.pfn, 2])
    expect(s.task.run(accessUser(s.k, child, Q, true)).ok).toBe(true)
    expect([child.rss, child.hasRawEntries]).toEqual([0, true])
    s.task.run(exitMmap(s.k, child))
  })

  test.each([
    ['MADV_DONTNEED', MADV_DONTNEED, '-EINVAL'],
    ['MADV_DONTNEED_LOCKED', MADV_DONTNEED_LOCKED, '-EINVAL'],
    ['MADV_FREE', MADV_FREE, '-EINVAL'],
    ['MADV_COLD', MADV_COLD, '-EINVAL'],
    ['MADV_PAGEOUT', MADV_PAGEOUT, '-EINVAL'],
    ['MADV_POPULATE_READ', MADV_POPULATE_READ, '-EINVAL'],
    ['MADV_POPULATE_WRITE', MADV_POPULATE_WRITE, '-EINVAL'],
    ['MADV_COLLAPSE', MADV_COLLAPSE, '-EINVAL'],
    ['MADV_DOFORK', MADV_DOFORK, '-EINVAL'],
    ['MADV_DODUMP', MADV_DODUMP, '-EINVAL'],
    ['MADV_WIPEONFORK', MADV_WIPEONFORK, '-EINVAL'],
    ['MADV_REMOVE', MADV_REMOVE, '-ENODEV'],
    ['MADV_WILLNEED', MADV_WILLNEED, 0],
    ['MADV_HUGEPAGE', MADV_HUGEPAGE, 0],
    ['MADV_DONTFORK', MADV_DONTFORK, 0],
    ['MADV_DONTDUMP', MADV_DONTDUMP, 0],
  ])('R-AS-103 %s as on a perf buffer', (_, advice, expected) => {
    const s = new Bar(release)
    s.show(0, 4)
    expect(s.call(madvise(s.k, s.mm, Q, 4 * P, advice))).toBe(expected)
    expect(s.entry(0).pfn).toBe(s.bar.pfn)
  })

  test('R-AS-69 a move takes the entries along; growing and leaving an empty mapping do not work', () => {
    const s = new Bar(release)
    s.show(0, 4)
    const to = Q + 64 * P
    expect(s.call(mremap(s.k, s.mm, Q, 4 * P, 5 * P, MREMAP_MAYMOVE, 0))).toBe('-EFAULT')
    expect(s.call(mremap(s.k, s.mm, Q, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0))).toBe('-EINVAL')
    expect(s.call(mremap(s.k, s.mm, Q, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, to))).toBe(to)
    s.store(66, 3)
    expect(s.bar.bytes[2 * P]).toBe(3)
    expect(s.entry(0).bits).toBe(0)
  })

  test('R-FLT-70 munmap and MAP_FIXED clear the entries only; what a zap cleared is SIGBUS', () => {
    const s = new Bar(release)
    s.show(0, 4)
    expect(s.call(munmap(s.k, s.mm, Q + P, P))).toBe(0)
    s.at(2, 1)
    expect([s.entry(1).bits, s.entry(0).pfn, s.entry(3).pfn]).toEqual([0, s.bar.pfn, s.bar.pfn + 3])
    s.task.run(unmapMappingRange(s.k, s.device.mapping, 0, 8, true))
    expect(s.entry(0).bits).toBe(0)
    expect(s.task.run(accessUser(s.k, s.mm, Q, false))).toEqual({ ok: false, signal: 'SIGBUS', code: 2 })
  })

  test('R-AS-93 mlock counts nothing, R-PM-6 mincore sees nothing', () => {
    const s = new Bar(release)
    s.show(0, 4)
    expect(s.call(mlock(s.k, s.mm, Q, 4 * P))).toBe(0)
    expect([s.mm.lockedVm, s.flags(0).includes('lo')]).toEqual([0, false])
    s.at(8, 1)
    s.store(8, 9)
    expect(s.call(mincore(s.k, s.mm, Q, 4 * P, Q + 8 * P))).toBe(0)
    expect(s.load(8)).toBe(0)
  })

  test('R-FLT-45 a private mapping copies what is written; the device keeps its own', () => {
    const s = new Bar(release)
    s.bar.bytes.set([1, 2, 3], 2 * P)
    s.show(0, 4, RW, MAP_PRIVATE, 1)
    expect([s.faults(1, false), s.load(1)]).toEqual([0, 1])
    s.store(1, 9)
    s.bar.bytes[2 * P] = 50
    expect([s.load(1), s.mm.rssAnon]).toEqual([9, 1])
    expect(s.entry(1).pfn).toBeLessThan(s.k.memory.frames.count)
    const into = new Uint8Array(3)
    s.k.memory.contents.read(s.entry(1).pfn, 0, into)
    expect([...into]).toEqual([9, 2, 3])
    // the lockless walk does not know the mapping, and the page is like any other (R-GUP-57); what knows it refuses
    const page = new PageArray(1)
    expect(s.call(pinUserPagesFast(s.k, Q + P, 1, FOLL_WRITE, page))).toBe(1)
    unpinUserPage(s.k, page.pfns[0]!)
    expect(s.call(pinUserPagesUnlocked(s.k, Q + P, 1, page, FOLL_WRITE))).toBe('-EFAULT')
    expect(s.call(munmap(s.k, s.mm, Q, 4 * P))).toBe(0)
    expect(s.mm.rssAnon).toBe(0)
  })

  test('R-FLT-44 a private mapping must be filled as a whole, and addresses be aligned', () => {
    const s = new Space(release)
    const bar = s.k.memory.io.request('bar', 8)
    const map = (flags: number, at: number, pages: number): number | string => {
      const kind = {
        ...ioMemoryKind('odd', bar),
        mmapMethod: (_: unknown, vma: Vma) =>
          remapPfnRange(s.k, s.mm, vma, vma.start + at, bar.pfn, pages * P),
      }
      const file = createFile(s.k, kind, { path: '/odd', size: 0 })
      const result = s.try({ addr: Q, length: 4 * P, prot: R, flags: flags | MAP_FIXED, file })
      file.put()
      return result
    }
    expect(map(MAP_PRIVATE, 0, 3)).toBe('-EINVAL')
    expect(map(MAP_PRIVATE, P, 3)).toBe('-EINVAL')
    expect(map(MAP_SHARED, 100, 1)).toBe('-EINVAL')
    expect(map(MAP_SHARED, P, 2)).toBe(Q)
    expect([s.touch(0, false), s.touch(1, false), s.touch(3, false)]).toEqual([false, true, false])
    expect(map(MAP_PRIVATE, 0, 4)).toBe(Q)
  })

  test('R-FLT-44 a driver may put its frames in place when they are touched', () => {
    const s = new Bar(release, 4, { lazy: true })
    expect(s.try({ length: P, flags: MAP_PRIVATE, file: s.device })).toBe('-EINVAL')
    s.show(0, 6)
    expect([s.entry(2).bits, s.faults(2, true), s.faults(2, false)]).toEqual([0, 1, 0])
    s.store(3, 8)
    expect(s.bar.bytes[3 * P]).toBe(8)
    expect(s.task.run(accessUser(s.k, s.mm, Q + 4 * P, false))).toMatchObject({ signal: 'SIGBUS' })
  })

  test('R-ARV-5 generic_access_phys: the entry decides, and the first page', () => {
    const s = new Bar(release)
    s.bar.bytes.fill(4)
    s.show(0, 2)
    s.show(4, 1, RW, MAP_SHARED, 7)
    const bytes = new Uint8Array(2 * P)
    expect(s.access(0, bytes, false, 100)).toBe(2 * P)
    expect(bytes.every((byte) => byte === 4)).toBe(true)
    // the transfer goes on behind the mapping, and behind the device, where nothing answers
    expect(s.access(4, bytes, false, P - 2)).toBe(2 * P)
    expect([...bytes.subarray(0, 4)]).toEqual([4, 4, 0xff, 0xff])
    expect(s.access(0, Uint8Array.of(1, 2), true, P - 1)).toBe(2)
    expect([s.bar.bytes[P - 1], s.bar.bytes[P]]).toEqual([1, 2])
    // an entry that cannot be written; what a program may not read
    s.call(mprotect(s.k, s.mm, Q, P, R))
    expect(s.access(0, Uint8Array.of(1), true)).toBe('-EINVAL')
    expect(s.access(0, Uint8Array.of(1), false)).toBe(1)
    s.call(mprotect(s.k, s.mm, Q, P, PROT_NONE))
    expect(s.access(0, Uint8Array.of(1), false)).toBe(1)
    // no entry; ordinary memory
    s.task.run(unmapMappingRange(s.k, s.device.mapping, 0, 8, true))
    expect(s.access(0, Uint8Array.of(1), false)).toBe('-EINVAL')
    expect(s.task.refusal?.rule).toBe('R-ARV-5')
    s.at(10, 1)
    s.touch(10)
    expect(s.access(10, Uint8Array.of(1), false)).toBe('-EINVAL')
  })

  test('R-ARV-5 an entry that changes meanwhile is looked at again', () => {
    const s = new Bar(release)
    s.bar.bytes.set([1], 0)
    s.bar.bytes.set([2], 3 * P)
    s.show(0, 1)
    const into = new Uint8Array(1)
    s.k.exploring = true
    const access = genericAccessPhys(s.k, s.vma(0), Q, into, false)
    expect(access.next().done).toBe(false)
    const leaf = s.mm.pageTable.pmd(pmdIndex(Q)) as Leaf
    leaf.pfn[pteSlot(Q)]! += 3
    expect(access.next().done).toBe(false)
    expect([access.next().value, into[0]]).toEqual([1, 2])
    s.k.exploring = false
  })

  test('R-ARV-5 what is copied of a private mapping is ordinary memory: ENOMEM', () => {
    const s = new Bar(release)
    s.show(0, 2, RW, MAP_PRIVATE)
    expect(s.access(0, Uint8Array.of(1), true)).toBe('-EINVAL')
    s.store(0, 1)
    expect(s.access(0, new Uint8Array(1))).toBe('-ENOMEM')
    expect(s.access(1, new Uint8Array(1))).toBe(1)
  })

  test('R-ARV-5 entries of 2 MiB are followed from 6.12 on', () => {
    const s = new Bar(release, 512)
    s.bar.bytes[5 * P] = 6
    s.show(0, 8)
    const leaf = s.mm.pageTable.pmd(pmdIndex(Q))
    s.mm.pageTable.setPmd(pmdIndex(Q), new HugePmd(s.bar.pfn, PTE_PRESENT | PTE_SPECIAL | PTE_WRITE))
    const into = new Uint8Array(1)
    const newer = release === '6.12' || release === '6.18'
    expect([s.access(5, into), into[0]]).toEqual(newer ? [1, 6] : ['-EINVAL', 0])
    s.mm.pageTable.setPmd(pmdIndex(Q), leaf)
  })

  test('R-FLT-44 a device that is gone answers nothing', () => {
    const s = new Bar(release, 3)
    const other = s.k.memory.io.request('other', 3)
    expect(other.pfn % 4).toBe(0)
    s.show(0, 1)
    s.k.memory.io.release(s.bar)
    const into = new Uint8Array(1)
    expect([s.access(0, into), into[0]]).toEqual([1, 0xff])
  })

  test('R-AS-126 a second open file shows the same device', () => {
    const s = new Bar(release)
    const again = openAgain(s.k, s.device.mapping, '/bar', { readable: true, writable: true })
    s.show(0, 1)
    s.at(1, 1, RW, MAP_SHARED, again, 0)
    s.store(0, 12)
    expect(s.load(1)).toBe(12)
    expect(s.list()).toEqual(['0+1 rw-', '1+1 rw-'])
  })
})
