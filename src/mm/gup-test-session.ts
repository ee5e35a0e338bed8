import { EFAULT, EINTR, EINVAL, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from './gup-flags.ts'
import { GupTestPages } from './gup-test-pages.ts'
import { pinUserPages, pinUserPagesFast } from './gup.ts'
import type { Kernel } from './kernel.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { PageArray } from './page-array.ts'
import { storeUser } from './user-access.ts'

export const PIN_LONGTERM_TEST_FLAG_USE_WRITE = 1
export const PIN_LONGTERM_TEST_FLAG_USE_FAST = 2

/** `struct pin_longterm_test` */
export interface PinLongtermTest {
  /** user address, page aligned */
  readonly addr: number
  /** bytes, page aligned */
  readonly size: number
  /** PIN_LONGTERM_TEST_FLAG_* */
  readonly flags: number
}

const sessions = new WeakMap<Kernel, GupTestSession>()

/**
 * The long-term pin of gup_test: started, read and stopped by separate calls. There is one in the whole system,
 * whichever file it was started through.
 * @rule R-GUP-105
 */
export class GupTestSession {
  readonly #k: Kernel
  #pages: GupTestPages | null = null

  private constructor(k: Kernel) {
    this.#k = k
  }

  static of(k: Kernel): GupTestSession {
    let session = sessions.get(k)
    if (session === undefined) sessions.set(k, (session = new GupTestSession(k)))
    return session
  }

  /** Pins the whole range, all or nothing. @returns 0 or -errno */
  *start(test: PinLongtermTest | null): Kthread<number> {
    if (this.#pages !== null) return -EINVAL
    if (test === null) return -EFAULT
    const { addr, size, flags } = test
    const known = PIN_LONGTERM_TEST_FLAG_USE_WRITE | PIN_LONGTERM_TEST_FLAG_USE_FAST
    if ((flags & ~known) !== 0) return -EINVAL
    if (addr % PAGE_SIZE !== 0 || size % PAGE_SIZE !== 0 || size <= 0 || size > Number.MAX_SAFE_INTEGER)
      return -EINVAL
    const pages = GupTestPages.allocate(this.#k, size / PAGE_SIZE, 'gup_test long-term session')
    if (pages === null) return -ENOMEM
    this.#pages = pages
    const error = yield* this.#pin(test, pages)
    if (error < 0) this.stop()
    return error
  }

  *#pin({ addr, flags }: PinLongtermTest, pages: GupTestPages): Kthread<number> {
    const k = this.#k
    let guard: MmapReadGuard | null = null
    if ((flags & PIN_LONGTERM_TEST_FLAG_USE_FAST) === 0) {
      const taken = yield* k.current.mm!.mmapLock.readKillable()
      if (typeof taken === 'number') return -EINTR
      guard = taken
    }
    const gupFlags = FOLL_LONGTERM | ((flags & PIN_LONGTERM_TEST_FLAG_USE_WRITE) === 0 ? 0 : FOLL_WRITE)
    const step = new PageArray(pages.room)
    let got = 0
    while (pages.count < pages.room && got >= 0) {
      const start = addr + pages.count * PAGE_SIZE
      const left = pages.room - pages.count
      got =
        guard === null
          ? yield* pinUserPagesFast(k, start, left, gupFlags, step)
          : yield* pinUserPages(k, guard, start, left, gupFlags, step)
      if (got > 0) pages.add(step, got, true)
    }
    guard?.release()
    return Math.min(got, 0)
  }

  /** Copies every pinned page to user memory, in order. @param to null: the argument cannot be read */
  *read(to: number | null): Kthread<number> {
    const k = this.#k
    const pages = this.#pages
    if (pages === null) return -EINVAL
    if (to === null) return -EFAULT
    const bytes = new Uint8Array(PAGE_SIZE)
    for (let i = 0; i < pages.count; i++) {
      k.memory.contents.read(pages.pfns[i]!, 0, bytes)
      const stored = yield* storeUser(k, k.current.mm!, to + i * PAGE_SIZE, bytes, 'kernel')
      if (!stored.ok) return -EFAULT
    }
    return 0
  }

  /** Unpins everything. @returns 0, whether or not there was a session */
  stop(): number {
    this.#pages?.free()
    this.#pages = null
    return 0
  }
}
