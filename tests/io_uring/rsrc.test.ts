import { describe, expect, it } from 'vitest'
import { ENOMEM } from '../../src/base/errno.ts'
import { rootRefusal } from '../../src/base/refusal.ts'
import { RELEASE_NAMES, type ReleaseName } from '../../src/base/release.ts'
import { DEV_ZERO, SYSV_SHM, regularFileKind } from '../../src/mm/file.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { Mm } from '../../src/mm/mm.ts'
import { MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED } from '../../src/mm/mman.ts'
import { testTask } from '../support/kernel.ts'
import { H, P, PROT_READ, RW, Rig } from './rig.ts'

const EXT4 = regularFileKind('ext4')
const at = (releases: readonly ReleaseName[], release: ReleaseName): boolean => releases.includes(release)
const WITH_FILE_CHECK: readonly ReleaseName[] = ['6.1', 'gup-v3']
const FAST: readonly ReleaseName[] = ['6.12', '6.18']

describe.each(RELEASE_NAMES)('%s', (release) => {
  it('URING vector 1, R-URING-41: register and unregister four anonymous pages', () => {
    const rig = new Rig(release)
    const a = rig.anon(4)
    expect(rig.buffer(a, 4 * P)).toEqual({ result: 0, acq: 4, rel: 0, vmPin: 4 })
    expect(rig.unregister()).toEqual({ result: 0, acq: 0, rel: 4, vmPin: -4 })
  })

  it('URING vector 2: two bytes across a page border pin both pages', () => {
    const rig = new Rig(release)
    const a = rig.anon(4)
    expect(rig.buffer(a + 4095, 2)).toEqual({ result: 0, acq: 2, rel: 0, vmPin: 2 })
  })

  it('URING vector 10: 1 GiB of untouched anonymous memory is one buffer', { timeout: 60_000 }, () => {
    const rig = new Rig(release, { kernel: { zones: { normal: 262_144 + 8192 } } })
    const a = rig.anon(262_144, RW, undefined, MAP_PRIVATE | MAP_NORESERVE)
    expect(rig.buffer(a, 2 ** 30)).toMatchObject({ result: 0, vmPin: 262_144 })
    rig.unregister()
    expect(rig.pinned).toBe(0)
    rig.unmap(a, 262_144)
  })

  it('URING vector 11: a hole at page 2 unpins the two pages before it', () => {
    const rig = new Rig(release)
    const a = rig.anon(4)
    for (let i = 0; i < 4; i++) rig.touch(a + i * P)
    rig.unmap(a + 2 * P, 1)
    expect(rig.buffer(a, 4 * P)).toEqual({ result: '-EFAULT', acq: 2, rel: 2, vmPin: 0 })
    expect(rig.task.refusal).toMatchObject({
      rule: 'R-URING-24',
      wanted: 4,
      got: 2,
      page: 2,
      address: a + 2 * P,
    })
    expect(rootRefusal(rig.task.refusal!).rule).toMatch(/^R-GUP-/)
  })

  it.each([false, true])(
    'URING vector 12, R-URING-32: a shared ext4 mapping, first page mapped writable: %s',
    (touched) => {
      const rig = new Rig(release)
      const a = rig.mapped(rig.file(EXT4, 4), 4, RW, MAP_SHARED)
      if (touched) rig.touch(a)
      if (at(WITH_FILE_CHECK, release)) {
        expect(rig.buffer(a, 4 * P)).toEqual({ result: '-EOPNOTSUPP', acq: 4, rel: 4, vmPin: 0 })
        expect(rig.task.refusal).toMatchObject({ vma: { backing: 'ext4', start: a } })
      } else {
        const tried = touched && at(FAST, release) ? 1 : 0
        expect(rig.buffer(a, 4 * P)).toEqual({ result: '-EFAULT', acq: tried, rel: tried, vmPin: 0 })
      }
    },
  )

  it('URING vector 13: a private ext4 mapping', () => {
    const rig = new Rig(release)
    const a = rig.mapped(rig.file(EXT4, 4), 4, RW, MAP_PRIVATE)
    expect(rig.buffer(a, 4 * P).result).toBe(at(WITH_FILE_CHECK, release) ? '-EOPNOTSUPP' : 0)
  })

  const mixed: readonly {
    name: string
    build: (rig: Rig) => number
    expected: { '6.1': string; 'gup-v3': string; later: number | string }
  }[] = [
    {
      name: 'URING vector 14, R-URING-28: two memfds side by side',
      build: (rig) => {
        const a = rig.mapped(rig.memfd(2), 2, RW, MAP_SHARED, rig.place(4))
        rig.mapped(rig.memfd(2), 2, RW, MAP_SHARED, a + 2 * P)
        return a
      },
      expected: { '6.1': '-EINVAL', 'gup-v3': '-EFAULT', later: 0 },
    },
    {
      name: 'URING vector 15, R-URING-28: anonymous memory, then private ext4',
      build: (rig) => {
        const a = rig.anon(2, RW, rig.place(4))
        rig.mapped(rig.file(EXT4, 2), 2, RW, MAP_PRIVATE, a + 2 * P)
        return a
      },
      expected: { '6.1': '-EINVAL', 'gup-v3': '-EFAULT', later: 0 },
    },
    {
      name: 'URING vector 16, R-URING-28: two private ext4 files',
      build: (rig) => {
        const a = rig.mapped(rig.file(EXT4, 2), 2, RW, MAP_PRIVATE, rig.place(4))
        rig.mapped(rig.file(EXT4, 2), 2, RW, MAP_PRIVATE, a + 2 * P)
        return a
      },
      expected: { '6.1': '-EOPNOTSUPP', 'gup-v3': '-EFAULT', later: 0 },
    },
    {
      name: 'URING vector 17: two mappings of one private ext4 file',
      build: (rig) => {
        const file = rig.file(EXT4, 4)
        const a = rig.map(2, RW, MAP_PRIVATE, file, rig.place(4), 2)
        rig.mapped(file, 2, RW, MAP_PRIVATE, a + 2 * P)
        return a
      },
      expected: { '6.1': '-EOPNOTSUPP', 'gup-v3': '-EOPNOTSUPP', later: 0 },
    },
    {
      name: 'URING vector 18, R-URING-30: anonymous memory, then shared ext4',
      build: (rig) => {
        const a = rig.anon(2, RW, rig.place(4))
        rig.mapped(rig.file(EXT4, 2), 2, RW, MAP_SHARED, a + 2 * P)
        return a
      },
      expected: { '6.1': '-EINVAL', 'gup-v3': '-EFAULT', later: '-EFAULT' },
    },
  ]
  it.each(mixed)('$name', ({ build, expected }) => {
    const rig = new Rig(release)
    const a = build(rig)
    const wanted = release === '6.1' || release === 'gup-v3' ? expected[release] : expected.later
    const outcome = rig.buffer(a, 4 * P)
    expect(outcome.result).toBe(wanted)
    if (wanted === 0) return
    // 6.1 and a uniform file are refused after the whole range was pinned, the others at the border
    const pinned = release === '6.1' || wanted === '-EOPNOTSUPP' ? 4 : 2
    expect(outcome).toMatchObject({ acq: pinned, rel: pinned, vmPin: 0 })
  })

  it('URING vector 19: one memfd mapped twice with its halves swapped', () => {
    const rig = new Rig(release)
    const file = rig.memfd(4)
    const a = rig.map(2, RW, MAP_SHARED, file, rig.place(4), 2)
    rig.mapped(file, 2, RW, MAP_SHARED, a + 2 * P, 0)
    expect(rig.buffer(a, 4 * P)).toEqual({ result: 0, acq: 4, rel: 0, vmPin: 4 })
  })

  it.each([
    { what: 'SysV shm', kind: SYSV_SHM, flags: MAP_SHARED },
    { what: 'private /dev/zero', kind: DEV_ZERO, flags: MAP_PRIVATE },
  ])('URING vector 20: $what', ({ kind, flags }) => {
    const rig = new Rig(release)
    const a = rig.mapped(rig.file(kind, 4), 4, RW, flags)
    expect(rig.buffer(a, 4 * P).result).toBe(at(WITH_FILE_CHECK, release) ? '-EOPNOTSUPP' : 0)
  })

  it('URING vector 22: read-only anonymous memory', () => {
    const rig = new Rig(release)
    const a = rig.anon(4, PROT_READ)
    expect(rig.buffer(a, 4 * P)).toEqual({ result: '-EFAULT', acq: 0, rel: 0, vmPin: 0 })
  })

  it('URING vector 23, R-URING-37: one huge page', () => {
    const rig = new Rig(release)
    rig.hugePool(1)
    const h = rig.hugetlb(1)
    expect(rig.buffer(h, H)).toEqual({ result: 0, acq: 512, rel: release === '6.1' ? 0 : 511, vmPin: 512 })
    expect(rig.unregister()).toEqual({ result: 0, acq: 0, rel: release === '6.1' ? 512 : 1, vmPin: -512 })
  })

  it('URING vector 24: one small page of a huge page is charged as the whole huge page', () => {
    const rig = new Rig(release)
    rig.hugePool(1)
    expect(rig.buffer(rig.hugetlb(1), P)).toEqual({ result: 0, acq: 1, rel: 0, vmPin: 512 })
  })

  it('URING vector 25, R-URING-37: two huge pages', () => {
    const rig = new Rig(release)
    rig.hugePool(2)
    expect(rig.buffer(rig.hugetlb(2), 2 * H)).toEqual({
      result: 0,
      acq: 1024,
      rel: at(FAST, release) ? 1022 : 0,
      vmPin: 1024,
    })
  })

  it('URING vector 26: a huge page followed by small pages', () => {
    const rig = new Rig(release)
    rig.hugePool(1)
    const h = rig.hugetlb(1, rig.place(516))
    rig.anon(4, RW, h + H)
    const outcome = rig.buffer(h, H + 4 * P)
    if (release === '6.1') expect(outcome).toEqual({ result: '-EINVAL', acq: 516, rel: 516, vmPin: 0 })
    else if (release === 'gup-v3')
      expect(outcome).toEqual({ result: '-EFAULT', acq: 512, rel: 512, vmPin: 0 })
    else expect(outcome).toEqual({ result: 0, acq: 516, rel: 0, vmPin: 516 })
  })

  it('URING vector 34: a ring made by root stays unlimited whoever uses it', () => {
    const rig = new Rig(release)
    const user = testTask(rig.k, { comm: 'user', uid: 1000, limits: { memlock: 0 }, mm: rig.task.mm })
    const a = rig.anon(300)
    expect(rig.buffer(a, 300 * P, rig.ring, user)).toMatchObject({ result: 0, vmPin: 300 })
    expect(rig.k.user(1000).lockedVm).toBe(0)
  })

  it('URING vector 37, R-URING-67: a child registers its own pages on the parent ring and charges the parent', () => {
    const rig = new Rig(release)
    const a = rig.anon(4)
    rig.touch(a)
    const mm = rig.task.run(forkMm(rig.k, rig.task.space, 'child'))
    if (!(mm instanceof Mm)) throw new Error('fork failed')
    const child = testTask(rig.k, { comm: 'child', uid: 0, capabilities: ['CAP_IPC_LOCK'], mm })
    expect(rig.buffer(a, 4 * P, rig.ring, child)).toMatchObject({ result: 0, acq: 4, vmPin: 4 })
    expect(mm.pinnedVm).toBe(0)
    const pinned = rig.ring.buffers!.buffer(0)!.pfnAt(rig.k.memory.frames, 0)
    const leafOf = (space: Mm): number => {
      const entry = space.pageTable.leafFor(a)
      return entry.pfn[Math.floor(a / P) % 512]!
    }
    expect(pinned).toBe(leafOf(mm))
    expect(pinned).not.toBe(leafOf(rig.task.space))
  })

  it('R-URING-24 after a page was pinned even a specific errno becomes EFAULT', () => {
    const rig = new Rig(release)
    const a = rig.anon(2, RW, rig.place(4))
    const dax = rig.file(EXT4, 2)
    dax.mapping.dax = true
    rig.mapped(dax, 2, RW, MAP_PRIVATE, a + 2 * P)
    expect(rig.buffer(a + 2 * P, 2 * P)).toMatchObject({ result: '-EOPNOTSUPP', acq: 0 })
    expect(rig.buffer(a, 4 * P)).toMatchObject({ result: '-EFAULT', acq: 2, rel: 2 })
  })

  it('R-URING-84 the file check runs under the lock the pins were taken under', () => {
    const rig = new Rig(release)
    const a = rig.anon(2)
    const { semaphore } = rig.task.space.mmapLock
    let lockedWhenPinning = false
    rig.k.observer = (event) => {
      if (event.type === 'pin') lockedWhenPinning = semaphore.locked
    }
    rig.touch(a)
    rig.touch(a + P)
    rig.buffer(a, 2 * P)
    expect(lockedWhenPinning).toBe(!at(FAST, release))
    expect(semaphore.locked).toBe(false)
  })
})

