/**
 * What tests of reported failures ask. `DRV report N` in a test's name is row N of drivers.md §15: the situation that
 * somebody described, rebuilt; the answer must name the cause that their thread ended with.
 */
import { expect } from 'vitest'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import type { Answer } from '../../src/explain/answer.ts'
import { answerTo, verdictOn, type Request } from '../explain/asking.ts'
import { A, snapshot, type MappingSpec, type SnapshotSpec } from '../explain/snapshots.ts'

export const P = PAGE_SIZE
export const MiB = 2 ** 20

/** Ordinary memory of so many pages. */
export const anon = (pages: number, start = A): MappingSpec => ({ start, pages, look: [['anon', pages]] })

/** Memory that nobody has touched yet. */
export const untouched = (pages: number, start = A): MappingSpec => ({ start, pages })

/** What `explain` says; the books of the engine that it asked are right afterwards. */
export function told(spec: SnapshotSpec, request: Request, release: ReleaseName = '6.18'): Answer {
  const answer = answerTo(spec, request, release)
  expect(verdictOn(snapshot(spec), release, request)).toEqual(answer.verdict)
  return answer
}

/** What the answer advises; each was tried in the engine. */
export const fixes = ({ hints }: Answer): string => hints.map(({ text }) => text).join('\n')

/** What it says besides. */
export const remarks = ({ assumptions }: Answer): string => assumptions.join('\n')
