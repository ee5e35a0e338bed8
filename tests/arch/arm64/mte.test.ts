import { describe, expect, it } from 'vitest'
import {
  PTRACE_PEEKMTETAGS,
  PTRACE_POKEMTETAGS,
  mtePtraceCopyTags,
  type TagsIovec,
  type TaggedAddress,
} from '../../../src/arch/arm64/mte.ts'
import { ldg, stg } from '../../../src/arch/arm64/mte-instructions.ts'
import { Unmodelled } from '../../../src/base/unmodelled.ts'
import { PG_DIRTY, PG_MTE_TAGGED } from '../../../src/memory/page-flags.ts'
import { audit } from '../../../src/mm/audit.ts'
import { regularFileKind } from '../../../src/mm/file.ts'
import { createFile } from '../../../src/mm/filemap.ts'
import { hugetlbPool } from '../../../src/mm/hugetlb-pool.ts'
import { ksmScan } from '../../../src/mm/ksm.ts'
import type { Kernel } from '../../../src/mm/kernel.ts'
import { MADV_HUGEPAGE, MADV_MERGEABLE, MADV_PAGEOUT, MADV_UNMERGEABLE } from '../../../src/mm/mman.ts'
import { HugePmd, pmdIndex, pteSlot } from '../../../src/mm/page-table.ts'
import { VMH_MTE } from '../../../src/mm/vm-flags.ts'
import type { Process } from '../../../src/task/process.ts'
import { P, RELEASES, Rig, answer, reason, type RigOptions } from '../../drivers/rig.ts'
import { walkFailures } from '../../support/walk-failures.ts'

const GRANULES = 256

/** A tracer and its stopped tracee on a machine with MTE. */
class Pair {
  readonly rig: Rig
  readonly k: Kernel
  readonly tracee: Process
  readonly tracer: Process
  /** two pages of the tracer with nothing behind them */
  readonly buffer: number

  constructor(release: Kernel | (typeof RELEASES)[number], options: RigOptions = {}) {
    this.rig = new Rig(release, { ...options, kernel: { settings: { mte: true, thpEnabled: 'madvise' } } })
    this.k = this.rig.k
    this.k.settings.mte = true
    this.tracee = this.rig.app
    this.tracer = this.rig.spawn('tracer', options)
    this.buffer = this.rig.memory('rw2+hole1', this.tracer)
    this.tracer.remote.attach(this.tracee.pid)
  }

  /** Memory of the tracee: `length` pages. */
  map(pages: number, prot: 'rwm' | 'rw' | 'rm' | 'm' = 'rwm', address?: number): number {
    const place = address === undefined ? {} : { address, fixed: true }
    return this.tracee.mmap({ length: pages * P, prot, ...place })
  }

  ptrace(
    request: typeof PTRACE_PEEKMTETAGS | typeof PTRACE_POKEMTETAGS,
    at: number | TaggedAddress,
    iovec: TagsIovec | 'unreadable',
  ): number | string {
    const { tracer, tracee } = this
    return answer(() => tracer.call('ptrace', mtePtraceCopyTags(this.k, tracee.pid, request, at, iovec)))
  }

  /** @returns what ptrace returns and the length that it wrote back */
  peek(at: number | TaggedAddress, length: number, base = this.buffer): [number | string, number] {
    const iovec = { base, length }
    return [this.ptrace(PTRACE_PEEKMTETAGS, at, iovec), iovec.length]
  }

  poke(at: number | TaggedAddress, length: number, base = this.buffer): [number | string, number] {
    const iovec = { base, length }
    return [this.ptrace(PTRACE_POKEMTETAGS, at, iovec), iovec.length]
  }

  /** tags as the tracer sees them */
  tags(at: number, n: number): number[] {
    expect(this.peek(at, n)).toEqual([0, n])
    return [...this.tracer.load(this.buffer, n)]
  }

  /** the program tags its memory */
  stg(at: number, ...tags: number[]): void {
    expect(this.tracee.run(stg(this.k, this.tracee.mm!, at, new Uint8Array(tags)))).toEqual({ ok: true })
  }

  ldg(at: number, n: number, of = this.tracee): number[] {
    const into = new Uint8Array(n)
    of.run(ldg(this.k, of.mm!, at, into))
    return [...into]
  }

