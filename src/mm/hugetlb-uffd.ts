import { EEXIST, EFAULT, EINVAL } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import { PG_DIRTY } from '../memory/page-flags.ts'
import { pageCacheInsert } from './filemap.ts'
import { allocForFault } from './hugetlb-fault.ts'
import { hugetlbBits, makeHugetlbAnon, mapHugetlb } from './hugetlb-map.ts'
import { hugetlbFile, hugetlbIndex } from './hugetlb-reserve.ts'
import { shareHugetlbTable } from './hugetlb-share.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import {
  HugePmd,
  PTE_DIRTY,
  PTE_MARKER_POISON,
  PTE_MARKER_UFFD_WP,
  PTE_NONPRESENT_KINDS,
  PTE_PRESENT,
  PTE_UFFD_WP,
  PTE_WRITE,
  pmdIndex,
} from './page-table.ts'
import type { Fill } from './userfaultfd-fill.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { VM_MAYSHARE, VM_SHARED, VM_WRITE } from './vm-flags.ts'

/**
 * Filling a hugetlb mapping through userfaultfd, whole huge pages at a time; there is no huge zero page to map.
 * `dst` to `dst + length` lies in `vma`.
 * @returns bytes filled, or -EINVAL, -EEXIST (also where the pool is empty), -EFAULT (beyond the end, not cached)
 * @rule R-FLT-126
 */
export function fillHugetlb(k: Kernel, mm: Mm, vma: Vma, dst: number, length: number, what: Fill): number {
  const facts = { address: dst, vma: vmaFacts(vma) }
  if (vma.file!.mapping.pageSize !== PMD_SIZE)
    throw new Unmodelled('a huge page of 1 GiB filled through userfaultfd', 'R-HUGE-58')
  if (what.how === 'zero') {
    const why = 'huge pages cannot be filled with the zero page'
    return refuse(k.current, EINVAL, 'R-FLT-126', { ...facts, why })
  }
  if (dst % PMD_SIZE !== 0 || length % PMD_SIZE !== 0) {
    return refuse(k.current, EINVAL, 'R-FLT-126', { ...facts, why: 'the range cuts a huge page' })
  }
  for (let done = 0; done < length; done += PMD_SIZE) {
    const failed = fillOne(k, mm, vma, dst + done, done, what)
    if (failed < 0) return done > 0 ? done : failed
  }
  return length
}

function fillOne(k: Kernel, mm: Mm, vma: Vma, address: number, offset: number, what: Fill): number {
  const facts = { address, vma: vmaFacts(vma) }
  const failed = (errno: number, why: string): number =>
    refuse(k.current, errno, 'R-FLT-126', { ...facts, why })
  const pmd = pmdIndex(address)
  shareHugetlbTable(k, mm, vma, address)
  const entry = mm.pageTable.pmd(pmd)
  const present = entry instanceof HugePmd && (entry.bits & PTE_PRESENT) !== 0
  const { mapping } = vma.file!
  const index = hugetlbIndex(vma, address)
  const isShared = (vma.flags & VM_MAYSHARE) !== 0
  const taken = (): number => failed(EEXIST, 'a page is there already')
  const beyondEnd = index >= Math.floor(mapping.size / mapping.pageSize)
  if (what.how === 'poison') {
    if (entry !== null) return taken()
    mm.pageTable.setPmd(pmd, new HugePmd(0, PTE_MARKER_POISON))
    return 0
  }
  let head = mapping.pages.get(index)
  if (what.how === 'continue') {
    if (head === 0) return failed(EFAULT, 'nothing is cached that could be mapped')
    if (beyondEnd) return failed(EFAULT, 'the address lies beyond the end of the file')
    if (present) return taken()
    k.memory.get(head)
  } else {
    if (present || (isShared && head !== 0)) return taken()
    if (beyondEnd && isShared) return failed(EFAULT, 'the address lies beyond the end of the file')
    head = allocForFault(k, vma, index, false)
    if (head === 0) return failed(EEXIST, 'the pool of huge pages is exhausted, which is EEXIST here')
    writeHuge(k, head, what.bytes!, offset)
    if (isShared) {
      pageCacheInsert(k, mapping, index, head)
      hugetlbFile(k, mapping).reserved.add(index)
      k.memory.frames.set(head, PG_DIRTY)
    } else makeHugetlbAnon(k, mm, vma, head, index)
  }
  const cachedPrivately = what.how === 'continue' && (vma.flags & VM_SHARED) === 0
  const write = what.protect || cachedPrivately || (vma.flags & VM_WRITE) === 0 ? 0 : PTE_WRITE
  const bits = (hugetlbBits(vma) & ~PTE_WRITE) | PTE_DIRTY | write | (what.protect ? PTE_UFFD_WP : 0)
  mapHugetlb(k, mm, pmd, head, bits)
  return 0
}

function writeHuge(k: Kernel, head: number, bytes: Uint8Array, offset: number): void {
  for (let i = 0; i < PTRS_PER_PTE; i++) {
    const from = offset + i * PAGE_SIZE
    k.memory.contents.write(head + i, 0, bytes.subarray(from, from + PAGE_SIZE))
  }
}

/**
 * Write protection of one huge page of a hugetlb mapping, set or taken away. What is not there gets a marker.
 * @rule R-FLT-126
 */
export function uffdWpHugetlb(_k: Kernel, mm: Mm, vma: Vma, pmd: number, enable: boolean): void {
  const entry = mm.pageTable.pmd(pmd)
  if (!(entry instanceof HugePmd)) {
    if (enable) mm.pageTable.setPmd(pmd, new HugePmd(0, PTE_MARKER_UFFD_WP))
    return
  }
  if ((entry.bits & PTE_PRESENT) === 0) {
    const isMarker = (entry.bits & PTE_NONPRESENT_KINDS) === PTE_MARKER_UFFD_WP
    if (isMarker && !enable) mm.pageTable.setPmd(pmd, null)
    return
  }
  if (enable) entry.bits = (entry.bits | PTE_UFFD_WP) & ~PTE_WRITE
  else entry.bits = (entry.bits & ~(PTE_UFFD_WP | PTE_WRITE)) | (hugetlbBits(vma) & PTE_WRITE)
}
