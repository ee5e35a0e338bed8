import { realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { UserError } from './user-error.ts'

/**
 * Writes a whole file or nothing: beside the old one, then in its place. What is not a regular file (a pipe, a
 * terminal, /dev/null) is written to, never replaced.
 * @throws UserError
 */
export function writeOutputFile(path: string, text: string): void {
  try {
    const target = existing(path)
    if (target === 'special') writeFileSync(path, text)
    else replace(target, text)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    throw new UserError(`cannot write ${path}: ${reasons[code] ?? code}`)
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'its directory does not exist',
  ENOTDIR: 'its directory is a file',
  EISDIR: 'it is a directory',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space left',
}

/** The file to replace (behind symbolic links), or that there is something which cannot be. */
function existing(path: string): string {
  const stats = statSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return path
  if (stats.isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' })
  return stats.isFile() ? realpathSync(path) : 'special'
}

function replace(target: string, text: string): void {
  const temporary = `${target}.${process.pid}.tmp`
  try {
    writeFileSync(temporary, text, { flag: 'wx' })
    renameSync(temporary, target)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}
