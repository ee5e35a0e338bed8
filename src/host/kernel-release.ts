/** Which of the modelled releases stands for a running kernel. */
import { HostError } from './host-error.ts'

/** Upstream releases the engine models, oldest first. */
export const MODELLED_RELEASES = ['6.1', '6.6', '6.12', '6.18'] as const

export type ModelledRelease = (typeof MODELLED_RELEASES)[number]

export interface NearestRelease {
  readonly release: ModelledRelease
  /** the running kernel is of exactly this series */
  readonly exact: boolean
  /** one sentence that says what was chosen and why */
  readonly note: string
}

/**
 * The nearest modelled release of a `uname -r` string; between two equally near ones the older.
 * @throws HostError 'unsupported' when the string has no version in it
 */
export function nearestRelease(unameRelease: string): NearestRelease {
  const match = /^(\d+)\.(\d+)/.exec(unameRelease)
  if (match === null)
    throw new HostError(
      'unsupported',
      `kernel release "${unameRelease}" has no version number; name one with --kernel`,
    )
  const running = `${match[1]}.${match[2]}`
  const position = ordinal(Number(match[1]), Number(match[2]))
  let release: ModelledRelease = MODELLED_RELEASES[0]
  let distance = Infinity
  for (const candidate of MODELLED_RELEASES) {
    const [major, minor] = candidate.split('.').map(Number)
    const d = Math.abs(ordinal(major!, minor!) - position)
    if (d < distance) {
      distance = d
      release = candidate
    }
  }
  const exact = release === running
  return {
    release,
    exact,
    note: exact
      ? `this kernel (${unameRelease}) is modelled as release ${release}`
      : `this kernel (${unameRelease}) is not modelled; the nearest release is ${release}`,
  }
}

/** Releases counted in order: 5.x ended with 5.19, 4.x with 4.20, 6.x with 6.19. */
function ordinal(major: number, minor: number): number {
  return major * 20 + minor
}
