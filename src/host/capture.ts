/** Takes a snapshot of a live process (R-CONS-3). */
import { release, version } from 'node:os'
import { readlinkSync } from 'node:fs'
import { PMD_SIZE, TASK_SIZE } from '../base/units.ts'
import { openTarget, readProcess, translateError, vanished } from './access.ts'
import type { Target } from './access.ts'
import { describeMappings, mountsOf } from './describe-mappings.ts'
import { parseLimits } from './limits.ts'
import { firstRecordAbove, parseMaps } from './maps.ts'
import type { MapsListing, MapsRecord } from './maps.ts'
import { parseMountinfo } from './mountinfo.ts'
import { PageRunBuilder } from './page-runs.ts'
import { tryRead } from './proc-files.ts'
import { parseRange, resolveRange } from './range.ts'
import type { AddressRange } from './range.ts'
import { closeFrameFiles, openFrameFiles, readPages } from './read-pages.ts'
import { readRings, readUserRegistered } from './read-rings.ts'
import { readSmaps } from './read-smaps.ts'
import type { SmapsReading } from './read-smaps.ts'
import { readSystem } from './read-system.ts'
import { MEMLOCK_CHARGE, SNAPSHOT_SCHEMA_VERSION } from './snapshot-format.ts'
import type { PageTable, Snapshot, Unseen } from './snapshot.ts'
import type { SmapsRecord } from './smaps.ts'
import { parseStatus } from './status.ts'
import type { Status } from './status.ts'
import { parseMeminfo } from './system-files.ts'

export interface CaptureOptions {
  /** RANGE texts (see `parseRange`), ranges already read, or everything */
  readonly ranges: 'all' | readonly (string | AddressRange)[]
  /** how long smaps may take before flags are derived instead, ms; 600, for a whole process 10,000 */
  readonly smapsBudgetMs?: number
  /** how often to read before the result is called racy; 10 */
  readonly maxTries?: number
  /** no new try is begun after this, ms; 2000 */
  readonly retryBudgetMs?: number
}

/** Mappings without anything resident are still looked at page by page below this size (R-COST-2). */
const EMPTY_MAPPING_LIMIT = 2 ** 30

/**
 * Takes a snapshot of a process: all mappings by their maps line, and for those the ranges touch (and one
 * neighbour on each side) flags, class, file size and pages. The process is only read, never stopped.
 *
 * @throws HostError for every process that cannot be read and every range that cannot be understood
 * @rule R-CONS-3
 */
export function captureProcess(pid: number, options: CaptureOptions): Snapshot {
  const began = performance.now()
  const requests =
    options.ranges === 'all'
      ? null
      : options.ranges.map((range) => (typeof range === 'string' ? parseRange(range) : range))
  const maxTries = options.maxTries ?? 10
  const target = openTarget(pid)
  const readMaps = (): string => readProcess(pid, target.status, `${target.directory}/maps`)
  let mapsText = readMaps()
  for (let tries = 1; ; tries++) {
    const text = mapsText
    const listing = parseMaps(text)
    const ranges =
      requests?.map((request) => ('kind' in request ? resolveRange(request, listing.records) : request)) ??
      null
    const seen = readOnce(target, listing, ranges, options.smapsBudgetMs ?? (ranges === null ? 10_000 : 600))
    mapsText = readMaps()
    if (mapsText === '') throw vanished(pid)
    const stable = mapsText === text && !listing.torn && seen.consistent
    const lastTry = tries >= maxTries || performance.now() - began >= (options.retryBudgetMs ?? 2000)
    if (stable || lastTry) return assemble(target, text, ranges, seen, stable, tries)
  }
}

interface Seen {
  readonly listing: MapsListing
  /** the records described in detail */
  readonly detailed: readonly MapsRecord[]
  readonly smaps: ReadonlyMap<number, SmapsRecord>
  /** smaps was read below this address */
  readonly smapsTo: number
  readonly pages: PageTable
  readonly framesSeen: boolean
  readonly unseen: Unseen[]
  /** smaps told of the same mappings as maps */
  readonly consistent: boolean
}

interface Span {
  readonly start: number
  readonly end: number
}

