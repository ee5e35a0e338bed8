import type { Kthread } from '../../src/base/kthread.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import type { ZoneSizes } from '../../src/memory/buddy.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { SECRETMEM, regularFileKind, type FileKind, type OpenFile } from '../../src/mm/file.ts'
import { FOLL_NOFAULT } from '../../src/mm/gup-flags.ts'
import {
  PageArray,
  pinUserPages,
  pinUserPagesFast,
  getUserPages,
  getUserPagesFast,
  getUserPagesFastOnly,
} from '../../src/mm/gup.ts'
import type { Kernel, MmSettings } from '../../src/mm/kernel.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_HUGEPAGE,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from '../../src/mm/mman.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { mmap } from '../../src/mm/mmap.ts'
import type { Mm } from '../../src/mm/mm.ts'
import type { MmapReadGuard } from '../../src/mm/mmap-lock.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { HugePmd, pmdIndex, pteSlot } from '../../src/mm/page-table.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import { accessUser, storeUser } from '../../src/mm/user-access.ts'
import { putPages, unpinUserPage, unpinUserPages } from '../../src/mm/unpin.ts'
import { testKernel, testTask, type TestTask } from '../support/kernel.ts'

export const RW = PROT_READ | PROT_WRITE
export const RO = PROT_READ
export const NONE = PROT_NONE
export const WO = PROT_WRITE

let checked = true

/**
 * Kernels that check themselves keep a ledger of pins and so never run the tight loops of GUP; a test file
 * that calls this with false runs its tests on kernels as users have them.
 */
export function useCheckedKernels(yes: boolean): void {
  checked = yes
}

export interface MapOptions {
  prot?: number
  flags?: number
  file?: OpenFile | null
  /** in pages */
  offset?: number
  /** fixed address */
  at?: number
  /** write one byte to every page; default false */
  touched?: boolean
}

export interface WorldOptions {
  zones?: ZoneSizes
  settings?: Partial<MmSettings>
}

/** One process on one kernel, with the handful of steps GUP tests are made of. */
export class World {
  readonly k: Kernel
  readonly task: TestTask
  #next = 0x10000000

  /** @param release a name, or the kernel `task` runs on */
  constructor(release: ReleaseName | Kernel = 'gup-v3', options: WorldOptions = {}, task?: TestTask) {
    const zones = options.zones ?? { normal: 8192 }
    this.k =
      typeof release === 'string'
        ? testKernel({ release, zones, settings: options.settings ?? {}, checkStaleVmas: checked })
        : release
    this.task = task ?? testTask(this.k)
  }

  /** the same kernel seen by another task */
  as(task: TestTask): World {
    return new World(this.k, {}, task)
  }

  /** releases a pin that a test took without the exported functions */
  unpinOne(pfn: number): void {
    unpinUserPage(this.k, pfn)
  }

  get mm(): Mm {
    return this.task.space
  }

  /** A mapping of `pages` pages. Mappings made one after the other are adjacent when `at` says so. */
  map(pages: number, options: MapOptions = {}): number {
    const { prot = RW, file = null, offset = 0, touched = false } = options
    const flags = options.flags ?? (file === null ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED)
    const at = options.at ?? this.#next
    this.#next = Math.max(this.#next, at + Math.ceil((pages * PAGE_SIZE) / PMD_SIZE + 1) * PMD_SIZE)
    const length = pages * PAGE_SIZE
    const address = this.task.run(
      mmap(this.k, this.mm, {
        addr: at,
        length,
        prot,
        flags: flags | MAP_FIXED,
        file,
        offset: offset * PAGE_SIZE,
      }),
    )
    if (address < 0) throw new Error(`mmap: ${address}`)
    if (touched) this.write(address, pages)
    return address
  }

  /** 2 MiB aligned, MADV_HUGEPAGE. */
  mapThp(pmds = 1): number {
    const address = this.map((pmds * PMD_SIZE) / PAGE_SIZE)
    const advised = this.task.run(madvise(this.k, this.mm, address, pmds * PMD_SIZE, MADV_HUGEPAGE))
    if (advised !== 0) throw new Error(`madvise: ${advised}`)
    return address
  }

  memfd(pages: number, name = 'memfd'): OpenFile {
    return shmemFileSetup(this.k, name, pages * PAGE_SIZE)
  }

  file(kind: FileKind, pages: number): OpenFile {
    return createFile(this.k, kind, { path: `/data/${kind.name}`, size: pages * PAGE_SIZE })
  }

  ext4(pages: number): OpenFile {
    return this.file(regularFileKind('ext4'), pages)
  }

  secretmem(pages: number): OpenFile {
    return this.file(SECRETMEM, pages)
  }

  write(address: number, pages = 1, value = 1): void {
    for (let i = 0; i < pages; i++) {
      const done = this.task.run(
        storeUser(this.k, this.mm, address + i * PAGE_SIZE, new Uint8Array([value + i])),
      )
      if (!done.ok) throw new Error(`store at ${(address + i * PAGE_SIZE).toString(16)}: ${done.signal}`)
    }
  }

