import { EBUSY, EINVAL, EPERM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import {
  F_SEAL_EXEC,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  type AddressSpace,
  type OpenFile,
} from './file.ts'
import { mappingReferences } from './gup-grab.ts'
import type { Kernel } from './kernel.ts'

const F_ALL_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE
export const MFD_ALLOW_SEALING = 0x2
export const MFD_NOEXEC_SEAL = 0x8
/** looks at the pages before F_SEAL_WRITE gives up, about 150 ms */
const SCANS = 5

/**
 * What memfd_create(2) makes of its flags: without MFD_ALLOW_SEALING no seals may be added, MFD_NOEXEC_SEAL allows
 * them, takes the x bits away and seals that.
 * @param flags MFD_*
 * @returns 0, -EINVAL (the release has no MFD_NOEXEC_SEAL)
 * @rule R-SEAL-3
 */
export function sealAsMade(k: Kernel, mapping: AddressSpace, flags: number): number {
  if ((flags & MFD_NOEXEC_SEAL) !== 0) {
    if (!k.release.mm.hasExecSeal)
      return refuse(k.current, EINVAL, 'R-SEAL-3', { why: 'there is no seal against x bits yet' })
    mapping.executable = false
    mapping.seals = F_SEAL_EXEC
  } else if ((flags & MFD_ALLOW_SEALING) === 0) mapping.seals = F_SEAL_SEAL
  return 0
}

/**
 * fcntl(F_ADD_SEALS) of a memfd.
 * @returns 0; -EPERM (not open for writing, sealed against seals), -EINVAL, -EBUSY (written through a mapping, or
 * F_SEAL_WRITE while somebody holds a page)
 * @rule R-SEAL-1
 */
export function* memfdAddSeals(k: Kernel, file: OpenFile, seals: number): Kthread<number> {
  const { mapping } = file
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-SEAL-1', { why })
  if (!file.writable) return refused(EPERM, 'the file is not open for writing')
  const known = k.release.mm.hasExecSeal ? F_ALL_SEALS | F_SEAL_EXEC : F_ALL_SEALS
  if ((seals & ~known) !== 0) return refused(EINVAL, 'an unknown seal')
  if (!isSealable(mapping)) return refused(EINVAL, 'this kind of file has no seals')
  if ((mapping.seals & F_SEAL_SEAL) !== 0) return refused(EPERM, 'no seals may be added any more')
  const more =
    (seals & F_SEAL_EXEC) !== 0 && mapping.executable
      ? F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE
      : 0
  if (((seals | more) & F_SEAL_WRITE & ~mapping.seals) !== 0) {
    if (mapping.writableMappings > 0) return refused(EBUSY, 'the file is mapped where it may be written')
    const error = yield* waitForPins(k, mapping)
    if (error < 0) return error
  }
  mapping.seals |= seals | more
  return 0
}

/** fcntl(F_GET_SEALS). @returns F_SEAL_*, or -EINVAL */
export function memfdGetSeals(k: Kernel, { mapping }: OpenFile): number {
  if (isSealable(mapping)) return mapping.seals
  return refuse(k.current, EINVAL, 'R-SEAL-1', { why: 'this kind of file has no seals' })
}

function isSealable({ kind }: AddressSpace): boolean {
  return kind.shmem || kind.hugetlb
}

/**
 * `memfd_wait_for_pins`: nobody may hold a page but the cache and its mappings. It is the count that decides, so
 * plain references are in the way as well.
 * @rule R-GUP-80
 * @rule R-URING-64
 */
function* waitForPins(k: Kernel, mapping: AddressSpace): Kthread<number> {
  for (let scan = 0; scan < SCANS; scan++) {
    if (!isHeld(k, mapping)) return 0
    if (k.exploring) yield PREEMPT
  }
  return refuse(k.current, EBUSY, 'R-GUP-80', { why: 'somebody holds a page of the file' })
}

function isHeld(k: Kernel, mapping: AddressSpace): boolean {
  const { frames } = k.memory
  let held = false
  mapping.pages.forEach((_, pfn) => {
    const head = frames.head(pfn)
    held ||= frames.refcount[head]! > mappingReferences(k, head)
  })
  return held
}
