/** A process with devices, and short words for the memory and the answers device tests are made of. */
import { expect } from 'vitest'
import { errnoName } from '../../src/base/errno.ts'
import type { Refusal } from '../../src/base/refusal.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { Unmodelled } from '../../src/base/unmodelled.ts'
import { audit } from '../../src/mm/audit.ts'
import type { FailNth } from '../../src/mm/fail-nth.ts'
import { SECRETMEM } from '../../src/mm/file.ts'
import { Kernel, type Capability, type KernelOptions } from '../../src/mm/kernel.ts'
import { Mm } from '../../src/mm/mm.ts'
import { createUserfaultfd, uffdRegister, type Userfaultfd } from '../../src/mm/userfaultfd.ts'
import { FdTable } from '../../src/task/fd-table.ts'
import { Process } from '../../src/task/process.ts'
import { SyscallError } from '../../src/task/syscall-error.ts'
import { testKernel } from '../support/kernel.ts'
import { walkFailures } from '../support/walk-failures.ts'

export const P = PAGE_SIZE
export const RELEASES = ['6.1', 'gup-v3', '6.6', '6.12', '6.18'] as const satisfies readonly ReleaseName[]

export interface RigOptions {
  readonly capabilities?: readonly Capability[]
  /** RLIMIT_MEMLOCK in pages (L of the vectors); unlimited without */
  readonly limit?: number
  readonly uid?: number
  readonly kernel?: KernelOptions
}

export class Rig {
  readonly k: Kernel
  readonly app: Process
  #place = 0x10000000

  constructor(release: ReleaseName | Kernel, options: RigOptions = {}) {
    this.k =
      typeof release === 'string'
        ? testKernel({ zones: { normal: 8192 }, ...options.kernel, release })
        : release
    this.app = this.spawn('app', options)
  }

  spawn(comm: string, { capabilities = [], limit, uid = 1000 }: RigOptions = {}): Process {
    const limits = limit === undefined ? {} : { memlock: limit * P }
    // sockets need a capability of their own, which says nothing about the limit
    const options = { uid, limits, capabilities: ['CAP_NET_RAW' as const, ...capabilities] }
    return new Process(this.k, comm, options, { mm: new Mm(this.k, comm), files: new FdTable() })
  }

  /**
   * Memory as the vectors write it: `rw8+hole8` are 8 pages of private anonymous memory and 8 of nothing.
   * Words: `rw`, `ro`, `none`, `hole`, `memfd`, `ext4s` (shared, writable), `ext4p` (private), `secret`, `roshared`.
   * @returns the address of the first page
   */
  memory(layout: string, app: Process = this.app): number {
    const parts = layout.split('+').map((part) => /^(ext4[sp]|[a-z]+)(\d+)$/.exec(part)!)
    const start = this.#place
    let at = start
    for (const [, kind, count] of parts) {
      const length = Number(count) * P
      if (kind !== 'hole') this.#map(app, kind!, at, length)
      at += length
    }
    this.#place = at + 16 * P
    return start
  }

  #map(app: Process, kind: string, address: number, length: number): void {
    const fixed = { address, length, fixed: true }
    switch (kind) {
      case 'rw':
        return void app.mmap(fixed)
      case 'ro':
        return void app.mmap({ ...fixed, prot: 'r' })
      case 'none':
        return void app.mmap({ ...fixed, prot: '' })
      case 'roshared':
        return void app.mmap({ ...fixed, prot: 'r', shared: true })
      case 'memfd':
        return void app.mmap({ ...fixed, shared: true, fd: app.memfdCreate('m', length) })
      case 'ext4s':
        return void app.mmap({ ...fixed, shared: true, fd: app.openFile('/data', length) })
      case 'ext4p':
        return void app.mmap({ ...fixed, fd: app.openFile('/data', length) })
      case 'secret':
        return void app.mmap({ ...fixed, shared: true, fd: app.openFile('/secretmem', length, SECRETMEM) })
      default:
        throw new Error(`no such memory: ${kind}`)
    }
  }

  /** A userfaultfd that is told of missing pages. */
  watch(address: number, pages: number): Userfaultfd {
    const mm = this.app.mm!
    const uffd = createUserfaultfd(this.k, { mm })
    expect(this.app.run(uffdRegister(this.k, uffd, mm, address, pages * P, 1))).toBe(0)
    return uffd
  }

  /** pins that are held now */
  get pinned(): number {
    return this.k.pinAcquired - this.k.pinReleased
  }

  /** user->locked_vm of a uid */
  locked(uid = 1000): number {
    return this.k.user(uid).lockedVm
  }

  text(bytes: Uint8Array): string {
    return String.fromCharCode(...bytes)
  }

  store(address: number, text: string, app: Process = this.app): void {
    app.store(address, new TextEncoder().encode(text))
  }
}

/** What a call returns: its result, or `'-EFAULT'`. */
export function answer(call: () => number): number | string {
  try {
    return call()
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    return `-${error.code}`
  }
}

/** Why a call is refused. */
export function reason(call: () => number): Refusal {
  try {
    call()
  } catch (error) {
    if (error instanceof SyscallError && error.reason !== null) return error.reason
    throw error
  }
  throw new Error('the call succeeded')
}

/** `'-EFAULT'` for -14, counts as they are. */
export function shown(value: number): number | string {
  return value < 0 ? `-${errnoName(value)}` : value
}

/** What a device test does with something failing in between: prepares a process and returns the requests. */
export type Requests = (rig: Rig) => () => void

/**
 * Runs requests with the first, second, … allocation, migration, fault, charge and device mapping failing, then
 * lets the process exit: every counter is right at each point, and no pin is left. Then the same with the process
 * being killed after its first, second, … pin.
 * @param options capabilities and limits of the process
 * @returns how many failures and kills there were
 */
export function walkDevice(release: ReleaseName, requests: Requests, options: RigOptions = {}): number {
  const failures = walkFailures(release, (k) => {
    const rig = new Rig(k, options)
    const act = requests(rig)
    return () => {
      ignoringErrors(act)
      expect(audit(k)).toEqual([])
      end(rig)
    }
  })
  return failures + walkKills(release, requests, options)
}

function walkKills(release: ReleaseName, requests: Requests, options: RigOptions): number {
  for (let n = 1; ; n++) {
    const k = new Kernel({ release, zones: { normal: 3072, movable: 1024 }, checkStaleVmas: true })
    const rig = new Rig(k, options)
    const act = requests(rig)
    let seen = 0
    k.observer = ({ type }) => {
      if ((type === 'pin' || type === 'map' || type === 'cow') && ++seen === n) {
        rig.app.signalPending = true
        rig.app.fatalSignalPending = true
      }
    }
    ignoringErrors(act)
    k.observer = null
    end(rig)
    expect(audit(k), `killed at ${n}`).toEqual([])
    if (seen < n) return n - 1
  }
}

function end({ k, app }: Rig): void {
  k.failNth(null)
  app.exit()
  k.settle()
  expect(k.pinAcquired - k.pinReleased, 'pins after the process has gone').toBe(leakedPins(k))
}

function leakedPins(k: Kernel): number {
  let pins = 0
  for (const holder of k.holders) {
    if (holder.name.startsWith('leaked: ')) holder.forEachReference((_pfn, _references, n) => (pins += n))
  }
  return pins
}

function ignoringErrors(act: () => void): void {
  try {
    act()
  } catch (error) {
    if (error instanceof SyscallError) return
    if (error instanceof Unmodelled && error.message.includes('the OOM killer')) return
    throw error
  }
}

export type { FailNth }
