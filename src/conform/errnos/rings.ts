import { AGENT_DESCRIPTOR, AGENT_MEMORY, expected, NO_MEMORY } from './entry.ts'
import type { CallErrnos } from './entry.ts'

const ON_CLONES = ['6.12', '6.18'] as const
/** Rings whose submitter is another task are made by this step only. */
const others = { needs: ['ringWith'] } as const
const limits = { needs: ['memlock', 'ipcLock'] } as const
const restricted = { needs: ['restrict', 'enable'] } as const

const AGENT_SOCKETS = 'the step names a pair of sockets that is open at both ends'

/** io_uring and its requests. */
export const ringErrnos: readonly CallErrnos[] = [
  {
    call: 'io_uring_setup',
    ops: ['ring', 'ringWith', 'ringDisabled', 'closeRing'],
    errnos: [
      expected('EINVAL R-URING-6', { needs: ['ringWith'] }),
      expected('ENOMEM R-URING-8', { on: ['6.18'], ...limits }),
      expected('EFAULT R-URING-6', { unreachable: AGENT_MEMORY }),
    ],
  },
  {
    call: 'io_uring_register BUFFERS',
    ops: ['register', 'registerEmpty', 'registerTags'],
    errnos: [
      expected('EFAULT R-URING-11 R-URING-12 R-URING-24'),
      expected('EBUSY R-URING-11'),
      expected('EINVAL R-URING-10 R-URING-11 R-URING-12 R-URING-13'),
      expected('EOVERFLOW R-URING-12'),
      expected('ENOMEM R-URING-42', limits),
      expected('EOPNOTSUPP R-URING-25 R-URING-26', { on: ['6.1', 'gup-v3'], needs: ['disk'] }),
      expected('EEXIST R-URING-1', others),
      expected('EACCES R-URING-1', restricted),
      expected('EBADF R-URING-1', { unreachable: AGENT_DESCRIPTOR }),
      expected('EINTR R-URING-35', {
        unreachable: 'only for a task that is being killed: nobody is left to see the answer',
      }),
    ],
  },
  {
    call: 'io_uring_register BUFFERS_UPDATE',
    ops: ['update', 'updateTags'],
    errnos: [
      expected('EACCES R-URING-1', restricted),
      expected('ENXIO R-URING-17'),
      expected('EINVAL R-URING-13 R-URING-17'),
      expected('EFAULT R-URING-12 R-URING-17 R-URING-24'),
      expected('EOVERFLOW R-URING-12 R-URING-17'),
      expected('ENOMEM R-URING-19 R-URING-42', limits),
      expected('EEXIST R-URING-1', others),
    ],
  },
  {
    call: 'io_uring_register UNREGISTER_BUFFERS',
    ops: ['unregister'],
    errnos: [
      expected('EACCES R-URING-1', restricted),
      expected('ENXIO R-URING-21'),
      expected('EEXIST R-URING-1', others),
      expected('EINTR R-URING-21', { on: ['6.1', 'gup-v3', '6.6', '6.12'], needs: ['pipeTransfer'] }),
      expected('EINVAL R-URING-1', { unreachable: 'the agent passes no argument' }),
    ],
  },
  {
    call: 'io_uring_register CLONE_BUFFERS',
    ops: ['clone'],
    errnos: [
      expected('EACCES R-URING-1', { on: ON_CLONES, ...restricted }),
      expected('ENXIO R-URING-72 R-URING-73', { on: ON_CLONES }),
      expected('EINVAL R-URING-72 R-URING-73'),
      expected('EBUSY R-URING-72 R-URING-73', { on: ON_CLONES }),
      expected('EOVERFLOW R-URING-73', { on: ['6.18'] }),
      expected('EEXIST R-URING-1 R-URING-73', { on: ON_CLONES }),
      expected('EFAULT R-URING-72 R-URING-73', { unreachable: AGENT_MEMORY }),
      expected('EBADF R-URING-72 R-URING-73', { unreachable: AGENT_DESCRIPTOR }),
      expected('EOPNOTSUPP R-URING-72 R-URING-73', { unreachable: AGENT_DESCRIPTOR }),
      expected('ENOMEM R-URING-72', { unreachable: NO_MEMORY }),
    ],
  },
  {
    call: 'io_uring_register PBUF_RING',
    ops: ['pbufRing'],
    errnos: [
      expected('EACCES R-URING-1', restricted),
      expected('EFAULT R-URING-77'),
      expected('EINVAL R-URING-77'),
      expected('EEXIST R-URING-1 R-URING-77'),
      expected('ENOMEM R-URING-77', { on: ['6.18'], ...limits }),
      expected('EOVERFLOW R-URING-77', { on: ['6.18'] }),
      expected('EOPNOTSUPP R-URING-77', { on: ['6.1', 'gup-v3'], needs: ['disk'] }),
    ],
  },
  {
    call: 'io_uring_register UNREGISTER_PBUF_RING',
    ops: ['unregisterPbufRing'],
    errnos: [
      expected('EACCES R-URING-1', restricted),
      expected('ENOENT R-URING-78'),
      expected('EEXIST R-URING-1', others),
      expected('EINVAL R-URING-78', { on: ['6.1'] }),
    ],
  },
  {
    call: 'io_uring_register ENABLE_RINGS',
    ops: ['enable'],
    errnos: [
      expected('EACCES R-URING-1', restricted),
      expected('EBADFD R-URING-4'),
      expected('EEXIST R-URING-1', others),
      expected('EINVAL R-URING-4', { unreachable: 'the agent passes no argument' }),
    ],
  },
  {
    call: 'io_uring_register RESTRICTIONS',
    ops: ['restrict'],
    errnos: [
      expected('EBADFD R-URING-4'),
      expected('EACCES R-URING-1'),
      expected('EEXIST R-URING-1'),
      expected('EBUSY R-URING-4'),
      expected('EINVAL R-URING-4'),
      expected('EFAULT R-URING-4', { unreachable: AGENT_MEMORY }),
    ],
  },
  {
    call: 'io_uring_enter',
    ops: ['batch', 'transfer', 'pipeTransfer', 'send', 'completions'],
    errnos: [
      expected('EBADFD R-URING-92', others),
      expected('EEXIST R-URING-92', others),
      expected('EBADF R-URING-92', { unreachable: AGENT_DESCRIPTOR }),
      expected('EOPNOTSUPP R-URING-92', { unreachable: AGENT_DESCRIPTOR }),
    ],
  },
  {
    call: 'completions of reads and writes',
    ops: ['transfer'],
    completions: true,
    errnos: [
      expected('EFAULT R-URING-55 R-URING-56 R-URING-93'),
      expected('EBADF R-URING-57 R-URING-93'),
      expected('EINVAL R-URING-93'),
      expected('EPERM R-FLT-173', { needs: ['seal', 'sealable'] }),
    ],
  },
  {
    call: 'completions of reads and writes of pipes',
    ops: ['pipeTransfer', 'completions'],
    completions: true,
    errnos: [expected('EFAULT R-URING-55 R-URING-56 R-PIPE-1 R-PIPE-2'), expected('EPIPE R-PIPE-2')],
  },
  {
    call: 'completions of sends',
    ops: ['send'],
    completions: true,
    errnos: [
      expected('EFAULT R-URING-55 R-URING-56 R-URING-99 R-URING-101'),
      expected('EINVAL R-URING-99 R-URING-104'),
      expected('EOPNOTSUPP R-URING-99'),
      expected('EBADF R-URING-99 R-URING-104', { unreachable: AGENT_SOCKETS }),
      expected('ENOTSOCK R-URING-99 R-URING-104', { unreachable: AGENT_SOCKETS }),
      expected('EMSGSIZE R-URING-99 R-URING-101', { unreachable: 'a step sends at most 16 KiB' }),
      expected('ECONNRESET R-URING-101', { unreachable: AGENT_SOCKETS }),
      expected('EPIPE R-URING-101', { unreachable: AGENT_SOCKETS }),
      expected('EAGAIN R-URING-104', { unreachable: 'nothing is received through a ring' }),
      expected('ENOMEM R-URING-50', { notYet: 'limits of other workers would show (R-URING-8)' }),
    ],
  },
  {
    call: 'pairs of sockets over the loopback device',
    ops: ['sockets', 'stall', 'flow'],
    errnos: [],
    why: 'they are there for what is sent through them',
  },
  {
    call: 'completions of requests that move nothing',
    ops: ['batch'],
    completions: true,
    errnos: [
      expected('EINVAL R-URING-92'),
      expected('EOPNOTSUPP R-URING-92'),
      expected('EFAULT R-URING-55 R-URING-93'),
      expected('EBADF R-URING-57'),
      expected('EACCES R-URING-92', restricted),
    ],
  },
]
