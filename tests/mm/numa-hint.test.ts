import { describe, expect, test } from 'vitest'
import { PG_ANON_EXCLUSIVE, PG_DIRTY, PG_KSM } from '../../src/memory/page-flags.ts'
import { SHMEM, regularFileKind } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { FOLL_FORCE, FOLL_HONOR_NUMA_FAULT, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { PageArray, pinUserPagesFast, pinUserPagesUnlocked } from '../../src/mm/gup.ts'
import { ksmScan } from '../../src/mm/ksm.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_HUGEPAGE, MADV_MERGEABLE, PROT_NONE, PROT_READ } from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { changeProtNuma } from '../../src/mm/numa-hint.ts'
import { HugePmd, PTE_PRESENT, PTE_PROTNONE, PTE_WRITE, pmdIndex } from '../../src/mm/page-table.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import { result, type TestTask } from '../support/kernel.ts'
import { ALL, NEWER } from './address-space.ts'
import { P, RW, World } from './fault-support.ts'

const HUGE = 2 ** 21

function world(release: (typeof ALL)[number], nodes = 1): World {
  return new World({ release, nodes })
}

/** Hints pages from an address on. @returns how many */
function hint(w: World, at: number, pages: number, mm = w.mm): number {
  return w.task.run(changeProtNuma(w.k, mm, at, at + pages * P))
}

function isHint(w: World, at: number, mm = w.mm): boolean {
  const { bits } = w.entry(at, mm)
  return (bits & (PTE_PRESENT | PTE_PROTNONE | PTE_WRITE)) === (PTE_PRESENT | PTE_PROTNONE)
}

/** A 2 MiB page, written. @returns its address */
function thp(w: World): number {
  const at = Math.ceil(w.map(1024) / HUGE) * HUGE
  expect(w.task.run(madvise(w.k, w.mm, at, HUGE, MADV_HUGEPAGE))).toBe(0)
  w.store(at, 1)
  expect(w.mm.pageTable.pmd(pmdIndex(at))).toBeInstanceOf(HugePmd)
  return at
}

const on = (task: TestTask, node: number): void => void Object.assign(task, { node })

describe.each(ALL)('NUMA hints on %s', (release) => {
  test('R-FLT-56 R-FLT-30 the next access faults once and finds its page again', () => {
    const w = world(release)
    const a = w.map(4)
    for (let i = 0; i < 3; i++) w.store(a + i * P, i + 1)
    const pfns = [0, 1, 2].map((i) => w.pfn(a + i * P))
    expect(hint(w, a, 4)).toBe(3)
    expect([0, 1, 2, 3].map((i) => isHint(w, a + i * P))).toEqual([true, true, true, false])
    expect(hint(w, a, 4)).toBe(0)
    // a read restores the write permission of an exclusive page at once
    expect([w.faults(a), w.faults(a, true), w.load(a)]).toEqual([1, 0, 1])
    expect([w.faults(a + P, true), w.faults(a + P, true)]).toEqual([1, 0])
    expect([w.load(a + 2 * P), w.pfn(a), w.pfn(a + P), w.pfn(a + 2 * P)]).toEqual([3, ...pfns])
    expect(w.mm.rssAnon).toBe(3)
  })

  test('R-FLT-56 a page that is not exclusive is restored without write permission', () => {
    const w = world(release)
    const a = w.map(1)
    w.store(a, 1)
    const child = w.fork()
    w.exit(child)
    expect(w.k.memory.frames.has(w.pfn(a), PG_ANON_EXCLUSIVE)).toBe(false)
    expect([hint(w, a, 1), w.faults(a), w.faults(a, true)]).toEqual([1, 1, 1])
  })

  test('R-FLT-56 what is left alone: zero page, what others map, dirty file pages, KSM, PROT_NONE', () => {
    const w = world(release)
    const a = w.map(2)
    w.load(a)
    w.store(a + P, 1)
    const child = w.fork()
    expect(hint(w, a, 2)).toBe(0)
    w.exit(child)
    expect(hint(w, a, 2)).toBe(1)

    const disk = createFile(w.k, regularFileKind('ext4'), { path: '/data', size: 2 * P })
    const f = w.map(2, { file: disk, shared: true })
    w.load(f)
    w.load(f + P)
    w.k.memory.frames.set(w.pfn(f), PG_DIRTY)
    expect([hint(w, f, 2), isHint(w, f), isHint(w, f + P)]).toEqual([1, false, true])
    expect(w.faults(f + P)).toBe(1)
    const memory = createFile(w.k, SHMEM, { path: '/memfd:m', size: P })
    const s = w.map(1, { file: memory, shared: true })
    w.store(s, 1)
    expect([hint(w, s, 1), w.faults(s, true)]).toEqual([1, 1])

    const same = w.map(2)
    for (const at of [same, same + P]) w.store(at, 7)
    w.task.run(madvise(w.k, w.mm, same, 2 * P, MADV_MERGEABLE))
    w.task.run(ksmScan(w.k, 2))
    expect(w.k.memory.frames.has(w.pfn(same), PG_KSM)).toBe(true)
    expect(hint(w, same, 2)).toBe(0)

    const none = w.map(1)
    w.store(none, 1)
    w.task.run(mprotect(w.k, w.mm, none, P, PROT_NONE))
    expect(hint(w, none, 1)).toBe(0)
    disk.put()
    memory.put()
  })

  test('R-GUP-79 pages of COW mappings that may be pinned are spared from 6.12 on', () => {
    const w = world(release)
    const a = w.map(1)
    w.store(a, 1)
    const pfn = w.pfn(a)
    w.pin(pfn)
    const spared = NEWER.includes(release)
    expect([hint(w, a, 1), isHint(w, a)]).toEqual(spared ? [0, false] : [1, true])
    const memory = createFile(w.k, SHMEM, { path: '/memfd:m', size: P })
    const s = w.map(1, { file: memory, shared: true })
    w.store(s, 1)
    w.pin(w.pfn(s))
    expect(hint(w, s, 1)).toBe(1)
    w.drop(pfn)
    w.drop(w.pfn(s))
    memory.put()
  })

  test('R-FLT-54 mprotect makes an ordinary entry of a hint; a child inherits it', () => {
    const w = world(release)
    const a = w.map(1)
    w.store(a, 5)
    hint(w, a, 1)
    const child = w.fork()
    expect([isHint(w, a), isHint(w, a, child)]).toEqual([true, true])
    expect([w.load(a, child), w.faults(a, true)]).toEqual([5, 2])
    w.exit(child)
    hint(w, a, 1)
    w.task.run(mprotect(w.k, w.mm, a, P, PROT_READ))
    expect([isHint(w, a), w.faults(a)]).toEqual([false, 0])
  })

  test('R-GUP-25 who follows a hint', () => {
    const w = world(release)
    const a = w.map(1)
    w.store(a, 1)
    const pfn = w.pfn(a)
    const pages = new PageArray(1)
    /** whether a pin left the hint in place */
    const follows = (flags: number): boolean => {
      expect([hint(w, a, 1), result(w.task.run(pinUserPagesUnlocked(w.k, a, 1, pages, flags)))]).toEqual([
        1, 1,
      ])
      expect(pages.pfns[0]).toBe(pfn)
      unpinUserPages(w.k, pages, 1)
      const left = isHint(w, a)
      w.touch(a)
      return left
    }
    const older = release === 'gup-v3' || release === '6.1'
    expect([follows(0), follows(FOLL_FORCE)]).toEqual(older ? [false, true] : [true, true])
    // a write needs the permission that only the fault gives back
    expect([follows(FOLL_WRITE), follows(FOLL_WRITE | FOLL_FORCE)]).toEqual([false, false])
    if (!older) expect(follows(FOLL_HONOR_NUMA_FAULT)).toBe(false)
    // the lockless walk sees nothing there (R-GUP-57); what follows it decides as above
    hint(w, a, 1)
    expect(w.task.run(pinUserPagesFast(w.k, a, 1, 0, pages))).toBe(1)
    unpinUserPages(w.k, pages, 1)
    expect(isHint(w, a)).toBe(!older)
  })

  test('R-FLT-56 R-GUP-27 a huge page gets one hint, and a part of it splits the entry', () => {
    const w = world(release)
    const at = thp(w)
    const head = w.pfn(at)
    expect(hint(w, at, 512)).toBe(512)
    expect([isHint(w, at), w.faults(at + 5 * P, true), w.faults(at, true)]).toEqual([true, 1, 0])
    const pages = new PageArray(2)
    hint(w, at, 512)
    expect(w.task.run(pinUserPagesUnlocked(w.k, at, 2, pages, 0))).toBe(2)
    expect([pages.pfns[1], isHint(w, at)]).toEqual([head + 1, release !== 'gup-v3' && release !== '6.1'])
    unpinUserPages(w.k, pages, 2)
    w.touch(at, true)
    expect(hint(w, at, 10)).toBe(10)
    expect(w.mm.pageTable.pmd(pmdIndex(at))).not.toBeInstanceOf(HugePmd)
    expect([isHint(w, at), isHint(w, at + 10 * P), w.faults(at, true)]).toEqual([true, false, 1])
  })

  test('R-FLT-56 a page moves to the node of who touches it', () => {
    const w = world(release, 2)
    const { buddy } = w.k.memory
    const a = w.map(3, { prot: RW })
    for (let i = 0; i < 3; i++) w.store(a + i * P, i + 1)
    expect(buddy.nodeOf(w.pfn(a))).toBe(0)
    hint(w, a, 3)
    expect([w.faults(a), buddy.nodeOf(w.pfn(a))]).toEqual([1, 0])
    on(w.task, 1)
    // without a hint nothing moves
    expect([w.load(a), buddy.nodeOf(w.pfn(a))]).toEqual([1, 0])
    const before = w.pfn(a + P)
    expect([w.load(a + P), buddy.nodeOf(w.pfn(a + P))]).toEqual([2, 1])
    expect([w.pfn(a + P) === before, isHint(w, a + P), w.ref(w.pfn(a + P))]).toEqual([false, false, 1])
    w.store(a + P, 9)
    expect(w.load(a + P)).toBe(9)
    // held by somebody: it stays, and is there again
    const stays = w.pfn(a + 2 * P)
    w.get(stays)
    expect([w.load(a + 2 * P), w.pfn(a + 2 * P), isHint(w, a + 2 * P)]).toEqual([3, stays, false])
    // what a move has put back, done or not, is writable as it was before: not
    expect([w.faults(a + 2 * P, true), w.faults(a + 2 * P, true)]).toEqual([1, 0])
    w.drop(stays)
  })

  test('R-FLT-56 a huge page moves as a whole', () => {
    const w = world(release, 2)
    const at = thp(w)
    w.store(at + 9 * P, 4)
    expect(hint(w, at, 512)).toBe(512)
    on(w.task, 1)
    expect([w.load(at + 9 * P), w.k.memory.buddy.nodeOf(w.pfn(at))]).toEqual([4, 1])
    expect(w.mm.pageTable.pmd(pmdIndex(at))).toBeInstanceOf(HugePmd)
    w.store(at, 2)
    expect([w.load(at), w.load(at + 9 * P)]).toEqual([2, 4])
  })
})
