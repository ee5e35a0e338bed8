/** Reading files whose size stat does not know, and the errors of doing so. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'

/** errno name of a failed Node call, '' for other errors. */
export function errorCode(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : ''
}

/** The file as latin1 text. @throws the error of the system call */
export function readLatin1(path: string): string {
  return readFileSync(path, 'latin1')
}

/** The file as latin1 text, null when it cannot be read for whatever reason. */
export function tryRead(path: string): string | null {
  try {
    return readLatin1(path)
  } catch {
    return null
  }
}

/** The trimmed content of a one-value file, null when it cannot be read. */
export function tryReadValue(path: string): string | null {
  return tryRead(path)?.trim() ?? null
}

/** Opens for reading, runs `use`, closes. @throws the error of open or of `use` */
export function withFile<T>(path: string, use: (fd: number) => T): T {
  const fd = openSync(path, 'r')
  try {
    return use(fd)
  } finally {
    closeSync(fd)
  }
}

/**
 * Fills `target` from `position`, going on after short reads.
 * @returns bytes read; less than asked only at the end of the file
 */
export function readFully(fd: number, target: Uint8Array, length: number, position: number): number {
  let done = 0
  while (done < length) {
    const n = readSync(fd, target, done, length - done, position + done)
    if (n === 0) break
    done += n
  }
  return done
}
