import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { downloadPackage, newestKernelPackage } from '../../src/host/guest/debian.ts'
import { findProgram } from '../../src/host/guest/tools.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'pinscope-apt-'))
  mkdirSync(path.join(directory, 'bin'))
  vi.stubEnv('PATH', `${path.join(directory, 'bin')}:${process.env['PATH']}`)
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true, force: true })
})

/** Puts a shell script in front of everything else on the PATH. */
function program(name: string, script: string): void {
  const file = path.join(directory, 'bin', name)
  writeFileSync(file, `#!/bin/sh\n${script}\n`)
  chmodSync(file, 0o755)
}

/** An apt-cache that offers these packages; with `own` only when apt was told to use lists of its own. */
function aptCache(packages: Record<string, string>, own = false): void {
  const lines = ['case "$*" in']
  if (own) lines.unshift('case "$*" in *Dir::State::lists*) ;; *) exit 0 ;; esac')
  for (const [name, version] of Object.entries(packages))
    lines.push(`*" show "*" ${name}") echo "Version: ${version}" ;;`)
  lines.push('*" search "*)', ...Object.keys(packages).map((name) => `echo "${name} - Linux"`), ';;', 'esac')
  program('apt-cache', lines.join('\n'))
}

const kernels = {
  'linux-image-6.1.0-9-amd64': '6.1.27-1',
  'linux-image-6.1.0-50-amd64': '6.1.176-1',
  'linux-image-6.1.0-51-cloud-amd64': '6.1.180-1',
  'linux-image-6.1.0-51-rt-amd64': '6.1.180-1',
  'linux-image-6.1.0-48-amd64': '6.1.170-3',
}
const dpkg = findProgram('dpkg') !== null

test.skipIf(!dpkg)(
  'guest kernel: the newest ordinary package that apt offers, by version (needs dpkg)',
  async () => {
    aptCache(kernels)
    program('apt-get', 'echo "apt-get must not be asked" >&2; exit 9')
    expect(await newestKernelPackage('6.1', directory)).toMatchObject({
      name: 'linux-image-6.1.0-50-amd64',
      version: '6.1.176-1',
    })
  },
)

test.skipIf(!dpkg)(
  'guest kernel: else from the same mirror, with lists that are not the machine’s',
  async () => {
    aptCache({ 'linux-image-6.12.95+deb12-amd64': '6.12.95-1~bpo12+1' }, true)
    program(
      'apt-get',
      `case "$*" in *indextargets*) echo 'Google|Google|http://other/'; echo 'Debian|Debian|http://mirror/debian/';; esac`,
    )
    const found = await newestKernelPackage('6.12', directory)
    expect(found).toMatchObject({ name: 'linux-image-6.12.95+deb12-amd64' })
    const options = 'options' in found ? found.options : []
    for (const place of ['Dir::Etc::sourcelist=', 'Dir::State::lists=', 'Dir::Cache='])
      expect(options.find((option) => option.startsWith(place))).toContain(directory)
    expect(readFileSync(path.join(directory, 'apt', 'sources.list'), 'utf8')).toMatch(
      /^deb \[arch=amd64 signed-by=\S+\] http:\/\/mirror\/debian\/ bookworm-backports main$/m,
    )
  },
)

test('guest kernel: without a Debian mirror, without a network and without the package the reason is told', async () => {
  aptCache({})
  program('apt-get', '')
  expect(await newestKernelPackage('6.12', directory)).toEqual({
    skip: 'apt offers no kernel 6.12 and knows no Debian mirror',
  })
  const mirror = `case "$*" in *indextargets*) echo 'Debian|Debian|http://mirror/debian/';;`
  program('apt-get', `${mirror} *) echo 'E: Could not resolve mirror' >&2; exit 100;; esac`)
  expect(await newestKernelPackage('6.12', directory)).toEqual({
    skip: 'no kernel 6.12: apt-get update: E: Could not resolve mirror',
  })
  program('apt-get', `${mirror} esac`)
  expect(await newestKernelPackage('6.12', directory)).toEqual({ skip: 'Debian offers no kernel 6.12' })
})

test('guest kernel: a download that fails is told in apt’s words', async () => {
  program('apt-get', `echo 'E: Failed to fetch' >&2; exit 100`)
  const wanted = { name: 'linux-image-6.1.0-50-amd64', version: '6.1.176-1', options: [] }
  expect(await downloadPackage(wanted, directory)).toEqual({
    skip: 'apt-get download linux-image-6.1.0-50-amd64: E: Failed to fetch',
  })
})
