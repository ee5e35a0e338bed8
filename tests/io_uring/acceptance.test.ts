/** The acceptance matrix of docs/spec/io-uring.md §6: REGISTER_BUFFERS, one buffer, the whole range. */
import { describe, expect, it } from 'vitest'
import { RELEASE_NAMES, type ReleaseName } from '../../src/base/release.ts'
import { brk } from '../../src/mm/brk.ts'
import {
  F_SEAL_WRITE,
  DEV_ZERO,
  OpenFile,
  RAMFS,
  SECRETMEM,
  SHMEM,
  SYSV_SHM,
  driverKind,
  regularFileKind,
  type FileKind,
} from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { forkMm } from '../../src/mm/fork.ts'
import { hugetlbFileSetup } from '../../src/mm/hugetlb.ts'
import { madvise } from '../../src/mm/madvise.ts'
import {
  MADV_DONTFORK,
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MAP_DROPPABLE,
  MAP_GROWSDOWN,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_EXEC,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from '../../src/mm/mman.ts'
import { mlock } from '../../src/mm/mlock.ts'
import { linkVma } from '../../src/mm/vma-link.ts'
import {
  VM_DONTEXPAND,
  VM_EXEC,
  VM_IO,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYWRITE,
  VM_PFNMAP,
  VM_READ,
} from '../../src/mm/vm-flags.ts'
import { Vma } from '../../src/mm/vma.ts'
import { result } from '../support/kernel.ts'
import { H, P, RW, Rig } from './rig.ts'

/** `0`, `op` EOPNOTSUPP, `fa` EFAULT, `in` EINVAL, `?` not known or not run: no claim is tested. */
type Cell = '0' | 'op' | 'fa' | 'in' | '?'
/** the columns [6.1] [v3] [6.6] [6.12] [6.18] */
type Cells = readonly [Cell, Cell, Cell, Cell, Cell]

interface Built {
  readonly address: number
  readonly pages: number
}

interface Row {
  readonly memory: string
  readonly cells: Cells
  readonly build: (rig: Rig) => Built
}

const columns: readonly ReleaseName[] = ['6.1', 'gup-v3', '6.6', '6.12', '6.18']
const meaning = { '0': 0, op: '-EOPNOTSUPP', fa: '-EFAULT', in: '-EINVAL' } as const

const ALL: Cells = ['0', '0', '0', '0', '0']
const FAULT: Cells = ['fa', 'fa', 'fa', 'fa', 'fa']
const PRIVATE_FILE: Cells = ['op', 'op', '0', '0', '0']
const SHARED_FILE: Cells = ['op', 'op', 'fa', 'fa', 'fa']
const SEEN: Cells = ['0', '?', '?', '0', '0']

const EXT4 = regularFileKind('ext4')

const N = 4
const whole = (address: number, pages = N): Built => ({ address, pages })
const file =
  (kind: FileKind, flags: number, prot = RW) =>
  (rig: Rig): Built =>
    whole(rig.mapped(rig.file(kind, N), N, prot, flags))
const readOnlyFile =
  (kind: FileKind, flags: number, prot: number) =>
  (rig: Rig): Built =>
    whole(rig.mapped(rig.file(kind, N, { writable: false }), N, prot, flags))
const anon =
  (prot: number, flags = MAP_PRIVATE) =>
  (rig: Rig): Built =>
    whole(rig.anon(N, prot, undefined, flags))

/** Opened again: same inode, another open file description. */
function reopen(first: OpenFile): OpenFile {
  // the first description keeps the inode; it goes after the second
  first.get()
  return new OpenFile(first.mapping, first.path, { readable: true, writable: true }, () => first.put())
}

/** A mapping the kernel makes itself. */
function special(rig: Rig, name: string, flags: number): Built {
  const { k, task } = rig
  const address = rig.place(N)
  const guard = task.space.mmapLock.tryWrite()!
  const vma = new Vma(address, address + N * P, flags | VM_MAYREAD | VM_MAYEXEC | VM_DONTEXPAND, 0)
  vma.specialName = name
  expect(
    task.run(
      (function* () {
        return linkVma(k, guard, vma)
      })(),
    ),
  ).toBe(0)
  guard.release()
  return whole(address)
}

function advised(
  advice: number,
  prepare: (rig: Rig, address: number) => void = () => {},
): (rig: Rig) => Built {
  return (rig) => {
    const address = rig.anon(N)
    prepare(rig, address)
    rig.ok(madvise(rig.k, rig.task.space, address, N * P, advice))
    return whole(address)
  }
}

const touchAll = (rig: Rig, address: number, pages = N, write = true): void => {
  for (let i = 0; i < pages; i++) rig.touch(address + i * P, write)
}

const rows: readonly Row[] = [
  { memory: 'private anonymous rw', cells: ALL, build: anon(RW) },
  { memory: 'private anonymous rwx', cells: ALL, build: anon(RW | PROT_EXEC) },
  {
    memory: 'private anonymous rw, resident',
    cells: ALL,
    build: (rig) => {
      const built = anon(RW)(rig)
      touchAll(rig, built.address)
      return built
    },
  },
  {
    memory: 'heap (brk)',
    cells: ALL,
    build: (rig) => {
      const mm = rig.task.space
      mm.startBrk = mm.brk = rig.place(N)
      expect(rig.task.run(brk(rig.k, mm, mm.startBrk + N * P))).toBe(mm.startBrk + N * P)
      return whole(mm.startBrk)
    },
  },
  { memory: 'stack', cells: ALL, build: anon(RW, MAP_PRIVATE | MAP_GROWSDOWN) },
  { memory: 'anonymous PROT_WRITE only', cells: ALL, build: anon(PROT_WRITE) },
  { memory: 'MAP_SHARED anonymous', cells: ALL, build: anon(RW, MAP_SHARED) },
  {
    memory: '/dev/zero MAP_SHARED',
    cells: ALL,
    // what mmap of /dev/zero makes of a shared mapping: a shmem file of that name
    build: (rig) =>
      whole(
        rig.mapped(createFile(rig.k, SHMEM, { path: '/dev/zero (deleted)', size: N * P }), N, RW, MAP_SHARED),
      ),
  },
  { memory: 'memfd MAP_SHARED', cells: ALL, build: file(SHMEM, MAP_SHARED) },
  { memory: 'memfd MAP_PRIVATE', cells: ALL, build: file(SHMEM, MAP_PRIVATE) },
  { memory: 'tmpfs file MAP_SHARED', cells: ALL, build: file({ ...SHMEM, name: 'tmpfs' }, MAP_SHARED) },
  { memory: 'SysV shm', cells: PRIVATE_FILE, build: file(SYSV_SHM, MAP_SHARED) },
  {
    memory: 'hugetlb anonymous private',
    cells: ALL,
    build: (rig) => {
      rig.hugePool(1)
      return whole(rig.hugetlb(1), 512)
    },
  },
  {
    memory: 'hugetlb anonymous shared',
    cells: ALL,
    build: (rig) => {
      rig.hugePool(1)
      return whole(rig.hugetlb(1, undefined, MAP_SHARED), 512)
    },
  },
  {
    memory: 'hugetlb memfd MAP_PRIVATE',
    cells: ALL,
    build: (rig) => {
      rig.hugePool(1)
      return whole(rig.mapped(rig.hugetlbFile(1), 512, RW, MAP_PRIVATE), 512)
    },
  },
  {
    memory: 'SysV SHM_HUGETLB',
    cells: ALL,
    build: (rig) => {
      rig.hugePool(1)
      const shm = hugetlbFileSetup(rig.k, { size: H, pageSize: H, name: '/SYSV00000000', noreserve: false })
      if (typeof shm === 'number') throw new Error(String(result(shm)))
      return whole(rig.mapped(shm, 512, RW, MAP_SHARED), 512)
    },
  },
  {
    memory: 'hugetlb MAP_NORESERVE, pool empty at the first page',
    cells: ['fa', '?', '?', 'fa', 'fa'],
    build: (rig) => {
      rig.hugePool(0)
      return whole(rig.hugetlb(1, undefined, MAP_PRIVATE | MAP_NORESERVE), 512)
    },
  },
  {
    memory: 'hugetlb MAP_NORESERVE, pool empty at the second page',
    cells: ['fa', '?', '?', 'fa', 'fa'],
    build: (rig) => {
      rig.hugePool(1)
      return whole(rig.hugetlb(2, undefined, MAP_PRIVATE | MAP_NORESERVE), 1024)
    },
  },
  { memory: 'THP', cells: ALL, build: (rig) => whole(rig.thp(2), 1024) },
  { memory: '/dev/zero MAP_PRIVATE', cells: PRIVATE_FILE, build: file(DEV_ZERO, MAP_PRIVATE) },
  { memory: 'ext4 MAP_PRIVATE rw', cells: PRIVATE_FILE, build: file(EXT4, MAP_PRIVATE) },
  { memory: 'ext4 MAP_SHARED rw', cells: SHARED_FILE, build: file(EXT4, MAP_SHARED) },
  { memory: 'ramfs MAP_SHARED rw', cells: SHARED_FILE, build: file(RAMFS, MAP_SHARED) },
  { memory: 'ramfs MAP_PRIVATE rw', cells: PRIVATE_FILE, build: file(RAMFS, MAP_PRIVATE) },
  { memory: 'ext4 MAP_SHARED read-only', cells: FAULT, build: readOnlyFile(EXT4, MAP_SHARED, PROT_READ) },
  { memory: 'ext4 MAP_PRIVATE read-only', cells: FAULT, build: readOnlyFile(EXT4, MAP_PRIVATE, PROT_READ) },
  { memory: 'text', cells: FAULT, build: readOnlyFile(EXT4, MAP_PRIVATE, PROT_READ | PROT_EXEC) },
  { memory: 'memfd MAP_SHARED read-only', cells: FAULT, build: file(SHMEM, MAP_SHARED, PROT_READ) },
  { memory: '[vdso]', cells: FAULT, build: (rig) => special(rig, '[vdso]', VM_READ | VM_EXEC | VM_MAYWRITE) },
  { memory: 'anonymous PROT_READ', cells: FAULT, build: anon(PROT_READ) },
  { memory: 'anonymous PROT_NONE', cells: FAULT, build: anon(PROT_NONE) },
  { memory: 'anonymous PROT_EXEC', cells: FAULT, build: anon(PROT_EXEC) },
  { memory: '[vvar]', cells: FAULT, build: (rig) => special(rig, '[vvar]', VM_READ | VM_IO | VM_PFNMAP) },
  {
    memory: 'VM_IO device memory, writable',
    cells: FAULT,
    build: (rig) => {
      const kind: FileKind = {
        ...driverKind('/dev/mem'),
        mmapMethod(_k, vma) {
          vma.flags |= VM_IO | VM_PFNMAP | VM_DONTEXPAND
          return 0
        },
      }
      return file(kind, MAP_SHARED)(rig)
    },
  },
  { memory: 'memfd_secret', cells: FAULT, build: file(SECRETMEM, MAP_SHARED) },
  {
    memory: 'memfd with F_SEAL_WRITE, MAP_PRIVATE rw',
    cells: ALL,
    build: (rig) => {
      const sealed = rig.memfd(N)
      sealed.mapping.seals = F_SEAL_WRITE
      return whole(rig.mapped(sealed, N, RW, MAP_PRIVATE))
    },
  },
  {
    memory: 'memfd with F_SEAL_WRITE, MAP_SHARED read-only',
    cells: FAULT,
    build: (rig) => {
      // opened read-only: v3 and 6.6 refuse to map a writable descriptor of a sealed file shared (R-AS-21)
      const sealed = rig.file(SHMEM, N, { writable: false })
      sealed.mapping.seals = F_SEAL_WRITE
      return whole(rig.mapped(sealed, N, PROT_READ, MAP_SHARED))
    },
  },
  {
    memory: 'memfd shared, end of file in the middle',
    cells: FAULT,
    build: (rig) => whole(rig.mapped(rig.memfd(2), N, RW, MAP_SHARED)),
  },
  {
    memory: 'memfd shared, all beyond end of file',
    cells: FAULT,
    build: (rig) => whole(rig.mapped(rig.memfd(2), N, RW, MAP_SHARED, undefined, 4)),
  },
  {
    memory: 'ext4 private, end of file in the middle',
    cells: FAULT,
    build: (rig) => whole(rig.mapped(rig.file(EXT4, 2), N, RW, MAP_PRIVATE)),
  },
  {
    memory: 'an unmapped page in the range',
    cells: FAULT,
    build: (rig) => {
      const address = rig.anon(N)
      rig.unmap(address + 2 * P, 1)
      return whole(address)
    },
  },
  { memory: 'nothing mapped at all', cells: FAULT, build: (rig) => whole(rig.place(N)) },
  {
    memory: 'a PROT_READ page in the middle',
    cells: FAULT,
    build: (rig) => {
      const address = rig.anon(N)
      rig.protect(address + P, 1, PROT_READ)
      return whole(address)
    },
  },
  {
    memory: "io_uring's own SQ mapping",
    cells: ['op', '?', '?', '0', '0'],
    build: (rig) => whole(rig.driver('io_uring', N)),
  },
  { memory: 'KVM vcpu run page', cells: PRIVATE_FILE, build: (rig) => whole(rig.driver('kvm-vcpu', N)) },
  { memory: 'AF_PACKET ring', cells: PRIVATE_FILE, build: (rig) => whole(rig.driver('packet', N)) },
  {
    memory: 'fsdax MAP_PRIVATE, first page',
    cells: ['op', 'op', 'op', 'op', '?'],
    build: (rig) => {
      const dax = rig.file(EXT4, N)
      dax.mapping.dax = true
      return whole(rig.mapped(dax, N, RW, MAP_PRIVATE))
    },
  },
  {
    memory: 'fsdax MAP_SHARED, later page',
    cells: ['fa', 'fa', 'fa', 'fa', '?'],
    build: (rig) => {
      const address = rig.anon(2, RW, rig.place(N))
      const dax = rig.file(EXT4, 2)
      dax.mapping.dax = true
      rig.mapped(dax, 2, RW, MAP_SHARED, address + 2 * P)
      return whole(address)
    },
  },
  {
    memory: 'MADV_GUARD_INSTALL page in the middle',
    cells: ['?', '?', '?', '?', 'fa'],
    build: (rig) => {
      const address = rig.anon(N)
      rig.ok(madvise(rig.k, rig.task.space, address + P, P, MADV_GUARD_INSTALL))
      return whole(address)
    },
  },
  {
    memory: 'R-URING-33 below the stack',
    cells: ['fa', '0', '?', 'fa', 'fa'],
    build: (rig) => {
      const stack = rig.anon(N, RW, undefined, MAP_PRIVATE | MAP_GROWSDOWN)
      rig.task.space.startStack = stack + N * P - 64
      return whole(stack - 2 * P)
    },
  },
  { memory: 'MADV_DONTFORK', cells: ALL, build: advised(MADV_DONTFORK) },
  {
    memory: 'mlocked',
    cells: ALL,
    build: (rig) => {
      const address = rig.anon(N)
      rig.ok(mlock(rig.k, rig.task.space, address, N * P))
      return whole(address)
    },
  },
  { memory: 'MADV_FREE', cells: SEEN, build: advised(MADV_FREE, touchAll) },
  { memory: 'MAP_NORESERVE', cells: SEEN, build: anon(RW, MAP_PRIVATE | MAP_NORESERVE) },
  { memory: 'MAP_DROPPABLE', cells: ['?', '?', '?', '0', '0'], build: anon(RW, MAP_DROPPABLE) },
  {
    memory: 'the zero page',
    cells: SEEN,
    build: (rig) => {
      const address = rig.anon(N)
      touchAll(rig, address, N, false)
      return whole(address)
    },
  },
  {
    memory: 'COW-shared after fork',
    cells: SEEN,
    build: (rig) => {
      const address = rig.anon(N)
      touchAll(rig, address)
      if (typeof rig.task.run(forkMm(rig.k, rig.task.space, 'child')) === 'number')
        throw new Error('fork failed')
      return whole(address)
    },
  },
  {
    memory: 'overlay file MAP_SHARED rw',
    cells: ['op', '?', '?', 'fa', 'fa'],
    build: file(regularFileKind('overlay'), MAP_SHARED),
  },
  {
    memory: 'overlay file MAP_PRIVATE rw',
    cells: ['op', '?', '?', '0', '0'],
    build: file(regularFileKind('overlay'), MAP_PRIVATE),
  },
  {
    memory: 'below a MAP_GROWSDOWN area that is not the stack',
    cells: ['fa', '?', '?', 'fa', 'fa'],
    build: (rig) => whole(rig.anon(N, RW, undefined, MAP_PRIVATE | MAP_GROWSDOWN) - 2 * P),
  },
]

/** Two mappings of two pages side by side. */
const beside =
  (first: (rig: Rig, at: number) => void, second: (rig: Rig, at: number) => void) =>
  (rig: Rig): Built => {
    const address = rig.place(N)
    first(rig, address)
    second(rig, address + 2 * P)
    return whole(address)
  }
const anonAt = (rig: Rig, at: number): void => void rig.anon(2, RW, at)
const memfdAt = (rig: Rig, at: number): void => void rig.mapped(rig.memfd(2), 2, RW, MAP_SHARED, at)
const ext4At =
  (flags: number) =>
  (rig: Rig, at: number): void =>
    void rig.mapped(rig.file(EXT4, 2), 2, RW, flags, at)

const MIXED: Cells = ['in', 'fa', '0', '0', '0']
const pairs: readonly Row[] = [
  {
    memory: 'anon rw + anon rwx',
    cells: ALL,
    build: beside(anonAt, (rig, at) => rig.anon(2, RW | PROT_EXEC, at)),
  },
  {
    memory: 'memfd A + memfd A',
    cells: ALL,
    build: (rig) => {
      const memfd = rig.memfd(N)
      const address = rig.map(2, RW, MAP_SHARED, memfd, rig.place(N), 2)
      return whole(rig.mapped(memfd, 2, RW, MAP_SHARED, address + 2 * P) - 2 * P)
    },
  },
  { memory: 'memfd A + memfd B', cells: MIXED, build: beside(memfdAt, memfdAt) },
  {
    memory: 'one memfd opened twice',
    cells: MIXED,
    build: (rig) => {
      const first = rig.memfd(N)
      const again = reopen(first)
      const address = rig.map(2, RW, MAP_SHARED, first, rig.place(N))
      rig.mapped(again, 2, RW, MAP_SHARED, address + 2 * P, 2)
      first.put()
      return whole(address)
    },
  },
  { memory: 'anon + memfd', cells: MIXED, build: beside(anonAt, memfdAt) },
  { memory: 'memfd + anon', cells: MIXED, build: beside(memfdAt, anonAt) },
  {
    memory: 'hugetlb + anon',
    cells: MIXED,
    build: (rig) => {
      rig.hugePool(1)
      const address = rig.hugetlb(1, rig.place(514))
      rig.anon(2, RW, address + H)
      return whole(address, 514)
    },
  },
  {
    memory: 'anon + hugetlb',
    cells: MIXED,
    build: (rig) => {
      rig.hugePool(1)
      const huge = rig.hugetlb(1, rig.place(1026) + H)
      rig.anon(2, RW, huge - 2 * P)
      return whole(huge - 2 * P, 514)
    },
  },
  { memory: 'anon + ext4 private', cells: MIXED, build: beside(anonAt, ext4At(MAP_PRIVATE)) },
  {
    memory: 'ext4 private + anon',
    cells: ['op', 'fa', '0', '0', '0'],
    build: beside(ext4At(MAP_PRIVATE), anonAt),
  },
  {
    memory: 'ext4 A private + ext4 B private',
    cells: ['op', 'fa', '0', '0', '0'],
    build: beside(ext4At(MAP_PRIVATE), ext4At(MAP_PRIVATE)),
  },
  {
    memory: 'ext4 A private twice',
    cells: ['op', 'op', '0', '0', '0'],
    build: (rig) => {
      const ext4 = rig.file(EXT4, N)
      const address = rig.map(2, RW, MAP_PRIVATE, ext4, rig.place(N), 2)
      rig.mapped(ext4, 2, RW, MAP_PRIVATE, address + 2 * P)
      return whole(address)
    },
  },
  {
    memory: 'anon + ext4 shared',
    cells: ['in', 'fa', 'fa', 'fa', 'fa'],
    build: beside(anonAt, ext4At(MAP_SHARED)),
  },
  { memory: 'anon + hole', cells: FAULT, build: beside(anonAt, () => {}) },
  {
    memory: 'memfd + read-only anon',
    cells: FAULT,
    build: beside(memfdAt, (rig, at) => rig.anon(2, PROT_READ, at)),
  },
  {
    memory: 'anon + secretmem',
    cells: FAULT,
    build: beside(anonAt, (rig, at) => void rig.mapped(rig.file(SECRETMEM, 2), 2, RW, MAP_SHARED, at)),
  },
]

describe.each(RELEASE_NAMES)('acceptance matrix of io-uring.md §6, %s', (release) => {
  const column = columns.indexOf(release)
  const claimed = [...rows, ...pairs].filter(({ cells }) => cells[column] !== '?')

  it.each(claimed)('R-URING-24 $memory', ({ cells, build }) => {
    const rig = new Rig(release)
    const { address, pages } = build(rig)
    const cell = cells[column]!
    const expected = meaning[cell as Exclude<Cell, '?'>]
    const outcome = rig.buffer(address, pages * P)
    expect(outcome.result, JSON.stringify(rig.task.refusal)).toBe(expected)
    if (expected === 0) {
      expect(outcome.vmPin).toBe(pages)
      expect(rig.unregister().vmPin).toBe(-pages)
    } else {
      // @rule R-URING-51
      expect(outcome).toMatchObject({ vmPin: 0, acq: outcome.rel })
      expect(rig.ring.buffers).toBeNull()
      const refusal = rig.task.refusal!
      expect(result(-refusal.errno)).toBe(expected)
      expect(refusal.why).toBeTruthy()
    }
    expect(rig.pinned).toBe(0)
  })
})
