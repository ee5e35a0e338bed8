import { accessSync, constants } from 'node:fs'
import path from 'node:path'

/** The programs that boot a guest, or the reason why there are none on this machine. */
export type GuestTools = { readonly qemu: string } | { readonly skip: string }

const PACKAGE = 'qemu-system-x86'
const EMULATOR = 'qemu-system-x86_64'
/** Directories of system programs that the PATH of an ordinary user lacks. */
const SYSTEM = ['/usr/sbin', '/sbin']

/** Finds QEMU. Nothing is ever installed: the reason says how to. */
export function guestTools(): GuestTools {
  if (process.platform !== 'linux') return { skip: 'guests need Linux' }
  const qemu = findProgram(EMULATOR)
  return qemu === null ? { skip: `no ${EMULATOR}; as root: apt-get install ${PACKAGE}` } : { qemu }
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
