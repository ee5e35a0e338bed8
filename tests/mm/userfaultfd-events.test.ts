import { describe, expect, it } from 'vitest'
import { forkMm } from '../../src/mm/fork.ts'
import { pinUserPagesFast } from '../../src/mm/gup.ts'
import { FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_DONTNEED, MREMAP_FIXED, MREMAP_MAYMOVE } from '../../src/mm/mman.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { PageArray } from '../../src/mm/page-array.ts'
import { HugePmd, PTE_UFFD_WP } from '../../src/mm/page-table.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import { accessUser } from '../../src/mm/user-access.ts'
import { uffdCopy, uffdMove, uffdWriteprotect, uffdZeropage } from '../../src/mm/userfaultfd.ts'
import { P } from './fault-support.ts'
import { MISSING, WP, WatchedWorld, fault } from './userfaultfd-support.ts'

const [FORK, REMAP, REMOVE, UNMAP] = [0x2, 0x4, 0x8, 0x40]
const nothing = (): void => {}

describe('userfaultfd events', () => {
  it('FLT vector 96: munmap returns when its message has been read; nothing can be filled until then', () => {
    const w = new WatchedWorld({}, { features: UNMAP })
    const at = w.map(4)
    w.register(at, 4 * P, MISSING)
    const { messages } = w.served(munmap(w.k, w.mm, at, 2 * P), () => {
      expect(w.ask(uffdZeropage(w.k, w.uffd, w.mm, at + 2 * P, P))).toBe('-EAGAIN')
    })
    expect(messages).toEqual([{ event: 'unmap', start: at, end: at + 2 * P }])
    expect(w.ask(uffdZeropage(w.k, w.uffd, w.mm, at + 2 * P, P))).toBe(P)
  })

  it('R-FLT-123 mremap: the new place stays watched, and protected', () => {
    const w = new WatchedWorld({}, { features: REMAP })
    const at = w.map(8)
    w.store(at, 1)
    w.register(at, 2 * P, MISSING | WP)
    w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, P, 1))
    const to = at + 6 * P
    const { result, messages } = w.served(
      mremap(w.k, w.mm, at, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, to),
      nothing,
    )
    expect([result, messages]).toEqual([to, [{ event: 'remap', from: at, to, length: 2 * P }]])
    expect(w.entry(to).bits & PTE_UFFD_WP).toBe(PTE_UFFD_WP)
    const read = w.served(accessUser(w.k, w.mm, to + P, false), () =>
      w.ask(uffdZeropage(w.k, w.uffd, w.mm, to + P, P)),
    )
    expect(read.messages).toEqual([fault(0, to + P)])
  })

  it('R-FLT-123 MADV_DONTNEED tells what it is going to drop', () => {
    const w = new WatchedWorld({}, { features: REMOVE })
    const at = w.map(2)
    w.store(at, 1)
    w.register(at, 2 * P, MISSING)
    const { messages } = w.served(madvise(w.k, w.mm, at, P, MADV_DONTNEED), () => {
      expect(w.shows(at)).toBe('anon X w')
    })
    expect([messages, w.shows(at)]).toEqual([[{ event: 'remove', start: at, end: at + P }], 'none'])
  })

  it('R-FLT-116 fork with EVENT_FORK: the child is watched by a context of its own, bits and markers stay', () => {
    const w = new WatchedWorld({ release: '6.18' }, { features: FORK })
    const at = w.map(2)
    w.store(at, 1)
    w.register(at, 2 * P, MISSING | WP)
    w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, P, 1))
    const { result, messages } = w.served(forkMm(w.k, w.mm, 'child'), nothing)
    const child = result as Mm
    const [message] = messages
    if (message?.event !== 'fork') throw new Error('no message about the fork')
    expect(w.entry(at, child).bits & PTE_UFFD_WP).toBe(PTE_UFFD_WP)
    const write = w.served(
      accessUser(w.k, child, at, true),
      () => w.ask(uffdWriteprotect(w.k, message.child, child, at, P, 0)),
      message.child,
    )
    expect(write.messages).toEqual([fault(3, at)])
    w.exit(child)
  })

  it('R-FLT-62 the copy of a pinned page that fork makes is protected, too, where the child is watched', () => {
    const w = new WatchedWorld({ release: '6.18' }, { features: FORK })
    const at = w.map(2)
    w.store(at, 1)
    w.store(at + P, 1)
    const pages = new PageArray(2)
    expect(w.ask(pinUserPagesFast(w.k, at, 2, FOLL_WRITE, pages))).toBe(2)
    w.register(at, 2 * P, MISSING | WP)
    w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, P, 1))
    const child = w.served(forkMm(w.k, w.mm, 'child'), nothing).result as Mm
    expect([0, P].map((offset) => w.entry(at + offset, child).bits & PTE_UFFD_WP)).toEqual([PTE_UFFD_WP, 0])
    expect([w.shows(at, child), w.shows(at + P, child)]).toEqual(['anon X', 'anon X w'])
    expect(w.pfn(at, child)).not.toBe(w.pfn(at))
    unpinUserPages(w.k, pages, 2)
    w.exit(child)
  })
})

