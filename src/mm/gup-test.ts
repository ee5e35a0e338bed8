import { EINTR, EINVAL, ENOMEM, EFAULT } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { dumpPage } from './dump-page.ts'
import { GupTestPages } from './gup-test-pages.ts'
import { GupTestSession, type PinLongtermTest } from './gup-test-session.ts'
import { FOLL_LONGTERM } from './gup-flags.ts'
import { isLongtermPinnable } from './gup-grab.ts'
import { getUserPages, getUserPagesFast, pinUserPages, pinUserPagesFast } from './gup.ts'
import type { Kernel } from './kernel.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { PageArray } from './page-array.ts'

export const GUP_FAST_BENCHMARK = 0xc0506701
export const PIN_FAST_BENCHMARK = 0xc0506702
export const PIN_LONGTERM_BENCHMARK = 0xc0506703
export const GUP_BASIC_TEST = 0xc0506704
export const PIN_BASIC_TEST = 0xc0506705
export const DUMP_USER_PAGES_TEST = 0xc0506706
export const PIN_LONGTERM_TEST_START = 0x40186707
export const PIN_LONGTERM_TEST_STOP = 0x00006708
export const PIN_LONGTERM_TEST_READ = 0x40086709

/** `test_flags`: dump pages that were pinned, not just referenced. */
export const GUP_TEST_FLAG_DUMP_PAGES_USE_PIN = 1
/** room of `which_pages` */
export const GUP_TEST_MAX_PAGES_TO_DUMP = 8

/** `struct gup_test`: what goes in, and what the kernel writes back into it. */
export interface GupTest {
  /** time spent getting the pages, µs */
  getDeltaUsec: number
  /** time spent releasing them, µs */
  putDeltaUsec: number
  /** user address, bytes */
  addr: number
  /** bytes; comes back as far as the test got */
  size: number
  nrPagesPerCall: number
  /** FOLL_* bits of the engine (`FOLL_FLAGS`) */
  gupFlags: number
  testFlags: number
  /** pages to dump, counted from 1; 0 is none. Eight of them */
  whichPages: number[]
}

/** What an ioctl takes; null is an address that cannot be read. */
export type GupTestArgument = GupTest | PinLongtermTest | number | null

export interface GupTestOptions {
  /** µs, for the two times a test reports; the engine has no clock of its own. Default: always 0 */
  readonly clock?: () => number
  /** gets each line for the kernel log */
  readonly log?: (line: string) => void
}

/**
 * An open `/sys/kernel/debug/gup_test` (mm/gup_test.c): GUP calls on the caller's own memory, by ioctl.
 */
export class GupTestFile {
  readonly #k: Kernel
  readonly #clock: () => number
  readonly #log: (line: string) => void
  #refs = 1

  constructor(k: Kernel, { clock = () => 0, log = () => {} }: GupTestOptions = {}) {
    this.#k = k
    this.#clock = clock
    this.#log = log
  }

  get(): this {
    this.#refs++
    return this
  }

