import { PAGE_SIZE, formatSize } from '../base/units.ts'
import type { Unseen } from '../host/snapshot.ts'

/** `1 page`, `2,048 pages` */
export function count(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString('en')} ${n === 1 ? one : many}`
}

/** `16 pages (64 KiB)` */
export function pagesAndSize(pages: number): string {
  return `${count(pages, 'page')} (${formatSize(pages * PAGE_SIZE)})`
}

/** Size of a file, rounded: `65 KiB`, `30.6 MiB` */
export function roughSize(bytes: number): string {
  const kib = bytes / 1024
  return kib < 1024 ? `${Math.ceil(kib)} KiB` : `${(kib / 1024).toFixed(1)} MiB`
}

/** What could not be seen, why, and what it would take. */
export function unseenText({ what, why, needs }: Unseen): string {
  return `${what}: ${why}; ${needs.startsWith('nothing') ? needs : `needs ${needs}`}`
}
