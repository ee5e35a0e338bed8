/** A task with a ring, and short words for the mappings and calls the io_uring tests are made of. */
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import { ioUringEnter } from '../../src/io_uring/enter.ts'
import { type IoUring, ioUringSetup } from '../../src/io_uring/io-uring.ts'
import {
  IORING_REGISTER_BUFFERS,
  IORING_REGISTER_BUFFERS2,
  IORING_REGISTER_BUFFERS_UPDATE,
  IORING_UNREGISTER_BUFFERS,
  ioUringRegister,
  type RingFd,
} from '../../src/io_uring/register.ts'
import { IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED, type Sqe } from '../../src/io_uring/request.ts'
import type { SetupParams } from '../../src/io_uring/setup-flags.ts'
import type {
  Iovec,
  IovecArray,
  RegisterArgument,
  RsrcRegister,
  RsrcUpdate,
} from '../../src/io_uring/user-args.ts'
import { PG_DRIVER, PG_UPTODATE } from '../../src/memory/page-flags.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import { fileRead, fileWrite } from '../../src/mm/file-io.ts'
import { SHMEM, driverKind, type FileKind, type OpenFile } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { hugetlbFileSetup, hugetlbPool } from '../../src/mm/hugetlb.ts'
import { BufferIter } from '../../src/mm/iov-iter.ts'
import type { Kernel, KernelOptions } from '../../src/mm/kernel.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_HUGEPAGE,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_HUGETLB,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
} from '../../src/mm/mman.ts'
import { mmap } from '../../src/mm/mmap.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { PTE_ACCESSED, PTE_PRESENT, PTE_WRITE, pteSlot } from '../../src/mm/page-table.ts'
import { accessUser, loadUser, storeUser } from '../../src/mm/user-access.ts'
import { FdTable, type FileDescription } from '../../src/task/fd-table.ts'
import { result, testKernel, testTask, type TestTask, type TestTaskOptions } from '../support/kernel.ts'

export const RW = PROT_READ | PROT_WRITE
export const P = PAGE_SIZE
/** bytes of a huge page */
export const H = PMD_SIZE

/** What one call did, in the words of the vectors. */
export interface Outcome {
  readonly result: number | string
  /** FOLL_PIN references taken and given back during the call */
  readonly acq: number
  readonly rel: number
  /** change of VmPin, pages */
  readonly vmPin: number
}

export class Rig {
  readonly k: Kernel
  readonly task: TestTask
  readonly ring: IoUring
  readonly files = new FdTable()
  #place = 0x10000000

  constructor(
    release: ReleaseName,
    options: { task?: TestTaskOptions; setup?: Partial<SetupParams>; kernel?: KernelOptions } = {},
  ) {
    this.k = testKernel({ zones: { normal: 16384 }, ...options.kernel, release })
    this.task = testTask(this.k, options.task ?? { comm: 'root', uid: 0, capabilities: ['CAP_IPC_LOCK'] })
    this.ring = this.newRing(options.setup)
  }

  newRing(params: Partial<SetupParams> = {}, task: TestTask = this.task): IoUring {
    const ring = task.run(ioUringSetup(this.k, { entries: 4, ...params }))
    if (typeof ring === 'number') throw new Error(`io_uring_setup: ${result(ring)}`)
    return ring
  }

  // ---- mappings -----------------------------------------------------------------------------------

  /** A range of n pages that nothing uses, huge-page aligned, with room around it. */
  place(pages: number): number {
    const at = this.#place
    this.#place += Math.ceil((pages * P) / H + 2) * H
    return at
  }

  /** Maps at a fixed address: a fresh place unless one is given. */
  map(
    pages: number,
    prot: number,
    flags: number,
    file: OpenFile | null = null,
    at = this.place(pages),
    pgoff = 0,
  ): number {
    const request = { addr: at, length: pages * P, prot, flags: flags | MAP_FIXED, file, offset: pgoff * P }
    const address = this.task.run(mmap(this.k, this.task.space, request))
    if (address !== at) throw new Error(`mmap: ${result(address)} ${JSON.stringify(this.task.refusal)}`)
    return address
  }

  anon(pages: number, prot = RW, at?: number, flags = MAP_PRIVATE): number {
    return this.map(pages, prot, flags | MAP_ANONYMOUS, null, at)
  }

  file(kind: FileKind, pages: number, access: { readable?: boolean; writable?: boolean } = {}): OpenFile {
    return createFile(this.k, kind, { path: `/${kind.name}`, size: pages * P, ...access })
  }

  memfd(pages: number): OpenFile {
    return this.file(SHMEM, pages)
  }

  /** Maps a file and closes it. */
  mapped(file: OpenFile, pages: number, prot: number, flags: number, at?: number, pgoff = 0): number {
    const address = this.map(pages, prot, flags, file, at, pgoff)
    file.put()
    return address
  }

