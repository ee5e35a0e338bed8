/** The table of R-URING-61: what fixed I/O and the process see after the mapping of a registered buffer changed. */
import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES, type ReleaseName } from '../../src/base/release.ts'
import { F_SEAL_FUTURE_WRITE, F_SEAL_WRITE, regularFileKind, type OpenFile } from '../../src/mm/file.ts'
import { fileWrite } from '../../src/mm/file-io.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { BufferIter } from '../../src/mm/iov-iter.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { memfdAddSeals } from '../../src/mm/memfd-seals.ts'
import {
  MADV_COLLAPSE,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_FREE,
  MADV_PAGEOUT,
  MADV_REMOVE,
  MAP_ANONYMOUS,
  MAP_HUGETLB,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PROT_NONE,
  PROT_READ,
} from '../../src/mm/mman.ts'
import { mlock, munlock } from '../../src/mm/mlock.ts'
import { mremap } from '../../src/mm/mremap.ts'
import { truncateFile } from '../../src/mm/truncate.ts'
import { presentPfn } from '../../src/mm/user-access.ts'
import { result } from '../support/kernel.ts'
import { H, P, RW, Rig } from './rig.ts'

/** A registered buffer of some kind of memory, full of As where it is looked at. */
interface Buffer {
  readonly rig: Rig
  readonly a: number
  readonly pages: number
  /** what the mapping shows when its own page is gone */
  readonly beneath: string
  readonly file: OpenFile | null
}

interface Kind {
  readonly name: string
  readonly shared: boolean
  readonly huge?: boolean
  readonly build: (rig: Rig) => { a: number; file?: OpenFile; beneath?: string }
}

function withFile(rig: Rig, file: OpenFile, pages: number, flags: number): { a: number; file: OpenFile } {
  return { a: rig.map(pages, RW, flags, file), file }
}

const KINDS: readonly Kind[] = [
  { name: 'anonymous', shared: false, build: (rig) => ({ a: rig.anon(4) }) },
  { name: 'THP', shared: false, huge: true, build: (rig) => ({ a: rig.thp(1) }) },
  { name: 'hugetlb', shared: false, huge: true, build: (rig) => ({ a: rig.hugetlb(1) }) },
  {
    name: 'private memfd',
    shared: false,
    build: (rig) => withFile(rig, rig.memfd(4), 4, MAP_PRIVATE),
  },
  {
    name: 'private ext4',
    shared: false,
    build: (rig) => {
      const file = rig.file(regularFileKind('ext4'), 4)
      rig.ok(fileWrite(rig.k, file, 0, new BufferIter(new Uint8Array([0x65]))))
      return { ...withFile(rig, file, 4, MAP_PRIVATE), beneath: 'e' }
    },
  },
  { name: 'shared anonymous', shared: true, build: (rig) => ({ a: rig.anon(4, RW, undefined, MAP_SHARED) }) },
  { name: 'shared memfd', shared: true, build: (rig) => withFile(rig, rig.memfd(4), 4, MAP_SHARED) },
  {
    name: 'shared hugetlb memfd',
    shared: true,
    huge: true,
    build: (rig) => withFile(rig, rig.hugetlbFile(1), 512, MAP_SHARED),
  },
]

function buffer(release: ReleaseName, kind: Kind): Buffer {
  const rig = new Rig(release)
  rig.hugePool(4)
  const { a, file = null, beneath = '.' } = kind.build(rig)
  const pages = kind.huge === true ? 512 : 4
  rig.store(a, 'A')
  expect(rig.buffer(a, pages * P).result).toBe(0)
  return { rig, a, pages, beneath, file }
}

const advise = ({ rig, a, pages }: Buffer, advice: number): number | string =>
  result(rig.task.run(madvise(rig.k, rig.task.space, a, pages * P, advice)))

/** READ_FIXED of an R into the first byte. */
function readIn({ rig, a }: Buffer): void {
  expect(rig.readFixed(rig.letters('R'), a, 1)).toBe(1)
}

/** Whether what is mapped at the address of the buffer is another page than the pinned one, or none (R-URING-62). */
function isStale({ rig, a }: Buffer): boolean {
  return presentPfn(rig.task.space, a) !== rig.ring.buffers!.buffer(0)!.pfnAt(rig.k.memory.frames, 0)
}

/** [WRITE_FIXED sends, the process sees], before and after an R is read in. */
function observed(b: Buffer): string[] {
  const before = [b.rig.sent(b.a), b.rig.sees(b.a)]
  readIn(b)
  return [...before, b.rig.sent(b.a), b.rig.sees(b.a)]
}

