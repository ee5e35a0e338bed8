/** /proc/PID/mountinfo (R-MNT-1), read as latin1. */
import { latin1ToText } from './maps.ts'

export interface Mount {
  /** `maj:min`, decimal */
  readonly device: string
  readonly mountPoint: string
  readonly options: string
  readonly fstype: string
  readonly source: string
  readonly superOptions: string
}

/** Lines that do not have the shape of a mount are left out. @rule R-MNT-1 */
export function parseMountinfo(text: string): Mount[] {
  const mounts: Mount[] = []
  for (const line of text.split('\n')) {
    const fields = line.split(' ')
    const separator = fields.indexOf('-', 6)
    if (separator < 0 || fields.length < separator + 4) continue
    mounts.push({
      device: fields[2]!,
      mountPoint: latin1ToText(unescapeOctal(fields[4]!)),
      options: fields[5]!,
      fstype: fields[separator + 1]!,
      source: latin1ToText(unescapeOctal(fields[separator + 2]!)),
      superOptions: fields[separator + 3]!,
    })
  }
  return mounts
}

/** Blank, TAB, LF, `\` and `#` are written as `\ooo`. */
function unescapeOctal(text: string): string {
  return text.includes('\\')
    ? text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)))
    : text
}

/** `fe:00` (maps) as `254:0` (mountinfo). */
export function decimalDevice(hexDevice: string): string {
  const [major, minor] = hexDevice.split(':')
  return `${parseInt(major!, 16)}:${parseInt(minor!, 16)}`
}

/**
 * The mount a mapped file lies on: by device first, then by the longest mount point above its path; later
 * mounts win, as they cover earlier ones.
 * @param hexDevice device column of maps
 * @returns null for kernel-internal file systems, which are in no mount table (R-MAPS-4)
 * @rule R-MNT-1
 */
export function mountOf(mounts: readonly Mount[], hexDevice: string, path: string): Mount | null {
  const device = decimalDevice(hexDevice)
  let best: Mount | null = null
  let bestAbove = false
  for (const mount of mounts) {
    if (mount.device !== device) continue
    const above = isAbove(mount.mountPoint, path)
    if (
      best === null ||
      (above && !bestAbove) ||
      (above === bestAbove && mount.mountPoint.length >= best.mountPoint.length)
    ) {
      best = mount
      bestAbove = above
    }
  }
  return best
}

function isAbove(mountPoint: string, path: string): boolean {
  return mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`)
}
