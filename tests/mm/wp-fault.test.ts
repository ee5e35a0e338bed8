import { describe, expect, it } from 'vitest'
import { PG_ANON_EXCLUSIVE, PG_KSM } from '../../src/memory/page-flags.ts'
import { FAULT_FLAG_UNSHARE, FAULT_FLAG_WRITE, VM_FAULT_SIGSEGV } from '../../src/mm/fault-flags.ts'
import { createFile, readIntoCache } from '../../src/mm/filemap.ts'
import { regularFileKind } from '../../src/mm/file.ts'
import { PTE_WRITE, type Leaf, pmdIndex, pteSlot } from '../../src/mm/page-table.ts'
import { PROT_READ } from '../../src/mm/mman.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import '../support/kernel.ts'
import { P, World } from './fault-support.ts'

describe('write-protect faults', () => {
  it('FLT vector 7, R-FLT-47, R-FLT-49: after fork the first writer copies, the other keeps the page without X', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    const child = w.fork()
    w.store(at, 2)
    expect(w.shows(at)).toBe('anon X w')
    expect(w.pfn(at)).not.toBe(a)
    expect([w.pfn(at, child), w.mapped(a), w.shows(at, child)]).toEqual([a, 1, 'anon'])
    expect([w.load(at), w.load(at, child)]).toEqual([2, 1])
    w.exit(child)
  })

  it('FLT vector 8, R-FLT-46, R-FLT-49: the second writer reuses it', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    const child = w.fork()
    w.store(at, 2)
    w.store(at, 3, child)
    expect([w.pfn(at, child), w.shows(at, child)]).toEqual([a, 'anon X w'])
    w.exit(child)
  })

  it('FLT vector 9, R-FLT-49: when the child is gone the parent reuses the page, 1 fault', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    w.exit(w.fork())
    expect(w.shows(at)).toBe('anon')
    expect(w.faults(at, true)).toBe(1)
    expect([w.pfn(at), w.shows(at)]).toEqual([a, 'anon X w'])
  })

  it('FLT vector 20: a plain reference on an X page does not force a copy', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    w.get(a)
    w.store(at, 2)
    expect(w.pfn(at)).toBe(a)
    w.drop(a)
  })

  it('FLT vector 21, R-FLT-49: a plain reference on a page that lost X does', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    w.get(a)
    w.exit(w.fork())
    w.store(at, 2)
    expect(w.pfn(at)).not.toBe(a)
    expect([w.mapped(a), w.ref(a)]).toEqual([0, 1])
    w.drop(a)
  })

  it('FLT vector 23, R-FLT-48: unshare gives the pinning side its own read-only page; its next write reuses it', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    const child = w.fork()
    expect(w.fault(at, FAULT_FLAG_UNSHARE)).toBe(0)
    const b = w.pfn(at)
    expect(b).not.toBe(a)
    expect([w.shows(at), w.pfn(at, child)]).toEqual(['anon X', a])
    w.pin(b)
    expect(w.faults(at, true)).toBe(1)
    expect([w.pfn(at), w.shows(at)]).toEqual([b, 'anon X w'])
    w.drop(b)
    w.exit(child)
  })

  it('FLT vector 24: unshare of a page nobody else has keeps it and sets X', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    w.exit(w.fork())
    expect(w.fault(at, FAULT_FLAG_UNSHARE)).toBe(0)
    expect([w.pfn(at), w.shows(at)]).toEqual([a, 'anon X'])
  })

  it('R-FLT-24 unshare together with write is refused and warned about', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    expect(w.fault(at, FAULT_FLAG_UNSHARE | FAULT_FLAG_WRITE)).toBe(VM_FAULT_SIGSEGV)
    expect(w.k.warnings).toHaveLength(1)
  })

  it('R-FLT-24 a write fault on a shared read-only mapping is refused', () => {
    const w = new World()
    const at = w.map(1, { shared: true, prot: PROT_READ })
    expect(w.fault(at, FAULT_FLAG_WRITE)).toBe(VM_FAULT_SIGSEGV)
  })

  it.each([
    ['6.1', 'file'],
    ['gup-v3', 'anon X'],
    ['6.18', 'anon X'],
  ] as const)('R-FLT-45 unshare of a private file page on %s leaves %s', (release, expected) => {
    const w = new World({ release })
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P })
    readIntoCache(w.k, file.mapping, 0, 1)
    const at = w.map(1, { file })
    w.load(at)
    expect(w.fault(at, FAULT_FLAG_UNSHARE)).toBe(0)
    expect(w.shows(at)).toBe(expected)
  })

  it('R-FLT-45 unshare of the zero page allocates an exclusive page of zeros', () => {
    const w = new World()
    const at = w.map(1)
    w.load(at)
    w.fault(at, FAULT_FLAG_UNSHARE)
    expect(w.shows(at)).toBe('anon X')
    expect([w.mm.rssAnon, w.load(at)]).toEqual([1, 0])
  })

  it('R-FLT-45 a KSM page is never reused', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    w.exit(w.fork())
    w.k.memory.frames.set(a, PG_KSM)
    w.store(at, 2)
    expect(w.pfn(at)).not.toBe(a)
  })

  it('R-FLT-45 shared mappings are written in place whatever the counts', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:a', P)
    const at = w.map(1, { file, shared: true })
    w.load(at)
    const a = w.pfn(at)
    w.get(a, 5)
    const leaf = w.mm.pageTable.pmd(pmdIndex(at)) as Leaf
    leaf.bits[pteSlot(at)]! &= ~PTE_WRITE
    w.store(at, 1)
    expect(w.pfn(at)).toBe(a)
    w.drop(a)
  })
})

