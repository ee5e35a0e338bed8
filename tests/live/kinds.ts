/**
 * Drives the mapping-kinds program: one mapping of every kind on the running kernel, registered as an io_uring
 * buffer on request.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { type Built, build } from '../../scripts/cc.ts'

/** A mapping the program holds, or why this machine has none of that kind. */
export type Kind =
  | { kind: string; addr: number; len: number; pages: number; note: string; skip?: undefined }
  | { kind: string; skip: string }

/** What the kernel answered to a registration. */
export interface Registered {
  kind: string
  /** Name of the errno, null for success. */
  errno: string | null
  /** FOLL_PIN references taken during the call, null without the permission to read them exactly. */
  acq: number | null
  /** FOLL_PIN references given back during the call. */
  rel: number | null
}

export interface KindsOptions {
  /** RLIMIT_MEMLOCK in bytes, soft and hard. */
  memlock?: number
  /** Become this uid and gid, without capabilities, before anything is mapped (only as root). */
  uid?: number
}

/** Compiles the program. */
export function buildKinds(): Built {
  const here = import.meta.dirname
  const files = readdirSync(here)
  const named = (suffix: string): string[] =>
    files.filter((name) => name.endsWith(suffix)).map((name) => path.join(here, name))
  return build({
    name: 'mapping-kinds',
    sources: named('.c').sort(),
    headers: named('.h').sort(),
    flags: ['-std=gnu11', '-O1', '-Wall', '-Wextra', '-Werror'],
  })
}

/** Why io_uring cannot be used here, null when it can be tried. */
export function noIoUring(): string | null {
  if (process.platform !== 'linux') return 'not Linux'
  if (process.arch !== 'x64') return 'the program knows x86-64 only'
  try {
    const disabled = readFileSync('/proc/sys/kernel/io_uring_disabled', 'utf8').trim()
    if (disabled === '2') return 'io_uring is disabled (kernel.io_uring_disabled = 2)'
    if (disabled === '1' && process.getuid?.() !== 0)
      return 'io_uring is disabled for this user (kernel.io_uring_disabled = 1)'
    return null
  } catch {
    return readFileSync('/proc/kallsyms', 'utf8').includes('__x64_sys_io_uring_setup')
      ? null
      : 'no io_uring in this kernel'
  }
}

/** The running program. */
export class KindsProgram {
  readonly pid: number
  readonly kinds: readonly Kind[]
  private readonly child: ChildProcessWithoutNullStreams
  private readonly lines: AsyncIterator<string>
  private readonly directory: string

  private constructor(
    child: ChildProcessWithoutNullStreams,
    lines: AsyncIterator<string>,
    kinds: Kind[],
    directory: string,
  ) {
    this.child = child
    this.pid = child.pid!
    this.lines = lines
    this.kinds = kinds
    this.directory = directory
  }

  /**
   * Starts the program and waits until every mapping is there.
   *
   * @throws Error when it ends before it is ready.
   */
  static async start(executable: string, options: KindsOptions = {}): Promise<KindsProgram> {
    const directory = mkdtempSync(path.join(tmpdir(), 'pinscope-kinds-'))
    chmodSync(directory, 0o777)
    const args = ['--dir', directory]
    if (options.memlock !== undefined) args.push('--memlock', String(options.memlock))
    if (options.uid !== undefined) args.push('--drop-privileges', '--uid', String(options.uid))
    const child = spawn(executable, args, { stdio: 'pipe' })
    let complaint = ''
    child.stderr.on('data', (text: Buffer) => (complaint += text.toString()))
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const kinds: Kind[] = []
    try {
      for (;;) {
        const next = await lines.next()
        if (next.done) throw new Error(`mapping-kinds ended early: ${complaint || 'no message'}`)
        if (next.value === 'ready') return new KindsProgram(child, lines, kinds, directory)
        const read = JSON.parse(next.value) as { kind: string; addr: string }
        kinds.push((read.addr === undefined ? read : { ...read, addr: Number(read.addr) }) as Kind)
      }
    } catch (error) {
      child.kill()
      rmSync(directory, { recursive: true, force: true })
      throw error
    }
  }

  /** The kind of that name; throws for an unknown one. */
  kind(name: string): Kind {
    const found = this.kinds.find((kind) => kind.kind === name)
    if (!found) throw new Error(`mapping-kinds has no kind ${name}`)
    return found
  }

  /**
   * Registers the whole range as the only buffer of a ring and takes it back.
   *
   * @param as `register`: a fixed buffer of io_uring; `xdp`: packet memory of AF_XDP, with frames of a page
   * @throws Error when there is no such mapping or no ring could be made.
   */
  async register(name: string, as: 'register' | 'xdp' = 'register'): Promise<Registered> {
    this.child.stdin.write(`${as} ${name}\n`)
    const next = await this.lines.next()
    if (next.done) throw new Error(`mapping-kinds ended at register ${name}`)
    const answer = JSON.parse(next.value) as Registered & { error?: string }
    if (answer.error !== undefined) throw new Error(`register ${name}: ${answer.error}`)
    return answer
  }

  /** Ends the program and removes its files. */
  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('exit', resolve))
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.stdin.end('quit\n')
      await ended
    }
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** Runs `work` with the effective identity of an ordinary user, which is what /proc looks at; only as root. */
export async function asUser<T>(uid: number, work: () => Promise<T> | T): Promise<T> {
  process.setegid!(uid)
  process.seteuid!(uid)
  try {
    return await work()
  } finally {
    process.seteuid!(0)
    process.setegid!(0)
  }
}
