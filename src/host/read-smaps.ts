/** Reads as much of smaps as a question needs and a time budget allows. */
import { readSync } from 'node:fs'
import type { MapsRecord } from './maps.ts'
import { withFile } from './proc-files.ts'
import { SmapsStream } from './smaps.ts'
import type { SmapsRecord } from './smaps.ts'

/** Spans of addresses, ascending and disjoint. */
export type Spans = readonly { readonly start: number; readonly end: number }[]

export interface SmapsReading {
  /** records that overlap the spans */
  readonly records: SmapsRecord[]
  /** nothing below this address is missing; Infinity when everything wanted was read */
  readonly seenTo: number
}

/** The kernel walks the page tables of each mapping it prints: ms per GiB of resident 4 KiB pages (R-COST-1). */
const WALK_MS_PER_GIB = 35
const FORMAT_MS = 0.0065
/** Mappings whose size can matter to the estimate; their Rss is learnt even when they are not wanted. */
const LARGE = 64 * 2 ** 20
/** Records of which one read(2) may hold; a record is never shorter than 700 bytes. */
const LOOKAHEAD = 8

/**
 * Reads the smaps records that overlap `spans`, skipping those before and stopping after the last.
 *
 * One mapping with very much resident memory cannot be interrupted once the kernel walks it, so the reader
 * estimates before it enters one and gives up when the budget would not do. Just before such a mapping it
 * reads byte by byte, because a larger read makes the kernel format the next record as well.
 *
 * @param directory `/proc/PID` or `/proc/PID/task/TID`
 * @param listing the maps records of the same process, read just before
 * @param smallResident upper bound of the bytes it has resident in small pages
 * @throws the error of open or read; HostError 'unreadable'
 * @rule R-COST-1
 */
export function readSmaps(
  directory: string,
  listing: readonly MapsRecord[],
  spans: Spans,
  smallResident: number,
  budgetMs: number,
): SmapsReading {
  if (spans.length === 0) return { records: [], seenTo: Infinity }
  const lastEnd = spans[spans.length - 1]!.end
  let span = 0
  const records: SmapsRecord[] = []
  const wanted = (start: number, end: number): boolean => {
    while (span < spans.length && spans[span]!.end <= start) span++
    return span < spans.length && end > spans[span]!.start
  }
  const stream = new SmapsStream((start, end) => {
    if (start >= lastEnd) return 'stop'
    return wanted(start, end) || end - start >= LARGE ? 'take' : 'skip'
  })
  const began = performance.now()
  let residentLeft = smallResident
  const estimate = (index: number): number => {
    const record = listing[index]
    if (record === undefined) return 0
    return FORMAT_MS + (Math.min(record.end - record.start, residentLeft) / 2 ** 30) * WALK_MS_PER_GIB
  }
  return withFile(`${directory}/smaps`, (fd) => {
    const chunk = Buffer.allocUnsafe(65536)
    for (;;) {
      const next = stream.seen
      const left = budgetMs - (performance.now() - began)
      if (left <= 0) return { records, seenTo: listing[next]?.start ?? 0 }
      let near = 0
      for (let i = 0; i < LOOKAHEAD && near <= left; i++) near += estimate(next + i)
      let length = chunk.length
      if (near > left) {
        if (stream.pending === 0 && estimate(next) > left)
          return { records, seenTo: listing[next]?.start ?? 0 }
        length = 1
      }
      const n = readSync(fd, chunk, 0, length, null)
      if (n === 0) return { records, seenTo: Infinity }
      for (const record of stream.push(chunk.subarray(0, n))) {
        residentLeft = Math.max(0, residentLeft - record.rss)
        if (spans.some((s) => record.start < s.end && record.end > s.start)) records.push(record)
      }
      if (stream.stopped) return { records, seenTo: Infinity }
      const following = listing[stream.seen]
      if (following === undefined || following.start >= lastEnd) return { records, seenTo: Infinity }
    }
  })
}
