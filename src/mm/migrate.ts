import { ENOMEM } from '../base/errno.ts'
import { PREEMPT, type Kthread } from '../base/kthread.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { HPAGE_PMD_ORDER, PAGE_SIZE, PMD_SIZE, PTRS_PER_PTE } from '../base/units.ts'
import {
  ORDER_MASK,
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_DIRTY,
  PG_HUGETLB,
  PG_HUGETLB_RESERVED,
  PG_LOCKED,
  PG_LRU,
  PG_MLOCKED,
  PG_PERMANENT,
  PG_SECRETMEM,
  PG_SWAPCACHE,
  PG_WRITEBACK,
} from '../memory/page-flags.ts'
import { noteMapper } from './folio-mappers.ts'
import { mappingReferences } from './gup-grab.ts'
import { hugetlbPool } from './hugetlb-pool.ts'
import type { Kernel } from './kernel.ts'
import { MIGRATION_KEEPS, migrationWord } from './migration-entry.ts'
import type { Mm } from './mm.ts'
import { vmPageProt } from './page-prot.ts'
import {
  HugePmd,
  PTE_DIRTY,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SPECIAL,
  PTE_SWAP_EXCLUSIVE,
  PTE_UFFD_WP,
  PTE_WRITE,
  type Leaf,
} from './page-table.ts'

/** what a page keeps in its flag word when it moves: zone and order belong to the place */
const PLACE = (PG_PERMANENT | ORDER_MASK) >>> 0
/** how often a folio that is in use is tried again before it stays where it is (R-FLT-140) */
const MOST_PASSES = 10

/**
 * Takes a folio off its LRU list (a hugetlb one off its pool's), with a reference; `migratePages` puts it back.
 * @returns false: somebody else has it
 */
export function isolateFolio(k: Kernel, head: number): boolean {
  const { frames } = k.memory
  if (frames.order(head) > HPAGE_PMD_ORDER) throw new Unmodelled('moving a huge page of 1 GiB', 'R-HUGE-64')
  const hugetlb = frames.has(head, PG_HUGETLB)
  const listed = hugetlb ? !frames.has(head, PG_LOCKED) : frames.has(head, PG_LRU | PG_SECRETMEM)
  if (!listed) return false
  frames.clear(head, PG_LRU)
  if (hugetlb) frames.set(head, PG_LOCKED)
  k.memory.get(head)
  return true
}

/** What a migration came to. */
export interface Migrated {
  /** folios that could not be moved, back on their lists */
  readonly left: readonly number[]
  /** of those, huge pages for which there is no room on the node */
  readonly noRoom: readonly number[]
  /** there was no memory on the node for one of the others; those behind it were not tried */
  readonly noMemory: boolean
}

/**
 * `migrate_pages`: moves isolated folios out of the zones where nothing may stay, to where the calling task may
 * allocate (`memallocPin`), or to a node, and puts them back. While they move, migration entries stand where they
 * were mapped: who meets one waits. A folio with references beyond its mappings and its cache stays.
 *
 * The engine keeps no reverse map by page: one pass over all page tables finds the entries of the whole list.
 *
 * @param isolated heads, from `isolateFolio`
 * @param node where they are to be; anywhere without it
 * @rule R-GUP-79
 * @rule R-FLT-140
 */
export function* migratePages(k: Kernel, isolated: readonly number[], node?: number): Kthread<Migrated> {
  let left = isolated
  const noRoom: number[] = []
  let noMemory = false
  for (let pass = 0; pass < MOST_PASSES && left.length > noRoom.length && !noMemory; pass++) {
    noRoom.length = 0
    ;({ left, noMemory } = yield* migrateBatch(k, left, node, noRoom))
    // nothing can have changed unless others ran meanwhile
    if (!k.exploring) break
    yield PREEMPT
  }
  for (const head of left) putBack(k, head)
  return { left, noRoom, noMemory }
}

/** One pass. */
function* migrateBatch(
  k: Kernel,
  heads: readonly number[],
  node: number | undefined,
  noRoom: number[],
): Kthread<{ left: number[]; noMemory: boolean }> {
  const { frames } = k.memory
  const moves = new Map<number, number>()
  const left: number[] = []
  let noMemory = false
  for (const head of heads) {
    const target = noMemory ? 0 : beginMove(k, head, node)
    if (target > 0) {
      moves.set(head, target)
      continue
    }
    left.push(head)
    // who names a node takes nothing from elsewhere
    if (target === 0 || node === undefined) continue
    if (frames.isLarge(head) && !frames.has(head, PG_HUGETLB)) noRoom.push(head)
    else noMemory = true
  }
  if (moves.size === 0) return { left, noMemory }
  if (k.exploring) yield PREEMPT
  const { lowest, highest } = boundsOf(moves)
  eachTable(k, (mm, pmd, entry) => unmapEntries(k, mm, pmd, entry, moves, lowest, highest))
  if (k.exploring) yield PREEMPT
  const places = new Map<number, number>()
  for (const [from, to] of moves) places.set(from, moveFolio(k, from, to) ? to : from)
  if (k.exploring) yield PREEMPT
  eachTable(k, (mm, pmd, entry) => remapEntries(k, mm, pmd, entry, places))
  for (const [from, to] of moves) {
    if (places.get(from) === to) endMove(k, from, to)
    else {
      left.push(from)
      if (!k.memory.frames.has(from, PG_HUGETLB)) k.memory.frames.clear(from, PG_LOCKED)
      k.memory.put(to)
    }
  }
  k.migrationDone.wakeAll()
  return { left, noMemory }
}

