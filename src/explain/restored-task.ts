import type { Refusal } from '../base/refusal.ts'
import { capabilitiesOf } from '../mm/capability.ts'
import type { Answer } from './answer.ts'
import type { Capability, CurrentTask, RlimitName } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import type { Snapshot } from '../host/snapshot.ts'

/** The observed process as `current` of the engine: its limits, ids and capabilities. */
export class RestoredTask implements CurrentTask {
  readonly comm: string
  readonly pid: number
  readonly uid: number
  mm: Mm | null = null
  refusal: Refusal | null = null
  signalPending = false
  fatalSignalPending = false
  memallocPin = false
  /** how it was seen to have CAP_IPC_LOCK */
  readonly lockCapability: NonNullable<Answer['memlock']>['capability']
  readonly #limits: Record<RlimitName, number>
  readonly #capabilities: Set<Capability>

  constructor(snapshot: Snapshot) {
    const { process } = snapshot
    const soft = (limit: { soft: number | null }): number => limit.soft ?? Infinity
    this.comm = process.name
    this.pid = process.pid
    this.uid = process.uid.real
    this.#limits = {
      memlock: soft(process.limits.memlock),
      as: soft(process.limits.addressSpace),
      data: soft(process.limits.data),
      stack: soft(process.limits.stack),
      nofile: soft(process.limits.openFiles),
    }
    this.lockCapability = lockCapabilityOf(process)
    // capabilities count only where they are held in the initial user namespace (R-URING-7)
    this.#capabilities = process.initialUserNamespace === false ? new Set() : capabilitiesOf(process.capEff)
  }

  rlimit(name: RlimitName): number {
    return this.#limits[name]
  }

  /** What a hint tries: `setrlimit`, bytes. */
  setLimit(name: RlimitName, bytes: number): void {
    this.#limits[name] = bytes
  }

  /** What a hint tries: the process gets a capability it lacks. */
  grant(capability: Capability): void {
    this.#capabilities.add(capability)
  }

  capable(capability: Capability): boolean {
    return this.#capabilities.has(capability)
  }
}

/** @rule R-DRV-3 */
function lockCapabilityOf({
  capEff,
  capPrm,
  capBnd,
  initialUserNamespace,
}: Snapshot['process']): NonNullable<Answer['memlock']>['capability'] {
  const has = (set: string): boolean => capabilitiesOf(set).has('CAP_IPC_LOCK')
  if (has(capEff)) return initialUserNamespace === false ? 'user-namespace' : 'effective'
  if (capPrm === undefined || capBnd === undefined) return 'not-effective'
  if (has(capPrm)) return 'permitted'
  return has(capBnd) ? 'bounding' : 'missing'
}
