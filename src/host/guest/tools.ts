import { accessSync, constants } from 'node:fs'
import path from 'node:path'
import { run } from './run.ts'

/** The programs that boot a guest, or the reason why there are none on this machine. */
export type GuestTools = { readonly qemu: string } | { readonly skip: string }

const PACKAGE = 'qemu-system-x86'
const EMULATOR = 'qemu-system-x86_64'
/** Directories of system programs that the PATH of an ordinary user lacks. */
const SYSTEM = ['/usr/sbin', '/sbin']

let asked: Promise<GuestTools> | null = null

/**
 * Finds QEMU; installs Debian's package of it when it is missing and this is root. Asked once per process.
 *
 * @returns `{ skip }` with the reason where there is no QEMU and it cannot be installed
 */
export function guestTools(): Promise<GuestTools> {
  asked ??= findTools()
  return asked
}

async function findTools(): Promise<GuestTools> {
  if (process.platform !== 'linux') return { skip: 'guests need Linux' }
  const found = findProgram(EMULATOR)
  if (found !== null) return { qemu: found }
  if (process.getuid?.() !== 0) return { skip: `no ${EMULATOR}; as root: apt-get install ${PACKAGE}` }
  if (findProgram('apt-get') === null) return { skip: `no ${EMULATOR} and no apt-get to install it with` }
  const install = ['install', '-y', '--no-install-recommends', PACKAGE]
  let done = await run('apt-get', install)
  if (done.status !== 0) {
    // package lists that are absent or too old are the usual reason
    await run('apt-get', ['update'])
    done = await run('apt-get', install)
  }
  const installed = findProgram(EMULATOR)
  if (installed !== null) return { qemu: installed }
  return { skip: `no ${EMULATOR}, and apt-get could not install it: ${done.complaint}` }
}

/** Full path of a program on the PATH or in the system's directories, null when there is none. */
export function findProgram(name: string): string | null {
  for (const directory of [...(process.env['PATH'] ?? '').split(':'), ...SYSTEM]) {
    if (directory === '') continue
    const candidate = path.join(directory, name)
    try {
      accessSync(candidate, constants.X_OK)
      return candidate
    } catch {
      continue
    }
  }
  return null
}
