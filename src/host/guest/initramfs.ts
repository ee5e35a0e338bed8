import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { guestCache } from './cache.ts'
import { cpioArchive, type CpioEntry } from './cpio.ts'
import type { GuestKernel } from './kernel.ts'
import { guestModules } from './modules.ts'

/** virtio for the protocol and the disk, ext4 with the checksum it asks the crypto layer for, zram for swap. */
const MODULES = ['virtio_pci', 'virtio_console', 'virtio_blk', 'crc32c_generic', 'ext4', 'zram']

const DIRECTORY = 0o40755
const PROGRAM = 0o100755
const FILE = 0o100644
const CONSOLE = 0o20600

/**
 * The first root file system of a guest: the agent as `/init`, a console to open before /dev is mounted, and
 * `/modules/NN-NAME.ko`, numbered in the order of loading. Made once for each agent and kernel.
 *
 * @param agent the agent's executable, which must be static
 * @throws HostError when the kernel package lacks a module
 */
export function guestInitramfs(kernel: GuestKernel, agent: string): string {
  const init = readFileSync(agent)
  const made = createHash('sha256')
    .update([kernel.version, ...MODULES].join('\0'))
    .update(init)
    .digest('hex')
  const target = path.join(guestCache(), `initramfs-${kernel.series}-${made.slice(0, 16)}.cpio`)
  if (existsSync(target)) return target
  const modules = guestModules(kernel.modules, MODULES).map(({ name, data }, i): CpioEntry => ({
    name: `modules/${String(i).padStart(2, '0')}-${name}.ko`,
    mode: FILE,
    data,
  }))
  const archive = cpioArchive([
    { name: 'dev', mode: DIRECTORY },
    { name: 'dev/console', mode: CONSOLE, device: [5, 1] },
    { name: 'init', mode: PROGRAM, data: init },
    { name: 'modules', mode: DIRECTORY },
    ...modules,
  ])
  const fresh = `${target}.${process.pid}`
  writeFileSync(fresh, archive)
  renameSync(fresh, target)
  forgetOld(kernel.series)
  return target
}

/** Removes archives with earlier agents; a day is longer than any other process needs to start its guest. */
function forgetOld(series: string): void {
  const directory = guestCache()
  const day = 24 * 60 * 60 * 1000
  for (const name of readdirSync(directory)) {
    if (!name.startsWith(`initramfs-${series}-`)) continue
    const file = path.join(directory, name)
    const written = statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Infinity
    if (Date.now() - written > day) rmSync(file, { force: true })
  }
}
