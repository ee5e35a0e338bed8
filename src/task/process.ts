import { EBADF, EINVAL } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import type { Refusal } from '../base/refusal.ts'
import { PAGE_SIZE, parseSize } from '../base/units.ts'
import { brk } from '../mm/brk.ts'
import { mmput } from '../mm/exit-mmap.ts'
import { OpenFile, SHMEM, regularFileKind, type FileKind } from '../mm/file.ts'
import { createFile } from '../mm/filemap.ts'
import { forkMm } from '../mm/fork.ts'
import { hugetlbFileSetup } from '../mm/hugetlb.ts'
import type { Capability, Kernel, RlimitName } from '../mm/kernel.ts'
import { madvise } from '../mm/madvise.ts'
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_HUGETLB,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_EXEC,
  PROT_MTE,
  PROT_READ,
  PROT_WRITE,
} from '../mm/mman.ts'
import { mlock, munlock } from '../mm/mlock.ts'
import type { Mm } from '../mm/mm.ts'
import { mmap } from '../mm/mmap.ts'
import { mprotect } from '../mm/mprotect.ts'
import { mremap } from '../mm/mremap.ts'
import { munmap } from '../mm/munmap.ts'
import { ftruncate } from '../mm/truncate.ts'
import { BufferIter } from '../mm/iov-iter.ts'
import { NO_RANDOM, type LayoutRandom } from '../mm/mmap-layout.ts'
import { SI_KERNEL, loadUser, storeUser, type AccessResult } from '../mm/user-access.ts'
import type { ExecImage } from '../mm/exec-mm.ts'
import { execve, type ArgVector } from './exec.ts'
import type { FdTable, FileDescription } from './fd-table.ts'
import { PipeEnd, makePipe } from './pipe.ts'
import { vfsRead, vfsWrite } from './read-write.ts'
import { IoCalls } from './io-calls.ts'
import { ProcCalls } from './proc-calls.ts'
import { RemoteCalls } from './remote-calls.ts'
import { SignalError } from './signal-error.ts'
import { SyscallError } from './syscall-error.ts'
import { addTask, exitTask, type TaskStruct, type Trace } from './task.ts'
import { UprobeCalls } from './uprobe-calls.ts'

/** Bytes as a number or as people write them: `65536`, `'64k'`, `'1G'`. */
export type Size = number | string

/** @throws RangeError when the text is no size */
export function sizeInBytes(size: Size): number {
  const bytes = typeof size === 'number' ? size : parseSize(size)
  if (bytes === null) throw new RangeError(`'${size}' is not a size; write 4096, 64k, 2M or 1G`)
  return bytes
}

type Access = '' | 'r' | 'w' | 'x' | 'rw' | 'rx' | 'wx' | 'rwx'
/** `'rw'`, `'r'`, `'rwx'`, `''` (PROT_NONE); with an `m` PROT_MTE of arm64: `'rwm'`. */
export type Protection = Access | `${Access}m`

function protectionBits(prot: Protection): number {
  return (
    (prot.includes('r') ? PROT_READ : 0) |
    (prot.includes('w') ? PROT_WRITE : 0) |
    (prot.includes('x') ? PROT_EXEC : 0) |
    (prot.endsWith('m') ? PROT_MTE : 0)
  )
}

export interface MapOptions {
  length: Size
  prot?: Protection
  /** hint, or the place itself with `fixed` */
  address?: number
  fixed?: boolean
  shared?: boolean
  /** descriptor of what to map; anonymous memory without one */
  fd?: number
  /** bytes into the file */
  offset?: number
  /** MAP_HUGETLB */
  hugetlb?: boolean
  /** further MAP_* bits */
  flags?: number
}

/** What execve(2) is asked for. Without an image the new program has a stack and nothing else. */
export interface ExecOptions {
  readonly path: string
  /** default: the path alone */
  readonly argv?: ArgVector
  readonly envp?: ArgVector
  readonly image?: ExecImage
  /** ASLR; default none */
  readonly random?: LayoutRandom
}

const EMPTY_IMAGE: ExecImage = { segments: [], startBrk: 0x1000_0000, code: [0, 0], data: [0, 0] }

