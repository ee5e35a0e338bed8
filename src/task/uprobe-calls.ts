import { EBADF } from '../base/errno.ts'
import { OpenFile } from '../mm/file.ts'
import type { CurrentTask, Kernel } from '../mm/kernel.ts'
import type { Process } from './process.ts'
import { SyscallError } from './syscall-error.ts'
import { UprobeEvents, type UprobeHit } from './trace-uprobe.ts'
import { handleSwbp, uprobeRegister, uprobeUnregister, type SwbpOutcome } from './uprobe-register.ts'
import type { Uprobe, UprobeConsumer } from './uprobe-table.ts'

/** A place in a file, and who wants to know when it is reached. */
export interface UprobeOptions {
  /** descriptor of the file */
  readonly fd: number
  /** bytes into the file */
  readonly offset: number
  /** where in the same file a 16-bit counter of the breakpoints lies; none without */
  readonly refCtrOffset?: number
  /** runs when a task reaches the place; default: nothing happens then */
  readonly handler?: (task: CurrentTask, address: number) => void
}

/** A registered uprobe. */
export interface UprobeHandle {
  /** `uprobe_unregister`. Once. */
  unregister(): void
}

const events = new WeakMap<Kernel, UprobeEvents>()

function eventsOf(k: Kernel): UprobeEvents {
  let found = events.get(k)
  if (found === undefined) events.set(k, (found = new UprobeEvents(k)))
  return found
}

/**
 * Breakpoints in files, for every process that maps them: as the kernel's own users of uprobes register them, and
 * as tracefs does.
 *
 * ```ts
 * const probe = tool.uprobes.register({ fd, offset: 0x1005 })
 * tool.uprobes.write('p:mine/entry /bin/app:0x1005')
 * tool.uprobes.enable('mine', 'entry', true)
 * ```
 */
export class UprobeCalls {
  readonly #process: Process

  constructor(process: Process) {
    this.#process = process
  }

  /** `uprobe_register`. @throws SyscallError EBADF, EINVAL, EIO, ENOMEM, ENOTSUPP, EFAULT */
  register({ fd, offset, refCtrOffset = 0, handler = () => {} }: UprobeOptions): UprobeHandle {
    const process = this.#process
    const { kernel } = process
    const file = process.files.get(fd)
    if (!(file instanceof OpenFile)) throw new SyscallError('uprobe_register', EBADF, null)
    const consumer: UprobeConsumer = { handler }
    let uprobe: Uprobe | null = null
    process.call(
      'uprobe_register',
      (function* () {
        const made = yield* uprobeRegister(kernel, file, offset, refCtrOffset, consumer)
        if (typeof made === 'number') return made
        uprobe = made
        return 0
      })(),
    )
    return { unregister: () => process.run(uprobeUnregister(kernel, uprobe!, consumer)) }
  }

  /**
   * Appends a line to /sys/kernel/tracing/uprobe_events. A path is that of a file this process has open: there are
   * no directories here.
   * @throws SyscallError EINVAL, ENOENT, EEXIST, EBUSY
   */
  write(line: string): void {
    const { files, kernel } = this.#process
    const lookup = (path: string): OpenFile | null => files.opened(path)
    const traced = eventsOf(kernel)
    // oxlint-disable-next-line require-yield
    this.#process.call(
      'write',
      (function* () {
        return traced.write(line, lookup)
      })(),
    )
  }

  /** Writes 1 or 0 to events/GROUP/EVENT/enable. @throws SyscallError as `register`, ENOENT */
  enable(group: string, event: string, on: boolean): void {
    this.#process.call('write', eventsOf(this.#process.kernel).enable(group, event, on))
  }

  /** What /sys/kernel/tracing/uprobe_events shows, line by line. */
  get events(): string[] {
    return eventsOf(this.#process.kernel).lines()
  }

  /** Which tasks reached places of enabled events, oldest first. */
  get trace(): readonly UprobeHit[] {
    return eventsOf(this.#process.kernel).trace
  }

  /** The process has executed the breakpoint at an address. */
  swbp(address: number): SwbpOutcome {
    return this.#process.run(handleSwbp(this.#process.kernel, address))
  }
}
