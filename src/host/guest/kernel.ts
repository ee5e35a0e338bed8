import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { guestCache } from './cache.ts'
import { downloadPackage, newestKernelPackage, type KernelPackage } from './debian.ts'
import { findProgram } from './tools.ts'

/** Series of Debian kernels that can be booted as a guest. */
export const GUEST_SERIES = ['6.1', '6.12'] as const

export type GuestSeries = (typeof GUEST_SERIES)[number]

/** One of Debian's kernels, unpacked. */
export interface GuestKernel {
  readonly series: GuestSeries
  /** Name and version of the Debian package. */
  readonly package: string
  readonly version: string
  /** As `uname -r` says in the guest. */
  readonly release: string
  /** The bootable image. */
  readonly vmlinuz: string
  /** `lib/modules/RELEASE`. */
  readonly modules: string
}

const FACTS = 'kernel.json'
/** What guests may need; the drivers of real hardware stay packed. */
const WANTED = [
  './boot/vmlinuz-*',
  './boot/config-*',
  '*/modules.builtin',
  ...['arch', 'crypto', 'lib', 'mm', 'fs', 'drivers/block', 'drivers/char', 'drivers/virtio'].map(
    (part) => `*/kernel/${part}/*`,
  ),
]
const exec = promisify(execFile)

/**
 * Debian's newest kernel package of a series, downloaded and unpacked into the cache. What is in the cache
 * already is taken without asking the network.
 *
 * @param options.refresh look for a newer package even when one is in the cache
 * @returns `{ skip }` with the reason when there is none: no apt, no network, no such package
 */
export async function guestKernel(
  series: GuestSeries,
  options: { readonly refresh?: boolean } = {},
): Promise<GuestKernel | { readonly skip: string }> {
  const cached = options.refresh ? null : cachedKernel(series)
  if (cached !== null) return cached
  for (const tool of ['apt-get', 'apt-cache', 'dpkg', 'dpkg-deb', 'tar'])
    if (findProgram(tool) === null) return { skip: `no ${tool} to get Debian's kernel ${series} with` }
  const workshop = mkdtempSync(path.join(guestCache(), 'fetch-'))
  try {
    const found = await newestKernelPackage(series, workshop)
    if ('skip' in found) return cachedKernel(series) ?? found
    const target = path.join(guestCache(), `${series}-${found.version}`)
    const same = readFacts(target)
    if (same !== null) return same
    const archive = await downloadPackage(found, workshop)
    if ('skip' in archive) return cachedKernel(series) ?? archive
    return await unpack(series, found, archive.file, target, path.join(workshop, 'tree'))
  } finally {
    rmSync(workshop, { recursive: true, force: true })
  }
}

/** Unpacks into `tree` and moves it to `target` when it is complete; another process may have been faster. */
async function unpack(
  series: GuestSeries,
  { name, version }: KernelPackage,
  archive: string,
  target: string,
  tree: string,
): Promise<GuestKernel | { readonly skip: string }> {
  mkdirSync(tree)
  try {
    const pipe =
      'set -o pipefail; f=$1; t=$2; shift 2; dpkg-deb --fsys-tarfile "$f" | tar -x -C "$t" --wildcards "$@"'
    await exec('bash', ['-c', pipe, 'unpack', archive, tree, ...WANTED])
  } catch (error) {
    return { skip: `${name} could not be unpacked: ${error instanceof Error ? error.message.trim() : error}` }
  }
  const image = readdirSync(path.join(tree, 'boot')).find((file) => file.startsWith('vmlinuz-'))
  if (image === undefined) return { skip: `${name} has no kernel image in it` }
  const facts = { series, package: name, version, release: image.slice('vmlinuz-'.length) }
  writeFileSync(path.join(tree, FACTS), JSON.stringify(facts))
  try {
    renameSync(tree, target)
  } catch (error) {
    if (readFacts(target) === null) throw error
  }
  return readFacts(target)!
}

function cachedKernel(series: GuestSeries): GuestKernel | null {
  const found = readdirSync(guestCache())
    .filter((name) => name.startsWith(`${series}-`))
    .map((name) => readFacts(path.join(guestCache(), name)))
    .filter((kernel) => kernel !== null)
  // newest version last
  found.sort((a, b) => a.version.localeCompare(b.version, 'en', { numeric: true }))
  return found.at(-1) ?? null
}

function readFacts(directory: string): GuestKernel | null {
  let text: string
  try {
    text = readFileSync(path.join(directory, FACTS), 'utf8')
  } catch {
    return null
  }
  const facts = JSON.parse(text) as Pick<GuestKernel, 'series' | 'package' | 'version' | 'release'>
  return {
    ...facts,
    vmlinuz: path.join(directory, 'boot', `vmlinuz-${facts.release}`),
    modules: modulesDirectory(directory, facts.release),
  }
}

function modulesDirectory(directory: string, release: string): string {
  const merged = path.join(directory, 'usr', 'lib', 'modules', release)
  const plain = path.join(directory, 'lib', 'modules', release)
  return readdirSync(directory).includes('lib') ? plain : merged
}
