import type { Kthread } from '../base/kthread.ts'
import { PAGE_SIZE, pageAlign, pageAlignDown } from '../base/units.ts'
import { HostError } from '../host/host-error.ts'
import { FOLL_FLAGS, FOLL_WRITE } from '../mm/gup-flags.ts'
import { PageArray, getUserPages, pinUserPages } from '../mm/gup.ts'
import type { PageHolder } from '../mm/kernel.ts'
import { ioUringSetup } from '../io_uring/io-uring.ts'
import { IORING_REGISTER_BUFFERS, ioUringRegister } from '../io_uring/register.ts'
import { directIoRequest } from './direct-io-request.ts'
import type { Restored } from './restore.ts'

/** What a request did in the engine. */
export interface Outcome {
  /** what the caller of the real interface gets: >= 0, or -errno */
  readonly result: number
  /** pages held afterwards; fewer than asked is a failure for GUP callers that count */
  readonly held: number
  readonly holder: PageHolder | null
}

export interface RequestRange {
  readonly start: number
  /** bytes */
  readonly length: number
}

/** A longer buffer is refused for its length (R-URING-12). */
const IORING_MAX_BUFFER_BYTES = 2 ** 30

/** One thing that can be asked: the real caller's code, run in the engine. */
export interface Request {
  readonly name: string
  /** charges pages to RLIMIT_MEMLOCK */
  readonly charges: boolean
  /** takes FOLL_* flags */
  readonly takesFlags: boolean
  /** is about a place in a file */
  readonly takesOffset?: true
  /** bytes beyond which nothing is looked at any more: the length alone refuses it */
  readonly longest: number
  /**
   * Makes the request as the restored task. What it holds afterwards is registered with the kernel, so its
   * books balance.
   * @param offset bytes into the file, for requests that take one
   */
  run(restored: Restored, range: RequestRange, flags: number, offset: number): Kthread<Outcome>
}

/** Pages from the one the range starts in to the one it ends in (R-URING-22). */
export function pagesOf(range: RequestRange): number {
  return (pageAlign(range.start + range.length) - pageAlignDown(range.start)) / PAGE_SIZE
}

const registerBuffers: Request = {
  name: 'io_uring:register-buffers',
  charges: true,
  takesFlags: false,
  longest: IORING_MAX_BUFFER_BYTES,
  *run({ kernel }, range) {
    const ring = yield* ioUringSetup(kernel, { entries: 8 })
    if (typeof ring === 'number') return { result: ring, held: 0, holder: null }
    const iovecs = [{ base: range.start, length: range.length }]
    const result = yield* ioUringRegister(
      kernel,
      ring,
      IORING_REGISTER_BUFFERS,
      { type: 'iovecs', iovecs },
      1,
    )
    return { result, held: result < 0 ? 0 : pagesOf(range), holder: ring }
  },
}

function gupRequest(name: string, call: typeof getUserPages, kind: 'pins' | 'references'): Request {
  return {
    name,
    charges: false,
    takesFlags: true,
    longest: Infinity,
    *run({ kernel, mm }, range, flags) {
      const nrPages = pagesOf(range)
      const pages = new PageArray(nrPages)
      const guard = yield* mm.mmapLock.read()
      const result = yield* call(kernel, guard, range.start, nrPages, flags, pages)
      guard.release()
      const held = Math.max(result, 0)
      const holder = arrayHolder(name, pages, held, kind)
      kernel.holders.add(holder)
      return { result, held, holder }
    },
  }
}

function arrayHolder(name: string, pages: PageArray, n: number, kind: 'pins' | 'references'): PageHolder {
  return {
    name,
    forEachReference(visit) {
      for (let i = 0; i < n; i++) visit(pages.pfns[i]!, kind === 'pins' ? 0 : 1, kind === 'pins' ? 1 : 0)
    },
  }
}

/** Everything `explain` can be asked, by name. */
export const requests: Readonly<Record<string, Request>> = {
  [registerBuffers.name]: registerBuffers,
  'direct-io:read': directIoRequest('read'),
  'direct-io:write': directIoRequest('write'),
  'gup:get': gupRequest('gup:get', getUserPages, 'references'),
  'gup:pin': gupRequest('gup:pin', pinUserPages, 'pins'),
}

/** @throws HostError 'usage' naming the known ones */
export function requestNamed(name: string): Request {
  const request = Object.hasOwn(requests, name) ? requests[name] : undefined
  if (request === undefined) {
    throw new HostError('usage', `unknown request "${name}"; known are ${Object.keys(requests).join(', ')}`)
  }
  return request
}

/**
 * FOLL_* names to engine bits; `access: 'write'` adds FOLL_WRITE.
 * @throws HostError 'usage' for an unknown name, or flags given to a request that takes none
 */
export function requestFlags(request: Request, names: readonly string[], access: 'read' | 'write'): number {
  if (!request.takesFlags) {
    if (names.length > 0)
      throw new HostError('usage', `--flags goes with gup:get and gup:pin; ${request.name} chooses its own`)
    return 0
  }
  let flags = access === 'write' ? FOLL_WRITE : 0
  for (const name of names) {
    const bit = Object.hasOwn(FOLL_FLAGS, name) ? FOLL_FLAGS[name] : undefined
    if (bit === undefined)
      throw new HostError('usage', `unknown flag "${name}"; known are ${Object.keys(FOLL_FLAGS).join(', ')}`)
    flags |= bit
  }
  return flags
}

/**
 * Bytes into the file.
 * @throws HostError 'usage' for a negative one, or one given to a request that takes none
 */
export function requestOffset(request: Request, offset: number | undefined): number {
  if (offset === undefined) return 0
  if (request.takesOffset !== true)
    throw new HostError(
      'usage',
      `--offset goes with direct-io:read and direct-io:write, not with ${request.name}`,
    )
  if (!Number.isSafeInteger(offset) || offset < 0)
    throw new HostError('usage', `${offset} is no position in a file`)
  return offset
}