  hugePool(pages: number): void {
    if (hugetlbPool(this.k).resize(pages) !== pages)
      throw new Error('not enough memory for the huge page pool')
  }

  /** Private anonymous huge pages. */
  hugetlb(hugePages: number, at?: number, flags = MAP_PRIVATE): number {
    return this.map(hugePages * 512, RW, flags | MAP_ANONYMOUS | MAP_HUGETLB, null, at)
  }

  hugetlbFile(hugePages: number): OpenFile {
    return hugetlbFileSetup(this.k, { size: hugePages * H, pageSize: H, name: '/huge', noreserve: true })
  }

  /** Anonymous memory in transparent huge pages, touched. */
  thp(hugePages: number): number {
    const address = this.anon(hugePages * 512, RW, undefined, MAP_PRIVATE | MAP_NORESERVE)
    this.ok(madvise(this.k, this.task.space, address, hugePages * H, MADV_HUGEPAGE))
    for (let i = 0; i < hugePages; i++) this.touch(address + i * H)
    return address
  }

  /** A driver's mapping with ordinary pages in place, as a KVM vcpu's run page. */
  driver(name: string, pages: number): number {
    const address = this.mapped(this.file(driverKind(name), pages), pages, RW, MAP_SHARED)
    const mm = this.task.space
    for (let at = address; at < address + pages * P; at += P) {
      const pfn = this.k.memory.allocFolio(0, { movable: false })
      this.k.memory.frames.set(pfn, PG_DRIVER | PG_UPTODATE)
      this.k.memory.frames.mapcount[pfn] = 1
      mm.pageTable.leafFor(at).set(pteSlot(at), pfn, PTE_PRESENT | PTE_ACCESSED | PTE_WRITE)
      mm.rssFile++
    }
    return address
  }

  unmap(address: number, pages: number): void {
    this.ok(munmap(this.k, this.task.space, address, pages * P))
  }

  protect(address: number, pages: number, prot: number): void {
    this.ok(mprotect(this.k, this.task.space, address, pages * P, prot))
  }

  touch(address: number, write = true): void {
    const access = this.task.run(accessUser(this.k, this.task.space, address, write))
    if (!access.ok) throw new Error(`touch: ${access.signal}`)
  }

  ok(body: Generator<never, number> | ReturnType<typeof munmap>): void {
    const value = this.task.run(body)
    if (value < 0) throw new Error(String(result(value)))
  }

  // ---- calls --------------------------------------------------------------------------------------

  /** io_uring_register as a task, with the counters around it. */
  call(
    opcode: number,
    arg: RegisterArgument,
    nrArgs: number,
    ring: RingFd = this.ring,
    task: TestTask = this.task,
  ): Outcome {
    const { k } = this
    const before = { acq: k.pinAcquired, rel: k.pinReleased, vmPin: this.task.space.pinnedVm }
    const value = task.run(ioUringRegister(k, ring, opcode, arg, nrArgs))
    return {
      result: result(value),
      acq: k.pinAcquired - before.acq,
      rel: k.pinReleased - before.rel,
      vmPin: this.task.space.pinnedVm - before.vmPin,
    }
  }

  register(
    iovecs: IovecArray,
    nr = iovecs.length,
    ring: RingFd = this.ring,
    task: TestTask = this.task,
  ): Outcome {
    return this.call(IORING_REGISTER_BUFFERS, { type: 'iovecs', iovecs }, nr, ring, task)
  }

  /** One buffer. */
  buffer(base: number, length: number, ring: RingFd = this.ring, task: TestTask = this.task): Outcome {
    return this.register([{ base, length }], 1, ring, task)
  }

  unregister(ring: RingFd = this.ring, task: TestTask = this.task): Outcome {
    return this.call(IORING_UNREGISTER_BUFFERS, null, 0, ring, task)
  }

  register2(arg: Omit<RsrcRegister, 'type'>, ring: RingFd = this.ring): Outcome {
    return this.call(IORING_REGISTER_BUFFERS2, { type: 'rsrc-register', ...arg }, 32, ring)
  }

  sparse(nr: number, ring: RingFd = this.ring): Outcome {
    return this.register2({ nr, flags: 1, data: null }, ring)
  }

  update(
    offset: number,
    data: readonly Iovec[],
    tags: RsrcUpdate['tags'] = null,
    ring: RingFd = this.ring,
    task: TestTask = this.task,
  ): Outcome {
    const arg: RsrcUpdate = { type: 'rsrc-update', offset, data, tags, nr: data.length }
    return this.call(IORING_REGISTER_BUFFERS_UPDATE, arg, 32, ring, task)
  }

  // ---- requests -----------------------------------------------------------------------------------

