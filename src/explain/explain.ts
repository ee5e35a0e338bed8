import { isReleaseName, RELEASE_NAMES, releases, type ReleaseName } from '../base/release.ts'
import { captureProcess } from '../host/capture.ts'
import { HostError } from '../host/host-error.ts'
import { nearestRelease } from '../host/kernel-release.ts'
import { parseMaps } from '../host/maps.ts'
import { parseRange, resolveRange } from '../host/range.ts'
import type { Snapshot } from '../host/snapshot.ts'
import { FOLL_FLAGS } from '../mm/gup-flags.ts'
import { ANSWER_SCHEMA_VERSION } from './answer-version.ts'
import type { Answer } from './answer.ts'
import type { Asked, Question } from './ask.ts'
import { hintsFor } from './hints.ts'
import { mappingsOf } from './mappings.ts'
import {
  pagesOf,
  requestNamed,
  requestOptions,
  type GivenOptions,
  type Request,
  type RequestOptions,
  type RequestRange,
} from './requests.ts'
import { settle } from './settle.ts'
import { hex } from './verdict.ts'

/** `flags`: FOLL_* names for `gup:*`, added to what `access` implies; the others as the help of the command says. */
export interface ExplainOptions extends GivenOptions {
  /** look at this process now … */
  readonly pid?: number
  /** … or at what was seen earlier */
  readonly snapshot?: Snapshot
  /** bytes; or the text of the command line: `0x7f…+64k`, `[heap]`, a mapped path */
  readonly range: { readonly start: number; readonly length: number } | string
  /** `io_uring:register-buffers`, `rdma:reg-mr`, `gup:pin`, …: as the command line has them */
  readonly request: string
  /** default `host`: the release nearest to the kernel the process was seen on */
  readonly release?: ReleaseName | 'host'
}

/**
 * Would this pin request succeed on this process, and if not, why? The process (or a snapshot of it) is
 * rebuilt in an engine that behaves like the release, and the real caller's code runs on it. The other
 * releases are asked the same question.
 *
 * @throws HostError for processes, ranges, requests and snapshots that cannot be read; its message is one line
 */
export function explain(options: ExplainOptions): Answer {
  const request = requestNamed(options.request)
  const made = requestOptions(request, options)
  const { flags } = made
  const snapshot = snapshotFor(options)
  const { range, note } = rangeFor(options, snapshot)
  const { release, releaseNote } = releaseFor(options.release ?? 'host', snapshot)
  const missing = missingFlags(flags, release)
  if (missing.length > 0)
    throw new HostError(
      'usage',
      `${missing.join(', ')} ${missing.length === 1 ? 'does' : 'do'} not exist on ${release}; ${whereFlagsExist(flags)}`,
    )
  const question = { snapshot, release, request, range, options: made }
  const asked = settled(question)
  return {
    schemaVersion: ANSWER_SCHEMA_VERSION,
    request: request.name,
    flags: flagNames(flags),
    options: optionsTaken(request, made),
    range: { start: hex(range.start), length: range.length, pages: pagesOf(range), note },
    process: { pid: snapshot.process.pid, name: snapshot.process.name, uid: snapshot.process.uid.real },
    release,
    releaseNote,
    releaseVerified: releases[release].verified,
    verdict: asked.verdict,
    pinned: asked.pinned,
    faultedIn: asked.faultedIn,
    copied: asked.copied,
    memlock: asked.memlock,
    kernelLog: [...asked.kernelLog],
    hints: hintsFor(question, asked).map((text) => ({ text, verified: true as const })),
    otherReleases: RELEASE_NAMES.filter((name) => name !== release).map((name) =>
      otherRelease(question, name),
    ),
    seen: { tier: snapshot.tier, consistency: snapshot.consistency, takenAt: snapshot.takenAt },
    assumptions: [...asked.assumptions, ...flagAssumptions(snapshot, range)],
    unseen: snapshot.unseen,
  }
}

function settled(question: Question): Asked {
  const asked = settle(question)
  if (asked === null) throw new Error('a request without preparation cannot fail to be prepared')
  return asked
}

