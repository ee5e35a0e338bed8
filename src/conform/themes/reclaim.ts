import { swapAdvice, ksmAdvice } from './advice.ts'
import { small, access, space, files, pins } from './parts.ts'
import type { Theme } from './theme.ts'

/** Pages taken away and merged: swap and KSM. */
export const reclaimThemes = {
  swap: {
    ...small,
    about: 'pages swapped out with MADV_PAGEOUT and freed lazily: fork, pins, locks, files',
    swap: true,
    advice: swapAdvice,
    weights: {
      ...space,
      ...access,
      ...files,
      ...pins,
      madvise: 24,
      fork: 4,
      reap: 3,
      mem: 2,
      pipe: 1,
      vmsplice: 2,
      drain: 1,
      mlock: 1,
      munlock: 1,
    },
    maps: { private: 6, shared: 1, file: 2 },
  },
  ksm: {
    ...small,
    about: 'equal pages merged by ksmd: copies, fork, pins, what undoes it',
    ksm: true,
    advice: ksmAdvice,
    // a page of one is the next page of another
    seeds: [0, 17, 34],
    weights: {
      ...space,
      ...access,
      ...pins,
      fill: 12,
      madvise: 14,
      ksm: 8,
      fork: 4,
      reap: 2,
      mem: 2,
      pipe: 1,
      vmsplice: 2,
      drain: 1,
      memfd: 1,
      mlock: 1,
    },
    maps: { private: 6, shared: 1, file: 2 },
  },
} as const satisfies Record<string, Theme>
