/**
 * The promise of the series, from both sides: lines that must not compile (`@ts-expect-error`, checked by
 * `npm run typecheck`: an error that no longer occurs is one) and lines that must throw.
 */
import { describe, expect, it } from 'vitest'
import type { Kthread } from '../../src/base/kthread.ts'
import type * as gup from '../../src/mm/gup.ts'
import { FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { LockedGuard, PageArray, getUserPagesRemote, pinUserPages } from '../../src/mm/gup.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../src/mm/mman.ts'
import { mmap } from '../../src/mm/mmap.ts'
import {
  type MmapReadGuard,
  MmapWriteGuard,
  StaleVmaError,
  findVma,
  unwatched,
  vmaLookup,
} from '../../src/mm/mmap-lock.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { doMunmap, munmap } from '../../src/mm/munmap.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import type { Vma } from '../../src/mm/vma.ts'
import { testKernel, testTask, type TestTask } from '../support/kernel.ts'

// ---- what must not compile -------------------------------------------------------------------------

/** Never called: its body is for the compiler. */
export function* vmasWithoutGuard(k: Kernel, mm: Mm, vma: Vma, guard: MmapReadGuard): Kthread<void> {
  // @ts-expect-error an mm shows no VMAs
  void mm.vmas
  // @ts-expect-error nor a tree
  void mm.tree
  // @ts-expect-error nor does its lock hold them openly
  void mm.mmapLock.vmas
  // @ts-expect-error vma_lookup(mm, address) is what the type system forbids
  vmaLookup(mm, 0x1000)
  // @ts-expect-error holding the lock is not having proof of it
  vmaLookup(mm.mmapLock, 0x1000)
  // @ts-expect-error the same for find_vma
  findVma(mm, 0x1000)
  // @ts-expect-error tryRead may have failed: null is no guard
  vmaLookup(mm.mmapLock.tryRead(), 0x1000)
  // @ts-expect-error nor is the coroutine that would take the lock
  vmaLookup(mm.mmapLock.read(), 0x1000)
  // @ts-expect-error nor a killable lock whose -EINTR was not looked at
  vmaLookup(yield* mm.mmapLock.readKillable(), 0x1000)
  // @ts-expect-error a read guard does not let anybody change mappings
  yield* doMunmap(k, guard, 0x1000, 0x1000)
  // @ts-expect-error nor can a reader downgrade
  guard.downgrade()
  // @ts-expect-error a VMA is not a place to pin
  yield* pinUserPages(k, guard, vma, 1, FOLL_WRITE, new PageArray(1))
  // @ts-expect-error the sixth argument is pages, the array of VMAs after it is gone
  yield* pinUserPages(k, guard, 0x1000, 1, FOLL_WRITE, new PageArray(1), [vma])
  // @ts-expect-error pages are frame numbers, not VMAs
  yield* pinUserPages(k, guard, 0x1000, 1, FOLL_WRITE, [vma])
  // @ts-expect-error the caller's lock is not optional where the call relies on it
  yield* pinUserPages(k, mm, 0x1000, 1, FOLL_WRITE, new PageArray(1))
}

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
type Callable = (...args: never[]) => unknown
/** Whether some parameter accepts a VMA, or an array of them. */
type AcceptsVma<F extends Callable> = true extends TakesVma<Parameters<F>[number]> ? true : false
type TakesVma<P> = P extends unknown ? (Vma extends P ? true : Vma[] extends P ? true : false) : never
type Result<F extends Callable> = ReturnType<F> extends Kthread<infer T> ? T : ReturnType<F>

type GupFunctions = {
  [K in keyof typeof gup as (typeof gup)[K] extends Callable ? K : never]: (typeof gup)[K]
}
type Sound = {
  [K in keyof GupFunctions]: GupFunctions[K] extends Callable
    ? AcceptsVma<GupFunctions[K]> extends false
      ? Equal<Result<GupFunctions[K]>, number>
      : false
    : false
}

/** Every function src/mm/gup.ts exports: no parameter takes a VMA, the result is a number. */
const sound: Sound = {
  fixupUserFault: true,
  getDumpPage: true,
  getUserPages: true,
  getUserPageVmaRemote: true,
  getUserPagesFast: true,
  getUserPagesFastOnly: true,
  getUserPagesRemote: true,
  getUserPagesUnlocked: true,
  pinUserPages: true,
  pinUserPagesFast: true,
  pinUserPagesRemote: true,
  pinUserPagesUnlocked: true,
}

// the two type-level questions above can answer "yes": otherwise they would prove nothing
const acceptsOne: AcceptsVma<(k: Kernel, vma: Vma) => number> = true
const acceptsMany: AcceptsVma<(k: Kernel, vmas: Vma[] | null) => number> = true
const returnsVma: Equal<Result<typeof vmaLookup>, number> = false

// ---- what must throw -------------------------------------------------------------------------------

const LENGTH = 4 * 4096

interface Setup {
  readonly k: Kernel
  readonly task: TestTask
  readonly mm: Mm
  /** 4 anonymous pages, read and write */
  readonly start: number
}

function setup(checkStaleVmas = true): Setup {
  const k = testKernel({ checkStaleVmas })
  const task = testTask(k)
  const mm = task.space
  const request = {
    addr: 0,
    length: LENGTH,
    prot: PROT_READ | PROT_WRITE,
    flags: MAP_PRIVATE | MAP_ANONYMOUS,
    file: null,
    offset: 0,
  }
  return { k, task, mm, start: task.run(mmap(k, mm, request)) }
}

/** The StaleVmaError a call throws; fails when it throws nothing or something else. */
function staleness(call: () => unknown): StaleVmaError {
  try {
    call()
  } catch (error) {
    expect(error).toBeInstanceOf(StaleVmaError)
    return error as StaleVmaError
  }
  throw new Error('nothing was thrown')
}

describe('R-GUP-111 no VMA without its lock', () => {
  it('R-GUP-111 no exported GUP function takes or returns a VMA', () => {
    expect(Object.values(sound).every(Boolean)).toBe(true)
    expect([acceptsOne, acceptsMany, returnsVma]).toEqual([true, true, false])
  })

  it('R-GUP-111 an mm and its lock have no member that leads to a VMA', () => {
    const { mm, start } = setup()
    const reached: unknown[] = []
    for (const owner of [mm, mm.mmapLock]) {
      for (
        let level: object | null = owner;
        level !== null;
        level = Object.getPrototypeOf(level) as object | null
      ) {
        for (const key of Object.getOwnPropertyNames(level)) {
          const value: unknown = Reflect.get(owner, key)
          if (typeof value === 'object' && value !== null && ('find' in value || 'start' in value))
            reached.push(key)
        }
      }
    }
    expect(reached).toEqual([])
    expect(() => vmaLookup(mm as never, start)).toThrow(TypeError)
    expect(() => vmaLookup(mm.mmapLock as never, start)).toThrow(TypeError)
  })

  it('R-GUP-113 under the guard the VMA is there', () => {
    const { task, mm, start } = setup()
    const guard = task.run(mm.mmapLock.read())
    expect(vmaLookup(guard, start)?.end).toBe(start + LENGTH)
    expect(vmaLookup(guard, start + LENGTH - 1)?.start).toBe(start)
    expect(vmaLookup(guard, start - 1)).toBeNull()
    expect(findVma(guard, start - 1)?.start).toBe(start)
    guard.release()
  })

  it('R-GUP-111 class A: a VMA kept past the release throws, with both stacks', () => {
    const { task, mm, start } = setup()
    const guard = task.run(mm.mmapLock.read())
    const vma = vmaLookup(guard, start)!
    function whoReleases(): void {
      guard.release()
    }
    function whoTouches(): number {
      return vma.end
    }
    expect(whoTouches()).toBe(start + LENGTH)
    whoReleases()
    const error = staleness(whoTouches)
    expect(error.message).toBe('vma.end touched after its mmap_lock guard was released')
    expect(error.stack).toContain('whoTouches')
    expect(error.releasedAt).toContain('whoReleases')
  })

  it('R-GUP-111 class A: writing to a stale VMA throws and changes nothing', () => {
    const { task, mm, start } = setup()
    const first = task.run(mm.mmapLock.write())
    const vma = vmaLookup(first, start)!
    first.release()
    staleness(() => (vma.flags = 0))
    const second = task.run(mm.mmapLock.read())
    expect(vmaLookup(second, start)?.flags).not.toBe(0)
    // the lock is held again, but not the one this VMA was looked up under
    staleness(() => vma.start)
    second.release()
  })

  it('R-AS-122, R-GUP-111 class A: a munmap after the release leaves nothing to touch', () => {
    const { k, task, mm, start } = setup()
    const guard = task.run(mm.mmapLock.read())
    const vma = vmaLookup(guard, start)!
    guard.release()
    expect(task.run(munmap(k, mm, start, LENGTH))).toBe(0)
    expect(unwatched(vma).freed).toBe(true)
    staleness(() => vma.file)
  })

  it('R-GUP-111 a VMA unmapped under the very guard it was looked up with throws, with both stacks', () => {
    const { k, task, mm, start } = setup()
    const guard = task.run(mm.mmapLock.write())
    const vma = vmaLookup(guard, start)!
    expect(task.run(doMunmap(k, guard, start, LENGTH))).toBe(0)
    expect(guard.held).toBe(true)
    function whoTouches(): number {
      return vma.pgoff
    }
    const error = staleness(whoTouches)
    expect(error.message).toBe('vma.pgoff touched after the VMA was freed')
    expect(error.stack).toContain('whoTouches')
    expect(error.releasedAt).toContain('doMunmap')
    guard.release()
  })

  it('a released guard leads to no VMA', () => {
    const { task, mm, start } = setup()
    const guard = task.run(mm.mmapLock.read())
    guard.release()
    expect(guard.held).toBe(false)
    expect(staleness(() => guard.vmas).message).toBe('VMAs looked up through a released mmap_lock guard')
    staleness(() => vmaLookup(guard, start))
    staleness(() => findVma(guard, start))
  })

  it.each(['read', 'write'] as const)('a %s guard is released once', (kind) => {
    const { task, mm } = setup()
    const guard: MmapReadGuard = task.run<MmapReadGuard>(mm.mmapLock[kind]())
    function firstRelease(): void {
      guard.release()
    }
    firstRelease()
    const error = staleness(() => guard.release())
    expect(error.message).toBe('mmap_lock guard released twice')
    expect(error.releasedAt).toContain('firstRelease')
    expect(mm.mmapLock.locked).toBe(false)
  })

  it('a downgrade ends the write guard and keeps the lock', () => {
    const { task, mm, start } = setup()
    const write = task.run(mm.mmapLock.write())
    const vma = vmaLookup(write, start)!
    function whoDowngrades(): MmapReadGuard {
      return write.downgrade()
    }
    const read = whoDowngrades()
    expect(read).not.toBeInstanceOf(MmapWriteGuard)
    expect(mm.mmapLock.semaphore.writeLocked).toBe(false)
    expect(mm.mmapLock.semaphore.readers).toBe(1)
    for (const late of [() => write.vmas, () => vma.start, () => write.release(), () => write.downgrade()]) {
      const error = staleness(late)
      expect(error.releasedAt).toContain('whoDowngrades')
    }
    expect(vmaLookup(read, start)?.start).toBe(start)
    read.release()
    expect(mm.mmapLock.locked).toBe(false)
  })

  it('a guard of one address space does not open another', () => {
    const { k, task, mm, start } = setup()
    const other = testTask(k, { comm: 'other' })
    const guard = other.run(other.space.mmapLock.read())
    expect(vmaLookup(guard, start)).toBeNull()
    expect(staleness(() => mm.mmapLock.vmasFor(guard)).message).toBe('guard of another address space')
    guard.release()
    expect(task.space).toBe(mm)
  })

  it('an ordinary run hands out the VMA itself and records no stack, but guards are strict there too', () => {
    const { task, mm, start } = setup(false)
    const guard = task.run(mm.mmapLock.read())
    const vma = vmaLookup(guard, start)!
    expect(unwatched(vma)).toBe(vma)
    guard.release()
    expect(staleness(() => guard.release()).releasedAt).toBeUndefined()
    staleness(() => vmaLookup(guard, start))
  })
})

describe('R-GUP-45 who holds the lock after a call that may drop it', () => {
  it('R-GUP-45 an unbroken lock: the guard is still the caller’s and its VMAs are good', () => {
    const { k, task, mm, start } = setup()
    const guard = task.run(mm.mmapLock.read())
    const vma = vmaLookup(guard, start)!
    const locked = new LockedGuard(guard)
    expect(task.run(getUserPagesRemote(k, mm, start, 4, FOLL_WRITE, null, locked))).toBe(4)
    expect(locked.guard).toBe(guard)
    expect(vma.end).toBe(start + LENGTH)
    locked.guard?.release()
  })

  it('R-GUP-113 pin, then look the VMA up under the same lock', () => {
    const { k, task, mm, start } = setup()
    const pages = new PageArray(4)
    const guard = task.run(mm.mmapLock.read())
    expect(task.run(pinUserPages(k, guard, start, 4, FOLL_WRITE, pages))).toBe(4)
    expect(vmaLookup(guard, start)?.isAnonymous).toBe(true)
    guard.release()
    unpinUserPages(k, pages, 4)
    expect(k.warnings).toEqual([])
  })
})
