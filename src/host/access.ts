/** Getting at a process: what may be read of it, and one clear line when nothing may (R-ACC-1..7). */
import { readdirSync } from 'node:fs'
import { HostError } from './host-error.ts'
import { errorCode, readLatin1, tryRead, withFile } from './proc-files.ts'
import { parseStatus } from './status.ts'
import type { Status } from './status.ts'

/** What the observer was allowed to read (R-ACC-7). */
export type Tier = 'T0' | 'T1' | 'T2' | 'T3'

/** A process that can be read. */
export interface Target {
  readonly pid: number
  /** the thread whose files are read */
  readonly tid: number
  /** `/proc/PID` or `/proc/PID/task/TID` */
  readonly directory: string
  readonly status: Status
  readonly tier: Tier
}

/**
 * Finds out how to read a process and whether that is allowed.
 *
 * A group whose first thread has exited is read through a live one. The files are opened once to see whether
 * access is granted; nothing stays open.
 *
 * @throws HostError 'no-such-process' | 'vanished' | 'denied' | 'kernel-thread' | 'zombie' | 'unsupported'
 * @rule R-ACC-4
 * @rule R-ACC-5
 */
export function openTarget(pid: number): Target {
  if (!Number.isSafeInteger(pid) || pid <= 0) {
    throw new HostError('no-such-process', `${pid} is not a process id; give the PID of a running process`)
  }
  const first = readStatus(pid, `/proc/${pid}`)
  const target =
    first.state === 'Z' && first.threads > 1 ? liveThread(pid, first) : { tid: pid, status: first }
  const { tid, status } = target
  if (status.memory === null) throw withoutMemory(pid, status)
  const directory = tid === pid ? `/proc/${pid}` : `/proc/${pid}/task/${tid}`
  const maps = readProcess(pid, status, `${directory}/maps`)
  if (maps === '') throw emptyMaps(pid, directory, status)
  return { pid, tid, directory, status, tier: tierFor(status) }
}

function readStatus(pid: number, directory: string): Status {
  let text: string
  try {
    text = readLatin1(`${directory}/status`)
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      if (tryRead('/proc/self/status') === null) {
        throw new HostError(
          'unsupported',
          'there is no /proc here; mount it, or explain a snapshot taken on the other machine',
        )
      }
      throw new HostError(
        'no-such-process',
        `no process ${pid} here: it has ended, or lives in another PID namespace`,
        { cause: error },
      )
    }
    throw translateError(error, pid, null, `${directory}/status`)
  }
  return parseStatus(text)
}

function liveThread(pid: number, leader: Status): { tid: number; status: Status } {
  for (const entry of readdirSync(`/proc/${pid}/task`)) {
    const text = tryRead(`/proc/${pid}/task/${entry}/status`)
    if (text === null) continue
    const status = parseStatus(text)
    if (status.state !== 'Z' && status.state !== 'X' && status.memory !== null)
      return { tid: Number(entry), status }
  }
  throw withoutMemory(pid, leader)
}

function withoutMemory(pid: number, status: Status): HostError {
  if (status.state === 'Z' || status.state === 'X') {
    return new HostError(
      'zombie',
      `process ${pid} (${status.name}) is a zombie: it has exited and has no memory left, only its parent has not collected it`,
    )
  }
  if (status.kernelThread === false) return vanished(pid)
  return new HostError(
    'kernel-thread',
    `process ${pid} (${status.name}) is a kernel thread: it has no user memory to pin`,
  )
}

function emptyMaps(pid: number, directory: string, status: Status): HostError {
  const again = tryRead(`${directory}/status`)
  return again === null ? vanished(pid) : withoutMemory(pid, { ...status, ...parseStatus(again) })
}

/** The process ended while it was read. */
export function vanished(pid: number): HostError {
  return new HostError('vanished', `process ${pid} ended while it was being read; start it again and retry`)
}

/**
 * Reads one file of the process as latin1.
 * @throws HostError
 */
export function readProcess(pid: number, status: Status | null, path: string): string {
  try {
    return readLatin1(path)
  } catch (error) {
    throw translateError(error, pid, status, path)
  }
}

/** Turns the failure of a /proc access into one line. @rule R-ACC-2 */
export function translateError(error: unknown, pid: number, status: Status | null, path: string): HostError {
  if (error instanceof HostError) return error
  const code = errorCode(error)
  if (code === 'ENOENT' || code === 'ESRCH') return vanished(pid)
  if (code === 'EACCES' || code === 'EPERM') {
    const owner = status === null ? '' : ` (${status.name}, uid ${status.uid.real})`
    return new HostError('denied', `may not read ${path}: process ${pid}${owner} ${deniedBecause(status)}`, {
      cause: error,
    })
  }
  if (code === '') throw error
  return new HostError('unreadable', `cannot read ${path}: ${code}`, { cause: error })
}

function deniedBecause(status: Status | null): string {
  const self = process.geteuid?.()
  if (status !== null && status.uid.real === self && status.uid.effective === self) {
    return 'has made itself unreadable (set-id program, more capabilities, or PR_SET_DUMPABLE 0); run as root'
  }
  return 'belongs to somebody else; run as that user, or as root (CAP_SYS_PTRACE)'
}

/** @rule R-ACC-7 */
function tierFor(status: Status): Tier {
  if (canOpen('/proc/kpageflags')) return 'T3'
  return status.uid.real === process.geteuid?.() ? 'T1' : 'T2'
}

function canOpen(path: string): boolean {
  try {
    return withFile(path, () => true)
  } catch {
    return false
  }
}
