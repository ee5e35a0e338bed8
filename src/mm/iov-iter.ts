import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { accessUser, isReadableNow, loadUser, presentPfn, storeUser } from './user-access.ts'

/**
 * `struct iov_iter`: where the bytes of a transfer go or come from. Copying moves it forward; what cannot be
 * accessed stops it there.
 */
export interface IovIter {
  /** bytes left */
  readonly count: number
  /** `copy_to_iter`. @returns bytes copied, fewer than given where the memory ends or cannot be written */
  copyTo(bytes: Uint8Array): Kthread<number>
  /** `copy_from_iter`. @returns bytes copied, fewer than asked for where the memory ends or cannot be read */
  copyFrom(into: Uint8Array): Kthread<number>
  /** The page the next byte lies in; null where it is no page that could be copied onto itself. `count` is not 0. */
  nextPage(): IterPage | null
  /** bytes, at most so many, that `copyFrom` would copy without a fault */
  present(most: number): number
  /** `fault_in_iov_iter_readable`: makes bytes present, at most so many. @returns whether the next one can be read */
  faultIn(most: number): Kthread<boolean>
  /** `iov_iter_revert`: goes back over bytes that were passed. */
  revert(bytes: number): void
}

/** Where the next byte of an iterator lies. */
export interface IterPage {
  /** 0: nothing is there yet, the copy will fault */
  readonly pfn: number
  /** byte within the page */
  readonly offset: number
  /** bytes left in this page */
  readonly length: number
}

/**
 * Bytes that can be copied at once between a page and an iterator. A kernel's copy runs upwards: where both sides
 * show the same page it reads again what it has just written, and pieces no longer than the distance do the same.
 * Whether it is the same page is known once it is there.
 * @param inPage byte of the page at which the copy goes on
 * @param most bytes, at most
 * @param intoIter the iterator takes the bytes
 * @rule R-FLT-175
 */
function copyStride(iter: IovIter, pfn: number, inPage: number, most: number, intoIter: boolean): number {
  const next = iter.nextPage()
  if (next === null) return most
  if (next.pfn === 0) return Math.min(1, most)
  const piece = Math.min(most, next.length)
  if (next.pfn !== pfn) return piece
  const distance = intoIter ? next.offset - inPage : inPage - next.offset
  return distance > 0 ? Math.min(piece, distance) : piece
}

/**
 * `copy_page_to_iter`.
 * @param bytes at most to the end of the page
 * @returns bytes copied, fewer where the iterator's memory cannot be written
 */
export function* copyPageToIter(
  k: Kernel,
  pfn: number,
  inPage: number,
  bytes: number,
  iter: IovIter,
): Kthread<number> {
  const scratch = new Uint8Array(bytes)
  let done = 0
  while (done < bytes) {
    const part = scratch.subarray(0, copyStride(iter, pfn, inPage + done, bytes - done, true))
    k.memory.contents.read(pfn, inPage + done, part)
    const copied = yield* iter.copyTo(part)
    done += copied
    if (copied < part.length) break
  }
  return done
}

/** `copy_page_from_iter`; as `copyPageToIter`. */
export function* copyPageFromIter(
  k: Kernel,
  pfn: number,
  inPage: number,
  bytes: number,
  iter: IovIter,
): Kthread<number> {
  const scratch = new Uint8Array(bytes)
  let done = 0
  while (done < bytes) {
    const part = scratch.subarray(0, copyStride(iter, pfn, inPage + done, bytes - done, false))
    const copied = yield* iter.copyFrom(part)
    if (copied > 0) k.memory.contents.write(pfn, inPage + done, part.subarray(0, copied))
    done += copied
    if (copied < part.length) break
  }
  return done
}

/** ITER_KVEC: a buffer of the kernel. */
export class BufferIter implements IovIter {
  readonly #buffer: Uint8Array
  #done = 0

  constructor(buffer: Uint8Array) {
    this.#buffer = buffer
  }

