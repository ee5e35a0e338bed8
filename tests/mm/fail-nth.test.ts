import { describe, expect, it } from 'vitest'
import type { Kthread } from '../../src/base/kthread.ts'
import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE, PMD_SIZE } from '../../src/base/units.ts'
import { ioUringSetup } from '../../src/io_uring/io-uring.ts'
import {
  IORING_REGISTER_BUFFERS,
  IORING_REGISTER_BUFFERS_UPDATE,
  ioUringRegister,
} from '../../src/io_uring/register.ts'
import { accessRemoteVm } from '../../src/mm/access-remote-vm.ts'
import { audit } from '../../src/mm/audit.ts'
import { brk } from '../../src/mm/brk.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { FOLL_FORCE, FOLL_LONGTERM, FOLL_SAME_FILE, FOLL_WRITE } from '../../src/mm/gup-flags.ts'
import { GupTestFile, PIN_LONGTERM_TEST_START } from '../../src/mm/gup-test.ts'
import {
  LockedGuard,
  type PageArray,
  getDumpPage,
  getUserPagesRemote,
  getUserPagesUnlocked,
  pinUserPagesRemote,
  pinUserPagesUnlocked,
} from '../../src/mm/gup.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { madvise } from '../../src/mm/madvise.ts'
import * as mman from '../../src/mm/mman.ts'
import { mlock, mlockall } from '../../src/mm/mlock.ts'
import { mmap } from '../../src/mm/mmap.ts'
import { mprotect } from '../../src/mm/mprotect.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import { punchHole, truncateFile } from '../../src/mm/truncate.ts'
import { loadUser, storeUser } from '../../src/mm/user-access.ts'
import { putPage } from '../../src/mm/unpin.ts'
import { testTask } from '../support/kernel.ts'
import { walkFailures } from '../support/walk-failures.ts'
import { World, type Attempt } from './gup-fixture.ts'

const P = PAGE_SIZE
const RW = mman.PROT_READ | mman.PROT_WRITE

/** Prepares a world and returns what is then run with something failing; it gives back all that it gets. */
type Scenario = (w: World) => () => void

/** Four mappings side by side: written, untouched, a memory file, copied on write. */
function mixed(w: World): { at: number; pages: number } {
  const at = 0x20000000
  w.map(1, { at, touched: true })
  w.map(1, { at: at + P })
  w.map(1, { at: at + 2 * P, file: w.memfd(1) })
  w.map(1, { at: at + 3 * P, touched: true })
  w.fork()
  return { at, pages: 4 }
}

function hugetlb(w: World, pages: number, flags = mman.MAP_PRIVATE): number {
  hugetlbPool(w.k, PMD_SIZE).resize(pages + 1)
  return w.map(pages * 512, { flags: flags | mman.MAP_ANONYMOUS | mman.MAP_HUGETLB })
}

const run = (w: World, body: Kthread<unknown>): void => void w.task.run(body)

