import { hugetlbAdvice } from './advice.ts'
import { access, large, pins } from './parts.ts'
import type { Theme } from './theme.ts'

/** System V shared memory in huge pages. */
export const hugeSegmentThemes = {
  'sysv-hugetlb': {
    ...large,
    about: 'System V shared memory in huge pages: promises of the pool, attachments, pins, fork and exec',
    hugePages: 8,
    advice: hugetlbAdvice,
    weights: {
      mmap: 4,
      munmap: 4,
      mprotect: 4,
      mremap: 3,
      madvise: 6,
      ...access,
      ...pins,
      shmget: 4,
      shmat: 12,
      shmdt: 6,
      shmRemove: 3,
      shmCount: 4,
      fork: 3,
      reap: 2,
      exec: 1,
      mincore: 1,
      mlock: 1,
    },
    maps: { private: 2, hugetlb: 1 },
  },
} as const satisfies Record<string, Theme>