  get count(): number {
    return this.#buffer.length - this.#done
  }

  *copyTo(bytes: Uint8Array): Kthread<number> {
    const n = Math.min(bytes.length, this.count)
    this.#buffer.set(bytes.subarray(0, n), this.#done)
    this.#done += n
    return n
  }

  *copyFrom(into: Uint8Array): Kthread<number> {
    const n = Math.min(into.length, this.count)
    into.set(this.#buffer.subarray(this.#done, this.#done + n))
    this.#done += n
    return n
  }

  nextPage(): null {
    return null
  }

  present(most: number): number {
    return Math.min(most, this.count)
  }

  *faultIn(): Kthread<boolean> {
    return this.count > 0
  }

  revert(bytes: number): void {
    this.#done -= bytes
  }
}

/** Pages in a row that somebody holds; looked up one by one, so that a million of them cost nothing. */
export interface PageRow {
  /** @param page index in the row */
  pfnAt(page: number): number
}

/** ITER_BVEC: pages that somebody else holds, whatever any page table says. */
export class PagesIter implements IovIter {
  readonly #k: Kernel
  readonly #pages: PageRow
  /** bytes from the start of the row */
  #at: number
  #count: number
  #done = 0

  /**
   * @param offset bytes from the start of the first page
   * @param length bytes
   */
  constructor(k: Kernel, pages: PageRow, offset: number, length: number) {
    this.#k = k
    this.#pages = pages
    this.#at = offset
    this.#count = length
  }

  get count(): number {
    return this.#count
  }

  /** bytes it has moved over */
  get done(): number {
    return this.#done
  }

  *copyTo(bytes: Uint8Array): Kthread<number> {
    return this.#move(bytes, true)
  }

  *copyFrom(into: Uint8Array): Kthread<number> {
    return this.#move(into, false)
  }

  /** `iov_iter_advance`: goes over bytes without touching them, at most `count`. */
  advance(bytes: number): void {
    this.#at += bytes
    this.#count -= bytes
    this.#done += bytes
  }

