import { describe, expect, it } from 'vitest'
import { result } from '../support/kernel.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { pinUserPagesFast } from '../../src/mm/gup.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { regularFileKind } from '../../src/mm/file.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_WIPEONFORK,
  MREMAP_DONTUNMAP,
  MREMAP_MAYMOVE,
  PROT_NONE,
  PROT_READ,
} from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { PageArray } from '../../src/mm/page-array.ts'
import { createUserfaultfd, uffdRegister, UFFDIO_REGISTER_MODE_MISSING } from '../../src/mm/userfaultfd.ts'
import { P, RW, World } from './fault-support.ts'

/** Pins one page as a driver would; the pfn, or what pin_user_pages_fast refused with. */
function pin(w: World, address: number, flags = FOLL_WRITE | FOLL_LONGTERM): number {
  const pages = new PageArray(1)
  const pinned = w.task.run(pinUserPagesFast(w.k, address, 1, flags, pages))
  if (pinned !== 1) return pinned
  const pfn = pages.pfns[0]!
  const counted = pfn !== w.k.zeroPfn || w.k.release.gup.pinsZeroPage
  if (counted) w.holder.held.push({ pfn, references: 0, pins: 1 })
  return pfn
}

function written(release: ReleaseName = 'gup-v3'): { w: World; at: number; a: number } {
  const w = new World({ release })
  const at = w.map(1)
  w.store(at, 1)
  return { w, at, a: w.pfn(at) }
}

describe('what happens to a pin', () => {
  it('FLT vector 4, R-FLT-4: write, pin: same page, ref 1025', () => {
    const { w, at, a } = written()
    expect([pin(w, at), w.ref(a)]).toEqual([a, 1025])
    w.drop(a)
  })

  it('FLT vector 5, R-FLT-4: pinned twice: ref 2049', () => {
    const { w, at, a } = written()
    pin(w, at)
    pin(w, at)
    expect(w.ref(a)).toBe(2049)
    w.drop(a)
  })

  it('FLT vector 13, R-FLT-67: write, fork, pin in the parent: a new page there, the child keeps the old', () => {
    const { w, at, a } = written()
    const child = w.fork()
    const b = pin(w, at)
    expect(b).not.toBe(a)
    expect([w.shows(at), w.pfn(at, child)]).toEqual(['anon X w', a])
    w.exit(child)
    w.drop(b)
  })

  it('FLT vector 22, R-FLT-12: a read-only pin is enough for fork to copy', () => {
    const { w, at, a } = written()
    expect(pin(w, at, 0)).toBe(a)
    const child = w.fork()
    w.store(at, 2)
    expect(w.pfn(at)).toBe(a)
    expect(w.pfn(at, child)).not.toBe(a)
    w.exit(child)
    w.drop(a)
  })

  it.each([
    ['gup-v3', 1024],
    ['6.1', 0],
    ['6.18', 0],
  ] as const)('FLT vector 25: a short-term read pin of the zero page on %s adds %i', (release, added) => {
    const w = new World({ release })
    const at = w.map(1)
    w.load(at)
    const before = w.ref(w.k.zeroPfn)
    expect(pin(w, at, 0)).toBe(w.k.zeroPfn)
    expect(w.ref(w.k.zeroPfn) - before).toBe(added)
    w.drop(w.k.zeroPfn)
  })

  it('FLT vector 26: a CPU write after that leaves the pin with the zero page', () => {
    const w = new World()
    const at = w.map(1)
    w.load(at)
    const pinned = pin(w, at, 0)
    w.store(at, 1)
    expect(w.pfn(at)).not.toBe(pinned)
    w.drop(pinned)
  })

  it('FLT vector 29, R-GUP-77: munmap leaves the page to the pin', () => {
    const { w, at, a } = written()
    pin(w, at)
    w.task.run(munmap(w.k, w.mm, at, P))
    expect([w.ref(a), w.mapped(a)]).toEqual([1024, 0])
    w.drop(a)
  })

  it('FLT vector 30: mremap takes the pinned page along', () => {
    const { w, at, a } = written()
    pin(w, at)
    const target = w.map(1)
    w.task.run(munmap(w.k, w.mm, target, P))
    const moved = w.task.run(mremap(w.k, w.mm, at, P, 2 * P, MREMAP_MAYMOVE, 0))
    expect(w.pfn(moved)).toBe(a)
    w.drop(a)
  })

  it('FLT vector 31: MREMAP_DONTUNMAP: the new address has the page, the old one starts over', () => {
    const { w, at, a } = written()
    pin(w, at)
    const moved = w.task.run(mremap(w.k, w.mm, at, P, P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0))
    expect([w.pfn(moved), w.shows(at)]).toEqual([a, 'none'])
    w.load(at)
    expect(w.shows(at)).toBe('zero')
    w.drop(a)
  })

  it('R-FLT-54 mprotect(2) to PROT_NONE and back keeps page and pin', () => {
    const { w, at, a } = written()
    pin(w, at)
    w.task.run(mprotect(w.k, w.mm, at, P, PROT_NONE))
    w.task.run(mprotect(w.k, w.mm, at, P, RW))
    expect([w.faults(at, true), w.pfn(at), w.ref(a)]).toEqual([0, a, 1025])
    w.drop(a)
  })

  it('R-FLT-72 madvise(MADV_DONTNEED) makes the pin stale', () => {
    const { w, at, a } = written()
    pin(w, at)
    expect(w.task.run(madvise(w.k, w.mm, at, P, MADV_DONTNEED))).toBe(0)
    expect([w.shows(at), w.ref(a)]).toEqual(['none', 1024])
    w.drop(a)
  })

  it('R-FLT-60 madvise(MADV_DONTFORK) and (MADV_WIPEONFORK) keep pinned pages out of the child', () => {
    const { w, at, a } = written()
    const wiped = w.map(1)
    w.store(wiped, 2)
    pin(w, at)
    w.task.run(madvise(w.k, w.mm, at, P, MADV_DONTFORK))
    w.task.run(madvise(w.k, w.mm, wiped, P, MADV_WIPEONFORK))
    const child = w.fork()
    expect(w.touch(at, false, child)).toEqual({ ok: false, signal: 'SIGSEGV', code: 1 })
    expect([w.load(wiped, child), w.load(wiped)]).toEqual([0, 2])
    w.exit(child)
    w.drop(a)
  })
})