  /** Puts an open file under a descriptor of its own, for requests. */
  fd(file: FileDescription): number {
    return this.files.install(file, 1024)
  }

  /** Submits requests and lets those that can go on do so. @returns what io_uring_enter returned */
  submit(sqes: readonly Sqe[], ring: IoUring = this.ring, task: TestTask = this.task): number | string {
    ring.sqes.push(...sqes)
    const lookup = (fd: number): FileDescription | null => this.files.get(fd)
    const taken = task.run(ioUringEnter(this.k, ring, ring.sqes.length, true, lookup))
    this.k.scheduler.runUntilIdle()
    return result(taken)
  }

  /** Takes all completions: [user_data, result] */
  completions(ring: IoUring = this.ring): [number, number | string][] {
    return ring.cqes.splice(0).map(({ userData, res }) => [userData, result(res)])
  }

  /** One request, submitted alone. @returns its result, null while it waits */
  request(sqe: Sqe, ring: IoUring = this.ring, task: TestTask = this.task): number | string | null {
    this.submit([{ userData: 99, ...sqe }], ring, task)
    const at = ring.cqes.findIndex(({ userData }) => userData === 99)
    return at < 0 ? null : result(ring.cqes.splice(at, 1)[0]!.res)
  }

  /** READ_FIXED of a file into the buffer in slot 0 */
  readFixed(fd: number, addr: number, len: number, more: Partial<Sqe> = {}): number | string | null {
    return this.request({ opcode: IORING_OP_READ_FIXED, fd, addr, len, ...more })
  }

  /** WRITE_FIXED from the buffer in slot 0 to the start of a file */
  writeFixed(fd: number, addr: number, len: number, more: Partial<Sqe> = {}): number | string | null {
    return this.request({ opcode: IORING_OP_WRITE_FIXED, fd, addr, len, ...more })
  }

  /** A memory file that is full of one letter. */
  letters(letter: string, length = P): number {
    const file = this.memfd(0)
    const bytes = new Uint8Array(length).fill(letter.charCodeAt(0))
    this.ok(fileWrite(this.k, file, 0, new BufferIter(bytes)))
    return this.fd(file)
  }

  /** What WRITE_FIXED of one byte sends to a new file: the pinned page's byte. */
  sent(addr: number, task: TestTask = this.task): string {
    const file = this.memfd(0)
    const fd = this.fd(file)
    const done = this.request({ opcode: IORING_OP_WRITE_FIXED, fd, addr, len: 1 }, this.ring, task)
    if (done !== 1) throw new Error(`WRITE_FIXED: ${done}`)
    return this.fileText(file, 1)
  }

  fileText(file: OpenFile, length: number, offset = 0): string {
    const into = new Uint8Array(length)
    this.ok(fileRead(this.k, file, offset, new BufferIter(into)))
    return String.fromCharCode(...into)
  }

  /** The program stores a letter, or bytes. */
  store(address: number, what: string | Uint8Array, task: TestTask = this.task): void {
    const bytes = typeof what === 'string' ? new TextEncoder().encode(what) : what
    const done = task.run(storeUser(this.k, task.space, address, bytes))
    if (!done.ok) throw new Error(`store: ${done.signal}`)
  }

  /** What the program sees: a letter, '.' for 0, or the signal. */
  sees(address: number, task: TestTask = this.task): string {
    const byte = new Uint8Array(1)
    const done = task.run(loadUser(this.k, task.space, address, byte))
    if (!done.ok) return done.signal
    return byte[0] === 0 ? '.' : String.fromCharCode(byte[0]!)
  }

  pfnAt(address: number): number {
    const leaf = this.task.space.pageTable.leafFor(address)
    return leaf.pfn[pteSlot(address)]!
  }

  /** Maps a part of a ring where the kernel likes. @returns the address, or the errno */
  mapRing(ring: IoUring, offset: number, pages: number, flags = MAP_SHARED, prot = RW): number | string {
    const request = { addr: 0, length: pages * P, prot, flags, file: ring.file, offset }
    return result(this.task.run(mmap(this.k, this.task.space, request)))
  }

  fork(): TestTask {
    const mm = this.task.run(forkMm(this.k, this.task.space, 'child'))
    if (typeof mm === 'number') throw new Error('fork')
    return testTask(this.k, { comm: 'child', uid: this.task.uid, mm })
  }

  exit(task: TestTask): void {
    const mm = task.space
    for (const hook of this.k.exitHooks) hook(task)
    task.mm = null
    task.run(exitMmap(this.k, mm))
  }

  get vmPin(): number {
    return this.task.space.pinnedVm
  }

  /** pins that are held now */
  get pinned(): number {
    return this.k.pinAcquired - this.k.pinReleased
  }
}

export { PROT_READ, PROT_WRITE }
