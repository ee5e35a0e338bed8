import { Unmodelled } from '../base/unmodelled.ts'
import type { Release } from '../base/release.ts'
import { FOLL_FLAGS } from '../mm/gup-flags.ts'

/**
 * The engine's flags for a `gup_flags` word as a program of that release writes it: the numbers of the flags
 * differ between releases.
 * @throws Unmodelled for a bit that names no flag of the release
 * @rule R-GUP-5
 */
export function flagsFromWord(word: number, release: Release): number {
  let flags = 0
  let left = word >>> 0
  for (const [name, value] of Object.entries(release.gup.flagValues)) {
    if (value === null || (left & value) === 0) continue
    left = (left & ~value) >>> 0
    flags |= FOLL_FLAGS[name] ?? unknown(name)
  }
  if (left !== 0) unknown(`gup_flags bit 0x${left.toString(16)}`)
  return flags
}

function unknown(what: string): never {
  throw new Unmodelled(`what GUP makes of ${what}`, 'R-GUP-5')
}
