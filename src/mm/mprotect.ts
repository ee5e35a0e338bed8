import { EACCES, EINVAL, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { changeProtection } from './change-protection.ts'
import type { Kernel } from './kernel.ts'
import { PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_MTE, PROT_READ, PROT_SEM, PROT_WRITE } from './mman.ts'
import type { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { mteFlag } from './mte-mapping.ts'
import { checkSealed } from './munmap.ts'
import { readImpliesExec } from './personality.ts'
import { populateVmaPageRange } from './populate.ts'
import { finishUprobes } from './uprobe-hooks.ts'
import { alignUp, asWord, isPageAligned } from './user-range.ts'
import { changedShape, vmaModify } from './vma-merge.ts'
import { vmaFacts, type Vma } from './vma.ts'
import {
  chargeCommit,
  fitsVmLimits,
  isAccountable,
  mayExpandVm,
  unchargeCommit,
  vmStatAccount,
} from './vm-accounting.ts'
import {
  VM_ACCESS_FLAGS,
  VM_ACCOUNT,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_LOCKED,
  VM_MAYEXEC,
  VM_SHARED,
  VM_WRITE,
} from './vm-flags.ts'
import { lockForWrite, tryWriteNow } from './write-lock.ts'

const KNOWN_PROT = PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM

/**
 * mprotect(2). VMA by VMA in address order: an error leaves the earlier ones changed.
 * @param addr page aligned
 * @param len bytes, rounded up to pages
 * @returns 0, -EINVAL, -ENOMEM, -EACCES, -EPERM, -EINTR
 * @rule R-AS-62
 */
export function* mprotect(k: Kernel, mm: Mm, addr: number, len: number, prot: number): Kthread<number> {
  const grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
  const access = prot & ~(PROT_GROWSDOWN | PROT_GROWSUP)
  if (grows === (PROT_GROWSDOWN | PROT_GROWSUP)) {
    return refuse(k.current, EINVAL, 'R-AS-62', { why: 'PROT_GROWSDOWN and PROT_GROWSUP together' })
  }
  const start = asWord(addr)
  if (!isPageAligned(start)) {
    return refuse(k.current, EINVAL, 'R-AS-62', { address: start, why: 'the address is not page aligned' })
  }
  const word = asWord(len)
  if (word === 0) return 0
  const length = alignUp(word)
  const end = start + length
  // a range that wraps is as good as none
  if (length <= 0 || (start < 0 && end >= 0)) {
    return refuse(k.current, ENOMEM, 'R-AS-62', { address: start, why: 'the range wraps around' })
  }
  const known = k.settings.mte ? KNOWN_PROT | PROT_MTE : KNOWN_PROT
  if ((access & ~known) !== 0) {
    return refuse(k.current, EINVAL, 'R-AS-62', { why: 'the protection has unknown bits' })
  }
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') return guard
  // @rule R-AS-7
  const implied = (access & PROT_READ) !== 0 && readImpliesExec(k.current)
  const result = yield* protectRange(k, guard, start, end, access, grows, implied)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  guard.release()
  return result
}

function* protectRange(
  k: Kernel,
  guard: MmapWriteGuard,
  from: number,
  end: number,
  access: number,
  grows: number,
  execToo: boolean,
): Kthread<number> {
  const { vmas } = guard
  // an address in the kernel half lies behind every VMA
  let vma = from < 0 ? null : vmas.find(from)
  let start = from
  if (vma === null) return unmapped(k, from)
  if (grows === PROT_GROWSDOWN) {
    if (vma.start >= end) return unmapped(k, from)
    start = vma.start
    if ((vma.flags & VM_GROWSDOWN) === 0) {
      return refuse(k.current, EINVAL, 'R-AS-62', {
        vma: vmaFacts(vma),
        why: 'PROT_GROWSDOWN on a mapping that does not grow',
      })
    }
  } else {
    if (vma.start > start) return unmapped(k, start)
    if (grows === PROT_GROWSUP) {
      return refuse(k.current, EINVAL, 'R-AS-62', {
        vma: vmaFacts(vma),
        why: 'PROT_GROWSUP: nothing grows up on x86',
      })
    }
  }
  let at = start
  while (at < end) {
    // @rule R-AS-63
    if (vma === null || vma.start > at) return unmapped(k, at)
    const to: number = Math.min(vma.end, end)
    const wanted: number = execToo && (vma.flags & VM_MAYEXEC) !== 0 ? access | VM_EXEC : access
    const error = yield* protectVma(k, guard, vma, at, to, wanted)
    if (error < 0) return error
    at = to
    vma = vmas.find(at)
  }
  return 0
}

function unmapped(k: Kernel, address: number): number {
  return refuse(k.current, ENOMEM, 'R-AS-63', { address, why: 'nothing is mapped here' })
}

/**
 * `mprotect_fixup` with the checks before it.
 * @rule R-AS-63
 */
function* protectVma(
  k: Kernel,
  guard: MmapWriteGuard,
  vma: Vma,
  start: number,
  end: number,
  prot: number,
): Kthread<number> {
  const { mm, vmas } = guard
  const old = vma.flags
  const access = prot & VM_ACCESS_FLAGS
  let flags = (old & ~VM_ACCESS_FLAGS) | access
  // VM_MAY* stand four bits above what they permit
  if ((access & ~(old >> 4)) !== 0) {
    return refuse(k.current, EACCES, 'R-AS-63', {
      address: start,
      vma: vmaFacts(vma),
      why: 'the mapping may never get this access',
    })
  }
  const tagged = mteFlag(k, prot, vma.file)
  if (tagged < 0) return tagged
  // tags cannot be taken away
  const highFlags = vma.highFlags | tagged
  if (
    mm.mdwe &&
    k.release.mm.hasMdwe &&
    (access & VM_EXEC) !== 0 &&
    ((access & VM_WRITE) !== 0 || (old & VM_EXEC) === 0)
  ) {
    return refuse(k.current, EACCES, 'R-AS-63', {
      address: start,
      vma: vmaFacts(vma),
      why: 'PR_SET_MDWE forbids making memory executable',
    })
  }
  const sealed = checkSealed(k, vma)
  if (sealed < 0) return sealed
  if (flags === old && highFlags === vma.highFlags) return 0
  const pages = (end - start) / PAGE_SIZE
  let charged = 0
  let returned = 0
  if ((access & VM_WRITE) !== 0) {
    if (!fitsVmLimits(k, mm, flags, pages) && fitsVmLimits(k, mm, old, pages))
      return mayExpandVm(k, mm, flags, pages)
    if ((old & (VM_ACCOUNT | VM_WRITE)) === 0 && isAccountable(flags)) {
      const error = chargeCommit(k, mm, pages)
      if (error < 0) return error
      charged = pages
      flags |= VM_ACCOUNT
    }
  } else if (
    (old & VM_ACCOUNT) !== 0 &&
    k.release.mm.readOnlyDropsAccount &&
    vma.isAnonymous &&
    vma.anonVma === null
  ) {
    // @rule R-AS-64
    flags &= ~VM_ACCOUNT
    returned = pages
  }
  const target = vmaModify(k, mm, vmas, vma, start, end, changedShape(vma, { flags, highFlags }))
  if (typeof target === 'number') {
    unchargeCommit(k, mm, charged)
    return target
  }
  unchargeCommit(k, mm, returned)
  yield* changeProtection(k, mm, target, start, end)
  // @rule R-AS-142
  vmStatAccount(mm, old, -pages)
  vmStatAccount(mm, flags, pages)
  // @rule R-AS-65
  if ((old & (VM_WRITE | VM_SHARED | VM_LOCKED)) === VM_LOCKED && (access & VM_WRITE) !== 0) {
    yield* populateVmaPageRange(k, target, start, end, guard)
  }
  return 0
}