  read(address: number, pages = 1): void {
    for (let i = 0; i < pages; i++) {
      const done = this.task.run(accessUser(this.k, this.mm, address + i * PAGE_SIZE, false))
      if (!done.ok) throw new Error(`load at ${(address + i * PAGE_SIZE).toString(16)}: ${done.signal}`)
    }
  }

  unmap(address: number, pages: number): number {
    return this.task.run(munmap(this.k, this.mm, address, pages * PAGE_SIZE))
  }

  /** pfn mapped at an address, 0 none */
  pfn(address: number, mm = this.mm): number {
    const entry = mm.pageTable.pmd(pmdIndex(address))
    if (entry === null) return 0
    const slot = pteSlot(address)
    return entry instanceof HugePmd ? entry.pfn + slot : entry.bits[slot] === 0 ? 0 : entry.pfn[slot]!
  }

  pagesOf(pfns: readonly number[]): PageArray {
    const pages = new PageArray(pfns.length)
    pages.pfns.set(pfns)
    return pages
  }

  ref(pfn: number): number {
    const { frames } = this.k.memory
    return frames.refcount[frames.head(pfn)]!
  }

  /** forks; the child is a task of its own */
  fork(by = this.task): TestTask {
    const mm = by.run(forkMm(this.k, this.mm, 'child'))
    if (typeof mm === 'number') throw new Error(`fork: ${mm}`)
    return testTask(this.k, { comm: 'child', mm })
  }

  exit(task: TestTask): void {
    const { mm } = task
    task.mm = null
    task.run(exitMmap(this.k, mm!))
  }

  get(start: number, n: number, flags = 0): Attempt {
    return this.attempt(n, (pages) =>
      this.underLock((guard) => getUserPages(this.k, guard, start, n, flags, pages)),
    )
  }

  pin(start: number, n: number, flags = 0): Attempt {
    return this.attempt(n, (pages) =>
      this.underLock((guard) => pinUserPages(this.k, guard, start, n, flags, pages)),
    )
  }

  pinFast(start: number, n: number, flags = 0): Attempt {
    return this.attempt(n, (pages) => this.task.run(pinUserPagesFast(this.k, start, n, flags, pages)))
  }

  getFast(start: number, n: number, flags = 0): Attempt {
    return this.attempt(n, (pages) => this.task.run(getUserPagesFast(this.k, start, n, flags, pages)))
  }

  /** how many of one page the lockless walk alone gets; nothing is held afterwards */
  getFastOnly(start: number, flags = 0): number {
    const got = this.attempt(1, (pages) =>
      this.task.run(atomically(() => getUserPagesFastOnly(this.k, start, 1, flags, pages))),
    )
    got.put()
    return got.result
  }

  /** what one page gives without a fault; nothing is held afterwards */
  getNoFault(start: number, flags: number): number {
    const got = this.get(start, 1, flags | FOLL_NOFAULT)
    got.put()
    return got.result
  }

  /** a fast pin as a body to spawn */
  attemptLater(start: number, n: number, flags: number, pages: PageArray): Kthread<number> {
    return pinUserPagesFast(this.k, start, n, flags, pages)
  }

  /** Runs one call and notes what it returned and how far the pin counters moved. */
  attempt(n: number, call: (pages: PageArray) => number): Attempt {
    const { pinAcquired, pinReleased } = this.k
    const pages = new PageArray(Math.max(n, 1))
    const result = call(pages)
    return new Attempt(
      this,
      result,
      pages,
      this.k.pinAcquired - pinAcquired,
      this.k.pinReleased - pinReleased,
    )
  }

  underLock<T>(body: (guard: MmapReadGuard) => Kthread<T>): T {
    const guard = this.mm.mmapLock.tryRead()!
    try {
      return this.task.run(body(guard))
    } finally {
      guard.release()
    }
  }
}

/** code that does not sleep, as a body to run */
export function* atomically<T>(body: () => T): Kthread<T> {
  return body()
}

/** What one GUP call did. */
export class Attempt {
  readonly world: World
  readonly result: number
  readonly pages: PageArray
  readonly acquired: number
  readonly released: number

  constructor(world: World, result: number, pages: PageArray, acquired: number, released: number) {
    this.world = world
    this.result = result
    this.pages = pages
    this.acquired = acquired
    this.released = released
  }

  get pfns(): number[] {
    return [...this.pages.pfns.subarray(0, Math.max(0, this.result))]
  }

  unpin(): void {
    if (this.result > 0) unpinUserPages(this.world.k, this.pages, this.result)
  }

  put(): void {
    if (this.result > 0) putPages(this.world.k, this.pages, this.result)
  }
}

/**
 * Injects what cannot happen under a held lock: look-ups of the VMA tree find nothing from the moment that
 * `when` holds, typically that somebody has a reference to the page at `address`.
 */
export function missVmas(w: World, address: number, when: () => boolean): void {
  const guard = w.mm.mmapLock.tryRead()!
  const { vmas } = guard
  const find = Object.getPrototypeOf(vmas) as { find(address: number): unknown }
  vmas.find = (at: number) => (when() ? null : (find.find.call(vmas, at) as ReturnType<typeof vmas.find>))
  guard.release()
  if (vmas.find(address) === null) throw new Error('the VMA is missing from the start')
}
