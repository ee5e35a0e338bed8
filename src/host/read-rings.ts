/** io_uring instances of a process and what a user has registered with them (R-FD-3..7, R-ST-3). */
import { readdirSync, readlinkSync } from 'node:fs'
import { PAGE_SIZE, pageAlign, pageAlignDown } from '../base/units.ts'
import { parseIoUringFdinfo } from './fdinfo.ts'
import { readLatin1, tryRead } from './proc-files.ts'
import type { Ring } from './snapshot.ts'
import { parseStatus } from './status.ts'

/** R-FD-4: up to 50 tries, 1 ms apart. */
const BUSY_TRIES = 50
const BUSY_PAUSE_MS = 1

/**
 * All rings reachable through an fd, once each.
 * @returns null when the fd list may not be read
 * @rule R-FD-4
 * @rule R-FD-5
 */
export function readRings(directory: string): Ring[] | null {
  let fds: string[]
  try {
    fds = readdirSync(`${directory}/fd`)
  } catch {
    return null
  }
  const rings: Ring[] = []
  const known = new Set<number>()
  for (const fd of fds) {
    let link: string
    try {
      link = readlinkSync(`${directory}/fd/${fd}`)
    } catch {
      continue
    }
    if (link !== 'anon_inode:[io_uring]') continue
    const ring = readRing(directory, Number(fd))
    if (ring === null || (ring.inode !== 0 && known.has(ring.inode))) continue
    known.add(ring.inode)
    rings.push(ring)
  }
  return rings
}

function readRing(directory: string, fd: number): Ring | null {
  let inode = 0
  for (let tries = 0; tries < BUSY_TRIES; tries++) {
    let text: string
    try {
      text = readLatin1(`${directory}/fdinfo/${fd}`)
    } catch (error) {
      return (error as { code?: string }).code === 'ENOENT'
        ? null
        : { fd, inode, status: 'denied', buffers: [] }
    }
    const info = parseIoUringFdinfo(text)
    inode = info.inode
    if (!info.busy) return { fd, inode, status: 'seen', buffers: info.buffers }
    pause(BUSY_PAUSE_MS)
  }
  return { fd, inode, status: 'busy', buffers: [] }
}

const sleeper = new Int32Array(new SharedArrayBuffer(4))

function pause(ms: number): void {
  Atomics.wait(sleeper, 0, 0, ms)
}

/** Bytes of the pages a registered buffer touches: what it is charged with. */
export function registeredBytes(rings: readonly Ring[]): number {
  let total = 0
  for (const ring of rings) {
    for (const buffer of ring.buffers) {
      if (buffer !== null) total += pageAlign(buffer.address + buffer.length) - pageAlignDown(buffer.address)
    }
  }
  return total
}

export interface UserRegistered {
  readonly bytes: number
  readonly processes: number
  readonly unreadable: number
}

/**
 * Sum of the io_uring buffers of all processes of a user: a lower bound of the hidden counter that
 * RLIMIT_MEMLOCK is compared with. Processes without pinned memory are passed over after reading their status.
 * @param own rings of the process already read
 * @rule R-ST-3
 */
export function readUserRegistered(uid: number, ownPid: number, own: readonly Ring[]): UserRegistered {
  let bytes = registeredBytes(own)
  let processes = 1
  let unreadable = 0
  const seen = new Set(own.map((ring) => ring.inode))
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === ownPid) continue
    const text = tryRead(`/proc/${entry}/status`)
    if (text === null) continue
    const status = parseStatus(text)
    if (status.uid.real !== uid || status.memory === null) continue
    if (status.memory.pinned < PAGE_SIZE) {
      processes++
      continue
    }
    const rings = readRings(`/proc/${entry}`)
    if (rings === null || rings.some((ring) => ring.status !== 'seen')) unreadable++
    else processes++
    // A ring inherited or passed on shows up in several processes.
    const fresh = (rings ?? []).filter((ring) => !seen.has(ring.inode))
    for (const ring of fresh) seen.add(ring.inode)
    bytes += registeredBytes(fresh)
  }
  return { bytes, processes, unreadable }
}
