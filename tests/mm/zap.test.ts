import { describe, expect, it } from 'vitest'
import { changeProtection } from '../../src/mm/change-protection.ts'
import { createFile, readIntoCache } from '../../src/mm/filemap.ts'
import { regularFileKind } from '../../src/mm/file.ts'
import { installGuard, removeGuard } from '../../src/mm/guard-markers.ts'
import { movePageTables } from '../../src/mm/move-page-tables.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import { PG_ANON_EXCLUSIVE, PG_DIRTY } from '../../src/memory/page-flags.ts'
import { FAULT_FLAG_WRITE } from '../../src/mm/fault-flags.ts'
import { VM_ACCESS_FLAGS, VM_READ, VM_WRITE } from '../../src/mm/vm-flags.ts'
import type { Vma } from '../../src/mm/vma.ts'
import '../support/kernel.ts'
import { P, World } from './fault-support.ts'

function vmaAt(w: World, address: number): Vma {
  const guard = w.mm.mmapLock.tryRead()!
  const vma = guard.vmas.find(address)!
  guard.release()
  return vma
}

/** What mprotect(2) does to the ptes once the flags are set. */
function protect(w: World, address: number, access: number): void {
  const vma = vmaAt(w, address)
  vma.flags = (vma.flags & ~VM_ACCESS_FLAGS) | access
  w.task.run(changeProtection(w.k, w.mm, vma, vma.start, vma.end))
}

describe('zap', () => {
  it('FLT vector 27, R-FLT-13, R-FLT-168, R-AS-107, R-GUP-77: DONTNEED of a pinned page orphans it; the address starts over', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 7)
    const a = w.pfn(at)
    w.pin(a)
    w.zap(at, 1)
    expect([w.shows(at), w.ref(a), w.mapped(a), w.mm.rssAnon]).toEqual(['none', 1024, 0, 0])
    expect(w.k.memory.frames.has(a, PG_ANON_EXCLUSIVE)).toBe(true)
    expect([w.load(at), w.shows(at)]).toEqual([0, 'zero'])
    w.store(at, 1)
    expect(w.pfn(at)).not.toBe(a)
    w.drop(a)
  })

  it('R-AS-146 munmap leaves a pinned page to its pin', () => {
    const w = new World()
    const at = w.map(4)
    w.store(at, 7)
    const a = w.pfn(at)
    w.pin(a)
    expect(w.task.run(munmap(w.k, w.mm, at, 4 * P))).toBe(0)
    expect([w.ref(a), w.mapped(a), w.mm.totalVm]).toEqual([1024, 0, 0])
    const again = w.map(4)
    w.store(again, 1)
    expect(w.pfn(again)).not.toBe(a)
    w.drop(a)
  })

  it('FLT vector 36: DONTNEED of a pinned memfd page: the same page comes back', () => {
    const w = new World()
    const at = w.map(1, { file: shmemFileSetup(w.k, '/memfd:a', P), shared: true })
    w.store(at, 3)
    const a = w.pfn(at)
    w.pin(a)
    w.zap(at, 1)
    expect([w.ref(a), w.mapped(a)]).toEqual([1025, 0])
    expect([w.load(at), w.pfn(at)]).toEqual([3, a])
    w.drop(a)
  })

  it('FLT vector 37: DONTNEED of a private copy shows the file page again', () => {
    const w = new World()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P })
    readIntoCache(w.k, file.mapping, 0, 1)
    const at = w.map(1, { file })
    w.store(at, 3)
    const a = w.pfn(at)
    w.pin(a)
    w.zap(at, 1)
    expect([w.load(at), w.shows(at), w.ref(a)]).toEqual([0, 'file', 1024])
    w.drop(a)
  })

  it('R-FLT-70 a dirty file pte leaves a dirty page behind', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:a', P)
    const at = w.map(1, { file, shared: true })
    w.load(at)
    w.touch(at, true)
    const a = w.pfn(at)
    expect(w.k.memory.frames.has(a, PG_DIRTY)).toBe(false)
    w.zap(at, 1)
    expect([w.k.memory.frames.has(a, PG_DIRTY), w.mm.rssShmem]).toEqual([true, 0])
  })

  it('R-AS-148 page tables go with the last page of their span', () => {
    const w = new World()
    const at = w.map(2048)
    for (let i = 0; i < 2048; i += 512) w.store(at + i * P, 1)
    const leaves = w.mm.pageTable.leaves
    expect(leaves).toBeGreaterThanOrEqual(4)
    w.task.run(munmap(w.k, w.mm, at, 2048 * P))
    expect(w.mm.pageTable.leaves).toBe(0)
  })

  it.each([
    ['6.12', 1],
    ['6.18', 0],
  ] as const)('R-AS-148 DONTNEED of 4 MiB on %s keeps or frees an emptied table', (release, kept) => {
    const w = new World({ release, settings: { thpEnabled: 'never' } })
    const at = w.map(1024)
    w.store(at + 511 * P, 1)
    w.zap(at, 1024)
    expect(w.mm.pageTable.leaves).toBe(kept)
  })

  it('R-AS-148 a table at the edge of the range stays, empty or not', () => {
    const w = new World({ release: '6.18', settings: { thpEnabled: 'never' } })
    const at = w.map(2048)
    for (let i = 0; i < 3; i++) w.store(at + (512 * i + 5) * P, 1)
    const { leaves } = w.mm.pageTable
    w.zap(at + P, 1022)
    expect(leaves - w.mm.pageTable.leaves).toBe(0)
    w.zap(at + P, 1535)
    expect(leaves - w.mm.pageTable.leaves).toBe(2)
  })

  it('R-FLT-71 a range of terabytes with one page in it is zapped at once', () => {
    const w = new World()
    const pages = 2 ** 30
    const at = w.map(pages, { prot: 0 })
    const middle = at + 2 ** 29 * P
    w.fault(middle, FAULT_FLAG_WRITE)
    expect(w.shows(middle)).toBe('anon X')
    const start = performance.now()
    w.zap(at, pages)
    expect(performance.now() - start).toBeLessThan(1000)
    expect(w.shows(middle)).toBe('none')
  })
})

