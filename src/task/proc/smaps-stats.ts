import { PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../../base/units.ts'
import {
  PG_ANON,
  PG_DIRTY,
  PG_HUGETLB,
  PG_KSM,
  PG_REFERENCED,
  PG_SWAPBACKED,
} from '../../memory/page-flags.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import {
  HugePmd,
  PTE_ACCESSED,
  PTE_DEVICE_EXCLUSIVE,
  PTE_DIRTY,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP,
  pmdIndex,
  type Leaf,
} from '../../mm/page-table.ts'
import { VM_EXEC, VM_LOCKED, VM_PFNMAP, VM_READ, VM_WRITE } from '../../mm/vm-flags.ts'
import type { Vma } from '../../mm/vma.ts'

/** proportional shares are counted in 4096ths of a byte, each page's share rounded down (R-SMAPS-7) */
const WHOLE_PAGE = PAGE_SIZE * 4096

/**
 * `struct mem_size_stats`: what smaps counts of one mapping, or smaps_rollup of all. Pages of 4 KiB, `pss…` in
 * 4096ths of a byte.
 */
export class SmapsStats {
  resident = 0
  sharedClean = 0
  sharedDirty = 0
  privateClean = 0
  privateDirty = 0
  referenced = 0
  anonymous = 0
  ksm = 0
  lazyFree = 0
  anonymousThp = 0
  shmemThp = 0
  fileThp = 0
  sharedHugetlb = 0
  privateHugetlb = 0
  swap = 0
  pss = 0
  pssDirty = 0
  pssAnon = 0
  pssFile = 0
  pssShmem = 0
  pssLocked = 0
  swapPss = 0

  /**
   * Adds what one mapping has. The caller holds mmap_lock.
   * @rule R-SMAPS-3
   * @rule R-SMAPS-7
   */
  gather(k: Kernel, mm: Mm, vma: Vma): void {
    // @rule R-PM-6
    if ((vma.flags & VM_PFNMAP) !== 0) return
    const { pageTable } = mm
    const locked = (vma.flags & VM_LOCKED) !== 0
    const unseen =
      k.release.proc.smapsOmitsInaccessibleThp && (vma.flags & (VM_READ | VM_WRITE | VM_EXEC)) === 0
    let covered = vma.start
    const last = Math.ceil(vma.end / PMD_SIZE)
    for (let i = pageTable.nextPmd(pmdIndex(vma.start), last); i >= 0; i = pageTable.nextPmd(i + 1, last)) {
      const entry = pageTable.pmd(i)!
      const from = Math.max(vma.start, i * PMD_SIZE)
      const to = Math.min(vma.end, (i + 1) * PMD_SIZE)
      if (vma.file?.mapping.swapped.size) this.#swappedFile(vma, covered, from)
      covered = to
      if (!(entry instanceof HugePmd)) this.#leaf(k, vma, entry, from, to, locked)
      else if (!unseen || vma.isHugetlb) this.#hugePmd(k, entry, locked, pageTable.isShared(i))
    }
    if (vma.file?.mapping.swapped.size) this.#swappedFile(vma, covered, vma.end)
  }

  #leaf(k: Kernel, vma: Vma, { bits, pfn }: Leaf, from: number, to: number, locked: boolean): void {
    const first = (from / PAGE_SIZE) % PTRS_PER_PTE
    const end = first + (to - from) / PAGE_SIZE
    const swapped = vma.file?.mapping.swapped
    for (let slot = first; slot < end; slot++) {
      const word = bits[slot]!
      if ((word & PTE_PRESENT) !== 0) {
        if ((word & PTE_SPECIAL) === 0) this.#page(k, pfn[slot]!, word, locked)
      } else if ((word & PTE_DEVICE_EXCLUSIVE) !== 0) {
        // @rule R-DEX-13
        this.#page(k, pfn[slot]!, 0, locked, true)
      } else if ((word & PTE_SWAP) !== 0) {
        this.swap++
        const count = k.swap.count(pfn[slot]!)
        this.swapPss += count < 2 ? WHOLE_PAGE : Math.floor(WHOLE_PAGE / count)
      } else if (word === 0 && swapped !== undefined && swapped.size > 0) {
        if (swapped.has(vma.pageIndex(from + (slot - first) * PAGE_SIZE))) this.swap++
      }
    }
  }

  /** Pages of a memory file that are swapped out where the mapping has no page table. @rule R-FLT-95 */
  #swappedFile(vma: Vma, from: number, to: number): void {
    if (from >= to) return
    const first = vma.pageIndex(from)
    const end = vma.pageIndex(to)
    for (const index of vma.file!.mapping.swapped.keys()) if (index >= first && index < end) this.swap++
  }

  /** @rule R-HUGE-56 */
  #hugePmd(k: Kernel, { pfn, bits }: HugePmd, locked: boolean, isShared: boolean): void {
    if ((bits & PTE_PRESENT) === 0 || k.isHugeZero(pfn)) return
    const { frames } = k.memory
    if (frames.has(pfn, PG_HUGETLB)) {
      if (isShared || frames.entireMapcount(pfn) >= 2) this.sharedHugetlb += PTRS_PER_PTE
      else this.privateHugetlb += PTRS_PER_PTE
      return
    }
    if (frames.has(pfn, PG_ANON)) this.anonymousThp += PTRS_PER_PTE
    else if (frames.has(pfn, PG_SWAPBACKED)) this.shmemThp += PTRS_PER_PTE
    else this.fileThp += PTRS_PER_PTE
    for (let i = 0; i < PTRS_PER_PTE; i++) this.#page(k, pfn + i, bits, locked)
  }

  /**
   * References and pins are not asked for: who maps the page decides.
   * @param bits of the entry that maps it
   * @param shared counted as shared with somebody
   * @rule R-FLT-170
   */
  #page(k: Kernel, pfn: number, bits: number, locked: boolean, shared = false): void {
    const { frames } = k.memory
    const flags = frames.flags[frames.head(pfn)]!
    const mappings = frames.pageMapcount(pfn)
    const dirty = (bits & PTE_DIRTY) !== 0 || (flags & PG_DIRTY) !== 0
    const share = mappings < 2 ? WHOLE_PAGE : Math.floor(WHOLE_PAGE / mappings)
    this.resident++
    if ((bits & PTE_ACCESSED) !== 0 || (flags & PG_REFERENCED) !== 0) this.referenced++
    if ((flags & PG_KSM) !== 0) this.ksm++
    if ((flags & PG_ANON) !== 0) {
      this.anonymous++
      if ((flags & PG_SWAPBACKED) === 0 && !dirty) this.lazyFree++
      this.pssAnon += share
    } else if ((flags & PG_SWAPBACKED) !== 0) this.pssShmem += share
    else this.pssFile += share
    this.pss += share
    if (dirty) this.pssDirty += share
    if (locked) this.pssLocked += share
    if (mappings < 2 && !shared) {
      if (dirty) this.privateDirty++
      else this.privateClean++
    } else if (dirty) this.sharedDirty++
    else this.sharedClean++
  }
}
