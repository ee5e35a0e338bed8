import type { Kthread } from '../base/kthread.ts'
import type { Refusal } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import type { IoUring } from '../io_uring/io-uring.ts'
import { mmput } from '../mm/exit-mmap.ts'
import type { OpenFile } from '../mm/file.ts'
import { forkMm } from '../mm/fork.ts'
import type { Capability, Kernel, RlimitName } from '../mm/kernel.ts'
import { MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE } from '../mm/mman.ts'
import { Mm } from '../mm/mm.ts'
import { mmap } from '../mm/mmap.ts'
import { munmap } from '../mm/munmap.ts'
import { execve } from '../task/exec.ts'
import { addTask, exitTask, type TaskStruct, type Trace } from '../task/task.ts'
import type { PipeEnd } from '../task/pipe.ts'
import type { EnginePair } from './steps/sends.ts'
import { uffdClose, type Userfaultfd } from '../mm/userfaultfd.ts'
import { UffdHandler } from './engine-uffd.ts'
import type { XskSocket } from '../net/xsk.ts'
import type { Arena } from './range.ts'

/** Where the agent has its own code and data; the engine's stand-in for them lies here. */
const OWN_AT = 0x400000
/** argv[0] of the other side */
const AGENT_NAME = 'pinscope-agent'

type OwnMemory = Pick<EngineProcessOptions, 'own' | 'ownData' | 'dataSegment'>

export interface EngineProcessOptions {
  readonly uid: number
  readonly capabilities: ReadonlySet<Capability>
  /** bytes */
  readonly memlock: number
  /** kB of memory that a process of the other side has outside the arena: what mlockall locks too */
  readonly own: number
  /** bytes of that which are data */
  readonly ownData: number
  /** bytes */
  readonly dataSegment: number
  readonly thpDisabled: boolean
}

/** One process of a program on the engine, laid out as an agent process is: empty but for its own memory. */
export class EngineProcess implements TaskStruct {
  readonly kernel: Kernel
  readonly number: number
  readonly comm: string
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** the address space, also after the process has ended */
  space: Mm
  readonly files: Map<number, OpenFile>
  readonly rings: Map<number, IoUring>
  /** ends: `3r`, `3w` */
  readonly pipes: Map<string, PipeEnd>
  readonly uffds: Map<number, Userfaultfd>
  /** connected pairs of sockets; a child holds its parent's, and does not use them */
  readonly pairs: Map<number, EnginePair>
  readonly xsks: Map<number, XskSocket>
  /** System V segments: the program's number → id */
  readonly segments: Map<number, number>
  /** soft limits that the program has set, bytes */
  readonly limits: Partial<Record<'as' | 'data' | 'stack', number>>
  readonly capabilities: Set<Capability>
  mm: Mm | null
  memlock: number
  refusal: Refusal | null = null
  signalPending = false
  fatalSignalPending = false
  memallocPin = false
  personality = 0
  parent: TaskStruct | null = null
  trace: Trace | null = null
  stopped = false
  handler: UffdHandler | null = null
  #own: OwnMemory = { own: 0, ownData: 0, dataSegment: 0 }

  private constructor(kernel: Kernel, number: number, mm: Mm, from: EngineProcess | EngineProcessOptions) {
    this.kernel = kernel
    this.number = number
    this.comm = `p${number}`
    this.pid = kernel.nextId()
    this.uid = from.uid
    this.gid = from.uid
    this.space = mm
    this.mm = mm
    this.memlock = from.memlock
    this.capabilities = new Set(from.capabilities)
    const parent = from instanceof EngineProcess ? from : null
    this.files = new Map([...(parent?.files ?? [])].map(([name, file]) => [name, file.get()]))
    this.rings = new Map(parent?.rings ?? [])
    for (const ring of this.rings.values()) ring.file.get()
    this.uffds = new Map([...(parent?.uffds ?? [])].map(([name, uffd]) => [name, uffd.get()]))
    this.xsks = new Map(parent?.xsks ?? [])
    for (const socket of this.xsks.values()) socket.file.get()
    this.segments = new Map(parent?.segments ?? [])
    this.limits = { ...parent?.limits }
    this.personality = parent?.personality ?? 0
    if (parent !== null) this.#own = parent.#own
    this.parent = parent
    addTask(kernel, this)
    this.pipes = new Map([...(parent?.pipes ?? [])].map(([name, end]) => [name, end.get()]))
    this.pairs = new Map(parent?.pairs ?? [])
    for (const { sender, receiver } of this.pairs.values()) {
      sender.get()
      receiver.get()
    }
  }

  /** The first process of a program. */
  static first(kernel: Kernel, options: EngineProcessOptions): EngineProcess {
    const mm = new Mm(kernel, 'p0')
    mm.thpDisabled = options.thpDisabled
    const made = new EngineProcess(kernel, 0, mm, options)
    made.#mapOwn(options)
    return made
  }