describe('R-URING-40 which frame a page of the buffer is', () => {
  it.each(RELEASE_NAMES)('%s: the frame the page table shows, coalesced or not', (release) => {
    const rig = new Rig(release)
    rig.hugePool(2)
    const h = rig.hugetlb(2)
    for (const [start, pages] of [
      [3, 5],
      [509, 6],
      [0, 1024],
      [511, 2],
    ] as const) {
      expect(rig.buffer(h + start * P, pages * P).result).toBe(0)
      const buffer = rig.ring.buffers!.buffer(0)!
      const { frames } = rig.k.memory
      const { pageTable } = rig.task.space
      for (let i = 0; i < pages; i++) {
        const page = start + i
        const entry = pageTable.pmd(h / H + Math.floor(page / 512))!
        expect(buffer.pfnAt(frames, i)).toBe((entry.pfn as number) + (page % 512))
      }
      rig.unregister()
    }
  })
})

describe('R-URING-29 no mapping after a complete pin', () => {
  it('URING vector 21, R-GUP-114: warns once, EINVAL, every page unpinned', () => {
    const rig = new Rig('gup-v3')
    const a = rig.anon(3)
    for (let i = 0; i < 3; i++) rig.touch(a + i * P)
    const lock = rig.task.space.mmapLock
    // What cannot happen is forced: the VMA leaves the tree behind the lock's back while the last page is pinned.
    let pins = 0
    let taken: ReturnType<typeof takeOut> | null = null
    const takeOut = (): { put: () => void } => {
      const guard = lock.tryRead()!
      const vma = guard.vmas.find(a)!
      guard.vmas.remove(vma)
      guard.release()
      return {
        put: () => {
          const write = lock.tryWrite()!
          write.vmas.insert(vma)
          write.release()
        },
      }
    }
    rig.k.observer = (event) => {
      if (event.type === 'pin') pins += event.pages
      if (pins === 3) taken ??= takeOut()
    }
    expect(rig.buffer(a, 3 * P)).toEqual({ result: '-EINVAL', acq: 3, rel: 3, vmPin: 0 })
    expect(rig.task.refusal).toMatchObject({ rule: 'R-URING-29' })
    expect(rig.k.warnings.map(({ id }) => id)).toEqual(['io-pin-pages-no-vma'])
    taken!.put()
  })
})

describe('R-URING-48 charge after pin', () => {
  it.each(RELEASE_NAMES)('URING vector 31: %s: room for 10 pages, 20 asked for', (release) => {
    const rig = new Rig(release, { task: { uid: 1000, limits: { memlock: 12 * P } } })
    rig.k.user(1000)
    const a = rig.anon(20)
    const ring = rig.ring.chargedPages
    rig.task.limits.memlock = (10 + ring) * P
    expect(rig.buffer(a, 20 * P)).toEqual({ result: '-ENOMEM', acq: 20, rel: 20, vmPin: 0 })
    expect(rig.task.refusal).toMatchObject({
      errno: ENOMEM,
      rule: 'R-URING-42',
      needed: 20,
      used: ring,
      limit: 10 + ring,
    })
    expect(rig.buffer(a, 10 * P).result).toBe(0)
    expect(rig.k.user(1000).lockedVm).toBe(10 + ring)
  })
})
