import { describe, expect, test } from 'vitest'
import { PAGE_SIZE } from '../../../src/base/units.ts'
import { driverKind, type FileKind } from '../../../src/mm/file.ts'
import { createFile } from '../../../src/mm/filemap.ts'
import { ioMemoryKind, remapPfnRange, type IoMemoryKindOptions } from '../../../src/mm/io-memory.ts'
import { MAP_SHARED } from '../../../src/mm/mman.ts'
import { PTE_MARKER_POISON, pteSlot } from '../../../src/mm/page-table.ts'
import { putPage } from '../../../src/mm/unpin.ts'
import { hvaToPfn, kvmReleasePfn, type HvaRequest } from '../../../src/virt/kvm/kvm-main.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  createUserfaultfd,
  uffdCopy,
  uffdRegister,
} from '../../../src/mm/userfaultfd.ts'
import { RO, WO, World } from '../../mm/gup-fixture.ts'

const RELEASES = ['gup-v3', '6.1', '6.6', '6.12', '6.18'] as const

describe.each(RELEASES)('hva_to_pfn on %s', (release) => {
  const ask = (w: World, hva: number, more: Partial<HvaRequest> = {}) =>
    w.task.run(hvaToPfn(w.k, { hva, writeFault: false, acceptsWritable: false, ...more }))
  const write = { writeFault: true }

  test('R-KVM-3 a page that is there: the fast path, writable', () => {
    const w = new World(release)
    const a = w.map(1, { touched: true })
    const { pinAcquired } = w.k
    expect(ask(w, a, write)).toEqual({ pfn: w.pfn(a), writable: true })
    expect(ask(w, a, { acceptsWritable: true })).toEqual({ pfn: w.pfn(a), writable: true })
    expect(ask(w, a)).toEqual({ pfn: w.pfn(a), writable: false })
    expect([w.ref(w.pfn(a)), w.k.pinAcquired - pinAcquired]).toEqual([4, 0])
    for (let i = 0; i < 3; i++) putPage(w.k, w.pfn(a))
  })

  test('R-KVM-3 read faults map the zero page unless a write is tried', () => {
    const w = new World(release)
    const a = w.map(2)
    expect(ask(w, a)).toEqual({ pfn: w.k.zeroPfn, writable: false })
    putPage(w.k, w.k.zeroPfn)
    const got = ask(w, a + PAGE_SIZE, write)
    expect(got).toEqual({ pfn: w.pfn(a + PAGE_SIZE), writable: true })
    putPage(w.k, w.pfn(a + PAGE_SIZE))
  })

  test('R-KVM-3 atomic callers get what is there or nothing', () => {
    const w = new World(release)
    const a = w.map(1)
    expect(ask(w, a, { ...write, atomic: true })).toEqual({ error: 'fault', async: false })
    expect(w.pfn(a)).toBe(0)
  })

  test('R-KVM-3 no mapping, no permission', () => {
    const w = new World(release)
    const a = w.map(1, { prot: RO })
    expect(ask(w, a, write)).toEqual({ error: 'fault', async: false })
    expect(ask(w, 0x7000000)).toEqual({ error: 'fault', async: false })
    expect(ask(w, 0x7000000, { allowAsync: true })).toEqual({ error: 'fault', async: false })
    expect(ask(w, a, { ...write, allowAsync: true })).toEqual({ error: 'fault', async: false })
    expect(w.mm.mmapLock.locked).toBe(false)
  })

  test('R-KVM-4 the second question, about poison, brings the page in, also for a read that is refused', () => {
    const w = new World(release)
    const a = w.map(2, { prot: WO })
    expect(ask(w, a)).toEqual({ error: 'fault', async: false })
    expect([w.pfn(a) !== 0, w.mm.rssAnon]).toEqual(release === '6.18' ? [false, 0] : [true, 1])
    if (w.pfn(a) !== 0) expect(w.ref(w.pfn(a))).toBe(1)
    w.mm.pageTable.leafFor(a).set(pteSlot(a) + 1, 0, PTE_MARKER_POISON)
    expect(ask(w, a + PAGE_SIZE)).toMatchObject({ error: release === '6.18' ? 'fault' : 'hwpoison' })
    w.mm.pageTable.leafFor(a).set(pteSlot(a) + 1, 0, 0)
  })

  test('R-KVM-3 with async allowed a page that must be waited for is left to somebody else', () => {
    const w = new World(release)
    const a = w.map(1)
    const uffd = createUserfaultfd(w.k)
    w.task.run(uffdRegister(w.k, uffd, w.mm, a, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    expect(ask(w, a, { ...write, allowAsync: true })).toEqual({ error: 'fault', async: true })
    // and without, waited for
    const waiting = w.k.scheduler.spawn(
      'vcpu',
      w.task,
      hvaToPfn(w.k, { hva: a, writeFault: true, acceptsWritable: false }),
    )
    w.k.scheduler.runUntilIdle()
    expect(waiting.done).toBe(false)
    w.task.run(uffdCopy(w.k, uffd, w.mm, a, new Uint8Array(PAGE_SIZE)))
    w.k.scheduler.run()
    expect(waiting.result).toEqual({ pfn: w.pfn(a), writable: true })
    putPage(w.k, w.pfn(a))
  })

  test('R-KVM-2 a signal ends the wait where the release permits it', () => {
    const w = new World(release)
    const a = w.map(1)
    const uffd = createUserfaultfd(w.k)
    w.task.run(uffdRegister(w.k, uffd, w.mm, a, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    const request = { hva: a, ...write, acceptsWritable: false, interruptible: true }
    const waiting = w.k.scheduler.spawn('vcpu', w.task, hvaToPfn(w.k, request))
    w.k.scheduler.runUntilIdle()
    w.task.signalPending = true
    waiting.signalled(false)
    w.k.scheduler.runUntilIdle()
    if (w.k.release.kvm.interruptible) {
      expect(waiting.result).toEqual({ error: 'sigpending', async: false })
      return
    }
    expect(waiting.done).toBe(false)
    w.task.run(uffdCopy(w.k, uffd, w.mm, a, new Uint8Array(PAGE_SIZE)))
    w.k.scheduler.run()
    putPage(w.k, w.pfn(a))
  })

  test('R-KVM-5 R-KVM-6 the memory of a device: what the entry says, without a reference', () => {
    const w = new World(release)
    const bar = w.k.memory.io.request('bar', 4)
    const open = (options: IoMemoryKindOptions) =>
      createFile(w.k, ioMemoryKind('pci', bar, options), { path: '/bar', size: 0 })
    const [eager, lazy, tracked] = [open({}), open({ lazy: true }), open({ tracksWrites: true })]
    const a = w.map(2, { file: eager, flags: MAP_SHARED })
    expect(ask(w, a + PAGE_SIZE, write)).toEqual({ pfn: bar.pfn + 1, writable: true })
    expect(ask(w, a)).toEqual({ pfn: bar.pfn, writable: true })
    kvmReleasePfn(w.k, bar.pfn)
    const b = w.map(6, { file: lazy, flags: MAP_SHARED })
    expect(ask(w, b + 3 * PAGE_SIZE, write)).toEqual({ pfn: bar.pfn + 3, writable: true })
    expect(ask(w, b + 5 * PAGE_SIZE, write)).toEqual({ error: 'fault', async: false })
    const c = w.map(1, { file: tracked, flags: MAP_SHARED })
    expect(ask(w, c)).toEqual({ pfn: bar.pfn, writable: false })
    expect(ask(w, c, write)).toEqual({ error: 'ro-fault', async: false })
    expect(w.mm.mmapLock.locked).toBe(false)
  })

  test('R-KVM-5 ordinary memory in a raw mapping is referenced, free memory refused', () => {
    const w = new World(release)
    const [page, free] = [w.k.memory.allocFolio(0, { movable: false }), 500]
    const kind: FileKind = {
      ...driverKind('perf_event'),
      mmapMethod: (k, vma, mm) =>
        remapPfnRange(k, mm, vma, vma.start, page, PAGE_SIZE) ||
        remapPfnRange(k, mm, vma, vma.start + PAGE_SIZE, free, PAGE_SIZE),
    }
    const a = w.map(2, { file: createFile(w.k, kind, { path: '/perf', size: 0 }), flags: MAP_SHARED })
    expect(ask(w, a, write)).toEqual({ pfn: page, writable: true })
    expect(w.ref(page)).toBe(2)
    kvmReleasePfn(w.k, page)
    expect(w.ref(page)).toBe(1)
    expect(ask(w, a + PAGE_SIZE)).toEqual({ error: 'fault', async: false })
    putPage(w.k, page)
  })
})
