/** Reads pagemap, and for privileged observers kpageflags and kpagecount, into page runs. */
import { closeSync, openSync } from 'node:fs'
import { PAGE_SIZE } from '../base/units.ts'
import { PM_PRESENT, pagemapBits, pagemapEntry } from './pagemap.ts'
import type { PageRunBuilder } from './page-runs.ts'
import { readFully, withFile } from './proc-files.ts'

/** Words per read: 1 MiB of pagemap, 512 MiB of address space (R-COST-2). */
const CHUNK_WORDS = 131072
/** PFNs this near to each other are read in one go; words between them are thrown away. */
const PFN_GAP = 64

/** Open files on page frames; both need root. */
export interface FrameFiles {
  readonly flags: number
  readonly count: number
}

/** Opens /proc/kpageflags and /proc/kpagecount; null without the privilege. */
export function openFrameFiles(): FrameFiles | null {
  let flags: number
  try {
    flags = openSync('/proc/kpageflags', 'r')
  } catch {
    return null
  }
  try {
    return { flags, count: openSync('/proc/kpagecount', 'r') }
  } catch {
    closeSync(flags)
    return null
  }
}

export function closeFrameFiles(files: FrameFiles): void {
  closeSync(files.flags)
  closeSync(files.count)
}

export interface PagesReading {
  /** false: the address space was gone, the words are of nobody */
  readonly alive: boolean
  /** PFNs were visible (CAP_SYS_ADMIN) */
  readonly framesSeen: boolean
}

/**
 * Reads the pagemap of the spans into `builder`. Zero words cost nothing in it.
 *
 * Frame facts are read after the word, so a word that changed in between drops them (R-CONS-5).
 *
 * @param spans page-aligned, ascending
 * @param frames null: only pagemap
 * @throws the error of open or read
 * @rule R-PM-1
 * @rule R-CONS-5
 */
export function readPages(
  directory: string,
  spans: readonly { readonly start: number; readonly end: number }[],
  frames: FrameFiles | null,
  builder: PageRunBuilder,
): PagesReading {
  return withFile(`${directory}/pagemap`, (fd) => {
    const words = new Uint32Array(CHUNK_WORDS * 2)
    const bytes = new Uint8Array(words.buffer)
    let framesSeen = false
    for (const span of spans) {
      for (let start = span.start; start < span.end; start += CHUNK_WORDS * PAGE_SIZE) {
        const count = Math.min(CHUNK_WORDS, (span.end - start) / PAGE_SIZE)
        const position = (start / PAGE_SIZE) * 8
        const got = readFully(fd, bytes, count * 8, position) / 8
        if (got === 0) return { alive: false, framesSeen }
        const facts = frames === null ? null : readFrameFacts(words, got, frames)
        if (facts !== null) {
          framesSeen = true
          dropChanged(fd, words, got, position, facts)
        }
        addWords(builder, words, got, start, facts)
        builder.cover(start, start + got * PAGE_SIZE)
        if (got < count) break
      }
    }
    return { alive: true, framesSeen }
  })
}

interface FrameFacts {
  /** -1 where not read */
  readonly flags: Float64Array
  readonly counts: Float64Array
}

/** Looks all present frames of a chunk up, in PFN order so that neighbours share a read; null if no PFN shows. */
function readFrameFacts(words: Uint32Array, count: number, frames: FrameFiles): FrameFacts | null {
  // PFN and index in one double: sorting these sorts by PFN and keeps the way back (36 + 17 bits).
  const keys = new Float64Array(count)
  let present = 0
  for (let i = 0; i < count; i++) {
    const high = words[2 * i + 1]!
    if (high >>> 31 === 0) continue
    const pfn = pagemapEntry(words[2 * i]!, high)
    if (pfn !== 0) keys[present++] = pfn * CHUNK_WORDS + i
  }
  if (present === 0) return null
  const sorted = keys.subarray(0, present).sort()
  const flags = new Float64Array(count).fill(-1)
  const counts = new Float64Array(count).fill(-1)
  const pfnOf = (k: number): number => Math.floor(sorted[k]! / CHUNK_WORDS)
  for (let from = 0; from < present;) {
    const first = pfnOf(from)
    let last = first
    let to = from + 1
    for (; to < present; to++) {
      const pfn = pfnOf(to)
      if (pfn - last > PFN_GAP || pfn - first >= CHUNK_WORDS) break
      last = pfn
    }
    const length = last - first + 1
    const flagWords = readWords(frames.flags, first, length)
    const countWords = readWords(frames.count, first, length)
    for (let k = from; k < to; k++) {
      const at = pfnOf(k) - first
      const index = sorted[k]! % CHUNK_WORDS
      if (2 * at + 1 < flagWords.length) flags[index] = flagWords[2 * at + 1]! * 2 ** 32 + flagWords[2 * at]!
      if (2 * at + 1 < countWords.length)
        counts[index] = countWords[2 * at + 1]! * 2 ** 32 + countWords[2 * at]!
    }
    from = to
  }
  return { flags, counts }
}

function readWords(fd: number, first: number, count: number): Uint32Array {
  const words = new Uint32Array(count * 2)
  const got = readFully(fd, new Uint8Array(words.buffer), count * 8, first * 8)
  return words.subarray(0, Math.floor(got / 8) * 2)
}

function dropChanged(
  fd: number,
  words: Uint32Array,
  count: number,
  position: number,
  facts: FrameFacts,
): void {
  const again = new Uint32Array(count * 2)
  const got = readFully(fd, new Uint8Array(again.buffer), count * 8, position) / 8
  for (let i = 0; i < count; i++) {
    if (i < got && again[2 * i] === words[2 * i] && again[2 * i + 1] === words[2 * i + 1]) continue
    facts.flags[i] = -1
    facts.counts[i] = -1
    if (i < got) {
      words[2 * i] = again[2 * i]!
      words[2 * i + 1] = again[2 * i + 1]!
    }
  }
}

function addWords(
  builder: PageRunBuilder,
  words: Uint32Array,
  count: number,
  start: number,
  facts: FrameFacts | null,
): void {
  for (let i = 0; i < count; i++) {
    const low = words[2 * i]!
    const high = words[2 * i + 1]!
    if (low === 0 && high === 0) continue
    const bits = pagemapBits(high)
    const known = facts !== null && (bits & PM_PRESENT) !== 0
    builder.add(
      start + i * PAGE_SIZE,
      bits,
      pagemapEntry(low, high),
      known ? facts.flags[i]! : -1,
      known ? facts.counts[i]! : -1,
    )
  }
}
