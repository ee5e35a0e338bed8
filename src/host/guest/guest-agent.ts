import { HostError } from '../host-error.ts'
import { buildOracleAgent } from '../oracle-build.ts'
import { OracleChannel } from '../oracle-channel.ts'
import type { OracleHello, OracleReply } from '../oracle-reply.ts'
import { qemuArguments } from './command-line.ts'
import { guestDisk } from './disk.ts'
import { guestInitramfs } from './initramfs.ts'
import { guestKernel, type GuestKernel, type GuestSeries } from './kernel.ts'
import { RunningMachine } from './machine.ts'
import { guestTools } from './tools.ts'

/** How a guest is started. */
export interface GuestAgentOptions {
  /** A series of Debian's kernels, or one that `guestKernel` returned. */
  readonly kernel: GuestSeries | GuestKernel
  /** The agent's executable, static; default: built from the package's sources. */
  readonly agent?: string
  /** Memory of the machine, MiB; default 1024. */
  readonly memory?: number
  /** Arena size, pages; default 64. */
  readonly pages?: number
  /** RLIMIT_MEMLOCK, bytes, or `'unlimited'`; default 8 MiB. */
  readonly memlock?: number | 'unlimited'
  /** RLIMIT_STACK, bytes; default 8 MiB. */
  readonly stack?: number
  /** Leave transparent huge pages on; default: off for the agent. */
  readonly thp?: boolean
  /** 2 MiB pages in the hugetlb pool; default 0. */
  readonly hugepages?: number
  /** Unreserved 2 MiB pages that programs find in the pool; default: the pool is not looked at. */
  readonly pool?: number
  /** Bytes of swap on a zram device; default none. */
  readonly swap?: number
  /** ms without a reply after which the guest is killed; default 60000, 0 = never. */
  readonly timeout?: number
  /** ms a boot may take; default 120000. */
  readonly bootTimeout?: number
}

/** Where and why a guest ended. */
export interface GuestDeath {
  /** The line in flight, null when none was. */
  readonly line: string | null
  /** One sentence: which kernel, in which line, the kernel's last words. */
  readonly message: string
}

/**
 * The oracle agent as process 1 of a virtual machine that runs one of Debian's kernels under plain emulation.
 * Same lines and replies as `OracleAgent`.
 *
 * ```ts
 * let guest = await GuestAgent.start({ kernel: '6.1' })
 * const [, mapped] = await guest.send(['obs 3', 'sys mmap @0 8192 3 0x32 -1 0'])
 * if (!guest.alive) guest = await guest.restart()   // guest.death says what happened
 * await guest.stop()
 * ```
 */
export class GuestAgent {
  /** What runs in the guest and what it cannot see. */
  readonly hello: OracleHello
  readonly kernel: GuestKernel
  /** ms from the start of QEMU to the agent's first line. */
  readonly bootTime: number

  readonly #options: GuestAgentOptions
  readonly #machine: RunningMachine
  readonly #channel: OracleChannel
  #death: GuestDeath | null = null

  private constructor(
    options: GuestAgentOptions,
    kernel: GuestKernel,
    machine: RunningMachine,
    channel: OracleChannel,
    hello: OracleHello,
    bootTime: number,
  ) {
    this.#options = options
    this.kernel = kernel
    this.#machine = machine
    this.#channel = channel
    this.hello = hello
    this.bootTime = bootTime
  }