  /** Closing the last reference of any gup_test file ends the long-term session (R-GUP-105). */
  put(): void {
    this.#refs--
    if (this.#refs === 0) GupTestSession.of(this.#k).stop()
  }

  /**
   * ioctl(2).
   * @param arg a `GupTest`, which is written back; for the long-term session its own structure or, for
   *   READ, the user address to copy to
   * @returns 0 or -errno. Errors of GUP itself are no error here: they show as a smaller size (R-GUP-101)
   * @rule R-GUP-100
   */
  *ioctl(cmd: number, arg: GupTestArgument): Kthread<number> {
    switch (cmd) {
      case GUP_FAST_BENCHMARK:
      case PIN_FAST_BENCHMARK:
      case PIN_LONGTERM_BENCHMARK:
      case GUP_BASIC_TEST:
      case PIN_BASIC_TEST:
      case DUMP_USER_PAGES_TEST:
        if (arg === null || typeof arg === 'number') return -EFAULT
        return yield* this.#test(cmd, arg as GupTest)
      case PIN_LONGTERM_TEST_START:
      case PIN_LONGTERM_TEST_STOP:
      case PIN_LONGTERM_TEST_READ: {
        if (!this.#k.release.gup.testHasLongtermSession) return -EINVAL
        const session = GupTestSession.of(this.#k)
        if (cmd === PIN_LONGTERM_TEST_STOP) return session.stop()
        if (cmd === PIN_LONGTERM_TEST_READ) return yield* session.read(typeof arg === 'number' ? arg : null)
        return yield* session.start(arg === null || typeof arg === 'number' ? null : (arg as PinLongtermTest))
      }
      default:
        return -EINVAL
    }
  }

  *#test(cmd: number, test: GupTest): Kthread<number> {
    const k = this.#k
    const pages = GupTestPages.allocate(k, Math.floor(test.size / PAGE_SIZE), 'gup_test')
    if (pages === null) return -ENOMEM
    let guard: MmapReadGuard | null = null
    if (cmd !== GUP_FAST_BENCHMARK && cmd !== PIN_FAST_BENCHMARK) {
      const taken = yield* k.current.mm!.mmapLock.readKillable()
      if (typeof taken === 'number') {
        pages.free()
        return -EINTR
      }
      guard = taken
    }
    const pinning = isPinning(cmd, test)
    const begun = this.#clock()
    test.size = (yield* this.#getPages(cmd, test, guard, pages, pinning)) - test.addr
    test.getDeltaUsec = Math.floor(this.#clock() - begun)
    // shown while the pages are still held
    if (cmd === DUMP_USER_PAGES_TEST) this.#dump(test, pages)
    else if (pinning) this.#verify(cmd, pages)
    const releasing = this.#clock()
    pages.free()
    test.putDeltaUsec = Math.floor(this.#clock() - releasing)
    guard?.release()
    return 0
  }

  /**
   * @returns the address where the loop ended: the start of a step that got nothing, the end of one that got a part
   * @rule R-GUP-101
   * @rule R-GUP-102
   */
  *#getPages(
    cmd: number,
    { addr, size, nrPagesPerCall, gupFlags }: GupTest,
    guard: MmapReadGuard | null,
    pages: GupTestPages,
    pinning: boolean,
  ): Kthread<number> {
    const end = addr + size
    const step = new PageArray(Math.min(nrPagesPerCall, pages.room))
    let at = addr
    for (let got = nrPagesPerCall; at < end && got === nrPagesPerCall;) {
      const wanted = Math.min(nrPagesPerCall, Math.floor((end - at) / PAGE_SIZE))
      got = yield* this.#call(cmd, at, wanted, gupFlags, step, guard, pinning)
      if (got <= 0) break
      pages.add(step, got, pinning)
      at += wanted * PAGE_SIZE
    }
    return at
  }

  #call(
    cmd: number,
    start: number,
    nrPages: number,
    flags: number,
    pages: PageArray,
    guard: MmapReadGuard | null,
    pinning: boolean,
  ): Kthread<number> {
    const k = this.#k
    if (guard === null) {
      return pinning
        ? pinUserPagesFast(k, start, nrPages, flags, pages)
        : getUserPagesFast(k, start, nrPages, flags, pages)
    }
    if (!pinning) return getUserPages(k, guard, start, nrPages, flags, pages)
    const all = cmd === PIN_LONGTERM_BENCHMARK ? flags | FOLL_LONGTERM : flags
    return pinUserPages(k, guard, start, nrPages, all, pages)
  }

  /** @rule R-GUP-103 */
  #verify(cmd: number, pages: GupTestPages): void {
    const k = this.#k
    for (let i = 0; i < pages.count; i++) {
      const pfn = pages.pfns[i]!
      const complaint = !k.memory.frames.maybeDmaPinned(pfn)
        ? `pages[${i}] is NOT dma-pinned`
        : cmd === PIN_LONGTERM_BENCHMARK && !isLongtermPinnable(k, pfn)
          ? `pages[${i}] is NOT pinnable but pinned`
          : null
      if (complaint === null) continue
      k.warnOnce('gup-test-failure', complaint)
      this.#say([complaint, ...dumpPage(k, pfn, 'gup_test failure')])
      return
    }
  }

  /** @rule R-GUP-104 */
  #dump({ addr, whichPages }: GupTest, pages: GupTestPages): void {
    for (const [i, which] of whichPages.entries()) {
      if (which <= pages.count) continue
      this.#say([`ZEROING due to out of range: .which_pages[${i}]: ${which}`])
      whichPages[i] = 0
    }
    for (const which of whichPages) {
      if (which === 0) continue
      const from = `0x${addr.toString(16)}`
      this.#say([
        `---- page #${which - 1}, starting from user virt addr: ${from}`,
        ...dumpPage(this.#k, pages.pfns[which - 1]!, 'gup_test: dump_pages() test'),
      ])
    }
  }

  #say(lines: readonly string[]): void {
    for (const line of lines) this.#log(line)
  }
}

function isPinning(cmd: number, { testFlags }: GupTest): boolean {
  if (cmd === DUMP_USER_PAGES_TEST) return (testFlags & GUP_TEST_FLAG_DUMP_PAGES_USE_PIN) !== 0
  return cmd === PIN_FAST_BENCHMARK || cmd === PIN_LONGTERM_BENCHMARK || cmd === PIN_BASIC_TEST
}
