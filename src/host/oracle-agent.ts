import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import path from 'node:path'
import { END_AGENT, removeSegments, startTime } from './agent-remains.ts'
import { HostError } from './host-error.ts'
import { buildOracleAgent } from './oracle-build.ts'
import { OracleChannel } from './oracle-channel.ts'
import type { OracleHello, OracleReply } from './oracle-reply.ts'
import type { AtEnd } from './oracle-settings.ts'

/** How an agent is started. */
export interface OracleAgentOptions {
  /** Arena size, pages; default 64. */
  pages?: number
  /** RLIMIT_MEMLOCK, bytes, or `'unlimited'`; default 8 MiB. */
  memlock?: number | 'unlimited'
  /** RLIMIT_STACK, bytes; default 8 MiB. */
  stack?: number
  /** The processor the agent stays on; default the one it happens to start on. */
  cpu?: number
  /** Unreserved 2 MiB pages that programs find in the pool (the agent holds what is more) and see used up. */
  pool?: number
  /** Leave transparent huge pages as the machine has them; default: off for the agent. */
  thp?: boolean
  /** Run as this user (only root can). */
  uid?: number
  /** Where the private directory for files on a disk is made; default the system's temporary directory. */
  diskDirectory?: string
  /** Where the private directory on tmpfs is made; default /dev/shm. */
  tmpDirectory?: string
  /** The run's settings: they also remove the directories when this process is killed. */
  settings?: AtEnd
  /** File whose lock the line `lock` takes; default none: `lock` is always granted. */
  lock?: string
  /** ms without a reply after which the agent is killed; default 20000, 0 = never. */
  timeout?: number
  /** Environment of the agent; it makes no difference to what it does, which a test shows. */
  env?: NodeJS.ProcessEnv
}

const TMPFS_MAGIC = 0x01021994

/**
 * One oracle agent as a child process: executes steps on this machine's kernel and tells what can be seen of
 * them. `docs/oracle-protocol.md` has the lines it understands.
 *
 * ```ts
 * const agent = await OracleAgent.start()
 * const [, mapped] = await agent.send(['obs 3', 'sys mmap @0 8192 3 0x32 -1 0'])
 * mapped?.maps              // [[0, 2, 'rw-p', 0, 0, '']]
 * await agent.stop()
 * ```
 *
 * @rule R-AG-3
 */
export class OracleAgent {
  /** What runs here and what it cannot see. */
  readonly hello: OracleHello

  readonly #process: ChildProcess
  readonly #channel: OracleChannel
  readonly #directories: string[]
  readonly #gone: Promise<void>

  private constructor(
    hello: OracleHello,
    process: ChildProcess,
    channel: OracleChannel,
    directories: string[],
    gone: Promise<void>,
  ) {
    this.hello = hello
    this.#process = process
    this.#channel = channel
    this.#directories = directories
    this.#gone = gone
  }

  /**
   * Builds the agent when necessary, starts it and asks who it is.
   *
   * @throws HostError when there is no compiler, or the agent does not start
   */
  static async start(options: OracleAgentOptions = {}): Promise<OracleAgent> {
    const built = buildOracleAgent()
    if ('skip' in built)
      throw new HostError(
        'unsupported',
        `the oracle agent cannot be built: ${built.skip}; install gcc and libc6-dev`,
      )
    const directories: string[] = []
    const disk = privateDirectory(options.diskDirectory ?? tmpdir(), options.uid, directories)
    const tmp = privateDirectory(options.tmpDirectory ?? '/dev/shm', options.uid, directories)
    for (const directory of directories) options.settings?.atEnd('rm', '-rf', directory)
    const words: string[] = []
    if (options.pages) words.push('--arena-pages', String(options.pages))
    if (options.memlock !== undefined) words.push('--memlock', String(options.memlock))
    if (options.stack) words.push('--stack', String(options.stack))
    if (options.cpu !== undefined) words.push('--cpu', String(options.cpu))
    if (options.pool !== undefined) words.push('--pool', String(options.pool))
    if (options.thp) words.push('--thp')
    if (options.lock !== undefined) words.push('--lock', options.lock)
    if (disk && statfsSync(disk).type !== TMPFS_MAGIC) words.push('--disk', disk)
    if (tmp) words.push('--tmp', tmp)
    // A group of its own: Ctrl-C is for the one who runs the agent; its end closes the pipe, which ends the agent.
    const child = spawn(built.path, words, {
      stdio: ['pipe', 'pipe', 'ignore'],
      detached: true,
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
      ...(options.env ? { env: options.env } : {}),
    })
    const since = child.pid === undefined ? null : startTime(child.pid)
    if (since !== null) options.settings?.atEnd('sh', '-c', END_AGENT, 'sh', String(child.pid), since)
    const channel = new OracleChannel(child.stdin!, child.stdout!, options.timeout ?? 20_000)
    let hung = false
    channel.onHang = () => {
      hung = true
      child.kill('SIGKILL')
    }
    const gone = new Promise<void>((resolve) => {
      child.on('error', () => {
        channel.end({ e: 'DIED' })
        resolve()
      })
      // After `close` everything the agent has written is read.
      child.on('close', (code, signal) => {
        if (signal !== null) removeSegments(child.pid!)
        channel.end({ e: hung ? 'HUNG' : 'DIED', status: waitStatus(code, signal) })
        resolve()
      })
    })
    const [hello] = await channel.send(['hello'])
    if (hello?.e !== 0) {
      child.kill('SIGKILL')
      await gone
      remove(directories)
      throw new HostError(
        'unsupported',
        `the oracle agent did not start (${built.path}, ${hello?.e}, ${hello?.status})`,
      )
    }
    return new OracleAgent(hello as unknown as OracleHello, child, channel, directories, gone)
  }

  /** False after the agent has ended, by itself or in a command. Start another one then (R-AG-13). */
  get alive(): boolean {
    return !this.#channel.ended
  }

  /** Its process id. */
  get pid(): number {
    return this.#process.pid!
  }

  /** Replies so far, and how many a second while any was owed. */
  get throughput(): { replies: number; perSecond: number } {
    const { replies, busy } = this.#channel.traffic
    return { replies, perSecond: busy > 0 ? (replies / busy) * 1000 : 0 }
  }

  /**
   * Executes lines, in order; one reply for each.
   *
   * When a line ends the agent, its reply is `DIED` with the wait status (`HUNG` when it did not answer in time)
   * and all later replies are `NOT RUN`; `alive` is false then.
   *
   * @rule R-AG-13
   * @throws TypeError for an empty line or one with an end of line in it
   */
  send(lines: readonly string[]): Promise<OracleReply[]> {
    return this.#channel.send(lines)
  }

  /** Ends the agent and its children and removes its directories. May be called twice. */
  async stop(): Promise<void> {
    // End of input: the agent kills its children, removes its files and leaves.
    this.#process.stdin?.end()
    const slow = setTimeout(() => this.#process.kill('SIGKILL'), 3000)
    await this.#gone
    clearTimeout(slow)
    remove(this.#directories)
  }
}

function privateDirectory(parent: string, uid: number | undefined, made: string[]): string | null {
  try {
    const directory = mkdtempSync(path.join(parent, 'pinscope-'))
    made.push(directory)
    if (uid !== undefined) chownSync(directory, uid, uid)
    return directory
  } catch {
    return null
  }
}

function remove(directories: readonly string[]): void {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true })
}

function waitStatus(code: number | null, signal: NodeJS.Signals | null): number {
  return signal ? constants.signals[signal] : (code ?? 0) << 8
}
