import { accessSync, constants, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { HostError } from './host-error.ts'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..')

/**
 * Where things are kept that are made once: `build/NAME` of the package, or of the user's cache directory where the
 * package cannot be written.
 *
 * @param inside the package's directory for such things
 * @throws HostError 'unsupported' when neither can be written
 */
export function cacheDirectory(name: string, inside = path.join(root, 'build')): string {
  const own = path.join(inside, name)
  if (cannotWrite(own, 0o777) === null) return own
  const cache = process.env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache')
  const outside = path.join(cache, 'pinscope', name)
  const why = cannotWrite(outside, 0o700)
  if (why === null) return outside
  throw new HostError(
    'unsupported',
    `${outside} cannot be written (${why}); set XDG_CACHE_HOME to a directory of your own`,
  )
}

/** Makes the directory. @returns why nothing can be put there, null when it can */
function cannotWrite(directory: string, mode: number): string | null {
  try {
    mkdirSync(directory, { recursive: true, mode })
    accessSync(directory, constants.W_OK | constants.X_OK)
    return null
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error)
  }
}
