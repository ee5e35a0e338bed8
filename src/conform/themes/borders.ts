import { small, access, space, files, pins, pipes, transfers } from './parts.ts'
import type { Theme } from './theme.ts'

/** What is refused for where it is, how much it is, or what somebody has made of the file. */
export const borderThemes = {
  sealed: {
    ...small,
    about: 'sealed memory files: sizes, writes, holes and mappings of them, who holds their pages',
    weights: {
      ...space,
      ...access,
      ...files,
      ...pins,
      ...pipes,
      ...transfers,
      memfd: 1,
      sealable: 10,
      seal: 18,
      ftruncate: 6,
      transfer: 8,
      disk: 1,
      reopen: 1,
      fork: 2,
      reap: 1,
    },
    maps: { private: 2, shared: 1, file: 6 },
  },
  far: {
    ...small,
    about:
      'places beyond all files and memory, arguments that just fit, descriptors that cannot be mapped or whose process is gone',
    weights: {
      ...space,
      ...access,
      ...files,
      disk: 3,
      direct: 2,
      reopen: 1,
      farRead: 5,
      farWrite: 11,
      farMem: 12,
      pipe: 2,
      mmapPipe: 8,
      vmsplice: 1,
      fork: 2,
      reap: 1,
      execMany: 3,
      uffdOrphan: 3,
      uffdRegister: 4,
      uffdUnregister: 3,
      uffdDo: 6,
      uffdMove: 2,
      uffdClose: 2,
    },
    maps: { private: 4, shared: 1, file: 3 },
  },
} as const satisfies Record<string, Theme>
