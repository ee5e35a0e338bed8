import { describe, expect, test } from 'vitest'
import { classifyMapping, daxOf, deriveFlags, learnInternalDevices } from '../../src/host/file-class.ts'
import type { ClassContext, PathType } from '../../src/host/file-class.ts'
import { parseMapsLine } from '../../src/host/maps.ts'
import { parseMountinfo } from '../../src/host/mountinfo.ts'

const mounts = parseMountinfo(
  [
    '27 1 254:0 / / rw - ext4 /dev/vda rw',
    '24 27 0:6 / /dev rw - devtmpfs devtmpfs rw',
    '25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw',
    '30 27 254:16 / /data rw - xfs /dev/vdb rw,dax=always',
    '31 27 0:40 / /ram rw - ramfs none rw',
    '32 27 0:41 / /over rw - overlay overlay rw',
    '33 27 0:42 / /huge rw - hugetlbfs none rw,pagesize=2M',
    '34 27 0:43 / /mnt/b rw - btrfs /dev/vdc rw',
  ].join('\n'),
)

function context(pathType: PathType = 'regular', dax: boolean | null = false): ClassContext {
  return {
    mounts,
    internal: { shmem: new Set(['00:01']), hugetlb: new Set(['00:0f']) },
    pathType: () => pathType,
    blockDeviceDax: () => dax,
  }
}

const small = { flags: ['rd', 'wr'], kernelPageSize: 4096 }
const huge = { flags: ['rd', 'wr', 'ht'], kernelPageSize: 2 ** 21 }
const line = (rest: string, range = '7f0000000000-7f0000001000') => parseMapsLine(`${range} ${rest}`)
const classify = (rest: string, smaps: typeof small | null = small, ctx = context()) =>
  classifyMapping(line(rest), smaps, ctx)
const aligned = '7f0000000000-7f0000400000'

describe('R-MNT-2 what backs a mapping', () => {
  test.each([
    ['rw-p 00000000 00:00 0 ', { kind: 'anonymous', label: '' }],
    ['rw-p 00000000 00:00 0 [anon:a:b]', { kind: 'anonymous', label: 'a:b' }],
    ['rw-p 00000000 00:00 0 [heap]', { kind: 'heap' }],
    ['rw-p 00000000 00:00 0 [stack]', { kind: 'stack' }],
    ['r--p 00000000 00:00 0 [vvar]', { kind: 'vvar' }],
    ['r--p 00000000 00:00 0 [vvar_vclock]', { kind: 'vvar' }],
    ['r-xp 00000000 00:00 0 [vdso]', { kind: 'vdso' }],
    ['--xp 00000000 00:00 0 [vsyscall]', { kind: 'vsyscall' }],
    ['r-xp 00000000 00:00 0 [uprobes]', { kind: 'unknown', why: 'special mapping [uprobes]' }],
    ['rw-s 00000000 00:01 7 /dev/zero (deleted)', { kind: 'shmem', source: 'shared-anonymous', label: '' }],
    ['rw-s 00000000 00:01 7 [anon_shmem:x]', { kind: 'shmem', source: 'shared-anonymous', label: 'x' }],
    ['rw-s 00000000 00:01 7 /memfd:my ring (deleted)', { kind: 'shmem', source: 'memfd', label: 'my ring' }],
    ['rw-s 00000000 00:01 0 /SYSV0000002a (deleted)', { kind: 'sysv', key: 42, shmid: 0 }],
    ['rw-s 00000000 00:10 7 /secretmem (deleted)', { kind: 'secretmem' }],
    ['rw-s 10000000 00:0e 16855 anon_inode:[io_uring]', { kind: 'io_uring-ring' }],
    ['rw-s 00000000 00:0e 1038 anon_inode:[perf_event]', { kind: 'perf' }],
    ['rw-s 00000000 00:0e 1038 anon_inode:kvm-vcpu:0', { kind: 'kvm-vcpu' }],
    [
      'rw-s 00000000 00:0e 1038 anon_inode:[vfio-device]',
      { kind: 'driver', path: 'anon_inode:[vfio-device]' },
    ],
    ['rw-s 00000000 00:08 4711 socket:[4711]', { kind: 'socket', inode: 4711 }],
    ['rw-s 00000000 00:17 3 /dev/shm/x', { kind: 'shmem', source: 'tmpfs', label: '/dev/shm/x' }],
    ['rw-s 00000000 00:17 3 /dev/shm/x (deleted)', { kind: 'shmem', source: 'tmpfs', label: '/dev/shm/x' }],
    ['rw-p 00000000 fe:00 3 /usr/bin/app', { kind: 'file', fstype: 'ext4', path: '/usr/bin/app', dax: 'no' }],
    ['rw-p 00000000 fe:10 3 /data/f', { kind: 'file', fstype: 'xfs', path: '/data/f', dax: 'yes' }],
    ['rw-p 00000000 00:28 3 /ram/f', { kind: 'file', fstype: 'ramfs', path: '/ram/f', dax: 'no' }],
    ['rw-p 00000000 00:29 3 /over/f', { kind: 'file', fstype: 'overlay', path: '/over/f', dax: 'no' }],
    ['rw-p 00000000 00:2b 3 /mnt/b/f', { kind: 'file', fstype: 'btrfs', path: '/mnt/b/f', dax: 'no' }],
    [
      'rw-s 00000000 00:77 3 /elsewhere',
      { kind: 'unknown', why: 'no mount of the process has device 00:77' },
    ],
  ])('%s', (rest, expected) => {
    expect(classify(rest)).toEqual(expected)
  })

  test('R-MAPS-3 /dev/zero private is anonymous memory with a file, other devices are drivers', () => {
    const ctx = context('character-device')
    expect(classify('rw-p 00000000 00:06 5 /dev/zero', small, ctx)).toEqual({ kind: 'dev-zero-private' })
    expect(classify('rw-s 00000000 00:06 9 /dev/mem', small, ctx)).toEqual({
      kind: 'driver',
      path: '/dev/mem',
    })
    expect(classify('rw-s 00000000 fe:00 9 /jail/kvm', small, ctx)).toEqual({
      kind: 'driver',
      path: '/jail/kvm',
    })
  })

  test('R-MAPS-4 names of the kernel count only on its internal mounts', () => {
    expect(classify('rw-s 00000000 fe:00 9 /secretmem (deleted)')).toMatchObject({
      kind: 'file',
      fstype: 'ext4',
    })
    expect(classify('rw-s 00000000 fe:00 9 /memfd:x (deleted)')).toMatchObject({
      kind: 'file',
      fstype: 'ext4',
    })
  })
})

