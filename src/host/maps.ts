/** /proc/PID/maps as text: records, names, torn listings. Text is latin1, one character per byte (R-MAPS-2). */
import { HostError } from './host-error.ts'

/** One line of maps. Offsets and inodes are exact below 2^53. */
export interface MapsRecord {
  readonly start: number
  readonly end: number
  /** `rw-p`; the last letter is VM_MAYSHARE */
  readonly perms: string
  /** bytes; 0 without a file */
  readonly offset: number
  /** `maj:min` in hex, as printed */
  readonly device: string
  readonly inode: number
  /** raw name column: escapes and ` (deleted)` still in it; '' for none */
  readonly rawName: string
}

export interface MapsListing {
  readonly records: readonly MapsRecord[]
  /** records overlapped: the listing mixes two moments and must be read again (R-CONS-2) */
  readonly torn: boolean
}

/** A name taken apart. */
export interface MapsName {
  /** escapes undone, ` (deleted)` removed, UTF-8 decoded where it is valid UTF-8, else latin1 */
  readonly name: string
  readonly deleted: boolean
  /** the text has a second reading: a literal `\012` or a living file named `… (deleted)` */
  readonly ambiguous: boolean
}

/** The gate page above user space that maps lists although it is no VMA (R-MAPS-3). */
export const VSYSCALL_START = 0xffffffffff600000

/**
 * Parses one record that occupies `text[from, to)`.
 * @throws HostError 'unreadable' when it is not a maps line
 * @rule R-MAPS-1
 */
export function parseMapsLine(text: string, from = 0, to = text.length): MapsRecord {
  const dash = text.indexOf('-', from)
  const afterRange = text.indexOf(' ', dash)
  const afterPerms = afterRange + 5
  const afterOffset = text.indexOf(' ', afterPerms + 1)
  const afterDevice = text.indexOf(' ', afterOffset + 1)
  // The blank after the inode is always there; tolerate an editor that stripped it.
  let afterInode = text.indexOf(' ', afterDevice + 1)
  if (afterInode < 0 || afterInode > to) afterInode = to
  if (dash < 0 || afterRange < 0 || afterOffset < 0 || afterDevice < 0 || afterDevice >= to) {
    throw notMaps(text, from, to)
  }
  const start = parseInt(text.slice(from, dash), 16)
  const end = parseInt(text.slice(dash + 1, afterRange), 16)
  const perms = text.slice(afterRange + 1, afterPerms)
  const offset = parseInt(text.slice(afterPerms + 1, afterOffset), 16)
  const device = text.slice(afterOffset + 1, afterDevice)
  const inode = parseInt(text.slice(afterDevice + 1, afterInode), 10)
  if (
    !(start < end) ||
    Number.isNaN(offset) ||
    Number.isNaN(inode) ||
    !isPerms(perms) ||
    !device.includes(':')
  ) {
    throw notMaps(text, from, to)
  }
  let nameStart = afterInode + 1
  while (nameStart < to && text.charCodeAt(nameStart) === 0x20) nameStart++
  return {
    start,
    end,
    perms,
    offset,
    device,
    inode,
    rawName: nameStart < to ? text.slice(nameStart, to) : '',
  }
}

function isPerms(perms: string): boolean {
  return (
    perms.length === 4 &&
    (perms[0] === 'r' || perms[0] === '-') &&
    (perms[1] === 'w' || perms[1] === '-') &&
    (perms[2] === 'x' || perms[2] === '-') &&
    (perms[3] === 's' || perms[3] === 'p')
  )
}

function notMaps(text: string, from: number, to: number): HostError {
  return new HostError(
    'unreadable',
    `not a line of /proc/PID/maps: ${JSON.stringify(text.slice(from, Math.min(to, from + 80)))}`,
  )
}

/** The listing parsed last: one snapshot is asked for its mappings in several places. */
let latest: { readonly text: string; readonly listing: MapsListing } | null = null

/**
 * Parses a whole listing. `[vsyscall]` is left out: it is above user space and is not a VMA.
 * @rule R-MAPS-3
 * @rule R-CONS-2
 * @throws HostError 'unreadable'
 */
export function parseMaps(text: string): MapsListing {
  if (latest?.text !== text) latest = { text, listing: parseListing(text) }
  return latest.listing
}

function parseListing(text: string): MapsListing {
  const records: MapsRecord[] = []
  let torn = false
  let previousEnd = 0
  for (let from = 0; from < text.length;) {
    let to = text.indexOf('\n', from)
    if (to < 0) to = text.length
    if (to > from) {
      const record = parseMapsLine(text, from, to)
      if (record.start < VSYSCALL_START) {
        // The later record is the newer truth: drop every earlier one it overlaps or goes behind.
        while (record.start < previousEnd && records.length > 0) {
          torn = true
          records.pop()
          previousEnd = records.length > 0 ? records[records.length - 1]!.end : 0
        }
        records.push(record)
        previousEnd = record.end
      }
    }
    from = to + 1
  }
  return { records, torn }
}

const DELETED = ' (deleted)'
const strictUtf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Undoes what the kernel did to a name. Only LF is escaped and the backslash is not, so a result may be
 * ambiguous; comparing dev:inode of the decoded path with the record settles it.
 * @rule R-MAPS-2
 */
export function decodeMapsName(rawName: string): MapsName {
  let name = rawName
  let deleted = false
  let ambiguous = false
  if (name.endsWith(DELETED)) {
    deleted = true
    name = name.slice(0, -DELETED.length)
    // Kernel-internal names always carry the suffix; for a path the file itself may be named so.
    ambiguous = !isInternalName(name)
  }
  if (name.includes('\\012')) {
    ambiguous = true
    name = name.replaceAll('\\012', '\n')
  }
  return { name: latin1ToText(name), deleted, ambiguous }
}

function isInternalName(name: string): boolean {
  return (
    name.startsWith('/memfd:') ||
    /^\/SYSV[0-9a-f]{8}$/.test(name) ||
    name === '/dev/zero' ||
    name === '/anon_hugepage' ||
    name === '/secretmem'
  )
}

/** Bytes held as latin1 to text: UTF-8 where they are valid UTF-8, unchanged where not. */
export function latin1ToText(latin1: string): string {
  let ascii = true
  for (let i = 0; i < latin1.length; i++) {
    if (latin1.charCodeAt(i) > 0x7f) {
      ascii = false
      break
    }
  }
  if (ascii) return latin1
  const raw = new Uint8Array(latin1.length)
  for (let i = 0; i < latin1.length; i++) raw[i] = latin1.charCodeAt(i)
  try {
    return strictUtf8.decode(raw)
  } catch {
    return latin1
  }
}

/** Index of the first record whose end lies above `address`, or `records.length`. */
export function firstRecordAbove(records: readonly { readonly end: number }[], address: number): number {
  let low = 0
  let high = records.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (records[middle]!.end > address) high = middle
    else low = middle + 1
  }
  return low
}