  pfn(at: number, of = this.tracee): number {
    const entry = of.mm!.pageTable.pmd(pmdIndex(at))
    if (entry === null) return 0
    const slot = pteSlot(at)
    return entry instanceof HugePmd ? entry.pfn + slot : entry.bits[slot] === 0 ? 0 : entry.pfn[slot]!
  }

  marked(at: number): boolean {
    return this.k.memory.frames.has(this.pfn(at), PG_MTE_TAGGED)
  }

  vma(at: number): { pages: number; tagged: boolean } {
    const guard = this.tracee.mm!.mmapLock.tryRead()!
    const vma = guard.vmas.find(at)!
    const facts = { pages: vma.pages, tagged: (vma.highFlags & VMH_MTE) !== 0 }
    guard.release()
    return facts
  }

  get references(): number {
    let extra = 0
    const { frames } = this.k.memory
    for (let pfn = 1; pfn < frames.count; pfn++)
      if (frames.head(pfn) === pfn && pfn !== this.k.zeroPfn && frames.mapcount[pfn] === 1)
        extra += frames.refcount[pfn]! - 1
    return extra
  }
}

describe.each(RELEASES)('PTRACE_PEEKMTETAGS and POKEMTETAGS on %s', (release) => {
  it('R-MTE-1 one tag a byte, addresses are rounded down to a granule, four bits of a byte count', () => {
    const p = new Pair(release)
    const a = p.map(1)
    p.stg(a, 1, 2, 3, 4, 5)
    expect(p.tags(a, 5)).toEqual([1, 2, 3, 4, 5])
    expect(p.tags(a + 16 * 2 + 7, 2)).toEqual([3, 4])
    p.tracer.store(p.buffer, new Uint8Array([0xf7, 9]))
    expect(p.poke(a + 16, 2)).toEqual([0, 2])
    expect([p.ldg(a, 4), p.references]).toEqual([[1, 7, 9, 4], 0])
    expect(p.k.memory.frames.has(p.pfn(a), PG_DIRTY)).toBe(true)
  })

  it('REMOTE vector 61: memory without PROT_MTE is EIO, iov_len unchanged (R-MTE-5)', () => {
    const p = new Pair(release)
    const a = p.map(2, 'rw')
    expect([p.peek(a, 8), p.poke(a + P, 8)]).toEqual([
      ['-EIO', 8],
      ['-EIO', 8],
    ])
    // the pages were faulted in for it, the second one not dirtied
    expect([p.pfn(a), p.pfn(a + P) !== 0, p.references]).toEqual([p.k.zeroPfn, true, 0])
    expect(p.k.memory.frames.has(p.pfn(a + P), PG_DIRTY)).toBe(false)
    expect(
      reason(() =>
        p.tracer.call(
          'ptrace',
          mtePtraceCopyTags(p.k, p.tracee.pid, PTRACE_PEEKMTETAGS, a, { base: p.buffer, length: 8 }),
        ),
      ),
    ).toMatchObject({ rule: 'R-MTE-5', cause: { rule: 'R-MTE-4', address: a } })
  })

  it('REMOTE vector 62: 300 granules, the second page without PROT_MTE: 256 (R-MTE-4)', () => {
    const p = new Pair(release)
    const a = p.map(2, 'rw')
    p.map(1, 'rwm', a)
    p.stg(a, ...Array<number>(GRANULES).fill(6))
    expect(p.peek(a, 300)).toEqual([0, GRANULES])
    expect([...p.tracer.load(p.buffer, 2)]).toEqual([6, 6])
    expect(p.peek(a + P, 300)).toEqual(['-EIO', 300])
    expect(p.peek(a + 16 * 250, 20)).toEqual([0, 6])
    const b = p.map(3)
    p.tracee.munmap(b + 2 * P, P)
    expect(p.peek(b, 600)).toEqual([0, 512])
  })

  it('R-MTE-2 what is asked is checked in the order of the kernel', () => {
    const p = new Pair(release)
    const a = p.map(1)
    const kernel = 2 ** 63
    expect(p.ptrace(PTRACE_PEEKMTETAGS, a, 'unreadable')).toBe('-EFAULT')
    expect(p.peek(a, 4, kernel)[0]).toBe('-EFAULT')
    expect(p.peek(p.map(1, 'rw'), 4, kernel)[0]).toBe('-EFAULT')
    expect(p.peek(p.map(1, 'rw'), 4, 0x1000)[0]).toBe('-EIO')
    expect(p.peek(kernel, 4)[0]).toBe('-EIO')
    p.tracee.mm!.dumpable = false
    expect(p.peek(a, 4, kernel)[0]).toBe('-EPERM')
    p.tracee.mm!.dumpable = true
    p.k.settings.mte = false
    expect(p.ptrace(PTRACE_PEEKMTETAGS, a, 'unreadable')).toBe('-EIO')
    p.k.settings.mte = true
    p.tracer.remote.cont(p.tracee.pid)
    expect(p.peek(a, 4)[0]).toBe('-ESRCH')
    const other = p.rig.spawn('other')
    expect(
      answer(() => other.call('ptrace', mtePtraceCopyTags(p.k, 99999, PTRACE_PEEKMTETAGS, a, 'unreadable'))),
    ).toBe('-ESRCH')
  })

  it('R-MTE-2 killed while it waits for mmap_lock: EIO', () => {
    const p = new Pair(release)
    const a = p.map(1)
    const guard = p.tracee.mm!.mmapLock.tryWrite()!
    const iovec = { base: p.buffer, length: 4 }
    const body = mtePtraceCopyTags(p.k, p.tracee.pid, PTRACE_PEEKMTETAGS, a, iovec)
    const task = p.k.scheduler.spawn('tracer', p.tracer, body)
    p.k.scheduler.runUntilIdle()
    p.tracer.fatalSignalPending = true
    task.signalled(true)
    p.k.scheduler.runUntilIdle()
    expect(task.result).toBe(-5)
    guard.release()
  })

  it('R-MTE-4 R-MTE-5 the tracer’s buffer ends, or cannot be used', () => {
    const p = new Pair(release)
    const a = p.map(3)
    const end = p.buffer + 2 * P
    expect([p.peek(a, 64, end - 10), p.peek(a, 600, end - 300)]).toEqual([
      [0, 10],
      [0, 300],
    ])
    p.tracer.store(end - 10, new Uint8Array(10).fill(9))
    expect(p.poke(a, 64, end - 10)).toEqual([0, 10])
    expect(p.ldg(a, 12)).toEqual([...Array<number>(10).fill(9), 0, 0])
    // no tag can be read: the page is there and dirty all the same
    expect(p.poke(a + 2 * P, 8, end)).toEqual(['-EFAULT', 8])
    expect([p.k.memory.frames.has(p.pfn(a + 2 * P), PG_DIRTY), p.references]).toEqual([true, 0])
    p.tracer.mprotect(p.buffer, P, 'r')
    expect(p.peek(a, 4)).toEqual(['-EFAULT', 4])
    // the length cannot be written back: what was transferred stays
    const iovec = { base: p.buffer, length: 2, unwritable: true }
    expect(p.ptrace(PTRACE_POKEMTETAGS, a, iovec)).toBe('-EFAULT')
    expect([p.ldg(a, 3), iovec.length]).toEqual([[0, 0, 9], 2])
  })

  it('R-MTE-6 no tags at all', () => {
    const p = new Pair(release)
    for (const at of [p.map(1), p.map(1, 'rw'), 0x7000000]) {
      if (['6.6', '6.12', '6.18'].includes(release)) expect(p.peek(at, 0)).toEqual(['-EFAULT', 0])
      else expect(() => p.peek(at, 0)).toThrow(Unmodelled)
      expect([p.tracee.mm!.mmapLock.locked, p.references]).toEqual([false, 0])
    }
  })

  it('R-MTE-3 forced: read-only and unreadable private memory, and shared memory where it may be written', () => {
    const p = new Pair(release)
    p.tracer.store(p.buffer, new Uint8Array(8).fill(6))
    for (const prot of ['rm', 'm'] as const) {
      const a = p.map(1, prot)
      expect(p.tags(a, 2)).toEqual([0, 0])
      // nothing but the zero page, which is not marked
      expect([p.pfn(a), p.marked(a)]).toEqual([p.k.zeroPfn, false])
      p.tracer.store(p.buffer, new Uint8Array(8).fill(6))
      expect(p.poke(a, 8)).toEqual([0, 8])
      expect([p.tags(a, 9), p.marked(a)]).toEqual([[...Array<number>(8).fill(6), 0], true])
    }
    const shared = p.tracee.mmap({ length: P, shared: true, prot: 'rwm' })
    expect([p.peek(shared, 8), p.poke(shared, 8)]).toEqual([
      [0, 8],
      [0, 8],
    ])
    const fixed = p.tracee.mmap({ length: P, shared: true, prot: 'rm' })
    expect([p.peek(fixed, 8), p.poke(fixed, 8)]).toEqual([
      [0, 8],
      ['-EIO', 8],
    ])
    const fd = p.tracee.memfdCreate('m', P)
    const [one, two] = [true, false].map((isShared) =>
      p.tracee.mmap({ length: P, fd, shared: isShared, prot: 'rwm' }),
    )
    p.tracer.store(p.buffer, new Uint8Array([4]))
    expect(p.poke(one!, 1)).toEqual([0, 1])
    expect(p.tags(two!, 1)).toEqual([4])
    p.tracer.store(p.buffer, new Uint8Array([7]))
    expect(p.poke(two!, 1)).toEqual([0, 1])
    expect([p.tags(two!, 1), p.tags(one!, 1)]).toEqual([[7], [4]])
  })

  it('R-MTE-7 R-COM-21 the VMA is missing after GUP: a warning, EIO, and the page is put', () => {
    const p = new Pair(release)
    const a = p.map(1)
    p.stg(a, 3)
    const pfn = p.pfn(a)
    const guard = p.tracee.mm!.mmapLock.tryRead()!
    const { vmas } = guard
    guard.release()
    const find = Object.getPrototypeOf(vmas) as { find(address: number): unknown }
    vmas.find = (at: number) =>
      p.k.memory.frames.refcount[pfn]! > 1 ? null : (find.find.call(vmas, at) as ReturnType<typeof vmas.find>)
    expect(p.peek(a, 4)).toEqual(['-EIO', 4])
    expect([p.k.memory.frames.refcount[pfn], p.tracee.mm!.mmapLock.locked]).toEqual([1, false])
    const helper = ['6.6', '6.12', '6.18'].includes(release)
    expect(p.k.warnings.map(({ id }) => id)).toEqual([helper ? 'gup-vma-gone' : 'mte-no-vma'])
    expect(p.poke(a, 4)).toEqual(['-EIO', 4])
    expect(p.k.warnings).toHaveLength(1)
  })

  it('REMOTE vector 71: an address with a tag in it: nothing is missing, but it is not found (R-MTE-10, R-COM-22)', () => {
    const p = new Pair(release)
    const a = p.map(2)
    p.stg(a, 3)
    const at = { address: a, tag: 3 }
    if (release === '6.1') {
      expect([p.peek(at, 300), p.poke(at, 4), p.k.warnings]).toEqual([[0, 300], [0, 4], []])
      return
    }
    expect(p.peek(at, 300)).toEqual(['-EIO', 300])
    // GUP has brought the page all the same
    expect(p.poke({ address: a + P, tag: 15 }, 4)).toEqual(['-EIO', 4])
    expect([p.pfn(a + P) !== 0, p.references, p.k.warnings.length]).toEqual([true, 0, 1])
    expect(p.peek({ address: a, tag: 0 }, 300)).toEqual([0, 300])
  })

  it('R-MTE-8 a page that is not marked warns, and goes on', () => {
    const p = new Pair(release)
    const a = p.map(2)
    p.stg(a, 3)
    p.tags(a + P, 1)
    expect(p.k.warnings).toEqual([])
    p.k.memory.frames.clear(p.pfn(a), PG_MTE_TAGGED)
    expect(p.tags(a, 1)).toEqual([3])
    expect(p.k.warnings.map(({ id }) => id)).toEqual(['mte-untagged-page'])
  })

  it('REMOTE vector 72: mprotect without PROT_MTE takes no tags away and splits nothing (R-MTE-9)', () => {
    const p = new Pair(release)
    const a = p.map(2)
    p.tracee.mprotect(a, P, 'rw')
    expect([p.vma(a), p.tags(a, 300).length]).toEqual([{ pages: 2, tagged: true }, 300])
    p.tracee.mprotect(a, P, 'r')
    expect(p.vma(a)).toEqual({ pages: 1, tagged: true })
    expect(p.tracee.proc.text(p.tracee.pid, 'smaps')).toMatch(/VmFlags: rd mr mw me (ac )?(sd )?mt /)
  })

  it('R-MTE-12 KSM leaves pages with tags alone', () => {
    const p = new Pair(release)
    const [tagged, plain] = [p.map(4), p.map(4, 'rw')]
    for (const at of [tagged, plain]) {
      for (let i = 0; i < 4; i++) p.tracee.store(at + i * P, new Uint8Array(P).fill(8))
      p.tracee.madvise(at, 4 * P, MADV_MERGEABLE)
    }
    p.tracee.run(ksmScan(p.k, 4))
    const frames = (at: number): number => new Set([0, 1, 2, 3].map((i) => p.pfn(at + i * P))).size
    expect([frames(tagged), frames(plain)]).toEqual([4, 1])
    // a merged page that gets tags serves those who have it, and nobody else
    p.tracee.mprotect(plain, P, 'rwm')
    const more = p.map(2, 'rw')
    for (let i = 0; i < 2; i++) p.tracee.store(more + i * P, new Uint8Array(P).fill(8))
    p.tracee.madvise(more, 2 * P, MADV_MERGEABLE)
    p.tracee.run(ksmScan(p.k, 4))
    expect([p.pfn(more) === p.pfn(more + P), p.pfn(more) === p.pfn(plain)]).toEqual([true, false])
    p.tracee.madvise(plain, 4 * P, MADV_UNMERGEABLE)
    expect([p.tags(plain, 1), frames(plain)]).toEqual([[0], 4])
  })

  it('REMOTE vector 73: what can have tags (R-MTE-9)', () => {
    const p = new Pair(release)
    const { tracee } = p
    const a = p.map(3, 'rw')
    tracee.store(a, new Uint8Array([1]))
    expect(p.marked(a)).toBe(false)
    tracee.mprotect(a, P, 'rwm')
    expect([p.vma(a), p.marked(a)]).toEqual([{ pages: 1, tagged: true }, true])
    // it cannot be taken away
    tracee.mprotect(a, P, 'rw')
    expect([p.vma(a), p.peek(a, 300)]).toEqual([{ pages: 1, tagged: true }, [0, GRANULES]])
    const file = tracee.openFile('/data', P)
    expect(answer(() => tracee.mmap({ length: P, fd: file, prot: 'rwm' }))).toBe('-EINVAL')
    const plain = tracee.mmap({ length: P, fd: file, prot: 'rw' })
    const protect = (at: number, length: number, prot: 'rwm' | 'rm'): number | string =>
      answer(() => (tracee.mprotect(at, length, prot), 0))
    expect(protect(plain, P, 'rwm')).toBe('-EINVAL')
    // whether the access is permitted comes first
    const readOnly = createFile(p.k, regularFileKind('ext4'), { path: '/ro', size: P, writable: false })
    const once = tracee.mmap({ length: P, shared: true, fd: tracee.install(readOnly), prot: 'r' })
    expect(protect(once, P, 'rwm')).toBe('-EACCES')
    tracee.munmap(a + 2 * P, P)
    expect([protect(a + P, 2 * P, 'rwm'), p.vma(a + P).tagged]).toEqual(['-ENOMEM', true])
    // MAP_FIXED that is refused leaves what was there
    expect(answer(() => tracee.mmap({ length: P, address: a, fixed: true, fd: file, prot: 'rwm' }))).toBe(
      '-EINVAL',
    )
    expect(tracee.load(a, 1)[0]).toBe(1)
    p.k.settings.mte = false
    expect(protect(a, P, 'rm')).toBe('-EINVAL')
    expect(p.vma(p.map(1)).tagged).toBe(false)
  })

  it('R-MTE-9 hugetlb memory', () => {
    const p = new Pair(release)
    hugetlbPool(p.k).resize(2)
    const size = 2 ** 21
    const { tracee } = p
    const map = (prot: 'rw' | 'rwm'): number => tracee.mmap({ length: size, hugetlb: true, prot })
    const plain = map('rw')
    tracee.store(plain, new Uint8Array([1]))
    const protect = (): number | string => answer(() => (tracee.mprotect(plain, size, 'rwm'), 0))
    if (release === '6.18') {
      p.tracer.store(p.buffer, new Uint8Array([5]))
      const a = map('rwm')
      for (const at of [a, plain]) {
        expect(at === a ? 0 : protect()).toBe(0)
        expect([p.poke(at + P, 1), p.ldg(at + P, 2)]).toEqual([
          [0, 1],
          [5, 0],
        ])
      }
      expect(p.k.warnings).toEqual([])
      tracee.munmap(a, size)
      tracee.munmap(plain, size)
      expect(p.ldg(map('rwm') + P, 1)).toEqual([0])
    } else
      expect([answer(() => map('rwm')), protect(), p.peek(plain, 1)[0]]).toEqual([
        '-EINVAL',
        '-EINVAL',
        '-EIO',
      ])
  })

  it('R-MTE-11 tags go where the page goes: fork, COW, swap, huge pages', () => {
    const p = new Pair(release)
    const a = p.map(2)
    p.stg(a, 1, 2)
    p.k.swap.swapon(8)
    const child = p.tracee.fork('child')
    p.tracer.store(p.buffer, new Uint8Array([12]))
    expect(p.poke(a, 1)).toEqual([0, 1])
    expect([p.ldg(a, 2), p.ldg(a, 2, child)]).toEqual([
      [12, 2],
      [1, 2],
    ])
    child.exit()
    expect(p.tracee.madvise(a, P, MADV_PAGEOUT)).toBeUndefined()
    expect(p.k.swap.used).toBe(1)
    expect([p.tags(a, 2), p.marked(a)]).toEqual([[12, 2], true])
    // memory that comes back is not somebody's old tags
    p.tracee.munmap(a, P)
    expect(p.tags(p.map(1, 'rwm', a), 2)).toEqual([0, 0])
    // without PROT_MTE there is nothing to set
    const plain = p.map(1, 'rw')
    p.stg(plain, 5)
    expect(p.ldg(plain, 1)).toEqual([0])
    p.tracee.mprotect(plain, P, 'rwm')
    expect(p.tags(plain, 1)).toEqual([0])
  })

  it('R-MTE-11 R-MTE-4 huge pages: 512 pages of tags', () => {
    const p = new Pair(release)
    const size = 2 ** 21
    const area = p.map(1024)
    const a = Math.ceil(area / size) * size
    p.tracee.madvise(a, size, MADV_HUGEPAGE)
    p.tracee.store(a, new Uint8Array([1]))
    expect(p.tracee.mm!.pageTable.pmd(pmdIndex(a))).toBeInstanceOf(HugePmd)
    p.tracer.store(p.buffer, new Uint8Array(600).fill(5))
    expect(p.poke(a + 4 * P, 600)).toEqual([0, 600])
    expect([p.ldg(a + 6 * P + 16 * 87, 2), p.marked(a + 511 * P)]).toEqual([[5, 0], true])
    expect(p.k.warnings).toEqual([])
    p.tracee.munmap(area, 1024 * P)
  })

  it('R-MTE-4 what fails anywhere, and a tracer that is killed, leave nothing held', () => {
    const failures = walkFailures(release, (k) => {
      const p = new Pair(k)
      const a = p.map(3)
      p.stg(a, 1)
      // its faults would meet the OOM killer
      p.tracer.store(p.buffer, new Uint8Array(2 * P))
      const child = p.tracee.fork('child')
      return () => {
        p.peek(a, 600)
        p.poke(a, 600)
        expect(audit(k)).toEqual([])
        child.exit()
        p.tracee.exit()
        expect(p.peek(a, 4)[0]).toBe('-ESRCH')
        p.tracer.exit()
      }
    })
    expect(failures).toBeGreaterThan(3)
    for (let n = 1; n < 8; n++) {
      const p = new Pair(release)
      const a = p.map(3)
      let seen = 0
      p.k.observer = ({ type }) => {
        if ((type === 'map' || type === 'cow') && ++seen === n) {
          p.tracer.signalPending = true
          p.tracer.fatalSignalPending = true
        }
      }
      p.poke(a, 600)
      p.k.observer = null
      p.tracer.exit()
      expect([audit(p.k), p.references]).toEqual([[], 0])
    }
  })
})
