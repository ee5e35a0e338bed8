import * as mman from '../mm/mman.ts'

/** `MAYMOVE|FIXED`: the names of flag bits that begin with a prefix, or the number. */
export function namedBits(flags: number, prefix: string, constants: object = mman): string {
  const names = Object.entries(constants)
    .filter(([name, bit]) => name.startsWith(prefix) && (flags & (bit as number)) !== 0)
    .map(([name]) => name.slice(prefix.length))
  return names.length === 0 ? `flags ${flags}` : names.join('|')
}
