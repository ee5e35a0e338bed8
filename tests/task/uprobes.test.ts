import { describe, expect, test } from 'vitest'
import { SECRETMEM, type OpenFile } from '../../src/mm/file.ts'
import {
  MADV_DODUMP,
  MADV_DONTDUMP,
  MADV_DONTNEED,
  MADV_PAGEOUT,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
} from '../../src/mm/mman.ts'
import { createUserfaultfd, uffdRegister, uffdZeropage } from '../../src/mm/userfaultfd.ts'
import { putPage } from '../../src/mm/unpin.ts'
import { uprobeRegister } from '../../src/task/uprobe-register.ts'
import { updateRefCtrAt } from '../../src/task/uprobes.ts'
import { COUNTER, INT3, NOP, P, PLACE, RELEASES, UprobeRig } from './uprobe-rig.ts'

describe.each(RELEASES)('a breakpoint on %s', (release) => {
  const inPlace = release === '6.18'

  test('REMOTE vector 42, R-UPR-12: the byte in the process, not in the file and not in a shared mapping', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const shared = rig.map(3, { prot: 'rx', shared: true })
    rig.byte(a + PLACE)
    rig.byte(shared + PLACE)
    const { anon, file } = rig.rss
    const before = rig.pfn(a + PLACE)
    const probe = rig.register()
    expect([rig.byte(a + PLACE), rig.byte(a + PLACE - 1), rig.byte(a + PLACE + 1)]).toEqual([INT3, NOP, NOP])
    expect([rig.inFile(PLACE), rig.byte(shared + PLACE)]).toEqual([NOP, NOP])
    expect(rig.rss).toEqual({ anon: anon + 1, file: file - 1 })
    expect(rig.pfn(a + PLACE)).not.toBe(before)
    expect(rig.k.memory.frames.refcount[rig.pfn(a + PLACE)]).toBe(1)
    probe.unregister()
    expect([rig.byte(a + PLACE), rig.pfn(a + PLACE), rig.isAnon(a + PLACE)]).toEqual([NOP, before, false])
    expect(rig.rss).toEqual({ anon, file })
  })

  test('REMOTE vector 43: a mapping that is made later has it, one that is gone takes it along', () => {
    const rig = new UprobeRig(release)
    const probe = rig.register()
    const a = rig.map()
    expect([rig.byte(a + PLACE), rig.isAnon(a + PLACE)]).toEqual([INT3, true])
    rig.app.munmap(a, 3 * P)
    expect(rig.rss.anon).toBe(0)
    const b = rig.map(1, { first: 1 })
    expect(rig.byte(b + (PLACE % P))).toBe(INT3)
    probe.unregister()
    expect(rig.byte(b + (PLACE % P))).toBe(NOP)
    expect(rig.byte(rig.map() + PLACE)).toBe(NOP)
  })

  test('REMOTE vector 44: writable and shared mappings are not probed', () => {
    const rig = new UprobeRig(release)
    const writable = rig.map(3, { prot: 'rwx' })
    const shared = rig.map(3, { shared: true })
    const probe = rig.register()
    expect([rig.byte(writable + PLACE), rig.byte(shared + PLACE)]).toEqual([NOP, NOP])
    // R-UPR-3: not even when it stops being writable; memory that may only be read is
    rig.app.mprotect(writable, 3 * P, 'rx')
    expect(rig.byte(writable + PLACE)).toBe(NOP)
    const readable = rig.map(3, { prot: 'r' })
    expect(rig.byte(readable + PLACE)).toBe(INT3)
    probe.unregister()
    expect(rig.byte(readable + PLACE)).toBe(NOP)
  })

  test('REMOTE vector 45: a breakpoint that somebody has overwritten is left alone', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const counter = rig.mapCounter()
    const probe = rig.register({ refCtrOffset: COUNTER })
    rig.poke(a + PLACE, [0x91])
    probe.unregister()
    expect([rig.byte(a + PLACE), rig.count(counter), rig.log]).toEqual([0x91, 1, []])
  })

  test.each([INT3, 0xcd, 0xf1, 0xf4])(
    'REMOTE vector 46: the instruction is a trap, or the like: %i',
    (trap) => {
      const rig = new UprobeRig(release)
      rig.app.write(rig.fd, new Uint8Array([trap]), PLACE)
      // nobody maps it, nobody looks
      const probe = rig.register()
      const late = rig.map()
      expect(rig.byte(late + PLACE)).toBe(trap)
      probe.unregister()
      expect([rig.enable(), rig.tool.refusal?.rule]).toEqual(['-ENOTSUPP', 'R-UPR-5'])
      expect([rig.byte(late + PLACE), rig.isAnon(late + PLACE)]).toEqual([trap, false])
    },
  )

  test('REMOTE vector 47: places at the end of the file and beyond it', () => {
    const rig = new UprobeRig(release)
    expect(rig.enable({ offset: 4 * P + 1 })).toBe('-EINVAL')
    expect(rig.tool.refusal?.rule).toBe('R-UPR-4')
    const probe = rig.register({ offset: 4 * P })
    const a = rig.map(5)
    expect(rig.isAnon(a)).toBe(false)
    probe.unregister()
    // R-UPR-5: with a mapping there the instruction is looked for, and there is none
    expect(rig.enable({ offset: 4 * P })).toBe('-EIO')
    expect(rig.tool.refusal?.rule).toBe('R-UPR-5')
  })

  test('REMOTE vector 48: what else is refused', () => {
    const rig = new UprobeRig(release)
    expect(rig.enable({ refCtrOffset: 0x11 })).toBe('-EINVAL')
    expect(rig.enable({ fd: 77 })).toBe('-EBADF')
    const secret = rig.tool.openFile('/secretmem', P, SECRETMEM)
    expect(rig.enable({ fd: secret, offset: 0 })).toBe('-EIO')
    expect(rig.enable({ fd: rig.tool.memfdCreateHugetlb('h', 0), offset: 0 })).toBe('-EIO')
    const silent = uprobeRegister(rig.k, rig.file, PLACE, 0, { handler: null })
    expect(rig.tool.run(silent)).toBe(-22)
    const probe = rig.register({ refCtrOffset: COUNTER })
    expect([rig.enable(), rig.tool.refusal?.rule]).toEqual(['-EINVAL', 'R-UPR-4'])
    expect(rig.log).toEqual(['ref_ctr_offset mismatch'])
    probe.unregister()
    expect(rig.enable()).toBe(0)
  })

  test('R-UPR-1 two consumers share the breakpoint, two places of a page do not', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const [one, same, beside] = [rig.register(), rig.register(), rig.register({ offset: PLACE + 2 })]
    expect([rig.byte(a + PLACE), rig.byte(a + PLACE + 1), rig.byte(a + PLACE + 2)]).toEqual([INT3, NOP, INT3])
    one.unregister()
    expect(rig.byte(a + PLACE)).toBe(INT3)
    same.unregister()
    expect([rig.byte(a + PLACE), rig.byte(a + PLACE + 2), rig.isAnon(a + PLACE)]).toEqual([NOP, INT3, true])
    beside.unregister()
    expect([rig.byte(a + PLACE + 2), rig.isAnon(a + PLACE)]).toEqual([NOP, false])
  })

  test('R-UPR-1 the uprobe keeps the file', () => {
    const rig = new UprobeRig(release)
    const probe = rig.register()
    const { mapping } = rig.file
    rig.app.close(rig.fd)
    rig.tool.close(rig.fd)
    expect(rig.k.mappings.has(mapping.id)).toBe(true)
    probe.unregister()
    expect(rig.k.mappings.has(mapping.id)).toBe(false)
  })

  test('R-UPR-3 a breakpoint is removed from a mapping that has become writable', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const probe = rig.register()
    rig.app.mprotect(a, 3 * P, 'rwx')
    probe.unregister()
    expect(rig.byte(a + PLACE)).toBe(NOP)
  })

  test('R-UPR-5 what a process cannot be given stops all of it', () => {
    const rig = new UprobeRig(release)
    const other = rig.spawn('other')
    other.install(rig.file.get())
    const b = rig.map()
    // the youngest mapping comes first: this one has its breakpoint when the other cannot be counted
    const a = rig.map(3, { app: other })
    const counter = rig.mapCounter(other)
    rig.setCount(rig.mapCounter(), -5)
    expect([rig.enable({ refCtrOffset: COUNTER }), rig.tool.refusal?.rule]).toEqual(['-EINVAL', 'R-UPR-21'])
    expect([rig.byte(a + PLACE, other), rig.byte(b + PLACE), rig.count(counter, other)]).toEqual([
      NOP,
      NOP,
      0,
    ])
    // R-UPR-13: the write fault of 6.18 has come first
    expect(rig.isAnon(b + PLACE)).toBe(inPlace)
    expect(rig.log).toEqual(['ref_ctr going negative', 'ref_ctr increment failed'])
  })

  test('R-UPR-5 fork waits until breakpoints are everywhere, and the child has them', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const probe = rig.register()
    const child = rig.app.fork()
    expect([rig.byte(a + PLACE, child), rig.pfn(a + PLACE, child)]).toEqual([INT3, rig.pfn(a + PLACE)])
    // what the child drops it reads from the file again, without a breakpoint
    child.madvise(a + P, P, MADV_DONTNEED)
    expect([rig.byte(a + PLACE, child), rig.byte(a + PLACE)]).toEqual([NOP, INT3])
    const second = child.fork()
    expect(rig.byte(a + PLACE, second)).toBe(NOP)
    probe.unregister()
    const seen = [rig.app, child, second].map((app) => rig.byte(a + PLACE, app))
    expect([seen, rig.app, rig.isAnon(a + PLACE)]).toEqual([[NOP, NOP, NOP], rig.app, false])
  })

  test('R-UPR-5 both sides of a fork get the original back', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const probe = rig.register()
    const child = rig.app.fork()
    probe.unregister()
    // the child comes first; 6.18 copies the page for it, and a fresh copy is not dropped
    expect([rig.app, child].map((app) => [rig.byte(a + PLACE, app), rig.isAnon(a + PLACE, app)])).toEqual([
      [NOP, false],
      [NOP, inPlace],
    ])
  })

  test('R-UPR-5 exec and exit take breakpoints along', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const other = rig.app.fork()
    const probe = rig.register()
    other.exit()
    rig.app.exec({ path: '/bin/other' })
    rig.map(3, { at: a })
    expect(rig.byte(a + PLACE)).toBe(INT3)
    probe.unregister()
    expect(rig.byte(a + PLACE)).toBe(NOP)
  })

  test('R-UPR-10 a page that was swapped out comes back for it', () => {
    const rig = new UprobeRig(release)
    rig.k.swap.swapon(16)
    const a = rig.map()
    const probe = rig.register()
    rig.app.madvise(a + P, P, MADV_PAGEOUT)
    expect(rig.app.mm!.swapents).toBe(1)
    probe.unregister()
    expect([rig.byte(a + PLACE), rig.app.mm!.swapents]).toEqual([NOP, 0])
  })

  test('R-UPR-10 the copy of a breakpoint survives being swapped out', () => {
    const rig = new UprobeRig(release)
    rig.k.swap.swapon(16)
    const a = rig.map()
    const probe = rig.register()
    rig.app.madvise(a + P, P, MADV_PAGEOUT)
    expect(rig.byte(a + PLACE)).toBe(INT3)
    probe.unregister()
  })

  test('R-UPR-10 in locked memory', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    rig.app.mlock(a, 3 * P)
    const probe = rig.register()
    expect(rig.byte(a + PLACE)).toBe(INT3)
    probe.unregister()
    expect(rig.byte(a + PLACE)).toBe(NOP)
    rig.app.munlock(a, 3 * P)
  })

  test('R-UPR-10 the zero page', () => {
    const rig = new UprobeRig(release, { filesystem: 'shmem' })
    const a = rig.map(3, { prot: 'rx' })
    const { mm } = rig.app
    const uffd = createUserfaultfd(rig.k, { mm: mm! })
    expect(rig.app.run(uffdRegister(rig.k, uffd, mm!, a, 3 * P, 1))).toBe(0)
    expect(rig.app.run(uffdZeropage(rig.k, uffd, mm!, a + P, P))).toBe(P)
    expect(rig.pfn(a + P)).toBe(rig.k.zeroPfn)
    const refused = release === '6.1' || release === '6.6' || release === '6.12'
    expect(rig.enable()).toBe(refused ? '-EINVAL' : 0)
    expect([rig.pfn(a + P) === rig.k.zeroPfn, rig.byte(a + PLACE)]).toEqual([refused, refused ? 0 : INT3])
  })

  test('R-UPR-14 somebody else holds the page when the breakpoint goes', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const probe = rig.register()
    const page = rig.pfn(a + PLACE)
    rig.k.memory.get(page)
    probe.unregister()
    // 6.18 restores the bytes in place then; before, what the page says decided
    expect([rig.byte(a + PLACE), rig.isAnon(a + PLACE)]).toEqual([NOP, inPlace])
    putPage(rig.k, page)
  })

  test('R-UPR-14 a userfaultfd waits for missing pages', () => {
    const rig = new UprobeRig(release, { filesystem: 'shmem' })
    const a = rig.map()
    const probe = rig.register()
    const { mm } = rig.app
    const uffd = createUserfaultfd(rig.k, { mm: mm! })
    expect(rig.app.run(uffdRegister(rig.k, uffd, mm!, a, 3 * P, 1))).toBe(0)
    probe.unregister()
    expect([rig.byte(a + PLACE), rig.isAnon(a + PLACE)]).toEqual([NOP, inPlace])
  })

  test('R-UPR-10 the file has the byte itself: a page that is not anonymous is left alone', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const counter = rig.mapCounter()
    const probe = rig.register({ refCtrOffset: COUNTER })
    rig.app.madvise(a + P, P, MADV_DONTNEED)
    rig.app.write(rig.fd, new Uint8Array([INT3]), PLACE)
    expect(rig.byte(a + PLACE)).toBe(INT3)
    probe.unregister()
    expect([rig.byte(a + PLACE), rig.isAnon(a + PLACE), rig.count(counter)]).toEqual([INT3, false, 0])
  })
})

