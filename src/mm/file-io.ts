import { EBADF, EFAULT, EFBIG, EINVAL, ENOMEM, EPERM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { PG_DIRTY, PG_UPTODATE } from '../memory/page-flags.ts'
import { F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_WRITE, type AddressSpace, type OpenFile } from './file.ts'
import { directRead, directWrite } from './direct-io.ts'
import { beginRead, newCachedPage } from './filemap.ts'
import { copyPageFromIter, copyPageToIter, type IovIter } from './iov-iter.ts'
import type { Kernel } from './kernel.ts'
import { shmemSwapIn } from './shmem-swap.ts'
import { MAX_FILE_BYTES, isOnDisk, storageOf } from './storage.ts'
import { zeroTail } from './truncate.ts'
import { takesLargeFolios, writeFolios } from './write-folios.ts'

/** Most bytes one read or write moves. */
export const MAX_RW_COUNT = 0x7ffff000

/**
 * read(2) at a position: from the page cache, filling its holes (`vfs_read`, `filemap_read`). Memory files keep
 * their holes and give zeros for them.
 * @param offset bytes into the file
 * @param iter takes the bytes; `iter.count` is how many are wanted
 * @returns bytes, 0 at the end of the file; -EBADF, -EINVAL, -EFAULT when not even one byte could be stored
 * @rule R-FLT-172
 */
export function* fileRead(k: Kernel, file: OpenFile, offset: number, iter: IovIter): Kthread<number> {
  const refused = ioRefusal(k, 'R-FLT-172')
  const { mapping } = file
  const { readWrite } = mapping.kind
  if (offset < 0) return refused(EINVAL, 'the position is negative')
  if (!file.readable) return refused(EBADF, 'the file is not open for reading')
  if (readWrite === 'none') return refused(EINVAL, 'this kind of file cannot be read')
  if (passesLargest(offset, iter)) return refused(EINVAL, 'position and length pass the largest offset')
  if (file.direct && isOnDisk(mapping)) return yield* directRead(k, file, offset, iter)
  const wanted = Math.min(iter.count, MAX_RW_COUNT)
  const zeros = new Uint8Array(Math.min(wanted, PAGE_SIZE))
  let done = 0
  while (done < wanted) {
    const at = offset + done
    if (readWrite !== 'zero' && at >= mapping.size) break
    // no sum: beyond 2^53 only the difference of two positions is exact
    const left = readWrite === 'zero' ? Infinity : mapping.size - at
    const most = Math.min(PAGE_SIZE - (at % PAGE_SIZE), wanted - done, left)
    const pfn = readWrite === 'zero' ? 0 : yield* pageToRead(k, mapping, at)
    if (pfn < 0) return done > 0 ? done : pfn
    // who frees the page while the copy sleeps finds it held
    if (pfn !== 0) k.memory.get(pfn)
    const copied =
      pfn === 0
        ? yield* iter.copyTo(zeros.subarray(0, most))
        : yield* copyPageToIter(k, pfn, at % PAGE_SIZE, most, iter)
    if (pfn !== 0) k.memory.put(pfn)
    done += copied
    if (copied < most) return done > 0 ? done : refused(EFAULT, 'the memory to read into cannot be written')
  }
  return done
}

/** The page behind a byte of the file, up to date; 0 for a hole that stays one; -ENOMEM. */
function* pageToRead(k: Kernel, mapping: AddressSpace, at: number): Kthread<number> {
  if (mapping.kind.hugetlb) {
    const head = mapping.pages.get(Math.floor(at / mapping.pageSize))
    return head === 0 ? 0 : head + Math.floor((at % mapping.pageSize) / PAGE_SIZE)
  }
  const index = Math.floor(at / PAGE_SIZE)
  if (mapping.kind.shmem && mapping.pages.get(index) === 0 && !mapping.swapped.has(index)) return 0
  return yield* cachedPage(k, mapping, index, mapping.slowIo)
}

/** The cached page at an index, brought in where it is missing and waited for. @returns the pfn or -ENOMEM */
export function* cachedPage(k: Kernel, mapping: AddressSpace, index: number, slow: boolean): Kthread<number> {
  const { frames } = k.memory
  for (;;) {
    let pfn = mapping.pages.get(index)
    if (pfn === 0 && mapping.swapped.has(index)) pfn = shmemSwapIn(k, mapping, index)
    else if (pfn === 0) pfn = slow ? beginRead(k, mapping, index) : newCachedPage(k, mapping, index)
    if (pfn === 0) return -ENOMEM
    if (frames.has(frames.head(pfn), PG_UPTODATE)) return pfn
    yield { queue: mapping.io, what: `page ${index} of a file to be read`, signals: 'fatal' }
    if (k.fatalSignalPending) return -EFAULT
  }
}

/**
 * write(2) at a position: into the page cache, page after page, each marked dirty; the file grows as it is
 * needed (`vfs_write`, `generic_perform_write`).
 * @param offset bytes into the file
 * @param iter gives the bytes; `iter.count` is how many
 * @returns bytes; -EBADF, -EINVAL, -EFBIG, -EPERM (seals), -EFAULT when not even one byte could be loaded
 * @rule R-FLT-173
 */
export function* fileWrite(k: Kernel, file: OpenFile, offset: number, iter: IovIter): Kthread<number> {
  const refused = ioRefusal(k, 'R-FLT-173')
  const { mapping } = file
  const { readWrite } = mapping.kind
  if (offset < 0) return refused(EINVAL, 'the position is negative')
  if (!file.writable) return refused(EBADF, 'the file is not open for writing')
  if (readWrite === 'none' || readWrite === 'hugetlb')
    return refused(EINVAL, 'this kind of file cannot be written')
  if (passesLargest(offset, iter)) return refused(EINVAL, 'position and length pass the largest offset')
  if (isOnDisk(mapping) && offset < MAX_FILE_BYTES && offset + iter.count > MAX_FILE_BYTES)
    throw new Unmodelled('a write that reaches over the end of the largest file', 'R-FLT-173')
  if (file.direct && isOnDisk(mapping)) {
    return yield* directWrite(k, file, offset, iter, (at) => writePages(k, mapping, at, iter))
  }
  const wanted = Math.min(iter.count, MAX_RW_COUNT)
  if (readWrite === 'zero') return wanted
  if (isOnDisk(mapping) && wanted > 0 && offset >= MAX_FILE_BYTES)
    return refused(EFBIG, 'the position lies beyond what a file can hold')
  // @rule R-DIO-10
  if (isOnDisk(mapping) && wanted > 0 && offset > mapping.size) {
    storageOf(k, mapping)
    zeroTail(k, mapping)
  }
  return yield* writePages(k, mapping, offset, iter)
}

/** `generic_perform_write`. */
function* writePages(k: Kernel, mapping: AddressSpace, offset: number, iter: IovIter): Kthread<number> {
  const refused = ioRefusal(k, 'R-FLT-173')
  if (takesLargeFolios(k, mapping)) {
    const done = yield* writeFolios(k, mapping, offset, iter)
    return done === -EFAULT ? refused(EFAULT, 'the memory to write from cannot be read') : done
  }
  const { shmem } = mapping.kind
  const { writePrefaults, writePrefaultsHuge } = k.release.fault
  const wanted = Math.min(iter.count, MAX_RW_COUNT)
  let done = 0
  while (done < wanted) {
    const at = offset + done
    const most = Math.min(PAGE_SIZE - (at % PAGE_SIZE), wanted - done)
    // @rule R-FLT-174
    const ahead = shmem && writePrefaultsHuge ? Math.min(PMD_SIZE - (at % PMD_SIZE), wanted - done) : most
    if (writePrefaults && !(yield* iter.faultIn(ahead)))
      return done > 0 ? done : refused(EFAULT, 'the memory to write from cannot be read')
    if (shmem && (mapping.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0)
      return done > 0 ? done : refused(EPERM, 'the memfd is sealed against writing')
    if (shmem && (mapping.seals & F_SEAL_GROW) !== 0 && at + most > mapping.size)
      return done > 0 ? done : refused(EPERM, 'the memfd is sealed against growing')
    const whole = most === PAGE_SIZE || at - (at % PAGE_SIZE) >= mapping.size
    const slow = mapping.slowIo && !whole
    const pfn = yield* cachedPage(k, mapping, Math.floor(at / PAGE_SIZE), slow)
    if (pfn < 0) return done > 0 ? done : pfn
    k.memory.get(pfn)
    // with the page in hand nothing faults: what is not there now is made so between two rounds
    const copied = yield* copyPageFromIter(k, pfn, at % PAGE_SIZE, iter.present(most), iter)
    k.memory.frames.set(k.memory.frames.head(pfn), PG_DIRTY)
    k.memory.put(pfn)
    // even where nothing was copied: the page was begun at this place, and the disk does not know
    if (isOnDisk(mapping) && at + copied > mapping.size) storageOf(k, mapping)
    if (at + copied - at !== copied)
      throw new Unmodelled('the end of a file beyond 2^53 bytes, which no number here is', 'R-FLT-173')
    mapping.size = Math.max(mapping.size, at + copied)
    done += copied
    if (copied === 0 && !writePrefaults && !(yield* iter.faultIn(most)))
      return done > 0 ? done : refused(EFAULT, 'the memory to write from cannot be read')
  }
  return done
}

/** `rw_verify_area`: positions end at 2^63 - 1. */
function passesLargest(offset: number, iter: IovIter): boolean {
  return offset >= 2 ** 62 && iter.count >= 2 ** 63 - offset
}

function ioRefusal(k: Kernel, rule: string): (errno: number, why: string) => number {
  return (errno, why) => refuse(k.current, errno, rule, { why })
}
