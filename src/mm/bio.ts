import { EFAULT, EINVAL } from '../base/errno.ts'
import { Completion, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { PG_DIRTY } from '../memory/page-flags.ts'
import type { AddressSpace } from './file.ts'
import type { UserIter } from './iov-iter.ts'
import { iovIterExtractPages } from './iov-iter-pages.ts'
import type { Kernel, PageHolder } from './kernel.ts'
import { PageArray } from './page-array.ts'
import { dirtyLock, putPages, unpinUserPagesDirtyLock } from './unpin.ts'

/** What a disk reads and writes at least, bytes. */
export const SECTOR_SIZE = 512
/** BIO_MAX_VECS: separate pieces of memory that one bio takes */
const MAX_VECS = 256

/** `read`: from the disk into memory. */
export type Direction = 'read' | 'write'

/** Bytes of one page, on which the bio holds one reference or pin. */
interface Piece {
  readonly pfn: number
  readonly offset: number
  length: number
}

/** `struct bio`: one transfer between the disk and pages of user memory that are held for its duration. */
export class Bio implements PageHolder {
  readonly name = 'direct I/O'
  readonly direction: Direction
  readonly #k: Kernel
  readonly #pieces: Piece[] = []
  /** pieces that do not continue the one before in physical memory */
  #vecs = 0
  /** bytes of memory it covers */
  bytes = 0

  constructor(k: Kernel, direction: Direction) {
    this.#k = k
    this.direction = direction
  }

  /**
   * `bio_iov_iter_get_pages`: takes pages until it has all it wants, is full or meets one that cannot be had.
   * What remains is cut down to whole sectors.
   * @param wanted bytes
   * @returns 0, or -errno with nothing held
   * @rule R-DIO-4
   */
  *fill(iter: UserIter, wanted: number): Kthread<number> {
    const intoUser = this.direction === 'read'
    let error = 0
    while (error === 0 && this.bytes < wanted && this.#vecs < MAX_VECS) {
      const maxBytes = wanted - this.bytes
      const taken = yield* iovIterExtractPages(this.#k, iter, {
        maxPages: MAX_VECS - this.#vecs,
        maxBytes,
        intoUser,
      })
      if (typeof taken === 'number') error = taken
      else {
        for (let i = 0, done = 0; i < taken.count; i++) {
          const offset = i === 0 ? taken.offset : 0
          const length = Math.min(PAGE_SIZE - offset, taken.bytes - done)
          this.#add({ pfn: taken.pages.pfns[i]!, offset, length })
          done += length
        }
      }
    }
    if (this.#pieces.length === 0) return error
    const odd = this.bytes % SECTOR_SIZE
    iter.revert(odd)
    yield* this.#cut(odd)
    if (this.bytes > 0) return 0
    return refuse(
      this.#k.current,
      EFAULT,
      'R-DIO-4',
      { why: 'less than a sector could be had' },
      this.#k.current.refusal,
    )
  }

  #add(piece: Piece): void {
    if (!this.#continues(this.#pieces.at(-1), piece)) this.#vecs++
    this.#pieces.push(piece)
    this.bytes += piece.length
  }

  /** Pieces side by side in one folio count as one. */
  #continues(before: Piece | undefined, piece: Piece): boolean {
    if (before === undefined || before.offset + before.length !== PAGE_SIZE || piece.offset !== 0)
      return false
    const { frames } = this.#k.memory
    return piece.pfn === before.pfn + 1 && frames.head(piece.pfn) === frames.head(before.pfn)
  }

  /** Gives bytes at the end back, and the pages that have no others. */
  *#cut(bytes: number): Kthread<void> {
    this.bytes -= bytes
    const dropped: number[] = []
    for (let left = bytes; left > 0;) {
      const last = this.#pieces.at(-1)!
      const part = Math.min(left, last.length)
      last.length -= part
      left -= part
      if (last.length === 0) dropped.push(this.#pieces.pop()!.pfn)
    }
    yield* release(this.#k, dropped, false)
  }

  /**
   * Whether a disk can take it: memory that hangs together must be whole sectors.
   * @rule R-DIO-3
   */
  get aligned(): boolean {
    let run = 0
    let before: Piece | undefined
    for (const piece of this.#pieces) {
      if (!this.#continues(before, piece)) {
        if (run % SECTOR_SIZE !== 0) return false
        run = 0
      }
      run += piece.length
      before = piece
    }
    return run % SECTOR_SIZE === 0
  }

  /** Moves the bytes of each piece. `move(from, buffer)`: bytes from the start of the transfer on. */
  transfer(move: (from: number, buffer: Uint8Array) => void): void {
    const { contents } = this.#k.memory
    const scratch = new Uint8Array(PAGE_SIZE)
    let from = 0
    for (const { pfn, offset, length } of this.#pieces) {
      const buffer = scratch.subarray(0, length)
      if (this.direction === 'write') contents.read(pfn, offset, buffer)
      move(from, buffer)
      if (this.direction === 'read') contents.write(pfn, offset, buffer)
      from += length
    }
  }

  /**
   * Lets the pages go; those a read has filled are dirty before they do.
   * @rule R-DIO-11
   */
  release(): Kthread<void> {
    const pfns = this.#pieces.splice(0).map(({ pfn }) => pfn)
    return release(this.#k, pfns, this.direction === 'read')
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    const pins = this.#k.release.gup.directIoPins
    for (const { pfn } of this.#pieces) visit(pfn, pins ? 0 : 1, pins ? 1 : 0)
  }
}

function* release(k: Kernel, pfns: readonly number[], dirty: boolean): Kthread<void> {
  const pages = new PageArray(pfns.length)
  pages.pfns.set(pfns)
  if (k.release.gup.directIoPins) {
    yield* unpinUserPagesDirtyLock(k, pages, pfns.length, dirty)
    return
  }
  const { frames } = k.memory
  for (const pfn of dirty ? pfns : []) {
    if (!frames.has(frames.head(pfn), PG_DIRTY)) yield* dirtyLock(k, frames.head(pfn))
  }
  putPages(k, pages, pfns.length)
}

/**
 * `submit_bio` and the wait for it: pins last until the disk is done, which on a file with `slowIo` takes until
 * `completeIo`.
 * @param move between the disk and a buffer
 * @returns 0, or -EINVAL where the memory is not what the disk can take
 */
export function* submitAndWait(
  k: Kernel,
  bio: Bio,
  mapping: AddressSpace,
  move: (from: number, buffer: Uint8Array) => void,
): Kthread<number> {
  // @rule R-DIO-3
  if (!bio.aligned) {
    yield* bio.release()
    return refuse(k.current, EINVAL, 'R-DIO-3', {
      why: 'a piece of the memory is not a multiple of a sector',
    })
  }
  k.holders.add(bio)
  if (mapping.slowIo) {
    const transfer = new Completion('direct I/O')
    mapping.inFlight.add(transfer)
    yield* transfer.wait()
  }
  bio.transfer(move)
  k.holders.delete(bio)
  yield* bio.release()
  return 0
}
