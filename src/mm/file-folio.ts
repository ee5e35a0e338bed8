import { PAGE_SIZE } from '../base/units.ts'
import { ORDER_MASK, ORDER_SHIFT, PG_LOCKED, PG_MLOCKED, PG_WRITEBACK } from '../memory/page-flags.ts'
import type { AddressSpace } from './file.ts'
import { pageCacheRemove } from './filemap.ts'
import type { Kernel } from './kernel.ts'
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

/** Nobody holds the folio but its cache and its mappings. */
function isIdle(k: Kernel, head: number): boolean {
  const { frames } = k.memory
  if (frames.has(head, PG_LOCKED | PG_WRITEBACK)) return false
  return frames.refcount[head] === frames.nrPages(head) + frames.totalMapcount(head)
}

/**
 * Splits a large folio of a memory file: it is unmapped everywhere, and what lies beyond the end of the file leaves
 * the cache.
 * @param at the page around which it is halved until that page is alone; null: into single pages
 * @returns false, and nothing has changed: somebody holds a reference
 * @rule R-HUGE-65
 */
export function splitFileFolio(k: Kernel, head: number, at: number | null): boolean {
  const { frames } = k.memory
  const mapping = k.mappings.get(frames.mapping[head]!)
  if (mapping === undefined || !mapping.kind.shmem || !isIdle(k, head)) return false
  const { flags, refcount, index } = frames
  const pages = frames.nrPages(head)
  unmapCached(k, mapping, index[head]!, index[head]! + pages)
  const common = (flags[head]! & ~(ORDER_MASK | PG_MLOCKED)) >>> 0
  refcount.fill(0, head, head + pages)
  const pieces = at === null ? singles(head, pages) : halves(head, frames.order(head), at)
  for (const [first, order] of pieces) {
    const word = (common | (order << ORDER_SHIFT)) >>> 0
    flags.fill(word, first, first + (1 << order))
    refcount[first] = 1 << order
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

/**
 * `truncate_inode_partial_folio` at both borders of a hole in a memory file: a large folio that sticks out of
 * [start, end) is split there, so that as much as possible of it can go. Bytes.
 * @rule R-HUGE-65
 */
export function splitAtBorders(k: Kernel, mapping: AddressSpace, start: number, end: number): void {
  if (!mapping.kind.shmem || start >= end) return
  splitAround(k, mapping, Math.floor(start / PAGE_SIZE), start, end)
  if (end < Infinity) splitAround(k, mapping, Math.floor((end - 1) / PAGE_SIZE), start, end)
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
  if (!splitFileFolio(k, head, head + Math.floor(from / PAGE_SIZE)) || to === bytes) return
  const behind = head + Math.floor(to / PAGE_SIZE)
  if (mapping.pages.get(first + behind - head) !== behind || !frames.isLarge(behind)) return
  splitFileFolio(k, frames.head(behind), behind)
}
