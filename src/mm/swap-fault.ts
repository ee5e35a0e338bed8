import { PG_ANON_EXCLUSIVE, PG_KSM, PG_LOCKED } from '../memory/page-flags.ts'
import { FAULT_FLAG_UNSHARE, FAULT_FLAG_WRITE, VM_FAULT_MAJOR } from './fault-flags.ts'
import { outOfMemory } from './fault-refusal.ts'
import { NEEDS_UNLOCKED } from './fault-sleep.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { maybeWrite, vmPageProt, awaitsSoftDirty, written } from './page-prot.ts'
import {
  PTE_ACCESSED,
  PTE_SWAP,
  PTE_SWAP_EXCLUSIVE,
  PTE_UFFD_WP,
  pteSlot,
  type Leaf,
  PTE_SOFT_CLEAN,
} from './page-table.ts'
import { addNewAnonPage, anonVmaPrepare } from './rmap.ts'
import { VM_LOCKED } from './vm-flags.ts'
import type { Vma } from './vma.ts'
import { doWpPage } from './wp-fault.ts'

/**
 * `do_swap_page`: brings a swapped page back.
 * @returns VM_FAULT_*, or NEEDS_UNLOCKED: the page in the swap cache is being moved
 * @rule R-FLT-52
 * @rule R-FLT-53
 */
export function doSwapPage(
  k: Kernel,
  mm: Mm,
  vma: Vma,
  address: number,
  leaf: Leaf,
  faultFlags: number,
): number {
  const { memory, swap } = k
  const { frames } = memory
  const slot = pteSlot(address)
  const entry = leaf.pfn[slot]!
  const entryBits = leaf.bits[slot]!
  const write = (faultFlags & FAULT_FLAG_WRITE) !== 0
  let exclusive = (entryBits & PTE_SWAP_EXCLUSIVE) !== 0
  let code = 0
  let pfn = swap.cached(entry)
  const cached = pfn !== 0
  if (cached && frames.has(pfn, PG_LOCKED)) return NEEDS_UNLOCKED
  anonVmaPrepare(k, vma, mm)
  if (!cached) {
    pfn = memory.allocFolio(0, { movable: !k.current.memallocPin })
    if (pfn === 0) return outOfMemory(k, 'R-FLT-52', vma, address)
    swap.read(entry, pfn)
    // the only entry of a slot reads past the swap cache and owns the page
    if (swap.count(entry) === 1) exclusive = true
    else swap.addToCache(entry, pfn)
    code = VM_FAULT_MAJOR
  } else {
    memory.get(pfn)
  }
  if (frames.mapcount[pfn] === 0) {
    addNewAnonPage(k, mm, vma, address, pfn)
    frames.clear(pfn, PG_ANON_EXCLUSIVE)
  } else {
    frames.mapcount[pfn]!++
    mm.rssAnon++
  }
  mm.swapents--
  swap.free(entry)
  const merged = frames.has(pfn, PG_KSM)
  if (swap.full || (vma.flags & VM_LOCKED) !== 0 || (write && !merged && frames.refcount[pfn] === 2))
    swap.freeCache(pfn)
  if (merged) exclusive = false
  else if (exclusive || frames.refcount[pfn] === 1) {
    exclusive = true
    frames.set(pfn, PG_ANON_EXCLUSIVE)
  }
  let bits = vmPageProt(vma) | PTE_ACCESSED | (entryBits & (PTE_UFFD_WP | PTE_SOFT_CLEAN))
  if (exclusive && write) bits = written(vma, bits)
  else if (
    exclusive &&
    k.release.fault.swapInReadWritable &&
    (bits & PTE_UFFD_WP) === 0 &&
    !awaitsSoftDirty(vma, bits)
  )
    bits |= maybeWrite(vma)
  leaf.set(slot, pfn, bits)
  if (write && !exclusive) code |= doWpPage(k, mm, vma, address, leaf, faultFlags & ~FAULT_FLAG_UNSHARE)
  return code
}

/**
 * Puts a swap entry where nothing is mapped, as if the page had been swapped out; the VMA must have an
 * anon_vma. Rebuilds the page tables of a snapshot.
 * @param options `exclusive`: the page was exclusive; `bytes`: its content, null for zeros or not known
 */
export function installSwapEntry(
  k: Kernel,
  mm: Mm,
  address: number,
  options: { exclusive: boolean; bytes?: Uint8Array | null },
): void {
  const slot = k.swap.allocate(options.bytes ?? null)
  const bits = PTE_SWAP | (options.exclusive ? PTE_SWAP_EXCLUSIVE : 0)
  mm.pageTable.leafFor(address).set(pteSlot(address), slot, bits)
  mm.swapents++
}
