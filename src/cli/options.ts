import { UserError } from './user-error.ts'

/** @throws UserError */
export function parsePid(text: string): number {
  const pid = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(pid) || pid === 0) {
    throw new UserError(`--pid "${text}" is not a process id; give the number that ps shows`)
  }
  return pid
}
