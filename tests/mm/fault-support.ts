import { expect } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { PG_ANON, PG_ANON_EXCLUSIVE } from '../../src/memory/page-flags.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import type { OpenFile } from '../../src/mm/file.ts'
import { forkMm } from '../../src/mm/fork.ts'
import type { Kernel, PageHolder } from '../../src/mm/kernel.ts'
import type { Mm } from '../../src/mm/mm.ts'
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
} from '../../src/mm/mman.ts'
import { mmap } from '../../src/mm/mmap.ts'
import {
  HugePmd,
  PTE_MARKER_GUARD,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_WRITE,
  pmdIndex,
  pteSlot,
} from '../../src/mm/page-table.ts'
import { installSwapEntry } from '../../src/mm/swap-fault.ts'
import { handleMmFault } from '../../src/mm/memory.ts'
import { accessUser, loadUser, storeUser, type AccessResult } from '../../src/mm/user-access.ts'
import { zapRange, type ZapHow } from '../../src/mm/zap.ts'
import { testKernel, testTask, type TestTask } from '../support/kernel.ts'
import type { KernelOptions } from '../../src/mm/kernel.ts'

export const P = PAGE_SIZE
export const RW = PROT_READ | PROT_WRITE

/** References and pins held by the test, known to the audit. */
class TestHolder implements PageHolder {
  readonly name = 'test'
  readonly held: { pfn: number; references: number; pins: number }[] = []

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const { pfn, references, pins } of this.held) visit(pfn, references, pins)
  }
}

/** One program with memory, driven through its page tables. */
export class World {
  readonly k: Kernel
  readonly task: TestTask
  readonly holder = new TestHolder()

  constructor(options: KernelOptions = {}) {
    this.k = testKernel({ zones: { normal: 16_384 }, ...options })
    this.task = testTask(this.k)
    this.k.holders.add(this.holder)
  }

  get mm(): Mm {
    return this.task.space
  }

  map(
    pages: number,
    options: { prot?: number; file?: OpenFile; shared?: boolean; page?: number; mm?: Mm } = {},
  ): number {
    const { prot = RW, file = null, shared = false, page = 0, mm = this.mm } = options
    const flags = (shared ? MAP_SHARED : MAP_PRIVATE) | (file === null ? MAP_ANONYMOUS : 0)
    const address = this.task.run(
      mmap(this.k, mm, { addr: 0, length: pages * P, prot, flags, file, offset: page * P }),
    )
    expect(address).toBeGreaterThan(0)
    return address
  }

  /** Private anonymous memory at a given place. */
  mapFixed(address: number, pages: number, prot = RW): void {
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    expect(
      this.task.run(
        mmap(this.k, this.mm, { addr: address, length: pages * P, prot, flags, file: null, offset: 0 }),
      ),
    ).toBe(address)
  }

  touch(address: number, write = false, mm: Mm = this.mm): AccessResult {
    return this.task.run(accessUser(this.k, mm, address, write))
  }

  store(address: number, value: number, mm: Mm = this.mm): void {
    expect(this.task.run(storeUser(this.k, mm, address, Uint8Array.of(value)))).toEqual({ ok: true })
  }

  load(address: number, mm: Mm = this.mm): number {
    const into = new Uint8Array(1)
    expect(this.task.run(loadUser(this.k, mm, address, into))).toEqual({ ok: true })
    return into[0]!
  }

  /** Number of faults an access takes. */
  faults(address: number, write = false, mm: Mm = this.mm): number {
    const before = this.k.pgfault
    expect(this.touch(address, write, mm)).toEqual({ ok: true })
    return this.k.pgfault - before
  }

  fork(mm: Mm = this.mm): Mm {
    const child = this.task.run(forkMm(this.k, mm, 'child'))
    if (typeof child === 'number') throw new Error(`fork: ${child}`)
    return child
  }

  exit(mm: Mm): void {
    this.task.run(exitMmap(this.k, mm))
  }

