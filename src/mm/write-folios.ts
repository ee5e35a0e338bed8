import { EFAULT, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { HPAGE_PMD_ORDER, PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { PG_DIRTY } from '../memory/page-flags.ts'
import { dirtyBlocks, isDirtyBlock } from './dirty-blocks.ts'
import type { AddressSpace } from './file.ts'
import { newCachedFolio, newCachedPage } from './filemap.ts'
import { copyPageFromIter, type IovIter } from './iov-iter.ts'
import { MAX_RW_COUNT } from './iovec.ts'
import type { Kernel } from './kernel.ts'
import { storageOf } from './storage.ts'

/** Whether write(2) makes large folios in the cache of a file. */
export function takesLargeFolios(k: Kernel, mapping: AddressSpace): boolean {
  return mapping.kind.largeFolios === true && k.release.fault.writeMakesLargeFolios && !mapping.slowIo
}

/**
 * `generic_perform_write` on such a file: in pieces of 2 MiB of the file, folio by folio. Memory that is not there
 * ends a try. A folio that was made for it stays, and the pieces are half as long from then on.
 * @param offset bytes into the file
 * @returns bytes; -EFAULT, -ENOMEM when not even one byte could be loaded
 * @throws Unmodelled where such a try leaves blocks of the disk unread in a new large folio
 * @rule R-HUGE-31.1
 */
export function* writeFolios(
  k: Kernel,
  mapping: AddressSpace,
  offset: number,
  iter: IovIter,
): Kthread<number> {
  const { frames } = k.memory
  const wanted = Math.min(iter.count, MAX_RW_COUNT)
  let chunk = PMD_SIZE
  /** bytes to try next, where only they were there; 0: as many as there are */
  let part = 0
  let done = 0
  while (done < wanted) {
    const at = offset + done
    const index = Math.floor(at / PAGE_SIZE)
    const most = part > 0 ? part : Math.min(chunk - (at % chunk), wanted - done)
    part = 0
    const isNew = mapping.pages.get(index) === 0
    const pfn = isNew ? beginFolio(k, mapping, index, most) : mapping.pages.get(index)
    if (pfn === 0) return done > 0 ? done : -ENOMEM
    const head = frames.head(pfn)
    const length = Math.min(most, (frames.index[head]! + frames.nrPages(head)) * PAGE_SIZE - at)
    // with the folio in hand nothing faults: what is not there now is made so between two tries
    const there = iter.present(length)
    const copied = isNew && there < length ? 0 : yield* copyIn(k, mapping, head, at, there, iter)
    if (isNew) frames.set(head, PG_DIRTY)
    else dirtyWritten(k, mapping, head, at, copied, length)
    if (copied === 0 && isNew) requireNoBlocks(k, mapping, head)
    // even where nothing was copied: the folio was begun at this place, and the disk does not know
    if (at + copied > mapping.size) storageOf(k, mapping)
    mapping.size = Math.max(mapping.size, at + copied)
    done += copied
    if (copied > 0) continue
    chunk = Math.max(chunk / 2, PAGE_SIZE)
    part = there
    if (there === 0 && !(yield* iter.faultIn(length))) return done > 0 ? done : -EFAULT
  }
  return done
}

/**
 * The cache of a file gets the largest folio that a write fills, that its place in the file allows and that meets no
 * cached page.
 * @param most bytes of the write from there on
 * @returns the pfn of its head, 0 when memory is exhausted
 */
function beginFolio(k: Kernel, mapping: AddressSpace, index: number, most: number): number {
  let order = HPAGE_PMD_ORDER
  while (order > 0 && (most < PAGE_SIZE << order || index % (1 << order) !== 0)) order--
  while (order > 0 && meetsCached(mapping, index, 1 << order)) order--
  for (; order > 0; order--) {
    const head = newCachedFolio(k, mapping, index, order)
    if (head !== 0) return head
  }
  return newCachedPage(k, mapping, index)
}

function meetsCached({ pages }: AddressSpace, index: number, count: number): boolean {
  for (let i = index; i < index + count; i++) if (pages.get(i) !== 0) return true
  return false
}

/** Copies into one folio what is there. */
function* copyIn(
  k: Kernel,
  mapping: AddressSpace,
  head: number,
  at: number,
  length: number,
  iter: IovIter,
): Kthread<number> {
  const { memory } = k
  const first = memory.frames.index[head]!
  memory.get(head)
  let done = 0
  while (done < length) {
    const index = Math.floor((at + done) / PAGE_SIZE)
    const inPage = (at + done) % PAGE_SIZE
    const most = Math.min(PAGE_SIZE - inPage, length - done)
    const copied = yield* copyPageFromIter(k, head + index - first, inPage, most, iter)
    if (copied > 0) mapping.storage?.givesPlace(index)
    done += copied
    if (copied < most) break
  }
  memory.put(head)
  return done
}

/**
 * The blocks into which something was copied are dirty, and of those that were only
 * to be written the ones that had no place until then. Bytes.
 */
function dirtyWritten(
  k: Kernel,
  mapping: AddressSpace,
  head: number,
  at: number,
  copied: number,
  length: number,
): void {
  const from = Math.floor(at / PAGE_SIZE)
  const to = copied > 0 ? Math.ceil((at + copied) / PAGE_SIZE) : from
  if (copied > 0) dirtyBlocks(k, mapping, head, from, to)
  const { storage } = mapping
  for (let index = to; index < Math.ceil((at + length) / PAGE_SIZE); index++) {
    if (storage === null || storage.has(index) || isDirtyBlock(k, mapping, index)) continue
    dirtyBlocks(k, mapping, head, index, index + 1)
    storage.givesPlace(index)
  }
}

/** What the disk has of a new large folio is read only for what is written in part: the rest is not up to date. */
function requireNoBlocks(k: Kernel, mapping: AddressSpace, head: number): void {
  const { frames } = k.memory
  if (!frames.isLarge(head)) return
  const { storage, size } = mapping
  const first = frames.index[head]!
  const end = Math.min(first + frames.nrPages(head), Math.ceil(size / PAGE_SIZE))
  for (let index = first; index < end; index++)
    if (storage === null || storage.has(index))
      throw new Unmodelled('a write to pages on the disk from memory that is not there', 'R-HUGE-31.1')
}
