import { PREEMPT, type Kthread } from '../../base/kthread.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { FOLL_WRITE } from '../../mm/gup-flags.ts'
import { PageArray, getUserPagesRemote } from '../../mm/gup.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { dirtyLock, putPage } from '../../mm/unpin.ts'

/*
 * @caller KVM s390 adapter interrupts
 * @entry interrupt of an adapter
 * @gup get_user_pages_remote FOLL_WRITE
 * @lock mmap_lock for read, kept
 * @budget none
 * @errno -1: not injected
 * @release at once
 * @test tests/arch/s390/interrupt.test.ts
 */

/** `struct s390_io_adapter`, as far as it matters here. */
export interface S390IoAdapter {
  /** bits are numbered from the other end of each 64-bit word */
  readonly swap: boolean
}

/** `struct kvm_s390_adapter_int`: user addresses, translated when the route was set, and bits from there on. */
export interface AdapterInt {
  readonly indAddr: number
  readonly indOffset: number
  readonly summaryAddr: number
  readonly summaryOffset: number
}

/**
 * `get_map_page`: the page of a guest's indicator, writable.
 * @returns its pfn with a FOLL_GET reference, 0 when there is none; the error is not looked at
 * @rule R-S39-2
 */
export function* getMapPage(k: Kernel, mm: Mm, address: number): Kthread<number> {
  const pages = new PageArray(1)
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  yield* getUserPagesRemote(k, mm, address, 1, FOLL_WRITE, pages, guard)
  guard.release()
  return pages.pfns[0]!
}

/**
 * `set_adapter_int` for an adapter route: sets the indicator bit and the summary bit in guest memory.
 * @param level 0 does nothing
 * @param adapter null: no such adapter
 * @returns 1: an interrupt is to be injected, 0: coalesced with one that is pending, or nothing done;
 *   -1 when a page cannot be had, with nothing held
 * @rule R-S39-2
 * @rule R-S39-3
 */
export function* setAdapterInt(
  k: Kernel,
  mm: Mm,
  adapter: S390IoAdapter | null,
  route: AdapterInt,
  level: number,
): Kthread<number> {
  if (level !== 1) return 0
  if (adapter === null) return -1
  const indPage = yield* getMapPage(k, mm, route.indAddr)
  if (indPage === 0) return -1
  if (k.exploring) yield PREEMPT
  const summaryPage = yield* getMapPage(k, mm, route.summaryAddr)
  if (summaryPage === 0) {
    putPage(k, indPage)
    return -1
  }
  testAndSet(k, indPage, bitOf(route.indAddr, route.indOffset, adapter.swap))
  yield* dirtyLock(k, k.memory.frames.head(indPage))
  const pending = testAndSet(k, summaryPage, bitOf(route.summaryAddr, route.summaryOffset, adapter.swap))
  yield* dirtyLock(k, k.memory.frames.head(summaryPage))
  // @rule R-S39-4
  putPage(k, summaryPage)
  putPage(k, indPage)
  return pending ? 0 : 1
}

/** Number of a bit in its page, the way set_bit() counts in 64-bit words. */
function bitOf(address: number, offset: number, swap: boolean): number {
  const bit = offset + (address % PAGE_SIZE) * 8
  return swap ? Math.floor(bit / 64) * 64 + (63 - (bit % 64)) : bit
}

/** `test_and_set_bit` on a page of a big-endian machine: bit 0 is the lowest of the last byte of a word. */
function testAndSet(k: Kernel, pfn: number, bit: number): boolean {
  const at = Math.floor(bit / 64) * 8 + 7 - Math.floor((bit % 64) / 8)
  const mask = 1 << (bit % 8)
  const byte = new Uint8Array(1)
  k.memory.contents.read(pfn, at, byte)
  const was = (byte[0]! & mask) !== 0
  byte[0]! |= mask
  k.memory.contents.write(pfn, at, byte)
  return was
}
