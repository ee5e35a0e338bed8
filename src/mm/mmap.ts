import { EBADF, EEXIST, EINVAL, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { OpenFile } from './file.ts'
import { getUnmappedArea, roundHint } from './get-unmapped-area.ts'
import { hugetlbFileSetup } from './hugetlb.ts'
import type { Kernel } from './kernel.ts'
import {
  MAP_ANONYMOUS,
  MAP_DROPPABLE,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_HUGE_SHIFT,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_STACK,
  MAP_SYNC,
  MAP_TYPE,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from './mman.ts'
import { anonymousFlags, fileFlags } from './mmap-flags.ts'
import { mapFreeRange, mapOverRange } from './mmap-region.ts'
import type { Mm } from './mm.ts'
import { mteFlag } from './mte-mapping.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import { firstOverlapping } from './munmap.ts'
import { readImpliesExec } from './personality.ts'
import { mmPopulate } from './populate.ts'
import { finishUprobes } from './uprobe-hooks.ts'
import { alignUp, asWord, isPageAligned } from './user-range.ts'
import { takeChanges, tellChanges } from './userfaultfd-events.ts'
import { canDoMlock, mlockFutureOk } from './vm-accounting.ts'
import { vmaFacts } from './vma.ts'
import {
  VM_GROWSDOWN,
  VM_LOCKED,
  VM_MAY_ALL,
  VM_NOHUGEPAGE,
  VM_NORESERVE,
  VM_SHARED,
  VM_SYNC,
  VMH_DROPPABLE,
} from './vm-flags.ts'
import { lockForWrite, tryWriteNow } from './write-lock.ts'

/** The arguments of mmap(2). */
export interface MmapRequest {
  /** hint, or the address itself with MAP_FIXED; 0 for none */
  readonly addr: number
  /** bytes */
  readonly length: number
  /** PROT_*; unknown bits are ignored (R-AS-7) */
  readonly prot: number
  /** MAP_* */
  readonly flags: number
  /** what fd names; null for a bad fd or with MAP_ANONYMOUS */
  readonly file: OpenFile | null
  /** bytes */
  readonly offset: number
}

/**
 * mmap(2). The checks run in the kernel's order; the first that fails decides.
 * @returns the address, or -errno
 * @rule R-AS-10
 */
export function* mmap(k: Kernel, mm: Mm, request: MmapRequest): Kthread<number> {
  const { flags } = request
  let { file } = request
  let length = asWord(request.length)
  const offset = asWord(request.offset)
  if (!isPageAligned(offset)) {
    // @rule R-AS-10.1
    return refuse(k.current, EINVAL, 'R-AS-10.1', { why: 'the offset is not page aligned' })
  }
  let own: OpenFile | null = null
  if ((flags & MAP_ANONYMOUS) !== 0) {
    // @rule R-AS-14
    file = null
    if ((flags & MAP_HUGETLB) !== 0) {
      const size = hugePageSize(flags)
      if (size === 0) return unsupportedHugeSize(k)
      length = Math.ceil(length / size) * size + 0
      own = hugetlbFileSetup(k, {
        size: length,
        pageSize: size,
        name: '/anon_hugepage (deleted)',
        noreserve: true,
      })
      file = own
    }
  } else if (file === null) {
    // @rule R-AS-10.2
    return refuse(k.current, EBADF, 'R-AS-10.2', { why: 'the file descriptor is not open' })
  } else if (file.mapping.kind.hugetlb) {
    const { pageSize } = file.mapping
    length = Math.ceil(length / pageSize) * pageSize + 0
  } else if ((flags & MAP_HUGETLB) !== 0) {
    // @rule R-AS-10.3
    return refuse(k.current, EINVAL, 'R-AS-10.3', { why: 'MAP_HUGETLB with a file that has no huge pages' })
  }
  const guard = tryWriteNow(k, mm) ?? (yield* lockForWrite(k, mm))
  if (typeof guard === 'number') {
    own?.put()
    return guard
  }
  const { addr, prot } = request
  const pgoff = own === null ? offset / PAGE_SIZE : 0
  const address = yield* doMmap(k, guard, { addr, length, prot, flags, file, pgoff })
  // what was asked for at mmap time, even where the VMA could not keep VM_LOCKED (R-AS-56)
  const populate =
    address >= 0 &&
    ((flags & MAP_LOCKED) !== 0 ||
      (mm.defFlags & VM_LOCKED) !== 0 ||
      (flags & (MAP_POPULATE | MAP_NONBLOCK)) === MAP_POPULATE)
  const changes = takeChanges(mm)
  guard.release()
  own?.put()
  yield* tellChanges(k, changes)
  // @rule R-AS-55
  if (populate) yield* mmPopulate(k, mm, address, alignUp(length), true)
  return address
}

/** A mapping that is to be made under a lock held already. */
export interface MappingRequest {
  readonly addr: number
  /** bytes, whole huge pages for hugetlb files */
  readonly length: number
  readonly prot: number
  readonly flags: number
  readonly file: OpenFile | null
  /** pages */
  readonly pgoff: number
}

/**
 * `do_mmap`: steps 6 to 27 of mmap(2). The lock stays held; populating is the caller's.
 * @returns the address, or -errno
 * @rule R-AS-10
 * @rule R-AS-11
 * @rule R-AS-13
 */
export function* doMmap(k: Kernel, guard: MmapWriteGuard, request: MappingRequest): Kthread<number> {
  const { mm } = guard
  const { length, flags, file, pgoff } = request
  const prot = impliedProt(k, request.prot, file)
  const len = alignUp(length)
  const address = place(k, guard, request.addr, length, flags, file, pgoff)
  if (address < 0) return address
  const vmFlags = mappingFlags(k, mm, prot, flags, file, pgoff, len / PAGE_SIZE)
  if (vmFlags < 0) return vmFlags
  const tagged = mteFlag(k, prot, file)
  if (tagged < 0) return tagged
  const droppable = (flags & MAP_TYPE) === MAP_DROPPABLE && file === null ? VMH_DROPPABLE : 0
  const highFlags = droppable | tagged
  const index = file !== null ? pgoff : (vmFlags & VM_SHARED) !== 0 ? 0 : address / PAGE_SIZE
  const replaced = isFixed(flags) ? firstOverlapping(guard.vmas, address, address + len) : null
  const mapped =
    replaced === null
      ? mapFreeRange(k, guard, address, len, vmFlags, highFlags, index, file)
      : yield* mapOverRange(k, guard, replaced, address, len, vmFlags, highFlags, index, file)
  if (mm.uprobeWork !== null) yield* finishUprobes(k, guard)
  return mapped
}

/**
 * personality READ_IMPLIES_EXEC: readable memory can be executed, where the mount of a file permits it.
 * @rule R-AS-7
 */
function impliedProt(k: Kernel, prot: number, file: OpenFile | null): number {
  if ((prot & PROT_READ) === 0 || !readImpliesExec(k.current)) return prot
  return file !== null && file.mapping.noexec ? prot : prot | PROT_EXEC
}

/** @rule R-AS-10.4 */
function hugePageSize(flags: number): number {
  const log2 = (flags >>> MAP_HUGE_SHIFT) & 63
  if (log2 === 0 || log2 === 21) return 2 ** 21
  return log2 === 30 ? 2 ** 30 : 0
}

function unsupportedHugeSize(k: Kernel): number {
  return refuse(k.current, EINVAL, 'R-AS-10.4', {
    why: 'this machine has no huge pages of the size in the flags',
  })
}

function isFixed(flags: number): boolean {
  return (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) !== 0
}

/**
 * Steps 6 to 12: where the mapping goes.
 * @param length bytes, not yet rounded to pages
 * @param pgoff pages
 * @returns an address or -errno
 * @rule R-AS-31
 */
function place(
  k: Kernel,
  guard: MmapWriteGuard,
  addr: number,
  length: number,
  flags: number,
  file: OpenFile | null,
  pgoff: number,
): number {
  const { mm, vmas } = guard
  // @rule R-AS-10.6
  if (length === 0) return refuse(k.current, EINVAL, 'R-AS-10.6', { why: 'the length is zero' })
  const fixed = isFixed(flags)
  const len = alignUp(length)
  // @rule R-AS-10.8
  if (len === 0)
    return refuse(k.current, ENOMEM, 'R-AS-10.8', { why: 'the length wraps when rounded up to pages' })
  if (mm.mapCount > k.settings.maxMapCount) {
    // @rule R-AS-10.10
    return refuse(k.current, ENOMEM, 'R-AS-10.10', {
      used: mm.mapCount,
      limit: k.settings.maxMapCount,
      why: 'the process has more mappings than vm.max_map_count',
    })
  }
  // @rule R-AS-10.7
  const hint = fixed ? asWord(addr) : addr === 0 ? 0 : roundHint(k, asWord(addr))
  const address = getUnmappedArea(k, mm, vmas, hint, len, pgoff, fixed ? flags | MAP_FIXED : flags, file)
  if (address < 0 || (flags & MAP_FIXED_NOREPLACE) === 0) return address
  const there = firstOverlapping(vmas, address, address + len)
  if (there === null) return address
  // @rule R-AS-10.12
  return refuse(k.current, EEXIST, 'R-AS-10.12', {
    address,
    vma: vmaFacts(there),
    why: 'something is mapped there already',
  })
}

/**
 * Steps 13 to 26: what the mapping may be.
 * @param pages length
 * @returns VM_* (bit 31 is never among them) or -errno
 */
function mappingFlags(
  k: Kernel,
  mm: Mm,
  prot: number,
  flags: number,
  file: OpenFile | null,
  pgoff: number,
  pages: number,
): number {
  let vmFlags = VM_MAY_ALL | mm.defFlags | protFlags(prot)
  if ((flags & (MAP_GROWSDOWN | MAP_LOCKED | MAP_SYNC | MAP_STACK)) !== 0) {
    if ((flags & MAP_GROWSDOWN) !== 0) vmFlags |= VM_GROWSDOWN
    // @rule R-AS-23
    if ((flags & MAP_SYNC) !== 0) vmFlags |= VM_SYNC
    // @rule R-AS-17
    if ((flags & MAP_STACK) !== 0 && k.release.mm.alignsAnonymousForThp) vmFlags |= VM_NOHUGEPAGE
    if ((flags & MAP_LOCKED) !== 0) {
      // @rule R-AS-19
      vmFlags |= VM_LOCKED
      const error = canDoMlock(k)
      if (error < 0) return error
    }
  }
  if ((vmFlags & VM_LOCKED) !== 0) {
    const error = mlockFutureOk(k, mm, vmFlags, pages)
    if (error < 0) return error
  }
  vmFlags =
    file === null ? anonymousFlags(k, vmFlags, flags) : fileFlags(k, vmFlags, flags, prot, file, pgoff, pages)
  if (vmFlags < 0 || (flags & MAP_NORESERVE) === 0) return vmFlags
  const reserves = k.settings.overcommit === 'never' && (file === null || !file.mapping.kind.hugetlb)
  return reserves ? vmFlags : vmFlags | VM_NORESERVE
}

/**
 * `calc_vm_prot_bits`. PROT_READ, WRITE and EXEC are the low three VM_ bits.
 * @rule R-AS-7
 */
function protFlags(prot: number): number {
  return prot & (PROT_READ | PROT_WRITE | PROT_EXEC)
}
