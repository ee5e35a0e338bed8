import { PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'

/**
 * Page-table entry bits (`leaf.bits[i]`).
 *
 * A word of 0 is "none". Present entries have PTE_PRESENT; PTE_PROTNONE marks those the hardware would
 * not see (PROT_NONE, NUMA hinting) although the kernel calls them present (R-FLT-14). Entries without
 * PTE_PRESENT but with one of the kinds below are swap-type entries (R-FLT §1.5).
 */
export const PTE_PRESENT = 1 << 0
export const PTE_WRITE = 1 << 1
export const PTE_DIRTY = 1 << 2
export const PTE_ACCESSED = 1 << 3
/** no reference counting: zero page, raw PFN */
export const PTE_SPECIAL = 1 << 4
export const PTE_UFFD_WP = 1 << 5
export const PTE_PROTNONE = 1 << 6
/** not written since soft-dirty bits were cleared: the pte is not soft-dirty (soft-dirty.ts) */
export const PTE_SOFT_CLEAN = 1 << 7
/** swap entry: `pfn` is the swap slot */
export const PTE_SWAP = 1 << 8
/** with PTE_SWAP: the page was exclusive when it was swapped out */
export const PTE_SWAP_EXCLUSIVE = 1 << 9
export const PTE_MIGRATION = 1 << 10
export const PTE_MARKER_GUARD = 1 << 11
export const PTE_MARKER_POISON = 1 << 12
/** uffd-wp marker on an unpopulated entry */
export const PTE_MARKER_UFFD_WP = 1 << 13
/** a device has the page to itself: `pfn` stays (device-exclusive-entry.ts) */
export const PTE_DEVICE_EXCLUSIVE = 1 << 14
export const PTE_NONPRESENT_KINDS =
  PTE_SWAP | PTE_MIGRATION | PTE_MARKER_GUARD | PTE_MARKER_POISON | PTE_MARKER_UFFD_WP | PTE_DEVICE_EXCLUSIVE

/** One leaf page table: 512 entries, 2 MiB of address space, 6 bytes a page. */
export class Leaf {
  /** frame numbers (or swap slots) */
  readonly pfn: Int32Array
  /** PTE_* */
  readonly bits: Uint16Array
  /** entries that are not none */
  used = 0

  constructor() {
    const buffer = new ArrayBuffer(PTRS_PER_PTE * 6)
    this.pfn = new Int32Array(buffer, 0, PTRS_PER_PTE)
    this.bits = new Uint16Array(buffer, PTRS_PER_PTE * 4, PTRS_PER_PTE)
  }

  /** Writes one entry and keeps `used`. bits 0 clears it. */
  set(slot: number, pfn: number, bits: number): void {
    const before = this.bits[slot]!
    if (before === 0) {
      if (bits !== 0) this.used++
    } else if (bits === 0) this.used--
    this.pfn[slot] = pfn
    this.bits[slot] = bits
  }
}

/** A PMD entry that maps 2 MiB at once: THP, huge zero folio or hugetlb. Same bits as a pte. */
export class HugePmd {
  /** head pfn of the 512 pages */
  pfn: number
  bits: number

  constructor(pfn: number, bits: number) {
    this.pfn = pfn
    this.bits = bits
  }
}

export type PmdEntry = Leaf | HugePmd

const GIGABYTE = PMD_SIZE * 512

/** The PMD entries of 1 GiB. Mappings of the same hugetlb file may have one together (hugetlb-share.ts). */
export interface PmdTable {
  readonly slots: (PmdEntry | null)[]
  used: number
  /** places that have it: more than one where it is shared */
  sharers: number
}

/** The slot of an address in its leaf table. */
export function pteSlot(address: number): number {
  return Math.floor(address / PAGE_SIZE) % PTRS_PER_PTE
}

/** Which 2 MiB span an address lies in: below 2^26, so it stays a small integer. */
export function pmdIndex(address: number): number {
  return Math.floor(address / PMD_SIZE)
}

/**
 * The page tables of one mm: a sparse map of 1 GiB tables of PMD entries. The entry lock (PTL) of the
 * kernel has no counterpart: code between two yields is atomic.
 */
export class PageTable {
  readonly #tables = new Map<number, PmdTable>()
  /** which 512 GiB have a table of such tables */
  readonly #uppers = new Set<number>()
  /** which gigabytes have a table, ascending */
  readonly #gigabytes: number[] = []
  /** leaf tables in use */
  leaves = 0

  /** The PMD entry for a 2 MiB span, or null. */
  pmd(index: number): PmdEntry | null {
    const table = this.#tables.get(index >>> 9)
    return table === undefined ? null : table.slots[index & 511]!
  }

  /** The leaf table of an address, created when there is none. Must not be called where a HugePmd stands. */
  leafFor(address: number): Leaf {
    const index = pmdIndex(address)
    const entry = this.pmd(index)
    if (entry instanceof Leaf) return entry
    if (entry !== null) throw new Error('leafFor: a huge PMD is mapped here; split it first')
    const leaf = new Leaf()
    this.setPmd(index, leaf)
    return leaf
  }

  setPmd(index: number, entry: PmdEntry | null): void {
    const table = entry === null ? this.#tables.get(index >>> 9) : this.reach(index)
    if (table === undefined) return
    const before = table.slots[index & 511]!
    if (before instanceof Leaf) this.leaves--
    if (entry instanceof Leaf) this.leaves++
    table.used += (entry === null ? 0 : 1) - (before === null ? 0 : 1)
    table.slots[index & 511] = entry
  }

  /** The table of PMD entries for a 2 MiB span, created when there is none: what every fault does first. */
  reach(index: number): PmdTable {
    const gigabyte = index >>> 9
    let table = this.#tables.get(gigabyte)
    if (table === undefined) {
      table = { slots: new Array<PmdEntry | null>(512).fill(null), used: 0, sharers: 1 }
      this.#insert(gigabyte, table)
    }
    return table
  }

  #insert(gigabyte: number, table: PmdTable): void {
    this.#tables.set(gigabyte, table)
    this.#gigabytes.splice(this.#place(gigabyte), 0, gigabyte)
    this.#uppers.add(gigabyte >>> 9)
  }

  /** The table of PMD entries for a 2 MiB span, or null. */
  tableOf(index: number): PmdTable | null {
    return this.#tables.get(index >>> 9) ?? null
  }

  /** Is there a table that could hold an entry for a huge page of this size, bytes, at a 2 MiB span? */
  reaches(index: number, pageSize: number): boolean {
    return pageSize === GIGABYTE ? this.#uppers.has(index >>> 18) : this.#tables.has(index >>> 9)
  }

  forEachTable(visit: (table: PmdTable) => void): void {
    for (const table of this.#tables.values()) visit(table)
  }

  /** Puts a table that is in use elsewhere where there is none. */
  share(index: number, table: PmdTable): void {
    table.sharers++
    this.#insert(index >>> 9, table)
  }

  /** The table around a 2 MiB span belongs to others as well. */
  isShared(index: number): boolean {
    const table = this.#tables.get(index >>> 9)
    return table !== undefined && table.sharers > 1
  }

  /** Leaves a shared table to the others: nothing is mapped in that GiB any more. */
  unshare(index: number): void {
    const gigabyte = index >>> 9
    this.#tables.get(gigabyte)!.sharers--
    this.#tables.delete(gigabyte)
    this.#gigabytes.splice(this.#place(gigabyte), 1)
  }

  /** No table at all. */
  get empty(): boolean {
    return this.#uppers.size === 0
  }

  /**
   * Gives back the empty tables of 1 GiB and of 512 GiB that lie in [start, end) and between what is still mapped
   * around it: no memory from `floor` to `ceiling`. Bytes.
   */
  freeUpper(start: number, end: number, floor: number, ceiling: number): void {
    const within = (number: number, size: number): boolean =>
      number * size >= floor && (number + 1) * size <= ceiling
    const first = Math.floor(start / GIGABYTE)
    let at = this.#place(first)
    for (; at < this.#gigabytes.length && this.#gigabytes[at]! * GIGABYTE < end;) {
      const gigabyte = this.#gigabytes[at]!
      if (this.#tables.get(gigabyte)!.used > 0 || !within(gigabyte, GIGABYTE)) at++
      else {
        this.#tables.delete(gigabyte)
        this.#gigabytes.splice(at, 1)
      }
    }
    for (const upper of this.#uppers) {
      if (upper * 512 * GIGABYTE >= end || (upper + 1) * 512 * GIGABYTE <= start) continue
      const lowest = this.#gigabytes[this.#place(upper << 9)]
      if ((lowest === undefined || lowest >>> 9 !== upper) && within(upper, 512 * GIGABYTE))
        this.#uppers.delete(upper)
    }
  }

  /** Where a gigabyte is among those that have a table, or would be. */
  #place(gigabyte: number): number {
    const list = this.#gigabytes
    let low = 0
    let high = list.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (list[middle]! < gigabyte) low = middle + 1
      else high = middle
    }
    return low
  }

  /**
   * The first 2 MiB span >= index and < end that has an entry, or -1. Skips empty gigabytes at once:
   * `for (let i = pt.nextPmd(a, z); i >= 0; i = pt.nextPmd(i + 1, z))`.
   */
  nextPmd(index: number, end: number): number {
    for (let i = index; i < end;) {
      const table = this.#tables.get(i >>> 9)
      if (table === undefined) {
        const next = this.#gigabytes[this.#place(i >>> 9)]
        if (next === undefined) return -1
        i = next << 9
        continue
      }
      if (table.used === 0) i = ((i >>> 9) + 1) << 9
      else if (table.slots[i & 511] !== null) return i
      else i++
    }
    return -1
  }

  /** pte bits at an address: 0 for none, also where a huge PMD stands (ask `pmd` first). */
  bitsAt(address: number): number {
    const entry = this.pmd(pmdIndex(address))
    return entry instanceof Leaf ? entry.bits[pteSlot(address)]! : 0
  }

  /** Page tables in use in bytes, the top one not counted: of 2 MiB, of 1 GiB and of 512 GiB of memory. */
  get bytes(): number {
    return (this.leaves + this.#tables.size + this.#uppers.size) * PAGE_SIZE
  }
}
