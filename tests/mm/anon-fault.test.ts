import { describe, expect, it } from 'vitest'
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_NONE, PROT_READ } from '../../src/mm/mman.ts'
import { mmap } from '../../src/mm/mmap.ts'
import { DEV_ZERO } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { FAULT_FLAG_WRITE, VM_FAULT_OOM } from '../../src/mm/fault-flags.ts'
import { PG_DIRTY } from '../../src/memory/page-flags.ts'
import { PTE_DIRTY } from '../../src/mm/page-table.ts'
import '../support/kernel.ts'
import { P, RW, World } from './fault-support.ts'

describe('anonymous faults', () => {
  it('FLT vector 1, R-FLT-2: reading an untouched page maps the zero page and counts nothing', () => {
    const w = new World()
    const at = w.map(1)
    expect(w.load(at)).toBe(0)
    expect(w.shows(at)).toBe('zero')
    expect(w.mapped(w.k.zeroPfn)).toBe(0)
    expect(w.mm.rss).toBe(0)
  })

  it('FLT vector 2, R-FLT-36: a write after that allocates an exclusive page', () => {
    const w = new World()
    const at = w.map(1)
    w.load(at)
    expect(w.faults(at, true)).toBe(1)
    expect(w.shows(at)).toBe('anon X w')
    expect(w.pfn(at)).not.toBe(w.k.zeroPfn)
    expect(w.mapped(w.pfn(at))).toBe(1)
    expect(w.mm.rssAnon).toBe(1)
  })

  it('FLT vector 3, R-FLT-8, R-FLT-10: writing an untouched page gives map 1, ref 1, X', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at + 5, 7)
    expect(w.shows(at)).toBe('anon X w')
    expect([w.mapped(w.pfn(at)), w.ref(w.pfn(at))]).toEqual([1, 1])
    expect([w.load(at + 5), w.load(at)]).toEqual([7, 0])
    expect(w.faults(at, true)).toBe(0)
    // that it was written is known to the entry alone
    expect(w.k.memory.frames.has(w.pfn(at), PG_DIRTY)).toBe(false)
    expect(w.entry(at).bits & PTE_DIRTY).toBe(PTE_DIRTY)
  })

  it('R-FLT-34 the first read makes no anon_vma, the first write does', () => {
    const w = new World()
    const at = w.map(2)
    const anonVma = () => {
      const guard = w.mm.mmapLock.tryRead()!
      const vma = guard.vmas.find(at)!
      guard.release()
      return vma.anonVma
    }
    w.load(at)
    expect(anonVma()).toBeNull()
    w.store(at, 1)
    expect(anonVma()).not.toBeNull()
  })

  it('R-FLT-9, R-FLT-35 a forced write where the VMA lacks VM_WRITE leaves a read-only pte on an X page', () => {
    const w = new World()
    const readOnly = w.map(1, { prot: PROT_READ })
    expect(w.fault(readOnly, FAULT_FLAG_WRITE)).toBe(0)
    expect(w.shows(readOnly)).toBe('anon X')
    const none = w.map(1, { prot: PROT_NONE })
    expect(w.fault(none, FAULT_FLAG_WRITE)).toBe(0)
    expect(w.shows(none)).toBe('anon X')
    expect(w.touch(none)).toEqual({ ok: false, signal: 'SIGSEGV', code: 2 })
  })

  it('R-FLT-35 without memory the fault is OOM and says so', () => {
    const w = new World({ zones: { normal: 8 } })
    const at = w.map(64)
    let code = 0
    for (let i = 0; i < 64 && code === 0; i++) code = w.fault(at + i * P, FAULT_FLAG_WRITE)
    expect(code).toBe(VM_FAULT_OOM)
    expect(w.task.refusal).toMatchObject({ errno: 12, rule: 'R-FLT-35' })
  })

  it('R-FLT-37 a private mapping of /dev/zero is anonymous memory', () => {
    const w = new World()
    const file = createFile(w.k, DEV_ZERO, { path: '/dev/zero', size: 0 })
    const request = { addr: 0, length: P, prot: 3, flags: MAP_PRIVATE, file, offset: 0 }
    const at = w.task.run(mmap(w.k, w.mm, request))
    w.load(at)
    expect(w.shows(at)).toBe('zero')
    w.store(at, 3)
    expect(w.shows(at)).toBe('anon X w')
  })

  it('R-AS-133 a touched neighbour that differs in rwx only lends its anon_vma', () => {
    const w = new World()
    const request = {
      addr: 0x10000000,
      length: P,
      prot: 3,
      flags: MAP_PRIVATE | MAP_ANONYMOUS,
      file: null,
      offset: 0,
    }
    const low = w.task.run(mmap(w.k, w.mm, request))
    const high = w.task.run(mmap(w.k, w.mm, { ...request, addr: low + P, prot: RW | PROT_EXEC }))
    expect(high).toBe(low + P)
    w.store(low, 1)
    w.store(high, 1)
    const guard = w.mm.mmapLock.tryRead()!
    const first = guard.vmas.find(low)!
    const second = guard.vmas.find(high)!
    guard.release()
    expect(second.start).not.toBe(first.start)
    expect(second.anonVma === first.anonVma).toBe(true)
  })

  it('R-AS-133 a neighbour that has inherited pages lends nothing', () => {
    const w = new World()
    w.mapFixed(0x10000000, 1)
    w.mapFixed(0x10001000, 1, RW | PROT_EXEC)
    w.store(0x10000000, 1)
    const child = w.fork()
    w.store(0x10001000, 1, child)
    const guard = child.mmapLock.tryRead()!
    const [low, high] = [guard.vmas.find(0x10000000)!, guard.vmas.find(0x10001000)!]
    guard.release()
    expect([low.anonVmaChain.length, high.anonVmaChain.length]).toEqual([2, 1])
    expect(high.anonVma === low.anonVma).toBe(false)
    w.exit(child)
  })
})
