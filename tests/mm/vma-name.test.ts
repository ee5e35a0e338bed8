import { describe, expect, it } from 'vitest'
import { brk } from '../../src/mm/brk.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { exitMmap } from '../../src/mm/exit-mmap.ts'
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  MCL_FUTURE,
  READ_IMPLIES_EXEC,
} from '../../src/mm/mman.ts'
import { mlockall } from '../../src/mm/mlock.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import type { Mm } from '../../src/mm/mm.ts'
import type { UserString } from '../../src/mm/user-string.ts'
import { setAnonVmaName } from '../../src/mm/vma-name.ts'
import { ALL, P, Q, R, RW, SHARED_ANON, Space, W, X } from './address-space.ts'

const name = (s: Space, page: number, pages: number, text: UserString | null): number | string =>
  s.call(setAnonVmaName(s.k, s.mm, Q + page * P, pages * P, text))
const names = (s: Space): string[] =>
  s.vmas().map((vma) => `${(vma.start - Q) / P}+${vma.pages} ${vma.anonName ?? '-'}`)

describe.each(ALL)('names of anonymous memory on %s', (release) => {
  it('R-AS-109 refusals', () => {
    const s = new Space(release)
    s.at(0, 2)
    expect(name(s, 0, 1, 'a'.repeat(80))).toBe('-EINVAL')
    expect(name(s, 0, 1, 'a'.repeat(79))).toBe(0)
    for (const bad of ['[x]', 'a`', 'a$', 'a\\', 'a\n', 'ä']) expect(name(s, 0, 1, bad)).toBe('-EINVAL')
    expect(name(s, 0, 1, { unreadable: true })).toBe('-EFAULT')
    expect(s.call(setAnonVmaName(s.k, s.mm, Q + 1, P, 'a'))).toBe('-EINVAL')
    expect(s.call(setAnonVmaName(s.k, s.mm, Q, -1, 'a'))).toBe('-EINVAL')
    expect(s.call(setAnonVmaName(s.k, s.mm, Q, 0, 'a'))).toBe(0)
    s.at(10, 1, RW, MAP_PRIVATE, s.file(1))
    expect(name(s, 10, 1, 'a')).toBe('-EBADF')
    const off = new Space(release, {}, { settings: { anonVmaName: false } })
    off.at(0, 1)
    expect(name(off, 0, 1, 'a')).toBe('-EINVAL')
  })

  it('R-AS-109 a hole is skipped and reported, a file ends the walk', () => {
    const s = new Space(release)
    s.at(0, 1)
    s.at(2, 1)
    expect(name(s, 0, 3, 'a')).toBe('-ENOMEM')
    expect(names(s)).toEqual(['0+1 a', '2+1 a'])
    s.at(3, 1, RW, MAP_PRIVATE, s.file(1))
    s.at(4, 1)
    expect(name(s, 2, 3, 'b')).toBe('-EBADF')
    expect(names(s)).toEqual(['0+1 a', '2+1 b', '3+1 -', '4+1 -'])
  })

  it('R-AS-130 names keep mappings apart and splits keep names', () => {
    const s = new Space(release)
    s.at(0, 4)
    expect(name(s, 1, 2, 'x')).toBe(0)
    expect(names(s)).toEqual(['0+1 -', '1+2 x', '3+1 -'])
    s.call(mprotect(s.k, s.mm, Q + P, P, R))
    expect(names(s)).toEqual(['0+1 -', '1+1 x', '2+1 x', '3+1 -'])
    s.call(mprotect(s.k, s.mm, Q + P, P, RW))
    expect(name(s, 0, 4, null)).toBe(0)
    expect(names(s)).toEqual(['0+4 -'])
  })

  it('R-AS-109 shared anonymous memory', () => {
    const s = new Space(release)
    s.at(0, 1, RW, SHARED_ANON)
    expect(name(s, 0, 1, 'x')).toBe(s.k.release.mm.namesSharedAnonymous ? 0 : '-EBADF')
  })

  it('R-AS-151 a child inherits them', () => {
    const s = new Space(release)
    s.at(0, 1)
    name(s, 0, 1, 'x')
    const child = s.task.run(forkMm(s.k, s.mm, 'child')) as Mm
    const guard = child.mmapLock.tryRead()!
    expect(guard.vmas.first!.anonName).toBe('x')
    guard.release()
    s.task.run(exitMmap(s.k, child))
  })
})

describe.each(ALL)('READ_IMPLIES_EXEC on %s', (release) => {
  it('R-AS-7 mmap, mprotect and brk', () => {
    const s = new Space(release)
    s.task.personality = READ_IMPLIES_EXEC
    s.at(0, 4, R)
    s.call(mprotect(s.k, s.mm, Q, P, RW))
    s.call(mprotect(s.k, s.mm, Q + P, P, W))
    s.call(mprotect(s.k, s.mm, Q + 2 * P, P, 0))
    expect(s.list()).toEqual(['0+1 rwx', '1+1 -w-', '2+1 ---', '3+1 r-x'])
    s.mm.startBrk = Q + 100 * P
    s.mm.brk = Q + 100 * P
    s.task.run(brk(s.k, s.mm, Q + 101 * P))
    expect(s.list().at(-1)).toBe('100+1 rwx')
  })

  it('R-AS-7 a file on a mount without exec', () => {
    const s = new Space(release)
    s.task.personality = READ_IMPLIES_EXEC
    const file = s.file(1)
    file.mapping.noexec = true
    s.at(0, 1, R, MAP_PRIVATE, file)
    s.call(mprotect(s.k, s.mm, Q, P, RW))
    expect(s.list()).toEqual(['0+1 rw-'])
    expect(s.try({ addr: Q, prot: R | X, flags: MAP_SHARED | MAP_FIXED, file })).toBe('-EPERM')
  })

  it('R-AS-7 PR_SET_MDWE sees what is implied', () => {
    const s = new Space(release)
    if (!s.k.release.mm.hasMdwe) return
    s.task.personality = READ_IMPLIES_EXEC
    s.mm.mdwe = true
    expect(s.try({ prot: RW })).toBe('-EACCES')
    s.at(0, 1, 0)
    expect(s.call(mprotect(s.k, s.mm, Q, P, R))).toBe('-EACCES')
  })

  it('R-AS-7 is no part of MCL_FUTURE', () => {
    const s = new Space(release)
    s.task.personality = READ_IMPLIES_EXEC
    s.call(mlockall(s.k, s.mm, MCL_FUTURE))
    s.at(0, 1, R, MAP_PRIVATE | MAP_ANONYMOUS)
    expect(s.flags(0)).toBe('rd ex mr mw me lo')
  })
})
