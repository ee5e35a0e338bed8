import type { Answer } from '../../src/explain/answer.ts'

/** A plain success; the tests change what they are about. */
export const success: Answer = {
  schemaVersion: 1,
  request: 'io_uring:register-buffers',
  flags: [],
  options: {},
  range: { start: '0x55d0c0de1000', length: 65536, pages: 16, note: null },
  process: { pid: 1234, name: 'app', uid: 1000 },
  release: '6.18',
  releaseNote: 'this kernel (6.18.44) is modelled as release 6.18',
  releaseVerified: true,
  verdict: {
    ok: true,
    errno: null,
    rule: null,
    page: null,
    address: null,
    reason: null,
    mapping: null,
    chain: [],
    undecided: null,
  },
  pinned: { pages: 16, hugePages: 0 },
  faultedIn: 3,
  copied: 1,
  memlock: {
    needed: 16,
    used: 0,
    limit: 2048,
    exempt: false,
    capability: 'missing',
    budget: 'user->locked_vm',
    liftedBy: 'CAP_IPC_LOCK',
  },
  kernelLog: [],
  hints: [],
  otherReleases: ['gup-v3', '6.1', '6.6', '6.12'].map((release) => ({
    release,
    verified: false,
    ok: true,
    errno: null,
    rule: null,
    reason: null,
  })),
  seen: { tier: 'T1', consistency: 'stable', takenAt: '2026-01-02T03:04:05.678Z' },
  assumptions: [],
  unseen: [
    {
      what: 'memory charged to RLIMIT_MEMLOCK of uid 1000',
      why: 'the kernel shows this sum nowhere; registered io_uring buffers give a lower bound',
      needs: 'nothing gives it',
    },
  ],
}

/** A shared file mapping: refused by GUP, and the short pin became another errno on the way out. */
export const failure: Answer = {
  ...success,
  range: { start: '0x7f12a4c00000', length: 65536, pages: 16, note: null },
  releaseVerified: false,
  verdict: {
    ok: false,
    errno: 'EFAULT',
    rule: 'R-GUP-16.7',
    page: 3,
    address: '0x7f12a4c03000',
    reason: 'a long-term write pin of a mapping whose writes are tracked',
    mapping: {
      start: '0x7f12a4c03000',
      end: '0x7f12a4c28000',
      flags: ['rd', 'wr', 'sh', 'mr', 'mw', 'me', 'ms', 'sd'],
      backing: 'ext4',
      name: '/var/lib/app/data.bin',
    },
    chain: [
      {
        errno: 'EFAULT',
        rule: 'R-URING-25',
        sentence: 'Fewer pages than asked give EFAULT.',
        why: 'fewer pages were pinned than asked for',
      },
      {
        errno: 'EFAULT',
        rule: 'R-GUP-16.7',
        sentence: 'A long-term write pin of a mapping that needs dirty tracking is refused.',
        why: 'a long-term write pin of a mapping whose writes are tracked',
      },
    ],
    undecided: null,
  },
  pinned: null,
  faultedIn: 0,
  copied: 0,
  memlock: null,
  hints: [
    {
      text: 'map the file MAP_PRIVATE (data then stays in memory: it does not reach /var/lib/app/data.bin)',
      verified: true,
    },
    { text: 'use a memfd or a tmpfs file, if the memory must be shared', verified: true },
  ],
  otherReleases: [
    {
      release: 'gup-v3',
      verified: false,
      ok: false,
      errno: 'EOPNOTSUPP',
      rule: 'R-URING-29',
      reason: 'the file is neither shmem nor hugetlb',
    },
    {
      release: '6.1',
      verified: true,
      ok: false,
      errno: 'EOPNOTSUPP',
      rule: 'R-URING-29',
      reason: 'the file is neither shmem nor hugetlb',
    },
    {
      release: '6.6',
      verified: false,
      ok: false,
      errno: 'EFAULT',
      rule: 'R-GUP-16.7',
      reason: 'a long-term write pin of a mapping whose writes are tracked',
    },
    { release: '6.12', verified: false, ok: true, errno: null, rule: null, reason: null },
  ],
  assumptions: ['one', 'two', 'three', 'four', 'five', 'six'].map(
    (n) => `0x7f12a4c0${n}: swapped out, taken for a page no other process shares`,
  ),
}

/** Something the engine does not model. */
export const undecided: Answer = {
  ...success,
  verdict: {
    ...success.verdict,
    ok: null,
    rule: 'R-HUGE-58',
    undecided: 'Unmodelled: huge pages of 1073741824 bytes (R-HUGE-58)',
  },
  pinned: null,
  memlock: null,
}
