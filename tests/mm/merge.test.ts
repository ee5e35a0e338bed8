import { describe, expect, it } from 'vitest'
import { SYSV_SHM, driverKind } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_DONTFORK,
  MADV_GUARD_INSTALL,
  MADV_WIPEONFORK,
  MAP_GROWSDOWN,
  MAP_LOCKED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_STACK,
} from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { mmap } from '../../src/mm/mmap.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { VM_MIXEDMAP } from '../../src/mm/vm-flags.ts'
import { testTask } from '../support/kernel.ts'
import { ALL, ANON, NEWER, P, Q, R, RW, SHARED_ANON, Space, X } from './address-space.ts'

describe.each(ALL)('merging on %s', (release) => {
  const newer = NEWER.includes(release)
  const protect = (s: Space, page: number, pages: number, prot: number): void => {
    expect(s.call(mprotect(s.k, s.mm, Q + page * P, pages * P, prot))).toBe(0)
  }

  it('AS vector 51, R-AS-131: touched memory becomes like its untouched neighbour', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(2, 2, RW | X)
    s.touch(2)
    protect(s, 2, 2, RW)
    expect(s.list()).toEqual(release === '6.18' ? ['0+4 rw-'] : ['0+2 rw-', '2+2 rw-'])
    // and back: the pages are still where they were
    s.store(3, 7)
    protect(s, 1, 3, R)
    expect(s.load(3)).toBe(7)
  })

  it('AS vector 52, R-AS-131: a gap between two touched neighbours', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(4, 2)
    s.touch(0)
    s.touch(4)
    s.at(2, 2)
    expect(s.list()).toEqual(newer ? ['0+4 rw-', '4+2 rw-'] : ['0+2 rw-', '2+4 rw-'])
  })

  it('R-AS-135 a gap between an untouched and a touched neighbour', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(4, 2)
    s.store(4, 3)
    s.at(2, 2)
    expect(s.list()).toEqual(newer ? ['0+6 rw-'] : ['0+2 rw-', '2+4 rw-'])
    expect(s.load(4)).toBe(3)
    s.store(0, 1)
  })

  it('AS vector 53: read-only memory that was writable', () => {
    const s = new Space(release)
    s.at(0, 2)
    protect(s, 0, 2, R)
    s.at(2, 2, R)
    expect(s.list()).toEqual(newer ? ['0+4 r--'] : ['0+2 r--', '2+2 r--'])
  })

  it('AS vector 54: the same open file, and another one of the same file', () => {
    const s = new Space(release)
    const file = s.file(8)
    s.at(0, 2, R, MAP_SHARED, file)
    s.at(2, 2, R, MAP_SHARED, file, 2)
    expect(s.list()).toEqual(['0+4 r--'])
    expect(file.refs).toBe(2)
    s.at(10, 2, R, MAP_SHARED, file)
    s.at(12, 2, R, MAP_SHARED, s.reopen(file), 2)
    expect(s.list().slice(1)).toEqual(['10+2 r--', '12+2 r--'])
  })

  it('R-AS-137 which neighbours join', () => {
    const join = (build: (s: Space) => void): number => {
      const s = new Space(release)
      build(s)
      return s.list().length
    }
    const rw = (flags: number) => (s: Space) => (s.at(0, 1), s.at(1, 1, RW, flags))
    expect(join(rw(ANON))).toBe(1)
    expect(join((s) => (s.at(0, 1), s.touch(0), s.at(1, 1)))).toBe(1)
    expect(join(rw(ANON | MAP_NORESERVE))).toBe(2)
    expect(join(rw(ANON | MAP_LOCKED))).toBe(2)
    expect(join(rw(ANON | MAP_STACK))).toBe(newer ? 2 : 1)
    expect(join((s) => (s.at(0, 1, RW, ANON | MAP_GROWSDOWN), s.at(1, 1, RW, ANON | MAP_GROWSDOWN)))).toBe(1)
    expect(join((s) => (s.at(0, 1, RW, SHARED_ANON), s.at(1, 1, RW, SHARED_ANON)))).toBe(2)
    expect(join((s) => (s.at(0, 4, RW, SHARED_ANON), protect(s, 1, 1, R), protect(s, 1, 1, RW)))).toBe(1)
    expect(
      join((s) => {
        const file = s.file(8)
        s.at(0, 1, R, MAP_SHARED, file)
        s.at(1, 1, R, MAP_SHARED, file, 3)
        s.at(2, 1, R, MAP_PRIVATE, file, 4)
      }),
    ).toBe(3)
    expect(join((s) => (s.at(0, 4), s.touch(1), protect(s, 1, 2, R), protect(s, 1, 2, RW)))).toBe(1)
    expect(
      join((s) => {
        s.at(0, 4)
        s.touch(1)
        s.at(20, 1)
        expect(s.call(mremap(s.k, s.mm, Q + P, P, P, 3, Q + 21 * P))).toBe(Q + 21 * P)
      }),
    ).toBe(4)
  })

  it('R-AS-134 mappings with a close hook', () => {
    const s = new Space(release)
    const file = createFile(s.k, SYSV_SHM, { path: '/SYSV00000000 (deleted)', size: 8 * P })
    s.at(0, 4, RW, MAP_SHARED, file)
    protect(s, 1, 1, R)
    protect(s, 1, 1, RW)
    expect(s.list()).toEqual(['0+1 rw-', '1+1 rw-', '2+2 rw-'])
    expect(s.call(mremap(s.k, s.mm, Q + 2 * P, 2 * P, 3 * P, 0, 0))).toBe(Q + 2 * P)
  })

  it('R-AS-130 special mappings stay apart', () => {
    const s = new Space(release)
    const mmapMethod = (_k: unknown, vma: { flags: number }): number => ((vma.flags |= VM_MIXEDMAP), 0)
    const kind = { ...driverKind('device'), closeHook: false, mmapMethod }
    const file = createFile(s.k, kind, { path: '/dev/x', size: 4 * P })
    s.at(0, 1, RW, MAP_SHARED, file)
    s.at(1, 1, RW, MAP_SHARED, file, 1)
    expect(s.list()).toHaveLength(2)
  })

  it('R-AS-132 memory inherited through fork', () => {
    const s = new Space(release)
    s.at(0, 2)
    s.at(10, 2)
    s.touch(0)
    const child = s.task.run(forkMm(s.k, s.mm, 'child')) as Mm
    const task = testTask(s.k, { mm: child })
    const map = (page: number): number =>
      task.run(
        mmap(s.k, child, {
          addr: Q + page * P,
          length: P,
          prot: RW,
          flags: ANON | 16,
          file: null,
          offset: 0,
        }),
      )
    map(2)
    map(12)
    expect(child.mapCount).toBe(3)
    s.at(2, 1)
    expect(s.list()[0]).toBe('0+3 rw-')
    task.run(exitMmap(s.k, child))
  })

  it('AS vector 50: fork with memory that stays out, is wiped, or was locked', () => {
    const s = new Space(release)
    s.at(0, 1)
    s.at(2, 1)
    s.at(4, 4, RW, ANON | MAP_LOCKED)
    s.store(0, 1)
    s.store(2, 2)
    s.call(madvise(s.k, s.mm, Q, P, MADV_DONTFORK))
    s.call(madvise(s.k, s.mm, Q + 2 * P, P, MADV_WIPEONFORK))
    const child = s.task.run(forkMm(s.k, s.mm, 'child')) as Mm
    expect([child.lockedVm, child.totalVm, s.mm.totalVm, child.committed]).toEqual([0, 5, 6, 5])
    const parent = s.task.mm
    s.task.mm = child
    expect(s.touch(0, false)).toBe(false)
    expect(s.load(2)).toBe(0)
    expect(s.flags(2)).toContain('wf')
    expect(s.flags(4)).not.toContain('lo')
    s.task.mm = parent
    s.task.run(exitMmap(s.k, child))
  })

  it('R-AS-136 the first split stays when the second fails', () => {
    const s = new Space(release, {}, { settings: { maxMapCount: 2 } })
    s.at(0, 4)
    expect(s.call(mprotect(s.k, s.mm, Q + P, P, R))).toBe('-ENOMEM')
    expect(s.list()).toEqual(['0+1 rw-', '1+3 rw-'])
    expect(s.call(munmap(s.k, s.mm, Q, 4 * P))).toBe(0)
  })
})