/** A breakpoint in a page that is the process's own already, from its being put to its being gone. */
function inOwnPage(release: (typeof RELEASES)[number], inPlace: boolean): void {
  const rig = new UprobeRig(release)
  const a = rig.map()
  rig.poke(a + P, [0x42])
  const own = rig.pfn(a + P)
  const probe = rig.register()
  expect([rig.pfn(a + P) === own, rig.byte(a + P), rig.byte(a + PLACE)]).toEqual([inPlace, 0x42, INT3])
  const breakpoint = rig.pfn(a + P)
  // what it has changed keeps the file's page away when the breakpoint goes
  probe.unregister()
  expect([rig.isAnon(a + P), rig.byte(a + P), rig.byte(a + PLACE)]).toEqual([true, 0x42, NOP])
  expect(rig.pfn(a + P) === breakpoint).toBe(inPlace)
}

test.each(['6.1', 'gup-v3', '6.6', '6.12'] as const)(
  "REMOTE vector 51: on %s a page that is the process's own already is replaced",
  (release) => inOwnPage(release, false),
)

test("REMOTE vector 52: on 6.18 a page that is the process's own already stays", () =>
  inOwnPage('6.18', true))

describe.each(RELEASES)('mappings that change on %s', (release) => {
  /** the breakpoint is overwritten; who looks at the mapping again puts it back */
  function overwritten(): { rig: UprobeRig; a: number; looked: () => boolean } {
    const rig = new UprobeRig(release)
    rig.register()
    const a = rig.map(4)
    return {
      rig,
      a,
      looked: () => {
        const again = rig.byte(a + PLACE) === INT3
        rig.poke(a + PLACE, [0x91])
        return again
      },
    }
  }

  test('R-UPR-6 what is cut is looked at again', () => {
    const { rig, a, looked } = overwritten()
    looked()
    rig.app.munmap(a + 3 * P, P)
    expect(looked()).toBe(true)
    rig.app.mprotect(a, P, 'r')
    expect(looked()).toBe(true)
    rig.app.mlock(a + P, P)
    expect(looked()).toBe(true)
    // the whole of it changes: nothing is cut
    rig.app.munlock(a + P, P)
    looked()
    rig.app.madvise(a, P, MADV_DONTDUMP)
    expect(looked()).toBe(false)
  })

  test('R-UPR-6 what is merged is looked at again', () => {
    const { rig, a, looked } = overwritten()
    rig.app.madvise(a, P, MADV_DONTDUMP)
    looked()
    rig.app.madvise(a, P, MADV_DODUMP)
    expect(looked()).toBe(true)
    rig.app.mremap(a, 4 * P, 3 * P)
    expect(looked()).toBe(true)
    rig.app.mmap({ length: P, address: a + 2 * P, fixed: true })
    expect(looked()).toBe(true)
    // beside it, a mapping that continues it
    rig.map(1, { at: a + 2 * P, first: 2 })
    expect(looked()).toBe(true)
    rig.app.mremap(a, 3 * P, 4 * P)
    expect(looked()).toBe(true)
  })

  test('R-UPR-6 what is left when a part goes to a neighbour is looked at again', () => {
    const rig = new UprobeRig(release)
    rig.register({ offset: 2 * P + 5 })
    const a = rig.map(1, { prot: 'r' })
    rig.map(2, { at: a + P, first: 1 })
    rig.poke(a + 2 * P + 5, [0x91])
    rig.app.mprotect(a + P, P, 'r')
    expect(rig.byte(a + 2 * P + 5)).toBe(INT3)
  })

  test('R-UPR-6 what is only moved is not', () => {
    const { rig, a, looked } = overwritten()
    looked()
    const to = a + 64 * P
    rig.app.mremap(a, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, to)
    expect(rig.byte(to + PLACE)).toBe(0x91)
    rig.app.madvise(to + P, P, MADV_DONTNEED)
    expect(rig.byte(to + PLACE)).toBe(NOP)
    // nor when it comes to lie beside what continues it
    const first = rig.map(1)
    const second = rig.map(1, { first: 1 })
    rig.app.madvise(second, P, MADV_DONTNEED)
    rig.app.mremap(second, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, first + P)
    expect(rig.byte(first + PLACE)).toBe(NOP)
  })

  test('R-UPR-6 the flags at the moment of the cut decide', () => {
    const rig = new UprobeRig(release)
    const a = rig.map(4, { prot: 'rwx' })
    rig.register()
    rig.app.mprotect(a + P, P, 'rx')
    expect(rig.byte(a + PLACE)).toBe(NOP)
    rig.app.mprotect(a, P, 'rx')
    expect(rig.byte(a + PLACE)).toBe(INT3)
  })

  test('R-UPR-6 mmap succeeds whatever becomes of the breakpoint', () => {
    const rig = new UprobeRig(release)
    rig.app.write(rig.fd, new Uint8Array([INT3]), PLACE)
    rig.register()
    const a = rig.map()
    expect([rig.byte(a + PLACE), rig.app.refusal]).toEqual([INT3, null])
  })
})

