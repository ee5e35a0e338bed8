import { PAGE_SIZE } from '../base/units.ts'
import type { Difference } from './compare.ts'
import type { Program } from './program.ts'

/** One freedom the kernel takes, so that neither answer is wrong. Each is narrow; none covers a whole fact. */
export interface AllowedDifference {
  /** short name, shown with its count after a run */
  readonly id: string
  /** why the kernel may answer either way, and by which rule */
  readonly reason: string
  /** what follows from it differs as well: the program is not compared any further */
  readonly ends?: true
  /** @param step index of the step after which the difference was seen */
  readonly covers: (difference: Difference, program: Program, step: number) => boolean
}

/** All of them. */
export const allowedDifferences: readonly AllowedDifference[] = [
  {
    id: 'read-around-own-file',
    reason:
      'a direct write whose memory is a mapping of its own file faults pages back in that it has just dropped, and how many of them come at once is up to read-around (R-DIO-6)',
    ends: true,
    covers: (_difference, program, step) =>
      program.steps.slice(0, step + 1).some((each, i) => each.op === 'pwrite' && writesItself(program, i)),
  },
  {
    id: 'frame-taken-again',
    reason:
      'a direct write frees the pages it drops and may fault in others: whether one of these lies in a frame just freed is up to the allocator (docs/oracle-protocol.md, page ids)',
    ends: true,
    covers: ({ fact }, { steps }, step) => {
      const each = steps[step]!
      const direct = steps.slice(0, step).filter(({ op }) => op === 'direct')
      return (
        fact === 'which pages are the same' &&
        each.op === 'pwrite' &&
        direct.some((other) => other.op === 'direct' && other.file === each.file)
      )
    },
  },
]

/** Whether a pwrite takes more than a page from memory where its own file had been mapped, through O_DIRECT. */
function writesItself({ steps }: Program, at: number): boolean {
  const write = steps[at]!
  if (write.op !== 'pwrite' || write.length <= PAGE_SIZE) return false
  const earlier = steps.slice(0, at)
  const direct = earlier.find((each) => each.op === 'direct' && each.file === write.file)
  if (direct?.op !== 'direct') return false
  const names = new Set([direct.of])
  for (const each of earlier) if (each.op === 'direct' && names.has(each.of)) names.add(each.file)
  const mapped = earlier.filter((each) => each.op === 'mmap' && each.file !== null && names.has(each.file))
  // where it has been moved to since is not followed
  const moved = earlier.some(({ op }) => op === 'mremap')
  return mapped.some(
    (each) =>
      each.op === 'mmap' &&
      (moved || (write.at < each.at + each.length && each.at < write.at + write.length)),
  )
}

/** The freedom a difference falls under, null for a real difference. */
export function allowedBy(difference: Difference, program: Program, step: number): AllowedDifference | null {
  return allowedDifferences.find(({ covers }) => covers(difference, program, step)) ?? null
}
