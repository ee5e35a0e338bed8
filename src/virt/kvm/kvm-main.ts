import { EHWPOISON, EINTR } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import { PG_RESERVED } from '../../memory/page-flags.ts'
import { FAULT_FLAG_WRITE } from '../../mm/fault-flags.ts'
import {
  FOLL_HONOR_NUMA_FAULT,
  FOLL_HWPOISON,
  FOLL_INTERRUPTIBLE,
  FOLL_NOWAIT,
  FOLL_WRITE,
} from '../../mm/gup-flags.ts'
import {
  LockedGuard,
  PageArray,
  fixupUserFault,
  getUserPages,
  getUserPagesFastOnly,
  getUserPagesUnlocked,
} from '../../mm/gup.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { vmaLookup, type MmapReadGuard } from '../../mm/mmap-lock.ts'
import { Leaf, PTE_PRESENT, PTE_WRITE, pmdIndex, pteSlot } from '../../mm/page-table.ts'
import { putPage } from '../../mm/unpin.ts'
import { VM_IO, VM_PFNMAP, VM_READ, VM_WRITE } from '../../mm/vm-flags.ts'

/*
 * @caller KVM guest memory
 * @entry KVM_RUN, behind KVM_SET_USER_MEMORY_REGION
 * @gup get_user_pages_fast_only FOLL_WRITE, then get_user_pages_unlocked FOLL_HWPOISON and FOLL_WRITE for a write; get_user_pages to probe for poison; fixup_user_fault for raw mappings
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

/** A page frame with one FOLL_GET reference if it has a counted page, or why there is none. */
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
 * tables hold the frame (`kvmReleasePfn`); no pin counters move.
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
  if ((flags & (VM_IO | VM_PFNMAP)) !== 0) return yield* remapped(k, guard, hva, writeFault)
  guard.release()
  const permitted = (flags & (writeFault ? VM_WRITE : VM_READ)) !== 0
  return failed('fault', allowAsync && permitted)
}

/**
 * `hva_to_pfn_remapped`: a raw mapping, where the entry says which frame it is. Faulted in once, and begun again when
 * the fault let go of the lock. Takes the guard over.
 * @rule R-KVM-5
 */
function* remapped(k: Kernel, guard: MmapReadGuard, hva: number, writeFault: boolean): Kthread<HvaResult> {
  const { mm } = guard
  const lock = new LockedGuard(guard)
  let result: HvaResult | null = null
  while (result === null) {
    const held = lock.guard!
    const vma = vmaLookup(held, hva)
    if (vma === null || (vma.flags & (VM_IO | VM_PFNMAP)) === 0) {
      result = failed('fault')
      break
    }
    let entry = entryAt(mm, hva)
    if (entry === null) {
      const error = yield* fixupUserFault(k, mm, hva, writeFault ? FAULT_FLAG_WRITE : 0, lock)
      if (error < 0) result = failed('fault')
      else if (lock.guard === held) entry = entryAt(mm, hva)
      else continue
    }
    if (result === null) result = entry === null ? failed('fault') : takeFrame(k, entry, writeFault)
  }
  lock.guard?.release()
  return result
}

function entryAt(mm: Mm, hva: number): { pfn: number; writable: boolean } | null {
  const entry = mm.pageTable.pmd(pmdIndex(hva))
  if (!(entry instanceof Leaf)) return null
  const bits = entry.bits[pteSlot(hva)]!
  if ((bits & PTE_PRESENT) === 0) return null
  return { pfn: entry.pfn[pteSlot(hva)]!, writable: (bits & PTE_WRITE) !== 0 }
}

/** A frame that has a counted page gets a reference like any other; a device's has none. */
function takeFrame(k: Kernel, entry: { pfn: number; writable: boolean }, writeFault: boolean): HvaResult {
  if (writeFault && !entry.writable) return failed('ro-fault')
  if (isCounted(k, entry.pfn)) {
    const { frames } = k.memory
    if (frames.refcount[frames.head(entry.pfn)] === 0) return failed('fault')
    k.memory.get(entry.pfn)
  }
  return entry
}

function isCounted(k: Kernel, pfn: number): boolean {
  if (!k.memory.io.isMemory(pfn)) return false
  return pfn === k.zeroPfn || !k.memory.frames.has(pfn, PG_RESERVED)
}

/**
 * `kvm_release_pfn_clean`: the guest's page tables hold the frame.
 * @rule R-KVM-6
 */
export function kvmReleasePfn(k: Kernel, pfn: number): void {
  if (isCounted(k, pfn)) putPage(k, pfn)
}

/**
 * `check_user_page_hwpoison`: asks GUP once more, without wanting the page. May fault it in.
 * @rule R-KVM-4
 */
function* checkUserPageHwpoison(k: Kernel, guard: MmapReadGuard, hva: number): Kthread<boolean> {
  if (!k.release.kvm.probesHwpoison) return false
  return (yield* getUserPages(k, guard, hva, 1, FOLL_HWPOISON | FOLL_WRITE, null)) === -EHWPOISON
}
