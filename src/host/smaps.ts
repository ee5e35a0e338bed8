/**
 * /proc/PID/smaps as a stream of bytes. A record ends with its `VmFlags:` line, so records the caller does
 * not need are skipped by searching for that line only; nothing of them is decoded.
 */
import { HostError } from './host-error.ts'
import { parseMapsLine } from './maps.ts'
import type { MapsRecord } from './maps.ts'

/** What smaps adds to a maps record; sizes in bytes. */
export interface SmapsRecord extends MapsRecord {
  readonly kernelPageSize: number
  readonly rss: number
  readonly swap: number
  readonly anonymous: number
  readonly anonHugePages: number
  readonly shmemPmdMapped: number
  readonly filePmdMapped: number
  /** Shared_Hugetlb + Private_Hugetlb (R-SMAPS-3) */
  readonly hugetlb: number
  readonly locked: number
  readonly thpEligible: boolean
  /** VmFlags mnemonics in the order printed */
  readonly flags: string[]
}

/** Whether a record that starts at `start` is wanted, can be skipped, or lies behind all that is wanted. */
export type SmapsInterest = 'take' | 'skip' | 'stop'

/**
 * Takes one record apart. Keys are looked up by name: unknown keys, missing keys and any number of blanks are
 * accepted, a missing key counts as 0.
 * @param text the record: maps line, attribute lines, `VmFlags:` line
 * @rule R-SMAPS-1
 */
export function parseSmapsRecord(text: string): SmapsRecord {
  const firstLine = text.indexOf('\n')
  const header = parseMapsLine(text, 0, firstLine < 0 ? text.length : firstLine)
  const values = new Map<string, string>()
  for (let from = firstLine + 1; from > 0 && from < text.length;) {
    let to = text.indexOf('\n', from)
    if (to < 0) to = text.length
    const colon = text.indexOf(':', from)
    if (colon > 0 && colon < to) values.set(text.slice(from, colon), text.slice(colon + 1, to).trim())
    from = to + 1
  }
  const size = (key: string): number => {
    const value = values.get(key)
    return value === undefined ? 0 : parseInt(value, 10) * (value.endsWith(' kB') ? 1024 : 1)
  }
  const flags = values.get('VmFlags')
  return {
    ...header,
    kernelPageSize: size('KernelPageSize') || 4096,
    rss: size('Rss'),
    swap: size('Swap'),
    anonymous: size('Anonymous'),
    anonHugePages: size('AnonHugePages'),
    shmemPmdMapped: size('ShmemPmdMapped'),
    filePmdMapped: size('FilePmdMapped'),
    hugetlb: size('Shared_Hugetlb') + size('Private_Hugetlb'),
    locked: size('Locked'),
    thpEligible: size('THPeligible') !== 0,
    flags: flags === undefined || flags === '' ? [] : flags.split(/\s+/),
  }
}

/**
 * Incremental reader: feed it what read(2) returned, in order; it hands over the records wanted.
 *
 * ```ts
 * const stream = new SmapsStream((start, end) => (end <= from ? 'skip' : start >= to ? 'stop' : 'take'))
 * while (!stream.stopped && (n = readSync(fd, chunk)) > 0) records.push(...stream.push(chunk.subarray(0, n)))
 * ```
 */
export class SmapsStream {
  readonly #interest: (start: number, end: number) => SmapsInterest
  #rest: Buffer = Buffer.alloc(0)
  #stopped = false
  #seen = 0

  /** @param interest asked once per record, in address order */
  constructor(interest: (start: number, end: number) => SmapsInterest) {
    this.#interest = interest
  }

  /** No later record can be wanted. */
  get stopped(): boolean {
    return this.#stopped
  }

  /** Records met so far, skipped ones included. */
  get seen(): number {
    return this.#seen
  }

  /** Bytes of a record that is not complete yet. */
  get pending(): number {
    return this.#rest.length
  }

  /** @throws HostError 'unreadable' when the bytes are not smaps */
  push(chunk: Buffer): SmapsRecord[] {
    const buffer = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const taken: SmapsRecord[] = []
    let from = 0
    while (!this.#stopped && from < buffer.length) {
      const last = buffer.indexOf('\nVmFlags:', from, 'latin1')
      const end = last < 0 ? -1 : buffer.indexOf(0x0a, last + 1)
      if (end < 0) break
      const dash = buffer.indexOf(0x2d, from)
      const blank = buffer.indexOf(0x20, dash)
      const start = parseInt(buffer.toString('latin1', from, dash), 16)
      const stop = parseInt(buffer.toString('latin1', dash + 1, blank), 16)
      if (!(start < stop)) {
        throw new HostError(
          'unreadable',
          `not a record of /proc/PID/smaps: ${JSON.stringify(buffer.toString('latin1', from, from + 60))}`,
        )
      }
      const interest = this.#interest(start, stop)
      if (interest === 'stop') this.#stopped = true
      else {
        this.#seen++
        if (interest === 'take') taken.push(parseSmapsRecord(buffer.toString('latin1', from, end)))
        from = end + 1
      }
    }
    // Copied: the caller reuses its chunk buffer.
    this.#rest = this.#stopped || from >= buffer.length ? Buffer.alloc(0) : Buffer.from(buffer.subarray(from))
    return taken
  }
}
