import { Unmodelled } from '../base/unmodelled.ts'
import type { Kthread } from '../base/kthread.ts'
import { PG_ANON, PG_HUGETLB, PG_SWAPBACKED } from '../memory/page-flags.ts'
import type { Kernel } from './kernel.ts'
import type { Mm } from './mm.ts'
import {
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_MIGRATION,
  PTE_SWAP_EXCLUSIVE,
  PTE_UFFD_WP,
  PTE_WRITE,
  PTE_SOFT_CLEAN,
} from './page-table.ts'

/*
 * A migration entry stands where a page was mapped that is on its way to another place: PTE_MIGRATION, the old
 * frame, and what the new entry will need. It holds no reference and is no mapping, but the process still counts the
 * page as resident. Frame 0 is nobody's: an entry of a snapshot of which nothing is known but that it is not present.
 */

/** What of an entry outlives the migration; PTE_SWAP_EXCLUSIVE says that the page was exclusive. */
export const MIGRATION_KEEPS = PTE_WRITE | PTE_DIRTY | PTE_ACCESSED | PTE_UFFD_WP | PTE_SOFT_CLEAN

/** The word that takes the place of a present one. */
export function migrationWord(bits: number, exclusive: boolean): number {
  return PTE_MIGRATION | (bits & MIGRATION_KEEPS) | (exclusive ? PTE_SWAP_EXCLUSIVE : 0)
}

/** fork of a COW mapping: neither side owns the page any more. */
export function sharedMigrationWord(word: number): number {
  return word & ~(PTE_WRITE | PTE_SWAP_EXCLUSIVE)
}

/**
 * Stops where an entry of a snapshot may be under migration, a marker or poisoned.
 * @throws Unmodelled
 */
export function requireKnownEntry(pfn: number, what: string, rule: string): void {
  if (pfn === 0) throw new Unmodelled(what, rule)
}

/** Counts pages behind migration entries as resident, or not any more. */
export function countMigrating(k: Kernel, mm: Mm, pfn: number, pages: number): void {
  if (pfn === 0) return
  const { frames } = k.memory
  const head = frames.head(pfn)
  if (frames.has(head, PG_HUGETLB)) mm.hugetlbPages += pages
  else if (frames.has(head, PG_ANON)) mm.rssAnon += pages
  else if (frames.has(head, PG_SWAPBACKED)) mm.rssShmem += pages
  else mm.rssFile += pages
}

/**
 * `migration_entry_wait`: sleeps until some migration is over. Signals do not end it, and locks are kept: who moves
 * pages needs none of them.
 * @rule R-FLT-141
 */
export function* waitForMigration(k: Kernel): Kthread<void> {
  yield { queue: k.migrationDone, what: 'a page under migration', signals: 'none' }
}