const systemCalls: Record<string, Scenario> = {
  'a store into anonymous memory': (w) => {
    const at = w.map(3)
    return () => run(w, storeUser(w.k, w.mm, at + 100, new Uint8Array(2 * P)))
  },
  'a store that copies on write': (w) => {
    const at = w.map(3, { touched: true })
    w.fork()
    return () => run(w, storeUser(w.k, w.mm, at, new Uint8Array(3 * P)))
  },
  'a store into a private file mapping': (w) => {
    const at = w.map(2, { file: w.ext4(2), flags: mman.MAP_PRIVATE })
    return () => run(w, storeUser(w.k, w.mm, at, new Uint8Array(2 * P)))
  },
  'a store into a THP, and into a shared one': (w) => {
    const at = w.mapThp(2)
    w.write(at)
    w.fork()
    return () => run(w, storeUser(w.k, w.mm, at + PMD_SIZE - P, new Uint8Array(2 * P)))
  },
  'a load': (w) => {
    const at = w.map(2, { file: w.memfd(2) })
    return () => run(w, loadUser(w.k, w.mm, at, new Uint8Array(2 * P)))
  },
  'a store into hugetlb memory, and into a shared page of it': (w) => {
    const at = hugetlb(w, 2)
    w.write(at)
    w.fork()
    return () => run(w, storeUser(w.k, w.mm, at + PMD_SIZE - P, new Uint8Array(2 * P)))
  },
  'mmap MAP_POPULATE': (w) => () => {
    const flags = mman.MAP_PRIVATE | mman.MAP_ANONYMOUS | mman.MAP_POPULATE
    run(w, mmap(w.k, w.mm, { addr: 0, length: 4 * P, prot: RW, flags, file: null, offset: 0 }))
  },
  'mmap MAP_HUGETLB | MAP_POPULATE': (w) => {
    hugetlbPool(w.k, PMD_SIZE).resize(2)
    const flags = mman.MAP_PRIVATE | mman.MAP_ANONYMOUS | mman.MAP_HUGETLB | mman.MAP_POPULATE
    return () =>
      run(w, mmap(w.k, w.mm, { addr: 0, length: 2 * PMD_SIZE, prot: RW, flags, file: null, offset: 0 }))
  },
  'munmap of a part of a THP': (w) => {
    const at = w.mapThp()
    w.write(at)
    return () => run(w, munmap(w.k, w.mm, at + P, 3 * P))
  },
  'mprotect of a part of a THP': (w) => {
    const at = w.mapThp()
    w.write(at)
    return () => run(w, mprotect(w.k, w.mm, at + P, 3 * P, mman.PROT_READ))
  },
  'mremap of a part of a THP': (w) => {
    const at = w.mapThp()
    w.write(at)
    return () => run(w, mremap(w.k, w.mm, at + P, 3 * P, 5 * P, mman.MREMAP_MAYMOVE, 0))
  },
  'mremap MREMAP_DONTUNMAP': (w) => {
    const at = w.map(4, { touched: true })
    const flags = mman.MREMAP_MAYMOVE | mman.MREMAP_DONTUNMAP
    return () => run(w, mremap(w.k, w.mm, at, 4 * P, 4 * P, flags, 0))
  },
  brk: (w) => () => {
    run(w, brk(w.k, w.mm, w.mm.brk + 4 * P))
    run(w, storeUser(w.k, w.mm, w.mm.startBrk, new Uint8Array(P)))
  },
  'madvise MADV_POPULATE_WRITE': (w) => {
    const { at, pages } = mixed(w)
    return () => run(w, madvise(w.k, w.mm, at, pages * P, mman.MADV_POPULATE_WRITE))
  },
  'madvise MADV_POPULATE_READ': (w) => {
    const { at, pages } = mixed(w)
    return () => run(w, madvise(w.k, w.mm, at, pages * P, mman.MADV_POPULATE_READ))
  },
  'madvise MADV_DONTNEED of a part of a THP': (w) => {
    const at = w.mapThp()
    w.write(at)
    return () => run(w, madvise(w.k, w.mm, at + P, P, mman.MADV_DONTNEED))
  },
  'madvise MADV_REMOVE': (w) => {
    const at = w.map(4, { file: w.memfd(4), touched: true })
    return () => run(w, madvise(w.k, w.mm, at + P, 2 * P, mman.MADV_REMOVE))
  },
  mlock: (w) => {
    const { at, pages } = mixed(w)
    return () => run(w, mlock(w.k, w.mm, at, pages * P))
  },
  mlockall: (w) => {
    mixed(w)
    return () => run(w, mlockall(w.k, w.mm, mman.MCL_CURRENT))
  },
  'ftruncate and hole punch': (w) => {
    const file = w.memfd(4)
    w.map(4, { file, touched: true })
    return () => {
      run(w, punchHole(w.k, file.mapping, 100, 2 * P))
      run(w, truncateFile(w.k, file.mapping, P + 100))
    }
  },
  'fork with pinned pages': (w) => {
    const { at, pages } = mixed(w)
    const pinned = w.pin(at, pages, FOLL_WRITE)
    return () => {
      run(w, forkMm(w.k, w.mm, 'child'))
      pinned.unpin()
    }
  },
  'fork with a pinned THP': (w) => {
    const at = w.mapThp()
    const pinned = w.pin(at, 3, FOLL_WRITE)
    return () => {
      run(w, forkMm(w.k, w.mm, 'child'))
      pinned.unpin()
    }
  },
  'fork with pinned hugetlb memory': (w) => {
    const at = hugetlb(w, 2)
    const pinned = w.pin(at, 3, FOLL_WRITE)
    return () => {
      run(w, forkMm(w.k, w.mm, 'child'))
      pinned.unpin()
    }
  },
  '/proc/PID/mem': (w) => {
    const { at, pages } = mixed(w)
    const other = w.as(testTask(w.k, { comm: 'debugger' }))
    return () => {
      const bytes = new Uint8Array((pages - 1) * P)
      run(other, accessRemoteVm(w.k, w.mm, at + 100, bytes, true, FOLL_FORCE))
    }
  },
  'io_uring REGISTER_BUFFERS and BUFFERS_UPDATE': (w) => {
    const thp = w.mapThp()
    const { at, pages } = mixed(w)
    const ring = w.task.run(ioUringSetup(w.k, { entries: 4 }))
    if (typeof ring === 'number') throw new Error(`io_uring_setup: ${ring}`)
    return () => {
      const iovecs = [
        { base: at, length: pages * P },
        { base: thp, length: PMD_SIZE },
      ]
      run(w, ioUringRegister(w.k, ring, IORING_REGISTER_BUFFERS, { type: 'iovecs', iovecs }, 2))
      const data = [{ base: at + P, length: 2 * P }]
      const arg = { type: 'rsrc-update', offset: 1, nr: 1, data } as const
      run(w, ioUringRegister(w.k, ring, IORING_REGISTER_BUFFERS_UPDATE, arg, 32))
      expect(audit(w.k)).toEqual([])
      ring.file.put()
    }
  },
  'the long-term session of gup_test': (w) => {
    const { at, pages } = mixed(w)
    const file = new GupTestFile(w.k)
    return () => {
      run(w, file.ioctl(PIN_LONGTERM_TEST_START, { addr: at, size: pages * P, flags: 1 }))
      expect(audit(w.k)).toEqual([])
      file.put()
    }
  },
}

