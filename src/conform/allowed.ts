import { PAGE_SIZE } from '../base/units.ts'
import { MADV_HUGEPAGE, MAP_HUGETLB, PROT_NONE, PROT_READ } from '../mm/mman.ts'
import type { Difference } from './compare.ts'
import type { Program } from './program.ts'
import type { Step } from './steps.ts'

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
    id: 'frame-taken-again',
    reason:
      'a direct write frees the pages it drops and may fault in or copy others: whether one of these lies in a frame just freed is up to the allocator (docs/oracle-protocol.md, page ids)',
    ends: true,
    covers({ fact, process, page }, program, at) {
      const step = directTransfer(program, at)
      if (fact !== 'which pages are the same' || step?.op !== 'pwrite' || process !== step.by) return false
      if (page === null) return false
      // what it faults in or copies is its memory, and of files what fault-around maps with that
      const around = page.kernel?.file === true && page.engine?.file === true ? AROUND : 1
      const first = Math.floor(step.at / PAGE_SIZE) - around
      const last = Math.ceil((step.at + step.length) / PAGE_SIZE) - 1 + around
      return page.page > first && page.page < last
    },
  },
  {
    id: 'being-activated',
    reason:
      'a page that is read through GUP for the second time is put on a list for the active ones, which holds a reference for a moment: a store into it within the same call finds one more and copies (R-FLT-90, R-AG-8)',
    ends: true,
    covers({ fact, process, page }, { steps }, at) {
      const step = steps[at]!
      if (fact !== 'which pages are the same' || step.op !== 'mem' || step.write) return false
      const { local = null, length } = step
      if (page === null || process !== step.by || step.of !== step.by || local === null) return false
      return isWithin(page.page, step.at, length) && isWithin(page.page, local, length)
    },
  },
  {
    id: 'blocks-apart',
    reason:
      'where the file system has not put two blocks of a direct transfer side by side, or looks each of them up, the page of memory that lies across them is pinned once more, and so is one that must be made the own of its process first; of a huge page, and of memory that may not be read, less is tried in vain before that (R-DIO-4)',
    covers({ fact, more }, program, at) {
      const step = directTransfer(program, at)
      if (fact !== 'pin counters' || step === null || more === undefined) return false
      const borders = costlyBorders(program, at, step)
      if (more > 0) return more <= borders
      return -more < pagesBeforeBorder(program, at, step) || -more <= retriesBeforeBorder(program, at, step)
    },
  },
]

/** pages that fault-around maps */
const AROUND = 16

function isWithin(page: number, at: number, length: number): boolean {
  return page >= Math.floor(at / PAGE_SIZE) && page < Math.ceil((at + length) / PAGE_SIZE)
}

type Transfer = Step & { readonly op: 'pread' | 'pwrite' }

/** The step as a transfer of a file that was opened with O_DIRECT; null: it is none. */
function directTransfer({ steps }: Program, at: number): Transfer | null {
  const step = steps[at]!
  if (step.op !== 'pread' && step.op !== 'pwrite') return null
  const direct = steps.slice(0, at).some((each) => each.op === 'direct' && each.file === step.file)
  return direct ? step : null
}

/** Borders between blocks of the file at which another pin is needed, if they are not side by side. */
function costlyBorders({ steps }: Program, step: number, { at, length, offset }: Transfer): number {
  const inside = (at - offset) % PAGE_SIZE !== 0
  const shared = steps.slice(0, step).some(({ op }) => op === 'fork')
  if (length <= 0 || !(inside || shared)) return 0
  return Math.ceil((offset + length) / PAGE_SIZE) - Math.floor(offset / PAGE_SIZE) - 1
}

/**
 * Pages of a huge page that are taken at once, and given back because it must be made the own of its process first,
 * where no border between blocks comes before.
 */
function pagesBeforeBorder({ steps }: Program, step: number, { at, length }: Transfer): number {
  const before = steps.slice(0, step)
  const huge = before.some(
    (each) =>
      (each.op === 'mmap' && (each.flags & MAP_HUGETLB) !== 0) ||
      each.op === 'hugefd' ||
      (each.op === 'madvise' && each.advice === MADV_HUGEPAGE),
  )
  if (!huge || !before.some(({ op }) => op === 'fork')) return 0
  return Math.ceil((at + length) / PAGE_SIZE) - Math.floor(at / PAGE_SIZE)
}

/** How often a bio, the next one and the rest of the run try a page that the first call could not have. */
const RETRIES = 3

/**
 * A page that may not be read, and must be made the own of its process first, is taken and given back each time it
 * is tried. Behind a border between blocks it is tried once.
 */
function retriesBeforeBorder({ steps }: Program, step: number, { op }: Transfer): number {
  const before = steps.slice(0, step)
  const unreadable = before.some(
    (each) =>
      (each.op === 'mmap' || each.op === 'mprotect') &&
      each.prot !== PROT_NONE &&
      (each.prot & PROT_READ) === 0,
  )
  return op === 'pwrite' && unreadable && before.some((each) => each.op === 'fork') ? RETRIES : 0
}

/** The freedom a difference falls under, null for a real difference. */
export function allowedBy(difference: Difference, program: Program, step: number): AllowedDifference | null {
  return allowedDifferences.find(({ covers }) => covers(difference, program, step)) ?? null
}
