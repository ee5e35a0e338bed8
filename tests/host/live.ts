/** Child processes for the live tests, and what this machine has for running them. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

/** The interpreter itself, not a wrapper that an unprivileged user may not run. */
export const python: string | null = (() => {
  for (const name of ['/usr/bin/python3', 'python3']) {
    const found = spawnSync(name, ['-c', 'import sys, ctypes; print(sys.executable)'], { encoding: 'utf8' })
    if (found.status === 0) return found.stdout.trim()
  }
  return null
})()

export const isRoot = process.geteuid?.() === 0
/** Frame numbers and kpageflags are shown: root in the initial user namespace, not in a container. */
export const seesFrames: boolean = (() => {
  try {
    closeSync(openSync('/proc/kpageflags', 'r'))
    return true
  } catch {
    return false
  }
})()
/** A user who owns nothing. */
export const NOBODY = 65534

export interface Child {
  readonly pid: number
  /** next line of JSON it prints */
  line(): Promise<unknown>
  /** lets it go on by one line */
  step(): void
  /** closes its input and waits for its end */
  end(): Promise<void>
}

/** Starts `targets/NAME.py`, as another user if asked. */
export function startTarget(name: string, args: readonly string[] = [], uid?: number): Child {
  // Passed as text: another user may have no access to this directory.
  const script = readFileSync(new URL(`targets/${name}.py`, import.meta.url), 'utf8')
  const child = spawn(python!, ['-c', script, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    cwd: '/',
    ...(uid === undefined ? {} : { uid, gid: uid }),
  })
  const ended = once(child, 'close')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    pid: child.pid!,
    async line() {
      const next = await lines.next()
      if (next.done === true) throw new Error(`${name}.py ended early`)
      return JSON.parse(next.value) as unknown
    },
    step: () => void child.stdin.write('\n'),
    async end() {
      child.stdin.end()
      await ended
    },
  }
}

/** Runs `action` with the rights of a user who owns nothing; needs root. */
export function asNobody<T>(action: () => T): T {
  const groups = process.getgroups!()
  process.setgroups!([])
  process.setegid!(NOBODY)
  process.seteuid!(NOBODY)
  try {
    return action()
  } finally {
    process.seteuid!(0)
    process.setegid!(0)
    process.setgroups!(groups)
  }
}