describe('populate and pin where nothing can be', () => {
  it('FLT vector 51, R-FLT-150: MADV_POPULATE_READ/WRITE over a hole, PROT_NONE, beyond the end, read-only memory', () => {
    const w = new World()
    const both = (at: number): (number | string)[] =>
      [MADV_POPULATE_READ, MADV_POPULATE_WRITE].map((advice) =>
        result(w.task.run(madvise(w.k, w.mm, at, P, advice))),
      )
    expect(both(0x10000000)).toEqual(['-ENOMEM', '-ENOMEM'])
    expect(both(w.map(1, { prot: PROT_NONE }))).toEqual(['-EINVAL', '-EINVAL'])
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P })
    expect(both(w.map(2, { file, shared: true, prot: PROT_READ }) + P)).toEqual(['-EFAULT', '-EINVAL'])
    const readOnly = w.map(1, { prot: PROT_READ })
    expect(both(readOnly)).toEqual([0, '-EINVAL'])
    expect(w.shows(readOnly)).toBe('zero')
  })

  it('FLT vector 50: a pin beyond the end of the file is -EFAULT, with the reason', () => {
    const w = new World()
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P })
    const at = w.map(2, { file, shared: true })
    expect(result(pin(w, at + P, FOLL_WRITE))).toBe('-EFAULT')
    expect(JSON.stringify(w.task.refusal)).toContain('R-FLT-39')
  })

  it('FLT vector 56: a pin on a userfaultfd with FEATURE_SIGBUS is -EFAULT', () => {
    const w = new World()
    const at = w.map(1)
    const uffd = createUserfaultfd(w.k, { sigbus: true })
    w.task.run(uffdRegister(w.k, uffd, w.mm, at, P, UFFDIO_REGISTER_MODE_MISSING))
    expect(result(pin(w, at))).toBe('-EFAULT')
  })
})
