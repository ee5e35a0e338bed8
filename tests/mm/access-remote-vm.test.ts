import { describe, expect, test } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { PG_DIRTY, PG_REFERENCED } from '../../src/memory/page-flags.ts'
import { accessRemoteVm } from '../../src/mm/access-remote-vm.ts'
import { FOLL_ANON, FOLL_FORCE, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { getDumpPage, getUserPagesRemote } from '../../src/mm/gup.ts'
import { MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_PRIVATE, MAP_SHARED } from '../../src/mm/mman.ts'
import { PTE_DIRTY, pteSlot } from '../../src/mm/page-table.ts'
import { putPage } from '../../src/mm/unpin.ts'
import { testTask } from '../support/kernel.ts'
import { NONE, RO, World, missVmas } from './gup-fixture.ts'

const all: ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']

/** access by somebody else */
function access(w: World, address: number, buffer: Uint8Array, write: boolean, flags = FOLL_FORCE): number {
  const tracer = testTask(w.k, { comm: 'tracer' })
  return tracer.run(accessRemoteVm(w.k, w.mm, address, buffer, write, flags))
}

describe.each(all)('__access_remote_vm on %s', (release) => {
  test('R-ARV-2 reads and writes across pages, and holds nothing afterwards', () => {
    const w = new World(release)
    const a = w.map(3)
    const text = new Uint8Array(PAGE_SIZE + 20).map((_, i) => i % 251)
    expect(access(w, a + PAGE_SIZE - 10, text, true)).toBe(text.length)
    const back = new Uint8Array(text.length)
    expect(access(w, a + PAGE_SIZE - 10, back, false)).toBe(text.length)
    expect(back).toEqual(text)
    expect([0, 1, 2].map((i) => w.ref(w.pfn(a + i * PAGE_SIZE)))).toEqual([1, 1, 1])
    expect(w.k.memory.frames.has(w.pfn(a), PG_DIRTY)).toBe(true)
    expect(w.mm.mmapLock.locked).toBe(false)
  })

  test('R-ARV-7, R-ARV-8 stops at the first page that fails and keeps what was done', () => {
    const w = new World(release)
    const a = w.map(1)
    expect(access(w, a + 100, new Uint8Array(2 * PAGE_SIZE).fill(7), true)).toBe(PAGE_SIZE - 100)
    const byte = new Uint8Array(1)
    expect(access(w, a + PAGE_SIZE - 1, byte, false)).toBe(1)
    expect(byte[0]).toBe(7)
    expect(access(w, 0x7000000, byte, false)).toBe(0)
  })

  test('R-COM-7, R-GUP-19 forced writes: private yes, shared no', () => {
    const w = new World(release)
    const one = new Uint8Array([5])
    for (const prot of [RO, NONE]) {
      const a = w.map(1, { prot })
      expect(access(w, a, one, true)).toBe(1)
      const back = new Uint8Array(1)
      expect(access(w, a, back, false)).toBe(1)
      expect(back).toEqual(one)
      expect(access(w, a, one, true, 0)).toBe(0)
    }
    expect(access(w, w.map(1, { prot: RO, file: w.memfd(1), flags: MAP_SHARED }), one, true)).toBe(0)
  })

  test('R-COM-7, R-GUP-98 secretmem gives nothing, FOLL_ANON refuses files', () => {
    const w = new World(release)
    const byte = new Uint8Array(1)
    expect(access(w, w.map(1, { file: w.secretmem(1), touched: true }), byte, false)).toBe(0)
    expect(access(w, w.map(1, { file: w.memfd(1) }), byte, false, FOLL_ANON)).toBe(0)
    expect(access(w, w.map(1), byte, false, FOLL_ANON)).toBe(1)
  })

  test('R-COM-10 what is looked at counts as accessed; a core dump leaves no trace', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const { frames } = w.k.memory
    const pfn = w.pfn(a)
    const marks = (): boolean[] => [frames.has(pfn, PG_REFERENCED), frames.has(pfn, PG_DIRTY)]
    frames.clear(pfn, PG_REFERENCED | PG_DIRTY)
    putPage(w.k, w.task.run(getDumpPage(w.k, a)))
    expect(marks()).toEqual([false, false])
    access(w, a, new Uint8Array(1), false)
    expect(marks()).toEqual([true, false])
    const entry = w.mm.pageTable.leafFor(a)
    entry.bits[pteSlot(a)]! &= ~PTE_DIRTY
    // FOLL_WRITE alone dirties what was clean, nothing is written
    const touched = w.underLock((guard) => getUserPagesRemote(w.k, w.mm, a, 1, FOLL_WRITE, null, guard))
    expect([touched, ...marks()]).toEqual([1, true, true])
  })

  test('R-ARV-8 whatever the error was, it is a short copy', () => {
    const w = new World(release, { zones: { normal: 64 } })
    const a = w.map(100)
    const memory = new Uint8Array(100 * PAGE_SIZE)
    const short = access(w, a, memory, true)
    expect(short % PAGE_SIZE).toBe(0)
    expect([short > 0, short < memory.length]).toEqual([true, true])
    expect(access(w, a + short, new Uint8Array(1), true)).toBe(0)
    const dying = testTask(w.k, { comm: 'tracer' })
    dying.fatalSignalPending = true
    expect(dying.run(accessRemoteVm(w.k, w.mm, a, new Uint8Array(1), false, 0))).toBe(0)
    expect(dying.refusal!.errno).toBe(4)
    dying.fatalSignalPending = false
  })

  test('R-ARV-10 untouched memory: a read maps the zero page, a write makes a page, a huge one where it may', () => {
    const w = new World(release)
    const a = w.map(2, { prot: NONE })
    access(w, a, new Uint8Array(1), false)
    access(w, a + PAGE_SIZE, new Uint8Array(1), true)
    expect(w.pfn(a)).toBe(w.k.zeroPfn)
    expect([w.pfn(a + PAGE_SIZE) === w.k.zeroPfn, w.mm.rssAnon]).toEqual([false, 1])
    const huge = w.mapThp()
    access(w, huge + 5 * PAGE_SIZE, new Uint8Array(1), true)
    expect(w.mm.rssAnon).toBe(1 + 512)
  })

  test('R-ARV-3, R-AS-87 below a growing mapping the stack grows', () => {
    const w = new World(release)
    const a = w.map(1, { at: 0x20000000, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, touched: true })
    expect(access(w, a - 5 * PAGE_SIZE, new Uint8Array([3]), true)).toBe(1)
    w.read(a - 5 * PAGE_SIZE)
    const guard = w.mm.mmapLock.tryRead()!
    expect(guard.vmas.find(a)!.start).toBe(a - 5 * PAGE_SIZE)
    guard.release()
  })

  test('R-ARV-2 a growing mapping met in the middle', () => {
    const w = new World(release)
    const top = w.map(1, {
      at: 0x20000000,
      flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN,
      touched: true,
    })
    const low = w.map(1, { at: 0x20000000 - 300 * PAGE_SIZE, touched: true })
    const got = access(w, low, new Uint8Array(PAGE_SIZE + 1), false)
    // within the guard gap of the lower mapping nothing may grow
    expect(got).toBe(PAGE_SIZE)
    expect(top).toBe(0x20000000)
  })

  test('R-ARV-1 killed while waiting for the lock', () => {
    const w = new World(release)
    const a = w.map(1)
    const writer = w.mm.mmapLock.tryWrite()!
    const tracer = testTask(w.k, { comm: 'tracer' })
    const task = w.k.scheduler.spawn(
      'tracer',
      tracer,
      accessRemoteVm(w.k, w.mm, a, new Uint8Array(1), false, 0),
    )
    w.k.scheduler.runUntilIdle()
    tracer.fatalSignalPending = true
    task.signalled(true)
    w.k.scheduler.run()
    expect(task.result).toBe(0)
    writer.release()
  })
})

describe('a VMA that is missing although the lock was held', () => {
  test('REMOTE vector 54, R-ARV-11, R-COM-20, R-GUP-114: the VMA is missing after GUP: bytes so far, a warning, and here the page is put', () => {
    const w = new World('gup-v3')
    const a = w.map(2, { touched: true })
    const first = w.pfn(a)
    const second = w.pfn(a + PAGE_SIZE)
    missVmas(w, a, () => w.ref(second) > 1)
    expect(access(w, a + 96, new Uint8Array(PAGE_SIZE), false)).toBe(PAGE_SIZE - 96)
    expect([w.ref(first), w.ref(second)]).toEqual([1, 1])
    expect(w.k.warnings.map(({ id }) => id)).toEqual(['remote-vm-gone'])
    // GUP itself, called by a tracer: nothing
    missVmas(w, a, () => w.ref(first) > 1)
    expect(access(w, a, new Uint8Array(8), true)).toBe(0)
    expect([w.ref(first), w.k.warnings.length]).toEqual([1, 1])
  })
})
