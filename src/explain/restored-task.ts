import type { Refusal } from '../base/refusal.ts'
import type { Capability, CurrentTask, RlimitName } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import type { Snapshot } from '../host/snapshot.ts'

/** bit numbers of CapEff (R-ST-4) */
const capabilityBits: readonly (readonly [Capability, number])[] = [
  ['CAP_NET_RAW', 13],
  ['CAP_IPC_LOCK', 14],
  ['CAP_SYS_RAWIO', 17],
  ['CAP_SYS_ADMIN', 21],
  ['CAP_SYS_NICE', 23],
  ['CAP_SYS_RESOURCE', 24],
]

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

/** CapEff as /proc/PID/status prints it: 16 hex digits, read as two halves of 32 bits. */
function capabilitiesOf(hex: string): Set<Capability> {
  const low = Number.parseInt(hex.slice(-8), 16)
  return new Set(capabilityBits.filter(([, bit]) => (low & (1 << bit)) !== 0).map(([name]) => name))
}
