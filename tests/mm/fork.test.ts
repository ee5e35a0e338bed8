import { describe, expect, it } from 'vitest'
import { result } from '../support/kernel.ts'
import { readIntoCache, createFile } from '../../src/mm/filemap.ts'
import { regularFileKind } from '../../src/mm/file.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { installGuard } from '../../src/mm/guard-markers.ts'
import { changeProtection } from '../../src/mm/change-protection.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import type { Vma } from '../../src/mm/vma.ts'
import { VM_DONTCOPY, VM_LOCKED, VM_WIPEONFORK, VM_WRITE } from '../../src/mm/vm-flags.ts'
import { P, World } from './fault-support.ts'

/** The VMA at an address, to set what madvise and mprotect would set. */
function vmaAt(w: World, address: number): Vma {
  const guard = w.mm.mmapLock.tryRead()!
  const vma = guard.vmas.find(address)!
  guard.release()
  return vma
}

describe('fork', () => {
  it('FLT vector 6, R-FLT-7: a written page is shared, read-only on both sides, X gone', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    const child = w.fork()
    expect([w.pfn(at, child), w.shows(at), w.shows(at, child)]).toEqual([a, 'anon', 'anon'])
    expect([w.mapped(a), w.ref(a)]).toEqual([2, 2])
    expect(child.hasPinned).toBe(false)
    w.exit(child)
  })

  it('FLT vector 10, R-FLT-63: a pinned page is copied for the child; nobody faults on the next write', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    w.pin(a)
    const child = w.fork()
    expect([w.pfn(at), w.shows(at), w.ref(a)]).toEqual([a, 'anon X w', 1025])
    expect(w.shows(at, child)).toBe('anon X w')
    expect(w.pfn(at, child)).not.toBe(a)
    expect(w.load(at, child)).toBe(1)
    expect([w.faults(at, true), w.faults(at, true, child)]).toEqual([0, 0])
    w.exit(child)
    w.drop(a)
  })

  it('FLT vector 11, R-FLT-63: only the pinned page is copied', () => {
    const w = new World()
    const at = w.map(2)
    w.store(at, 1)
    w.store(at + P, 1)
    w.pin(w.pfn(at))
    const child = w.fork()
    expect(w.pfn(at, child)).not.toBe(w.pfn(at))
    expect(w.pfn(at + P, child)).toBe(w.pfn(at + P))
    w.exit(child)
    w.drop(w.pfn(at))
  })

  it('FLT vector 12, R-FLT-63: pinned and unpinned again: shared', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    w.pin(w.pfn(at))
    w.drop(w.pfn(at))
    const child = w.fork()
    expect([w.pfn(at, child), w.ref(w.pfn(at))]).toEqual([w.pfn(at), 2])
    w.exit(child)
  })

  it('FLT vector 14: two forks of a pinned page give three pages; R-FLT-65 a grandchild shares', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    w.pin(a)
    const first = w.fork()
    const second = w.fork()
    expect(new Set([a, w.pfn(at, first), w.pfn(at, second)]).size).toBe(3)
    const grandchild = w.fork(first)
    expect(w.pfn(at, grandchild)).toBe(w.pfn(at, first))
    for (const mm of [first, second, grandchild]) w.exit(mm)
    w.drop(a)
  })

  it('FLT vector 15, R-FLT-63: a pinned page under a read-only mapping is copied too', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    w.pin(a)
    const vma = vmaAt(w, at)
    vma.flags &= ~VM_WRITE
    w.mm.dataVm--
    w.task.run(changeProtection(w.k, w.mm, vma, vma.start, vma.end))
    const child = w.fork()
    expect(w.shows(at, child)).toBe('anon X')
    expect(w.pfn(at, child)).not.toBe(a)
    w.exit(child)
    w.drop(a)
  })

  it('FLT vector 16: WIPEONFORK: the child starts empty', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    w.pin(w.pfn(at))
    vmaAt(w, at).flags |= VM_WIPEONFORK
    const child = w.fork()
    expect([w.shows(at, child), w.load(at, child)]).toEqual(['none', 0])
    w.exit(child)
    w.drop(w.pfn(at))
  })

  it('FLT vector 17, R-GUP-74: DONTFORK: the child has no VMA', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    vmaAt(w, at).flags |= VM_DONTCOPY
    const child = w.fork()
    expect(w.touch(at, false, child)).toEqual({ ok: false, signal: 'SIGSEGV', code: 1 })
    expect(child.totalVm).toBe(0)
    w.exit(child)
  })

  it('FLT vector 18, R-FLT-5, R-FLT-64, FLT vector 19: many plain references count only after some earlier pin', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    w.get(a, 1400)
    const shared = w.fork()
    expect(w.pfn(at, shared)).toBe(a)
    w.exit(shared)
    w.drop(a)
    w.store(at, 2)
    w.get(a, 1400)
    w.mm.hasPinned = true
    const copied = w.fork()
    expect(w.pfn(at, copied)).not.toBe(a)
    w.exit(copied)
    w.drop(a)
  })

  it.each([
    [1021, true],
    [1022, false],
  ])('R-GUP-71 with %i extra references the page is shared: %s', (references, shared) => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const a = w.pfn(at)
    w.get(a, references)
    w.mm.hasPinned = true
    const child = w.fork()
    expect(w.pfn(at, child) === a).toBe(shared)
    w.exit(child)
    w.drop(a)
  })

  it('FLT vector 40, FLT vector 41: a private file page is copied only if the VMA was ever written', () => {
    const w = new World()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: 2 * P })
    readIntoCache(w.k, file.mapping, 0, 1)
    const at = w.map(2, { file })
    w.load(at)
    const lazy = w.fork()
    expect(w.shows(at, lazy)).toBe('none')
    w.exit(lazy)
    w.store(at + P, 1)
    const eager = w.fork()
    expect([w.pfn(at, eager), w.mapped(w.pfn(at)), eager.rssFile]).toEqual([w.pfn(at), 2, 1])
    w.exit(eager)
  })

  it('FLT vector 42, R-GUP-74: shared anonymous pages are left to the child to fault in', () => {
    const w = new World()
    const at = w.map(1, { shared: true })
    w.store(at, 1)
    const child = w.fork()
    expect(w.shows(at, child)).toBe('none')
    expect(w.load(at, child)).toBe(1)
    expect([w.pfn(at, child), w.mapped(w.pfn(at))]).toEqual([w.pfn(at), 2])
    w.exit(child)
  })

  it('R-FLT-62 the zero page is inherited without counting', () => {
    const w = new World()
    const at = w.map(2)
    w.store(at, 1)
    w.load(at + P)
    const child = w.fork()
    expect([w.shows(at + P, child), child.rssAnon]).toEqual(['zero', 1])
    w.store(at + P, 4, child)
    expect([w.shows(at + P), w.shows(at + P, child)]).toEqual(['zero', 'anon X w'])
    w.exit(child)
  })

  it('R-FLT-60 a guard in a shared file mapping makes fork copy its pages (FLT vector 69)', () => {
    const w = new World({ release: '6.18' })
    const at = w.map(2, { file: shmemFileSetup(w.k, '/memfd:g', 2 * P), shared: true })
    w.store(at + P, 1)
    w.task.run(installGuard(w.k, w.mm, vmaAt(w, at), at, at + P))
    const child = w.fork()
    expect([w.shows(at, child), w.mapped(w.pfn(at + P))]).toEqual(['guard', 2])
    expect(w.touch(at, false, child)).toEqual({ ok: false, signal: 'SIGSEGV', code: 1 })
    w.exit(child)
  })

  it('R-AS-151, R-AS-150 lock flags are not inherited, counters start over', () => {
    const w = new World()
    const at = w.map(3)
    vmaAt(w, at).flags |= VM_LOCKED
    w.mm.lockedVm = 3
    w.mm.hasPinned = true
    const child = w.fork()
    expect([child.lockedVm, child.totalVm, child.mapCount, child.hasPinned]).toEqual([0, 3, 1, false])
    w.exit(child)
    vmaAt(w, at).flags &= ~VM_LOCKED
    w.mm.lockedVm = 0
  })

  it('R-FLT-60 the child gets a table for every one of the parent, empty or not', () => {
    const w = new World({ settings: { thpEnabled: 'never' } })
    const at = w.map(1024)
    w.store(at, 1)
    w.store(at + 600 * P, 1)
    const { leaves } = w.mm.pageTable
    w.zap(at, 1)
    const child = w.fork()
    expect([w.mm.pageTable.leaves, child.pageTable.leaves]).toEqual([leaves, leaves])
  })

  it('R-FLT-66 without memory for a copy fork is -ENOMEM and leaves no child', () => {
    const w = new World({ zones: { normal: 40 } })
    const at = w.map(30)
    for (let i = 0; i < 30; i++) {
      w.store(at + i * P, 1)
      w.pin(w.pfn(at + i * P))
    }
    const before = w.k.mms.size
    expect(result(w.task.run(forkMm(w.k, w.mm, 'child')) as number)).toBe('-ENOMEM')
    expect(w.k.mms.size).toBe(before)
    expect(w.mm.writeProtectSeq % 2).toBe(0)
    expect(w.shows(at)).toBe('anon X w')
    for (let i = 0; i < 30; i++) w.drop(w.pfn(at + i * P))
  })

  it('R-GUP-76, R-FLT-61 write_protect_seq is odd while a COW mapping is copied', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const seen: number[] = []
    w.pin(w.pfn(at))
    w.k.observer = (event) => {
      if (event.type === 'fork-copy') seen.push(w.mm.writeProtectSeq)
    }
    const child = w.fork()
    expect([seen, w.mm.writeProtectSeq]).toEqual([[1], 2])
    w.exit(child)
    w.drop(w.pfn(at))
  })
})
