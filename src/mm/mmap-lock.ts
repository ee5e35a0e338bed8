import type { Kthread } from '../base/kthread.ts'
import { RwSemaphore, type HolderSource } from '../base/locks.ts'
import { EINTR } from '../base/errno.ts'
import type { Mm } from './mm.ts'
import type { Vma } from './vma.ts'
import type { VmaTree } from './vma-tree.ts'

/** A guard was used after its release, or a VMA after its guard's release or its own death. */
export class StaleVmaError extends Error {
  /** where the guard was released or the VMA freed, when that was recorded */
  readonly releasedAt: string | undefined

  constructor(what: string, releasedAt?: string) {
    super(what)
    this.name = 'StaleVmaError'
    this.releasedAt = releasedAt
  }
}

/** What a `MmapLock` asks of its surroundings. */
export interface MmapLockHost extends HolderSource {
  /** hand out VMAs wrapped so that a stale one throws (tests, explorer) */
  readonly checkStaleVmas: boolean
  /** a fatal signal is pending for the task that is executing */
  readonly fatalSignalPending: boolean
}

/**
 * `mmap_lock` held for read. The only way to VMAs: whoever has none cannot name one.
 * Released once; using it afterwards throws.
 */
export class MmapReadGuard {
  readonly mm: Mm
  readonly #lock: MmapLock
  #held = true
  #releasedAt: string | undefined

  constructor(mm: Mm, lock: MmapLock) {
    this.mm = mm
    this.#lock = lock
  }

  get held(): boolean {
    return this.#held
  }

  /** The VMA tree. @throws StaleVmaError after release */
  get vmas(): VmaTree {
    if (!this.#held)
      throw new StaleVmaError('VMAs looked up through a released mmap_lock guard', this.#releasedAt)
    return this.#lock.vmasFor(this)
  }

  release(): void {
    this.drop()
    this.#lock.semaphore.releaseRead()
  }

  /** Marks the guard used up: by release, downgrade, or a GUP call that dropped the lock. */
  protected drop(): void {
    if (!this.#held) throw new StaleVmaError('mmap_lock guard released twice', this.#releasedAt)
    this.#held = false
    if (this.#lock.host.checkStaleVmas) this.#releasedAt = new Error('released').stack
  }

  /** What a wrapped VMA reports when it is touched too late. */
  get releasedAt(): string | undefined {
    return this.#releasedAt
  }
}

/** `mmap_lock` held for write. */
export class MmapWriteGuard extends MmapReadGuard {
  readonly #lock: MmapLock

  constructor(mm: Mm, lock: MmapLock) {
    super(mm, lock)
    this.#lock = lock
  }

  override release(): void {
    this.drop()
    this.#lock.semaphore.releaseWrite()
  }

  /** `mmap_write_downgrade`: this guard ends, a read guard begins, nobody gets in between. */
  downgrade(): MmapReadGuard {
    this.drop()
    this.#lock.semaphore.downgrade()
    return new MmapReadGuard(this.mm, this.#lock)
  }
}

/** The lock of one address space; keeps the VMA tree to itself. */
export class MmapLock {
  readonly semaphore: RwSemaphore
  readonly host: MmapLockHost
  readonly #mm: Mm
  readonly #vmas: VmaTree

  constructor(mm: Mm, vmas: VmaTree, host: MmapLockHost) {
    this.#mm = mm
    this.#vmas = vmas
    this.host = host
    this.semaphore = new RwSemaphore(`mmap_lock of ${mm.name}`, host)
  }

  get locked(): boolean {
    return this.semaphore.locked
  }

  /** @internal guards only */
  vmasFor(guard: MmapReadGuard): VmaTree {
    if (guard.mm !== this.#mm) throw new StaleVmaError('guard of another address space')
    return this.#vmas
  }

  /**
   * @internal the reverse map comes to the VMA of a mapped page without `mmap_lock`: the lock of its anon_vma, which
   * has no counterpart here, keeps it. Not to be kept beyond the next yield.
   */
  vmaOfRmap(address: number): Vma | null {
    const vma = this.#vmas.find(address)
    return vma === null || vma.start > address ? null : vma
  }

  tryRead(): MmapReadGuard | null {
    return this.semaphore.tryRead() ? new MmapReadGuard(this.#mm, this) : null
  }

  *read(): Kthread<MmapReadGuard> {
    if (!this.semaphore.tryRead()) {
      const wait = this.semaphore.readWait('none')
      do yield wait
      while (!this.semaphore.tryReadAfterWait())
    }
    return new MmapReadGuard(this.#mm, this)
  }

  /** `mmap_read_lock_killable`. @returns -EINTR when a fatal signal arrives first */
  *readKillable(): Kthread<MmapReadGuard | number> {
    if (!this.semaphore.tryRead()) {
      const wait = this.semaphore.readWait('fatal')
      do {
        yield wait
        if (this.host.fatalSignalPending) return -EINTR
      } while (!this.semaphore.tryReadAfterWait())
    }
    return new MmapReadGuard(this.#mm, this)
  }

  tryWrite(): MmapWriteGuard | null {
    return this.semaphore.tryWrite() ? new MmapWriteGuard(this.#mm, this) : null
  }

  *write(): Kthread<MmapWriteGuard> {
    while (!this.semaphore.tryWrite()) yield this.semaphore.writeWait('none')
    return new MmapWriteGuard(this.#mm, this)
  }

  /** `mmap_write_lock_killable`. @returns -EINTR when a fatal signal arrives first */
  *writeKillable(): Kthread<MmapWriteGuard | number> {
    while (!this.semaphore.tryWrite()) {
      yield this.semaphore.writeWait('fatal')
      if (this.host.fatalSignalPending) return -EINTR
    }
    return new MmapWriteGuard(this.#mm, this)
  }
}

/**
 * `vma_lookup`: the VMA containing an address, or null. Valid only while the guard is held.
 * @rule R-AS-8
 * @rule R-AS-122
 */
export function vmaLookup(guard: MmapReadGuard, address: number): Vma | null {
  const vma = guard.vmas.find(address)
  if (vma === null || vma.start > address) return null
  return guard.mm.mmapLock.host.checkStaleVmas ? watched(vma, guard) : vma
}

/** `find_vma`: the first VMA that ends above an address; it may start above it too. */
export function findVma(guard: MmapReadGuard, address: number): Vma | null {
  const vma = guard.vmas.find(address)
  return vma !== null && guard.mm.mmapLock.host.checkStaleVmas ? watched(vma, guard) : vma
}

const rawVma = Symbol('raw VMA')

/** The VMA behind a watched one; itself otherwise. Identity comparisons go through here. */
export function unwatched(vma: Vma): Vma {
  return (vma as Vma & { [rawVma]?: Vma })[rawVma] ?? vma
}

function watched(vma: Vma, guard: MmapReadGuard): Vma {
  return new Proxy(vma, {
    get(target, key) {
      if (key === rawVma) return target
      check(target, guard, key)
      return Reflect.get(target, key, target) as unknown
    },
    set(target, key, value) {
      check(target, guard, key)
      return Reflect.set(target, key, value, target)
    },
  })
}

function check(vma: Vma, guard: MmapReadGuard, key: string | symbol): void {
  if (!guard.held) {
    throw new StaleVmaError(
      `vma.${String(key)} touched after its mmap_lock guard was released`,
      guard.releasedAt,
    )
  }
  if (vma.freed) throw new StaleVmaError(`vma.${String(key)} touched after the VMA was freed`, vma.freedAt)
}
