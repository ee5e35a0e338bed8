import { PAGE_SIZE } from '../base/units.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PG_DIRTY } from '../memory/page-flags.ts'
import type { AddressSpace } from './file.ts'
import type { Kernel } from './kernel.ts'

/** s_maxbytes of ext4 with blocks of 4 KiB */
export const MAX_FILE_BYTES = 0xffffffff000

/** Consecutive blocks [start, end) that have a place on the disk. */
interface Extent {
  readonly start: number
  readonly end: number
}

/** What one transfer meets at a place of a file: blocks that are on the disk, or a hole. */
export interface BlockRun {
  readonly allocated: boolean
  /** first block behind it; Infinity for the hole behind the last block */
  readonly end: number
}

/**
 * What the disk holds of one file, in blocks of 4096 bytes, the block size of the file systems modelled. Blocks
 * of zeros cost nothing. A block that is not allocated is a hole: it reads as zeros and no I/O is done for it.
 *
 * A file gets one when its disk content can first be told from its page cache: with a writeback, a change of its
 * size or direct I/O (`storageOf`). Until then it is what it was made as, zeros from the first byte to the last.
 */
export class FileStorage {
  /** sorted, disjoint, not touching each other */
  #extents: Extent[]
  readonly #bytes = new Map<number, Uint8Array>()
  /** blocks with a place into which nothing has been written yet: they hold what some other file had there */
  readonly #unknown = new Set<number>()

  /** blocks for which a page of the cache had room reserved that never came to be written */
  readonly #reserved = new Set<number>()

  /** holes in large folios that were dirty when they were made: a write through a mapping may give them a place */
  readonly #unsure = new Set<number>()

  /** where the file ends as the disk knows it, bytes: behind the file's size until that has been written (R-DIO-14) */
  end: number

  /** @param size bytes that are allocated at the start of the file, all zeros */
  constructor(size: number) {
    const blocks = Math.ceil(size / PAGE_SIZE)
    this.end = size
    this.#extents = blocks > 0 ? [{ start: 0, end: blocks }] : []
  }

  /** The run of blocks of one sort that block `index` lies in, from there on. */
  runAt(index: number): BlockRun {
    for (const { start, end } of this.#extents) {
      if (index < start) return { allocated: false, end: start }
      if (index < end) return { allocated: true, end }
    }
    return { allocated: false, end: Infinity }
  }

  has(index: number): boolean {
    return this.runAt(index).allocated
  }