  nextPage(): IterPage {
    const offset = this.#at % PAGE_SIZE
    const pfn = this.#pages.pfnAt(Math.floor(this.#at / PAGE_SIZE))
    return { pfn, offset, length: Math.min(PAGE_SIZE - offset, this.#count) }
  }

  present(most: number): number {
    return Math.min(most, this.#count)
  }

  *faultIn(): Kthread<boolean> {
    return this.#count > 0
  }

  revert(bytes: number): void {
    this.advance(-bytes)
  }

  #move(buffer: Uint8Array, toPages: boolean): number {
    const { contents } = this.#k.memory
    const n = Math.min(buffer.length, this.#count)
    for (let moved = 0; moved < n;) {
      const offset = this.#at % PAGE_SIZE
      const pfn = this.#pages.pfnAt(Math.floor(this.#at / PAGE_SIZE))
      const part = buffer.subarray(moved, Math.min(n, moved + PAGE_SIZE - offset))
      if (toPages) contents.write(pfn, offset, part)
      else contents.read(pfn, offset, part)
      moved += part.length
      this.advance(part.length)
    }
    return n
  }
}

/** One range of user memory, bytes. */
export interface UserRange {
  readonly base: number
  readonly length: number
}

/**
 * ITER_UBUF and ITER_IOVEC: user memory, touched through the page tables while it is copied. Faults, grows
 * stacks and sleeps as any kernel copy does; the failure is a short count.
 * @rule R-FLT-23
 */
export class UserIter implements IovIter {
  readonly #k: Kernel
  readonly #mm: Mm
  readonly #ranges: readonly UserRange[]
  #range = 0
  #done = 0
  #count = 0

  constructor(k: Kernel, mm: Mm, ranges: readonly UserRange[]) {
    this.#k = k
    this.#mm = mm
    this.#ranges = ranges
    for (const { length } of ranges) this.#count += length
    this.#skipEmpty()
  }

  get count(): number {
    return this.#count
  }

  /** Where the next byte is, and how many lie together with it in one page. `count` must not be 0. */
  get place(): UserRange {
    const { base, length } = this.#ranges[this.#range]!
    const address = base + this.#done
    return { base: address, length: Math.min(length - this.#done, PAGE_SIZE - (address % PAGE_SIZE)) }
  }

  /** Where the next byte lies. `count` is not 0. */
  get address(): number {
    return this.#ranges[this.#range]!.base + this.#done
  }

  /** Bytes left of the range the next byte lies in. `count` is not 0. */
  get rangeLeft(): number {
    return this.#ranges[this.#range]!.length - this.#done
  }

  /** `iov_iter_is_aligned`: whether every range that is left begins and ends at a multiple of so many bytes. */
  isAligned(unit: number): boolean {
    for (let i = this.#range; i < this.#ranges.length; i++) {
      const { base, length } = this.#ranges[i]!
      const done = i === this.#range ? this.#done : 0
      if ((base + done) % unit !== 0 || (length - done) % unit !== 0) return false
    }
    return true
  }

  /** `iov_iter_advance`: goes over bytes without touching them, at most `rangeLeft`. */
  advance(bytes: number): void {
    this.#done += bytes
    this.#count -= bytes
    this.#skipEmpty()
  }

  revert(bytes: number): void {
    this.#count += bytes
    for (let left = bytes; left > 0;) {
      if (this.#done === 0) this.#done = this.#ranges[--this.#range]!.length
      const step = Math.min(left, this.#done)
      this.#done -= step
      left -= step
    }
  }

  copyTo(bytes: Uint8Array): Kthread<number> {
    return this.#move(bytes, true)
  }

  copyFrom(into: Uint8Array): Kthread<number> {
    return this.#move(into, false)
  }

  nextPage(): IterPage {
    const { base, length } = this.place
    return { pfn: presentPfn(this.#mm, base), offset: base % PAGE_SIZE, length }
  }

  present(most: number): number {
    let done = 0
    for (const { base, length } of this.#pieces(most)) {
      if (!isReadableNow(this.#mm, base)) break
      done += length
    }
    return done
  }

  *faultIn(most: number): Kthread<boolean> {
    let first = true
    for (const { base } of this.#pieces(most)) {
      if (!(yield* accessUser(this.#k, this.#mm, base, false, 'kernel')).ok) return !first
      first = false
    }
    return !first
  }

  /** The next bytes, at most so many, cut where a page or a range ends. */
  *#pieces(most: number): Generator<UserRange> {
    let left = Math.min(most, this.#count)
    let done = this.#done
    for (let range = this.#range; left > 0; range++, done = 0) {
      const { base, length } = this.#ranges[range]!
      while (done < length && left > 0) {
        const address = base + done
        const piece = Math.min(length - done, left, PAGE_SIZE - (address % PAGE_SIZE))
        yield { base: address, length: piece }
        done += piece
        left -= piece
      }
    }
  }

  *#move(buffer: Uint8Array, toUser: boolean): Kthread<number> {
    const n = Math.min(buffer.length, this.#count)
    let moved = 0
    while (moved < n) {
      const { address } = this
      const inPage = PAGE_SIZE - (address % PAGE_SIZE)
      const part = buffer.subarray(moved, Math.min(n, moved + inPage, moved + this.rangeLeft))
      const copy = toUser ? storeUser : loadUser
      const result = yield* copy(this.#k, this.#mm, address, part, 'kernel')
      if (!result.ok) break
      moved += part.length
      this.#done += part.length
      this.#skipEmpty()
    }
    this.#count -= moved
    return moved
  }

  #skipEmpty(): void {
    while (this.#range < this.#ranges.length && this.#done === this.#ranges[this.#range]!.length) {
      this.#range++
      this.#done = 0
    }
  }
}