describe.each(RELEASES)('reference counters on %s', (release) => {
  const tells = release === '6.12' || release === '6.18'
  const leak = tells ? ['failed to unregister, leaking uprobe'] : []
  const refCtrOffset = COUNTER

  test('REMOTE vector 49: three mappings of the place count three', () => {
    const rig = new UprobeRig(release)
    const counter = rig.mapCounter()
    const places = [rig.map(), rig.map(), rig.map()]
    const shared = rig.map(1, { prot: 'r', shared: true, first: 3 })
    rig.byte(shared)
    const probe = rig.register({ refCtrOffset })
    expect(rig.count(counter)).toBe(3)
    // R-UPR-21: the page is the process's own, and the file has no part in it
    expect([rig.isAnon(counter), rig.inFile(COUNTER), rig.byte(shared + (COUNTER % P))]).toEqual([true, 0, 0])
    // R-UPR-24: two probes add up
    const other = rig.register({ offset: PLACE + 3, refCtrOffset })
    expect(rig.count(counter)).toBe(6)
    other.unregister()
    probe.unregister()
    expect([rig.count(counter), rig.log]).toEqual([0, []])
    expect(places.map((a) => rig.byte(a + PLACE))).toEqual([NOP, NOP, NOP])
  })

  test('REMOTE vector 50, R-UPR-25: a counter that was not there counts once, and the uprobe leaks', () => {
    const rig = new UprobeRig(release)
    const places = [rig.map(), rig.map(), rig.map()]
    const probe = rig.register({ refCtrOffset })
    const counter = rig.mapCounter()
    expect(rig.count(counter)).toBe(1)
    probe.unregister()
    expect(rig.count(counter)).toBe(0)
    // R-UPR-25: the youngest mapping came first
    expect(places.map((a) => rig.byte(a + PLACE))).toEqual([INT3, INT3, NOP])
    const failed = ['ref_ctr going negative', 'ref_ctr decrement failed']
    expect(rig.log).toEqual([...failed, ...failed, ...leak])
    // R-UPR-7: nobody wants it any more, and it is still there
    expect(rig.byte(rig.map() + PLACE)).toBe(NOP)
    expect(rig.enable({ refCtrOffset: 0 })).toBe('-EINVAL')
    expect(rig.enable({ refCtrOffset })).toBe(0)
  })

  test('R-UPR-20 which mapping has the counter', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    for (const [prot, shared] of [
      ['r', false],
      ['rw', true],
    ] as const) {
      const other = rig.mapCounter(rig.app, prot, shared)
      const probe = rig.register({ refCtrOffset })
      expect([rig.count(other), rig.byte(a + PLACE)]).toEqual([0, INT3])
      probe.unregister()
    }
    const [low, high] = [rig.mapCounter(), rig.mapCounter(rig.app, 'w')]
    const probe = rig.register({ refCtrOffset })
    expect([rig.count(low), rig.count(high)]).toEqual([1, 0])
    rig.app.munmap(low - (COUNTER % P), P)
    probe.unregister()
    expect([rig.count(high), rig.log.length]).toEqual([0, tells ? 3 : 2])
  })

  test('R-UPR-21 a counter that overflows, or would become negative', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const counter = rig.mapCounter()
    rig.setCount(counter, 32767)
    const probe = rig.register({ refCtrOffset })
    expect(rig.count(counter)).toBe(-32768)
    rig.setCount(counter, 1)
    probe.unregister()
    rig.setCount(counter, -5)
    expect([rig.enable({ refCtrOffset }), rig.count(counter), rig.byte(a + PLACE)]).toEqual([
      '-EINVAL',
      -5,
      NOP,
    ])
    const guard = rig.app.mm!.mmapLock.tryRead()!
    expect(rig.tool.run(updateRefCtrAt(rig.k, guard, 0, 1))).toBe(-22)
    expect(rig.tool.run(updateRefCtrAt(rig.k, guard, counter, 0))).toBe(-22)
    guard.release()
  })

  test('R-UPR-21 a counter whose page cannot be had', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    rig.map(3, { prot: 'rw', first: 3 })
    expect(rig.enable({ refCtrOffset: 5 * P })).toBe('-EFAULT')
    expect([rig.byte(a + PLACE), rig.log]).toEqual([NOP, ['ref_ctr increment failed']])
  })

  test('R-UPR-22 what is owed is owed to the process, once, and forgotten with the uprobe', () => {
    const rig = new UprobeRig(release)
    rig.map()
    const probe = rig.register({ refCtrOffset })
    const child = rig.app.fork()
    expect(rig.count(rig.mapCounter(child), child)).toBe(0)
    child.exit()
    expect(rig.count(rig.mapCounter(rig.app, 'r'))).toBe(0)
    expect(rig.count(rig.mapCounter(rig.app, 'rw', true))).toBe(0)
    const counter = rig.mapCounter()
    expect([rig.count(counter), rig.count(rig.mapCounter())]).toEqual([1, 0])
    probe.unregister()
    expect([rig.count(counter), rig.log]).toEqual([0, []])
    const again = new UprobeRig(release)
    again.map()
    again.register({ refCtrOffset }).unregister()
    expect(again.count(again.mapCounter())).toBe(0)
  })

  test('R-UPR-23 a mapping that grows over the counter, or becomes writable beside one that is', () => {
    const rig = new UprobeRig(release)
    rig.map()
    rig.register({ refCtrOffset })
    const data = rig.map(1, { prot: 'rw', first: 2 })
    rig.app.mremap(data, P, 2 * P)
    expect(rig.count(data + P + (COUNTER % P))).toBe(1)
    const other = new UprobeRig(release)
    other.map()
    other.register({ refCtrOffset })
    const both = other.map(2, { prot: 'r', first: 2 })
    other.app.mprotect(both, P, 'rw')
    expect(other.count(both + P + (COUNTER % P))).toBe(0)
    other.app.mprotect(both + P, P, 'rw')
    expect(other.count(both + P + (COUNTER % P))).toBe(1)
  })

  test('R-UPR-24 a breakpoint that went with its page stays counted', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const counter = rig.mapCounter()
    const probe = rig.register({ refCtrOffset })
    rig.app.madvise(a + P, P, MADV_DONTNEED)
    // cut off, so put back first, and counted again
    rig.app.munmap(a, 2 * P)
    expect(rig.count(counter)).toBe(2)
    const over = rig.map()
    rig.app.madvise(over + P, P, MADV_DONTNEED)
    rig.app.mmap({ length: 2 * P, address: over, fixed: true })
    expect(rig.count(counter)).toBe(4)
    const b = rig.map()
    expect(rig.count(counter)).toBe(5)
    // put back after it was overwritten: counted again
    rig.poke(b + PLACE, [0x91])
    rig.app.munmap(b + 2 * P, P)
    expect(rig.count(counter)).toBe(6)
    probe.unregister()
    expect([rig.count(counter), rig.log]).toEqual([5, []])
  })

  test('R-UPR-24 a child has a count of its own', () => {
    const rig = new UprobeRig(release)
    rig.map()
    const counter = rig.mapCounter()
    const probe = rig.register({ refCtrOffset })
    const child = rig.app.fork()
    expect(rig.count(counter, child)).toBe(1)
    probe.unregister()
    expect([rig.count(counter), rig.count(counter, child), rig.log]).toEqual([0, 0, []])
  })
})

