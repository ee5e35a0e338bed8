/** Asks every release about a snapshot and checks what must hold of every answer. */
import { expect } from 'vitest'
import { RELEASE_NAMES, type ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { AnswerSchema, type Answer, type Verdict } from '../../src/explain/answer.ts'
import type { Question } from '../../src/explain/ask.ts'
import { explain } from '../../src/explain/explain.ts'
import { requestNamed, requestOptions, type GivenOptions } from '../../src/explain/requests.ts'
import { settle } from '../../src/explain/settle.ts'
import type { Snapshot } from '../../src/host/snapshot.ts'
import { audit } from '../../src/mm/audit.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import { A, snapshot, unprivileged, type MappingSpec, type SnapshotSpec } from './snapshots.ts'

export interface Request extends GivenOptions {
  name?: string
  start?: number
  /** pages; default all mappings from `start` on */
  pages?: number
  length?: number
}

export function questionFor(seen: Snapshot, release: ReleaseName, request: Request = {}): Question {
  const named = requestNamed(request.name ?? 'io_uring:register-buffers')
  return {
    snapshot: seen,
    release,
    request: named,
    range: rangeFor(seen, request),
    options: requestOptions(named, request),
  }
}

function rangeFor(seen: Snapshot, { start = A, pages, length }: Request): { start: number; length: number } {
  const end = seen.mappings.filter((m) => m.end > start).at(-1)?.end ?? start
  return { start, length: length ?? (pages === undefined ? end - start : pages * PAGE_SIZE) }
}

/** The verdict of one release, with the books checked after restoring and after a request that came to an end. */
export function verdictOn(seen: Snapshot, release: ReleaseName, request: Request = {}): Verdict {
  const kernels: Kernel[] = []
  const { verdict } = settle(questionFor(seen, release, request), ({ kernel }) => {
    expect(audit(kernel), `audit after restoring (${release})`).toEqual([])
    kernels.push(kernel)
    return 0
  })!
  if (verdict.ok !== null) {
    for (const kernel of kernels) expect(audit(kernel), `audit after the request (${release})`).toEqual([])
  }
  return verdict
}

/** `0`, `op`, `fa`, `in`, `nomem` or `?` as the matrix of io-uring.md writes it. */
export function code({ ok, errno }: Verdict): string {
  if (ok === null) return '?'
  if (ok) return '0'
  const short: Record<string, string> = { EOPNOTSUPP: 'op', EFAULT: 'fa', EINVAL: 'in', ENOMEM: 'nomem' }
  return short[errno ?? ''] ?? errno ?? 'short'
}

/** The order of the columns of io-uring.md §6. */
export const COLUMNS = ['6.1', 'gup-v3', '6.6', '6.12', '6.18'] as const satisfies readonly ReleaseName[]

/** One word per release; the unprivileged view of the same process must give the same. */
export function row(spec: SnapshotSpec | readonly MappingSpec[], request: Request = {}): string {
  const seen = snapshot('mappings' in spec ? spec : { mappings: spec })
  const codes = (view: Snapshot): string =>
    COLUMNS.map((release) => code(verdictOn(view, release, request))).join(' ')
  const privileged = codes(seen)
  expect(codes(unprivileged(seen)), 'without privileges').toBe(privileged)
  return privileged
}

/** The whole answer, valid by its schema. */
export function answerTo(
  spec: SnapshotSpec | Snapshot,
  request: Request = {},
  release: ReleaseName = '6.18',
): Answer {
  const seen = 'schemaVersion' in spec ? spec : snapshot(spec)
  const answer = explain({
    snapshot: seen,
    range: rangeFor(seen, request),
    ...request,
    request: request.name ?? 'io_uring:register-buffers',
    release,
  })
  expect(AnswerSchema.parse(answer)).toEqual(answer)
  expect(answer.otherReleases.map((other) => other.release).sort()).toEqual(
    RELEASE_NAMES.filter((name) => name !== release).sort(),
  )
  return answer
}
