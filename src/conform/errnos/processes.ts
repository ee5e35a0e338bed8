import { AGENT_MEMORY, expected, keeps } from './entry.ts'
import type { CallErrnos } from './entry.ts'

const MOVES = ['6.12', '6.18'] as const
/** A segment attached for reading, watched for asynchronous writes: before, only a file opened for reading. */
const WATCHES_ALL = ['6.12', '6.18'] as const

/** Descriptors whose process is gone. */
const orphans = { needs: ['uffdOrphan'] } as const

/** Processes, and the descriptors that watch their memory. */
export const processErrnos: readonly CallErrnos[] = [
  {
    call: 'fork',
    ops: ['fork'],
    errnos: [expected('ENOMEM R-AS-151 R-FLT-66', { needs: ['mmap'] })],
  },
  { call: 'wait', ops: ['reap'], errnos: [], why: 'docs/spec has no rule about what it refuses' },
  {
    call: 'execve',
    ops: ['exec', 'execMany'],
    errnos: [
      expected('E2BIG R-AS-155 R-EXE-2 R-EXE-4', { needs: ['execMany'] }),
      expected('EFAULT R-EXE-2 R-EXE-4', { unreachable: AGENT_MEMORY }),
    ],
  },
  {
    call: 'move_pages',
    ops: ['movePages'],
    errnos: [
      expected('EINVAL R-FLT-146'),
      expected('ESRCH R-FLT-146'),
      expected('EFAULT R-FLT-145'),
      expected('ENODEV R-FLT-145'),
      expected('EPERM R-FLT-146', { unreachable: keeps('CAP_SYS_NICE') }),
      expected('ENOMEM R-FLT-145', { unreachable: 'this machine has one node, and everything is there' }),
    ],
  },
  {
    call: 'userfaultfd, UFFDIO_API',
    ops: ['uffd', 'uffdOrphan', 'uffdClose', 'uffdServe'],
    errnos: [
      expected('EINVAL R-FLT-118'),
      expected('EPERM R-FLT-118', { unreachable: keeps('CAP_SYS_PTRACE') }),
    ],
  },
  {
    call: 'UFFDIO_REGISTER',
    ops: ['uffdRegister'],
    errnos: [
      expected('EINVAL R-FLT-110 R-FLT-126'),
      expected('EBUSY R-FLT-110'),
      expected('EPERM R-FLT-110', { on: WATCHES_ALL, needs: ['shmat'] }),
      expected('ENOMEM R-FLT-119', orphans),
    ],
  },
  {
    call: 'UFFDIO_UNREGISTER',
    ops: ['uffdUnregister'],
    errnos: [expected('EINVAL R-FLT-119 R-FLT-126'), expected('ENOMEM R-FLT-119', orphans)],
  },
  {
    call: 'UFFDIO_COPY, ZEROPAGE, WRITEPROTECT, CONTINUE, POISON, WAKE',
    ops: ['uffdDo'],
    errnos: [
      expected('EINVAL R-FLT-125 R-FLT-126'),
      expected('ENOENT R-FLT-113 R-FLT-125'),
      expected('EEXIST R-FLT-113 R-FLT-125 R-FLT-126'),
      expected('EFAULT R-FLT-113 R-FLT-126'),
      expected('EAGAIN R-FLT-113 R-FLT-123'),
      expected('ESRCH R-FLT-119', orphans),
    ],
  },
  {
    call: 'UFFDIO_MOVE',
    ops: ['uffdMove'],
    errnos: [
      expected('EINVAL R-FLT-124', { on: MOVES }),
      expected('ENOENT R-FLT-124', { on: MOVES }),
      expected('EEXIST R-FLT-124', { on: MOVES }),
      expected('EBUSY R-FLT-113 R-FLT-124', { on: MOVES }),
      expected('EFAULT R-FLT-124', { on: MOVES }),
      expected('EAGAIN R-FLT-113 R-FLT-123', { on: MOVES }),
    ],
  },
]
