import { EBADF } from '../../base/errno.ts'
import type { Kthread } from '../../base/kthread.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { Process } from '../process.ts'
import { SyscallError } from '../syscall-error.ts'
import { DeviceFile, type Device } from './device.ts'

/** A device as its program sees it: a descriptor, and the requests one makes on it. */
export class DeviceHandle<D extends Device> {
  readonly process: Process
  /** the descriptor */
  readonly fd: number
  readonly device: D

  /** @internal `openDevice` makes handles */
  constructor(process: Process, fd: number, device: D) {
    this.process = process
    this.fd = fd
    this.device = device
  }

  /**
   * A request through the descriptor: ioctl(2), setsockopt(2), write(2), …
   * @param name as errors print it
   * @returns what the request returns
   * @throws SyscallError with the reason; EBADF after `close()`
   */
  call(name: string, request: (device: D) => Kthread<number>): number {
    const file = this.process.files.get(this.fd)
    if (!(file instanceof DeviceFile) || file.device !== this.device)
      throw new SyscallError(name, -EBADF, null)
    return this.process.call(name, request(this.device))
  }

  /** The same open file in a process that inherited the descriptor. */
  in(process: Process): DeviceHandle<D> {
    return new DeviceHandle(process, this.fd, this.device)
  }

  /** close(2). The last descriptor and mapping of it take the pins with them. @throws SyscallError EBADF */
  close(): void {
    this.process.close(this.fd)
  }
}

/**
 * open(2) of a device, or socket(2): makes it as the process and puts it into its descriptor table.
 * @param make given the kernel; a number is the errno it is refused with
 * @throws SyscallError EMFILE, and what `make` is refused with
 */
export function openDevice<D extends Device>(
  process: Process,
  make: (k: Kernel) => D | number,
): DeviceHandle<D> {
  let device: D | null = null
  const fd = process.call('open', opening())
  return new DeviceHandle(process, fd, device!)

  // oxlint-disable-next-line require-yield -- opening does not sleep
  function* opening(): Kthread<number> {
    const made = make(process.kernel)
    if (typeof made === 'number') return made
    device = made
    const installed = process.files.install(made.file, process.rlimit('nofile'), true)
    if (installed < 0) made.file.put()
    return installed
  }
}
