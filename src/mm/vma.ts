import { PAGE_SIZE } from '../base/units.ts'
import type { VmaFacts } from '../base/refusal.ts'
import type { OpenFile } from './file.ts'
import type { HugetlbVma } from './hugetlb-reserve.ts'
import type { Mm } from './mm.ts'
import type { Userfaultfd } from './userfaultfd-context.ts'
import { VM_HUGETLB, VM_SHARED, VM_WRITE, isCowMapping } from './vm-flags.ts'

/** `struct anon_vma`: who may map the anonymous pages created under it. */
export class AnonVma {
  readonly id: number
  /** every VMA whose chain contains this anon_vma: the reverse map of its pages */
  readonly vmas = new Set<Vma>()

  constructor(id: number) {
    this.id = id
  }
}

/**
 * `struct vm_area_struct`: one mapping. [start, end) in bytes, page aligned.
 *
 * Protected by `mmap_lock` of its mm (read to look, write to change); reachable only through a guard of
 * that lock (mmap-lock.ts). `anonVma` and `anonVmaChain` may be set under the read lock by a fault.
 * @rule R-AS-2
 */
export class Vma {
  start: number
  end: number
  /** VM_*, kernel bits 0..31 */
  flags: number
  /** VMH_* */
  highFlags: number
  /** pages; file offset, or page number of the address for private anonymous memory (R-AS-4) */
  pgoff: number
  /** vm_file, or null; holds one reference */
  file: OpenFile | null
  /** the anon_vma new anonymous pages get; null until the first write fault ("untouched") */
  anonVma: AnonVma | null = null
  /** own anon_vma first, inherited ones after it (R-AS-132) */
  anonVmaChain: AnonVma[] = []
  uffd: Userfaultfd | null = null
  /** what a private hugetlb mapping was promised; halves of a split share it, a forked child has none (R-HUGE-42) */
  hugetlb: HugetlbVma | null = null
  /** vm_mm: whose tree it stands in; null before it is linked. For reverse mapping, which comes from the file or the page */
  mm: Mm | null = null
  /** NUMA policy: an opaque value, null default (R-AS-130) */
  policy: object | null = null
  /** given by prctl(PR_SET_VMA_ANON_NAME), shown as `[anon:NAME]` or `[anon_shmem:NAME]` (R-AS-109) */
  anonName: string | null = null
  /** `[vdso]`, `[vvar]` and the like, as vm_ops->name gives it */
  specialName: string | null = null
  /** unmapped and gone: touching it afterwards is the bug the series is about */
  freed = false
  /** the stack that freed it, recorded where stale VMAs are watched */
  freedAt: string | undefined = undefined

  // links of the VMA tree (vma-tree.ts); nobody else touches them
  left: Vma | null = null
  right: Vma | null = null
  parent: Vma | null = null
  previous: Vma | null = null
  next: Vma | null = null
  height = 1
  /** largest hole directly below any VMA of this subtree, bytes */
  maxGap = 0

  constructor(
    start: number,
    end: number,
    flags: number,
    pgoff: number,
    file: OpenFile | null = null,
    highFlags = 0,
  ) {
    this.start = start
    this.end = end
    this.flags = flags
    this.highFlags = highFlags
    this.pgoff = pgoff
    this.file = file
  }

  get pages(): number {
    return (this.end - this.start) / PAGE_SIZE
  }

  /** No vm_ops: private anonymous memory, heap, stack, private /dev/zero (R-AS-2). A private file mapping is not. */
  get isAnonymous(): boolean {
    if (this.specialName !== null) return false
    return (
      this.file === null || (this.file.mapping.kind.anonymousWhenPrivate && (this.flags & VM_SHARED) === 0)
    )
  }

  get isHugetlb(): boolean {
    return (this.flags & VM_HUGETLB) !== 0
  }

  get isCow(): boolean {
    return isCowMapping(this.flags)
  }

  /**
   * `vma_needs_dirty_tracking`: shared, writable now, and the file wants to know about writes.
   * @rule R-GUP-20
   */
  get needsDirtyTracking(): boolean {
    if ((this.flags & (VM_SHARED | VM_WRITE)) !== (VM_SHARED | VM_WRITE) || this.file === null) return false
    const { kind } = this.file.mapping
    return kind.pageMkwrite || kind.canWriteback
  }

  /** Page index in the file (or the anonymous pgoff space) of an address inside the VMA. */
  pageIndex(address: number): number {
    return this.pgoff + Math.floor((address - this.start) / PAGE_SIZE)
  }

  /** What backs it, in one word, for reasons and listings. */
  get backing(): string {
    if (this.specialName !== null) return this.specialName
    if (this.isAnonymous) return this.file === null ? 'anonymous' : 'anonymous (/dev/zero)'
    return this.file!.mapping.kind.name
  }
}

/** Copies what a reason needs, because the VMA itself must not outlive the lock. */
export function vmaFacts(vma: Vma): VmaFacts {
  return {
    start: vma.start,
    end: vma.end,
    flags: vma.flags,
    highFlags: vma.highFlags,
    backing: vma.backing,
    name: vma.specialName ?? vma.file?.path ?? '',
  }
}
