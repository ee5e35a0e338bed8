import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { PMD_SIZE } from '../../src/base/units.ts'
import { FOLL_LONGTERM, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { pinUserPagesFast } from '../../src/mm/gup.ts'
import { hugetlbFileSetup, hugetlbPool } from '../../src/mm/hugetlb.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MREMAP_FIXED, MREMAP_MAYMOVE } from '../../src/mm/mman.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { PageArray } from '../../src/mm/page-array.ts'
import {
  HugePmd,
  PTE_MARKER_POISON,
  PTE_MARKER_UFFD_WP,
  PTE_UFFD_WP,
  PTE_WRITE,
  pmdIndex,
} from '../../src/mm/page-table.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import { unpinUserPages } from '../../src/mm/unpin.ts'
import { accessUser, storeUser } from '../../src/mm/user-access.ts'
import {
  createUserfaultfd,
  uffdApi,
  uffdClose,
  uffdContinue,
  uffdCopy,
  uffdPoison,
  uffdRegister,
  uffdUnregister,
  uffdWake,
  uffdWriteprotect,
  uffdZeropage,
  userfaultfd,
} from '../../src/mm/userfaultfd.ts'
import { UFFD_API } from '../../src/mm/userfaultfd-flags.ts'
import { result } from '../support/kernel.ts'
import { P } from './fault-support.ts'
import { MINOR, MISSING, WP, WatchedWorld, fault } from './userfaultfd-support.ts'

const WP_UNPOPULATED = 0x2000
const WP_ASYNC = 0x8000
const OK = { ok: true }

describe('userfaultfd(2) and UFFDIO_API', () => {
  it('R-FLT-118 serving the kernel needs CAP_SYS_PTRACE, USER_MODE_ONLY or the sysctl', () => {
    const w = new WatchedWorld()
    const made = (flags: number): unknown =>
      w.task.run(
        (function* () {
          yield* []
          return userfaultfd(w.k, w.mm, flags)
        })(),
      )
    expect(made(0)).toBe(-1)
    expect(made(1)).toMatchObject({ userModeOnly: true, ready: false })
    w.task.capabilities.add('CAP_SYS_PTRACE')
    expect(made(0)).toMatchObject({ userModeOnly: false })
    w.task.capabilities.delete('CAP_SYS_PTRACE')
    w.k.settings.unprivilegedUserfaultfd = true
    expect(made(0)).toMatchObject({ userModeOnly: false })
  })

  it.each([
    ['6.1', 0x1fff],
    ['6.12', 0x1ffff],
    ['6.18', 0x1ffff],
  ] as const)('R-FLT-118 %s offers %i, once, and nothing else is accepted', (release, features) => {
    const w = new WatchedWorld({ release })
    const fresh = createUserfaultfd(w.k, { ready: false })
    expect(result(uffdApi(w.k, fresh, 0xab, 0))).toBe('-EINVAL')
    expect(result(uffdApi(w.k, fresh, UFFD_API, features + 1))).toBe('-EINVAL')
    expect(result(uffdApi(w.k, fresh, UFFD_API, 0))).toBe(features)
    expect(result(uffdApi(w.k, fresh, UFFD_API, 0))).toBe('-EINVAL')
  })

  it('R-FLT-118 WP_ASYNC brings WP_UNPOPULATED; EVENT_FORK needs CAP_SYS_PTRACE', () => {
    const w = new WatchedWorld({ release: '6.18' })
    const fresh = createUserfaultfd(w.k, { ready: false })
    w.k.run(
      w.task,
      (function* () {
        yield* []
        expect(result(uffdApi(w.k, fresh, UFFD_API, 2))).toBe('-EPERM')
      })(),
    )
    uffdApi(w.k, fresh, UFFD_API, WP_ASYNC)
    expect(fresh.features).toBe(WP_ASYNC | WP_UNPOPULATED)
  })
})

describe('userfaultfd, WP', () => {
  it('FLT vector 57: a write to a protected page is announced with flags 3 and keeps its frame', () => {
    const w = new WatchedWorld()
    const at = w.map(2)
    w.store(at, 1)
    const before = w.pfn(at)
    expect(w.register(at, 2 * P, WP)).toBe(0)
    expect(w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, 2 * P, 1))).toBe(0)
    const { result: outcome, messages } = w.served(accessUser(w.k, w.mm, at + 9, true), () =>
      w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, P, 0)),
    )
    expect([outcome, messages, w.pfn(at), w.shows(at)]).toEqual([OK, [fault(3, at)], before, 'anon X w'])
    // what was not there is not protected without UFFD_FEATURE_WP_UNPOPULATED
    expect(w.shows(at + P)).toBe('none')
  })

  it('FLT vector 89: reading a protected page is no event, mprotect does not give it its write bit back', () => {
    const w = new WatchedWorld()
    const at = w.map(1)
    w.store(at, 1)
    w.register(at, P, MISSING | WP)
    w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, P, 1))
    expect(w.touch(at)).toEqual(OK)
    w.ask(mprotect(w.k, w.mm, at, P, 1))
    w.ask(mprotect(w.k, w.mm, at, P, 3))
    expect(w.entry(at).bits & (PTE_UFFD_WP | PTE_WRITE)).toBe(PTE_UFFD_WP)
  })

  it.each(['gup-v3', '6.6', '6.12', '6.18'] as const)(
    'FLT vector 90, R-FLT-115: %s marks what is not there; a read keeps the protection, a write is announced',
    (release) => {
      const w = new WatchedWorld({ release }, { features: WP_UNPOPULATED })
      const at = w.map(2)
      w.register(at, 2 * P, WP)
      w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, 2 * P, 1))
      expect(w.entry(at).bits).toBe(PTE_MARKER_UFFD_WP)
      expect(w.touch(at)).toEqual(OK)
      expect([w.shows(at), w.entry(at).bits & PTE_UFFD_WP]).toEqual(['zero', PTE_UFFD_WP])
      const { messages } = w.served(accessUser(w.k, w.mm, at + P, true), () =>
        w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at + P, P, 0)),
      )
      expect([messages, w.shows(at + P)]).toEqual([[fault(3, at + P)], 'anon X w'])
      expect(w.ask(uffdUnregister(w.k, w.uffd, w.mm, at, 2 * P))).toBe(0)
      expect(w.entry(at).bits & PTE_UFFD_WP).toBe(0)
    },
  )

  it('FLT vector 91, R-FLT-115: a protected page of a file leaves a marker when it is zapped', () => {
    const w = new WatchedWorld()
    const at = w.map(2, { file: shmemFileSetup(w.k, '/memfd:a', 2 * P), shared: true })
    w.load(at)
    w.register(at, 2 * P, WP)
    w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, 2 * P, 1))
    expect([w.shows(at), w.entry(at + P).bits]).toEqual(['file', PTE_MARKER_UFFD_WP])
    w.ask(madvise(w.k, w.mm, at, P, MADV_DONTNEED))
    expect(w.entry(at).bits).toBe(PTE_MARKER_UFFD_WP)
    w.load(at)
    expect([w.shows(at), w.entry(at).bits & PTE_UFFD_WP]).toEqual(['file', PTE_UFFD_WP])
  })

  it('FLT vector 92: COPY with protection needs mode WP', () => {
    const w = new WatchedWorld()
    const at = w.map(1)
    w.register(at, P, MISSING)
    const copy = (): number | string => w.ask(uffdCopy(w.k, w.uffd, w.mm, at, new Uint8Array(P).fill(5), 2))
    expect(copy()).toBe('-EINVAL')
    w.register(at, P, MISSING | WP)
    expect(copy()).toBe(P)
    const { messages } = w.served(accessUser(w.k, w.mm, at, true), () =>
      w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, P, 0)),
    )
    expect([messages, w.load(at)]).toEqual([[fault(3, at)], 5])
  })

  it('FLT vector 98: a page of a hugetlb memfd is announced, filled and protected as one', () => {
    const w = new WatchedWorld()
    hugetlbPool(w.k).resize(1)
    const file = hugetlbFileSetup(w.k, {
      size: PMD_SIZE,
      pageSize: PMD_SIZE,
      name: 'memfd:huge',
      noreserve: true,
    })
    const at = w.map(512, { file, shared: true })
    file.put()
    expect(w.register(at, PMD_SIZE, MISSING | WP)).toBe(0)
    const copy = (length: number): number | string =>
      w.ask(uffdCopy(w.k, w.uffd, w.mm, at, new Uint8Array(length).fill(5)))
    const { messages } = w.served(accessUser(w.k, w.mm, at + 5 * P + 9, false), () => {
      expect(copy(P)).toBe('-EINVAL')
      expect(copy(PMD_SIZE)).toBe(PMD_SIZE)
    })
    expect([messages, w.load(at + 511 * P)]).toEqual([[fault(0, at)], 5])
    expect(w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, PMD_SIZE, 1))).toBe(0)
    const written = w.served(storeUser(w.k, w.mm, at + 7 * P, Uint8Array.of(6)), () =>
      w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, PMD_SIZE, 0)),
    )
    expect([written.messages, w.load(at + 7 * P)]).toEqual([[fault(3, at)], 6])
  })

  /** 2 MiB of memory that may become huge, watched */
  function hugeWorld(mode: number, features = 0, touched = false): { w: WatchedWorld; at: number } {
    const w = new WatchedWorld({ release: '6.18' }, { features })
    const at = 0x40000000
    w.mapFixed(at, 512)
    w.ask(madvise(w.k, w.mm, at, PMD_SIZE, MADV_HUGEPAGE))
    if (touched) w.store(at, 1)
    expect(w.register(at, PMD_SIZE, mode)).toBe(0)
    return { w, at }
  }
  const pmd = (w: WatchedWorld, at: number): string => {
    const entry = w.mm.pageTable.pmd(pmdIndex(at))
    if (entry === null) return 'none'
    if (!(entry instanceof HugePmd)) return 'table'
    return (entry.bits & PTE_UFFD_WP) !== 0 ? 'protected' : 'huge'
  }

  it('R-FLT-117, R-FLT-127 MISSING: asked before a huge page or a table is made, filled in small pages', () => {
    const { w, at } = hugeWorld(MISSING)
    const { messages } = w.served(accessUser(w.k, w.mm, at + 5 * P, true), (message) => {
      expect(pmd(w, at)).toBe('none')
      expect(message).toEqual(fault(1, at + 5 * P))
      w.ask(uffdCopy(w.k, w.uffd, w.mm, at + 5 * P, new Uint8Array(P).fill(9)))
    })
    expect([messages, pmd(w, at), w.mm.rssAnon]).toEqual([[fault(1, at + 5 * P)], 'table', 1])
  })

  it('R-FLT-127 WRITEPROTECT of a whole huge page keeps it, of a part splits it, so does WP_ASYNC', () => {
    const { w, at } = hugeWorld(WP, 0, true)
    const protect = (length: number, on: 0 | 1) => w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, length, on))
    expect([pmd(w, at), protect(PMD_SIZE, 1), pmd(w, at)]).toEqual(['huge', 0, 'protected'])
    const { messages } = w.served(accessUser(w.k, w.mm, at + 7 * P, true), () => protect(PMD_SIZE, 0))
    expect([messages, pmd(w, at)]).toEqual([[fault(3, at + 7 * P)], 'huge'])
    expect([protect(P, 1), pmd(w, at)]).toEqual([0, 'table'])
    const silent = hugeWorld(WP, WP_ASYNC | WP_UNPOPULATED, true)
    silent.w.ask(uffdWriteprotect(silent.w.k, silent.w.uffd, silent.w.mm, at, PMD_SIZE, 1))
    expect(pmd(silent.w, at)).toBe('protected')
    expect([silent.w.touch(at + P, true), pmd(silent.w, at)]).toEqual([OK, 'table'])
  })

  it('R-FLT-45 WP_ASYNC: the bit goes, nobody is asked', () => {
    const w = new WatchedWorld({ release: '6.18' }, { features: WP_ASYNC | WP_UNPOPULATED })
    const at = w.map(1)
    w.store(at, 1)
    w.register(at, P, WP)
    w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, P, 1))
    expect(w.touch(at, true)).toEqual(OK)
    expect([w.shows(at), w.entry(at).bits & PTE_UFFD_WP, w.uffd.pending]).toEqual(['anon X w', 0, []])
  })

  it('R-FLT-114 several mappings: holes are left out, up to 6.1 one must hold the range', () => {
    for (const release of RELEASE_NAMES) {
      const w = new WatchedWorld({ release })
      const at = w.map(3)
      w.store(at, 1)
      w.store(at + 2 * P, 1)
      w.register(at, 3 * P, WP)
      w.ask(mprotect(w.k, w.mm, at + P, P, 1))
      const outcome = w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, 3 * P, 1))
      expect(outcome, release).toBe(release === '6.1' ? '-ENOENT' : 0)
      expect(w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, P, 3))).toBe('-EINVAL')
    }
  })

  it('R-FLT-119 closing takes the protection away', () => {
    for (const release of ['6.1', '6.18'] as const) {
      const w = new WatchedWorld({ release })
      const at = w.map(1)
      w.store(at, 1)
      w.register(at, P, WP)
      w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, P, 1))
      w.task.run(uffdClose(w.k, w.uffd))
      expect(w.entry(at).bits & PTE_UFFD_WP, release).toBe(0)
      expect(w.touch(at, true)).toEqual(OK)
    }
  })
})

