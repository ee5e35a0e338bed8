import { describe, expect, it } from 'vitest'
import { completeIo, createFile, readIntoCache } from '../../src/mm/filemap.ts'
import { driverKind, regularFileKind, SECRETMEM } from '../../src/mm/file.ts'
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_KILLABLE,
  FAULT_FLAG_RETRY_NOWAIT,
  VM_FAULT_MAJOR,
  VM_FAULT_RETRY,
} from '../../src/mm/fault-flags.ts'
import { MAP_FIXED, MAP_SHARED, PROT_READ } from '../../src/mm/mman.ts'
import { mmap } from '../../src/mm/mmap.ts'
import { PG_DIRTY, PG_SECRETMEM } from '../../src/memory/page-flags.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import { writebackFile } from '../../src/mm/writeback.ts'
import { handleMmFault } from '../../src/mm/memory.ts'
import '../support/kernel.ts'
import { P, World } from './fault-support.ts'
import type { OpenFile } from '../../src/mm/file.ts'

const EXT4 = regularFileKind('ext4')
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i)

/** A file of which every page is cached. */
function cached(w: World, pages: number): OpenFile {
  const file = createFile(w.k, EXT4, { path: '/data', size: pages * P })
  expect(readIntoCache(w.k, file.mapping, 0, pages)).toBe(0)
  return file
}

function mapAt(w: World, file: OpenFile, address: number, pages: number): number {
  const request = {
    addr: address,
    length: pages * P,
    prot: PROT_READ,
    flags: MAP_SHARED | MAP_FIXED,
    file,
    offset: 0,
  }
  return w.task.run(mmap(w.k, w.mm, request))
}

