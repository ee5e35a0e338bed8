import { EHWPOISON, EINTR } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { Unmodelled } from '../../base/unmodelled.ts'
import {
  FOLL_HONOR_NUMA_FAULT,
  FOLL_HWPOISON,
  FOLL_INTERRUPTIBLE,
  FOLL_NOWAIT,
  FOLL_WRITE,
} from '../../mm/gup-flags.ts'
import { PageArray, getUserPages, getUserPagesFastOnly, getUserPagesUnlocked } from '../../mm/gup.ts'
import type { Kernel } from '../../mm/kernel.ts'
import { vmaLookup, type MmapReadGuard } from '../../mm/mmap-lock.ts'
import { putPage } from '../../mm/unpin.ts'
import { VM_IO, VM_PFNMAP, VM_READ, VM_WRITE } from '../../mm/vm-flags.ts'

/*
 * @caller KVM guest memory
 * @entry KVM_RUN, behind KVM_SET_USER_MEMORY_REGION
 * @gup get_user_pages_fast_only FOLL_WRITE, then get_user_pages_unlocked FOLL_HWPOISON and FOLL_WRITE for a write; get_user_pages to probe for poison
 * @lock none held
 * @budget none
 * @errno EFAULT from KVM_RUN
 * @release the reference goes when the guest page table holds the frame
 * @test tests/virt/kvm/kvm-main.test.ts
 */

/** Why there is no page frame for a guest's access (R-KVM-2). */
export type KvmPfnError = 'fault' | 'hwpoison' | 'ro-fault' | 'sigpending'

/** What a virtual processor asks for. */
export interface HvaRequest {
  /** user address in the memory of the process that runs it */
  readonly hva: number
  readonly writeFault: boolean
  /** the caller can make use of a writable mapping although it only reads */
  readonly acceptsWritable: boolean
  /** may not sleep */
  readonly atomic?: boolean
  /** a page that is not there may be brought in by somebody else (async_pf) */
  readonly allowAsync?: boolean
  /** a signal may end the wait */
  readonly interruptible?: boolean
}

/** A page frame with one FOLL_GET reference, or why there is none. */
export type HvaResult =
  | { readonly pfn: number; readonly writable: boolean }
  | {
      readonly error: KvmPfnError
      /** the page is not there yet and may be brought in asynchronously */
      readonly async: boolean
    }

const failed = (error: KvmPfnError, async = false): HvaResult => ({ error, async })

/**
 * `hva_to_pfn`: the frame behind a guest's memory. The reference is dropped again once the guest's page
 * tables hold the frame (`kvm_release_pfn_clean`, here `putPage`); no pin counters move.
 * @rule R-KVM-3
 * @rule R-KVM-6
 */
export function* hvaToPfn(k: Kernel, request: HvaRequest): Kthread<HvaResult> {
  const { hva, writeFault, acceptsWritable, atomic = false, allowAsync = false } = request
  const page = new PageArray(1)
  if (writeFault || acceptsWritable) {
    if (getUserPagesFastOnly(k, hva, 1, FOLL_WRITE, page) === 1) return { pfn: page.pfns[0]!, writable: true }
  }
  if (atomic) return failed('fault')
  const { kvm } = k.release
  const interruptible = request.interruptible === true && kvm.interruptible
  const flags =
    FOLL_HWPOISON |
    (writeFault ? FOLL_WRITE : 0) |
    (allowAsync ? FOLL_NOWAIT : 0) |
    (interruptible ? FOLL_INTERRUPTIBLE : 0) |
    (kvm.honorsNumaFault ? FOLL_HONOR_NUMA_FAULT : 0)
  const got = yield* getUserPagesUnlocked(k, hva, 1, page, flags)
  if (got === 1) return upgrade(k, request, page.pfns[0]!)
  if (got === -EINTR && kvm.interruptible) return failed('sigpending')
  return yield* whyNot(k, request, got)
}

/** A read fault that could take more: one look whether the page is writable by now. */
function upgrade(k: Kernel, { hva, writeFault, acceptsWritable }: HvaRequest, pfn: number): HvaResult {
  if (writeFault) return { pfn, writable: true }
  const page = new PageArray(1)
  if (!acceptsWritable || getUserPagesFastOnly(k, hva, 1, FOLL_WRITE, page) !== 1)
    return { pfn, writable: false }
  putPage(k, pfn)
  return { pfn: page.pfns[0]!, writable: true }
}

/** No page: poison, device memory, or a fault; under the lock, by a look at the mapping. */
function* whyNot(k: Kernel, request: HvaRequest, got: number): Kthread<HvaResult> {
  const { hva, writeFault, allowAsync = false } = request
  const mm = k.current.mm!
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  if (got === -EHWPOISON || (!allowAsync && (yield* checkUserPageHwpoison(k, guard, hva)))) {
    guard.release()
    return failed('hwpoison')
  }
  const vma = vmaLookup(guard, hva)
  if (vma === null) {
    guard.release()
    return failed('fault')
  }
  const { flags } = vma
  guard.release()
  // @rule R-KVM-5
  if ((flags & (VM_IO | VM_PFNMAP)) !== 0)
    throw new Unmodelled('a guest page in a device or raw-PFN mapping', 'R-KVM-5')
  const permitted = (flags & (writeFault ? VM_WRITE : VM_READ)) !== 0
  return failed('fault', allowAsync && permitted)
}

/**
 * `check_user_page_hwpoison`: asks GUP once more, without wanting the page. May fault it in.
 * @rule R-KVM-4
 */
function* checkUserPageHwpoison(k: Kernel, guard: MmapReadGuard, hva: number): Kthread<boolean> {
  if (!k.release.kvm.probesHwpoison) return false
  return (yield* getUserPages(k, guard, hva, 1, FOLL_HWPOISON | FOLL_WRITE, null)) === -EHWPOISON
}
