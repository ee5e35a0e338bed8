import type { Kthread } from '../../base/kthread.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { MTE_GRANULES_PER_PAGE, MTE_GRANULE_SIZE } from '../../memory/tags.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import { vmaLookup } from '../../mm/mmap-lock.ts'
import { accessUser, presentPfn, type AccessResult } from '../../mm/user-access.ts'
import { VMH_MTE } from '../../mm/vm-flags.ts'

/**
 * STG, granule after granule: the program tags its memory. It is a write like any other; memory without PROT_MTE has
 * no tags and ignores it.
 * @param address of the first granule
 * @param tags one for each granule of 16 bytes
 * @returns ok, or the signal; tags of the pages before it are set then
 * @rule R-MTE-11
 */
export function stg(k: Kernel, mm: Mm, address: number, tags: Uint8Array): Kthread<AccessResult> {
  return eachPage(k, mm, address, tags, true)
}

/** LDG, granule after granule: tags are read into `into`. Memory without PROT_MTE reads as tag 0. */
export function ldg(k: Kernel, mm: Mm, address: number, into: Uint8Array): Kthread<AccessResult> {
  return eachPage(k, mm, address, into, false)
}

function* eachPage(
  k: Kernel,
  mm: Mm,
  address: number,
  tags: Uint8Array,
  write: boolean,
): Kthread<AccessResult> {
  const store = k.memory.contents.tags
  for (let done = 0; done < tags.length;) {
    const at = address + done * MTE_GRANULE_SIZE
    const granule = Math.floor((at % PAGE_SIZE) / MTE_GRANULE_SIZE)
    const part = tags.subarray(done, done + MTE_GRANULES_PER_PAGE - granule)
    const result = yield* accessUser(k, mm, at, write)
    if (!result.ok) return result
    if (!(yield* hasTags(mm, at))) {
      if (!write) part.fill(0)
    } else if (write) store.write(presentPfn(mm, at), granule, part)
    else store.read(presentPfn(mm, at), granule, part)
    done += part.length
  }
  return { ok: true }
}

/** What the page table entry would say: the mapping has PROT_MTE. */
function* hasTags(mm: Mm, address: number): Kthread<boolean> {
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  const vma = vmaLookup(guard, address)
  const tagged = vma !== null && (vma.highFlags & VMH_MTE) !== 0
  guard.release()
  return tagged
}
