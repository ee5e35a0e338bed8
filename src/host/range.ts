/** The RANGE of the command line. */
import { TASK_SIZE, formatSize, parseSize } from '../base/units.ts'
import { HostError } from './host-error.ts'
import { decodeMapsName } from './maps.ts'
import type { MapsRecord } from './maps.ts'

/** A range of user addresses in bytes, exactly as asked: not rounded to pages. */
export interface AddressRange {
  readonly start: number
  /** one past the last byte */
  readonly end: number
  /** what the user should know about how the text was read */
  readonly note: string | null
}

/** A RANGE before the process was looked at. */
export type RangeRequest =
  | { readonly kind: 'addresses'; readonly start: number; readonly end: number }
  | { readonly kind: 'name'; readonly name: string }

const help = 'write START+SIZE (0x7f0000000000+64k), START-END, [heap], [stack] or a mapped path'

/**
 * Reads `0x7f…+64k`, `0x7f…-0x7f…` (hex or decimal), `[heap]`, `[stack]`, `[name]` or an absolute path.
 * @throws HostError 'usage'
 */
export function parseRange(text: string): RangeRequest {
  const trimmed = text.trim()
  if (trimmed.startsWith('[') || trimmed.startsWith('/') || trimmed.startsWith('anon_inode:'))
    return { kind: 'name', name: trimmed }
  const match = /^(0x[0-9a-f]+|\d+)([+-])(.+)$/i.exec(trimmed)
  if (match === null) throw new HostError('usage', `range "${text}" is not understood; ${help}`)
  const start = Number(match[1])
  let end: number
  if (match[2] === '+') {
    const size = parseSize(match[3]!)
    if (size === null)
      throw new HostError(
        'usage',
        `"${match[3]}" in range "${text}" is not a size; write 4096, 0x1000, 4k, 2M or 1G`,
      )
    end = start + size
  } else {
    if (!/^(0x[0-9a-f]+|\d+)$/i.test(match[3]!)) {
      throw new HostError(
        'usage',
        `"${match[3]}" in range "${text}" is not an address; write hex with 0x or decimal`,
      )
    }
    end = Number(match[3])
  }
  if (end <= start)
    throw new HostError('usage', `range "${text}" is empty: it ends where it starts or before`)
  if (!Number.isSafeInteger(start) || end > 2 ** 47) {
    throw new HostError(
      'usage',
      `range "${text}" reaches above user space, which ends at 0x${TASK_SIZE.toString(16)}`,
    )
  }
  return { kind: 'addresses', start, end }
}

/**
 * Finds a named range among the mappings of a process.
 * @param records from `parseMaps`
 * @throws HostError 'usage' when no mapping has that name
 */
export function resolveRange(request: RangeRequest, records: readonly MapsRecord[]): AddressRange {
  if (request.kind === 'addresses') return { start: request.start, end: request.end, note: null }
  const found = mappingsNamed(records, request.name)
  const first = found[0]
  if (first === undefined) {
    throw new HostError(
      'usage',
      `no mapping of the process is named ${request.name}; see /proc/PID/maps for the names it has`,
    )
  }
  const { start, end } = first
  if (found.length === 1) return { start, end, note: null }
  const shown = found.slice(0, 20).map(describe)
  if (found.length > shown.length) shown.push(`and ${found.length - shown.length} more`)
  return {
    start,
    end,
    note: `${request.name} is mapped ${found.length} times, the first is used: ${shown.join(', ')}`,
  }
}

/** Records whose decoded name is `name`, with or without ` (deleted)`. */
function mappingsNamed(records: readonly MapsRecord[], name: string): MapsRecord[] {
  return records.filter((record) => {
    if (record.rawName === '') return false
    if (record.rawName === name) return true
    const decoded = decodeMapsName(record.rawName)
    return decoded.name === name || (decoded.deleted && `${decoded.name} (deleted)` === name)
  })
}

function describe(record: MapsRecord): string {
  return `0x${record.start.toString(16)}-0x${record.end.toString(16)} ${record.perms} (${formatSize(record.end - record.start)})`
}
