import { HostError } from '../host/host-error.ts'
import { FOLL_FLAGS, FOLL_WRITE } from '../mm/gup-flags.ts'
import { PageArray, getUserPages, pinUserPages } from '../mm/gup.ts'
import type { PageHolder } from '../mm/kernel.ts'
import { ioUringSetup } from '../io_uring/io-uring.ts'
import { IORING_REGISTER_BUFFERS, ioUringRegister } from '../io_uring/register.ts'
import { ioasMap, mapDma, mdevPin, regUmem, umemReg, vhostMap } from './device-requests.ts'
import { directIoRequest } from './direct-io-request.ts'
import { memslot } from './kvm-request.ts'
import { createCq, regMr } from './rdma-requests.ts'
import { processVmRequest, ptraceRequest } from './remote-requests.ts'
import { addPages } from './sgx-request.ts'
import { defaultOptions, pagesOf, type OptionName, type Request, type RequestOptions } from './request.ts'

export { pagesOf, type Outcome, type Request, type RequestOptions, type RequestRange } from './request.ts'

/** A longer buffer is refused for its length (R-URING-12). */
const IORING_MAX_BUFFER_BYTES = 2 ** 30

const registerBuffers: Request = {
  name: 'io_uring:register-buffers',
  charges: { budget: 'user->locked_vm', liftedBy: 'CAP_IPC_LOCK', wholeFolios: true },
  takes: [],
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
    charges: null,
    takes: ['flags', 'access'],
    longest: Infinity,
    bySomebodyElse: true,
    *run({ kernel, mm }, range, { flags }) {
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

/** Everything `explain` can be asked, in the order the help prints it. */
const all: readonly Request[] = [
  registerBuffers,
  directIoRequest('read'),
  directIoRequest('write'),
  regMr,
  createCq,
  mapDma,
  mdevPin,
  ioasMap,
  umemReg,
  vhostMap,
  regUmem,
  memslot,
  addPages,
  processVmRequest('readv'),
  processVmRequest('writev'),
  ptraceRequest('peek'),
  ptraceRequest('poke'),
  gupRequest('gup:get', getUserPages, 'references'),
  gupRequest('gup:pin', pinUserPages, 'pins'),
]

/** … by name. */
export const requests: Readonly<Record<string, Request>> = Object.fromEntries(all.map((r) => [r.name, r]))

/** @throws HostError 'usage' naming the known ones */
export function requestNamed(name: string): Request {
  const request = Object.hasOwn(requests, name) ? requests[name] : undefined
  if (request === undefined) {
    throw new HostError('usage', `unknown request "${name}"; known are ${Object.keys(requests).join(', ')}`)
  }
  return request
}

/** Options as they are given; what is undefined was not. */
export interface GivenOptions {
  /** FOLL_* names */
  readonly flags?: readonly string[] | undefined
  readonly access?: 'read' | 'write' | undefined
  /** bytes into the file */
  readonly offset?: number | undefined
  readonly iova?: number | undefined
  readonly frameSize?: number | undefined
  readonly headroom?: number | undefined
  readonly unaligned?: boolean | undefined
  readonly bounceSize?: number | undefined
  readonly forkSafe?: boolean | undefined
  readonly hugepagesSafe?: boolean | undefined
  readonly iovaBits?: number | undefined
}

const onCommandLine: Readonly<Record<Exclude<OptionName, 'flags'>, string>> = {
  access: '--access',
  offset: '--offset',
  iova: '--iova',
  frameSize: '--frame-size',
  headroom: '--headroom',
  unaligned: '--unaligned',
  bounceSize: '--bounce-size',
  forkSafe: '--fork-safe',
  hugepagesSafe: '--hugepages-safe',
  iovaBits: '--iova-bits',
}

/**
 * Options of one request, the missing ones as they are by default. `access: 'write'` adds FOLL_WRITE where flags
 * are taken.
 * @throws HostError 'usage' for an unknown flag, a number that cannot be, or an option the request does not take
 */
export function requestOptions(request: Request, given: GivenOptions): RequestOptions {
  const { access = 'write' } = given
  const options: Record<string, unknown> = { ...defaultOptions, access }
  options['flags'] = requestFlags(request, given.flags ?? [], access)
  for (const [name, written] of Object.entries(onCommandLine)) {
    const value = given[name as keyof GivenOptions]
    // everybody may say what is the default anyway
    if (value === undefined || value === false || (name === 'access' && value === 'write')) continue
    if (!request.takes.includes(name as OptionName))
      throw new HostError('usage', misplaced(name, written, request))
    const [least, most] = name === 'iovaBits' ? [12, 64] : [0, Number.MAX_SAFE_INTEGER]
    if (typeof value === 'number' && (!Number.isSafeInteger(value) || value < least || value > most))
      throw new HostError('usage', `${value} is no ${meaning(name)}`)
    options[name] = value
  }
  return options as unknown as RequestOptions
}

function misplaced(name: string, written: string, request: Request): string {
  const takers = all.filter(({ takes }) => takes.includes(name as OptionName)).map((taker) => taker.name)
  const last = takers.pop()!
  const names = takers.length === 0 ? last : `${takers.join(', ')} and ${last}`
  return name === 'access'
    ? `--access read goes with ${names}; ${request.name} decides that itself`
    : `${written} goes with ${names}, not with ${request.name}`
}

function meaning(name: string): string {
  if (name === 'iovaBits') return 'number of address bits: 12 to 64'
  if (name === 'offset') return 'position in a file'
  return name === 'iova' ? 'address of a device' : 'size'
}

function requestFlags(request: Request, names: readonly string[], access: 'read' | 'write'): number {
  if (!request.takes.includes('flags')) {
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
