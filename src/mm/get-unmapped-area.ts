import { EINVAL, ENOMEM, EPERM } from '../base/errno.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, PMD_SIZE, TASK_SIZE } from '../base/units.ts'
import type { OpenFile } from './file.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import { MAP_32BIT, MAP_FIXED, MAP_SHARED } from './mman.ts'
import { alignUp, isPageAligned } from './user-range.ts'
import type { VmaTree } from './vma-tree.ts'

/** where MAP_32BIT mappings go (R-AS-36) */
const LOW_START = 0x40000000
const LOW_END = 0x80000000
/** results from here to -1 are errors */
const MAX_ERRNO = 4095

/**
 * `get_unmapped_area`: where a mapping goes.
 * @param hint page aligned word (rounded by `roundHint`), or the address itself with MAP_FIXED
 * @param len bytes, whole pages
 * @param pgoff pages; decides the alignment of files
 * @returns an address, or -ENOMEM, -EINVAL, -EPERM
 * @rule R-AS-10
 */
export function getUnmappedArea(
  k: Kernel,
  mm: Mm,
  vmas: VmaTree,
  hint: number,
  len: number,
  pgoff: number,
  flags: number,
  file: OpenFile | null,
): number {
  // @rule R-AS-10.11
  if (len < 0 || len > TASK_SIZE) return noRoom(k, 'the length is larger than the address space')
  if (file !== null && file.mapping.kind.kernelChoosesAddress === true && hint !== 0) {
    // @rule R-AS-42
    return refuse(k.current, EINVAL, 'R-AS-42', {
      address: hint,
      why: 'the kernel chooses the address of this file',
    })
  }
  const hugetlb = file !== null && file.mapping.kind.hugetlb
  // mmap(2) has rounded the length; remap_file_pages(2) has not
  if (hugetlb && !isMultiple(len, file.mapping.pageSize)) {
    return refuse(k.current, EINVAL, 'R-AS-41', { why: 'the length is not a multiple of the huge page size' })
  }
  let address: number
  if ((flags & MAP_FIXED) !== 0) {
    address = hint
    // @rule R-AS-12
    if (hugetlb && !isMultiple(hint, file.mapping.pageSize)) {
      return refuse(k.current, EINVAL, 'R-AS-12', {
        address,
        why: 'the fixed address is not huge page aligned',
      })
    }
    // the address that was asked for looks like an error already
    if (address < 0 && address >= -MAX_ERRNO) {
      return refuse(k.current, -address, 'R-AS-12', {
        address,
        why: 'the fixed address lies in the last page',
      })
    }
  } else {
    address = hugetlb
      ? searchHugetlb(k, mm, vmas, hint, len, flags, file.mapping.pageSize)
      : choose(k, mm, vmas, hint, len, pgoff, flags, file)
    if (address < 0) return noRoom(k, 'no hole in the address space is large enough')
  }
  // the upper half of the 64-bit space is negative here
  if (address < 0 || address > TASK_SIZE - len) return noRoom(k, 'the range ends above user space')
  if (!isPageAligned(address)) {
    return refuse(k.current, EINVAL, 'R-AS-10.11', { address, why: 'the fixed address is not page aligned' })
  }
  if (address < k.settings.dacMmapMinAddr && !k.current.capable('CAP_SYS_RAWIO')) {
    return refuse(k.current, EPERM, 'R-AS-10.11', {
      address,
      limit: k.settings.dacMmapMinAddr,
      why: 'the address is below vm.mmap_min_addr and CAP_SYS_RAWIO is missing',
    })
  }
  return address
}

function noRoom(k: Kernel, why: string): number {
  return refuse(k.current, ENOMEM, 'R-AS-10.11', { why })
}

/**
 * `round_hint_to_min`.
 * @rule R-AS-45
 */
export function roundHint(k: Kernel, hint: number): number {
  const rounded = Math.floor(hint / PAGE_SIZE) * PAGE_SIZE
  if (rounded > 0 && rounded < k.settings.mmapMinAddr) return alignUp(k.settings.mmapMinAddr)
  return rounded
}

