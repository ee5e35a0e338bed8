import type { Mapping, Snapshot } from '../host/snapshot.ts'
import type { RequestRange } from './request.ts'

/** The mappings a range touches, in order. */
export function mappingsOf(snapshot: Snapshot, range: RequestRange): Mapping[] {
  return snapshot.mappings.filter((m) => m.start < range.start + range.length && range.start < m.end)
}
