import { readFileSync, statSync, type Stats } from 'node:fs'
import path from 'node:path'
import { fileKindOf } from '../explain/file-kinds.ts'
import { SHMEM } from '../mm/file.ts'
import { devZero, type TestedFile } from '../gup-test/run.ts'
import type { ReleaseName } from '../base/release.ts'
import { hexDevice } from '../host/mapped-files.ts'
import { mountOf, parseMountinfo } from '../host/mountinfo.ts'
import { UserError } from './user-error.ts'

/**
 * What the engine takes a file of this machine for: its size and the kind of its file system. The file itself is
 * not opened; one that does not exist is taken for a new, empty one, which is what the kernel's program makes.
 * @throws UserError
 */
export function testedFile(name: string, release: ReleaseName): TestedFile {
  if (name === devZero.path) return devZero
  const full = path.resolve(name)
  const stat = statOf(full)
  const size = stat === null ? 0 : stat.size
  if (stat !== null && !stat.isFile())
    throw new UserError(`-f ${name} is neither a regular file nor /dev/zero; the engine has no model of it`)
  const on = stat ?? statOf(path.dirname(full))
  if (on === null) throw new UserError(`-f ${name}: its directory does not exist`)
  const mounts = parseMountinfo(readFileSync('/proc/self/mountinfo', 'latin1'))
  const fstype = mountOf(mounts, hexDevice(on.dev), full)?.fstype ?? 'unknown'
  if (fstype === 'hugetlbfs') throw new UserError(`-f ${name} lies on hugetlbfs; use -H for huge pages`)
  const kind =
    fstype === 'tmpfs' ? SHMEM : fileKindOf({ kind: 'file', fstype, path: full, dax: 'no' }, release)
  return { path: full, kind: kind!, size }
}

function statOf(file: string): Stats | null {
  try {
    return statSync(file)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return null
    throw new UserError(`-f ${file}: ${code ?? String(error)}`)
  }
}
