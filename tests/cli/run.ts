import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { root } from '../ground/root.ts'

/** The built command. */
export const main = `${root}/dist/cli/main.js`

export interface Ran {
  /** null: ended by a signal */
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly input?: string
  readonly env?: NodeJS.ProcessEnv
  readonly uid?: number
}

/** Starts the built command as a user would. */
export function start(args: readonly string[], { env = {}, uid }: RunOptions = {}) {
  if (!existsSync(main)) throw new Error(`${main} is missing: npm run build`)
  return spawn(process.execPath, [main, ...args], {
    env: { PATH: process.env['PATH'], ...env },
    ...(uid === undefined ? {} : { uid, gid: uid, cwd: '/' }),
  })
}

/** Runs it to its end. */
export async function run(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const child = start(args, options)
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ])
  return { code, stdout, stderr }
}

/** Whether a process runs; one that is dead and only waits to be collected does not. */
export function isRunning(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}

/** Anything a terminal would act upon, line ends aside. */
export const terminalControl = /(?!\n)\p{Cc}/u
