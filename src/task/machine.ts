import { isReleaseName, RELEASE_NAMES, type ReleaseName } from '../base/release.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { audit, type AuditFinding } from '../mm/audit.ts'
import type { MmObserver } from '../mm/events.ts'
import { Kernel, type MmSettings } from '../mm/kernel.ts'
import { Mm } from '../mm/mm.ts'
import { FdTable } from './fd-table.ts'
import { Process, sizeInBytes, type ProcessOptions, type Size } from './process.ts'

/** CONFIG_NODES_SHIFT 10 */
const MAX_NUMNODES = 1024

export interface MachineOptions {
  /** which kernel it runs; default `gup-v3` */
  release?: ReleaseName
  /** physical memory; default 1G */
  memory?: Size
  /** how much of it lies in ZONE_MOVABLE, where longterm pins may not stay */
  movable?: Size
  /** how much of it belongs to CMA areas */
  cma?: Size
  /** NUMA nodes, numbered from 0, with equal parts of the memory; everything runs on node 0; default 1 */
  nodes?: number
  settings?: Partial<MmSettings>
  /** wrap VMAs so that touching a stale one throws; slower */
  checkStaleVmas?: boolean
}

/** Who holds how many pins, summed per holder. */
export interface PinOwner {
  readonly owner: string
  readonly pins: number
}

/** A computer with one kernel on it: make processes, let them call the kernel, look at the books. */
export class Machine {
  readonly kernel: Kernel

  constructor(options: MachineOptions = {}) {
    const release = options.release ?? 'gup-v3'
    if (!isReleaseName(release)) {
      throw new RangeError(`'${String(release)}' is not a release; known are ${RELEASE_NAMES.join(', ')}`)
    }
    const pages = (size: Size): number => Math.floor(sizeInBytes(size) / PAGE_SIZE)
    const movable = pages(options.movable ?? 0)
    const cma = pages(options.cma ?? 0)
    const normal = pages(options.memory ?? '1G') - movable - cma
    const { nodes = 1 } = options
    if (!Number.isInteger(nodes) || nodes < 1 || nodes > MAX_NUMNODES)
      throw new RangeError(`nodes must be a whole number from 1 to ${MAX_NUMNODES}`)
    if (normal <= 0) throw new RangeError('memory must be larger than movable and cma together')
    this.kernel = new Kernel({
      release,
      zones: { normal, movable, cma },
      nodes,
      settings: options.settings ?? {},
      checkStaleVmas: options.checkStaleVmas ?? false,
    })
  }

  /** A new process with an empty address space. */
  spawn(comm: string, options: ProcessOptions = {}): Process {
    return new Process(this.kernel, comm, options, { mm: new Mm(this.kernel, comm), files: new FdTable() })
  }

  /** Called for every pin, unpin, map, unmap, COW copy, … from now on; null stops it. */
  observe(observer: MmObserver | null): void {
    this.kernel.observer = observer
  }

  /** FOLL_PIN references that somebody holds, by holder. */
  pins(): PinOwner[] {
    const owners: PinOwner[] = []
    for (const holder of this.kernel.holders) {
      let pins = 0
      holder.forEachReference((_pfn, _references, held) => (pins += held))
      if (pins > 0) owners.push({ owner: holder.name, pins })
    }
    return owners
  }

  /** Time passes: what the kernel puts off happens (a replaced buffer of 6.1 is released), woken tasks run. */
  settle(): void {
    this.kernel.settle()
  }

  /** Differences between every counter and what it must be; empty when the books balance. */
  audit(): AuditFinding[] {
    return audit(this.kernel)
  }
}