describe('userfaultfd, MINOR', () => {
  it('R-FLT-111 a cached page is announced with flags 4 and mapped by CONTINUE', () => {
    const w = new WatchedWorld()
    const file = shmemFileSetup(w.k, '/memfd:a', 2 * P)
    const first = w.map(2, { file, shared: true })
    w.store(first, 7)
    const at = w.map(2, { file, shared: true })
    w.register(at, 2 * P, MINOR)
    const { messages } = w.served(accessUser(w.k, w.mm, at, false), () =>
      w.ask(uffdContinue(w.k, w.uffd, w.mm, at, P)),
    )
    expect([messages, w.load(at), w.pfn(at)]).toEqual([[fault(4, at)], 7, w.pfn(first)])
    // what is not cached is not MINOR's
    expect(w.ask(uffdContinue(w.k, w.uffd, w.mm, at + P, P))).toBe('-EFAULT')
    expect(w.touch(at + P)).toEqual(OK)
    expect(w.ask(uffdContinue(w.k, w.uffd, w.mm, at, P))).toBe('-EEXIST')
  })

  it.each(RELEASE_NAMES)('FLT vector 58: %s, a pin of a MINOR page: flags 5, or EFAULT', (release) => {
    const w = new WatchedWorld({ release })
    const file = shmemFileSetup(w.k, '/memfd:a', P)
    w.store(w.map(1, { file, shared: true }), 7)
    const at = w.map(1, { file, shared: true })
    w.register(at, P, MINOR)
    const pages = new PageArray(1)
    const body = pinUserPagesFast(w.k, at, 1, FOLL_WRITE | FOLL_LONGTERM, pages)
    const waits = release !== '6.1'
    const { result: pinned, messages } = w.served(body, () => w.ask(uffdContinue(w.k, w.uffd, w.mm, at, P)))
    expect([result(pinned), messages]).toEqual(waits ? [1, [fault(5, at)]] : ['-EFAULT', []])
    if (waits) unpinUserPages(w.k, pages, 1)
  })
})

