import { PMD_SIZE } from '../../src/base/units.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { PG_ANON_EXCLUSIVE } from '../../src/memory/page-flags.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import type { OpenFile } from '../../src/mm/file.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { getUserPagesFast, PageArray, pinUserPagesFast } from '../../src/mm/gup.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import type { Kernel, KernelOptions, PageHolder } from '../../src/mm/kernel.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_HUGEPAGE,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  PROT_READ,
  PROT_WRITE,
} from '../../src/mm/mman.ts'
import { mmap } from '../../src/mm/mmap.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { HugePmd, Leaf, PTE_PRESENT, PTE_WRITE, pmdIndex, pteSlot } from '../../src/mm/page-table.ts'
import { unpinUserPages, putPages } from '../../src/mm/unpin.ts'
import { accessUser } from '../../src/mm/user-access.ts'
import { result, testKernel, testTask, type TestTask } from './kernel.ts'

export const RELEASES: readonly ReleaseName[] = ['6.1', 'gup-v3', '6.6', '6.12', '6.18']
/** a 2 MiB aligned address */
export const BASE = 0x7f0000000000
export const RW = PROT_READ | PROT_WRITE

/** A kernel with 64 MiB: enough for a handful of huge pages, quick to audit. */
export function smallKernel(release: ReleaseName, options: KernelOptions = {}): Kernel {
  return testKernel({ release, zones: { normal: 16_384 }, ...options })
}

/** Maps anonymous memory or a file at a fixed address. @returns the address, or `-ENOMEM` and the like */
export function map(
  task: TestTask,
  address: number,
  length: number,
  more: { prot?: number; flags?: number; file?: OpenFile; offset?: number } = {},
): number | string {
  const { prot = RW, file = null, offset = 0 } = more
  const flags = (more.flags ?? MAP_PRIVATE | (file === null ? MAP_ANONYMOUS : 0)) | MAP_FIXED
  return result(task.run(mmap(task.kernel, task.space, { addr: address, length, prot, flags, file, offset })))
}

/** 2 MiB of anonymous memory at BASE that may become huge. */
export function mapThp(task: TestTask, address = BASE, length = PMD_SIZE): void {
  map(task, address, length)
  task.run(madvise(task.kernel, task.space, address, length, MADV_HUGEPAGE))
}

/** What the program sees when it touches an address. */
export function touch(task: TestTask, address: number, write: boolean): string {
  const seen = task.run(accessUser(task.kernel, task.space, address, write))
  return seen.ok ? 'ok' : `${seen.signal}(${seen.code})`
}

export interface Entry {
  pfn: number
  write: boolean
  /** mapped by a PMD */
  huge: boolean
}

/** What the page table holds at an address; null for nothing present. */
export function entryAt(task: TestTask, address: number): Entry | null {
  const entry = task.space.pageTable.pmd(pmdIndex(address))
  const slot = pteSlot(address)
  if (entry instanceof HugePmd)
    return { pfn: entry.pfn + slot, write: (entry.bits & PTE_WRITE) !== 0, huge: true }
  if (!(entry instanceof Leaf) || (entry.bits[slot]! & PTE_PRESENT) === 0) return null
  return { pfn: entry.pfn[slot]!, write: (entry.bits[slot]! & PTE_WRITE) !== 0, huge: false }
}

export function pfnAt(task: TestTask, address: number): number {
  return entryAt(task, address)?.pfn ?? 0
}

/** Counters of the folio of a page, as the tables of docs/spec/huge-pages.md print them. */
export function counts(k: Kernel, pfn: number): { ref: number; entire: number; total: number; pin: number } {
  const { frames } = k.memory
  const head = frames.head(pfn)
  return {
    ref: frames.refcount[head]!,
    entire: frames.entireMapcount(head),
    total: frames.totalMapcount(head),
    pin: frames.isLarge(head) ? frames.pincount(head) : 0,
  }
}

export function isExclusive(k: Kernel, pfn: number): boolean {
  return k.memory.frames.has(pfn, PG_ANON_EXCLUSIVE)
}

/** fork. @returns the child, or the errno */
export function fork(task: TestTask): TestTask {
  const mm = tryFork(task)
  if (typeof mm === 'string') throw new Error(`fork: ${mm}`)
  return testTask(task.kernel, { comm: 'child', mm })
}

export function tryFork(task: TestTask): Mm | string {
  const mm = task.run(forkMm(task.kernel, task.space, 'child'))
  return typeof mm === 'number' ? String(result(mm)) : mm
}

export function exit(task: TestTask): void {
  task.run(exitMmap(task.kernel, task.space))
}

/** References somebody holds on pages of a task: pins (io_uring) or plain ones (vmsplice). */
export class Held implements PageHolder {
  readonly name: string
  readonly result: number | string
  readonly pages: PageArray
  readonly #k: Kernel
  readonly #isPin: boolean
  #held: number

  constructor(task: TestTask, address: number, n: number, how: 'pin' | 'get') {
    this.#k = task.kernel
    this.#isPin = how === 'pin'
    this.name = how
    this.pages = new PageArray(n)
    const got = task.run(
      how === 'pin'
        ? pinUserPagesFast(task.kernel, address, n, FOLL_WRITE | FOLL_LONGTERM, this.pages)
        : getUserPagesFast(task.kernel, address, n, 0, this.pages),
    )
    this.result = result(got)
    this.#held = Math.max(0, got)
    this.#k.holders.add(this)
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (let i = 0; i < this.#held; i++) {
      if (this.#isPin) visit(this.pages.pfns[i]!, 0, 1)
      else visit(this.pages.pfns[i]!, 1, 0)
    }
  }

  release(): void {
    if (this.#isPin) unpinUserPages(this.#k, this.pages, this.#held)
    else putPages(this.#k, this.pages, this.#held)
    this.#held = 0
  }
}

export function pin(task: TestTask, address: number, n = 1): Held {
  return new Held(task, address, n, 'pin')
}

export function get(task: TestTask, address: number): Held {
  return new Held(task, address, 1, 'get')
}
