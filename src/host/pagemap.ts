/**
 * Words of /proc/PID/pagemap, /proc/kpageflags and /proc/kpagecount: 64 bits, little endian, handled as two
 * uint32 halves because one snapshot may hold hundreds of thousands of them.
 */

/**
 * Pagemap bits 55..63, shifted down by 55 (R-PM-1, R-FLT-160).
 * @rule R-FLT-160
 */
export const PM_SOFT_DIRTY = 1 << 0
/** The page is mapped exactly once. Not PageAnonExclusive (R-FLT-162). */
export const PM_MMAP_EXCLUSIVE = 1 << 1
export const PM_UFFD_WP = 1 << 2
/** Guard marker of MADV_GUARD_INSTALL (6.18). */
export const PM_GUARD_REGION = 1 << 3
/** Not anonymous: page cache, shmem, huge zero page. */
export const PM_FILE = 1 << 6
export const PM_SWAP = 1 << 7
export const PM_PRESENT = 1 << 8

/** Bits of /proc/kpageflags (R-PM-5). Above 31 they do not fit a bit operation: use `hasKpf`. */
export const KPF_LOCKED = 0
export const KPF_DIRTY = 4
export const KPF_LRU = 5
export const KPF_SLAB = 7
export const KPF_WRITEBACK = 8
export const KPF_BUDDY = 10
export const KPF_MMAP = 11
export const KPF_ANON = 12
export const KPF_SWAPCACHE = 13
export const KPF_SWAPBACKED = 14
export const KPF_COMPOUND_HEAD = 15
export const KPF_COMPOUND_TAIL = 16
export const KPF_HUGE = 17
export const KPF_UNEVICTABLE = 18
export const KPF_HWPOISON = 19
export const KPF_NOPAGE = 20
export const KPF_KSM = 21
export const KPF_THP = 22
export const KPF_ZERO_PAGE = 24
export const KPF_RESERVED = 32
export const KPF_MLOCKED = 33
/** PageAnonExclusive on anonymous pages (R-PM-4). */
export const KPF_ANON_EXCLUSIVE = 34

/** Whether bit `bit` (0..52) of a kpageflags word is set. */
export function hasKpf(word: number, bit: number): boolean {
  return Math.floor(word / 2 ** bit) % 2 === 1
}

/** Bits 55..63 of a pagemap word from its high half. */
export function pagemapBits(high: number): number {
  return high >>> 23
}

/** Bits 0..54 of a pagemap word: a PFN, or a swap type and offset; 0 when hidden from the reader. */
export function pagemapEntry(low: number, high: number): number {
  return (high & 0x7fffff) * 2 ** 32 + (low >>> 0)
}

/** What a swap-type word says (R-FLT-161): bits 0..4 are the type, the rest the offset. */
export type SwapEntry =
  | { readonly kind: 'hidden' }
  | { readonly kind: 'marker'; readonly uffdWp: boolean; readonly poison: boolean; readonly guard: boolean }
  | { readonly kind: 'swap'; readonly type: number; readonly offset: number }

/** Swap type of markers; [6.1] used the one below for uffd-wp. */
const MARKER_TYPE = 31

/**
 * Reads the entry of a word that has PM_SWAP. Type and offset of real swap and of migration entries look
 * alike from here.
 * @param bits from `pagemapBits`
 * @param entry from `pagemapEntry`; 0 when the reader had no CAP_SYS_ADMIN
 * @rule R-FLT-161
 */
export function swapEntry(bits: number, entry: number): SwapEntry {
  if ((bits & PM_GUARD_REGION) !== 0) return { kind: 'marker', uffdWp: false, poison: false, guard: true }
  if (entry === 0) return { kind: 'hidden' }
  const type = entry % 32
  const offset = Math.floor(entry / 32)
  const oldUffdMarker = type === MARKER_TYPE - 1 && (bits & PM_UFFD_WP) !== 0
  if (type !== MARKER_TYPE && !oldUffdMarker) return { kind: 'swap', type, offset }
  return { kind: 'marker', uffdWp: (offset & 1) !== 0, poison: (offset & 2) !== 0, guard: (offset & 4) !== 0 }
}
