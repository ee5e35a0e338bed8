import { PAGE_SIZE } from '../base/units.ts'
import {
  ORDER_MASK,
  ORDER_SHIFT,
  PG_DIRTY,
  PG_LOCKED,
  PG_MLOCKED,
  PG_PRIVATE,
  PG_WRITEBACK,
} from '../memory/page-flags.ts'
import { discardBlocks, forgetBlocks } from './dirty-blocks.ts'
import type { AddressSpace } from './file.ts'
import { pageCacheRemove } from './filemap.ts'
import { mappingReferences } from './gup-grab.ts'
import type { Kernel } from './kernel.ts'
import { isOnDisk } from './storage.ts'
import { zapRangeAtOnce } from './zap.ts'

/**
 * `unmap_mapping_folio`, `try_to_unmap`: pages [first, end) of a file lose every entry that shows them; private
 * copies and markers stay. Page indices.
 */
export function unmapCached(k: Kernel, mapping: AddressSpace, first: number, end: number): void {
  for (const vma of mapping.mappers) {
    const { mm } = vma
    if (vma.freed || mm === null) continue
    const from = Math.max(first, vma.pgoff)
    const to = Math.min(end, vma.pgoff + vma.pages)
    if (from >= to) continue
    const at = vma.start - vma.pgoff * PAGE_SIZE
    zapRangeAtOnce(k, mm, vma, at + from * PAGE_SIZE, at + to * PAGE_SIZE, 'punch')
  }
}

/** The file system lets it be split, and nobody holds it but its cache and its mappings. */
function canSplit(k: Kernel, mapping: AddressSpace, head: number): boolean {
  const { frames } = k.memory
  if (frames.has(head, PG_LOCKED | PG_WRITEBACK)) return false
  // what a disk file system keeps of a dirty folio is of one piece
  if (isOnDisk(mapping) && frames.has(head, PG_DIRTY)) return false
  return frames.refcount[head] === mappingReferences(k, head)
}

/**
 * Splits a large folio of a file: it is unmapped everywhere, and what lies beyond the end of the file leaves the cache.
 * @param at the page around which it is halved until that page is alone; null: into single pages
 * @returns false, and nothing has changed: somebody holds a reference, or it is dirty and its file on a disk
 * @rule R-HUGE-65
 * @rule R-HUGE-31.5
 */
export function splitFileFolio(k: Kernel, head: number, at: number | null): boolean {
  const { frames } = k.memory
  const mapping = k.mappings.get(frames.mapping[head]!)
  if (mapping === undefined || !mayHaveLargeFolios(mapping) || !canSplit(k, mapping, head)) return false
  const { flags, refcount, index } = frames
  const pages = frames.nrPages(head)
  unmapCached(k, mapping, index[head]!, index[head]! + pages)
  const common = (flags[head]! & ~(ORDER_MASK | PG_MLOCKED | PG_PRIVATE)) >>> 0
  const own = flags[head]! & PG_PRIVATE
  refcount.fill(0, head, head + pages)
  const pieces = at === null ? singles(head, pages) : halves(head, frames.order(head), at)
  for (const [first, order] of pieces) {
    const word = (common | (order << ORDER_SHIFT)) >>> 0
    flags.fill(word, first, first + (1 << order))
    flags[first]! |= own
    refcount[first] = (1 << order) + (own === 0 ? 0 : 1)
  }
  const end = Math.ceil(mapping.size / PAGE_SIZE)
  for (const [first] of pieces) if (index[first]! >= end) pageCacheRemove(k, mapping, index[first]!)
  return true
}

type Piece = readonly [first: number, order: number]

function singles(head: number, pages: number): Piece[] {
  return Array.from({ length: pages }, (_, i) => [head + i, 0] as const)
}

/** The half without the page stays whole, the other one is halved again. */
function halves(head: number, order: number, at: number): Piece[] {
  const pieces: Piece[] = []
  let first = head
  for (let half = order - 1; half >= 0; half--) {
    const middle = first + (1 << half)
    pieces.push([at < middle ? middle : first, half])
    if (at >= middle) first = middle
  }
  pieces.push([first, 0])
  return pieces
}

/** What is cached of it can be large. */
export function mayHaveLargeFolios({ kind }: AddressSpace): boolean {
  return kind.shmem || kind.largeFolios === true
}

/**
 * `truncate_inode_partial_folio` at both borders of a hole in a file: a large folio that sticks out of
 * [start, end) is split there, so that as much as possible of it can go. Bytes. Of a disk file one that
 * cannot be split is unmapped everywhere all the same, and goes as a whole when it is clean.
 * @rule R-HUGE-65
 * @rule R-HUGE-31.5
 */
export function splitAtBorders(k: Kernel, mapping: AddressSpace, start: number, end: number): void {
  if (!mayHaveLargeFolios(mapping) || start >= end) return
  const { frames } = k.memory
  const first = Math.floor(start / PAGE_SIZE)
  const last = Math.floor((end - 1) / PAGE_SIZE)
  splitAround(k, mapping, first, start, end)
  const isSame = frames.head(mapping.pages.get(first)) === frames.head(mapping.pages.get(last))
  if (end < Infinity && !isSame) splitAround(k, mapping, last, start, end)
}

function splitAround(k: Kernel, mapping: AddressSpace, page: number, start: number, end: number): void {
  const { frames } = k.memory
  const cached = mapping.pages.get(page)
  if (cached === 0 || !frames.isLarge(cached)) return
  const head = frames.head(cached)
  const first = frames.index[head]!
  const bytes = frames.nrPages(head) * PAGE_SIZE
  const from = Math.max(0, start - first * PAGE_SIZE)
  const to = Math.min(bytes, end - first * PAGE_SIZE)
  if (from === 0 && to === bytes) return
  if (isOnDisk(mapping) && frames.has(head, PG_DIRTY))
    discardBlocks(k, mapping, head, first + Math.ceil(from / PAGE_SIZE), first + Math.floor(to / PAGE_SIZE))
  if (!splitFileFolio(k, head, head + Math.floor(from / PAGE_SIZE))) {
    if (isOnDisk(mapping)) leaveWhole(k, mapping, head)
    return
  }
  if (to === bytes) return
  const behind = head + Math.floor(to / PAGE_SIZE)
  if (mapping.pages.get(first + behind - head) !== behind || !frames.isLarge(behind)) return
  splitFileFolio(k, frames.head(behind), behind)
}

function leaveWhole(k: Kernel, mapping: AddressSpace, head: number): void {
  const { frames } = k.memory
  const first = frames.index[head]!
  const isDirty = frames.has(head, PG_DIRTY)
  // entries that are dirty make it dirty as a whole again
  frames.clear(head, PG_DIRTY)
  unmapCached(k, mapping, first, first + frames.nrPages(head))
  if (frames.has(head, PG_DIRTY)) forgetBlocks(mapping, first, frames.nrPages(head))
  else if (isDirty) frames.set(head, PG_DIRTY)
  else pageCacheRemove(k, mapping, first)
}