  /** What the process has outside of the arena. */
  #mapOwn(memory: OwnMemory): void {
    const { own, ownData, dataSegment } = memory
    this.#own = memory
    this.space.startData = OWN_AT
    this.space.endData = OWN_AT + dataSegment
    if (own === 0) return
    const length = Math.ceil((own * 1024) / PAGE_SIZE) * PAGE_SIZE
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE
    for (const [addr, part, prot] of [
      [OWN_AT, length - ownData, 0],
      [OWN_AT + length - ownData, ownData, 3],
    ] as const) {
      const request = { addr, length: part, prot, flags, file: null, offset: 0 }
      if (part > 0) this.run(mmap(this.kernel, this.space, request))
    }
  }

  /**
   * execve(2) of the same program. Limits of address space, data and stack are lifted while it happens, as the
   * other side does.
   * @param capabilities what root gets back
   */
  exec(capabilities: ReadonlySet<Capability>): void {
    const limits = this.#liftLimits()
    const result = this.#execve([AGENT_NAME])
    if (result < 0) throw new Error(`exec on the engine: ${result}`)
    this.space = this.mm!
    // the stack is part of what the other side calls its own
    const { startStack } = this.space
    this.run(
      munmap(this.kernel, this.space, startStack - (startStack % PAGE_SIZE) - 32 * PAGE_SIZE, 33 * PAGE_SIZE),
    )
    this.space.startStack = 0
    this.#mapOwn(this.#own)
    Object.assign(this.limits, limits)
    this.capabilities.clear()
    if (this.uid === 0) for (const each of capabilities) this.capabilities.add(each)
  }

  /**
   * execve(2) with these arguments, of a program that then becomes the same one as in `exec`.
   * @param stack RLIMIT_STACK meanwhile, bytes
   * @returns 0; -E2BIG with everything as it was
   */
  execWith(argv: readonly string[], stack: number, capabilities: ReadonlySet<Capability>): number {
    const limits = this.#liftLimits()
    this.limits.stack = stack
    const result = this.#execve(argv)
    delete this.limits.stack
    Object.assign(this.limits, limits)
    if (result === 0) this.exec(capabilities)
    return result
  }

  /** @returns what the limits of address space, data and stack were */
  #liftLimits(): EngineProcess['limits'] {
    const limits = { ...this.limits }
    for (const name of ['as', 'data', 'stack'] as const) delete this.limits[name]
    return limits
  }

  #execve(argv: readonly string[]): number {
    const image = { segments: [], startBrk: 0, code: [0, 0], data: [0, 0], withoutVdso: true } as const
    const request = { path: '/proc/self/exe', argv, envp: ['PINSCOPE=agent'], image }
    const result = this.run(
      execve(this.kernel, this, request, () => {
        for (const ring of this.rings.values()) ring.file.put()
        this.rings.clear()
      }),
    )
    if (result === 'killed') throw new Error('exec on the engine: no room for the new program')
    return result
  }

  /** fork(2). @returns the child or -errno */
  fork(number: number): EngineProcess | number {
    const mm = this.run(forkMm(this.kernel, this.space, `p${number}`))
    return typeof mm === 'number' ? mm : new EngineProcess(this.kernel, number, mm, this)
  }

  /** Its thread that answers userfaultfd events; made at first use. */
  handlerIn(arena: Arena): UffdHandler {
    return (this.handler ??= new UffdHandler(this.kernel, this, arena))
  }

  /** Runs kernel code as this process. */
  run<T>(body: Kthread<T>): T {
    return this.kernel.run(this, body)
  }

  /** Makes a call that never sleeps as this process. */
  runNow<T>(call: () => T): T {
    // oxlint-disable-next-line require-yield
    const body = function* (): Kthread<T> {
      return call()
    }
    return this.run(body())
  }

  /** Runs a call whose wait, where it comes to one, is ended by a signal. */
  runWithAlarm(body: Kthread<number>): number {
    const { scheduler } = this.kernel
    const task = scheduler.spawn(this.comm, this, body)
    task.awaited = true
    scheduler.runUntilIdle()
    if (!task.done) {
      this.signalPending = true
      task.signalled(false)
      scheduler.runUntilIdle()
      this.signalPending = false
    }
    if (task.error !== undefined) throw task.error
    return task.result!
  }

  rlimit(name: RlimitName): number {
    if (name === 'memlock') return this.memlock
    if (name === 'nofile') return Infinity
    return this.limits[name] ?? (name === 'stack' ? 8 * 1024 * 1024 : Infinity)
  }

  capable(capability: Capability): boolean {
    return this.capabilities.has(capability)
  }

  /** _exit(2). */
  exit(): void {
    for (const hook of this.kernel.exitHooks) hook(this)
    for (const file of this.files.values()) file.put()
    for (const ring of this.rings.values()) ring.file.put()
    for (const socket of this.xsks.values()) socket.file.put()
    for (const end of this.pipes.values()) end.put()
    for (const { sender, receiver } of this.pairs.values()) {
      receiver.put()
      sender.put()
    }
    this.pairs.clear()
    this.xsks.clear()
    this.files.clear()
    this.rings.clear()
    this.pipes.clear()
    this.handler?.stop(null)
    this.mm = null
    this.run(mmput(this.kernel, this.space))
    for (const uffd of this.uffds.values()) if (uffd.drop()) this.run(uffdClose(this.kernel, uffd))
    this.uffds.clear()
    exitTask(this.kernel, this)
  }
}
