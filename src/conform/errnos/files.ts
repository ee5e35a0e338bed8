import { AGENT_DESCRIPTOR, AGENT_MEMORY, expected, keeps, NO_MEMORY } from './entry.ts'
import type { CallErrnos } from './entry.ts'

/** Descriptors that are good for reading or for writing alone. */
const oneWay = { needs: ['reopen'] } as const
const sealed = { needs: ['seal', 'sealable'] } as const

/** Calls about files, pipes and System V segments. */
export const fileErrnos: readonly CallErrnos[] = [
  {
    call: 'memfd_create, open, close',
    ops: ['memfd', 'sealable', 'disk', 'direct', 'reopen', 'close'],
    errnos: [expected('EINVAL R-SEAL-3', { on: ['6.1'], needs: ['sealable'] })],
  },
  {
    call: 'fcntl F_ADD_SEALS, F_GET_SEALS',
    ops: ['seal'],
    errnos: [
      expected('EINVAL R-SEAL-1'),
      expected('EPERM R-SEAL-1'),
      expected('EBUSY R-SEAL-1 R-GUP-80', { needs: ['mmap', 'sealable'] }),
    ],
  },
  {
    call: 'memfd_secret',
    ops: ['secret'],
    errnos: [expected('EINVAL R-AS-93')],
  },
  {
    call: 'ftruncate',
    ops: ['ftruncate', 'hugefd'],
    errnos: [
      expected('EINVAL R-FLT-74 R-HUGE-41 R-AS-93', { needs: ['hugefd'] }),
      expected('EPERM R-SEAL-2', sealed),
    ],
  },
  {
    call: 'fallocate',
    ops: ['punch'],
    errnos: [
      expected('EPERM R-FLT-75', sealed),
      expected('EBADF R-FLT-75', oneWay),
      expected('EOPNOTSUPP R-AS-93', { needs: ['secret'] }),
      expected('EINVAL R-FLT-75', { unreachable: 'a step punches a hole of a byte or more, in the file' }),
    ],
  },
  {
    call: 'fsync',
    ops: ['fsync', 'fileSum'],
    errnos: [],
    why: 'docs/spec names none',
  },
  {
    call: 'pread',
    ops: ['pread', 'farRead'],
    errnos: [
      expected('EFAULT R-FLT-172 R-DIO-1 R-DIO-7'),
      expected('EINVAL R-FLT-172 R-DIO-1 R-DIO-2 R-DIO-3'),
      expected('EIO R-DIO-13', { needs: ['direct'] }),
      expected('EBADF R-FLT-172 R-DIO-1', oneWay),
    ],
  },
  {
    call: 'pwrite',
    ops: ['pwrite', 'farWrite', 'bulk'],
    errnos: [
      expected('EFAULT R-FLT-173 R-FLT-174 R-DIO-1 R-DIO-7 R-DIO-12'),
      expected('EINVAL R-FLT-172 R-DIO-2 R-DIO-3'),
      expected('EFBIG R-DIO-1 R-FLT-173', { needs: ['farWrite', 'disk'] }),
      expected('EBADF R-DIO-1', oneWay),
      expected('EPERM R-FLT-173', sealed),
    ],
  },
  {
    call: 'pipe',
    ops: ['pipe', 'closeEnd'],
    errnos: [],
    why: 'docs/spec has no rule about what these refuse',
  },
  {
    call: 'vmsplice into a pipe',
    ops: ['vmsplice'],
    errnos: [
      expected('EINVAL R-PIPE-3'),
      expected('EFAULT R-PIPE-3 R-PIPE-4'),
      expected('EPIPE R-PIPE-3'),
      expected('EAGAIN R-PIPE-3'),
      expected('EBADF R-PIPE-3', { unreachable: AGENT_DESCRIPTOR }),
    ],
  },
  {
    call: 'vmsplice out of a pipe',
    ops: ['vmspliceOut'],
    errnos: [
      expected('EINVAL R-PIPE-3'),
      expected('EFAULT R-PIPE-1 R-PIPE-3'),
      expected('EAGAIN R-PIPE-1'),
      expected('EBADF R-PIPE-3', { unreachable: AGENT_DESCRIPTOR }),
    ],
  },
  {
    call: 'read from a pipe',
    ops: ['pipeRead', 'drain'],
    errnos: [
      expected('EAGAIN R-PIPE-1'),
      expected('EFAULT R-PIPE-1'),
      expected('EBADF R-PIPE-1', { unreachable: AGENT_DESCRIPTOR }),
    ],
  },
  {
    call: 'write to a pipe',
    ops: ['pipeWrite', 'feed'],
    errnos: [
      expected('EAGAIN R-PIPE-2'),
      expected('EFAULT R-PIPE-2'),
      expected('EPIPE R-PIPE-2'),
      expected('EBADF R-PIPE-2', { unreachable: AGENT_DESCRIPTOR }),
    ],
  },
  {
    call: 'shmget',
    ops: ['shmget', 'shmKey'],
    errnos: [
      expected('EINVAL R-AS-171'),
      expected('ENOMEM R-AS-171'),
      expected('EEXIST R-AS-171', { needs: ['shmKey'] }),
      expected('ENOENT R-AS-171', { needs: ['shmKey'] }),
      expected('EACCES R-AS-171', { needs: ['shmKey', 'capability'] }),
      expected('EPERM R-AS-171', { unreachable: 'the group of root may make segments of huge pages' }),
    ],
  },
  {
    call: 'shmat',
    ops: ['shmat'],
    errnos: [
      expected('EINVAL R-AS-172'),
      expected('ENOMEM R-AS-172'),
      expected('EACCES R-AS-172', { needs: ['capability'] }),
    ],
  },
  { call: 'shmdt', ops: ['shmdt'], errnos: [expected('EINVAL R-AS-173')] },
  {
    call: 'shmctl',
    ops: ['shmRemove', 'shmCount'],
    errnos: [
      expected('EINVAL R-AS-174'),
      expected('EACCES R-AS-174', { needs: ['shmKey', 'capability'] }),
      expected('EPERM R-AS-174', { unreachable: 'the segments of a program belong to its user' }),
    ],
  },
  {
    call: 'AF_XDP socket',
    ops: ['xskSocket', 'xskSocketOf', 'xskClose'],
    errnos: [
      expected('EPERM R-XDP-1', { needs: ['capability'] }),
      expected('ESOCKTNOSUPPORT R-XDP-1', { needs: ['xskSocketOf'] }),
      expected('EPROTONOSUPPORT R-XDP-1', { needs: ['xskSocketOf'] }),
      expected('EINVAL R-XDP-1', { needs: ['xskSocketOf'] }),
    ],
  },
  {
    call: 'setsockopt XDP_UMEM_REG',
    ops: ['xskRegister', 'xskRegisterPart'],
    errnos: [
      expected('EINVAL R-XDP-2 R-XDP-3 R-XDP-4 R-XDP-5'),
      expected('EBUSY R-XDP-2'),
      expected('EFAULT R-XDP-8 R-DRV-8'),
      expected('ENOMEM R-XDP-9 R-DRV-8'),
      expected('ENOBUFS R-XDP-8', { needs: ['memlock', 'ipcLock'] }),
    ],
  },
  {
    call: 'setsockopt of other options of AF_XDP',
    ops: ['xskOption'],
    errnos: [
      expected('ENOPROTOOPT R-XDP-2'),
      expected('EINVAL R-XDP-2 R-XDP-16'),
      expected('EFAULT R-XDP-2 R-XDP-16'),
      expected('EACCES R-XDP-16', { on: ['6.18'] }),
    ],
  },
  {
    call: '/proc/PID/mem',
    ops: ['mem', 'farMem'],
    errnos: [
      expected('EIO R-MEM-4'),
      expected('EFAULT R-MEM-4 R-MEM-5 R-MEM-7'),
      expected('EINVAL R-MEM-7', { needs: ['farMem'] }),
      expected('EOVERFLOW R-MEM-7', { needs: ['farMem'] }),
      expected('ENOMEM R-MEM-3', { unreachable: NO_MEMORY }),
      expected('EACCES R-MEM-1', { unreachable: keeps('CAP_SYS_PTRACE') }),
      expected('ESRCH R-MEM-1', { unreachable: 'a process of a program lives until it is reaped' }),
    ],
  },
  {
    call: 'process_vm_readv, process_vm_writev',
    ops: ['processVm'],
    errnos: [
      expected('EINVAL R-PVM-1'),
      expected('EFAULT R-PVM-1 R-PVM-4 R-PVM-5'),
      expected('ESRCH R-PVM-1'),
      expected('EPERM R-PVM-1', { unreachable: keeps('CAP_SYS_PTRACE') }),
      expected('ENOMEM R-PVM-1', { unreachable: NO_MEMORY }),
      expected('EINTR R-PVM-1', {
        unreachable: 'only for a task that is being killed: nobody is left to see it',
      }),
    ],
  },
  {
    call: 'ptrace PEEKDATA, POKEDATA',
    ops: ['ptrace'],
    errnos: [
      expected('EIO R-PTR-2'),
      expected('ESRCH R-PTR-1', { unreachable: 'the agent attaches and waits for the stop first' }),
      expected('EFAULT R-PTR-4', { unreachable: AGENT_MEMORY }),
    ],
  },
]