/** Between which frames the pages of all that moves lie. */
function boundsOf(moves: ReadonlyMap<number, number>): { lowest: number; highest: number } {
  let lowest = Infinity
  let highest = 0
  for (const head of moves.keys()) {
    lowest = Math.min(lowest, head)
    highest = Math.max(highest, head)
  }
  return { lowest, highest: highest + PTRS_PER_PTE }
}

/** Locks a folio and finds a place for it. @returns the place; 0: the folio is busy; -ENOMEM */
function beginMove(k: Kernel, head: number, node: number | undefined): number {
  const { frames } = k.memory
  const hugetlb = frames.has(head, PG_HUGETLB)
  const busy = PG_WRITEBACK | PG_SECRETMEM | (hugetlb ? 0 : PG_LOCKED)
  if (k.dueFailure?.hits('migration') === true || frames.has(head, busy)) return 0
  const movable = !k.current.memallocPin
  const where = node === undefined ? { movable } : { movable, node }
  const target = hugetlb
    ? hugetlbPool(k).allocForMigration(node)
    : k.memory.allocFolio(frames.order(head), where)
  if (target === 0) return -ENOMEM
  frames.set(head, PG_LOCKED)
  return target
}

function eachTable(k: Kernel, visit: (mm: Mm, pmd: number, entry: HugePmd | Leaf) => void): void {
  for (const mm of k.mms) {
    const { pageTable } = mm
    for (let i = pageTable.nextPmd(0, 2 ** 26); i >= 0; i = pageTable.nextPmd(i + 1, 2 ** 26))
      visit(mm, i, pageTable.pmd(i)!)
  }
}

/**
 * `try_to_migrate`: entries of moving folios become migration entries. An exclusive page that may be pinned keeps
 * its entry, and with it the folio stays.
 * @rule R-FLT-141
 */
function unmapEntries(
  k: Kernel,
  _mm: Mm,
  _pmd: number,
  entry: HugePmd | Leaf,
  moves: ReadonlyMap<number, number>,
  lowest: number,
  highest: number,
): void {
  const { frames } = k.memory
  if (entry instanceof HugePmd) {
    const head = entry.pfn
    if ((entry.bits & PTE_PRESENT) === 0 || !moves.has(head)) return
    const exclusive = frames.has(head, PG_ANON) && frames.has(head, PG_ANON_EXCLUSIVE)
    if (exclusive && frames.maybeDmaPinned(head)) return
    unshare(k, head, head, entry.bits)
    entry.bits = migrationWord(entry.bits, exclusive)
    frames.addEntireMapcount(head, -1)
    return
  }
  for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
    const bits = entry.bits[slot]!
    if ((bits & (PTE_PRESENT | PTE_SPECIAL)) !== PTE_PRESENT) continue
    const pfn = entry.pfn[slot]!
    if (pfn < lowest || pfn >= highest) continue
    const head = frames.head(pfn)
    if (!moves.has(head)) continue
    const exclusive = frames.has(head, PG_ANON) && frames.has(pfn, PG_ANON_EXCLUSIVE)
    if (exclusive && frames.maybeDmaPinned(head)) continue
    unshare(k, head, pfn, bits)
    entry.bits[slot] = migrationWord(bits, exclusive)
    frames.mapcount[pfn]!--
  }
}

/** What a page loses with an entry, but for the count of mappings. */
function unshare(k: Kernel, head: number, pfn: number, bits: number): void {
  const { frames } = k.memory
  frames.clear(pfn, PG_ANON_EXCLUSIVE)
  if ((bits & PTE_DIRTY) !== 0) frames.set(head, PG_DIRTY)
  frames.refcount[head]!--
}

/**
 * `remove_migration_ptes`: migration entries find their page again, wherever it is now.
 * @param places where the folios are, by where they were
 */
