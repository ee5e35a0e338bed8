import { constants } from 'node:os'

const names = new Map(Object.entries(constants.errno).map(([name, errno]) => [errno, name]))

/** `EFAULT`, or the number for one that libc has no name for. */
export function errnoText(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`
}
