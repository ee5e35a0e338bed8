import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { run } from './run.ts'

/** A kernel package that apt can download. */
export interface KernelPackage {
  readonly name: string
  readonly version: string
  /** apt-get options that name the package lists it was found in */
  readonly options: readonly string[]
}

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
/** Suites of Debian that hold the kernels: 6.1 is bookworm's own, 6.12 comes from its backports. */
const SUITES = ['bookworm', 'bookworm-backports']

/**
 * Debian's newest ordinary kernel package of a series: first among what this machine's apt offers, then in
 * bookworm and its backports on the same mirror. The second look has an apt configuration of its own in
 * `workshop`; the machine's sources and lists stay as they are.
 *
 * @param series such as `6.1`
 * @returns `{ skip }` with the reason when there is none
 */
export async function newestKernelPackage(
  series: string,
  workshop: string,
): Promise<KernelPackage | { readonly skip: string }> {
  // as root apt would complain that its own user cannot write here
  const plain = ['-o', 'APT::Sandbox::User=root']
  const offered = await newestOf(series, plain)
  if (offered !== null) return offered
  const mirror = await debianMirror()
  if (mirror === null) return { skip: `apt offers no kernel ${series} and knows no Debian mirror` }
  const own = [...plain, ...ownLists(workshop, mirror)]
  const updated = await run('apt-get', [...own, 'update'])
  const found = await newestOf(series, own)
  if (found !== null) return found
  if (updated.status === 0) return { skip: `Debian offers no kernel ${series}` }
  return { skip: `no kernel ${series}: apt-get update: ${updated.complaint}` }
}

/** Downloads a package into `directory`. @returns the file, or `{ skip }` with the reason */
export async function downloadPackage(
  { name, version, options }: KernelPackage,
  directory: string,
): Promise<{ readonly file: string } | { readonly skip: string }> {
  const got = await run('apt-get', [...options, 'download', `${name}=${version}`], directory)
  if (got.status !== 0) return { skip: `apt-get download ${name}: ${got.complaint}` }
  return { file: path.join(directory, `${name}_${version.replaceAll(':', '%3a')}_amd64.deb`) }
}

async function newestOf(series: string, options: readonly string[]): Promise<KernelPackage | null> {
  const dots = series.replaceAll('.', '\\.')
  const search = await run('apt-cache', [
    ...options,
    'search',
    '--names-only',
    `^linux-image-${dots}\\..*-amd64$`,
  ])
  // the flavours (cloud, rt) put a word in front of the architecture
  const ordinary = new RegExp(`^linux-image-${dots}\\.[^-]+(-\\d+)?-amd64$`)
  let newest: KernelPackage | null = null
  for (const line of search.stdout.split('\n')) {
    const name = line.split(' ', 1)[0]!
    if (!ordinary.test(name)) continue
    const shown = await run('apt-cache', [...options, 'show', '--no-all-versions', name])
    const version = /^Version: (\S+)$/m.exec(shown.stdout)?.[1]
    if (version === undefined) continue
    const later =
      newest === null ||
      (await run('dpkg', ['--compare-versions', version, 'gt', newest.version])).status === 0
    if (later) newest = { name, version, options }
  }
  return newest
}

/** The Debian mirror that this machine's apt uses. */
async function debianMirror(): Promise<string | null> {
  const format = '$(ORIGIN)|$(LABEL)|$(REPO_URI)'
  const known = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'])
  for (const line of known.stdout.split('\n')) {
    const [origin, label, uri] = line.split('|')
    if (origin === 'Debian' && label === 'Debian' && uri !== undefined) return uri
  }
  return null
}

function ownLists(workshop: string, mirror: string): string[] {
  const at = (...parts: string[]): string => path.join(workshop, 'apt', ...parts)
  for (const directory of ['lists/partial', 'cache/archives/partial'])
    mkdirSync(at(directory), { recursive: true })
  const lines = SUITES.map((suite) => `deb [arch=amd64 signed-by=${KEYRING}] ${mirror} ${suite} main\n`)
  writeFileSync(at('sources.list'), lines.join(''))
  const settings = [
    `Dir::Etc::sourcelist=${at('sources.list')}`,
    'Dir::Etc::sourceparts=-',
    `Dir::State::lists=${at('lists')}`,
    `Dir::Cache=${at('cache')}`,
  ]
  return settings.flatMap((setting) => ['-o', setting])
}
