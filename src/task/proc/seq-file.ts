import type { Kthread } from '../../base/kthread.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { utf8 } from '../../base/utf8.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { ProcFile, refuseBuffer, type FilePosition } from '../proc-file.ts'

const EMPTY = new Uint8Array(0)

/**
 * An open text file whose records are made when they are read (`seq_file`).
 *
 * A read gets what earlier reads made and did not take, then whole new records: until there is as much as the
 * caller wants, or the next one would fill a page; at least one. What is behind the caller's last byte is kept
 * for the next read. A position that is not where the last read ended is sought from the first record on.
 * @rule R-MAPS-7
 * @rule R-CONS-1
 */
export abstract class SeqFile extends ProcFile {
  /** made, not read yet */
  #pending: Uint8Array = EMPTY
  /** where `#pending` begins in the file, bytes */
  #at = 0

  /** The next record will be the first. */
  protected abstract rewind(): void

  /**
   * Offers records from where the last call ended, under whatever lock they need. One that `take` refuses is
   * the first of the next call.
   * @returns 0 or -errno
   */
  protected abstract records(k: Kernel, take: (record: string) => boolean): Kthread<number>

  override *read(k: Kernel, iter: IovIter, position: FilePosition): Kthread<number> {
    const { count } = iter
    const sought = yield* this.seek(k, position.at)
    if (sought < 0) return sought
    let buffer = this.#pending
    if (buffer.length < count) {
      const more = yield* this.#make(k, count - buffer.length)
      if (typeof more !== 'number') buffer = concat([buffer, ...more])
      else if (buffer.length === 0) return more
    }
    const wanted = buffer.subarray(0, count)
    const copied = wanted.length === 0 ? 0 : yield* iter.copyTo(wanted)
    this.#pending = buffer.subarray(copied)
    this.#at = position.at += copied
    if (copied > 0 || wanted.length === 0) return copied
    return refuseBuffer(k, iter, 'R-MAPS-7')
  }

  /** lseek(2): what lies before the position is made, and left out, at once. @returns the position or -errno */
  override *seek(k: Kernel, position: number): Kthread<number> {
    if (position === this.#at) return position
    this.rewind()
    this.#pending = EMPTY
    for (this.#at = 0; this.#at < position;) {
      const left = position - this.#at
      const made = yield* this.#make(k, left)
      if (typeof made === 'number') return made
      if (made.length === 0) break
      const chunk = concat(made)
      this.#pending = chunk.subarray(left)
      this.#at += Math.min(left, chunk.length)
    }
    // behind the end nothing will ever come
    this.#at = position
    return position
  }

  /** @returns new records, at most a page of them, or -errno */
  *#make(k: Kernel, wanted: number): Kthread<Uint8Array[] | number> {
    let size = 0
    const made: Uint8Array[] = []
    const result = yield* this.records(k, (record) => {
      if (size >= wanted) return false
      const bytes = utf8(record)
      if (size > 0 && size + bytes.length >= PAGE_SIZE) return false
      size += bytes.length
      made.push(bytes)
      return true
    })
    return result < 0 ? result : made
  }
}

/** A text of one record, made at the first read. */
export abstract class SingleFile extends SeqFile {
  #made = false

  /** @returns the text, or -errno */
  protected abstract text(k: Kernel): Kthread<string | number>

  protected override rewind(): void {
    this.#made = false
  }

  protected override *records(k: Kernel, take: (record: string) => boolean): Kthread<number> {
    if (this.#made) return 0
    const text = yield* this.text(k)
    if (typeof text === 'number') return text
    if (take(text)) this.#made = true
    return 0
  }
}

function concat(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0]!
  const all = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const piece of pieces) {
    all.set(piece, at)
    at += piece.length
  }
  return all
}
