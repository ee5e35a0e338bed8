import { access, locks, pins, small, space } from './parts.ts'
import type { Theme } from './theme.ts'

/** Memory that nothing but its own mappings reaches. */
export const secretThemes = {
  secret: {
    ...small,
    about: 'secret memory: locked from the start, out of reach of pins and of other processes',
    weights: {
      ...space,
      ...access,
      ...pins,
      ...locks,
      secret: 4,
      close: 1,
      ftruncate: 6,
      punch: 1,
      fork: 2,
      reap: 1,
      mem: 2,
      processVm: 2,
      ptrace: 1,
      movePages: 2,
      mincore: 2,
      msync: 1,
      memlock: 2,
      ipcLock: 2,
    },
    maps: { private: 2, file: 6 },
  },
} as const satisfies Record<string, Theme>