describe('file faults', () => {
  it('FLT vector 43: a read maps the 16-page window its address lies in', () => {
    const w = new World()
    const at = mapAt(w, cached(w, 128), 0x10000000, 128)
    w.load(at + 20 * P)
    expect(w.present(at, 128)).toEqual(range(16, 31))
    expect(w.mm.rssFile).toBe(16)
  })

  it('FLT vector 44: a window the VMA begins in starts with the VMA and still has 16 pages', () => {
    const w = new World()
    const at = mapAt(w, cached(w, 128), 0x10000000 + 5 * P, 128)
    w.load(at)
    expect(w.present(at, 128)).toEqual(range(0, 15))
    w.load(at + 30 * P)
    expect(w.present(at, 128)).toEqual([...range(0, 15), ...range(27, 42)])
  })

  it('FLT vector 45: a write maps its own page only', () => {
    for (const shared of [true, false]) {
      const w = new World()
      const at = w.map(64, { file: cached(w, 128), shared })
      w.store(at + 20 * P, 1)
      expect(w.present(at, 64)).toEqual([20])
    }
  })

  it('FLT vector 46: the window ends with the file; beyond it is SIGBUS', () => {
    const w = new World()
    const at = mapAt(w, cached(w, 22), 0x10000000, 64)
    w.load(at + 17 * P)
    expect(w.present(at, 64)).toEqual(range(16, 21))
    expect(w.touch(at + 22 * P)).toEqual({ ok: false, signal: 'SIGBUS', code: 2 })
    expect(w.task.refusal).toMatchObject({ rule: 'R-FLT-39', address: at + 22 * P })
  })

  const noTableFor = { '6.1': false, 'gup-v3': false, '6.6': false, '6.12': true, '6.18': true } as const
  it.each(Object.entries(noTableFor) as [keyof typeof noTableFor, boolean][])(
    'R-FLT-39 on %s a read beyond the end that finds only the last page brings no table with it: %s',
    (release, none) => {
      const last = (pages: number, before: (w: World, at: number) => void = () => {}): number[] => {
        const w = new World({ release })
        const at = mapAt(w, cached(w, pages), 0x10000000, pages + 1)
        before(w, at)
        const tables = w.mm.pageTable.leaves
        expect(w.touch(at + pages * P)).toEqual({ ok: false, signal: 'SIGBUS', code: 2 })
        const present = w.present(at, pages + 1)
        expect(w.mm.pageTable.leaves).toBe(present.length > 0 ? 1 : tables)
        return present
      }
      expect(last(1)).toEqual(none ? [] : [0])
      expect(last(17)).toEqual(none ? [] : [16])
      expect(last(3)).toEqual([0, 1, 2])
      // a table that is there for another mapping is used
      const beside = (w: World, at: number): void => {
        w.mapFixed(at + 64 * P, 1)
        w.store(at + 64 * P, 1)
      }
      expect(last(1, beside)).toEqual([0])
    },
  )

  it('R-FLT-39 shared memory maps its last page whatever tables there are', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:m', P)
    const at = mapAt(w, file, 0x10000000, 2)
    w.store(w.map(1, { file, shared: true }), 1)
    expect(w.touch(at + P)).toEqual({ ok: false, signal: 'SIGBUS', code: 2 })
    expect(w.present(at, 2)).toEqual([0])
  })

  it('R-AS-148 a fault that fails in a file mapping leaves no page table', () => {
    const w = new World()
    const at = w.map(2, { file: cached(w, 1) })
    expect(w.touch(at + P, true)).toEqual({ ok: false, signal: 'SIGBUS', code: 2 })
    expect(w.mm.pageTable.leaves).toBe(0)
    w.store(at, 1)
    expect(w.mm.pageTable.leaves).toBe(1)
  })

  it('FLT vector 49: writing a read-only shared mapping beyond the end is SEGV_ACCERR', () => {
    const w = new World()
    const at = mapAt(w, cached(w, 1), 0x10000000, 4)
    expect(w.touch(at + 2 * P, true)).toEqual({ ok: false, signal: 'SIGSEGV', code: 2 })
  })

  it('R-FLT-39 the partial last page is accessible in full, the next is not', () => {
    const w = new World()
    const file = createFile(w.k, EXT4, { path: '/data', size: P + 100 })
    const at = w.map(4, { file, shared: true })
    w.store(at + 2 * P - 1, 9)
    expect(w.load(at + 2 * P - 1)).toBe(9)
    expect(w.touch(at + 2 * P)).toEqual({ ok: false, signal: 'SIGBUS', code: 2 })
  })

  it('R-FLT-39 a page that is not cached is a major fault and maps itself only', () => {
    const w = new World()
    const file = createFile(w.k, EXT4, { path: '/data', size: 32 * P })
    const at = w.map(32, { file, shared: true })
    expect(w.fault(at, 0)).toBe(VM_FAULT_MAJOR)
    expect(w.present(at, 32)).toEqual([0])
    expect(w.k.pgmajfault).toBe(1)
    expect(w.ref(w.pfn(at))).toBe(3)
  })

  it('FLT vector 47, R-FLT-41: ext4 shared: read, write, write, msync, write take 1, 1, 0, -, 1 faults', () => {
    const w = new World()
    const file = cached(w, 1)
    const at = w.map(1, { file, shared: true })
    expect(w.faults(at)).toBe(1)
    expect(w.shows(at)).toBe('file')
    expect(w.k.memory.frames.has(w.pfn(at), PG_DIRTY)).toBe(false)
    expect(w.faults(at, true)).toBe(1)
    expect(w.k.memory.frames.has(w.pfn(at), PG_DIRTY)).toBe(true)
    expect(w.faults(at, true)).toBe(0)
    const page = w.pfn(at)
    expect(writebackFile(w.k, file.mapping)).toBe(1)
    expect(w.k.memory.frames.has(page, PG_DIRTY)).toBe(false)
    expect(writebackFile(w.k, file.mapping)).toBe(0)
    expect(w.faults(at, true)).toBe(1)
    expect(w.pfn(at)).toBe(page)
  })

  it('R-FLT-40 a private write copies, the file keeps its bytes', () => {
    const w = new World()
    const file = cached(w, 2)
    w.k.memory.contents.write(file.mapping.pages.get(1), 0, Uint8Array.of(42))
    const at = w.map(2, { file })
    expect(w.load(at + P)).toBe(42)
    expect(w.shows(at + P)).toBe('file')
    expect(w.faults(at + P, true)).toBe(1)
    w.store(at + P + 1, 1)
    expect(w.shows(at + P)).toBe('anon X w')
    expect(w.load(at + P)).toBe(42)
    expect(w.pfn(at + P)).not.toBe(file.mapping.pages.get(1))
    expect([w.mm.rssAnon, w.mm.rssFile]).toEqual([1, 1])
  })

  it('R-FLT-38 a driver mapping has no fault handler', () => {
    const w = new World()
    const file = createFile(w.k, driverKind('/dev/card'), { path: '/dev/card', size: P })
    const at = w.map(1, { file, shared: true })
    expect(w.touch(at)).toEqual({ ok: false, signal: 'SIGBUS', code: 2 })
  })

  it('R-FLT-44 secretmem pages fault in writable and are marked', () => {
    const w = new World()
    w.task.limits.memlock = Infinity
    const at = w.map(1, { file: createFile(w.k, SECRETMEM, { path: '/secretmem', size: P }), shared: true })
    expect(w.faults(at)).toBe(1)
    expect(w.shows(at)).toBe('file w')
    expect(w.k.memory.frames.has(w.pfn(at), PG_SECRETMEM)).toBe(true)
  })
})

