/**
 * The built command with a view of its own on the machine: the settings a run makes are files of the test, so that
 * they can be compared whatever other runs do at the same time. Needs root.
 */
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildOracleAgent } from '../../src/host/oracle-build.ts'
import { main, type Ran } from './run.ts'

const built = buildOracleAgent()

/** Why there can be none here; null: there can. */
export const noPrivateMachine: string | null =
  'skip' in built
    ? built.skip
    : process.geteuid?.() !== 0
      ? 'not root'
      : spawnSync('unshare', ['-m', 'true']).status === 0
        ? null
        : 'no mount namespace of its own can be had'

/** Settings a run of the themes below makes, and values it does not leave as they are. */
const settings: readonly (readonly [file: string, value: string])[] = [
  ['/sys/kernel/mm/transparent_hugepage/khugepaged/defrag', '1'],
  ['/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs', '10000'],
  ['/sys/kernel/mm/ksm/run', '1'],
  ['/sys/kernel/mm/ksm/sleep_millisecs', '20'],
  ['/proc/sys/vm/compaction_proactiveness', '20'],
  ['/proc/sys/vm/compact_unevictable_allowed', '1'],
]

/** Only where nothing but these settings is changed of the machine. */
const THEMES = 'basic,space,files,fork'

// the lock of the pin counters stays the machine's: other runs count them too
const PRELUDE = `
state=$1 shm=$2; shift 2
mount --bind "$shm" /dev/shm
for file in "$state"/*; do mount --bind "$file" "/$(basename "$file" | tr : /)"; done
[ -e /run/pinscope-machine.lock ] || (umask 077; : >/run/pinscope-machine.lock)
mkdir "$TMPDIR/run" && mount --bind /run "$TMPDIR/run" && mount -t tmpfs none /run
: >/run/pinscope-machine.lock && mount --bind "$TMPDIR/run/pinscope-machine.lock" /run/pinscope-machine.lock
`

export interface RunningProcess {
  readonly pid: number
  readonly command: string
}

export interface PrivateRun {
  readonly child: ChildProcessByStdio<null, Readable, Readable>
  /** when it has ended */
  readonly ran: Promise<Ran & { readonly signal: NodeJS.Signals | null }>
  /** Waits until it has run some programs. */
  working(): Promise<void>
  /** What runs in its name, once it was found working. */
  processes(): RunningProcess[]
}

/** A place where a run starts, and that is looked at when it has ended. */
export class PrivateMachine {
  readonly #directory = mkdtempSync(path.join(tmpdir(), 'pinscope-test-'))
  readonly #shm = mkdtempSync('/dev/shm/pinscope-test-')

  constructor() {
    mkdirSync(path.join(this.#directory, 'state'))
    mkdirSync(path.join(this.#directory, 'tmp'))
    mkdirSync(path.join(this.#directory, 'cwd'))
    for (const [file, value] of settings) if (existsSync(file)) writeFileSync(this.#fileOf(file), value)
  }

  /** Starts `pinscope conform` on themes that change nothing but these settings. @param more shell lines before it */
  conform(args: readonly string[], more = ''): PrivateRun {
    const words = [main, 'conform', '--only', THEMES, ...args]
    const script = `set -e\n${PRELUDE}\n${more}\nexec "$@"`
    const child = spawn(
      'unshare',
      [
        '-m',
        '--propagation',
        'private',
        'sh',
        '-c',
        script,
        'sh',
        `${this.#directory}/state`,
        this.#shm,
        process.execPath,
        ...words,
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        cwd: path.join(this.#directory, 'cwd'),
        env: { PATH: process.env['PATH'], TMPDIR: path.join(this.#directory, 'tmp') },
      },
    )
    let stdout = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk))
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk))
    const ran = once(child, 'close').then(([code, signal]) => ({
      code: code as number | null,
      signal: signal as NodeJS.Signals | null,
      stdout,
      stderr,
    }))
    const here = readlink('/proc/self/ns/mnt')
    let own: string | null = null
    const working = async (): Promise<void> => {
      while (!/^pinscope: \d+ programs/m.test(stderr)) {
        if (child.exitCode !== null) throw new Error(`ended early: ${stderr}`)
        await sleep(20)
      }
      own = readlink(`/proc/${child.pid}/ns/mnt`)
      if (own === here) throw new Error('it has no namespace of its own')
    }
    const processes = (): RunningProcess[] =>
      readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name) && readlink(`/proc/${name}/ns/mnt`) === own)
        .map((name) => ({ pid: Number(name), command: commandOf(name) }))
    return { child, ran, processes, working }
  }

  /** The settings as they are, by file. */
  state(): Record<string, string> {
    return Object.fromEntries(
      readdirSync(`${this.#directory}/state`).map((name) => [
        name,
        readFileSync(`${this.#directory}/state/${name}`, 'latin1').trim(),
      ]),
    )
  }

  /** Directories that a run made for its agents and that are still there. */
  directories(): string[] {
    return [...readdirSync(path.join(this.#directory, 'tmp')), ...readdirSync(this.#shm)].filter(
      (name) => name !== 'run',
    )
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true })
    rmSync(this.#shm, { recursive: true, force: true })
  }

  #fileOf(file: string): string {
    return path.join(this.#directory, 'state', file.slice(1).replaceAll('/', ':'))
  }
}

function readlink(file: string): string | null {
  try {
    return readlinkSync(file)
  } catch {
    return null
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim()
  } catch {
    return ''
  }
}
