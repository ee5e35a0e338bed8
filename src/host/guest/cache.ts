import { cacheDirectory } from '../cache-directory.ts'

/**
 * Where kernels and disk images are kept.
 * @throws HostError 'unsupported' when there is no directory to write to
 */
export function guestCache(): string {
  return cacheDirectory('guest-kernels')
}
