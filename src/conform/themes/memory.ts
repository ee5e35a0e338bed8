import { small, access, space, files, pins, locks } from './parts.ts'
import type { Theme } from './theme.ts'

/** Memory of every plain kind: files, fork, pins, limits and locks. */
export const memoryThemes = {
  basic: {
    ...small,
    about: 'private anonymous memory: mmap, munmap, mprotect, loads and stores',
    weights: { mmap: 12, munmap: 6, mprotect: 8, ...access },
    maps: { private: 1 },
  },
  space: {
    ...small,
    about: 'anonymous memory and every address-space call',
    weights: { ...space, ...access },
    maps: { private: 3, shared: 1 },
  },
  files: {
    ...small,
    about: 'memory files: mappings, truncation, holes, private copies',
    weights: { ...space, ...access, ...files },
    maps: { file: 4, private: 1, shared: 1 },
  },
  disk: {
    ...small,
    about: 'files on a disk: mappings, truncation, holes, private copies',
    weights: { ...space, ...access, disk: 3, close: 1, ftruncate: 2, punch: 2 },
    maps: { file: 4, private: 1 },
  },
  fork: {
    ...small,
    about: 'fork and exit, copy on write between processes',
    weights: { ...space, ...access, touch: 16, fork: 5, reap: 3, memfd: 1 },
    maps: { private: 5, shared: 1, file: 1 },
  },
  pins: {
    ...small,
    about: 'buffers registered with io_uring, and what happens to their pages',
    weights: { ...space, ...access, ...pins, memfd: 2, ftruncate: 1, punch: 1 },
    maps: { private: 4, shared: 1, file: 2 },
  },
  'fork-pins': {
    ...small,
    about: 'pinned pages, fork and copy on write',
    weights: { ...space, ...access, ...pins, fork: 4, reap: 2, memfd: 1 },
    maps: { private: 5, shared: 1, file: 1 },
  },
  limits: {
    ...small,
    about: 'RLIMIT_MEMLOCK just met and just missed, CAP_IPC_LOCK',
    weights: { ...space, ...access, ...pins, mlock: 4, mlock2: 1, munlock: 2, memlock: 4, ipcLock: 3 },
    maps: { private: 4, shared: 1 },
  },
  locks: {
    ...small,
    about: 'mlock and its relatives',
    weights: { ...space, ...access, ...locks, memfd: 1, fork: 1, reap: 1 },
    maps: { private: 4, shared: 1, file: 1 },
  },
  seal: {
    ...small,
    about: 'sealed mappings',
    weights: { ...space, ...access, mseal: 3 },
    maps: { private: 4, shared: 1 },
  },
} as const satisfies Record<string, Theme>