export interface ProcessOptions {
  /** real uid; default 1000 */
  uid?: number
  /** real gid; default the uid */
  gid?: number
  /** soft limits; what is not named is unlimited, except `stack` 8M and `nofile` 1024 */
  limits?: Partial<Record<RlimitName, Size>>
  capabilities?: readonly Capability[]
}

/** What a child takes over besides its memory. */
interface Inheritance {
  readonly mm: Mm
  readonly files: FdTable
}

/**
 * One process with one thread: address space, credentials, limits, descriptors and its system calls.
 * A call that fails throws `SyscallError`; an access that faults throws `SignalError`.
 */
export class Process implements TaskStruct {
  readonly kernel: Kernel
  readonly comm: string
  readonly pid: number
  readonly uid: number
  readonly gid: number
  readonly capabilities: ReadonlySet<Capability>
  readonly files: FdTable
  /** process_vm_readv(2), ptrace(2), /proc/PID/mem */
  readonly remote = new RemoteCalls(this)
  /** /proc/PID/maps, smaps, status, pagemap, … */
  readonly proc = new ProcCalls(this)
  /** read(2) and write(2) with user memory, vmsplice(2), O_DIRECT */
  readonly io = new IoCalls(this)
  /** breakpoints in files: uprobe_register, tracefs */
  readonly uprobes = new UprobeCalls(this)
  mm: Mm | null
  refusal: Refusal | null = null
  signalPending = false
  fatalSignalPending = false
  memallocPin = false
  /** faults it has taken, minor and major, also in the memory of a process it looks into (R-COM-5) */
  minFlt = 0
  majFlt = 0
  /** personality(2) */
  personality = 0
  /** NUMA node of the processor it runs on: where its NUMA hints bring pages (R-FLT-56) */
  node = 0
  parent: TaskStruct | null = null
  trace: Trace | null = null
  stopped = false
  readonly #limits: Partial<Record<RlimitName, number>> = { stack: 8 * 1024 * 1024, nofile: 1024 }
  readonly #options: ProcessOptions

  constructor(kernel: Kernel, comm: string, options: ProcessOptions, inherited: Inheritance) {
    this.kernel = kernel
    this.comm = comm
    this.pid = kernel.nextId()
    this.uid = options.uid ?? 1000
    this.gid = options.gid ?? this.uid
    this.mm = inherited.mm
    this.files = inherited.files
    this.#options = options
    this.capabilities = new Set(options.capabilities)
    for (const [name, value] of Object.entries(options.limits ?? {})) this.setLimit(name as RlimitName, value)
    addTask(kernel, this)
  }

  rlimit(name: RlimitName): number {
    return this.#limits[name] ?? Infinity
  }

  /** `setrlimit`, soft limit, bytes. */
  setLimit(name: RlimitName, value: Size): void {
    this.#limits[name] = sizeInBytes(value)
  }

  capable(capability: Capability): boolean {
    return this.capabilities.has(capability)
  }

  /** Runs kernel code as this process. Errors stay negative numbers. */
  run<T>(body: Kthread<T>): T {
    return this.kernel.run(this, body)
  }

  /** Runs a system call, and then whoever it has woken. @throws SyscallError with the reason when it returns an errno */
  call(name: string, body: Kthread<number>): number {
    this.refusal = null
    const result = this.kernel.run(this, body)
    this.kernel.scheduler.runUntilIdle()
    if (result < 0) throw new SyscallError(name, result, this.#reasonFor(result))
    return result
  }

  /** Only a refusal with that very errno explains the result. */
  #reasonFor(result: number): Refusal | null {
    const refusal: Refusal | null = this.refusal
    return refusal !== null && refusal.errno === -result ? refusal : null
  }

