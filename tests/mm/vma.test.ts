import { describe, expect, it } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import {
  AddressSpace,
  DEV_ZERO,
  HUGETLBFS,
  OpenFile,
  RAMFS,
  SECRETMEM,
  SHMEM,
  SYSV_SHM,
  regularFileKind,
  type FileKind,
} from '../../src/mm/file.ts'
import { Vma, vmaFacts } from '../../src/mm/vma.ts'
import {
  VM_HUGETLB,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_READ,
  VM_SHARED,
  VM_WRITE,
  VMH_SEALED,
  isCowMapping,
  parseVmFlagMnemonics,
  vmFlagMnemonics,
} from '../../src/mm/vm-flags.ts'

const PRIVATE_RW = VM_READ | VM_WRITE | VM_MAYWRITE
const SHARED_RW = PRIVATE_RW | VM_SHARED | VM_MAYSHARE

function vmaOf(kind: FileKind | null, flags: number): Vma {
  const file =
    kind === null
      ? null
      : new OpenFile(new AddressSpace(1, kind, 2 ** 20), '/x', { readable: true, writable: true })
  return new Vma(0x10000, 0x14000, flags, 16, file)
}

describe('Vma', () => {
  it.each([
    ['anonymous memory', null, PRIVATE_RW, true],
    ['/dev/zero private: anonymous memory with a file', DEV_ZERO, PRIVATE_RW, true],
    ['/dev/zero shared', DEV_ZERO, SHARED_RW, false],
    ['a private file mapping', regularFileKind('ext4'), PRIVATE_RW, false],
    ['a memfd', SHMEM, SHARED_RW, false],
  ])('R-AS-2 %s is anonymous: %4$s', (_name, kind, flags, anonymous) => {
    expect(vmaOf(kind, flags).isAnonymous).toBe(anonymous)
  })

  it.each([
    ['ext4 shared rw', regularFileKind('ext4'), SHARED_RW, true],
    ['ext4 shared, read-only now', regularFileKind('ext4'), SHARED_RW & ~VM_WRITE, false],
    ['ext4 private rw', regularFileKind('ext4'), PRIVATE_RW, false],
    ['ramfs shared rw', RAMFS, SHARED_RW, true],
    ['memfd shared rw', SHMEM, SHARED_RW, false],
    ['SysV shared memory', SYSV_SHM, SHARED_RW, false],
    ['hugetlb shared rw', HUGETLBFS, SHARED_RW | VM_HUGETLB, false],
    ['secretmem', SECRETMEM, SHARED_RW, false],
    ['anonymous', null, PRIVATE_RW, false],
  ])('R-GUP-20 %s needs dirty tracking: %4$s', (_name, kind, flags, tracked) => {
    expect(vmaOf(kind, flags).needsDirtyTracking).toBe(tracked)
  })

  it('counts file pages from the offset it is mapped at', () => {
    const vma = vmaOf(SHMEM, SHARED_RW)
    expect([vma.pages, vma.pageIndex(vma.start), vma.pageIndex(vma.end - 1)]).toEqual([4, 16, 19])
  })

  it('a private mapping that may be written is a COW mapping, a shared one is not', () => {
    expect([isCowMapping(PRIVATE_RW), isCowMapping(VM_MAYWRITE), isCowMapping(SHARED_RW)]).toEqual([
      true,
      true,
      false,
    ])
  })

  it('facts are a copy: they do not change with the VMA', () => {
    const vma = vmaOf(SHMEM, SHARED_RW)
    const facts = vmaFacts(vma)
    vma.end += PAGE_SIZE
    vma.flags = 0
    expect(facts).toEqual({
      start: 0x10000,
      end: 0x14000,
      flags: SHARED_RW,
      highFlags: 0,
      backing: 'shmem',
      name: '/x',
    })
  })
})

describe('R-AS-5 VmFlags', () => {
  it('prints mnemonics in bit order, those above bit 31 last', () => {
    expect(vmFlagMnemonics(SHARED_RW, VMH_SEALED)).toEqual(['rd', 'wr', 'sh', 'mw', 'ms', 'sl'])
  })

  it('reads back what it prints, every bit', () => {
    for (let bit = 0; bit < 32; bit++) {
      const { flags, highFlags, unknown } = parseVmFlagMnemonics(vmFlagMnemonics(1 << bit, 0))
      expect([flags, highFlags, unknown]).toEqual([1 << bit, 0, []])
    }
  })

  it('keeps what it does not know', () => {
    expect(parseVmFlagMnemonics(['rd', '??', 'zz'])).toEqual({
      flags: VM_READ,
      highFlags: 0,
      unknown: ['??', 'zz'],
    })
  })
})
