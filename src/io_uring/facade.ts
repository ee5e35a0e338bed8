import type { Kthread } from '../base/kthread.ts'
import type { Process } from '../task/process.ts'
import { IoUringFile, ioUringSetup } from './io-uring.ts'
import {
  IORING_REGISTER_BUFFERS,
  IORING_UNREGISTER_BUFFERS,
  ioUringRegister,
  type RingFd,
} from './register.ts'
import type { SetupParams } from './setup-flags.ts'
import type { Iovec, RegisterArgument } from './user-args.ts'

/** What io_uring_setup(2) is asked for; `entries` is rounded up to a power of two. */
export type IoUringOptions = SetupParams

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
  const fd = process.files.install(ring.file, process.rlimit('nofile'))
  if (fd < 0) ring.file.put()
  return fd
}
