import { describe, expect, test } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { Unmodelled } from '../../src/base/unmodelled.ts'
import { SHMEM, regularFileKind } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { FOLL_FORCE, FOLL_LONGTERM, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { PageArray, pinUserPagesFast, pinUserPagesUnlocked } from '../../src/mm/gup.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_HUGEPAGE, MADV_PAGEOUT, MREMAP_MAYMOVE, PROT_READ } from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { isolateFolio, migratePages } from '../../src/mm/migrate.ts'
import { HugePmd, PTE_SOFT_CLEAN, PTE_WRITE, pmdIndex } from '../../src/mm/page-table.ts'
import { clearSoftDirty } from '../../src/mm/soft-dirty.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import { VM_SOFTDIRTY } from '../../src/mm/vm-flags.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { ALL, NEWER, Space } from './address-space.ts'
import { P, World } from './fault-support.ts'

const HUGE = 2 ** 21

function world(release: ReleaseName, nodes = 1): World {
  return new World({ release, nodes, settings: { softDirty: true } })
}

const clear = (w: World, mm: Mm = w.mm): void => expect(w.task.run(clearSoftDirty(w.k, mm))).toBe(0)

/** whether the entry at an address is soft-dirty by itself */
const dirty = (w: World, at: number, mm: Mm = w.mm): boolean => (w.entry(at, mm).bits & PTE_SOFT_CLEAN) === 0

function vmaAt(w: World, at: number): { start: number; end: number; fresh: boolean } {
  const guard = w.mm.mmapLock.tryRead()!
  const vma = guard.vmas.find(at)!
  guard.release()
  return { start: vma.start, end: vma.end, fresh: (vma.flags & VM_SOFTDIRTY) !== 0 }
}

describe.each(ALL)('soft-dirty on %s', (release) => {
  test('R-FLT-163 the first write after clearing faults once, also on an exclusive page', () => {
    const w = world(release)
    const a = w.map(3)
    w.store(a, 1)
    w.load(a + P)
    expect([vmaAt(w, a).fresh, w.faults(a, true)]).toEqual([true, 0])
    clear(w)
    expect([vmaAt(w, a).fresh, dirty(w, a), dirty(w, a + P)]).toEqual([false, false, false])
    expect([w.faults(a), dirty(w, a), w.faults(a, true), dirty(w, a), w.faults(a, true)]).toEqual([
      0,
      false,
      1,
      true,
      0,
    ])
    expect([w.faults(a + P, true), dirty(w, a + P)]).toEqual([1, true])
    // a page that comes by a read is clean, one that comes by a write is not
    expect([w.faults(a + 2 * P), dirty(w, a + 2 * P)]).toEqual([1, false])
    const b = w.map(1)
    w.store(b, 1)
    clear(w)
    w.zap(b, 1)
    w.store(b, 1)
    expect(dirty(w, b)).toBe(true)
  })

  test('R-FLT-42 shared memory is mapped read-only while it is tracked', () => {
    const w = world(release)
    const memory = createFile(w.k, SHMEM, { path: '/memfd:m', size: 2 * P })
    const disk = createFile(w.k, regularFileKind('ext4'), { path: '/data', size: 2 * P })
    for (const file of [memory, disk]) {
      const a = w.map(2, { file, shared: true })
      w.store(a, 1)
      clear(w)
      expect([w.faults(a, true), dirty(w, a), w.faults(a, true)]).toEqual([1, true, 0])
      w.zap(a, 2)
      expect([w.faults(a), dirty(w, a), w.faults(a, true), dirty(w, a)]).toEqual([1, false, 1, true])
      w.zap(a, 2)
      expect([w.faults(a, true), dirty(w, a)]).toEqual([1, true])
      file.put()
    }
  })

  test('R-FLT-54 mprotect gives write permission back to pages that are dirty only', () => {
    const w = world(release)
    const a = w.map(2)
    for (const at of [a, a + P]) w.store(at, 1)
    clear(w)
    w.store(a, 2)
    w.task.run(mprotect(w.k, w.mm, a, 2 * P, PROT_READ))
    w.task.run(mprotect(w.k, w.mm, a, 2 * P, 3))
    expect([w.faults(a, true), w.faults(a + P, true)]).toEqual([0, 1])
  })

  test('R-FLT-91 R-FLT-52 the mark survives swapping', () => {
    const w = world(release)
    w.k.swap.swapon(8)
    const a = w.map(2)
    for (const at of [a, a + P]) w.store(at, 1)
    clear(w)
    w.store(a, 2)
    w.task.run(madvise(w.k, w.mm, a, 2 * P, MADV_PAGEOUT))
    expect([w.shows(a), w.shows(a + P)]).toEqual(['swap', 'swap'])
    expect([dirty(w, a), dirty(w, a + P)]).toEqual([true, false])
    expect([w.faults(a), w.faults(a, true)]).toEqual(NEWER.includes(release) ? [1, 0] : [1, 1])
    expect([w.faults(a + P), dirty(w, a + P), w.faults(a + P, true), dirty(w, a + P)]).toEqual([
      1,
      false,
      1,
      true,
    ])
    // clearing reaches swapped pages; a write brings one in and sets it
    w.task.run(madvise(w.k, w.mm, a, 2 * P, MADV_PAGEOUT))
    clear(w)
    expect([dirty(w, a), w.faults(a, true), dirty(w, a), w.load(a)]).toEqual([false, 1, true, 2])
  })

  test('R-FLT-62 a child takes marks and tracking over', () => {
    const w = world(release)
    const a = w.map(2)
    for (const at of [a, a + P]) w.store(at, 1)
    clear(w)
    w.store(a, 2)
    const child = w.fork()
    expect([dirty(w, a, child), dirty(w, a + P, child), child.softDirtyCleared]).toEqual([true, false, true])
    w.store(a + P, 3, child)
    expect([dirty(w, a + P, child), dirty(w, a + P)]).toEqual([true, false])
    w.exit(child)
    expect([w.faults(a + P, true), dirty(w, a + P)]).toEqual([1, true])
  })

  test('R-GUP-79 pinned pages that can be written stay dirty and writable', () => {
    const w = world(release)
    const a = w.map(2)
    for (const at of [a, a + P]) w.store(at, 1)
    const pages = new PageArray(1)
    expect(w.task.run(pinUserPagesFast(w.k, a, 1, FOLL_WRITE | FOLL_LONGTERM, pages))).toBe(1)
    clear(w)
    expect([dirty(w, a), w.entry(a).bits & PTE_WRITE, dirty(w, a + P)]).toEqual([true, PTE_WRITE, false])
    unpinUserPages(w.k, pages, 1)
    clear(w)
    expect(dirty(w, a)).toBe(false)
  })

  test('R-FLT-163 R-GUP-22 a write pin sets it, a read pin does not', () => {
    const w = world(release)
    const a = w.map(1)
    w.store(a, 1)
    clear(w)
    const pages = new PageArray(1)
    const pin = (flags: number): boolean => {
      expect(w.task.run(pinUserPagesUnlocked(w.k, a, 1, pages, flags))).toBe(1)
      unpinUserPages(w.k, pages, 1)
      return dirty(w, a)
    }
    expect([pin(0), pin(FOLL_WRITE)]).toEqual([false, true])
    w.task.run(mprotect(w.k, w.mm, a, P, PROT_READ))
    clear(w)
    expect([pin(FOLL_FORCE), pin(FOLL_FORCE | FOLL_WRITE)]).toEqual([false, true])
  })

  test('R-AS-130 VM_SOFTDIRTY keeps nothing apart, and what is joined is fresh', () => {
    const s = new Space(release, {}, { settings: { softDirty: true } })
    s.at(0, 2)
    s.touch(0)
    expect(s.flags(0).split(' ')).toContain('sd')
    s.task.run(clearSoftDirty(s.k, s.mm))
    expect(s.flags(0).split(' ')).not.toContain('sd')
    s.at(2, 1)
    expect(s.list()).toEqual(['0+3 rw-'])
    expect(s.flags(0).split(' ')).toContain('sd')
    s.task.run(clearSoftDirty(s.k, s.mm))
    expect(s.call(mprotect(s.k, s.mm, 0x20_0000_0000, P, PROT_READ))).toBe(0)
    expect(s.flags(0) + s.flags(1)).not.toContain('sd')
    // a mapping that grows in place
    expect(s.call(mremap(s.k, s.mm, 0x20_0000_0000 + P, 2 * P, 3 * P, 0, 0))).toBe(0x20_0000_0000 + P)
    expect([s.flags(0).includes('sd'), s.flags(1).includes('sd')]).toEqual([false, true])
  })

  test('R-FLT-76 mremap takes marks along; what is at the new place is fresh', () => {
    const w = world(release)
    const a = w.map(2)
    for (const at of [a, a + P]) w.store(at, 1)
    clear(w)
    w.store(a, 2)
    const to = w.task.run(mremap(w.k, w.mm, a, 2 * P, 20 * P, MREMAP_MAYMOVE, 0))
    expect([dirty(w, to), dirty(w, to + P), vmaAt(w, to).fresh]).toEqual([true, false, true])
    expect([w.faults(to + P, true), w.load(to)]).toEqual([1, 2])
  })

  test('R-HUGE-25 a huge page has one mark, which its parts inherit', () => {
    const w = world(release)
    const at = Math.ceil(w.map(1024) / HUGE) * HUGE
    w.task.run(madvise(w.k, w.mm, at, HUGE, MADV_HUGEPAGE))
    w.store(at, 1)
    clear(w)
    expect([dirty(w, at), w.faults(at), dirty(w, at)]).toEqual([false, 0, false])
    expect([w.faults(at + 5 * P, true), dirty(w, at), w.faults(at, true)]).toEqual([1, true, 0])
    clear(w)
    w.task.run(mprotect(w.k, w.mm, at, P, PROT_READ))
    expect(w.mm.pageTable.pmd(pmdIndex(at))).not.toBeInstanceOf(HugePmd)
    expect([dirty(w, at), dirty(w, at + P), w.faults(at + P, true), dirty(w, at + P)]).toEqual([
      false,
      false,
      1,
      true,
    ])
    expect(dirty(w, at + 2 * P)).toBe(false)
  })

  test('R-FLT-141 the mark survives migration', () => {
    const w = world(release, 2)
    const a = w.map(2)
    for (const at of [a, a + P]) w.store(at, 1)
    clear(w)
    w.store(a, 2)
    const heads = [w.pfn(a), w.pfn(a + P)]
    for (const head of heads) expect(isolateFolio(w.k, head)).toBe(true)
    expect(w.task.run(migratePages(w.k, heads, 1)).left).toEqual([])
    expect([dirty(w, a), dirty(w, a + P), w.faults(a + P, true), dirty(w, a + P)]).toEqual([
      true,
      false,
      1,
      true,
    ])
  })

  test('R-FLT-163 without the setting nothing is kept', () => {
    const w = new World({ release })
    const a = w.map(1)
    w.store(a, 1)
    expect(vmaAt(w, a).fresh).toBe(false)
    clear(w)
    expect([dirty(w, a), w.faults(a, true), w.mm.softDirtyCleared]).toEqual([true, 0, false])
  })

  test('R-FLT-163 what the specification does not say stops', () => {
    const w = world(release)
    const at = Math.ceil(w.map(1024) / HUGE) * HUGE
    w.store(at, 1)
    clear(w)
    expect(() => w.task.run(madvise(w.k, w.mm, at, HUGE, 25))).toThrow(Unmodelled)
    w.mm.mmapLock.semaphore.releaseRead()
  })
})
