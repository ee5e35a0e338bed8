import { EFAULT, EINVAL, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, TASK_SIZE } from '../base/units.ts'
import { PG_UPTODATE } from '../memory/page-flags.ts'
import { mayWriteInode } from './file.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import {
  HugePmd,
  Leaf,
  PTE_DEVICE_EXCLUSIVE,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SWAP,
  pmdIndex,
  pteSlot,
} from './page-table.ts'
import { storeUser } from './user-access.ts'
import { VM_HUGETLB, VM_PFNMAP } from './vm-flags.ts'
import { asWord, alignUp, isPageAligned } from './user-range.ts'
import type { Vma } from './vma.ts'
import { lockForRead } from './write-lock.ts'

/** Pages answered between two looks at the lock: what fits into one page of bytes. */
const CHUNK = PAGE_SIZE

/**
 * mincore(2): one byte for every page, 1 where an access would find it in memory. Pages of a file count when
 * its cache has them, mapped or not.
 * @param addr page aligned
 * @param len bytes, rounded up to pages
 * @param vec user address the bytes are stored at; what was stored before an error stays
 * @returns 0, -EINVAL, -ENOMEM (hole, or beyond user space), -EFAULT (vec)
 * @rule R-AS-111
 * @rule R-AS-88
 */
export function* mincore(k: Kernel, mm: Mm, addr: number, len: number, vec: number): Kthread<number> {
  const start = asWord(addr)
  if (!isPageAligned(start))
    return refuse(k.current, EINVAL, 'R-AS-111', { address: start, why: 'the address is not page aligned' })
  const word = asWord(len)
  if (start < 0 || word < 0 || start + word > TASK_SIZE)
    return refuse(k.current, ENOMEM, 'R-AS-111', { address: start, why: 'the range leaves user space' })
  const pages = alignUp(word) / PAGE_SIZE
  const bytes = asWord(vec)
  if (bytes < 0 || bytes + pages > TASK_SIZE)
    return refuse(k.current, EFAULT, 'R-AS-111', { address: bytes, why: 'the answer leaves user space' })
  for (let done = 0; done < pages;) {
    const guard = (k.exploring ? null : mm.mmapLock.tryRead()) ?? (yield* lockForRead(k, mm))
    const address = start + done * PAGE_SIZE
    const vma = guard.vmas.find(address)
    if (vma === null || vma.start > address) {
      guard.release()
      return refuse(k.current, ENOMEM, 'R-AS-111', { address, why: 'nothing is mapped here' })
    }
    const count = Math.min(pages - done, CHUNK, (vma.end - address) / PAGE_SIZE)
    const answer = new Uint8Array(count)
    if (!showsResidence(k, vma)) answer.fill(1)
    else if ((vma.flags & VM_HUGETLB) !== 0) hugetlbResidence(k, mm, vma, address, answer)
    // @rule R-PM-6
    else if ((vma.flags & VM_PFNMAP) === 0) residence(k, mm, vma, address, answer)
    guard.release()
    const stored = yield* storeUser(k, mm, bytes + done, answer, 'kernel')
    if (!stored.ok)
      return refuse(k.current, EFAULT, 'R-AS-111', {
        address: bytes + done,
        why: 'the answer cannot be stored',
      })
    done += count
  }
  return 0
}

/**
 * `can_do_mincore`: what others read into the cache of a file is told to those only who may write it.
 * @rule R-AS-111
 */
function showsResidence(k: Kernel, vma: Vma): boolean {
  if (vma.isAnonymous) return true
  return vma.file !== null && mayWriteInode(k.current, vma.file.mapping)
}

function residence(k: Kernel, mm: Mm, vma: Vma, start: number, answer: Uint8Array): void {
  const { pageTable } = mm
  for (let i = 0; i < answer.length; i++) {
    const address = start + i * PAGE_SIZE
    const entry = pageTable.pmd(pmdIndex(address))
    if (entry instanceof HugePmd) {
      answer[i] = (entry.bits & (PTE_PRESENT | PTE_MIGRATION)) !== 0 ? 1 : 0
      continue
    }
    const slot = pteSlot(address)
    const bits = entry instanceof Leaf ? entry.bits[slot]! : 0
    if ((bits & (PTE_PRESENT | PTE_MIGRATION | PTE_DEVICE_EXCLUSIVE)) !== 0) answer[i] = 1
    else if ((bits & PTE_SWAP) !== 0)
      answer[i] = isUptodate(k, k.swap.cached((entry as Leaf).pfn[slot]!)) ? 1 : 0
    // markers count as nothing: the cache of the file decides
    else answer[i] = vma.file !== null && isCached(k, vma, address) ? 1 : 0
  }
}

/** Huge pages count when they are mapped. The cache is asked only where the table of their entries is missing. */
function hugetlbResidence(k: Kernel, mm: Mm, vma: Vma, start: number, answer: Uint8Array): void {
  const { pageTable } = mm
  const { pageSize } = vma.file!.mapping
  const end = start + answer.length * PAGE_SIZE
  for (let from = start, next = 0; from < end; from = next) {
    next = Math.min(end, (Math.floor(from / pageSize) + 1) * pageSize)
    const part = answer.subarray((from - start) / PAGE_SIZE, (next - start) / PAGE_SIZE)
    const entry = pageTable.pmd(pmdIndex(from))
    if (!pageTable.reaches(pmdIndex(from), pageSize)) cachedHugetlb(k, vma, from, part)
    else if (entry instanceof HugePmd && (entry.bits & (PTE_PRESENT | PTE_MIGRATION)) !== 0) part.fill(1)
  }
}

/** A part of one huge page. Where the cache counts huge pages, each page of 4 KiB is taken for the next of those. */
function cachedHugetlb(k: Kernel, vma: Vma, from: number, part: Uint8Array): void {
  const { pages, pageSize } = vma.file!.mapping
  const index = Math.floor(vma.pageIndex(from) / (pageSize / PAGE_SIZE))
  if (k.release.fault.hugetlbCachePerPage) part.fill(isUptodate(k, pages.get(index)) ? 1 : 0)
  else for (let i = 0; i < part.length; i++) part[i] = isUptodate(k, pages.get(index + i)) ? 1 : 0
}

function isCached(k: Kernel, vma: Vma, address: number): boolean {
  return !vma.isAnonymous && isUptodate(k, vma.file!.mapping.pages.get(vma.pageIndex(address)))
}

function isUptodate(k: Kernel, pfn: number): boolean {
  return pfn !== 0 && k.memory.frames.has(k.memory.frames.head(pfn), PG_UPTODATE)
}