describe('hugetlb', () => {
  test.each([
    ['rw-p 00000000 00:0f 7 /anon_hugepage (deleted)', 'anonymous'],
    ['rw-s 00000000 00:0f 7 /memfd:guest (deleted)', 'memfd'],
    ['rw-s 00000000 00:0f 0 /SYSV00000001 (deleted)', 'sysv'],
    ['rw-s 00000000 00:2a 7 /huge/f', 'file'],
  ])('R-MNT-2 the flag ht decides: %s', (rest, source) => {
    expect(classify(rest, huge)).toMatchObject({ kind: 'hugetlb', source, pageSize: 2 ** 21 })
  })

  test('R-MNT-2 without VmFlags name, mount and device tell', () => {
    const at = (rest: string) => classifyMapping(line(rest, aligned), null, context())
    expect(at('rw-p 00000000 00:0f 7 /anon_hugepage (deleted)')).toMatchObject({
      kind: 'hugetlb',
      pageSize: null,
    })
    expect(at('rw-s 00000000 00:2a 7 /huge/f')).toMatchObject({ kind: 'hugetlb', pageSize: 2 ** 21 })
    expect(at('rw-s 00000000 00:0f 7 /memfd:x (deleted)')).toMatchObject({ kind: 'hugetlb', source: 'memfd' })
    expect(at('rw-s 00000000 00:01 7 /memfd:x (deleted)')).toMatchObject({ kind: 'shmem' })
  })

  test('R-OUT-1 without VmFlags an aligned memfd on an unlearnt mount stays unknown, an unaligned one is shmem', () => {
    const blank: ClassContext = { ...context(), internal: { shmem: new Set(), hugetlb: new Set() } }
    const rest = 'rw-s 00000000 00:0f 7 /memfd:x (deleted)'
    expect(classifyMapping(line(rest, aligned), null, blank).kind).toBe('unknown')
    expect(classifyMapping(line(rest), null, blank).kind).toBe('shmem')
  })
})

test('R-MAPS-4 internal devices are learnt from the listing', () => {
  const records = [
    line('rw-s 00000000 00:01 7 /dev/zero (deleted)'),
    line('rw-p 00000000 00:0f 7 /anon_hugepage (deleted)', aligned),
    line('rw-s 00000000 00:33 7 /memfd:x (deleted)', aligned),
    line('rw-s 00000000 00:34 7 /memfd:y (deleted)'),
    line('rw-s 00000000 fe:00 7 /memfd:y (deleted)'),
  ]
  const devices = learnInternalDevices(records, mounts)
  expect([...devices.shmem]).toEqual(['00:01', '00:34'])
  expect([...devices.hugetlb]).toEqual(['00:0f'])
})

describe('R-MNT-3 DAX', () => {
  const mount = (fstype: string, superOptions: string) => ({
    device: '254:0',
    mountPoint: '/',
    options: '',
    fstype,
    source: '',
    superOptions,
  })
  test.each([
    ['ext4', 'rw,dax', null, 'yes'],
    ['xfs', 'rw,dax=always', null, 'yes'],
    ['xfs', 'rw,dax=never', true, 'no'],
    ['ext4', 'rw,dax=inode', false, 'no'],
    ['ext4', 'rw', true, 'unknown'],
    ['ext4', 'rw', null, 'unknown'],
    ['btrfs', 'rw', null, 'no'],
    ['nfs4', 'rw', null, 'no'],
  ] as const)('%s %s, queue/dax %s → %s', (fstype, options, queue, expected) => {
    expect(daxOf(mount(fstype, options), 'fe:00', { blockDeviceDax: () => queue })).toBe(expected)
  })
})

describe('R-AS-5 derived flags are those the kernel prints', () => {
  test.each([
    ['rw-p', { kind: 'anonymous', label: '' }, 'rd wr mr mw me ac'],
    ['r--p', { kind: 'anonymous', label: '' }, 'rd mr mw me'],
    ['rw-s', { kind: 'shmem', source: 'shared-anonymous', label: '' }, 'rd wr sh mr mw me ms'],
    ['r--s', { kind: 'file', fstype: 'ext4', path: '/f', dax: 'no' }, 'rd mr me ms'],
    ['rw-p', { kind: 'hugetlb', source: 'anonymous', pageSize: 2 ** 21, label: '' }, 'rd wr mr mw me de ht'],
    ['r-xp', { kind: 'vdso' }, 'rd ex mr mw me de'],
    ['r--p', { kind: 'vvar' }, 'rd mr pf io de dd'],
    ['rw-p', { kind: 'stack' }, 'rd wr mr mw me gd ac'],
    ['--xp', { kind: 'vsyscall' }, 'ex'],
  ] as const)('%s %j', (perms, backing, expected) => {
    expect(deriveFlags(perms, backing).join(' ')).toBe(expected)
  })
})
