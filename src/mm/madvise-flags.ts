import { EAGAIN, EINVAL, ENOMEM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import type { Kernel } from './kernel.ts'
import { breakKsm } from './ksm.ts'
import {
  MADV_DODUMP,
  MADV_DOFORK,
  MADV_DONTDUMP,
  MADV_DONTFORK,
  MADV_HUGEPAGE,
  MADV_KEEPONFORK,
  MADV_MERGEABLE,
  MADV_NOHUGEPAGE,
  MADV_NORMAL,
  MADV_RANDOM,
  MADV_SEQUENTIAL,
  MADV_UNMERGEABLE,
  MADV_WIPEONFORK,
} from './mman.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { changedShape, vmaModify } from './vma-merge.ts'
import { vmaFacts, type Vma } from './vma.ts'
import {
  VM_DONTCOPY,
  VM_DONTDUMP,
  VM_HUGEPAGE,
  VM_IO,
  VM_MAYSHARE,
  VM_MERGEABLE,
  VM_NOHUGEPAGE,
  VM_RAND_READ,
  VM_SEQ_READ,
  VM_SHARED,
  VM_SPECIAL,
  VM_WIPEONFORK,
  VMH_DROPPABLE,
} from './vm-flags.ts'

/** Advice that only changes vm_flags, under the write lock. */
export function changesFlags(advice: number): boolean {
  return advice <= MADV_SEQUENTIAL || (advice >= MADV_DONTFORK && advice <= MADV_KEEPONFORK)
}

/**
 * Gives [start, end) of a VMA the flags an advice asks for, splitting and merging.
 * @returns 0, -EINVAL, -EAGAIN (map_count)
 * @rule R-AS-103
 */
export function adviseFlags(
  k: Kernel,
  guard: MmapReadGuard,
  vma: Vma,
  start: number,
  end: number,
  advice: number,
): number {
  const why = objection(vma, advice)
  if (why !== null) return refuse(k.current, EINVAL, 'R-AS-103', { address: start, vma: vmaFacts(vma), why })
  const flags = advised(vma, advice)
  if (flags === vma.flags) return 0
  if (advice === MADV_MERGEABLE) k.ksm.enter(guard.mm)
  // @rule R-FLT-131
  if (advice === MADV_UNMERGEABLE && breakKsm(k, guard.mm, vma, start, end) < 0)
    return refuse(k.current, EAGAIN, 'R-FLT-131', {
      address: start,
      why: 'memory ran out for pages to be unmerged',
    })
  const target = vmaModify(k, guard.mm, guard.vmas, vma, start, end, changedShape(vma, { flags }))
  if (typeof target !== 'number') return 0
  if (target !== -ENOMEM) return target
  return refuse(
    k.current,
    EAGAIN,
    'R-AS-103',
    { address: start, why: 'the mapping cannot be split' },
    k.current.refusal,
  )
}

/** Why this VMA does not take the advice; null when it does. */
function objection(vma: Vma, advice: number): string | null {
  const { flags } = vma
  switch (advice) {
    case MADV_DOFORK:
      return (flags & VM_IO) !== 0 ? 'device memory stays out of children' : null
    case MADV_DODUMP:
      if ((vma.highFlags & VMH_DROPPABLE) !== 0) return 'droppable memory is never dumped'
      return (flags & VM_SPECIAL) !== 0 && !vma.isHugetlb ? 'device memory is never dumped' : null
    case MADV_WIPEONFORK:
      return vma.file !== null || (flags & VM_SHARED) !== 0
        ? 'only private anonymous memory can be wiped'
        : null
    case MADV_KEEPONFORK:
      return (vma.highFlags & VMH_DROPPABLE) !== 0 ? 'droppable memory is always wiped' : null
    default:
      return null
  }
}

/** The flags after the advice. */
function advised(vma: Vma, advice: number): number {
  const { flags } = vma
  switch (advice) {
    case MADV_NORMAL:
      return flags & ~(VM_RAND_READ | VM_SEQ_READ)
    case MADV_RANDOM:
      return (flags & ~VM_SEQ_READ) | VM_RAND_READ
    case MADV_SEQUENTIAL:
      return (flags & ~VM_RAND_READ) | VM_SEQ_READ
    case MADV_DONTFORK:
      return flags | VM_DONTCOPY
    case MADV_DOFORK:
      return flags & ~VM_DONTCOPY
    case MADV_HUGEPAGE:
      return (flags & ~VM_NOHUGEPAGE) | VM_HUGEPAGE
    case MADV_NOHUGEPAGE:
      return (flags & ~VM_HUGEPAGE) | VM_NOHUGEPAGE
    case MADV_DONTDUMP:
      return flags | VM_DONTDUMP
    case MADV_DODUMP:
      return flags & ~VM_DONTDUMP
    case MADV_WIPEONFORK:
      return flags | VM_WIPEONFORK
    case MADV_KEEPONFORK:
      return flags & ~VM_WIPEONFORK
    case MADV_MERGEABLE:
      return mayBeMergeable(vma) ? flags | VM_MERGEABLE : flags
    case MADV_UNMERGEABLE:
      return flags & ~VM_MERGEABLE
    default:
      return flags
  }
}

/** KSM leaves shared, special, droppable, huge and DAX mappings alone, silently. */
function mayBeMergeable(vma: Vma): boolean {
  return (
    (vma.flags & (VM_SHARED | VM_MAYSHARE | VM_SPECIAL)) === 0 &&
    (vma.highFlags & VMH_DROPPABLE) === 0 &&
    !vma.isHugetlb &&
    (vma.file === null || !vma.file.mapping.dax)
  )
}
