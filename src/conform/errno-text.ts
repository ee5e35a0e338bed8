import { constants } from 'node:os'
import { knownErrnoName } from '../base/errno.ts'

const names = new Map(Object.entries(constants.errno).map(([name, errno]) => [errno, name]))

/** `EFAULT`: the name the engine has for it, else libc's, else the number. */
export function errnoText(errno: number): string {
  // libc has two names for some, and node none for others
  return knownErrnoName(errno) ?? names.get(errno) ?? `errno ${errno}`
}
