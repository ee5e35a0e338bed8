import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { SECRETMEM, type FileKind } from '../../src/mm/file.ts'
import type { MmSettings } from '../../src/mm/kernel.ts'
import { pmdIndex, pteSlot, HugePmd, PTE_PRESENT } from '../../src/mm/page-table.ts'
import { Machine } from '../../src/task/machine.ts'
import type { Process, ProcessOptions, Protection } from '../../src/task/process.ts'
import { SyscallError } from '../../src/task/syscall-error.ts'
import { watchMachine } from '../support/kernel.ts'

export const RELEASES: readonly ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']
/** a place where nothing else is */
export const AT = 0x10000000

/** What a call came to: its result, or `-ESRCH`. */
export function outcome<T>(call: () => T): T | string {
  try {
    return call()
  } catch (error) {
    if (error instanceof SyscallError) return `-${error.code}`
    throw error
  }
}

/** A target process and somebody who looks into it. */
export class RemoteRig {
  readonly machine: Machine
  readonly target: Process
  readonly caller: Process
  /** a buffer of 4 pages in the caller */
  readonly buffer: number

  constructor(
    release: ReleaseName,
    options: {
      caller?: ProcessOptions
      target?: ProcessOptions
      settings?: Partial<MmSettings>
      memory?: string
      nodes?: number
    } = {},
  ) {
    this.machine = watchMachine(
      new Machine({
        release,
        memory: options.memory ?? '32M',
        nodes: options.nodes ?? 1,
        settings: options.settings ?? {},
        checkStaleVmas: true,
      }),
    )
    this.target = this.machine.spawn('target', options.target)
    this.caller = this.machine.spawn('caller', options.caller)
    this.buffer = this.caller.mmap({ length: 4 * PAGE_SIZE })
  }

  get kernel(): Machine['kernel'] {
    return this.machine.kernel
  }

  /** pages of the target at a fixed place, written when `touched` */
  map(
    pages: number,
    options: { at?: number; prot?: Protection; flags?: number; touched?: boolean; hugetlb?: boolean } = {},
  ): number {
    const { at = AT, prot = 'rw', flags = 0, touched = false, hugetlb = false } = options
    const length = pages * PAGE_SIZE
    const address = this.target.mmap({
      length,
      prot: touched ? 'rw' : prot,
      flags,
      address: at,
      fixed: true,
      hugetlb,
    })
    if (touched) {
      this.target.touch(address, length)
      if (prot !== 'rw') this.target.mprotect(address, length, prot)
    }
    return address
  }

  /** maps, hole, map: three pages */
  mapHoleMap(): number {
    const a = this.map(3, { touched: true })
    this.target.munmap(a + PAGE_SIZE, PAGE_SIZE)
    return a
  }

  /** a mapping of a new file */
  mapFile(
    kind: FileKind | 'ext4' | 'memfd',
    options: { prot?: Protection; shared?: boolean; at?: number; pages?: number; touched?: boolean } = {},
  ): number {
    const { prot = 'rw', shared = false, at = AT, pages = 1, touched = false } = options
    const length = pages * PAGE_SIZE
    const fd =
      kind === 'memfd'
        ? this.target.memfdCreate('m', length)
        : this.target.openFile(kind === SECRETMEM ? '/secretmem' : '/data', length, kind)
    const address = this.target.mmap({ length, prot, shared, fd, address: at, fixed: true })
    if (touched) this.target.touch(address, length)
    return address
  }

  /** present pfn at an address; 0 for none */
  pfn(process: Process, address: number): number {
    const entry = process.mm!.pageTable.pmd(pmdIndex(address))
    if (entry === null) return 0
    const slot = pteSlot(address)
    if (entry instanceof HugePmd) return entry.pfn + slot
    return (entry.bits[slot]! & PTE_PRESENT) === 0 ? 0 : entry.pfn[slot]!
  }

  /** protection of the mapping at an address as /proc/PID/maps begins, and where it starts */
  mapping(process: Process, address: number): { start: number; writable: boolean; readable: boolean } | null {
    const guard = process.mm!.mmapLock.tryRead()!
    const vma = guard.vmas.find(address)
    guard.release()
    if (vma === null || vma.start > address) return null
    return { start: vma.start, readable: (vma.flags & 1) !== 0, writable: (vma.flags & 2) !== 0 }
  }

  /** pin counters that moved during a call */
  pins(body: () => unknown): [acquired: number, released: number] {
    const { pinAcquired, pinReleased } = this.kernel
    body()
    return [this.kernel.pinAcquired - pinAcquired, this.kernel.pinReleased - pinReleased]
  }
}
