import { EAGAIN, EINVAL } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import type { Refusal } from '../base/refusal.ts'
import { PAGE_SIZE, PMD_SIZE, pageAlignDown } from '../base/units.ts'
import type { Capability, CurrentTask, Kernel, RlimitName } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import {
  UFFD_PAGEFAULT_FLAG_MINOR,
  UFFD_PAGEFAULT_FLAG_WP,
  UFFDIO_WRITEPROTECT_MODE_WP,
  uffdContinue,
  uffdCopy,
  uffdMove,
  uffdPoison,
  uffdUnregister,
  uffdWake,
  uffdWriteprotect,
  uffdZeropage,
  type UffdMessage,
  type Userfaultfd,
} from '../mm/userfaultfd.ts'
import { UFFD_FEATURE_MOVE, UFFD_FEATURE_POISON } from '../mm/userfaultfd-flags.ts'
import { pattern } from './pattern.ts'
import type { Arena } from './range.ts'

/** What a descriptor can be asked to do with a range. */
export type UffdAnswer = 'copy' | 'zero' | 'wp' | 'unwp' | 'continue' | 'poison' | 'wake' | 'move'

/** One request. Addresses and lengths in bytes. */
export interface UffdRequest {
  readonly how: UffdAnswer
  readonly start: number
  readonly length: number
  /** copy: seed of the bytes; move: where from */
  readonly argument: number
  /** bits of the request's own */
  readonly mode: number
}

/** Beyond this the agent passes a length on without memory behind it. */
const MOST_BYTES = 8 * 2 ** 20

/** The request as the ioctl answers it: 0, -EAGAIN for a part, or another -errno. */
export function* uffdRequest(k: Kernel, uffd: Userfaultfd, request: UffdRequest): Kthread<number> {
  const { how, start, length, argument, mode } = request
  const mm = uffd.mm!
  const whole = function* (body: Kthread<number>): Kthread<number> {
    const done = yield* body
    return done < 0 ? done : done === length ? 0 : -EAGAIN
  }
  const { features } = k.release.uffd
  switch (how) {
    case 'copy': {
      const given = length > 0 && length <= MOST_BYTES ? length : 0
      return yield* whole(uffdCopy(k, uffd, mm, start, pattern(argument, 0, given), mode, length))
    }
    case 'zero':
      return yield* whole(uffdZeropage(k, uffd, mm, start, length, mode))
    case 'continue':
      return yield* whole(uffdContinue(k, uffd, mm, start, length, mode))
    case 'poison':
      if ((features & UFFD_FEATURE_POISON) === 0) return -EINVAL
      return yield* whole(uffdPoison(k, uffd, mm, start, length, mode))
    case 'move':
      if ((features & UFFD_FEATURE_MOVE) === 0) return -EINVAL
      return yield* whole(uffdMove(k, uffd, mm, start, argument, length, mode))
    case 'wp':
    case 'unwp': {
      const bits = how === 'wp' ? mode | UFFDIO_WRITEPROTECT_MODE_WP : mode
      return yield* uffdWriteprotect(k, uffd, mm, start, length, bits)
    }
    case 'wake':
      return uffdWake(k, uffd, start, length)
  }
}

const EVENT_REMAP = 0x14

/** An event as the agent tells it; a place that the kernel has chosen outside of the arena differs between sides. */
export function eventText(
  [event, flags, page, result]: readonly [number, number, number, number],
  arenaPages: number,
): string {
  const outside = event === EVENT_REMAP && (result < 0 || result >= arenaPages)
  return `${event} ${flags} ${page} ${outside ? 'outside' : result}`
}

/** How one descriptor's events are answered. */
export interface UffdService {
  readonly uffd: Userfaultfd
  /** what missing pages get */
  how: UffdAnswer
  seed: number
  mode: number
}

interface Served extends UffdService {
  /** answers in a row that did not help */
  failures: number
  stopped: boolean
  /** the 2 MiB that would not be answered as a whole, and how: not tried for each of its pages */
  refused: { readonly start: number; readonly how: UffdAnswer } | null
}

/** one descriptor for each of those, at most */
const MOST_SERVED = 8
/** events of one command that the agent keeps */
const MOST_EVENTS = 4096
/** the same page asked for so often, and no answer that helps: its range is given up */
const MOST_FAILURES = 3

/**
 * The thread of a process that answers userfaultfd events, by the same rule as the agent's: missing pages get what
 * was asked for, protected ones are unprotected, cached ones mapped. Shares the address space of its process.
 */
export class UffdHandler implements CurrentTask {
  readonly comm: string
  readonly pid: number
  readonly uid: number
  mm: Mm | null
  refusal: Refusal | null = null
  signalPending = false
  fatalSignalPending = false
  memallocPin = false
  readonly #kernel: Kernel
  readonly #process: CurrentTask
  readonly #arena: Arena
  readonly #served: Served[] = []
  #events: string[] = []

