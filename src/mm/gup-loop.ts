import { EAGAIN, EBUSY, EFAULT, EINTR, EINVAL, EMLINK, ENOMEM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { OpenFile } from './file.ts'
import { faultinAnonRun } from './anon-run.ts'
import { checkVmaFlags } from './gup-check-vma.ts'
import { faultinPage } from './gup-faultin.ts'
import {
  FOLL_DUMP,
  FOLL_GET,
  FOLL_INTERRUPTIBLE,
  FOLL_MADV_POPULATE,
  FOLL_NOFAULT,
  FOLL_NOWAIT,
  FOLL_PIN,
  FOLL_TRIED,
  FOLL_UNLOCKABLE,
  FOLL_WRITE,
} from './gup-flags.ts'
import { FOLLOW_FAULT, followRun, type GupCall } from './gup-follow.ts'
import type { MmapReadGuard } from './mmap-lock.ts'
import { populateVmaPageRange } from './populate.ts'
import { expandStack } from './stack.ts'
import { VM_GROWSDOWN, VM_LOCKED } from './vm-flags.ts'
import { vmaFacts, type Vma } from './vma.ts'

/** A fault that keeps answering "look again" without the page appearing is a bug of the fault code. */
const MAX_FAULTS_PER_PAGE = 1000

/** the vsyscall page of x86-64, the only gate area there is; its number is exact in a double */
const VSYSCALL = 0xffffffffff600000
const STACK_WARNING_DISTANCE = 65536

/**
 * `__get_user_pages`: the inner loop. The lock is held when it starts; whether it still is when it ends
 * says `call.locked`.
 *
 * @param at index of the first page, in the request and in `call.pages`
 * @returns pages done if any, else 0 ("retry needed") or -errno
 * @rule R-GUP-38
 */
export function* getUserPagesLoop(
  call: GupCall,
  start: number,
  nrPages: number,
  flags: number,
  at: number,
): Kthread<number> {
  // @rule R-GUP-35
  if (nrPages === 0) return 0
  const { k } = call
  const writes = (flags & (FOLL_WRITE | FOLL_NOFAULT | FOLL_TRIED | FOLL_DUMP)) === FOLL_WRITE
  const separateHugetlb = k.release.gup.separateHugetlbWalk
  let done = 0
  let vma: Vma | null = null
  let reference: OpenFile | null = null
  let error = 0
  let faults = 0
  while (done < nrPages) {
    const address = start + done * PAGE_SIZE
    if (vma === null || address >= vma.end) {
      const found: Vma | number = yield* findVmaForGup(call, call.locked.guard!, address, flags, at + done)
      if (typeof found === 'number') {
        error = found
        break
      }
      vma = found
      // @rule R-GUP-17
      error = checkVmaFlags(k, vma, flags, done === 0 ? undefined : reference, address, at + done)
      if (error !== 0) {
        // @rule R-GUP-39
        if ((flags & FOLL_MADV_POPULATE) !== 0) {
          error = refuse(
            k.current,
            EINVAL,
            'R-GUP-39',
            {
              address,
              page: at + done,
              vma: vmaFacts(vma),
              why: 'the mapping cannot be populated with this access',
            },
            k.current.refusal,
          )
        }
        break
      }
      reference = vma.file
      faults = 0
    }
    // @rule R-GUP-36
    // @rule R-COM-9
    if (k.fatalSignalPending) {
      // @rule R-GUP-29
      // @rule R-HTL-1.1
      const errno = separateHugetlb && vma.isHugetlb ? EFAULT : EINTR
      error = refuse(k.current, errno, 'R-GUP-36', {
        address,
        page: at + done,
        why: 'the calling task is being killed',
      })
      break
    }
    const taken = followRun(call, vma, address, nrPages - done, flags, at + done)
    done += taken
    if (call.stop === 0) {
      if (k.exploring) yield PREEMPT
      continue
    }
    if (taken > 0) faults = 0
    if (call.stop !== FOLLOW_FAULT && call.stop !== -EMLINK) {
      error = call.stop
      break
    }
    if (call.stop === FOLLOW_FAULT && writes) {
      const here = start + done * PAGE_SIZE
      if (faultinAnonRun(k, call.mm, vma, here, nrPages - done) > 0) continue
    }
    if (++faults > MAX_FAULTS_PER_PAGE)
      throw new Unmodelled('a page that is faulted in again and again without appearing', 'R-GUP-36')
    error = yield* faultinPage(call, vma, start + done * PAGE_SIZE, flags, call.stop === -EMLINK, at + done)
    if (error === -EBUSY || error === -EAGAIN) {
      error = 0
      break
    }
    if (error !== 0) break
  }
  return done > 0 ? done : error
}

/**
 * The VMA for an address, as GUP looks it up.
 * @returns the VMA or -errno
 * @rule R-GUP-13
 */
function* findVmaForGup(
  call: GupCall,
  guard: MmapReadGuard,
  address: number,
  flags: number,
  page: number,
): Kthread<Vma | number> {
  const { k } = call
  const vma = guard.vmas.find(address)
  if (vma !== null && vma.start <= address) return vma
  if ((flags & FOLL_MADV_POPULATE) !== 0) {
    return refuse(k.current, ENOMEM, 'R-GUP-39', { address, page, why: 'nothing is mapped here' })
  }
  if (vma !== null && (vma.flags & VM_GROWSDOWN) !== 0) {
    // @rule R-PVM-10
    // @rule R-URING-33
    if (k.release.gup.expandsStack) {
      const oldStart = vma.start
      if (expandStack(k, guard, vma, address) === 0) {
        // @rule R-AS-9
        if ((vma.flags & VM_LOCKED) !== 0) yield* populateVmaPageRange(k, vma, vma.start, oldStart, guard)
        return vma
      }
      return refuse(
        k.current,
        EFAULT,
        'R-GUP-13',
        { address, page, why: 'the stack cannot be expanded down to here' },
        k.current.refusal,
      )
    }
    if (k.release.gup.warnsAboutStack && vma.start - address <= STACK_WARNING_DISTANCE) {
      const { comm, pid } = k.current
      k.warnOnce(
        'gup-stack',
        `GUP no longer grows the stack in ${comm} (${pid}): ${vma.start.toString(16)}-${vma.end.toString(16)} (${address.toString(16)})`,
      )
      return refuse(k.current, EFAULT, 'R-GUP-13', {
        address,
        page,
        why: 'below a stack, which GUP does not expand on this release',
      })
    }
  }
  // @rule R-GUP-14
  // @rule R-GAT-1
  // @rule R-GAT-2
  if (address >= VSYSCALL && address < VSYSCALL + PAGE_SIZE) {
    const why =
      (flags & FOLL_WRITE) !== 0 ? 'the vsyscall page cannot be written' : 'the vsyscall page is execute-only'
    return refuse(k.current, EFAULT, 'R-GUP-14', { address, page, why })
  }
  // @rule R-GUP-15
  return refuse(k.current, EFAULT, 'R-GUP-15', { address, page, why: 'nothing is mapped here' })
}

/**
 * `__get_user_pages_locked`: the inner loop with the lock dropped and taken again as faults demand.
 *
 * `call.locked.guard === null` on entry means the lock is to be taken here and released before return.
 * @rule R-GUP-41
 * @rule R-GUP-6
 * @rule R-GUP-53
 */
export function* getUserPagesLocked(
  call: GupCall,
  start: number,
  nrPages: number,
  callFlags: number,
  at: number,
): Kthread<number> {
  const { k, mm, locked } = call
  const { gup } = k.release
  let flags = callFlags
  // @rule R-GUP-11
  if (nrPages === 0 && gup.emptyRangeReturnsFirst) return 0
  // @rule R-GUP-42
  if ((flags & FOLL_PIN) !== 0) mm.hasPinned = true
  else if (call.pages !== null) flags |= FOLL_GET
  let mustUnlock = false
  if (locked.guard === null) {
    // 6.1's callers take the lock themselves, and only its core dump lets itself be killed meanwhile
    const killable = gup.takesLockKillably || (flags & FOLL_DUMP) !== 0
    const wait = killable ? mm.mmapLock.readKillable() : mm.mmapLock.read()
    const guard = mm.mmapLock.tryRead() ?? (yield* wait)
    if (typeof guard === 'number')
      return refuse(k.current, EAGAIN, 'R-GUP-41', {
        address: start,
        page: at,
        why: 'killed while waiting for mmap_lock',
      })
    locked.guard = guard
    mustUnlock = true
  }

  const unlockable = (flags & FOLL_UNLOCKABLE) !== 0
  let address = start
  let done = 0
  let left = nrPages
  for (;;) {
    // @rule R-GUP-43
    const result = yield* getUserPagesLoop(call, address, left, flags, at + done)
    if (!unlockable) {
      done = result
      break
    }
    if (result > 0) {
      done += result
      left -= result
      if (left === 0) break
    }
    if (locked.guard !== null) {
      if (done === 0) done = result
      break
    }
    address = start + done * PAGE_SIZE
    mustUnlock = true
    const retried = yield* retryOnePage(call, address, flags, at + done)
    if (retried !== 1) {
      if (done === 0) done = retried
      break
    }
    done++
    left--
    if (left === 0) break
    address += PAGE_SIZE
  }
  // @rule R-GUP-45
  if (mustUnlock && locked.guard !== null) {
    locked.guard.release()
    locked.guard = null
  }
  // @rule R-GUP-47
  if (done === 0 && nrPages > 0 && (flags & FOLL_NOWAIT) === 0 && gup.zeroResultIsFault) {
    k.warnOnce('gup-zero', 'get_user_pages: no page and no error')
    return refuse(k.current, EFAULT, 'R-GUP-47', { address: start, page: at, why: 'no page and no error' })
  }
  return done
}

/**
 * The page whose fault dropped the lock, until it is there or cannot be had.
 * @returns 1, or what the call ends with when it has no page yet
 * @rule R-GUP-44
 */
function* retryOnePage(call: GupCall, address: number, flags: number, at: number): Kthread<number> {
  const { k, mm, locked } = call
  for (;;) {
    const { current } = k
    if (current.fatalSignalPending || ((flags & FOLL_INTERRUPTIBLE) !== 0 && current.signalPending)) {
      return refuse(current, EINTR, 'R-GUP-44', {
        address,
        page: at,
        why: 'a signal arrived while the page was being waited for',
      })
    }
    if (k.exploring) yield PREEMPT
    const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.readKillable())
    if (typeof guard === 'number')
      return refuse(current, -guard, 'R-GUP-44', {
        address,
        page: at,
        why: 'killed while waiting for mmap_lock',
      })
    locked.guard = guard
    // @rule R-GUP-46
    const result = yield* getUserPagesLoop(call, address, 1, flags | FOLL_TRIED, at)
    if (locked.guard !== null) return result
  }
}
