import { describe, expect, it } from 'vitest'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import '../support/kernel.ts'
import { P, World } from './fault-support.ts'

describe('shmem', () => {
  it('FLT vector 48: memfd shared writable: read 1 fault, write 0', () => {
    const w = new World()
    const at = w.map(1, { file: shmemFileSetup(w.k, '/memfd:a', P), shared: true })
    expect(w.faults(at)).toBe(1)
    expect(w.shows(at)).toBe('file w')
    expect(w.faults(at, true)).toBe(0)
    expect(w.mm.rssShmem).toBe(1)
  })

  it('FLT vector 50: reading beyond the end is SIGBUS', () => {
    const w = new World()
    const at = w.map(4, { file: shmemFileSetup(w.k, '/memfd:a', P), shared: true })
    expect(w.touch(at + P)).toEqual({ ok: false, signal: 'SIGBUS', code: 2 })
    expect(w.task.refusal?.rule).toBe('R-FLT-43')
  })

  it('R-FLT-43 a read of a hole allocates a page of the cache: ref 2', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:a', 4 * P)
    const at = w.map(4, { file, shared: true })
    w.load(at + 2 * P)
    expect(file.mapping.pages.count).toBe(1)
    expect(w.ref(w.pfn(at + 2 * P))).toBe(2)
  })

  it('R-FLT-40 a private write of a hole allocates the file page too', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:a', 4 * P)
    const at = w.map(4, { file })
    w.store(at, 1)
    expect(file.mapping.pages.count).toBe(1)
    expect(w.shows(at)).toBe('anon X w')
    expect(w.pfn(at)).not.toBe(file.mapping.pages.get(0))
  })

  it('R-FLT-43 shared anonymous memory is shmem', () => {
    const w = new World()
    const at = w.map(2, { shared: true })
    w.store(at, 5)
    expect(w.shows(at)).toBe('file w')
    expect(w.mm.rssShmem).toBe(1)
  })
})
