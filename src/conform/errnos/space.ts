import { AGENT_DESCRIPTOR, expected, FATAL, keeps, MAPPINGS, NO_MEMORY } from './entry.ts'
import type { CallErrnos } from './entry.ts'

const limits = { needs: ['memlock', 'ipcLock'] } as const
const sealed = { needs: ['mseal'] } as const
const HOLES =
  'needs a file system without holes: what can be mapped here takes them, is locked (EINVAL) or no regular file (ENODEV)'

/** Calls on the caller's address space. */
export const spaceErrnos: readonly CallErrnos[] = [
  {
    call: 'loads and stores',
    ops: ['load', 'touch', 'fill', 'sum', 'reach'],
    errnos: [],
    why: 'an access succeeds or ends in a signal',
  },
  {
    call: 'mmap',
    ops: ['mmap', 'mmapOdd', 'mmapPipe', 'stack'],
    errnos: [
      expected(
        'EINVAL R-AS-10.1 R-AS-10.3 R-AS-10.4 R-AS-10.6 R-AS-10.23 R-AS-10.24 R-AS-10.26 R-AS-41 R-AS-57',
      ),
      expected('ENOMEM R-AS-10.8 R-AS-10.10 R-AS-10.11 R-AS-46 R-AS-49 R-AS-50 R-AS-57'),
      expected('EEXIST R-AS-10.12'),
      expected('EBADF R-AS-10.2', { needs: ['mmapOdd'] }),
      expected('EOVERFLOW R-AS-10.15', { needs: ['mmapOdd'] }),
      expected('EOPNOTSUPP R-AS-10.16 R-AS-15 R-AS-23', { needs: ['mmapOdd'] }),
      expected('EPERM R-AS-10.25 R-AS-46 R-AS-48 R-AS-116', sealed),
      expected('EAGAIN R-AS-10.14', limits),
      expected('EACCES R-AS-10.17 R-AS-10.19 R-AS-10.20', { needs: ['reopen'] }),
      expected('ENODEV R-AS-10.22', { needs: ['mmapPipe'] }),
      expected('ETXTBSY R-AS-10.18', {
        unreachable: 'needs a file that is swapped to: the agent makes none',
      }),
      expected('ENOENT R-AS-10.4', {
        unreachable: 'needs huge pages of a size whose file system is not mounted',
      }),
      expected('ENOSPC R-AS-10.4', { unreachable: 'needs a limit on the file system of huge pages' }),
      expected('EINTR R-AS-10', { unreachable: FATAL }),
    ],
  },
  {
    call: 'munmap',
    ops: ['munmap'],
    errnos: [
      expected('EINVAL R-AS-59 R-AS-60'),
      expected('EPERM R-AS-60 R-AS-116', sealed),
      expected('ENOMEM R-AS-52 R-AS-60', { unreachable: MAPPINGS }),
    ],
  },
  {
    call: 'mprotect',
    ops: ['mprotect', 'mprotectOdd'],
    errnos: [
      expected('EINVAL R-AS-62 R-AS-63'),
      expected('ENOMEM R-AS-62 R-AS-63'),
      expected('EACCES R-AS-20 R-AS-63', { needs: ['shmat'] }),
      expected('EPERM R-AS-63 R-AS-116', sealed),
    ],
  },
  {
    call: 'mremap',
    ops: ['mremap'],
    errnos: [
      expected('EINVAL R-AS-67 R-AS-68 R-AS-69 R-AS-72 R-AS-76'),
      expected('EFAULT R-AS-67 R-AS-68 R-AS-69 R-AS-75'),
      expected('ENOMEM R-AS-69 R-AS-71 R-AS-72'),
      expected('EAGAIN R-AS-69', limits),
      expected('EPERM R-AS-67 R-AS-68 R-AS-116', sealed),
    ],
  },
  {
    call: 'madvise',
    ops: ['madvise'],
    errnos: [
      expected('EINVAL R-AS-100 R-AS-103 R-FLT-72 R-FLT-73 R-FLT-90 R-FLT-150'),
      expected('ENOMEM R-AS-101 R-AS-102 R-FLT-150'),
      expected('EACCES R-AS-103'),
      expected('EFAULT R-FLT-78 R-FLT-150'),
      expected('EHWPOISON R-FLT-113 R-FLT-150', { needs: ['uffd'] }),
      expected('EPERM R-AS-116 R-FLT-75', sealed),
      expected('EAGAIN R-URING-64 R-AS-103', { needs: ['register'] }),
      expected('EBUSY R-AS-103', { needs: ['uffd'] }),
      expected('EFBIG R-FLT-75', { needs: ['mmapOdd', 'disk'] }),
      expected('EOPNOTSUPP R-AS-103', { unreachable: HOLES }),
      expected('EINTR R-FLT-150', { unreachable: 'the agent gets no signals while it populates' }),
    ],
  },
  {
    call: 'process_madvise',
    ops: ['adviseOther'],
    errnos: [
      expected('EINVAL R-AS-108'),
      expected('ENOMEM R-AS-101 R-AS-108'),
      expected('EFAULT R-AS-108'),
      expected('EBADF R-AS-108', { unreachable: AGENT_DESCRIPTOR }),
      expected('ESRCH R-AS-108', { unreachable: 'a process of a program lives until it is reaped' }),
      expected('EACCES R-AS-108', { unreachable: keeps('CAP_SYS_PTRACE') }),
      expected('EPERM R-AS-108', { unreachable: keeps('CAP_SYS_NICE') }),
    ],
  },
  {
    call: 'mseal',
    ops: ['mseal'],
    errnos: [
      expected('EINVAL R-AS-115', { on: ['6.12', '6.18'] }),
      expected('ENOMEM R-AS-115', { on: ['6.12', '6.18'] }),
      expected('ENOSYS R-AS-115', { on: ['6.1', 'gup-v3', '6.6'] }),
    ],
  },
  {
    call: 'mlock',
    ops: ['mlock', 'mlock2'],
    errnos: [
      expected('EINVAL R-AS-90'),
      expected('ENOMEM R-AS-90 R-AS-92'),
      expected('EPERM R-AS-90', limits),
      expected('EAGAIN R-AS-92', { unreachable: NO_MEMORY }),
    ],
  },
  {
    call: 'munlock',
    ops: ['munlock'],
    errnos: [expected('EINVAL R-AS-90'), expected('ENOMEM R-AS-94')],
  },
  {
    call: 'mlockall',
    ops: ['mlockall'],
    errnos: [
      expected('EINVAL R-AS-95'),
      expected('EPERM R-AS-95', limits),
      expected('ENOMEM R-AS-95', limits),
    ],
  },
  { call: 'munlockall', ops: ['munlockall'], errnos: [], why: 'cannot fail (R-AS-95)' },
  {
    call: 'msync',
    ops: ['msync'],
    errnos: [expected('EINVAL R-AS-110'), expected('ENOMEM R-AS-110'), expected('EBUSY R-AS-110')],
  },
  {
    call: 'mincore',
    ops: ['mincore'],
    errnos: [expected('EINVAL R-AS-111'), expected('ENOMEM R-AS-111'), expected('EFAULT R-AS-111')],
  },
  {
    call: 'remap_file_pages',
    ops: ['remapPages'],
    errnos: [expected('EINVAL R-AS-112'), expected('EOVERFLOW R-AS-112'), expected('EPERM R-AS-116', sealed)],
  },
  {
    call: 'calls outside of user space',
    ops: ['edge'],
    errnos: [
      expected('EINVAL R-AS-59 R-AS-62 R-AS-68 R-AS-90 R-AS-100 R-AS-112 R-AS-115 R-AS-173'),
      expected('ENOMEM R-AS-10.11 R-AS-12 R-AS-62 R-AS-90 R-AS-110 R-AS-111'),
      expected('EFAULT R-AS-68'),
      expected('EPERM R-AS-12'),
    ],
  },
  {
    call: 'brk',
    ops: ['heap', 'brk'],
    errnos: [],
    why: 'answers with the old break where it refuses (R-AS-77)',
  },
  {
    call: 'prctl PR_SET_VMA_ANON_NAME',
    ops: ['nameMemory'],
    errnos: [
      expected('EINVAL R-AS-109'),
      expected('EBADF R-AS-109', { unreachable: 'needs a kernel built with names for anonymous memory' }),
      expected('ENOMEM R-AS-101', {
        unreachable: 'needs a kernel built with names for anonymous memory',
      }),
    ],
  },
  {
    call: 'setrlimit, prctl, personality',
    ops: ['memlock', 'ipcLock', 'capability', 'roomSpace', 'roomData', 'stackLimit', 'personality', 'ksm'],
    errnos: [],
    why: 'docs/spec has no rule about what these refuse: they make the circumstances of other steps',
  },
]
