import type { EngineSetup } from '../../src/conform/engine-driver.ts'

/** A machine like the one an agent of root describes. */
export const engineSetup: EngineSetup = {
  release: '6.18',
  arena: { start: 2 ** 44, pages: 64 },
  uid: 0,
  capabilities: new Set([
    'CAP_NET_RAW',
    'CAP_IPC_LOCK',
    'CAP_SYS_ADMIN',
    'CAP_SYS_RESOURCE',
    'CAP_SYS_RAWIO',
    'CAP_SYS_NICE',
    'CAP_SYS_PTRACE',
  ]),
  memlock: 8 * 2 ** 20,
  own: 2752,
  ownData: 2048 * 1024,
  dataSegment: 5584,
  othersLocked: 0,
  thp: 'madvise',
  thpDisabled: true,
  names: false,
  pool: null,
  swapSlots: 0,
  ksmShown: true,
  userfaultfdForAll: false,
  memoryFailure: true,
}