describe('UFFDIO_MOVE', () => {
  function pair(): { w: WatchedWorld; src: number; dst: number } {
    const w = new WatchedWorld({ release: '6.18' })
    const src = w.map(4)
    const dst = w.map(4)
    w.register(dst, 4 * P, MISSING)
    return { w, src, dst }
  }

  it('FLT vector 94: the same frame, but not a pinned one, nor onto another', () => {
    const { w, src, dst } = pair()
    w.store(src, 9)
    w.store(src + P, 8)
    const pfn = w.pfn(src)
    const move = (to: number, from: number, length = P, mode = 0): number | string =>
      w.ask(uffdMove(w.k, w.uffd, w.mm, to, from, length, mode))
    expect(move(dst, src)).toBe(P)
    expect([w.pfn(dst), w.shows(dst), w.shows(src), w.load(dst)]).toEqual([pfn, 'anon X w', 'none', 9])
    expect(move(dst, src + P)).toBe('-EEXIST')
    const pages = new PageArray(1)
    expect(w.ask(pinUserPagesFast(w.k, src + P, 1, FOLL_WRITE, pages))).toBe(1)
    expect(move(dst + P, src + P)).toBe('-EBUSY')
    unpinUserPages(w.k, pages, 1)
    expect(move(dst + P, src + P)).toBe(P)
  })

  it('R-FLT-124 a source without page tables is a run of holes, each with its own target', () => {
    const w = new WatchedWorld({ release: '6.18' })
    const span = 512 * P
    const at = w.map(5 * 512)
    const src = Math.ceil(at / span) * span
    const dst = src + 2 * span
    w.register(dst, span, MISSING)
    w.ask(uffdZeropage(w.k, w.uffd, w.mm, dst + P, P))
    w.store(src + span, 1)
    expect(w.ask(uffdMove(w.k, w.uffd, w.mm, dst + P, src, 2 * P, 2))).toBe('-EEXIST')
    expect(w.ask(uffdMove(w.k, w.uffd, w.mm, dst, src, 2 * P, 2))).toBe(P)
    expect(w.ask(uffdMove(w.k, w.uffd, w.mm, dst + 2 * P, src + span - P, 2 * P, 2))).toBe(2 * P)
    expect([w.shows(dst + 2 * P), w.shows(dst + 3 * P)]).toEqual(['none', 'anon X w'])
  })

  it.each(['6.12', '6.18'] as const)(
    'R-FLT-124 %s: a huge page shared with a child stays whole',
    (release) => {
      const w = new WatchedWorld({ release, settings: { thpEnabled: 'always' } })
      const span = 512 * P
      const src = Math.ceil(w.map(2 * 512) / span) * span
      const dst = w.map(4)
      w.register(dst, 4 * P, MISSING)
      w.store(src, 1)
      const isHuge = (): boolean => w.mm.pageTable.pmd(src / span) instanceof HugePmd
      const child = w.fork()
      expect([w.ask(uffdMove(w.k, w.uffd, w.mm, dst, src + P, P)), isHuge()]).toEqual(['-EBUSY', true])
      w.exit(child)
      w.store(src, 1)
      expect([w.ask(uffdMove(w.k, w.uffd, w.mm, dst, src + P, P)), isHuge()]).toEqual([P, false])
    },
  )

  it('R-FLT-124 holes and shared pages', () => {
    const { w, src, dst } = pair()
    const move = (length: number, mode = 0): number | string =>
      w.ask(uffdMove(w.k, w.uffd, w.mm, dst, src, length, mode))
    expect(move(P)).toBe('-ENOENT')
    w.store(src + P, 1)
    expect(move(2 * P, 2)).toBe(2 * P)
    expect([w.shows(dst), w.shows(dst + P)]).toEqual(['none', 'anon X w'])
    w.store(src, 1)
    const child = w.fork()
    expect(move(P)).toBe('-EBUSY')
    w.exit(child)
    expect(move(P, 4)).toBe('-EINVAL')
    expect(w.ask(uffdMove(w.k, w.uffd, w.mm, dst + 3 * P, src, 2 * P))).toBe('-EINVAL')
    expect(w.ask(uffdCopy(w.k, w.uffd, w.mm, dst, new Uint8Array(P)))).toBe(P)
  })
})