function readOnce(
  target: Target,
  listing: MapsListing,
  ranges: readonly AddressRange[] | null,
  budgetMs: number,
): Seen {
  const { pid, directory } = target
  const unseen: Unseen[] = []
  const detailed = ranges === null ? listing.records : recordsAround(listing.records, ranges)
  const smaps = guarded(target, `${directory}/smaps`, () =>
    readSmaps(directory, listing.records, spansOf(detailed), smallResidentBytes(target), budgetMs),
  )
  const byStart = new Map(smaps.records.map((record) => [record.start, record]))
  // A neighbour that was not reached says so itself (flagsFrom); only what was asked for is worth a line.
  if (
    detailed.some(
      (record) => record.start >= smaps.seenTo && (ranges?.some((range) => overlap(record, range)) ?? true),
    )
  ) {
    unseen.push({
      what: `VmFlags of mappings from 0x${smaps.seenTo.toString(16)} up`,
      why: `reading smaps of so large a process takes more than ${budgetMs} ms`,
      needs: 'a larger time budget',
    })
  }
  const spans = pageSpans(detailed, ranges, byStart, unseen)
  const builder = new PageRunBuilder()
  const frames = openFrameFiles()
  try {
    const reading = guarded(target, `${directory}/pagemap`, () =>
      readPages(directory, spans, frames, builder),
    )
    if (!reading.alive && spans.length > 0 && tryRead(`${directory}/maps`) === null) throw vanished(pid)
    return {
      listing,
      detailed,
      smaps: byStart,
      smapsTo: smaps.seenTo,
      pages: builder.pages,
      framesSeen: reading.framesSeen,
      unseen,
      consistent: reading.alive && agrees(detailed, smaps, byStart),
    }
  } finally {
    if (frames !== null) closeFrameFiles(frames)
  }
}

function overlap(a: Span, b: Span): boolean {
  return a.start < b.end && b.start < a.end
}

function guarded<T>(target: Target, path: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw translateError(error, target.pid, target.status, path)
  }
}

function agrees(
  detailed: readonly MapsRecord[],
  reading: SmapsReading,
  byStart: ReadonlyMap<number, SmapsRecord>,
): boolean {
  return detailed.every((record) => {
    if (record.start >= reading.seenTo) return true
    const seen = byStart.get(record.start)
    return seen !== undefined && seen.end === record.end && seen.perms === record.perms
  })
}

/** Records that overlap a range and their neighbours, ascending, each once. */
function recordsAround(records: readonly MapsRecord[], ranges: readonly AddressRange[]): MapsRecord[] {
  const indices = new Set<number>()
  for (const range of ranges) {
    const first = firstRecordAbove(records, range.start)
    let last = first
    while (last < records.length && records[last]!.start < range.end) last++
    for (let i = Math.max(0, first - 1); i <= Math.min(last, records.length - 1); i++) indices.add(i)
  }
  return [...indices].sort((a, b) => a - b).map((index) => records[index]!)
}

/** Adjacent records as one span. */
function spansOf(records: readonly MapsRecord[]): Span[] {
  const spans: { start: number; end: number }[] = []
  for (const { start, end } of records) {
    const last = spans.at(-1)
    if (last !== undefined && last.end === start) last.end = end
    else spans.push({ start, end })
  }
  return spans
}

/**
 * What pagemap is read for: the ranges where something is mapped, in whole 2 MiB because a huge page counts as
 * a whole; for a whole process every mapping that can hold pages.
 * @rule R-COST-2
 */
function pageSpans(
  records: readonly MapsRecord[],
  ranges: readonly AddressRange[] | null,
  smaps: ReadonlyMap<number, SmapsRecord>,
  unseen: Unseen[],
): Span[] {
  if (ranges !== null) {
    const parts = ranges.flatMap((range) =>
      records.map((record) => ({
        start: Math.max(record.start, Math.floor(range.start / PMD_SIZE) * PMD_SIZE),
        end: Math.min(record.end, Math.ceil(range.end / PMD_SIZE) * PMD_SIZE, TASK_SIZE),
      })),
    )
    return mergeSpans(parts.filter((part) => part.start < part.end))
  }
  let skipped = 0
  const spans: Span[] = []
  for (const record of records) {
    const facts = smaps.get(record.start)
    const empty = facts !== undefined && facts.rss + facts.swap + facts.hugetlb === 0
    const unusual = facts?.flags.some((flag) => flag === 'um' || flag === 'uw' || flag === 'gu') ?? false
    if (record.end - record.start > EMPTY_MAPPING_LIMIT && empty && !unusual) skipped++
    else spans.push(record)
  }
  if (skipped > 0) {
    unseen.push({
      what: `pages of ${skipped} empty mappings larger than 1 GiB`,
      why: 'nothing of them is resident or swapped; reading their page table entries takes seconds',
      needs: 'a snapshot of just the range in question',
    })
  }
  return mergeSpans(spans)
}

function mergeSpans(parts: readonly Span[]): Span[] {
  const merged: { start: number; end: number }[] = []
  for (const part of [...parts].sort((a, b) => a.start - b.start)) {
    const last = merged.at(-1)
    if (last !== undefined && part.start <= last.end) last.end = Math.max(last.end, part.end)
    else merged.push({ start: part.start, end: part.end })
  }
  return merged
}