describe('swapped pages', () => {
  it('R-FLT-52 an exclusive entry comes back as an X page with its bytes, a major fault', () => {
    const w = new World()
    const at = w.map(1)
    w.swapOut(at, Uint8Array.of(9, 8))
    expect(w.load(at + 1)).toBe(8)
    expect(w.k.pgmajfault).toBe(1)
    expect([w.shows(at), w.mm.swapents, w.mm.rssAnon, w.k.swap.used]).toEqual(['anon X', 0, 1, 0])
  })

  it.each([
    ['6.1', 'anon X'],
    ['6.12', 'anon X w'],
    ['6.18', 'anon X w'],
  ] as const)('R-FLT-52 a read brings it back on %s as %s', (release, expected) => {
    const w = new World({ release })
    const at = w.map(1)
    w.swapOut(at)
    w.load(at)
    expect(w.shows(at)).toBe(expected)
  })

  it('FLT vector 62, R-FLT-53: swapped page, fork, parent reads, child reads, parent writes', () => {
    const w = new World()
    const at = w.map(1)
    w.swapOut(at, Uint8Array.of(5))
    const child = w.fork()
    expect([w.shows(at), w.shows(at, child)]).toEqual(['swap', 'swap'])
    expect(w.load(at)).toBe(5)
    const a = w.pfn(at)
    expect(w.shows(at)).toBe('anon')
    expect(w.load(at, child)).toBe(5)
    expect([w.pfn(at, child), w.mapped(a)]).toEqual([a, 2])
    w.store(at, 6)
    expect(w.shows(at)).toBe('anon X w')
    expect(w.pfn(at)).not.toBe(a)
    expect(w.load(at, child)).toBe(5)
    expect(w.k.memory.frames.has(a, PG_ANON_EXCLUSIVE)).toBe(false)
    w.exit(child)
    expect(w.k.swap.used).toBe(0)
  })

  it('R-FLT-45 the swap cache gives a page up to the only one who still has it', () => {
    const w = new World()
    const at = w.map(1)
    w.swapOut(at, Uint8Array.of(5))
    const child = w.fork()
    w.load(at)
    const a = w.pfn(at)
    expect([w.shows(at), w.ref(a)]).toEqual(['anon', 2])
    w.exit(child)
    expect(w.ref(a)).toBe(2)
    w.store(at + 1, 6)
    expect([w.pfn(at), w.shows(at), w.ref(a), w.k.swap.used]).toEqual([a, 'anon X w', 1, 0])
  })

  it('R-FLT-70 zapping a swap entry frees its slot', () => {
    const w = new World()
    const at = w.map(1)
    w.swapOut(at)
    w.zap(at, 1)
    expect([w.mm.swapents, w.k.swap.used, w.shows(at)]).toEqual([0, 0, 'none'])
  })
})
