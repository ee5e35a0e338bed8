import { PAGE_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { unwatched } from './mmap-lock.ts'
import { maybeWrite, vmPageProt } from './page-prot.ts'
import { Leaf, PTE_ACCESSED, PTE_DIRTY, pmdIndex, pteSlot } from './page-table.ts'
import { anonVmaPrepare, newAnonFlags } from './rmap.ts'
import { thpAllowed } from './thp-fault.ts'
import { VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE } from './vm-flags.ts'
import type { Vma } from './vma.ts'

const fresh = new Int32Array(PTRS_PER_PTE)

/**
 * Write faults on a run of empty entries of anonymous memory, all at once: what so many faults one by one would do,
 * where none of them could sleep, fail or be told to anybody. Needs `mmap_lock` for read.
 * @param limit most pages
 * @returns pages faulted in; 0: a fault has to be taken in the ordinary way
 * @rule R-FLT-35
 */
export function faultinAnonRun(k: Kernel, mm: Mm, maybeWatched: Vma, address: number, limit: number): number {
  if (k.exploring || k.dueFailure !== null || k.memory.failAllocation !== null) return 0
  const vma = unwatched(maybeWatched)
  const { flags } = vma
  if (!vma.isAnonymous || (flags & (VM_WRITE | VM_UFFD_MISSING | VM_UFFD_WP)) !== VM_WRITE) return 0
  const index = pmdIndex(address)
  const entry = mm.pageTable.pmd(index)
  if (entry === null ? thpAllowed(k, vma, address) : !(entry instanceof Leaf)) return 0
  const slot = pteSlot(address)
  const most = Math.min(limit, PTRS_PER_PTE - slot, (vma.end - address) / PAGE_SIZE)
  const leaf = mm.pageTable.leafFor(address)
  let run = 0
  while (run < most && leaf.bits[slot + run] === 0) run++
  if (run === 0) return 0
  anonVmaPrepare(k, vma, mm)
  run = k.memory.allocPages(fresh, 0, run, { movable: !k.current.memallocPin })
  const { frames } = k.memory
  const { flags: words, mapping, index: indices, mapcount } = frames
  const word = newAnonFlags(vma)
  const owner = vma.anonVma!.id
  const first = vma.pageIndex(address)
  const bits = vmPageProt(vma) | PTE_ACCESSED | PTE_DIRTY | maybeWrite(vma)
  for (let i = 0; i < run; i++) {
    const pfn = fresh[i]!
    words[pfn]! |= word
    mapping[pfn] = owner
    indices[pfn] = first + i
    mapcount[pfn] = 1
    leaf.pfn[slot + i] = pfn
    leaf.bits[slot + i] = bits
  }
  leaf.used += run
  mm.rssAnon += run
  k.pgfault += run
  k.current.minFlt = (k.current.minFlt ?? 0) + run
  return run
}
