import { accessSync, constants, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..', '..')

/**
 * Where kernels and disk images are kept: `build/guest-kernels` of the package, or the user's cache directory
 * where the package cannot be written.
 */
export function guestCache(): string {
  const inside = path.join(root, 'build', 'guest-kernels')
  try {
    mkdirSync(inside, { recursive: true })
    accessSync(inside, constants.W_OK)
    return inside
  } catch {
    const cache = process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache')
    const outside = path.join(cache, 'pinscope', 'guest-kernels')
    mkdirSync(outside, { recursive: true, mode: 0o700 })
    return outside
  }
}
