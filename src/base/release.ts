import { isVerified } from './conformance-record.ts'
import { driverSwitches, type DriverSwitches } from './releases/drivers.ts'
import { faultSwitches, type FaultSwitches } from './releases/fault.ts'
import { gupSwitches, type GupSwitches } from './releases/gup.ts'
import { ioUringSwitches, type IoUringSwitches } from './releases/io-uring.ts'
import { kvmSwitches, type KvmSwitches } from './releases/kvm.ts'
import { mmSwitches, type MmSwitches } from './releases/mm.ts'
import { procSwitches, type ProcSwitches } from './releases/proc.ts'
import { remoteSwitches, type RemoteSwitches } from './releases/remote.ts'
import { uffdSwitches, type UffdSwitches } from './releases/uffd.ts'
import { uprobeSwitches, type UprobeSwitches } from './releases/uprobes.ts'

/**
 * The kernels the engine can be. `gup-v3` is the series "remove the vmas parameter from GUP APIs" (v3)
 * on 6.4-rc, and the default.
 */
export const RELEASE_NAMES = ['gup-v3', '6.1', '6.6', '6.12', '6.18'] as const
export type ReleaseName = (typeof RELEASE_NAMES)[number]

/**
 * One release: a set of named switches. Code asks a switch (`release.gup.sameFileFlag`), never a
 * version; each switch's comment says what changed and when.
 */
export interface Release {
  readonly name: ReleaseName
  /** conformance runs on that very kernel reach its bar (conformance-record.ts) */
  readonly verified: boolean
  readonly gup: GupSwitches
  readonly mm: MmSwitches
  readonly fault: FaultSwitches
  readonly ioUring: IoUringSwitches
  readonly kvm: KvmSwitches
  readonly proc: ProcSwitches
  readonly remote: RemoteSwitches
  readonly uffd: UffdSwitches
  readonly uprobes: UprobeSwitches
  readonly drivers: DriverSwitches
}

function release(name: ReleaseName): Release {
  return {
    name,
    verified: isVerified(name),
    gup: gupSwitches[name],
    mm: mmSwitches[name],
    fault: faultSwitches[name],
    ioUring: ioUringSwitches[name],
    kvm: kvmSwitches[name],
    proc: procSwitches[name],
    remote: remoteSwitches[name],
    uffd: uffdSwitches[name],
    uprobes: uprobeSwitches[name],
    drivers: driverSwitches[name],
  }
}

/** All releases by name. */
export const releases: Readonly<Record<ReleaseName, Release>> = {
  'gup-v3': release('gup-v3'),
  '6.1': release('6.1'),
  '6.6': release('6.6'),
  '6.12': release('6.12'),
  '6.18': release('6.18'),
}

export function isReleaseName(name: string): name is ReleaseName {
  return (RELEASE_NAMES as readonly string[]).includes(name)
}
