import { closeSync, ftruncateSync, openSync, renameSync, rmSync, existsSync } from 'node:fs'
import path from 'node:path'
import { guestCache } from './cache.ts'
import { run } from './run.ts'
import { findProgram } from './tools.ts'

/** bytes */
const DISK_SIZE = 256 << 20

/** bytes, as on disks that are not small: a page is then one block, read and written in one piece */
const BLOCK_SIZE = 4096

/**
 * An empty ext4 file system in a sparse file, made once. Guests write to a snapshot of it, so each boot finds
 * it empty.
 *
 * @returns `{ skip }` without mkfs.ext4: the guest then has no disk, and its agent says so
 */
export async function guestDisk(): Promise<{ readonly path: string } | { readonly skip: string }> {
  const target = path.join(guestCache(), `disk-${BLOCK_SIZE}.ext4`)
  if (existsSync(target)) return { path: target }
  const mkfs = findProgram('mkfs.ext4')
  if (mkfs === null) return { skip: 'no mkfs.ext4; install e2fsprogs' }
  const fresh = `${target}.${process.pid}`
  const file = openSync(fresh, 'w')
  ftruncateSync(file, DISK_SIZE)
  closeSync(file)
  const made = await run(mkfs, ['-q', '-F', '-b', String(BLOCK_SIZE), fresh])
  if (made.status !== 0) {
    rmSync(fresh, { force: true })
    return { skip: `mkfs.ext4: ${made.complaint}` }
  }
  renameSync(fresh, target)
  return { path: target }
}
