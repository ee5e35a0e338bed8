import { ENOMEM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PMD_SIZE, PTRS_PER_PTE, PAGE_SIZE } from '../base/units.ts'
import { VM_FAULT_OOM } from './fault-flags.ts'
import type { Kernel } from './kernel.ts'
import { waitForMigration } from './migration-entry.ts'
import type { Mm } from './mm.ts'
import { Leaf, PTE_SWAP } from './page-table.ts'
import { shmemSwapIn } from './shmem-swap.ts'
import { doSwapPage } from './swap-fault.ts'

/**
 * swapoff(2): nothing more is swapped out, and everything that is comes back: memory files into their caches,
 * page-table entries as a read would bring them back.
 * @returns 0, -ENOMEM (what is back stays, there is no room for more afterwards)
 * @rule R-FLT-94
 */
export function* swapoff(k: Kernel): Kthread<number> {
  k.swap.close()
  for (const mapping of k.mappings.values()) {
    for (const index of mapping.swapped.keys()) {
      if (shmemSwapIn(k, mapping, index) === 0) return outOfMemory(k)
    }
  }
  for (const mm of k.mms) {
    if (k.exploring) yield PREEMPT
    if (mm.swapents > 0 && !(yield* unuseMm(k, mm))) return outOfMemory(k)
  }
  k.swap.dropCache()
  return 0
}

function outOfMemory(k: Kernel): number {
  return refuse(k.current, ENOMEM, 'R-FLT-94', { why: 'memory ran out while pages were swapped in' })
}

/** `unuse_mm`. @returns false when memory ran out */
function* unuseMm(k: Kernel, mm: Mm): Kthread<boolean> {
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  const { pageTable } = mm
  let enough = true
  for (let i = pageTable.nextPmd(0, 2 ** 26); i >= 0 && enough; i = pageTable.nextPmd(i + 1, 2 ** 26)) {
    const leaf = pageTable.pmd(i)
    if (!(leaf instanceof Leaf)) continue
    for (let slot = 0; slot < PTRS_PER_PTE && enough; slot++) {
      if ((leaf.bits[slot]! & PTE_SWAP) === 0) continue
      const address = i * PMD_SIZE + slot * PAGE_SIZE
      const vma = guard.vmas.find(address)!
      const code = doSwapPage(k, mm, vma, address, leaf, 0)
      if (code < 0) {
        yield* waitForMigration(k)
        slot--
      } else enough = (code & VM_FAULT_OOM) === 0
    }
  }
  guard.release()
  return enough
}