describe.each(RELEASES)('a task that meets a breakpoint on %s', (release) => {
  test('R-UPR-30 a uprobe tells its consumers, other traps are the task’s own', () => {
    const rig = new UprobeRig(release)
    const a = rig.map()
    const hits: unknown[] = []
    const probe = rig.register({ handler: ({ pid }, address) => hits.push([pid, address]) })
    expect(rig.app.uprobes.swbp(a + PLACE)).toBe('handled')
    expect(hits).toEqual([[rig.app.pid, a + PLACE]])
    rig.poke(a + 9, [INT3])
    expect(rig.app.uprobes.swbp(a + 9)).toBe('SIGTRAP')
    probe.unregister()
    // removed while the task was on its way
    expect(rig.app.uprobes.swbp(a + PLACE)).toBe('restart')
    rig.app.munmap(a, 3 * P)
    expect(rig.app.uprobes.swbp(a + PLACE)).toBe('restart')
  })

  test('R-UPR-30 an address where nothing can be read without a fault', () => {
    const rig = new UprobeRig(release)
    rig.app.write(rig.fd, new Uint8Array([INT3]), 9)
    const a = rig.map(5)
    expect(rig.app.uprobes.swbp(a + 9)).toBe('SIGTRAP')
    rig.app.mprotect(a, P, '')
    expect(rig.app.uprobes.swbp(a + 9)).toBe('SIGTRAP')
    // beyond the end of the file
    expect(rig.app.uprobes.swbp(a + 4 * P)).toBe('restart')
    expect(rig.k.memory.frames.refcount[rig.pfn(a)]).toBe(rig.k.memory.frames.mapcount[rig.pfn(a)]! + 2)
  })

  test('R-UPR-4 a breakpoint of a file that another process maps', () => {
    const rig = new UprobeRig(release)
    const file: OpenFile = rig.file
    const other = rig.spawn('other')
    other.install(file.get())
    const b = rig.map(3, { app: other })
    const hits: number[] = []
    rig.register({ handler: ({ pid }) => hits.push(pid) })
    expect([other.uprobes.swbp(b + PLACE), hits]).toEqual(['handled', [other.pid]])
  })
})