describe.each(RELEASE_NAMES)('%s', (release) => {
  const files = release === '6.1' || release === 'gup-v3'
  const kinds = KINDS.filter(({ name }) => !(files && name === 'private ext4'))

  describe.each(kinds)('R-URING-61, R-URING-62 $name', (kind) => {
    const { shared } = kind
    const start = (): Buffer => buffer(release, kind)
    const end = ({ rig, a, pages, file }: Buffer): void => {
      rig.unmap(a, pages)
      file?.put()
    }

    it('munmap: the pages stay, the process has them no more', () => {
      const b = start()
      const rss = b.rig.task.space.rssAnon
      b.rig.unmap(b.a, b.pages)
      expect(observed(b)).toEqual(['A', 'SIGSEGV', 'R', 'SIGSEGV'])
      expect([isStale(b), b.rig.vmPin]).toEqual([true, kind.huge === true ? 512 : 4])
      if (!shared && !kind.name.includes('hugetlb')) expect(b.rig.task.space.rssAnon).toBeLessThan(rss)
      b.file?.put()
    })

    it('MADV_DONTNEED: private memory is stale, shared memory comes back', () => {
      const b = start()
      expect(advise(b, MADV_DONTNEED)).toBe(0)
      const seen = observed(b)
      b.rig.store(b.a, 'N')
      expect([seen, b.rig.sent(b.a), isStale(b)]).toEqual(
        shared ? [['A', 'A', 'R', 'R'], 'N', false] : [['A', b.beneath, 'R', b.beneath], 'R', true],
      )
      end(b)
    })

    it('mremap: the page moves along, the old address is the buffer’s', () => {
      const b = start()
      const to = b.rig.place(b.pages)
      const length = b.pages * P
      const flags = MREMAP_MAYMOVE | MREMAP_FIXED
      b.rig.ok(mremap(b.rig.k, b.rig.task.space, b.a, length, length, flags, to))
      expect([b.rig.sent(b.a), b.rig.writeFixed(b.rig.fd(b.rig.memfd(1)), to, 1)]).toEqual(['A', '-EFAULT'])
      readIn(b)
      expect([b.rig.sees(to), b.rig.sees(b.a), isStale(b)]).toEqual(['R', 'SIGSEGV', true])
      b.rig.unmap(to, b.pages)
      b.file?.put()
    })

    it('mmap over it: the process sees its new page only', () => {
      const b = start()
      b.rig.unmap(b.a, b.pages)
      b.rig.anon(b.pages, RW, b.a)
      expect([observed(b), isStale(b)]).toEqual([['A', '.', 'R', '.'], true])
      end(b)
    })

    it('mprotect changes nothing for the buffer', () => {
      const b = start()
      b.rig.protect(b.a, b.pages, PROT_READ)
      expect([observed(b), isStale(b)]).toEqual([['A', 'A', 'R', 'R'], false])
      b.rig.protect(b.a, b.pages, PROT_NONE)
      expect([b.rig.sent(b.a), b.rig.sees(b.a)]).toEqual(['R', 'SIGSEGV'])
      b.rig.protect(b.a, b.pages, RW)
      expect([b.rig.sees(b.a), isStale(b)]).toEqual(['R', false])
      end(b)
    })

    it('fork, the parent stores: no copy for the parent', () => {
      const b = start()
      const pfn = presentPfn(b.rig.task.space, b.a)
      const child = b.rig.fork()
      b.rig.store(b.a, 'W')
      expect(observed(b)).toEqual(['W', 'W', 'R', 'R'])
      expect([presentPfn(b.rig.task.space, b.a), isStale(b)]).toEqual([pfn, false])
      // R-URING-63: what is read in reaches the child where the memory is shared only
      expect(b.rig.sees(b.a, child)).toBe(shared ? 'R' : 'A')
      b.rig.exit(child)
      end(b)
    })

    it('fork, the child stores', () => {
      const b = start()
      const child = b.rig.fork()
      b.rig.store(b.a, 'K', child)
      expect(observed(b)).toEqual(shared ? ['K', 'K', 'R', 'R'] : ['A', 'A', 'R', 'R'])
      expect(b.rig.sees(b.a, child)).toBe(shared ? 'R' : 'K')
      b.rig.exit(child)
      end(b)
    })

    it('MADV_DONTFORK, fork: the child has nothing there', () => {
      const b = start()
      expect(advise(b, MADV_DONTFORK)).toBe(0)
      const child = b.rig.fork()
      b.rig.store(b.a, 'W')
      expect([b.rig.sent(b.a), b.rig.sees(b.a, child), isStale(b)]).toEqual(['W', 'SIGSEGV', false])
      b.rig.exit(child)
      end(b)
    })

    it('mlock and munlock have a counter of their own', () => {
      const b = start()
      const { rig, a, pages } = b
      const { space } = rig.task
      const pinned = rig.vmPin
      rig.ok(mlock(rig.k, space, a, pages * P))
      const locked = kind.name.includes('hugetlb') ? 0 : pages
      expect([space.lockedVm, rig.vmPin]).toEqual([locked, pinned])
      rig.ok(munlock(rig.k, space, a, pages * P))
      expect([space.lockedVm, observed(b), isStale(b)]).toEqual([0, ['A', 'A', 'R', 'R'], false])
      end(b)
    })

    it('MADV_FREE and MADV_PAGEOUT leave a pinned page alone', () => {
      const b = start()
      const pfn = presentPfn(b.rig.task.space, b.a)
      const anonymous = kind.name === 'anonymous' || kind.name === 'THP'
      expect(advise(b, MADV_FREE)).toBe(anonymous ? 0 : '-EINVAL')
      expect(advise(b, MADV_PAGEOUT)).toBe(kind.name.includes('hugetlb') ? '-EINVAL' : 0)
      // the entry of shared memory goes, and comes back with the same page
      expect([observed(b), presentPfn(b.rig.task.space, b.a)]).toEqual([['A', 'A', 'R', 'R'], pfn])
      end(b)
    })

    if (kind.name.includes('memfd') || kind.name.includes('ext4')) {
      it('truncation takes private copies too; what comes back is new', () => {
        const b = start()
        const { mapping } = b.file!
        const size = b.pages * P
        b.rig.ok(truncateFile(b.rig.k, mapping, 0))
        expect(observed(b)).toEqual(['A', 'SIGBUS', 'R', 'SIGBUS'])
        b.rig.ok(truncateFile(b.rig.k, mapping, size))
        expect([b.rig.sees(b.a), b.rig.sent(b.a), isStale(b)]).toEqual(['.', 'R', true])
        end(b)
      })

      it('MADV_REMOVE punches a hole into shared memory; private memory refuses', () => {
        const b = start()
        if (!shared) {
          expect(advise(b, MADV_REMOVE)).toMatch(/-EINVAL|-EACCES/)
          end(b)
          return
        }
        expect(advise(b, MADV_REMOVE)).toBe(0)
        expect(observed(b)).toEqual(['A', '.', 'R', '.'])
        b.rig.store(b.a, 'N')
        const stored = kind.huge === true ? 'N' : b.rig.fileText(b.file!, 1)
        expect([b.rig.sent(b.a), stored, isStale(b)]).toEqual(['R', 'N', true])
        end(b)
      })
    }

    if (!shared) {
      it('fork first, then register while the child lives: the parent’s page changes then', () => {
        const rig = new Rig(release)
        rig.hugePool(4)
        const { a, file } = kind.build(rig)
        rig.store(a, 'A')
        const child = rig.fork()
        const before = presentPfn(rig.task.space, a)
        expect(rig.buffer(a, P).result).toBe(0)
        const registered = presentPfn(rig.task.space, a)
        expect([registered === before, presentPfn(child.space, a)]).toEqual([false, before])
        rig.store(a, 'W')
        expect([rig.sent(a), presentPfn(rig.task.space, a), rig.sees(a, child)]).toEqual([
          'W',
          registered,
          'A',
        ])
        rig.exit(child)
        file?.put()
      })
    }
  })

  describe('R-URING-64 what the pins of a buffer do to other calls', () => {
    it('a memfd cannot be sealed against writing, mapped or not, until the buffer is gone', () => {
      const rig = new Rig(release)
      const file = rig.memfd(4)
      const a = rig.map(4, RW, MAP_SHARED, file)
      rig.buffer(a, 4 * P)
      rig.unmap(a, 4)
      const seal = (seals: number): number | string => result(rig.task.run(memfdAddSeals(rig.k, file, seals)))
      expect([seal(F_SEAL_WRITE), seal(F_SEAL_FUTURE_WRITE)]).toEqual(['-EBUSY', 0])
      rig.unregister()
      expect(seal(F_SEAL_WRITE)).toBe(0)
      file.put()
    })

    it('MADV_COLLAPSE over a pinned small page: EAGAIN', () => {
      const rig = new Rig(release)
      const a = rig.anon(512)
      rig.touch(a)
      rig.buffer(a, P)
      const collapse = (): number | string =>
        result(rig.task.run(madvise(rig.k, rig.task.space, a, H, MADV_COLLAPSE)))
      expect(collapse()).toBe('-EAGAIN')
      rig.unregister()
      expect(collapse()).toBe(0)
    })

    it('a huge page does not go back to the pool, a THP keeps its place beside a hole', () => {
      const rig = new Rig(release)
      rig.hugePool(2)
      const pool = hugetlbPool(rig.k)
      const h = rig.map(512, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB)
      rig.buffer(h, P)
      rig.unmap(h, 512)
      expect(pool.free).toBe(1)
      rig.unregister()
      expect(pool.free).toBe(2)
      const t = rig.thp(1)
      rig.buffer(t + 3 * P, P)
      const pfn = presentPfn(rig.task.space, t + 3 * P)
      rig.unmap(t + 4 * P, 1)
      expect(presentPfn(rig.task.space, t + 3 * P)).toBe(pfn)
    })
  })
})
