/** The work behind the commands, without terminal and without commander. */
import type { ReleaseName } from '../base/release.ts'
import type { Answer } from '../explain/answer.ts'
import { explain } from '../explain/explain.ts'
import { requestNamed, requestOptions, type GivenOptions } from '../explain/requests.ts'
import { captureProcess } from '../host/capture.ts'
import { HostError } from '../host/host-error.ts'
import { nearestRelease } from '../host/kernel-release.ts'
import { firstRecordAbove, parseMaps } from '../host/maps.ts'
import { parseRange, resolveRange } from '../host/range.ts'
import type { Snapshot } from '../host/snapshot.ts'
import { findDemoRanges, type DemoRanges } from './demo-ranges.ts'
import { UserError } from './user-error.ts'

/** Where the facts come from: a live process, a file, or the text of one. */
export type Source =
  { readonly pid: number } | { readonly file: string } | { readonly text: string; readonly origin: string }

export interface ExplainJob {
  readonly kind: 'explain'
  readonly source: Source
  /** null: the one the snapshot was taken for */
  readonly range: string | null
  readonly request: string
  readonly options: GivenOptions
  readonly release: ReleaseName | 'host'
}

export interface SnapshotJob {
  readonly kind: 'snapshot'
  readonly pid: number
  /** empty: the whole process */
  readonly ranges: readonly string[]
}

/** Finds memory to ask about in the process of the demo. */
export interface DemoRangesJob {
  readonly kind: 'demo-ranges'
  readonly pid: number
}

export type Job = ExplainJob | SnapshotJob | DemoRangesJob

/** What the snapshot command reports besides the file. */
export interface SnapshotSummary {
  readonly text: string
  readonly pid: number
  readonly name: string
  readonly mappings: number
  readonly pages: number
  readonly racy: boolean
  readonly tries: number
  readonly unseen: Snapshot['unseen']
}

interface Results {
  readonly explain: Answer
  readonly snapshot: SnapshotSummary
  readonly 'demo-ranges': DemoRanges
}

export type JobResult<J extends Job> = Results[J['kind']]

/** @throws UserError */
export async function doJob(job: Job): Promise<JobResult<Job>> {
  try {
    switch (job.kind) {
      case 'explain':
        return await explainJob(job)
      case 'snapshot':
        return snapshotJob(job)
      case 'demo-ranges':
        return findDemoRanges(job.pid)
    }
  } catch (error) {
    if (error instanceof HostError) throw new UserError(error.message)
    throw error
  }
}

async function explainJob(job: ExplainJob): Promise<Answer> {
  // a typing mistake is reported before any process is read
  const request = requestNamed(job.request)
  requestOptions(request, job.options)
  const snapshot = await takeSnapshot(job.source, job.range)
  const range = job.range ?? rangeOfSnapshot(snapshot)
  refuseUnmapped(snapshot, range)
  const { options, release } = job
  const answer = explain({ ...options, snapshot, range, request: request.name, release })
  // the note of the nearest release is about this machine; a stored snapshot may come from another one
  return !('pid' in job.source) && release === 'host'
    ? { ...answer, releaseNote: noteOfSnapshot(snapshot) }
    : answer
}

async function takeSnapshot(source: Source, range: string | null): Promise<Snapshot> {
  if (!('pid' in source)) {
    // the schema of stored snapshots takes a while to load, and a live process needs none
    const { parseSnapshot, readSnapshot } = await import('../host/snapshot-file.ts')
    return 'file' in source ? readSnapshot(source.file) : parseSnapshot(source.text, source.origin)
  }
  if (range === null)
    throw new UserError('--range is missing: which memory of the process? e.g. --range 0x7f0000000000+64k')
  return captureProcess(source.pid, { ranges: [range] })
}

function rangeOfSnapshot(snapshot: Snapshot): string {
  const [only, ...others] = snapshot.ranges ?? []
  if (only === undefined || others.length > 0) {
    throw new UserError(
      '--range is missing: this snapshot was not taken for one range only, so say which one',
    )
  }
  return `${only.start}-${only.end}`
}

function noteOfSnapshot(snapshot: Snapshot): string {
  return nearestRelease(snapshot.kernel.release).note.replace(/^this kernel/, 'the kernel it was taken on')
}

/** A range with nothing mapped in it is a mistake of the person who asks; one with a hole is a question. */
function refuseUnmapped(snapshot: Snapshot, text: string): void {
  const { records } = parseMaps(snapshot.maps)
  const range = resolveRange(parseRange(text), records)
  const next = firstRecordAbove(records, range.start)
  if (next < records.length && records[next]!.start < range.end) return
  const around = [records[next - 1], records[next]].flatMap((record, i) =>
    record === undefined ? [] : `${i === 0 ? 'below' : 'above'} it ${hex(record.start)}-${hex(record.end)}`,
  )
  throw new UserError(
    `nothing is mapped in ${hex(range.start)}-${hex(range.end)} of process ${snapshot.process.pid} ` +
      `(${snapshot.process.name}); the nearest mappings are ${around.join(' and ')}; see /proc/${snapshot.process.pid}/maps`,
  )
}

function hex(address: number): string {
  return `0x${address.toString(16)}`
}

function snapshotJob({ pid, ranges }: SnapshotJob): SnapshotSummary {
  const snapshot = captureProcess(pid, { ranges: ranges.length === 0 ? 'all' : ranges })
  return {
    text: `${JSON.stringify(snapshot)}\n`,
    pid,
    name: snapshot.process.name,
    mappings: snapshot.mappings.length,
    pages: snapshot.pages.count.reduce((sum, count) => sum + count, 0),
    racy: snapshot.consistency === 'racy',
    tries: snapshot.tries,
    unseen: snapshot.unseen,
  }
}
