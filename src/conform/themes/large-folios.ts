import { largeFolioAdvice } from './advice.ts'
import { access, large, pins, pipes } from './parts.ts'
import type { Theme } from './theme.ts'

/** Large folios in the page cache of files on a disk. */
export const largeFolioThemes = {
  'disk-folios': {
    ...large,
    about: 'disk files written many pages at a time: large folios in their caches, what maps and splits them',
    bulk: true,
    thp: true,
    advice: largeFolioAdvice,
    weights: {
      mmap: 14,
      munmap: 3,
      mprotect: 4,
      mremap: 3,
      madvise: 10,
      ...access,
      ...pins,
      ...pipes,
      disk: 3,
      bulk: 10,
      close: 1,
      pread: 2,
      pwrite: 2,
      fsync: 5,
      msync: 3,
      mincore: 1,
      ftruncate: 2,
      punch: 4,
      fork: 3,
      reap: 2,
      mlock: 1,
      mlock2: 1,
      munlock: 1,
      processVm: 1,
    },
    maps: { file: 7, private: 3 },
  },
} as const satisfies Record<string, Theme>