describe('merging on 6.18 as a live kernel does it', () => {
  it('R-AS-130 the merged mapping may have guards when any part may', () => {
    const s = new Space('6.18')
    s.at(4, 2)
    expect(s.call(madvise(s.k, s.mm, Q + 4 * P, P, MADV_GUARD_INSTALL))).toBe(0)
    s.at(2, 2)
    expect(s.list()).toEqual(['2+4 rw-'])
    expect(s.flags(2)).toBe('rd wr mr mw me gu ac')
  })

  it.each([
    ['file', ['0+4 rw-']],
    ['anonymous', ['0+2 rw-', '2+2 rw-']],
  ])('R-AS-106 guards make %s memory touched or not', (backing, expected) => {
    const s = new Space('6.18')
    const file = backing === 'file' ? s.memfd(4) : null
    const flags = file === null ? ANON : MAP_PRIVATE
    s.at(0, 2, RW, flags, file)
    s.at(2, 2, R, flags, file, 2)
    s.call(madvise(s.k, s.mm, Q, P, MADV_GUARD_INSTALL))
    s.call(madvise(s.k, s.mm, Q + 2 * P, P, MADV_GUARD_INSTALL))
    s.call(mprotect(s.k, s.mm, Q + 2 * P, 2 * P, RW))
    expect(s.list()).toEqual(expected)
  })

  it('R-AS-86 a stack that a read made grow counts as touched', () => {
    const s = new Space('6.18')
    s.at(20, 2, RW, ANON | MAP_GROWSDOWN)
    expect(s.touch(10, false)).toBe(true)
    s.call(mprotect(s.k, s.mm, Q + 15 * P, P, 0))
    expect(s.flags(15)).toBe('mr mw me gd ac')
  })
})
