import { ENOMEM, EPERM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { anonVmaPrepare } from './rmap.ts'
import { alignDown } from './user-range.ts'
import { chargeCommit, mayExpandVm, mlockFutureOk, vmStatAccount } from './vm-accounting.ts'
import { vmaFacts, type Vma } from './vma.ts'
import { VM_ACCESS_FLAGS, VM_ACCOUNT, VM_GROWSDOWN, VM_LOCKED } from './vm-flags.ts'

/**
 * `expand_stack`: grows a VM_GROWSDOWN VMA down to the page of an address below it. Under the write
 * lock; the v3 kernel does it under the read lock (R-AS-87).
 * @param vma what `find` gave for the address: starts above it
 * @returns 0 (the VMA covers the address now, or did so before), -EPERM, -ENOMEM
 * @rule R-AS-86
 */
export function expandStack(k: Kernel, guard: MmapReadGuard, vma: Vma, address: number): number {
  const start = alignDown(address)
  if (start >= vma.start) return 0
  const task = k.current
  const refused = (errno: number, why: string): number =>
    refuse(task, errno, 'R-AS-86', { address, vma: vmaFacts(vma), why })
  if (start < k.settings.mmapMinAddr) return refused(EPERM, 'the stack would grow below vm.mmap_min_addr')
  const { previous } = vma
  if (
    previous !== null &&
    (previous.flags & VM_GROWSDOWN) === 0 &&
    (previous.flags & VM_ACCESS_FLAGS) !== 0 &&
    start - previous.end < k.settings.stackGuardGap * PAGE_SIZE
  ) {
    return refused(ENOMEM, 'the stack would come closer to the mapping below than the guard gap')
  }
  const { mm, vmas } = guard
  // growing makes the VMA "touched", even where a read fault asked for it
  const prepared = anonVmaPrepare(k, vma, mm)
  if (prepared < 0) return prepared
  const grow = (vma.start - start) / PAGE_SIZE
  const fits = mayExpandVm(k, mm, vma.flags, grow)
  if (fits < 0) return fits
  // @rule R-ARV-9
  if (vma.end - start > task.rlimit('stack')) return refused(ENOMEM, 'the stack would exceed RLIMIT_STACK')
  if (mlockFutureOk(k, mm, vma.flags, grow) < 0) {
    return refuse(
      task,
      ENOMEM,
      'R-AS-86',
      { address, vma: vmaFacts(vma), why: 'the locked stack would exceed RLIMIT_MEMLOCK' },
      task.refusal,
    )
  }
  if ((vma.flags & VM_ACCOUNT) !== 0) {
    const error = chargeCommit(k, mm, grow)
    if (error < 0) return error
  }
  vmStatAccount(mm, vma.flags, grow)
  if ((vma.flags & VM_LOCKED) !== 0) mm.lockedVm += grow
  vma.pgoff -= grow
  vma.flags |= k.newVmaFlags
  vmas.resize(vma, start, vma.end)
  k.observer?.({ type: 'map', mm: mm.id, start, end: start + grow * PAGE_SIZE })
  return 0
}