/** Takes pages, looks at the books while they are held, and gives them back. */
function checked(w: World, attempt: () => Attempt, pinned: boolean): () => void {
  return () => {
    const got = attempt()
    const counted = got.pfns.filter((pfn) => w.k.release.gup.pinsZeroPage || pfn !== w.k.zeroPfn)
    expect(got.acquired - got.released).toBe(pinned ? counted.length : 0)
    if (pinned) got.unpin()
    else got.put()
  }
}

const flagSets = [0, FOLL_WRITE | FOLL_LONGTERM, FOLL_FORCE | FOLL_WRITE]

/** Every exported GUP entry on the mixed range; `name` → scenario. */
const gupCalls: Record<string, (flags: number) => Scenario | null> = {
  get_user_pages: (flags) => plain(flags, (w, at, n) => w.get(at, n, flags)),
  get_user_pages_fast: (flags) => plain(flags, (w, at, n) => w.getFast(at, n, flags)),
  get_user_pages_unlocked: (flags) =>
    plain(flags, (w, at, n) =>
      w.attempt(n, (pages) => w.task.run(getUserPagesUnlocked(w.k, at, n, pages, flags))),
    ),
  get_user_pages_remote: (flags) =>
    plain(flags, (w, at, n) => w.attempt(n, (pages) => lent(w, at, n, flags, pages, false))),
  pin_user_pages: (flags) => pins((w, at, n) => w.pin(at, n, flags)),
  'pin_user_pages FOLL_SAME_FILE': (flags) => pins((w, at, n) => w.pin(at, n, flags | FOLL_SAME_FILE)),
  pin_user_pages_fast: (flags) => pins((w, at, n) => w.pinFast(at, n, flags)),
  pin_user_pages_unlocked: (flags) =>
    pins((w, at, n) => w.attempt(n, (pages) => w.task.run(pinUserPagesUnlocked(w.k, at, n, pages, flags)))),
  pin_user_pages_remote: (flags) =>
    pins((w, at, n) => w.attempt(n, (pages) => lent(w, at, n, flags, pages, true))),
  get_dump_page: () => (w) => {
    const { at } = mixed(w)
    return () => {
      const pfn = w.task.run(getDumpPage(w.k, at + 2 * P))
      if (pfn !== 0) putPage(w.k, pfn)
    }
  },
}

type Take = (w: World, at: number, n: number) => Attempt

function plain(flags: number, take: Take): Scenario | null {
  if ((flags & FOLL_LONGTERM) !== 0) return null
  return (w) => {
    const { at, pages } = mixed(w)
    return checked(w, () => take(w, at, pages), false)
  }
}

function pins(take: Take): Scenario {
  return (w) => {
    const { at, pages } = mixed(w)
    return checked(w, () => take(w, at, pages), true)
  }
}

function lent(w: World, at: number, n: number, flags: number, pages: PageArray, pin: boolean): number {
  const lock = new LockedGuard(w.mm.mmapLock.tryRead())
  const remote = pin ? pinUserPagesRemote : getUserPagesRemote
  const result = w.task.run(remote(w.k, w.mm, at, n, flags & ~FOLL_LONGTERM, pages, lock))
  lock.guard?.release()
  return result
}

const releases = ['6.1', 'gup-v3', '6.18'] as const satisfies readonly ReleaseName[]

const walk = (release: ReleaseName, scenario: Scenario): number =>
  walkFailures(release, (k) => scenario(new World(k)))

const takesNoFrames = new Set([
  'munmap of a part of a THP',
  'mprotect of a part of a THP',
  'mremap of a part of a THP',
  'mremap MREMAP_DONTUNMAP',
  'madvise MADV_DONTNEED of a part of a THP',
  'madvise MADV_REMOVE',
  'ftruncate and hole punch',
])

describe('whatever fails, the books balance', () => {
  it.each(Object.entries(systemCalls))('%s', (name, scenario) => {
    let failed = 0
    for (const release of releases) failed += walk(release, scenario)
    // the engine's VMAs and page tables are not made of frames
    if (takesNoFrames.has(name)) expect(failed).toBe(0)
    else expect(failed).toBeGreaterThan(0)
  })

  it.each(Object.entries(gupCalls))('%s', (_name, call) => {
    let failed = 0
    for (const release of releases) {
      for (const flags of flagSets) {
        const scenario = release !== 'gup-v3' && _name.includes('SAME_FILE') ? null : call(flags)
        if (scenario !== null) failed += walk(release, scenario)
      }
    }
    expect(failed).toBeGreaterThan(0)
  })
})