/** FOLL_* flags asked for that a release does not have. @rule R-GUP-5 */
function missingFlags(flags: number, release: ReleaseName): string[] {
  return flagNames(flags).filter((name) => releases[release].gup.flagValues[name] === null)
}

function whereFlagsExist(flags: number): string {
  const having = RELEASE_NAMES.filter((name) => missingFlags(flags, name).length === 0)
  return having.length === 0 ? 'no release has them together' : `name ${having.join(' or ')} with --kernel`
}

function otherRelease(question: Question, release: ReleaseName): Answer['otherReleases'][number] {
  const missing = missingFlags(question.options.flags, release)
  if (missing.length > 0) {
    const reason = `${missing.join(', ')}: no such flag on this release`
    return { release, verified: releases[release].verified, ok: null, errno: null, rule: 'R-GUP-5', reason }
  }
  const { ok, errno, rule, reason, undecided } = settled({ ...question, release }).verdict
  return { release, verified: releases[release].verified, ok, errno, rule, reason: reason ?? undecided }
}

function snapshotFor(options: ExplainOptions): Snapshot {
  if (options.snapshot !== undefined) return options.snapshot
  if (options.pid === undefined)
    throw new HostError('usage', 'explain needs a process (--pid) or a snapshot (--snapshot)')
  const { range } = options
  const wanted =
    typeof range === 'string' ? range : { start: range.start, end: range.start + range.length, note: null }
  return captureProcess(options.pid, { ranges: [wanted] })
}

function rangeFor(options: ExplainOptions, snapshot: Snapshot): { range: RequestRange; note: string | null } {
  const { range, note } = namedRange(options.range, snapshot)
  if (!(range.length > 0)) throw new HostError('usage', 'a range has at least one byte')
  if (options.snapshot !== undefined) checkCovered(snapshot, range.start, range.start + range.length)
  return { range, note }
}

function namedRange(
  range: ExplainOptions['range'],
  snapshot: Snapshot,
): { range: RequestRange; note: string | null } {
  if (typeof range !== 'string') return { range, note: null }
  const { start, end, note } = resolveRange(parseRange(range), parseMaps(snapshot.maps).records)
  return { range: { start, length: end - start }, note }
}

/** A stored snapshot answers only for what it looked at. */
function checkCovered(snapshot: Snapshot, start: number, end: number): void {
  if (snapshot.ranges === null || snapshot.ranges.some((r) => r.start <= start && end <= r.end)) return
  const held = snapshot.ranges.map((r) => `${hex(r.start)}-${hex(r.end)}`).join(', ')
  throw new HostError(
    'usage',
    `the snapshot holds pages of ${held} only, not of ${hex(start)}-${hex(end)}; take one with that range`,
  )
}

function releaseFor(
  wanted: ReleaseName | 'host',
  snapshot: Snapshot,
): { release: ReleaseName; releaseNote: string | null } {
  if (wanted !== 'host') {
    if (!isReleaseName(wanted))
      throw new HostError(
        'usage',
        `unknown kernel "${String(wanted)}"; known are host, ${RELEASE_NAMES.join(', ')}`,
      )
    return { release: wanted, releaseNote: null }
  }
  const nearest = nearestRelease(snapshot.kernel.release)
  return { release: nearest.release, releaseNote: nearest.note }
}

function flagNames(flags: number): string[] {
  return Object.entries(FOLL_FLAGS)
    .filter(([, bit]) => (flags & bit) !== 0)
    .map(([name]) => name)
}

/** The options a request takes, flags apart, as the answer prints them. */
function optionsTaken({ takes }: Request, options: RequestOptions): Answer['options'] {
  const taken: Answer['options'] = {}
  for (const name of takes) {
    const value = options[name]
    if (name === 'flags' || value === null) continue
    taken[name] = name === 'iova' ? hex(value as number) : value
  }
  return taken
}

function flagAssumptions(snapshot: Snapshot, range: RequestRange): string[] {
  const derived = mappingsOf(snapshot, range).filter((m) => m.flagsFrom === 'derived')
  return derived.map(
    (m) => `${hex(m.start)}: VmFlags were not read in time and follow from permissions and kind only`,
  )
}
