import { describe, expect, it } from 'vitest'
import { vmaLookup } from '../../src/mm/mmap-lock.ts'
import { handleMmFault } from '../../src/mm/memory.ts'
import { Unmodelled } from '../../src/base/unmodelled.ts'
import { FAULT_FLAG_WRITE, VM_FAULT_HWPOISON, VM_FAULT_MAJOR } from '../../src/mm/fault-flags.ts'
import {
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_MARKER_POISON,
  PTE_MARKER_UFFD_WP,
  PTE_MIGRATION,
  PTE_PROTNONE,
  PTE_WRITE,
  pteSlot,
} from '../../src/mm/page-table.ts'
import type { Kthread } from '../../src/base/kthread.ts'
import { audit } from '../../src/mm/audit.ts'
import { forkMm } from '../../src/mm/fork.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_RANDOM } from '../../src/mm/mman.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import { truncateFile } from '../../src/mm/truncate.ts'
import { accessUser } from '../../src/mm/user-access.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { driverKind, regularFileKind } from '../../src/mm/file.ts'
import '../support/kernel.ts'
import { P, World } from './fault-support.ts'

describe('handle_mm_fault', () => {
  it('R-FLT-30 a present writable pte only gets accessed and dirty', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const leaf = w.mm.pageTable.leafFor(at)
    leaf.bits[pteSlot(at)]! &= ~(PTE_DIRTY | PTE_ACCESSED)
    expect(w.fault(at, 0)).toBe(0)
    expect(w.entry(at).bits & (PTE_DIRTY | PTE_ACCESSED)).toBe(PTE_ACCESSED)
    expect(w.fault(at, FAULT_FLAG_WRITE)).toBe(0)
    expect(w.entry(at).bits & (PTE_DIRTY | PTE_ACCESSED)).toBe(PTE_ACCESSED | PTE_DIRTY)
  })

  it('R-FLT-30 works on VMAs as outsiders see them and on addresses inside a page', () => {
    const w = new World()
    const at = w.map(2)
    const { k, mm } = w
    const code = w.task.run(
      (function* () {
        const guard = yield* mm.mmapLock.read()
        const got = yield* handleMmFault(k, guard, vmaLookup(guard, at)!, at + P + 123, FAULT_FLAG_WRITE)
        guard.release()
        return got
      })(),
    )
    expect(code).toBe(0)
    expect(w.present(at, 2)).toEqual([1])
  })

  it('R-FLT-51 poison is HWPOISON for GUP and SIGBUS BUS_MCEERR_AR for the program', () => {
    const w = new World()
    const at = w.map(1)
    w.mm.pageTable.leafFor(at).set(pteSlot(at), 0, PTE_MARKER_POISON)
    expect(w.fault(at, 0)).toBe(VM_FAULT_HWPOISON)
    expect(w.task.refusal).toMatchObject({ errno: 133, rule: 'R-FLT-51' })
    expect(w.touch(at)).toEqual({ ok: false, signal: 'SIGBUS', code: 4 })
    w.zap(at, 1)
    expect(w.shows(at)).toBe('none')
  })

  it('R-FLT-51 a leftover userfaultfd marker is cleared, the access succeeds', () => {
    const w = new World()
    const at = w.map(1)
    w.mm.pageTable.leafFor(at).set(pteSlot(at), 0, PTE_MARKER_UFFD_WP)
    expect(w.faults(at, true)).toBe(2)
    expect(w.shows(at)).toBe('anon X w')
  })

  it('R-FLT-51 a migration entry is Unmodelled, not guessed', () => {
    const w = new World()
    const at = w.map(1)
    const leaf = w.mm.pageTable.leafFor(at)
    leaf.set(pteSlot(at), 0, PTE_MIGRATION)
    expect(() => w.fault(at, 0)).toThrow(Unmodelled)
    w.mm.mmapLock.semaphore.releaseRead()
    leaf.set(pteSlot(at), 0, 0)
  })

  it('R-FLT-56 a NUMA hint entry gets its permissions back', () => {
    const w = new World()
    const at = w.map(1)
    w.store(at, 1)
    const leaf = w.mm.pageTable.leafFor(at)
    const bits = leaf.bits[pteSlot(at)]!
    leaf.bits[pteSlot(at)] = (bits & ~PTE_WRITE) | PTE_PROTNONE
    expect(w.faults(at, true)).toBe(1)
    expect(w.shows(at)).toBe('anon X w')
  })

  it.each([
    ['6.1', 3],
    ['6.12', 2],
  ] as const)(
    'R-FLT-22 on %s a read that is retried counts %i faults with the one before',
    (release, counted) => {
      const w = new World({ release })
      const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: 2 * P })
      const at = w.map(2, { file, shared: true })
      expect(w.task.run(madvise(w.k, w.mm, at, 2 * P, MADV_RANDOM))).toBe(0)
      expect(w.fault(at, 0)).toBe(VM_FAULT_MAJOR)
      file.mapping.slowIo = true
      w.k.scheduler.spawn(
        'disk',
        w.task,
        (function* () {
          file.mapping.io.wakeAll()
          yield* []
        })(),
      )
      expect(w.touch(at + P)).toEqual({ ok: true })
      expect([w.k.pgfault, w.k.pgmajfault]).toEqual([counted, 2])
    },
  )

  it('R-FLT-31 faults, fork, truncation and unmapping interleave page by page and the books still balance', () => {
    const w = new World()
    const { k, mm } = w
    const file = shmemFileSetup(k, '/memfd:x', 8 * P)
    const shared = w.map(8, { file, shared: true })
    const copies = w.map(8, { file })
    const anon = w.map(8)
    k.exploring = true
    const children: (Mm | number)[] = []
    const touchAll = function* (start: number): Kthread<void> {
      for (let i = 0; i < 8; i++) yield* accessUser(k, mm, start + i * P, i % 2 === 0)
    }
    const tasks = [
      touchAll(shared),
      touchAll(copies),
      touchAll(anon),
      touchAll(anon),
      (function* (): Kthread<void> {
        children.push(yield* forkMm(k, mm, 'first'))
        yield* truncateFile(k, file.mapping, 4 * P)
        children.push(yield* forkMm(k, mm, 'second'))
      })(),
      (function* (): Kthread<void> {
        yield* munmap(k, mm, anon + 2 * P, 3 * P)
      })(),
    ]
    for (const [i, body] of tasks.entries()) k.scheduler.spawn(`task ${i}`, w.task, body)
    k.scheduler.run()
    k.exploring = false
    expect(children).toHaveLength(2)
    expect(audit(k)).toEqual([])
    expect(w.present(shared + 4 * P, 4)).toEqual([])
    for (const child of children) w.exit(child as Mm)
    expect(file.mapping.pages.count).toBeGreaterThan(0)
  })

  it('R-FLT-44 what nobody can say about a fault is Unmodelled', () => {
    const w = new World()
    const unclassified = { what: 'what the driver of /dev/x does', rule: 'R-GUP-20', from: 'pages' } as const
    const file = createFile(w.k, { ...driverKind('/dev/x'), unclassified }, { path: '/dev/x', size: P })
    const at = w.map(1, { file, shared: true })
    expect(() => w.fault(at, 0)).toThrow(Unmodelled)
    w.mm.mmapLock.semaphore.releaseRead()
    const special = w.map(1)
    const guard = w.mm.mmapLock.tryRead()!
    guard.vmas.find(special)!.specialName = '[vvar]'
    guard.release()
    expect(() => w.fault(special, 0)).toThrow('a fault in [vvar]')
    w.mm.mmapLock.semaphore.releaseRead()
  })
})
