/**
 * The flag word of a frame (`frames.flags[pfn]`), our `page->flags`.
 *
 * ```
 *  31   29 28     24 23                                   0
 * +-------+---------+--------------------------------------+
 * | zone  |  order  |                PG_* bits             |
 * +-------+---------+--------------------------------------+
 * ```
 * `order` stands on every page of a folio, so the head of a page is `pfn & ~((1 << order) - 1)`:
 * folios are naturally aligned.
 */
export const PG_LOCKED = 1 << 0
export const PG_REFERENCED = 1 << 1
export const PG_UPTODATE = 1 << 2
export const PG_DIRTY = 1 << 3
export const PG_LRU = 1 << 4
export const PG_WRITEBACK = 1 << 5
export const PG_SWAPBACKED = 1 << 6
export const PG_SWAPCACHE = 1 << 7
/** anonymous; stays until the page is freed, even when unmapped (spec R-FLT §1.3) */
export const PG_ANON = 1 << 8
/** PageAnonExclusive: the X of the specification (R-FLT-9) */
export const PG_ANON_EXCLUSIVE = 1 << 9
export const PG_MLOCKED = 1 << 10
export const PG_KSM = 1 << 11
/** a hugetlb folio (on head and tails) */
export const PG_HUGETLB = 1 << 12
/** filesystem private data attached: one reference of its own (R-FLT-1) */
export const PG_PRIVATE = 1 << 13
/** never freed: the zero pages */
export const PG_RESERVED = 1 << 14
/** in the buddy allocator */
export const PG_BUDDY = 1 << 15
/** belongs to a secretmem mapping */
export const PG_SECRETMEM = 1 << 16
/** the hugetlb page carries a reservation to give back when it is freed */
export const PG_HUGETLB_RESERVED = 1 << 17
/** lives in a driver's mapping: a normal page that is neither anonymous nor in a page cache */
export const PG_DRIVER = 1 << 18
/** PG_mte_tagged: its tags mean something, because VM_MTE memory has shown it (R-MTE-11) */
export const PG_MTE_TAGGED = 1 << 19

export const ORDER_SHIFT = 24
export const ORDER_MASK = 0x1f << ORDER_SHIFT
export const ZONE_SHIFT = 29
export const ZONE_MASK = (7 << ZONE_SHIFT) >>> 0

/** Bits that survive the freeing of a page. */
export const PG_PERMANENT = ZONE_MASK

export const ZONE_NORMAL = 0
export const ZONE_MOVABLE = 1
export const ZONE_CMA = 2
export type Zone = typeof ZONE_NORMAL | typeof ZONE_MOVABLE | typeof ZONE_CMA
