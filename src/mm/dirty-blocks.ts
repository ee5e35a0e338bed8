import { PG_DIRTY } from '../memory/page-flags.ts'
import type { AddressSpace } from './file.ts'
import type { Kernel } from './kernel.ts'
import { isOnDisk } from './storage.ts'

/**
 * A large folio of a disk file is dirty where one of its blocks is. `AddressSpace.cleanBlocks` has the pages of dirty
 * ones whose blocks are not; for clean folios and small pages it says nothing.
 */

/**
 * write(2) has changed pages [from, to) of a folio, or zeros have come into it: those blocks are dirty. Page indices.
 * @rule R-HUGE-31.5
 */
export function dirtyBlocks(k: Kernel, mapping: AddressSpace, head: number, from: number, to: number): void {
  const { frames } = k.memory
  if (frames.isLarge(head) && isOnDisk(mapping)) {
    const first = frames.index[head]!
    if (!frames.has(head, PG_DIRTY))
      for (let index = first; index < first + frames.nrPages(head); index++) mapping.cleanBlocks.add(index)
    for (let index = from; index < to; index++) mapping.cleanBlocks.delete(index)
  }
  frames.set(head, PG_DIRTY)
}

/** `folio_mark_dirty`: a folio of a file is dirty as a whole, whatever part of it was written. */
export function dirtyFolio(k: Kernel, head: number): void {
  const { frames } = k.memory
  frames.set(head, PG_DIRTY)
  if (!frames.isLarge(head)) return
  const mapping = k.mappings.get(frames.mapping[head]!)
  if (mapping !== undefined) forgetBlocks(mapping, frames.index[head]!, frames.nrPages(head))
}

/** What is known of the blocks of a folio does not hold any more: it is new, clean, or dirty as a whole. */
export function forgetBlocks({ cleanBlocks }: AddressSpace, first: number, pages: number): void {
  if (cleanBlocks.size === 0) return
  for (let index = first; index < first + pages; index++) cleanBlocks.delete(index)
}

/** Whether the block behind a cached page is dirty. */
export function isDirtyBlock(k: Kernel, mapping: AddressSpace, index: number): boolean {
  const { frames } = k.memory
  const head = frames.head(mapping.pages.get(index))
  return frames.has(head, PG_DIRTY) && !(frames.isLarge(head) && mapping.cleanBlocks.has(index))
}

/**
 * Blocks [from, to) of a dirty large folio have been cut away: it is clean when no other is dirty. Page indices.
 * @rule R-HUGE-31.5
 */
export function discardBlocks(
  k: Kernel,
  mapping: AddressSpace,
  head: number,
  from: number,
  to: number,
): void {
  const { frames } = k.memory
  const first = frames.index[head]!
  const pages = frames.nrPages(head)
  for (let index = from; index < to; index++) mapping.cleanBlocks.add(index)
  for (let index = first; index < first + pages; index++) if (!mapping.cleanBlocks.has(index)) return
  forgetBlocks(mapping, first, pages)
  frames.clear(head, PG_DIRTY)
}
