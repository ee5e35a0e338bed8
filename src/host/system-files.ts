/** System-wide text files: bracketed choices, meminfo, vmstat, huge page pools (R-GLOB-1..5). */
import { HostError } from './host-error.ts'
import { parseKeyValues, sizeValue } from './key-values.ts'

/**
 * The active one of `always [madvise] never`.
 * @throws HostError 'unreadable' when nothing is in brackets
 * @rule R-GLOB-4
 */
export function activeChoice(text: string): string {
  const match = /\[([^\]]+)\]/.exec(text)
  if (match === null)
    throw new HostError('unreadable', `no choice in brackets: ${JSON.stringify(text.trim().slice(0, 60))}`)
  return match[1]!
}

/** meminfo in bytes; `HugePages_*` stay counts. @rule R-GLOB-3 */
export function parseMeminfo(text: string): Record<string, number> {
  const result: Record<string, number> = {}
  for (const [key, value] of parseKeyValues(text)) {
    const size = sizeValue(value)
    if (size !== null) result[key] = size
  }
  return result
}

/** References taken and dropped with FOLL_PIN since boot; null when the kernel does not count them. @rule R-GLOB-1 */
export function parseVmstatPins(text: string): { acquired: number; released: number } | null {
  const acquired = /^nr_foll_pin_acquired (\d+)$/m.exec(text)
  const released = /^nr_foll_pin_released (\d+)$/m.exec(text)
  return acquired === null || released === null
    ? null
    : { acquired: Number(acquired[1]), released: Number(released[1]) }
}

/** Bytes of a `hugepages-2048kB` directory name; null for other names. */
export function hugepageDirectorySize(name: string): number | null {
  const match = /^hugepages-(\d+)kB$/.exec(name)
  return match === null ? null : Number(match[1]) * 1024
}
