import { describe, expect, it } from 'vitest'
import { PROT_NONE, PROT_READ, PROT_WRITE } from '../../src/mm/mman.ts'
import { loadUser, storeUser } from '../../src/mm/user-access.ts'
import { VM_GROWSDOWN } from '../../src/mm/vm-flags.ts'
import '../support/kernel.ts'
import { P, World } from './fault-support.ts'

const MAPERR = { ok: false, signal: 'SIGSEGV', code: 1 }
const ACCERR = { ok: false, signal: 'SIGSEGV', code: 2 }

describe('user accesses', () => {
  it('R-FLT-20 a non-canonical address is a general protection fault', () => {
    const w = new World()
    expect(w.touch(2 ** 47)).toEqual({ ok: false, signal: 'SIGSEGV', code: 128 })
    expect(w.touch(2 ** 63)).toEqual({ ok: false, signal: 'SIGSEGV', code: 128 })
  })

  it('R-FLT-20 nothing mapped, above user space, in the kernel half: SEGV_MAPERR', () => {
    const w = new World()
    w.map(1)
    for (const address of [0, 0x1000, 0x7ffffffff000, 2 ** 64 - 2 ** 40])
      expect(w.touch(address)).toEqual(MAPERR)
  })

  it.each([
    ['write to a read-only mapping', PROT_READ, true, ACCERR],
    ['read of PROT_NONE', PROT_NONE, false, ACCERR],
    ['read of a write-only mapping', PROT_WRITE, false, { ok: true }],
    ['write to a write-only mapping', PROT_WRITE, true, { ok: true }],
  ])('R-FLT-20 %s', (_, prot, write, expected) => {
    const w = new World()
    expect(w.touch(w.map(1, { prot }), write)).toEqual(expected)
  })

  it('R-FLT-20 bytes cross pages; what was stored before a signal stays', () => {
    const w = new World()
    const at = w.map(2)
    const bytes = Uint8Array.from({ length: P + 100 }, (_, i) => i % 251)
    expect(w.task.run(storeUser(w.k, w.mm, at + 50, bytes))).toEqual({ ok: true })
    const back = new Uint8Array(bytes.length)
    w.task.run(loadUser(w.k, w.mm, at + 50, back))
    expect(back).toEqual(bytes)
    const last = w.map(1)
    const end = w.task.run(storeUser(w.k, w.mm, last + P - 2, Uint8Array.of(1, 2, 3, 4)))
    if (end.ok) expect(w.load(last + P)).toBe(3)
    else expect(end).toEqual(MAPERR)
    expect(w.load(last + P - 1)).toBe(2)
  })
})

describe('stack growth', () => {
  const TOP = 0x7ff000000000

  function stack(limit = 8 * 2 ** 20): World {
    const w = new World()
    w.task.limits.stack = limit
    w.mapFixed(TOP - 4 * P, 4)
    const guard = w.mm.mmapLock.tryRead()!
    guard.vmas.find(TOP - P)!.flags |= VM_GROWSDOWN
    guard.release()
    w.mm.dataVm -= 4
    w.mm.stackVm += 4
    return w
  }

  function start(w: World): number {
    const guard = w.mm.mmapLock.tryRead()!
    const vma = guard.vmas.find(TOP - P)!
    guard.release()
    return vma.start
  }

  it('R-FLT-25 an access far below grows the stack in one step', () => {
    const w = stack()
    w.store(TOP - 2 ** 20, 5)
    expect(start(w)).toBe(TOP - 2 ** 20)
    expect(w.load(TOP - 2 ** 20)).toBe(5)
  })

  it('R-FLT-25 beyond RLIMIT_STACK it is SEGV_MAPERR', () => {
    const w = stack()
    expect(w.touch(TOP - 64 * 2 ** 20, true)).toEqual(MAPERR)
    expect(start(w)).toBe(TOP - 4 * P)
  })

  it('R-FLT-25 an accessible neighbour within the guard gap stops it', () => {
    const w = stack()
    w.mapFixed(TOP - 512 * 1024, 1)
    expect(w.touch(TOP - 8 * P, true)).toEqual(MAPERR)
  })

  it('R-FLT-25 a PROT_NONE neighbour does not', () => {
    const w = stack()
    w.mapFixed(TOP - 512 * 1024, 1, PROT_NONE)
    expect(w.touch(TOP - 8 * P, true)).toEqual({ ok: true })
  })

  it('FLT vector 54, R-FLT-23: a kernel copy grows it too', () => {
    const w = stack()
    const result = w.task.run(loadUser(w.k, w.mm, TOP - 5 * P, new Uint8Array(8), 'kernel'))
    expect(result).toEqual({ ok: true })
    expect(start(w)).toBe(TOP - 5 * P)
  })
})
