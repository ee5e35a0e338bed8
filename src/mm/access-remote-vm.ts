import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { FOLL_WRITE } from './gup-flags.ts'
import { PG_DIRTY } from '../memory/page-flags.ts'
import { PageArray, getUserPagesRemote } from './gup.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { vmaLookup, type MmapReadGuard } from './mmap-lock.ts'
import { expandStack } from './stack.ts'
import { dirtyLock, putPage } from './unpin.ts'
import { VM_GROWSDOWN } from './vm-flags.ts'

/**
 * `access_remote_vm`: copies between a kernel buffer and somebody's memory, as ptrace and /proc/PID/mem
 * do. What was copied before the first page that fails stays copied; which error that was nobody is told.
 *
 * The posted series loses a reference here: when no VMA is found after a page was obtained, it stops
 * without putting the page (R-GUP-114), against its own promise never to fail to release. This engine keeps
 * the promise: the page is put and a warning given.
 *
 * @param buffer bytes to write, or room for bytes read; its length is the length of the transfer
 * @param flags FOLL_FORCE, FOLL_ANON; FOLL_WRITE follows from `write`
 * @returns bytes copied, never an errno
 * @rule R-GUP-98
 * @rule R-ARV-2
 * @rule R-ARV-7
 */
export function* accessRemoteVm(
  k: Kernel,
  mm: Mm,
  address: number,
  buffer: Uint8Array,
  write: boolean,
  flags: number,
): Kthread<number> {
  const { memory } = k
  const { remoteVmGrowsStack } = k.release.gup
  // @rule R-ARV-10
  const gupFlags = write ? flags | FOLL_WRITE : flags
  // @rule R-ARV-1
  const taken = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.readKillable())
  if (typeof taken === 'number') return 0
  let guard: MmapReadGuard | null = taken
  // @rule R-GAT-4
  if (remoteVmGrowsStack !== 'never' && vmaLookup(guard, address) === null) {
    guard = yield* growStack(k, mm, guard, address)
    if (guard === null) return 0
  }
  const page = new PageArray(1)
  let done = 0
  while (done < buffer.length) {
    const at = address + done
    const result: number = yield* getUserPagesRemote(k, mm, at, 1, gupFlags, page, guard)
    if (result !== 1) {
      // @rule R-ARV-3
      if (remoteVmGrowsStack === 'always' && vmaLookup(guard, at) === null) {
        guard = yield* growStack(k, mm, guard, at)
        if (guard === null) return done
        continue
      }
      const moved: number = yield* accessByDriver(k, guard, at, buffer.subarray(done), write)
      // @rule R-ARV-8
      if (moved <= 0) break
      done += moved
      continue
    }
    const pfn = page.pfns[0]!
    // @rule R-GUP-113
    // @rule R-COM-20
    // @rule R-COM-21
    // @rule R-ARV-11
    if (vmaLookup(guard, at) === null) {
      k.warnOnce('remote-vm-gone', 'no VMA after a GUP call that kept the lock')
      putPage(k, pfn)
      break
    }
    const offset = at % PAGE_SIZE
    const part = buffer.subarray(done, Math.min(buffer.length, done + PAGE_SIZE - offset))
    if (write) {
      memory.contents.write(pfn, offset, part)
      const head = memory.frames.head(pfn)
      if (!memory.frames.has(head, PG_DIRTY)) yield* dirtyLock(k, head)
    } else memory.contents.read(pfn, offset, part)
    putPage(k, pfn)
    done += part.length
  }
  guard.release()
  return done
}

/**
 * `vm_ops->access`, the last resort for memory that GUP refuses, whatever the reason: the method decides.
 * @returns bytes moved, 0 or less for none
 * @rule R-ARV-3
 * @rule R-ARV-4
 * @rule R-ARV-6
 */
function* accessByDriver(
  k: Kernel,
  guard: MmapReadGuard,
  address: number,
  buffer: Uint8Array,
  write: boolean,
): Kthread<number> {
  const vma = vmaLookup(guard, address)
  const access = vma?.file?.mapping.kind.access
  return vma === null || access === undefined ? 0 : yield* access(k, vma, address, buffer, write)
}

/**
 * `expand_stack`: trades the read lock for the write lock, grows the stack above `address` down to it and
 * comes back with a read lock.
 * @returns the new guard, or null with the lock released
 * @rule R-AS-87
 */
function* growStack(k: Kernel, mm: Mm, guard: MmapReadGuard, address: number): Kthread<MmapReadGuard | null> {
  guard.release()
  const write = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.writeKillable())
  if (typeof write === 'number') return null
  const vma = write.vmas.find(address)
  const grown =
    vma !== null &&
    (vma.start <= address || ((vma.flags & VM_GROWSDOWN) !== 0 && expandStack(k, write, vma, address) === 0))
  if (grown) return write.downgrade()
  write.release()
  return null
}
