import type { By, StepKind, StepKinds } from './step-kind.ts'
import { accessSteps, type AccessStep } from './steps/access.ts'
import { bulkSteps, type BulkStep } from './steps/bulk.ts'
import { fileIoSteps, type FileIoStep } from './steps/file-io.ts'
import { edgeSteps, type EdgeStep } from './steps/edges.ts'
import { farSteps, type FarStep } from './steps/far.ts'
import { fileSteps, type FileStep } from './steps/files.ts'
import { ksmSteps, type KsmStep } from './steps/ksm.ts'
import { keySteps, type KeyStep } from './steps/keys.ts'
import { heapSteps, type HeapStep } from './steps/heap.ts'
import { imageSteps, type ImageStep } from './steps/image.ts'
import { lockSteps, type LockStep } from './steps/locks.ts'
import { pipeSteps, type PipeStep } from './steps/pipes.ts'
import { placementSteps, type PlacementStep } from './steps/placement.ts'
import { processSteps, type ProcessStep } from './steps/processes.ts'
import { remoteSteps, type RemoteStep } from './steps/remote.ts'
import { residenceSteps, type ResidenceStep } from './steps/residence.ts'
import { requestSteps, type RequestStep } from './steps/requests.ts'
import { ringRestrictionSteps, type RingRestrictionStep } from './steps/ring-restrictions.ts'
import { ringBufferSteps, type RingBufferStep } from './steps/ring-buffers.ts'
import { ringSteps, type RingStep } from './steps/rings.ts'
import { sealSteps, type SealStep } from './steps/seals.ts'
import { spaceSteps, type SpaceStep } from './steps/space.ts'
import { uffdSteps, type UffdStep } from './steps/uffd.ts'
import { secretSteps, type SecretStep } from './steps/secret.ts'
import { spaceLimitSteps, type SpaceLimitStep } from './steps/space-limits.ts'
import { sysvSteps, type SysvStep } from './steps/sysv.ts'
import { sendSteps, type SendStep } from './steps/sends.ts'
import { xdpOptionSteps, type XdpOptionStep } from './steps/xdp-options.ts'
import { xdpSteps, type XdpStep } from './steps/xdp.ts'

/**
 * One thing a process of a program does. Addresses are bytes from the start of the arena; files, rings and
 * processes are numbers of the program's own.
 */
export type StepBody =
  | SpaceStep
  | LockStep
  | KsmStep
  | AccessStep
  | FileStep
  | FileIoStep
  | PipeStep
  | ProcessStep
  | RemoteStep
  | PlacementStep
  | RingStep
  | UffdStep
  | ResidenceStep
  | HeapStep
  | SpaceLimitStep
  | SysvStep
  | ImageStep
  | EdgeStep
  | RingBufferStep
  | RequestStep
  | XdpStep
  | SecretStep
  | SealStep
  | FarStep
  | KeyStep
  | XdpOptionStep
  | RingRestrictionStep
  | SendStep
  | BulkStep

export type Step = By<StepBody>
export type Op = StepBody['op']

const kinds: StepKinds<StepBody> = {
  ...spaceSteps,
  ...ksmSteps,
  ...lockSteps,
  ...accessSteps,
  ...fileSteps,
  ...fileIoSteps,
  ...bulkSteps,
  ...pipeSteps,
  ...processSteps,
  ...remoteSteps,
  ...placementSteps,
  ...ringSteps,
  ...uffdSteps,
  ...residenceSteps,
  ...heapSteps,
  ...spaceLimitSteps,
  ...sysvSteps,
  ...imageSteps,
  ...edgeSteps,
  ...ringBufferSteps,
  ...requestSteps,
  ...xdpSteps,
  ...secretSteps,
  ...sealSteps,
  ...farSteps,
  ...keySteps,
  ...xdpOptionSteps,
  ...ringRestrictionSteps,
  ...sendSteps,
}

/** The step list. */
export const OPS = Object.keys(kinds) as readonly Op[]

export function isOp(name: unknown): name is Op {
  return typeof name === 'string' && Object.hasOwn(kinds, name)
}

/** Everything about a step of this name. */
export function stepKind(op: Op): StepKind<StepBody> {
  // a kind only ever gets steps of its own name
  return kinds[op] as unknown as StepKind<StepBody>
}

/** One step as a person reads it: `p1: madvise @3 2 pages DONTNEED`. */
export function stepText(step: Step): string {
  const text = stepKind(step.op).text(step)
  return step.by === 0 ? text : `p${step.by}: ${text}`
}