  fault(address: number, flags: number, mm: Mm = this.mm): number {
    const { k } = this
    return this.task.run(
      (function* () {
        const guard = yield* mm.mmapLock.read()
        const code = yield* handleMmFault(k, guard, guard.vmas.find(address)!, address, flags)
        if (guard.held) guard.release()
        return code
      })(),
    )
  }

  zap(start: number, pages: number, how: ZapHow = 'dontneed', mm: Mm = this.mm): void {
    const { k } = this
    this.task.run(
      (function* () {
        const guard = yield* mm.mmapLock.read()
        yield* zapRange(k, mm, guard.vmas.find(start)!, start, start + pages * P, how)
        guard.release()
      })(),
    )
  }

  /** Replaces what an address shows by a swap entry, as if the page had been exclusive and swapped out. */
  swapOut(address: number, bytes: Uint8Array | null = null): void {
    this.store(address, 0)
    this.zap(address, 1)
    installSwapEntry(this.k, this.mm, address, { exclusive: true, bytes })
  }

  entry(address: number, mm: Mm = this.mm): { pfn: number; bits: number } {
    const entry = mm.pageTable.pmd(pmdIndex(address))
    if (entry === null) return { pfn: 0, bits: 0 }
    const slot = pteSlot(address)
    if (entry instanceof HugePmd) return { pfn: entry.pfn + slot, bits: entry.bits }
    return { pfn: entry.pfn[slot]!, bits: entry.bits[slot]! }
  }

  /** The page an address shows; fails when nothing is present. */
  pfn(address: number, mm: Mm = this.mm): number {
    const { pfn, bits } = this.entry(address, mm)
    expect(bits & PTE_PRESENT, 'present').toBe(PTE_PRESENT)
    return pfn
  }

  /** What stands at an address: `none`, `zero`, `swap`, `guard`, or `anon`/`file` with X and w. */
  shows(address: number, mm: Mm = this.mm): string {
    const { pfn, bits } = this.entry(address, mm)
    if (bits === 0) return 'none'
    if ((bits & PTE_SWAP) !== 0) return 'swap'
    if ((bits & PTE_MARKER_GUARD) !== 0) return 'guard'
    if ((bits & PTE_SPECIAL) !== 0) return pfn === this.k.zeroPfn ? 'zero' : 'special'
    const { frames } = this.k.memory
    const kind = frames.has(frames.head(pfn), PG_ANON) ? 'anon' : 'file'
    return `${kind}${frames.has(pfn, PG_ANON_EXCLUSIVE) ? ' X' : ''}${(bits & PTE_WRITE) !== 0 ? ' w' : ''}`
  }

  ref(pfn: number): number {
    return this.k.memory.frames.refcount[this.k.memory.frames.head(pfn)]!
  }

  mapped(pfn: number): number {
    return this.k.memory.frames.mapcount[pfn]!
  }

  /** A FOLL_PIN on a small page, as GUP leaves it behind. */
  pin(pfn: number, mm: Mm = this.mm): void {
    mm.hasPinned = true
    this.k.memory.get(pfn, 1024)
    this.holder.held.push({ pfn, references: 0, pins: 1 })
  }

  /** Plain references (FOLL_GET). */
  get(pfn: number, references = 1): void {
    this.k.memory.get(pfn, references)
    this.holder.held.push({ pfn, references, pins: 0 })
  }

  /** Drops everything the test holds on a page. */
  drop(pfn: number): void {
    for (const held of this.holder.held.splice(0)) {
      if (held.pfn !== pfn) this.holder.held.push(held)
      else this.k.memory.put(pfn, held.references + held.pins * 1024)
    }
  }

  /** Pages of a range that are present, as offsets. */
  present(start: number, pages: number, mm: Mm = this.mm): number[] {
    const found: number[] = []
    for (let i = 0; i < pages; i++)
      if ((this.entry(start + i * P, mm).bits & PTE_PRESENT) !== 0) found.push(i)
    return found
  }
}
