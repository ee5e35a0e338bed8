import { EFAULT, EHWPOISON, ENOMEM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { VM_FAULT_HWPOISON, VM_FAULT_OOM } from './fault-flags.ts'
import type { Kernel } from './kernel.ts'
import { vmaFacts, type Vma } from './vma.ts'

/**
 * Records why a fault fails and returns its VM_FAULT code. The errno in the record is the one GUP turns
 * the code into.
 * @rule R-FLT-20
 */
export function refuseFault(
  k: Kernel,
  code: number,
  rule: string,
  vma: Vma,
  address: number,
  why: string,
): number {
  const errno = (code & VM_FAULT_OOM) !== 0 ? ENOMEM : (code & VM_FAULT_HWPOISON) !== 0 ? EHWPOISON : EFAULT
  refuse(k.current, errno, rule, { address, why, vma: vmaFacts(vma) })
  return code
}

/** VM_FAULT_OOM with its reason. */
export function outOfMemory(k: Kernel, rule: string, vma: Vma, address: number): number {
  return refuseFault(k, VM_FAULT_OOM, rule, vma, address, 'no free page is left')
}
