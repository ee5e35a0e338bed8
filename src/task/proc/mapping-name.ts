import type { Kernel } from '../../mm/kernel.ts'
import type { Mm } from '../../mm/mm.ts'
import type { Vma } from '../../mm/vma.ts'

/**
 * What the last column of /proc/PID/maps says about a mapping; '' for nothing.
 * @rule R-AS-161
 */
export function mappingName(k: Kernel, mm: Mm, vma: Vma): string {
  if (vma.file !== null) {
    if (vma.anonName !== null) return `[anon_shmem:${vma.anonName}]`
    return vma.file.path.replaceAll('\n', '\\012')
  }
  if (vma.specialName !== null) return vma.specialName
  if (isHeap(k, mm, vma)) return '[heap]'
  if (vma.start <= mm.startStack && vma.end >= mm.startStack && mm.startStack > 0) return '[stack]'
  return vma.anonName === null ? '' : `[anon:${vma.anonName}]`
}

/** `vma_is_initial_heap`: older releases count what only touches the heap. */
function isHeap(k: Kernel, mm: Mm, vma: Vma): boolean {
  return k.release.mm.heapLabelStrict
    ? vma.start < mm.brk && vma.end > mm.startBrk
    : vma.start <= mm.brk && vma.end >= mm.startBrk
}
