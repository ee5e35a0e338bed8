import type { Kthread } from '../base/kthread.ts'
import type { Process } from '../task/process.ts'
import { ioUringEnter } from './enter.ts'
import { IoUring, ioUringSetup, type Cqe } from './io-uring.ts'
import { IoUringFile } from './ring-file.ts'
import {
  IORING_REGISTER_BUFFERS,
  IORING_UNREGISTER_BUFFERS,
  ioUringRegister,
  type RingFd,
} from './register.ts'
import { IORING_OP_READ_FIXED, IORING_OP_SEND_ZC, IORING_OP_WRITE_FIXED, type Sqe } from './request.ts'
import { IORING_RECVSEND_FIXED_BUF } from './net.ts'
import type { SetupParams } from './setup-flags.ts'
import type { Iovec, RegisterArgument } from './user-args.ts'

/** What io_uring_setup(2) is asked for; `entries` is rounded up to a power of two. */
export type IoUringOptions = SetupParams

/** READ_FIXED or WRITE_FIXED: bytes between a file or pipe and a registered buffer. */
export interface FixedRequest {
  readonly fd: number
  /** slot of the buffer table; default 0 */
  readonly index?: number
  /** an address of the buffer as it was when it was registered */
  readonly address: number
  /** bytes */
  readonly length: number
  /** bytes into the file; default 0; -1: where the file stands */
  readonly offset?: number
  /** comes back in the completion; default 0 */
  readonly userData?: number
}

/** SEND_ZC: bytes that a socket is lent. */
export interface SendRequest {
  /** of a socket */
  readonly fd: number
  readonly address: number
  /** bytes */
  readonly length: number
  /** slot of the buffer table; default none: the pages are pinned for this send, and charged */
  readonly index?: number
  /** comes back in the completion and in the notification; default 0 */
  readonly userData?: number
}

/**
 * A ring as its program sees it: a descriptor and the calls one makes with it. Every failure is a
 * `SyscallError` whose `reason` says which page, which mapping, which rule.
 */
export class IoUringHandle {
  readonly process: Process
  /** the descriptor */
  readonly fd: number

  /** @internal `openIoUring` makes handles */
  constructor(process: Process, fd: number) {
    this.process = process
    this.fd = fd
  }

  /**
   * IORING_REGISTER_BUFFERS: pins every buffer, all or none.
   * @param buffers `base`: user address; `length`: bytes. The kernel takes 1 to 16384 of them
   * @throws SyscallError EFAULT, ENOMEM (RLIMIT_MEMLOCK), EOPNOTSUPP, EBUSY (registered already), EINVAL, …
   */
  registerBuffers(buffers: readonly Iovec[]): void {
    this.#register(IORING_REGISTER_BUFFERS, { type: 'iovecs', iovecs: buffers }, buffers.length)
  }

  /** IORING_UNREGISTER_BUFFERS: unpins everything. @throws SyscallError ENXIO when nothing is registered */
  unregisterBuffers(): void {
    this.#register(IORING_UNREGISTER_BUFFERS, null, 0)
  }

  /**
   * Reads from a file into a registered buffer: the bytes land in the pages that are pinned, whatever is mapped
   * at the address now. Submits at once; `completions()` has the result, which is bytes or a negative errno.
   * @throws SyscallError EBADFD, EEXIST; never for what is wrong with the request itself
   */
  readFixed(request: FixedRequest): void {
    this.submit(fixed(IORING_OP_READ_FIXED, request))
  }

  /** Writes the pinned pages of a registered buffer to a file; otherwise as `readFixed`. */
  writeFixed(request: FixedRequest): void {
    this.submit(fixed(IORING_OP_WRITE_FIXED, request))
  }

  /**
   * Sends without copying. `completions()` has two of it: the result, with IORING_CQE_F_MORE, when the socket has taken
   * the bytes, and with IORING_CQE_F_NOTIF, when nobody looks at the pages any more. Until then what is stored in them
   * may be what is sent.
   * @throws SyscallError EBADFD, EEXIST; never for what is wrong with the request itself
   */
  sendZc({ fd, address, length, index, userData = 0 }: SendRequest): void {
    const sqe = { opcode: IORING_OP_SEND_ZC, fd, addr: address, len: length, userData }
    const slot = index === undefined ? {} : { bufIndex: index, ioprio: IORING_RECVSEND_FIXED_BUF }
    this.submit({ ...sqe, ...slot })
  }

  /**
   * io_uring_enter(2) for entries of any kind.
   * @returns entries taken: one that is refused before it is tried is the last one (R-URING-92)
   * @throws SyscallError EBADF, EBADFD, EEXIST
   */
  submit(...entries: readonly Sqe[]): number {
    const { kernel, files } = this.process
    const ring = this.#ring()
    if (ring instanceof IoUring) ring.sqes.push(...entries)
    return this.process.call(
      'io_uring_enter',
      ioUringEnter(kernel, ring, entries.length, true, (fd) => files.get(fd)),
    )
  }

  /** Takes the completions there are: results of requests, and tags of buffers that are gone. */
  completions(): Cqe[] {
    const ring = this.#ring()
    if (!(ring instanceof IoUring)) return []
    this.submit()
    return ring.cqes.splice(0)
  }

  /** close(2). The last descriptor of the ring takes its pins with it. @throws SyscallError EBADF */
  close(): void {
    this.process.close(this.fd)
  }

  #register(opcode: number, argument: RegisterArgument, nrArgs: number): void {
    const { kernel } = this.process
    this.process.call('io_uring_register', ioUringRegister(kernel, this.#ring(), opcode, argument, nrArgs))
  }

  #ring(): RingFd {
    const file = this.process.files.get(this.fd)
    if (file === null) return 'closed'
    return file instanceof IoUringFile ? file.ring : 'other-file'
  }
}

function fixed(opcode: number, request: FixedRequest): Sqe {
  const { fd, index = 0, address, length, offset = 0, userData = 0 } = request
  return { opcode, fd, bufIndex: index, addr: address, len: length, off: offset, userData }
}

/**
 * io_uring_setup(2): a new ring in the descriptor table of a process.
 * @throws SyscallError EINVAL, EMFILE, ENOMEM (queues charged to RLIMIT_MEMLOCK: 6.18)
 */
export function openIoUring(process: Process, options: IoUringOptions): IoUringHandle {
  return new IoUringHandle(process, process.call('io_uring_setup', setup(process, options)))
}

function* setup(process: Process, options: IoUringOptions): Kthread<number> {
  const ring = yield* ioUringSetup(process.kernel, options)
  if (typeof ring === 'number') return ring
  // @rule R-URING-9
  // @rule R-URING-68
  const fd = process.files.install(ring.file, process.rlimit('nofile'), true)
  if (fd < 0) ring.file.put()
  return fd
}
