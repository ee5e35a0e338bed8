/** Page geometry of x86-64 with 4-level paging, and sizes as people write them. */

export const PAGE_SHIFT = 12
/** bytes */
export const PAGE_SIZE = 4096
/** pages mapped by one leaf page table, and by one 2 MiB huge page */
export const PTRS_PER_PTE = 512
/** bytes */
/** bytes mapped by one PMD table, or by one huge page of that size */
export const PUD_SIZE = 2 ** 30
export const PMD_SIZE = PAGE_SIZE * PTRS_PER_PTE
/** order of a 2 MiB folio */
export const HPAGE_PMD_ORDER = 9
/**
 * First address user space may not map: 2^47 − 4096 (R-AS-3).
 * @rule R-AS-3
 */
export const TASK_SIZE = 0x7ffffffff000

/** Rounds an address or length down to a page. Exact for every number below 2^53. */
export function pageAlignDown(address: number): number {
  return address - (address % PAGE_SIZE)
}

/** Rounds an address or length up to a page. */
export function pageAlign(address: number): number {
  const rest = address % PAGE_SIZE
  return rest === 0 ? address : address - rest + PAGE_SIZE
}

/** The page number an address lies in. */
export function pageNumber(address: number): number {
  return Math.floor(address / PAGE_SIZE)
}

const multipliers: Readonly<Record<string, number>> = {
  '': 1,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
}

/**
 * Parses `4096`, `0x1000`, `4k`, `2M`, `1G`, `1.5G` into bytes.
 * @returns null when the text is not a size
 */
export function parseSize(text: string): number | null {
  const match = /^(0x[0-9a-f]+|\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim())
  if (match === null) return null
  const value = Number(match[1])! * multipliers[match[2]!.toLowerCase()]!
  return Number.isSafeInteger(value) ? value : null
}

/** `65536` as `64 KiB`; exact multiples only, bytes otherwise. */
export function formatSize(bytes: number): string {
  const units = ['TiB', 'GiB', 'MiB', 'KiB'] as const
  for (let i = 0; i < units.length; i++) {
    const size = 2 ** (10 * (units.length - i))
    if (bytes >= size && bytes % size === 0) return `${bytes / size} ${units[i]}`
  }
  return `${bytes} bytes`
}