  constructor(kernel: Kernel, process: CurrentTask, arena: Arena) {
    this.#kernel = kernel
    this.#process = process
    this.#arena = arena
    this.comm = `${process.comm}'s handler`
    this.pid = kernel.nextId()
    this.uid = process.uid
    this.mm = process.mm
  }

  rlimit(name: RlimitName): number {
    return this.#process.rlimit(name)
  }

  capable(capability: Capability): boolean {
    return this.#process.capable(capability)
  }

  /** Answers the events of a descriptor from now on, or answers them in another way. */
  serve(service: UffdService): void {
    const known = this.#served.find(({ uffd }) => uffd === service.uffd)
    if (known !== undefined) {
      Object.assign(known, service, { refused: null })
      return
    }
    const served: Served = { ...service, failures: 0, stopped: false, refused: null }
    this.#served.push(served)
    this.#kernel.scheduler.spawn(this.comm, this, this.#serve(served))
  }

  /** Answers no more events of a descriptor; null: of all. */
  stop(uffd: Userfaultfd | null): void {
    for (const served of this.#served) {
      if (uffd !== null && served.uffd !== uffd) continue
      served.stopped = true
      served.uffd.messages.wakeAll()
    }
    for (let i = this.#served.length - 1; i >= 0; i--) if (this.#served[i]!.stopped) this.#served.splice(i, 1)
  }

  /** `event flags page result` of everything answered since the last time. */
  takeEvents(): string[] {
    const events = this.#events
    this.#events = []
    return events
  }

  *#serve(served: Served): Kthread<void> {
    const { uffd } = served
    while (!served.stopped && !uffd.released) {
      const message = uffd.read()
      if (message !== null) yield* this.#answer(served, message)
      else yield { queue: uffd.messages, what: uffd.messages.name, signals: 'none' }
    }
  }

  *#answer(served: Served, message: UffdMessage): Kthread<void> {
    const page = (address: number): number => Math.floor((address - this.#arena.start) / PAGE_SIZE)
    switch (message.event) {
      case 'pagefault': {
        const address = pageAlignDown(message.address)
        const result = yield* this.#answerPage(served, message.flags, address)
        this.#note(0x12, message.flags, page(address), result)
        if (result < 0) yield* this.#failed(served, address)
        else served.failures = 0
        return
      }
      case 'fork':
        this.#note(0x13, 0, 0, 0)
        if (this.#served.length < MOST_SERVED) this.serve({ ...served, uffd: message.child })
        return
      case 'remap':
        this.#note(EVENT_REMAP, message.length / PAGE_SIZE, page(message.from), page(message.to))
        return
      default:
        this.#note(message.event === 'remove' ? 0x15 : 0x16, page(message.end), page(message.start), 0)
    }
  }

  #note(...words: [number, number, number, number]): void {
    if (this.#events.length < MOST_EVENTS) this.#events.push(eventText(words, this.#arena.pages))
  }

  /** 4 KiB, and where the kernel will not have that, the 2 MiB around it. */
  *#answerPage(served: Served, flags: number, address: number): Kthread<number> {
    const { uffd, how, seed, mode } = served
    let answer = how
    if ((flags & UFFD_PAGEFAULT_FLAG_WP) !== 0) answer = 'unwp'
    else if ((flags & UFFD_PAGEFAULT_FLAG_MINOR) !== 0) answer = how === 'poison' ? 'poison' : 'continue'
    const request = { how: answer, argument: seed, mode: answer === 'copy' ? mode : 0 }
    const small = { ...request, start: address, length: PAGE_SIZE }
    const result = yield* uffdRequest(this.#kernel, uffd, small)
    if (result !== -EINVAL) return result
    const large = { ...request, start: address - (address % PMD_SIZE), length: PMD_SIZE }
    if (served.refused?.start === large.start && served.refused.how === answer) return result
    const whole = yield* uffdRequest(this.#kernel, uffd, large)
    if (whole === -EINVAL) served.refused = { start: large.start, how: answer }
    return whole
  }

  /** Whoever waits tries again; when nothing helps the range is not watched any more. */
  *#failed(served: Served, address: number): Kthread<void> {
    const { uffd } = served
    const base = address - (address % PMD_SIZE)
    if (++served.failures >= MOST_FAILURES) {
      served.failures = 0
      const result = yield* uffdUnregister(this.#kernel, uffd, uffd.mm!, address, PAGE_SIZE)
      if (result === -EINVAL) yield* uffdUnregister(this.#kernel, uffd, uffd.mm!, base, PMD_SIZE)
    }
    uffd.wake(base, base + PMD_SIZE)
  }
}