describe('userfaultfd, poison and moved mappings', () => {
  it.each([true, false])('FLT vector 93: POISON, then MADV_FREE (MEMORY_FAILURE: %s)', (memoryFailure) => {
    const w = new WatchedWorld({ release: '6.18', settings: { memoryFailure } })
    const at = w.map(1)
    w.register(at, P, MISSING)
    expect(w.ask(uffdPoison(w.k, w.uffd, w.mm, at, P))).toBe(P)
    expect(w.entry(at).bits).toBe(PTE_MARKER_POISON)
    expect(w.touch(at)).toEqual({ ok: false, signal: 'SIGBUS', code: memoryFailure ? 4 : 2 })
    expect(w.ask(uffdPoison(w.k, w.uffd, w.mm, at, P))).toBe('-EEXIST')
    expect(w.ask(uffdZeropage(w.k, w.uffd, w.mm, at, P))).toBe('-EEXIST')
    w.ask(madvise(w.k, w.mm, at, P, MADV_FREE))
    const { messages } = w.served(accessUser(w.k, w.mm, at, false), () =>
      w.ask(uffdZeropage(w.k, w.uffd, w.mm, at, P)),
    )
    expect(messages).toEqual([fault(0, at)])
  })

  it.each(RELEASE_NAMES)(
    'FLT vector 95: %s, what moves next to a watched mapping ends the watch',
    (release) => {
      const w = new WatchedWorld({ release })
      const at = w.map(3)
      w.task.run(mprotect(w.k, w.mm, at + 2 * P, P, 0))
      w.register(at, 2 * P, MISSING)
      const moved = mremap(w.k, w.mm, at, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, at + 2 * P)
      expect(w.ask(moved)).toBe(at + 2 * P)
      expect([w.touch(at + P), w.touch(at + 2 * P)]).toEqual([OK, OK])
    },
  )

  it.each(RELEASE_NAMES)('FLT vector 97: %s, unregistering through another descriptor', (release) => {
    const w = new WatchedWorld({ release })
    const at = w.map(1)
    w.register(at, P, MISSING)
    const other = createUserfaultfd(w.k, { mm: w.mm })
    const outcome = w.ask(uffdUnregister(w.k, other, w.mm, at, P))
    expect(outcome).toBe(release === '6.18' ? '-EINVAL' : 0)
  })

  it('R-FLT-125 COPY takes the place of a marker, and of no page', () => {
    const w = new WatchedWorld({ release: '6.18' }, { features: WP_UNPOPULATED })
    const at = w.map(2)
    w.register(at, 2 * P, MISSING | WP)
    w.ask(uffdWriteprotect(w.k, w.uffd, w.mm, at, 2 * P, 1))
    expect(w.ask(uffdZeropage(w.k, w.uffd, w.mm, at, P))).toBe('-EEXIST')
    expect(w.ask(uffdCopy(w.k, w.uffd, w.mm, at, new Uint8Array(2 * P)))).toBe(2 * P)
    expect([w.shows(at), w.ask(uffdCopy(w.k, w.uffd, w.mm, at, new Uint8Array(P)))]).toEqual([
      'anon X w',
      '-EEXIST',
    ])
    expect(w.ask(uffdCopy(w.k, w.uffd, w.mm, at + P, new Uint8Array(2 * P)))).toBe('-ENOENT')
  })

  it('R-FLT-110 registering again replaces the modes', () => {
    const w = new WatchedWorld()
    const at = w.map(2)
    expect(w.register(at, 2 * P, MISSING)).toBe(0)
    expect(w.register(at, P, WP)).toBe(0)
    expect(w.touch(at)).toEqual(OK)
    expect(w.register(at, 2 * P, MINOR)).toBe('-EINVAL')
    expect(result(w.task.run(uffdUnregister(w.k, w.uffd, w.mm, at + 1, P)))).toBe('-EINVAL')
  })

  it.each(RELEASE_NAMES)(
    'R-FLT-119 %s, a piece cut out of its mapping and the mapping behind it',
    (release) => {
      const w = new WatchedWorld({ release })
      const at = w.map(3)
      w.register(at, 2 * P, MISSING)
      expect(w.ask(uffdUnregister(w.k, w.uffd, w.mm, at + P, P))).toBe(0)
      const guard = w.mm.mmapLock.tryRead()!
      const merged = guard.vmas.find(at + P)!.end === at + 3 * P
      guard.release()
      expect(merged).toBe(release !== '6.1' && release !== 'gup-v3')
    },
  )

  it('R-FLT-119 requests after the address space is gone: ESRCH, ENOMEM of those that register', () => {
    const w = new WatchedWorld()
    const at = w.map(1)
    const child = w.fork()
    const uffd = createUserfaultfd(w.k, { mm: child })
    w.exit(child)
    expect(w.ask(uffdCopy(w.k, uffd, child, at, new Uint8Array(P)))).toBe('-ESRCH')
    expect(w.ask(uffdUnregister(w.k, uffd, child, at, P))).toBe('-ENOMEM')
    expect(w.ask(uffdUnregister(w.k, uffd, child, at + 1, P))).toBe('-EINVAL')
    expect(w.ask(uffdRegister(w.k, uffd, child, at, P, 1))).toBe('-ENOMEM')
    expect(w.ask(uffdRegister(w.k, uffd, child, at, P, 8))).toBe('-EINVAL')
    expect(uffdWake(w.k, uffd, at, P)).toBe(0)
  })
})
