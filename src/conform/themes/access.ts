import { small, access, space, files, pipes, transfers } from './parts.ts'
import type { Theme } from './theme.ts'

/** Memory reached from elsewhere: by other processes, pipes, reads and writes of files. */
export const accessThemes = {
  mem: {
    ...small,
    about: '/proc/PID/mem of a process and its child',
    weights: { ...space, ...access, mem: 10, fork: 3, reap: 1, memfd: 1 },
    maps: { private: 4, shared: 1, file: 1 },
  },
  'process-vm': {
    ...small,
    about: 'process_vm_readv and process_vm_writev between parent and child',
    weights: { ...space, ...access, ...files, processVm: 16, fork: 3, reap: 1, disk: 1 },
    maps: { private: 4, shared: 1, file: 3 },
  },
  placement: {
    ...small,
    about: 'move_pages: where pages of oneself and of a child are, and what cannot be moved',
    weights: {
      ...space,
      ...access,
      ...files,
      movePages: 16,
      fork: 3,
      reap: 1,
      disk: 1,
      pipe: 1,
      vmsplice: 2,
      drain: 1,
    },
    maps: { private: 5, shared: 2, file: 3 },
  },
  ptrace: {
    ...small,
    about: 'words peeked and poked into a child, /proc/PID/mem',
    weights: { ...space, ...access, ...files, ptrace: 12, mem: 5, fork: 4, reap: 1, disk: 1 },
    maps: { private: 4, shared: 1, file: 3 },
  },
  vmsplice: {
    ...small,
    about: 'pages in pipes, and what happens to them before they are read',
    weights: { ...space, ...access, ...pipes, ...files, fork: 3, reap: 2 },
    maps: { private: 5, shared: 1, file: 3 },
  },
  'file-io': {
    ...small,
    about: 'read and write of files from and into any memory',
    weights: { ...space, ...access, ...transfers, ...files, disk: 2, fork: 1, reap: 1 },
    maps: { private: 4, shared: 1, file: 3 },
  },
  'direct-io': {
    ...small,
    about: 'direct I/O: short pins, the page cache around it, partial transfers',
    weights: {
      ...space,
      ...access,
      pread: 10,
      pwrite: 10,
      fileSum: 8,
      disk: 3,
      direct: 6,
      memfd: 1,
      close: 1,
      ftruncate: 2,
      punch: 2,
      fsync: 1,
      fork: 2,
      reap: 1,
    },
    maps: { private: 4, shared: 1, file: 4 },
  },
} as const satisfies Record<string, Theme>