  /**
   * Gets what is missing (QEMU, the kernel, the compiled agent), boots and asks who is there.
   *
   * @throws HostError 'unsupported' when something cannot be had here, or the guest does not boot
   */
  static async start(options: GuestAgentOptions): Promise<GuestAgent> {
    const { qemu } = available(guestTools())
    const kernel =
      typeof options.kernel === 'string' ? available(await guestKernel(options.kernel)) : options.kernel
    const agent = options.agent ?? available(buildOracleAgent()).path
    const disk = await guestDisk()
    const machine = new RunningMachine(
      qemu,
      qemuArguments({
        vmlinuz: kernel.vmlinuz,
        initramfs: guestInitramfs(kernel, agent),
        disk: 'path' in disk ? disk.path : null,
        memory: options.memory ?? 1024,
        options: agentOptions(options),
      }),
    )
    const channel = new OracleChannel(machine.agent, machine.agent, options.timeout ?? 60_000)
    channel.onHang = () => machine.giveUp()
    void machine.gone.then(() => channel.end({ e: machine.end }))
    const bootTime = await machine.booted(channel.ready, options.bootTimeout ?? 120_000)
    if (bootTime === null) {
      await machine.stop()
      throw new HostError('unsupported', `the guest ${kernel.release} did not boot: ${machine.lastWords()}`)
    }
    const [hello] = await channel.send(['hello'])
    if (hello?.e !== 0) {
      await machine.stop()
      throw new HostError(
        'unsupported',
        `the agent in the guest ${kernel.release} does not answer: ${hello?.e}`,
      )
    }
    return new GuestAgent(options, kernel, machine, channel, hello as unknown as OracleHello, bootTime)
  }

  /** False after the guest has ended, by itself or in a command. */
  get alive(): boolean {
    return this.#machine.running
  }

  /** Process id of QEMU. */
  get pid(): number {
    return this.#machine.pid
  }

  /** How the guest ended; null while it lives, and after `stop()`. */
  get death(): GuestDeath | null {
    return this.#death
  }

  /** What the guest's kernel said since the agent runs: warnings and worse, the last 200 lines. */
  get messages(): readonly string[] {
    return this.#machine.messages
  }

  /** Replies so far, and how many a second while any was owed. */
  get throughput(): { replies: number; perSecond: number } {
    const { replies, busy } = this.#channel.traffic
    return { replies, perSecond: busy > 0 ? (replies / busy) * 1000 : 0 }
  }

  /**
   * Executes lines, in order; one reply for each.
   *
   * When a line ends the guest, its reply is `DIED` (`HUNG` when it did not answer in time), all later ones are
   * `NOT RUN`, and `death` tells more.
   *
   * @rule R-AG-13
   * @throws TypeError for an empty line or one with an end of line in it
   */
  async send(lines: readonly string[]): Promise<OracleReply[]> {
    const replies = await this.#channel.send(lines)
    // process 1 outlives the agent just long enough to say so
    if (replies.some(agentDied)) await this.#machine.gone
    if (!this.alive && !this.#machine.stopped) this.#death ??= this.#obituary(lines, replies)
    return replies
  }

  /** A guest like this one, freshly booted; this one is stopped. */
  async restart(): Promise<GuestAgent> {
    await this.stop()
    return GuestAgent.start({ ...this.#options, kernel: this.kernel })
  }

  /** Ends the guest; nothing in it is kept. May be called twice. */
  async stop(): Promise<void> {
    await this.#machine.stop()
  }

  #obituary(lines: readonly string[], replies: readonly OracleReply[]): GuestDeath {
    const notRun = replies.findIndex(({ e }) => e === 'NOT RUN')
    const last = (notRun < 0 ? replies.length : notRun) - 1
    const line = lines[last] ?? null
    const where = line === null ? 'between two commands' : `in "${line}"`
    const how = this.#machine.end === 'HUNG' ? 'did not answer any more' : 'ended'
    const reply = replies[last]
    const words =
      reply !== undefined && agentDied(reply)
        ? `wait status ${reply.status} of the agent`
        : this.#machine.lastWords()
    return { line, message: `the guest ${this.kernel.release} ${how} ${where}: ${words}` }
  }
}

function agentDied(reply: OracleReply): boolean {
  return reply.e === 'DIED' && reply.agent === true
}

function available<T extends object>(found: T | { readonly skip: string }): Exclude<T, { skip: string }> {
  if ('skip' in found) throw new HostError('unsupported', `no guest can be started: ${found.skip}`)
  return found as Exclude<T, { skip: string }>
}

function agentOptions(options: GuestAgentOptions): Record<string, string | number | true> {
  const given = {
    'arena-pages': options.pages,
    memlock: options.memlock,
    stack: options.stack,
    hugepages: options.hugepages,
    pool: options.pool,
    swap: options.swap,
    thp: options.thp || undefined,
  }
  const words: Record<string, string | number | true> = {}
  for (const [name, value] of Object.entries(given)) if (value !== undefined) words[name] = value
  return words
}