/**
 * Upper bound of what the process has resident in small pages, which is what makes smaps slow. Anonymous small
 * pages of one process cannot be more than those of the whole machine.
 */
function smallResidentBytes(target: Target): number {
  const memory = target.status.memory
  if (memory === null) return 0
  const meminfo = parseMeminfo(tryRead('/proc/meminfo') ?? '')
  const machine = (meminfo['AnonPages'] ?? Infinity) - (meminfo['AnonHugePages'] ?? 0)
  return Math.min(memory.rssAnon, Math.max(0, machine)) + memory.rssFile + memory.rssShmem
}

function assemble(
  target: Target,
  mapsText: string,
  ranges: AddressRange[] | null,
  seen: Seen,
  stable: boolean,
  tries: number,
): Snapshot {
  const { pid, directory } = target
  const status = parseStatus(readProcess(pid, target.status, `${directory}/status`))
  if (status.memory === null) throw vanished(pid)
  const unseen = [...seen.unseen]
  const mounts = parseMountinfo(tryRead(`${directory}/mountinfo`) ?? '')
  const rings = readRings(directory)
  const userRegistered = readUserRegistered(status.uid.real, pid, rings ?? [])
  noteUnseen(unseen, target, seen, rings, userRegistered.unreadable, status)
  const mappings = describeMappings(directory, seen.detailed, seen.smaps, seen.listing.records, mounts)
  return {
    schemaVersion: SNAPSHOT_SCHEMA_VERSION,
    takenAt: new Date().toISOString(),
    kernel: { release: release(), version: version(), machine: machineName() },
    tier: target.tier,
    consistency: stable ? 'stable' : 'racy',
    tries,
    process: {
      pid,
      tid: target.tid,
      name: status.name,
      state: status.state,
      threads: status.threads,
      tracerPid: status.tracerPid,
      uid: { ...status.uid },
      gid: { ...status.gid },
      capEff: status.capEff,
      capPrm: status.capPrm,
      capBnd: status.capBnd,
      seccomp: status.seccomp,
      initialUserNamespace: inInitialUserNamespace(directory),
      thpEnabled: status.thpEnabled,
      memory: { ...status.memory },
      limits: parseLimits(readProcess(pid, status, `${directory}/limits`)),
    },
    ranges,
    maps: mapsText,
    mappings,
    pages: seen.pages,
    mounts: mountsOf(mappings, mounts),
    rings: rings ?? [],
    userRegistered,
    system: readSystem(),
    unseen,
  }
}

/** x86-64 is the only machine modelled; procfs names it nowhere. */
function machineName(): string {
  return process.arch === 'x64' ? 'x86_64' : process.arch
}

/** The initial user namespace has a fixed inode number. */
const INITIAL_USER_NAMESPACE = 'user:[4026531837]'

function inInitialUserNamespace(directory: string): boolean | null {
  try {
    return readlinkSync(`${directory}/ns/user`) === INITIAL_USER_NAMESPACE
  } catch {
    return null
  }
}

/** @rule R-OUT-1 */
function noteUnseen(
  unseen: Unseen[],
  target: Target,
  seen: Seen,
  rings: Snapshot['rings'] | null,
  unreadable: number,
  status: Status,
): void {
  if (seen.pages.start.length > 0 && !seen.framesSeen) {
    unseen.push({
      what: 'page frame numbers, kpageflags (AnonExclusive) and kpagecount',
      why: `read with tier ${target.tier}`,
      needs: 'root (CAP_SYS_ADMIN in the initial user namespace)',
    })
  }
  if (rings === null) {
    unseen.push({
      what: 'io_uring instances and their registered buffers',
      why: 'the fd list may not be read',
      needs: 'CAP_SYS_PTRACE',
    })
  }
  for (const ring of rings ?? []) {
    if (ring.status === 'seen') continue
    unseen.push({
      what: `buffers registered with the io_uring of fd ${ring.fd}`,
      why: ring.status === 'busy' ? 'ring busy, buffers unknown' : 'its fdinfo may not be read',
      needs: ring.status === 'busy' ? 'a moment without io_uring calls' : 'CAP_SYS_PTRACE',
    })
  }
  unseen.push({
    what: `${MEMLOCK_CHARGE} of uid ${status.uid.real}`,
    why:
      unreadable > 0
        ? `the kernel shows this sum nowhere and ${unreadable} processes of the user could not be read`
        : 'the kernel shows this sum nowhere; registered io_uring buffers give a lower bound',
    needs: 'nothing shows it, whatever the privilege',
  })
}