describe('slow reads', () => {
  function slowFile(): { w: World; file: OpenFile; at: number } {
    const w = new World()
    const file = createFile(w.k, EXT4, { path: '/slow', size: 4 * P })
    file.mapping.slowIo = true
    return { w, file, at: w.map(4, { file, shared: true }) }
  }

  it('R-FLT-21, R-FLT-32 with ALLOW_RETRY the lock is dropped while the page is read', () => {
    const { w, file, at } = slowFile()
    const { mm, k } = w
    let lockedMeanwhile: boolean | null = null
    k.scheduler.spawn(
      'disk',
      w.task,
      (function* () {
        lockedMeanwhile = mm.mmapLock.locked
        completeIo(k, file.mapping)
        yield* []
      })(),
    )
    expect(w.touch(at)).toEqual({ ok: true })
    expect(lockedMeanwhile).toBe(false)
    expect(k.pgmajfault).toBe(1)
  })

  it('R-FLT-21, R-FLT-32 without it the lock is held', () => {
    const { w, file, at } = slowFile()
    const { mm, k } = w
    let lockedMeanwhile: boolean | null = null
    k.scheduler.spawn(
      'disk',
      w.task,
      (function* () {
        lockedMeanwhile = mm.mmapLock.locked
        completeIo(k, file.mapping)
        yield* []
      })(),
    )
    expect(w.fault(at, 0)).toBe(VM_FAULT_MAJOR)
    expect(lockedMeanwhile).toBe(true)
  })

  it('R-FLT-21 RETRY_NOWAIT keeps the lock and waits for nothing', () => {
    const { w, file, at } = slowFile()
    const { mm, k } = w
    const held = w.task.run(
      (function* () {
        const guard = yield* mm.mmapLock.read()
        const flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_RETRY_NOWAIT
        const code = yield* handleMmFault(k, guard, guard.vmas.find(at)!, at, flags)
        expect(code & VM_FAULT_RETRY).toBe(VM_FAULT_RETRY)
        const { held } = guard
        guard.release()
        return held
      })(),
    )
    expect(held).toBe(true)
    completeIo(k, file.mapping)
    expect(w.faults(at)).toBe(1)
  })

  it('R-FLT-21 a fatal signal ends a killable wait', () => {
    const { w, file, at } = slowFile()
    const { k, mm } = w
    const reader = k.scheduler.spawn(
      'reader',
      w.task,
      (function* () {
        const guard = yield* mm.mmapLock.read()
        const flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE
        return yield* handleMmFault(k, guard, guard.vmas.find(at)!, at, flags)
      })(),
    )
    expect(k.scheduler.runUntilIdle()).toBe(false)
    w.task.fatalSignalPending = true
    reader.signalled(true)
    k.scheduler.run()
    expect(reader.result! & VM_FAULT_RETRY).toBe(VM_FAULT_RETRY)
    expect(w.present(at, 4)).toEqual([])
    w.task.fatalSignalPending = false
    completeIo(k, file.mapping)
    expect(w.faults(at)).toBe(1)
  })
})
