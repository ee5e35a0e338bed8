import { EFAULT, EOPNOTSUPP } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import type { OpenFile } from './file.ts'
import {
  FOLL_ANON,
  FOLL_FORCE,
  FOLL_LONGTERM,
  FOLL_PIN,
  FOLL_SAME_FILE,
  FOLL_SPLIT_PMD,
  FOLL_WRITE,
} from './gup-flags.ts'
import type { Kernel } from './kernel.ts'
import { VMH_SHADOW_STACK, VM_IO, VM_MAYREAD, VM_PFNMAP, VM_READ, VM_SHARED, VM_WRITE } from './vm-flags.ts'
import { vmaFacts, type Vma } from './vma.ts'

/**
 * `check_vma_flags`: may GUP touch this mapping at all? Runs once per VMA entered, before any of its
 * pages; the first condition that holds decides.
 *
 * @param reference vm_file of the VMA entered before, `undefined` while the inner loop has no page yet:
 *   the VMA is then compared with itself (R-GUP-17)
 * @param page index of the address within the request
 * @returns 0, -EFAULT or -EOPNOTSUPP
 * @throws Unmodelled where what is not known of the file would decide
 * @rule R-GUP-16
 * @rule R-GUP-19
 */
export function checkVmaFlags(
  k: Kernel,
  vma: Vma,
  flags: number,
  reference: OpenFile | null | undefined,
  address: number,
  page: number,
): number {
  const { gup } = k.release
  const write = (flags & FOLL_WRITE) !== 0
  const force = (flags & FOLL_FORCE) !== 0
  const no = (rule: string, errno: number, why: string): number =>
    refuse(k.current, errno, rule, { address, page, vma: vmaFacts(vma), why })

  // @rule R-GUP-16.1
  if ((vma.flags & (VM_IO | VM_PFNMAP)) !== 0)
    return no('R-GUP-16.1', EFAULT, 'device or raw-PFN mapping (VM_IO or VM_PFNMAP)')
  // @rule R-GUP-16.2
  if ((flags & FOLL_ANON) !== 0 && !vma.isAnonymous)
    return no('R-GUP-16.2', EFAULT, 'FOLL_ANON wants anonymous memory')
  const unclassified = vma.file === null ? undefined : vma.file.mapping.kind.unclassified
  if (unclassified !== undefined && unclassified.from === 'checks') {
    throw new Unmodelled(unclassified.what, unclassified.rule)
  }
  // @rule R-GUP-16.3
  if ((flags & FOLL_LONGTERM) !== 0 && vma.file !== null && vma.file.mapping.dax) {
    return no('R-GUP-16.3', EOPNOTSUPP, 'long-term pin of a filesystem-DAX mapping')
  }
  // @rule R-GUP-16.4
  // @rule R-HTL-5
  if (gup.refusesSplitPmdOnHugetlb && (flags & FOLL_SPLIT_PMD) !== 0 && vma.isHugetlb) {
    return no('R-GUP-16.4', EOPNOTSUPP, 'hugetlb pages cannot be split')
  }
  // @rule R-GUP-16.5
  if (vma.file !== null && vma.file.mapping.kind.secretmem)
    return no('R-GUP-16.5', EFAULT, 'secretmem pages are in nobody’s direct map')
  // @rule R-GUP-16.6
  // @rule R-GUP-17
  // @rule R-URING-27
  if ((flags & FOLL_SAME_FILE) !== 0 && reference !== undefined && vma.file !== reference) {
    return no('R-GUP-16.6', EFAULT, 'mapping of another file than the pages before it (FOLL_SAME_FILE)')
  }
  if (write) {
    // @rule R-GUP-16.7
    // @rule R-URING-32
    const asksForTracking =
      gup.refusesDirtyTrackedLongterm &&
      !vma.isAnonymous &&
      (flags & (FOLL_PIN | FOLL_LONGTERM)) === (FOLL_PIN | FOLL_LONGTERM)
    if (asksForTracking && vma.needsDirtyTracking) {
      return no(
        'R-GUP-16.7',
        EFAULT,
        'long-term write pin of a shared file mapping whose dirty pages are tracked',
      )
    }
    if (asksForTracking && unclassified !== undefined && isSharedWritable(vma)) {
      throw new Unmodelled(unclassified.what, unclassified.rule)
    }
    // @rule R-GUP-16.8
    // @rule R-COM-7
    const shadowStack = gup.refusesShadowStackWrites && (vma.highFlags & VMH_SHADOW_STACK) !== 0
    if ((vma.flags & VM_WRITE) === 0 || shadowStack) {
      if (!force) return no('R-GUP-16.8', EFAULT, 'the mapping is not writable')
      // @rule R-COM-8
      if (vma.isHugetlb && !gup.forceWritesHugetlb)
        return no('R-GUP-16.8', EFAULT, 'FOLL_FORCE does not write to hugetlb mappings')
      if (!vma.isCow) return no('R-GUP-16.8', EFAULT, 'FOLL_FORCE does not write to shared mappings')
      if (shadowStack) throw new Unmodelled('forced write to a shadow stack', 'R-GUP-16')
    }
  } else if ((vma.flags & VM_READ) === 0) {
    // @rule R-GUP-16.9
    if (!force) return no('R-GUP-16.9', EFAULT, 'the mapping is not readable')
    if ((vma.flags & VM_MAYREAD) === 0) return no('R-GUP-16.9', EFAULT, 'the mapping may not become readable')
  }
  // check 10, protection keys: every VMA of the model carries key 0, which permits everything
  return 0
}

function isSharedWritable(vma: Vma): boolean {
  return (vma.flags & (VM_SHARED | VM_WRITE)) === (VM_SHARED | VM_WRITE)
}