  #space(): Mm {
    if (this.mm === null) throw new Error(`${this.comm} has exited`)
    return this.mm
  }

  /** mmap(2). @returns the address */
  mmap(options: MapOptions): number {
    const mm = this.#space()
    const length = sizeInBytes(options.length)
    const prot = protectionBits(options.prot ?? 'rw')
    const shared = options.shared === true ? MAP_SHARED : MAP_PRIVATE
    const kind = options.fd === undefined ? MAP_ANONYMOUS : 0
    const flags =
      shared |
      kind |
      (options.fixed === true ? MAP_FIXED : 0) |
      (options.hugetlb === true ? MAP_HUGETLB : 0) |
      (options.flags ?? 0)
    let file: OpenFile | null = null
    if (options.fd !== undefined) {
      const open = this.files.get(options.fd)
      file = open instanceof PipeEnd ? open.file : this.#fileOf(options.fd)
      if (file === null) throw new SyscallError('mmap', EBADF, null)
    }
    return this.call(
      'mmap',
      mmap(this.kernel, mm, {
        addr: options.address ?? 0,
        length,
        prot,
        flags,
        file,
        offset: options.offset ?? 0,
      }),
    )
  }

  munmap(address: number, length: Size): void {
    this.call('munmap', munmap(this.kernel, this.#space(), address, sizeInBytes(length)))
  }

  mprotect(address: number, length: Size, prot: Protection): void {
    this.call(
      'mprotect',
      mprotect(this.kernel, this.#space(), address, sizeInBytes(length), protectionBits(prot)),
    )
  }

  /** mremap(2). @returns the new address */
  mremap(address: number, oldLength: Size, newLength: Size, flags = 0, newAddress = 0): number {
    const body = mremap(
      this.kernel,
      this.#space(),
      address,
      sizeInBytes(oldLength),
      sizeInBytes(newLength),
      flags,
      newAddress,
    )
    return this.call('mremap', body)
  }

  /** brk(2). @returns the resulting break, the old one when refused */
  brk(address: number): number {
    return this.call('brk', brk(this.kernel, this.#space(), address))
  }

  madvise(address: number, length: Size, advice: number): void {
    this.call('madvise', madvise(this.kernel, this.#space(), address, sizeInBytes(length), advice))
  }

  mlock(address: number, length: Size): void {
    this.call('mlock', mlock(this.kernel, this.#space(), address, sizeInBytes(length)))
  }

  munlock(address: number, length: Size): void {
    this.call('munlock', munlock(this.kernel, this.#space(), address, sizeInBytes(length)))
  }

  /** memfd_create(2) and ftruncate(2) in one. @returns the descriptor */
  memfdCreate(name: string, size: Size): number {
    return this.#open(SHMEM, `/memfd:${name} (deleted)`, size)
  }

  /** memfd_create(MFD_HUGETLB). @returns the descriptor */
  memfdCreateHugetlb(name: string, size: Size, pageSize: Size = '2M'): number {
    const options = {
      size: sizeInBytes(size),
      pageSize: sizeInBytes(pageSize),
      name: `/memfd:${name} (deleted)`,
      noreserve: false,
    }
    const file = hugetlbFileSetup(this.kernel, options)
    if (typeof file === 'number') throw new SyscallError('memfd_create', file, this.#reasonFor(file))
    return this.install(file)
  }

  /** Opens a new regular file of a filesystem (`ext4`, `xfs`, …) that tracks dirty pages. @returns the descriptor */
  openFile(path: string, size: Size, filesystem: string | FileKind = 'ext4'): number {
    return this.#open(typeof filesystem === 'string' ? regularFileKind(filesystem) : filesystem, path, size)
  }

  #open(kind: FileKind, path: string, size: Size): number {
    return this.install(createFile(this.kernel, kind, { path, size: sizeInBytes(size) }))
  }

  /** Puts an open file description into the descriptor table. @throws SyscallError EMFILE */
  install(file: FileDescription): number {
    const fd = this.files.install(file, this.rlimit('nofile'))
    if (fd < 0) {
      file.put()
      throw new SyscallError('open', fd, null)
    }
    return fd
  }

  #fileOf(fd: number): OpenFile | null {
    const file = this.files.get(fd)
    return file instanceof OpenFile ? file : null
  }

  /** pipe2(2). @returns the descriptors to read from and to write to */
  pipe(): { read: number; write: number } {
    const { read, write } = makePipe(this.kernel)
    return { read: this.install(read), write: this.install(write) }
  }

  /**
   * read(2), or pread(2) with an offset.
   * @param offset bytes; where the file stands without one
   * @returns at most `length` bytes, fewer at the end of the file
   * @throws SyscallError EBADF, EINVAL; DeadlockError when it sleeps and nobody can wake it
   */
  read(fd: number, length: number, offset: number | null = null): Uint8Array {
    const into = new Uint8Array(length)
    const body = vfsRead(this.kernel, this.#described('read', fd), offset, new BufferIter(into))
    return into.subarray(0, this.call('read', body))
  }

  /** write(2), or pwrite(2) with an offset. @returns bytes written @throws SyscallError */
  write(fd: number, bytes: Uint8Array, offset: number | null = null): number {
    const body = vfsWrite(this.kernel, this.#described('write', fd), offset, new BufferIter(bytes))
    return this.call('write', body)
  }

  #described(call: string, fd: number): FileDescription {
    const file = this.files.get(fd)
    if (file === null) throw new SyscallError(call, EBADF, null)
    return file
  }

  ftruncate(fd: number, size: Size): void {
    const file = this.#fileOf(fd)
    if (file === null) throw new SyscallError('ftruncate', this.files.get(fd) === null ? EBADF : EINVAL, null)
    this.call('ftruncate', ftruncate(this.kernel, file, sizeInBytes(size)))
  }

  /** fcntl(F_SETFD): whether exec closes the descriptor. @throws SyscallError EBADF */
  setCloseOnExec(fd: number, on: boolean): void {
    const result = this.files.setCloseOnExec(fd, on)
    if (result < 0) throw new SyscallError('fcntl', result, null)
  }

  close(fd: number): void {
    const result = this.files.close(fd)
    if (result < 0) throw new SyscallError('close', result, null)
  }

  /** Stores bytes as the program would. @throws SignalError */
  store(address: number, bytes: Uint8Array): void {
    this.#checkAccess(this.run(storeUser(this.kernel, this.#space(), address, bytes)), address)
  }

  /** Loads bytes as the program would. @throws SignalError */
  load(address: number, length: number): Uint8Array {
    const into = new Uint8Array(length)
    this.#checkAccess(this.run(loadUser(this.kernel, this.#space(), address, into)), address)
    return into
  }

  /** Writes one byte into every page of a range, so that it becomes resident. */
  touch(address: number, length: Size): void {
    const byte = new Uint8Array([1])
    for (let at = address; at < address + sizeInBytes(length); at += PAGE_SIZE) this.store(at, byte)
  }

  #checkAccess(result: AccessResult, address: number): void {
    if (!result.ok) throw new SignalError(result.signal, result.code, address)
  }

  /** fork(2). @returns the child */
  fork(comm = `${this.comm}-child`): Process {
    const mm = this.run(forkMm(this.kernel, this.#space(), comm))
    if (typeof mm === 'number') throw new SyscallError('fork', mm, this.#reasonFor(mm))
    const child = new Process(this.kernel, comm, this.#options, { mm, files: this.files.clone() })
    Object.assign(child.#limits, this.#limits)
    child.personality = this.personality
    child.node = this.node
    child.parent = this
    return child
  }

  /**
   * execve(2), the part about memory and descriptors: a new address space with the program of `image` in it,
   * without the descriptors marked O_CLOEXEC (rings are). What others have pinned of the old one stays pinned.
   * @throws SyscallError E2BIG, EFAULT, ENOMEM: nothing has changed
   * @throws SignalError SIGSEGV: the new program could not be set up, the process has ended
   */
  exec(options: ExecOptions): void {
    const { path, argv = [path], envp = [], image = EMPTY_IMAGE, random = NO_RANDOM } = options
    this.refusal = null
    const request = { path, argv, envp, image, random }
    const result = this.run(execve(this.kernel, this, request, () => this.files.closeMarked()))
    if (result === 0) return
    if (result !== 'killed') throw new SyscallError('execve', result, this.#reasonFor(result))
    this.exit()
    throw new SignalError('SIGSEGV', SI_KERNEL, 0)
  }

  /** _exit(2): the address space goes when nobody else uses it, then descriptors are closed, without one. */
  exit(): void {
    const mm = this.#space()
    for (const hook of this.kernel.exitHooks) hook(this)
    this.mm = null
    this.run(mmput(this.kernel, mm))
    this.run(closeFiles(this.files))
    exitTask(this.kernel, this)
  }
}

/** `exit_files`, as the task itself: what is released on the way has no address space to look at. */
// oxlint-disable-next-line require-yield -- closing does not wait
function* closeFiles(files: FdTable): Kthread<void> {
  files.closeAll()
}
