import { describe, expect, it } from 'vitest'
import { allowedBy } from '../../src/conform/allowed.ts'
import type { Difference } from '../../src/conform/compare.ts'
import { PROGRAM_FORMAT, type Program } from '../../src/conform/program.ts'
import type { Step } from '../../src/conform/steps.ts'

const P = 4096
const disk: Step = { by: 0, op: 'disk', file: 1, size: 0, seed: 0 }
const direct: Step = { by: 0, op: 'direct', file: 2, of: 1 }
const fork: Step = { by: 0, op: 'fork', child: 1 }
const memory = (flags: number): Step => ({
  by: 0,
  op: 'mmap',
  at: 0,
  length: P,
  prot: 3,
  flags,
  file: null,
  offset: 0,
})
const PRIVATE = 0x32
const HUGETLB = 0x40032

/** What allows a kernel to count `more` pins of a write at the end of a program. */
function allowed(
  more: number,
  before: readonly Step[],
  write: { at: number; length: number; file?: number },
) {
  const step: Step = { by: 0, op: 'pwrite', file: 2, offset: 0, ...write }
  const program: Program = { formatVersion: PROGRAM_FORMAT, theme: 'direct-io', steps: [...before, step] }
  const difference: Difference = {
    fact: 'pin counters',
    what: 'acquired',
    sentence: '',
    process: null,
    page: null,
    more,
  }
  return allowedBy(difference, program, before.length)?.id ?? null
}

describe('R-DIO-4 pins at borders between blocks', () => {
  const start = [disk, direct, memory(PRIVATE)]

  it('one more for each border inside a page of memory, and no more than that', () => {
    expect(allowed(1, start, { at: 512, length: 2 * P })).toBe('blocks-apart')
    expect(allowed(2, start, { at: 512, length: 2 * P })).toBe(null)
    expect(allowed(1, start, { at: 0, length: 2 * P })).toBe(null)
    expect(allowed(1, start, { at: 512, length: P })).toBe(null)
  })

  it('one more for shared pages, which are tried in vain first', () => {
    expect(allowed(1, [...start, fork], { at: 0, length: 2 * P })).toBe('blocks-apart')
  })

  it('fewer of a shared huge page only, of which less is tried', () => {
    const huge = [disk, direct, memory(HUGETLB)]
    expect(allowed(-1, [...huge, fork], { at: 0, length: 2 * P })).toBe('blocks-apart')
    expect(allowed(-2, [...huge, fork], { at: 0, length: 2 * P })).toBe(null)
    expect(allowed(-1, huge, { at: 0, length: 2 * P })).toBe(null)
    expect(allowed(-1, [...start, fork], { at: 0, length: 2 * P })).toBe(null)
  })

  it('three fewer of a shared page that may not be read: it is tried once, not four times', () => {
    const unreadable: Step = { by: 0, op: 'mprotect', at: 0, length: P, prot: 2 }
    const before = [...start, fork, unreadable]
    expect(allowed(-3, before, { at: 0, length: 2 * P })).toBe('blocks-apart')
    expect(allowed(-4, before, { at: 0, length: 2 * P })).toBe(null)
    expect(allowed(-3, [...start, unreadable], { at: 0, length: 2 * P })).toBe(null)
    expect(allowed(-3, [...start, fork, { ...unreadable, prot: 0 }], { at: 0, length: 2 * P })).toBe(null)
  })

  it('nothing of a file that is not opened for direct I/O', () => {
    expect(allowed(1, start, { at: 512, length: 2 * P, file: 1 })).toBe(null)
  })
})

describe('R-AG-8 a page on its way to the active list', () => {
  const reading: Step = {
    by: 1,
    op: 'mem',
    of: 1,
    write: false,
    seed: 0,
    at: 10 * P,
    length: P,
    local: 10 * P,
  }
  const allowedFor = (step: Step, page: number, process = 1): string | null => {
    const program: Program = { formatVersion: PROGRAM_FORMAT, theme: 'mem', steps: [step] }
    const shown = { page, kernel: null, engine: null }
    const what = { fact: 'which pages are the same', what: '', sentence: '', process, page: shown } as const
    return allowedBy(what, program, 0)?.id ?? null
  }

  it('may be copied when a process reads it into itself', () => {
    expect(allowedFor(reading, 10)).toBe('being-activated')
  })

  it('but no other page, not by another process, not when it is written', () => {
    expect(allowedFor(reading, 11)).toBe(null)
    expect(allowedFor(reading, 10, 0)).toBe(null)
    expect(allowedFor({ ...reading, of: 0 }, 10)).toBe(null)
    expect(allowedFor({ ...reading, local: 12 * P }, 10)).toBe(null)
    expect(allowedFor({ ...reading, write: true }, 10)).toBe(null)
  })
})