describe('guard regions (FLT vector 69)', () => {
  it('R-FLT-78 access is SEGV_MAPERR, DONTNEED keeps the guard, removal gives memory back', () => {
    const w = new World({ release: '6.18' })
    const at = w.map(3)
    w.store(at + P, 5)
    w.task.run(installGuard(w.k, w.mm, vmaAt(w, at), at, at + 2 * P))
    expect([w.shows(at), w.shows(at + P), w.mm.rssAnon]).toEqual(['guard', 'guard', 0])
    expect(w.touch(at)).toEqual({ ok: false, signal: 'SIGSEGV', code: 1 })
    expect(w.task.refusal?.rule).toBe('R-FLT-78')
    w.zap(at, 3)
    expect(w.shows(at)).toBe('guard')
    w.store(at + 2 * P, 1)
    w.task.run(removeGuard(w.k, w.mm, vmaAt(w, at), at, at + 3 * P))
    expect([w.shows(at), w.shows(at + 2 * P), w.load(at + P)]).toEqual(['none', 'anon X w', 0])
  })

  it('R-FLT-70 munmap takes guards with it', () => {
    const w = new World({ release: '6.18' })
    const at = w.map(2)
    w.task.run(installGuard(w.k, w.mm, vmaAt(w, at), at, at + 2 * P))
    w.task.run(munmap(w.k, w.mm, at, 2 * P))
    expect(w.mm.pageTable.leaves).toBe(0)
  })
})

describe('change of protection', () => {
  it('FLT vector 32, R-FLT-14: PROT_NONE and back: same page, no fault', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    w.pin(a)
    protect(w, at, 0)
    expect(w.pfn(at)).toBe(a)
    expect(w.touch(at)).toEqual({ ok: false, signal: 'SIGSEGV', code: 2 })
    protect(w, at, VM_READ | VM_WRITE)
    expect([w.faults(at, true), w.pfn(at), w.ref(a)]).toEqual([0, a, 1025])
    w.drop(a)
  })

  it('R-FLT-54 a page that lost X does not become writable by mprotect', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const child = w.fork()
    protect(w, at, VM_READ)
    protect(w, at, VM_READ | VM_WRITE)
    expect(w.shows(at)).toBe('anon')
    expect(w.faults(at, true)).toBe(1)
    w.exit(child)
  })

  it('R-FLT-54 shared pages that track writes become writable only when dirty', () => {
    const w = new World()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: 2 * P })
    const at = w.map(2, { file, shared: true })
    w.load(at)
    w.store(at + P, 1)
    protect(w, at, VM_READ)
    protect(w, at, VM_READ | VM_WRITE)
    expect([w.shows(at), w.shows(at + P)]).toEqual(['file', 'file w'])
  })
})

describe('moving page tables', () => {
  const MIB2 = 512 * P
  it.each([
    ['entry by entry', 0x10000000, 0x20001000, 600],
    ['by whole tables', 0x10000000, 0x20000000, 1024],
    ['both ways in one move', 0x10000000 - P, 0x20000000 - P, 600],
  ])('R-FLT-76 entries move with their pages and pins, %s', (_, from, to, pages) => {
    const w = new World()
    w.mapFixed(from, pages)
    w.mapFixed(to, pages)
    const touched = [0, 2, 511, 599]
    for (const i of touched) w.store(from + i * P, i + 1)
    const pfns = touched.map((i) => w.pfn(from + i * P))
    const table = w.mm.pageTable.pmd(from / MIB2)
    w.pin(pfns[0]!)
    w.task.run(movePageTables(w.k, w.mm, vmaAt(w, from), from, vmaAt(w, to), to, pages * P))
    expect(touched.map((i) => w.pfn(to + i * P))).toEqual(pfns)
    expect(w.present(from, pages)).toEqual([])
    expect(w.present(to, pages)).toEqual(touched)
    expect(touched.map((i) => w.load(to + i * P))).toEqual([1, 3, 512 % 256, 600 % 256])
    if (from % MIB2 === 0 && to % MIB2 === 0) expect(w.mm.pageTable.pmd(to / MIB2) === table).toBe(true)
    w.drop(pfns[0]!)
  })
})
