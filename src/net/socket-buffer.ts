import { EFAULT } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PagesIter, UserIter, type IovIter } from '../mm/iov-iter.ts'
import { iovIterGetPages } from '../mm/iov-iter-pages.ts'
import type { Kernel } from '../mm/kernel.ts'
import { PagesVectorIter } from '../mm/pages-vector-iter.ts'
import { putPage } from '../mm/unpin.ts'
import type { UbufInfo } from '../task/socket.ts'

/** MAX_SKB_FRAGS: pieces of pages that one buffer of the network holds */
export const MAX_SKB_FRAGS = 17

/** `skb_frag_t` of pages that somebody lends: bytes within one page. */
interface Lent {
  readonly pfn: number
  /** bytes, within the page; moves as bytes are copied */
  offset: number
  /** bytes left; 0: nothing was taken (`attach`) */
  length: number
  /** the buffer has a reference of its own; else whoever lends it holds it */
  readonly held: boolean
  readonly ubuf: UbufInfo
}

/** Bytes on their way to a socket, oldest first: copied when they were sent, or still in the sender's pages. */
export class SocketBuffer {
  readonly #kernel: Kernel
  readonly #pieces: (Uint8Array | Lent)[] = []
  /** bytes */
  #length = 0

  constructor(k: Kernel) {
    this.#kernel = k
  }

  get length(): number {
    return this.#length
  }

  get pieces(): number {
    return this.#pieces.length
  }

  forEachReference(visit: (pfn: number, references: number, pins: number) => void): void {
    for (const piece of this.#pieces) if (!(piece instanceof Uint8Array) && piece.held) visit(piece.pfn, 1, 0)
  }

  /**
   * Takes the bytes of an iterator, all or none.
   * @param ubuf takes references to the pages; null: copies
   * @returns 0 or -EFAULT
   */
  *fill(iter: IovIter, ubuf: UbufInfo | null): Kthread<number> {
    const k = this.#kernel
    if (ubuf === null) {
      const bytes = new Uint8Array(iter.count)
      const copied = yield* iter.copyFrom(bytes)
      if (copied < bytes.length) {
        iter.revert(copied)
        return refuse(k.current, EFAULT, 'R-URING-101', { why: 'the memory to send cannot be read' })
      }
      this.#add(bytes)
      return 0
    }
    if (iter instanceof UserIter) return yield* this.#borrow(iter, ubuf)
    if (!(iter instanceof PagesIter || iter instanceof PagesVectorIter))
      throw new Error('a send without copying from memory of the kernel')
    while (iter.count > 0) {
      const { pfn, offset, length } = iter.nextPage()
      this.#lend({ pfn, offset, length, held: false, ubuf })
      iter.advance(length)
    }
    return 0
  }

  /** References to user pages; a range that goes on where the last one ended becomes one piece with it. */
  *#borrow(iter: UserIter, ubuf: UbufInfo): Kthread<number> {
    const k = this.#kernel
    while (iter.count > 0) {
      const taken = yield* iovIterGetPages(k, iter, { maxPages: MAX_SKB_FRAGS, intoUser: false })
      if (typeof taken === 'number') {
        if (this.pieces > MAX_SKB_FRAGS)
          throw new Unmodelled('a send without copying of which more than 17 pages are there', 'R-URING-101')
        this.drop()
        const { refusal } = k.current
        const why = 'a page of the memory to send cannot be had'
        return refuse(k.current, EFAULT, 'R-URING-101', { why }, refusal)
      }
      let inBatch = 0
      for (let i = 0; i < taken.count; i++) {
        const pfn = taken.pages.pfns[i]!
        const offset = i === 0 ? taken.offset : 0
        const length = Math.min(PAGE_SIZE - offset, taken.bytes - inBatch)
        inBatch += length
        const last = this.#pieces.at(-1)
        if (last !== undefined && !(last instanceof Uint8Array) && last.pfn === pfn) {
          if (last.offset + last.length === offset) {
            last.length += length
            this.#length += length
            putPage(k, pfn)
            continue
          }
        }
        this.#lend({ pfn, offset, length, held: true, ubuf })
      }
    }
    return 0
  }

  #add(piece: Uint8Array | Lent): void {
    if (piece.length === 0) return
    this.#pieces.push(piece)
    this.#length += piece.length
  }

  #lend(piece: Lent): void {
    piece.ubuf.get()
    this.#add(piece)
  }

  /** A send of which nothing was taken: over when the bytes before it are. */
  attach(ubuf: UbufInfo): void {
    ubuf.get()
    this.#pieces.push({ pfn: 0, offset: 0, length: 0, held: false, ubuf })
  }

  /** Takes over what another buffer has. */
  append(other: SocketBuffer): void {
    this.#pieces.push(...other.#pieces.splice(0))
    this.#length += other.#length
    other.#length = 0
  }

  /**
   * Copies the oldest bytes out, as they are in their pages now, and lets go of the pages that are done with.
   * @param most bytes
   */
  copyOut(most: number): Uint8Array {
    const out = new Uint8Array(Math.min(most, this.#length))
    for (let done = 0; done < out.length;) {
      this.#passAttached()
      const piece = this.#pieces[0]!
      const part = out.subarray(done, done + Math.min(piece.length, out.length - done))
      done += part.length
      const whole = part.length === piece.length
      if (whole) this.#pieces.shift()
      if (piece instanceof Uint8Array) {
        part.set(piece.subarray(0, part.length))
        if (!whole) this.#pieces[0] = piece.subarray(part.length)
        continue
      }
      this.#kernel.memory.contents.read(piece.pfn, piece.offset, part)
      piece.ubuf.copied = true
      piece.offset += part.length
      piece.length -= part.length
      if (whole) this.#letGo(piece)
    }
    this.#length -= out.length
    this.#passAttached()
    return out
  }

  #passAttached(): void {
    for (;;) {
      const [piece] = this.#pieces
      if (piece === undefined || piece instanceof Uint8Array || piece.length > 0) return
      this.#pieces.shift()
      piece.ubuf.copied = true
      this.#letGo(piece)
    }
  }

  /** Lets go of everything; nobody gets the bytes. */
  drop(): void {
    for (const piece of this.#pieces.splice(0)) if (!(piece instanceof Uint8Array)) this.#letGo(piece)
    this.#length = 0
  }

  #letGo({ pfn, held, ubuf }: Lent): void {
    if (held) putPage(this.#kernel, pfn)
    ubuf.put()
  }
}