  /** Gives blocks [start, end) a place; those that had none read as zeros. */
  allocate(start: number, end: number): void {
    let from = start
    let to = end
    const kept: Extent[] = []
    for (const extent of this.#extents) {
      if (extent.end < from || extent.start > to) kept.push(extent)
      else {
        from = Math.min(from, extent.start)
        to = Math.max(to, extent.end)
      }
    }
    kept.push({ start: from, end: to })
    forget(this.#reserved, start, end)
    this.#extents = kept.sort((a, b) => a.start - b.start)
  }

  /**
   * Gives blocks [start, end) a place whose content nobody knows, where they have none.
   * @rule R-DIO-14
   */
  allocateUnknown(start: number, end: number): void {
    for (let index = start; index < end; index++) if (!this.has(index)) this.#unknown.add(index)
    if (start < end) this.allocate(start, end)
  }

  /**
   * The page that would have given a block its place is gone, what was reserved for it is not.
   * @rule R-DIO-13
   */
  loseReserved(index: number): void {
    if (!this.has(index)) this.#reserved.add(index)
  }

  /** A direct write gives blocks [start, end) a place of its own, even one that fails then. */
  takeReserved(start: number, end: number): void {
    forget(this.#reserved, start, end)
  }

  /** The first block in [start, end) that something is reserved for and nobody will write; Infinity: none. */
  firstReserved(start: number, end: number): number {
    let first = Infinity
    for (const index of this.#reserved) if (index >= start && index < end) first = Math.min(first, index)
    return first
  }

  /** Makes a hole of blocks [start, end). */
  free(start: number, end: number): void {
    const kept: Extent[] = []
    for (const extent of this.#extents) {
      if (extent.start < start) kept.push({ start: extent.start, end: Math.min(extent.end, start) })
      if (extent.end > end) kept.push({ start: Math.max(extent.start, end), end: extent.end })
    }
    this.#extents = kept
    for (const index of this.#bytes.keys()) if (index >= start && index < end) this.#bytes.delete(index)
    forget(this.#unknown, start, end)
    forget(this.#reserved, start, end)
    forget(this.#unsure, start, end)
  }

  /**
   * Blocks [start, end) have lost their place, their pages are cached still: whether the next writeback of the folio
   * gives them another hangs on who has written to it.
   * @rule R-HUGE-31.5
   */
  leaveUnsure(start: number, end: number): void {
    for (let index = start; index < end; index++) this.#unsure.add(index)
  }

  /** The page has been written to: the next writeback gives the block a place. */
  givesPlace(index: number): void {
    this.#unsure.delete(index)
  }

  /**
   * For those to whom a hole is not the same as zeros.
   * @throws Unmodelled where nobody knows whether a block of [start, end) has a place
   */
  requireKnownPlaces(start: number, end: number): void {
    for (const index of this.#unsure)
      if (index >= start && index < end)
        throw new Unmodelled('direct I/O on a hole made in a large folio that was dirty', 'R-HUGE-31.5')
  }

  /**
   * What a block holds; null for zeros.
   * @throws Unmodelled for a block that nothing has been written into
   */
  bytesOf(index: number): Uint8Array | null {
    if (this.#unknown.has(index))
      throw new Unmodelled('what the disk has in a block that a failed direct write left behind', 'R-DIO-14')
    return this.#bytes.get(index) ?? null
  }

  /**
   * Copies bytes out; holes give zeros. `offset` in bytes, within one block together with `into`.
   * @throws Unmodelled as `bytesOf` does
   */
  read(offset: number, into: Uint8Array): void {
    const bytes = this.bytesOf(Math.floor(offset / PAGE_SIZE))
    const from = offset % PAGE_SIZE
    if (bytes === null) into.fill(0)
    else into.set(bytes.subarray(from, from + into.length))
  }

  /** Stores bytes into one block, allocating it. `offset` in bytes, within the block together with `from`. */
  write(offset: number, from: Uint8Array): void {
    const index = Math.floor(offset / PAGE_SIZE)
    this.allocate(index, index + 1)
    if (from.length === PAGE_SIZE) this.#unknown.delete(index)
    let bytes = this.#bytes.get(index)
    if (bytes === undefined) {
      if (isZero(from)) return
      bytes = new Uint8Array(PAGE_SIZE)
      this.#bytes.set(index, bytes)
    }
    bytes.set(from, offset % PAGE_SIZE)
  }
}

function forget(blocks: Set<number>, start: number, end: number): void {
  for (const index of blocks) if (index >= start && index < end) blocks.delete(index)
}

function isZero(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) return false
  return true
}

/** Whether a file lies on a disk: what its page cache loses can be read again. */
export function isOnDisk({ kind }: AddressSpace): boolean {
  return kind.canWriteback && kind.pageMkwrite
}

/**
 * The disk content of a file, made when it is first needed: what its clean cached pages show, zeros elsewhere, no
 * holes.
 */
export function storageOf(k: Kernel, mapping: AddressSpace): FileStorage {
  if (mapping.storage !== null) return mapping.storage
  const storage = new FileStorage(mapping.size)
  mapping.storage = storage
  const { frames } = k.memory
  mapping.pages.forEach((index, pfn) => {
    if (!frames.has(frames.head(pfn), PG_DIRTY)) storePage(k, mapping, index, pfn)
  })
  return storage
}

/** Puts what a cached page holds onto the disk. */
export function storePage(k: Kernel, mapping: AddressSpace, index: number, pfn: number): void {
  const bytes = new Uint8Array(PAGE_SIZE)
  k.memory.contents.read(pfn, 0, bytes)
  const storage = storageOf(k, mapping)
  storage.write(index * PAGE_SIZE, bytes)
  storage.end = Math.max(storage.end, Math.min(mapping.size, (index + 1) * PAGE_SIZE))
}

/**
 * What the disk holds of a page that is to be cached; null for zeros. Pages beyond the end are not read.
 * @throws Unmodelled as `FileStorage.bytesOf` does
 */
export function diskBytes({ storage, size }: AddressSpace, index: number): Uint8Array | null {
  return storage === null || index * PAGE_SIZE >= size ? null : storage.bytesOf(index)
}
