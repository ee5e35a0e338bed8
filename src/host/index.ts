/**
 * `pinscope/host`: facts about real processes of a live Linux, and snapshots of them.
 *
 * ```ts
 * import { captureProcess, pageAt, writeSnapshot } from 'pinscope/host'
 *
 * const snapshot = captureProcess(1234, { ranges: ['0x7f0000000000+64k'] })
 * snapshot.mappings[0]?.backing            // { kind: 'shmem', source: 'memfd', label: 'ring' }
 * pageAt(snapshot.pages, 0x7f0000000000)   // { bits: 258, count: 1, … } | 'none' | 'unknown'
 * writeSnapshot('app.json', snapshot)
 * ```
 *
 * Everything that cannot be read throws `HostError`: one line that says what, where and what to do.
 */
export { captureProcess } from './capture.ts'
export type { CaptureOptions } from './capture.ts'
export { openTarget } from './access.ts'
export type { Target, Tier } from './access.ts'
export { HostError } from './host-error.ts'
export type { HostErrorKind } from './host-error.ts'
export { nearestRelease } from './kernel-release.ts'
export type { ModelledRelease, NearestRelease } from './kernel-release.ts'
export { decodeMapsName, parseMaps } from './maps.ts'
export type { MapsListing, MapsName, MapsRecord } from './maps.ts'
export { anonExclusive, pageAt, pageRunsIn } from './page-runs.ts'
export type { PageRun } from './page-runs.ts'
export * from './pagemap.ts'
export { parseRange, resolveRange } from './range.ts'
export type { AddressRange, RangeRequest } from './range.ts'
export { SNAPSHOT_SCHEMA_VERSION } from './snapshot-format.ts'
export { snapshotJsonSchema } from './snapshot.ts'
export type { Backing, Mapping, PageTable, Ring, Snapshot, Unseen } from './snapshot.ts'
export { parseSnapshot, readSnapshot, writeSnapshot } from './snapshot-file.ts'
export { CAP_IPC_LOCK, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_RESOURCE, hasCapability } from './status.ts'