/** An address for anything but hugetlb, or -1. */
function choose(
  k: Kernel,
  mm: Mm,
  vmas: VmaTree,
  hint: number,
  len: number,
  pgoff: number,
  flags: number,
  file: OpenFile | null,
): number {
  if (len < PMD_SIZE) return search(k, mm, vmas, hint, len, flags)
  const { mm: switches } = k.release
  const shared = (flags & MAP_SHARED) !== 0
  if (file === null || (file.mapping.kind.anonymousWhenPrivate && !shared)) {
    // @rule R-AS-37
    const aligns = switches.alignsAnonymousForThp && !shared && hint === 0 && isMultiple(len, PMD_SIZE)
    return aligns ? searchThp(k, mm, vmas, hint, len, 0, flags) : search(k, mm, vmas, hint, len, flags)
  }
  const { kind } = file.mapping
  // @rule R-AS-38
  const wanted =
    kind.thpAligned ||
    (switches.alignsPlainFilesForThp && !kind.shmem && hint === 0 && isMultiple(len, PMD_SIZE))
  const offset = pgoff * PAGE_SIZE
  // @rule R-AS-39
  if (wanted && offset + len - Math.ceil(offset / PMD_SIZE) * PMD_SIZE >= PMD_SIZE) {
    return searchThp(k, mm, vmas, hint, len, offset, flags)
  }
  return search(k, mm, vmas, hint, len, flags)
}

/**
 * The search of the kernel's default method: the hint when it is free, else by layout.
 * @returns an address, or -1
 */
function search(k: Kernel, mm: Mm, vmas: VmaTree, hint: number, len: number, flags: number): number {
  if (hint !== 0 && isFree(vmas, hint, len, flags)) return hint
  // @rule R-AS-36
  if ((flags & MAP_32BIT) !== 0) return vmas.lowestGap(len, LOW_START, LOW_END)
  if (!mm.legacyLayout) {
    // @rule R-AS-34
    const low = k.settings.mmapMinAddr > PAGE_SIZE ? k.settings.mmapMinAddr : PAGE_SIZE
    const address = vmas.highestGap(len, low, mm.mmapBase)
    if (address >= 0) return address
  }
  // @rule R-AS-30
  return vmas.lowestGap(len, mm.mmapLegacyBase, TASK_SIZE)
}

/**
 * May the hint be used as it is? The VMA above keeps its guard gap, the one below imposes nothing.
 * @rule R-AS-32
 */
function isFree(vmas: VmaTree, hint: number, len: number, flags: number): boolean {
  const limit = (flags & MAP_32BIT) !== 0 ? LOW_END : TASK_SIZE
  if (hint < 0 || hint + len > limit) return false
  const above = vmas.find(hint)
  return above === null || hint + len <= vmas.guardedStart(above)
}

/**
 * Searches `len` plus a huge page and picks inside it an address congruent to the file offset.
 * @param offset bytes
 * @rule R-AS-35
 */
function searchThp(
  k: Kernel,
  mm: Mm,
  vmas: VmaTree,
  hint: number,
  len: number,
  offset: number,
  flags: number,
): number {
  const found = search(k, mm, vmas, hint, len + PMD_SIZE, flags)
  if (found < 0) return search(k, mm, vmas, hint, len, flags)
  if (hint !== 0 && found === hint) return hint
  const shift = modulo(offset - found, PMD_SIZE)
  if (shift !== 0) return found + shift
  return mm.legacyLayout || k.release.mm.thpFileAlignTakesLower ? found : found + PMD_SIZE
}

/**
 * @param size bytes of a huge page
 * @rule R-AS-41
 */
function searchHugetlb(
  k: Kernel,
  mm: Mm,
  vmas: VmaTree,
  hint: number,
  len: number,
  flags: number,
  size: number,
): number {
  const pages = hint / size
  const rounded = (k.release.mm.hugetlbHintRoundsUp ? Math.ceil(pages) : Math.floor(pages)) * size
  if (rounded > 0 && isFree(vmas, rounded, len, flags)) return rounded
  const slack = size - PAGE_SIZE
  if ((flags & MAP_32BIT) === 0 && !mm.legacyLayout) {
    const low = Math.max(PAGE_SIZE, k.settings.mmapMinAddr)
    const address = vmas.highestGap(len, low, mm.mmapBase, slack)
    if (address >= 0) return Math.floor(address / size) * size
  }
  const is32 = (flags & MAP_32BIT) !== 0
  const bottom = vmas.lowestGap(len, is32 ? LOW_START : mm.mmapLegacyBase, is32 ? LOW_END : TASK_SIZE, slack)
  return bottom < 0 ? -1 : Math.ceil(bottom / size) * size
}

function isMultiple(value: number, of: number): boolean {
  return Math.floor(value / of) * of === value
}

function modulo(value: number, by: number): number {
  return value - Math.floor(value / by) * by
}
