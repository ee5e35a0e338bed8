/** The native halves of the benchmarks: small C programs, built on the spot, each measuring the running kernel once. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { type Built, build } from '../scripts/cc.ts'

const run = promisify(execFile)
const directory = path.join(import.meta.dirname, 'native')

function program(name: string): Built {
  return build({
    name: `bench-${name}`,
    sources: [path.join(directory, `${name}.c`)],
    headers: [path.join(directory, 'bench.h'), path.join(directory, 'mappings.h')],
    flags: ['-std=gnu11', '-O2', '-Wall', '-Wextra'],
  })
}

/** Runs a program and takes one number out of its line of JSON. */
async function measure(name: string, args: string[], field: string): Promise<number | { skip: string }> {
  const built = program(name)
  if ('skip' in built) return built
  const { stdout } = await run(built.path, args)
  const line = JSON.parse(stdout) as Record<string, unknown>
  if (typeof line['skip'] === 'string') return { skip: line['skip'] }
  const value = line[field]
  if (typeof value !== 'number') throw new Error(`${name} printed no ${field}: ${stdout}`)
  return value
}

/**
 * Registering and unregistering one io_uring buffer over resident pages: small ones in random frames, or huge ones.
 *
 * @param mebibytes - size of the buffer, at most 1024
 * @returns ns per 4 KiB page for both calls together
 */
export function nativePin(
  mebibytes = 512,
  kind: 'small' | 'thp' | 'hugetlb' = 'small',
): Promise<number | { skip: string }> {
  return measure('uring-pin', [String(mebibytes), '3', kind], 'nsPerPage')
}

/**
 * MADV_POPULATE_WRITE and MADV_DONTNEED of private anonymous small pages.
 *
 * @returns ns per page of one of them
 */
export function nativePopulate(
  mebibytes: number,
  what: 'populateNs' | 'dontneedNs',
): Promise<number | { skip: string }> {
  return measure('populate', [String(mebibytes), '3'], what)
}

/**
 * fork() of a process with resident anonymous small pages, all writable and exclusive before.
 *
 * @returns ns per page that the parent spends inside fork()
 */
export function nativeFork(mebibytes = 512): Promise<number | { skip: string }> {
  return measure('fork', [String(mebibytes), '3'], 'nsPerPage')
}

/**
 * mmap and munmap of one untouched anonymous page that merges with nothing.
 *
 * @param mappings - how many other mappings the process has
 * @returns ns per pair of calls
 */
export function nativeMmap(mappings: number): Promise<number | { skip: string }> {
  return measure('mmap-pair', [String(mappings)], 'nsPerPair')
}

/** A live process with many mappings. */
export interface ManyMappings {
  pid: number
  mappings: number
  /** A written private anonymous buffer, the last but the program's libraries in /proc/PID/maps. */
  address: number
  length: number
  stop(): Promise<void>
}

/** Starts a process with `mappings` mappings of one page each. */
export async function spawnManyMappings(mappings = 60_000): Promise<ManyMappings | { skip: string }> {
  const built = program('many-mappings')
  if ('skip' in built) return built
  const child: ChildProcess = spawn(built.path, [String(mappings)], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const first = await createInterface({ input: child.stdout! })[Symbol.asyncIterator]().next()
  if (first.done) throw new Error('many-mappings ended before it was ready')
  const line = JSON.parse(first.value) as { skip?: string; mappings: number; addr: string; len: number }
  if (line.skip !== undefined) return { skip: line.skip }
  return {
    pid: child.pid!,
    mappings: line.mappings,
    address: Number(line.addr),
    length: line.len,
    stop: () => {
      child.stdin!.end()
      return ended
    },
  }
}
