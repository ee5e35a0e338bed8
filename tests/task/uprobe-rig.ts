import { errnoName } from '../../src/base/errno.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { PG_ANON } from '../../src/memory/page-flags.ts'
import { accessRemoteVm } from '../../src/mm/access-remote-vm.ts'
import type { OpenFile } from '../../src/mm/file.ts'
import { FOLL_FORCE } from '../../src/mm/gup-flags.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import { HugePmd, PTE_PRESENT, pmdIndex, pteSlot } from '../../src/mm/page-table.ts'
import { FdTable } from '../../src/task/fd-table.ts'
import { Mm } from '../../src/mm/mm.ts'
import { Process, type Protection } from '../../src/task/process.ts'
import type { UprobeHandle, UprobeOptions } from '../../src/task/uprobe-calls.ts'
import { uprobeTable } from '../../src/task/uprobe-table.ts'
import { SyscallError } from '../../src/task/syscall-error.ts'
import { testKernel } from '../support/kernel.ts'

export const P = PAGE_SIZE
export const RELEASES = ['6.1', 'gup-v3', '6.6', '6.12', '6.18'] as const satisfies readonly ReleaseName[]
/** where the probed instruction lies in the file, and how it was before */
export const PLACE = P + 5
export const NOP = 0x90
export const INT3 = 0xcc
/** where the counter lies in the file: on its last page */
export const COUNTER = 3 * P + 0x10

/** A program of three pages of nops and one of data, its process, and a tool that sets uprobes. */
export class UprobeRig {
  readonly k: Kernel
  readonly app: Process
  readonly tool: Process
  /** of the program, in either process */
  readonly fd: number
  #place = 0x10000000

  constructor(release: ReleaseName | Kernel, options: { filesystem?: 'ext4' | 'shmem' } = {}) {
    this.k =
      typeof release === 'string'
        ? testKernel({ release, zones: { normal: 4096 }, checkStaleVmas: true })
        : release
    this.app = this.spawn('app')
    const size = 4 * P
    this.fd =
      options.filesystem === 'shmem'
        ? this.app.memfdCreate('program', size)
        : this.app.openFile('/bin/app', size)
    // page by page: one write of them all would make a large folio (R-HUGE-31.1), which a hole does not take apart
    for (let page = 0; page < 3; page++) this.app.write(this.fd, new Uint8Array(P).fill(NOP), page * P)
    this.app.write(this.fd, new Uint8Array(P), 3 * P)
    this.tool = this.spawn('tool')
    this.tool.install(this.file.get())
  }

  spawn(comm: string): Process {
    return new Process(this.k, comm, { uid: 0 }, { mm: new Mm(this.k, comm), files: new FdTable() })
  }

  get file(): OpenFile {
    return this.app.files.get(this.fd) as OpenFile
  }

  /** Maps pages of the program, apart from what is mapped already. @param first page of the file */
  map(
    pages = 3,
    options: { prot?: Protection; shared?: boolean; first?: number; at?: number; app?: Process } = {},
  ): number {
    const { prot = 'rx', shared = false, first = 0, app = this.app } = options
    const address = options.at ?? this.#place
    if (options.at === undefined) this.#place += 16 * P
    return app.mmap({
      length: pages * P,
      prot,
      shared,
      address,
      fixed: true,
      fd: this.fd,
      offset: first * P,
    })
  }

  /** Maps the page with the counter, as a program's data. @returns the address of the counter */
  mapCounter(app = this.app, prot: Protection = 'rw', shared = false): number {
    return this.map(1, { prot, shared, first: 3, app }) + (COUNTER % P)
  }

  register(options: Partial<UprobeOptions> = {}): UprobeHandle {
    return this.tool.uprobes.register({ fd: this.fd, offset: PLACE, ...options })
  }

  /** What registering comes to: 0 or `'-EINVAL'`. */
  enable(options: Partial<UprobeOptions> = {}): 0 | string {
    try {
      this.register(options)
      return 0
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      return `-${errnoName(error.errno)}`
    }
  }

  /** A byte of a process, as a debugger reads it: without changing anything but what a read fault changes. */
  byte(address: number, app = this.app): number {
    return this.bytes(address, 1, app)[0]!
  }

  /** As `byte`, several of them. @throws Error where not all can be read */
  bytes(address: number, length: number, app = this.app): Uint8Array {
    return this.#access(address, new Uint8Array(length), false, app)
  }

  /** Writes bytes into a process with force, as a debugger does. */
  poke(address: number, bytes: readonly number[], app = this.app): void {
    this.#access(address, new Uint8Array(bytes), true, app)
  }

  #access(address: number, bytes: Uint8Array, write: boolean, { mm }: Process): Uint8Array {
    const done = this.tool.run(accessRemoteVm(this.k, mm!, address, bytes, write, FOLL_FORCE))
    if (done !== bytes.length) throw new Error(`no access at ${address.toString(16)}`)
    return bytes
  }

  /** The counter, signed 16 bits. */
  count(address: number, app = this.app): number {
    return ((this.byte(address, app) | (this.byte(address + 1, app) << 8)) << 16) >> 16
  }

  setCount(address: number, value: number): void {
    this.poke(address, [value & 0xff, (value >> 8) & 0xff])
  }

  /** A byte of the file. */
  inFile(offset: number): number {
    return this.app.read(this.fd, 1, offset)[0]!
  }

  pfn(address: number, app = this.app): number {
    const entry = app.mm!.pageTable.pmd(pmdIndex(address))
    if (entry === null || entry instanceof HugePmd) return 0
    const slot = pteSlot(address)
    return (entry.bits[slot]! & PTE_PRESENT) === 0 ? 0 : entry.pfn[slot]!
  }

  isAnon(address: number, app = this.app): boolean {
    const pfn = this.pfn(address, app)
    return pfn !== 0 && this.k.memory.frames.has(pfn, PG_ANON)
  }

  get rss(): { anon: number; file: number } {
    const { rssAnon, rssFile } = this.app.mm!
    return { anon: rssAnon, file: rssFile }
  }

  get log(): readonly string[] {
    return uprobeTable(this.k)?.log ?? []
  }
}
