import { PAGE_SIZE } from '../base/units.ts'

/** A piece of user memory. Bytes; `at` counts from the start of the arena and may lie outside of it. */
export interface Range {
  readonly at: number
  readonly length: number
}

/** Where the arena lies. */
export interface Arena {
  /** address */
  readonly start: number
  readonly pages: number
}

/** `@3`, `@3+100`, `@0-1`: an address the way the agent takes it and reports write it. */
export function arenaAddress(at: number): string {
  const page = Math.floor(at / PAGE_SIZE)
  const rest = at - page * PAGE_SIZE
  if (page < 0) return `@0-${-at}`
  return rest === 0 ? `@${page}` : `@${page}+${rest}`
}

/** Address and length the way the agent takes them. */
export function arenaRange({ at, length }: Range): string {
  return `${arenaAddress(at)} ${length}`
}

/** `@3 2 pages`: a range as a person reads it. */
export function rangeText({ at, length }: Range): string {
  return `${arenaAddress(at)} ${bytesText(length)}`
}

/** A number the way the agent takes it; decimals of large ones are not exact. */
export function exactText(n: number): string {
  if (n < 0) return Number.isSafeInteger(n) ? String(n) : `-0x${(-n).toString(16)}`
  return `0x${n.toString(16)}`
}

/** `2 pages`, `100 bytes` */
export function bytesText(n: number): string {
  if (n % PAGE_SIZE !== 0) return `${n} bytes`
  const pages = n / PAGE_SIZE
  return `${pages} ${pages === 1 ? 'page' : 'pages'}`
}