function remapEntries(
  k: Kernel,
  mm: Mm,
  pmd: number,
  entry: HugePmd | Leaf,
  places: ReadonlyMap<number, number>,
): void {
  const { frames } = k.memory
  if (entry instanceof HugePmd) {
    const place = places.get(entry.pfn)
    if ((entry.bits & PTE_MIGRATION) === 0 || place === undefined) return
    if ((entry.bits & PTE_SWAP_EXCLUSIVE) !== 0) frames.set(place, PG_ANON_EXCLUSIVE)
    entry.pfn = place
    if (frames.has(place, PG_ANON)) noteMapper(k, mm, place)
    entry.bits = presentWord(mm, pmd * PMD_SIZE, entry.bits)
    frames.addEntireMapcount(place, 1)
    frames.refcount[place]!++
    return
  }
  let noted = 0
  for (let slot = 0; slot < PTRS_PER_PTE; slot++) {
    const bits = entry.bits[slot]!
    if ((bits & PTE_MIGRATION) === 0) continue
    const old = entry.pfn[slot]!
    const head = frames.head(old)
    const place = places.get(head)
    if (place === undefined) continue
    if (place !== noted && frames.isLarge(place) && frames.has(place, PG_ANON)) noteMapper(k, mm, place)
    noted = place
    const pfn = place + (old - head)
    if ((bits & PTE_SWAP_EXCLUSIVE) !== 0) frames.set(pfn, PG_ANON_EXCLUSIVE)
    entry.pfn[slot] = pfn
    entry.bits[slot] = presentWord(mm, pmd * PMD_SIZE + slot * PAGE_SIZE, bits)
    frames.mapcount[pfn]!++
    frames.refcount[place]!++
  }
}

/** What a migration entry becomes: as the mapping is protected now. */
function presentWord(mm: Mm, address: number, word: number): number {
  const vma = mm.mmapLock.vmaOfRmap(address)
  const bits = (vma === null ? PTE_PRESENT : vmPageProt(vma)) | (word & MIGRATION_KEEPS)
  return (word & PTE_UFFD_WP) === 0 ? bits : bits & ~PTE_WRITE
}

/**
 * Hands identity, cache and contents of an unmapped folio over to its new place.
 * @returns false: somebody holds a reference, or has mapped it again
 * @rule R-FLT-141
 */
function moveFolio(k: Kernel, from: number, to: number): boolean {
  const { memory } = k
  const { frames } = memory
  const { flags, refcount } = frames
  const cached = mappingReferences(k, from)
  if (frames.totalMapcount(from) !== 0 || refcount[from] !== cached + 1) return false
  const n = frames.nrPages(from)
  const mapping = k.mappings.get(frames.mapping[from]!)
  const hugetlb = frames.has(from, PG_HUGETLB)
  for (let i = 0; i < n; i++) {
    flags[to + i] = ((flags[to + i]! & PLACE) | (flags[from + i]! & ~PLACE)) >>> 0
    frames.mapping[to + i] = frames.mapping[from + i]!
    frames.index[to + i] = frames.index[from + i]!
    memory.contents.copy(from + i, to + i)
  }
  const entries = mapping === undefined ? 0 : hugetlb ? 1 : n
  const first = frames.index[from]!
  for (let i = 0; i < entries; i++)
    if (mapping!.pages.get(first + i) === from + i) mapping!.pages.set(first + i, to + i)
  if (frames.has(from, PG_SWAPCACHE)) k.swap.moveCached(from, to)
  frames.clear(from, PG_SWAPCACHE | PG_HUGETLB_RESERVED)
  refcount[to]! += cached
  refcount[from]! -= cached
  if (hugetlb) hugetlbPool(k).endMigration(from, to)
  if (k.ksm.stable.delete(from)) k.ksm.stable.add(to)
  return true
}

/** The new place is in use, the old one is given back. */
function endMove(k: Kernel, from: number, to: number): void {
  const { memory } = k
  const { frames } = memory
  frames.clear(from, PG_LOCKED)
  frames.clear(to, PG_LOCKED)
  if (!frames.has(to, PG_HUGETLB)) frames.set(to, PG_LRU)
  k.observer?.({ type: 'migrate', from, to })
  memory.put(from)
  dropHold(k, to)
}

/** `putback_movable_pages`, one folio that stays. */
export function putBack(k: Kernel, head: number): void {
  const { frames } = k.memory
  if (frames.has(head, PG_HUGETLB)) frames.clear(head, PG_LOCKED)
  else if (!frames.has(head, PG_SECRETMEM)) frames.set(head, PG_LRU)
  dropHold(k, head)
  k.migrationDone.wakeAll()
}

/** The migration's reference goes; what was unmapped meanwhile goes with it. */
function dropHold(k: Kernel, head: number): void {
  const { frames } = k.memory
  if (frames.totalMapcount(head) === 0) {
    frames.clear(head, PG_MLOCKED)
    if (frames.has(head, PG_SWAPCACHE)) k.swap.dropUnmapped(head)
  }
  k.memory.put(head)
}
