import { allAdvice } from './advice.ts'

// What several themes have in common: their ground, and weights of steps that go together.

export const small = { arenaPages: 64, unit: 1, busy: 24, advice: allAdvice } as const
export const large = { arenaPages: 4096, unit: 512, busy: 6 } as const
export const access = { load: 6, touch: 10, fill: 6, sum: 4 }
export const space = { mmap: 12, munmap: 6, mprotect: 8, mremap: 6, madvise: 10 }
export const files = { memfd: 3, close: 1, ftruncate: 3, punch: 2 }
export const pins = { ring: 3, closeRing: 1, register: 6, registerEmpty: 1, update: 3, unregister: 2 }
export const uffd = {
  uffd: 4,
  uffdClose: 1,
  uffdRegister: 10,
  uffdUnregister: 2,
  uffdServe: 2,
  uffdDo: 12,
  uffdMove: 2,
}
export const locks = { mlock: 3, mlock2: 2, munlock: 3, mlockall: 1, munlockall: 1 }
export const requests = { transfer: 22, batch: 2, completions: 2 }
export const pipeRequests = { pipe: 3, closeEnd: 1, pipeTransfer: 18, feed: 8, drain: 5 }
export const tags = { registerTags: 5, updateTags: 4 }
export const pipes = {
  pipe: 2,
  closeEnd: 1,
  vmsplice: 12,
  vmspliceOut: 2,
  drain: 7,
  feed: 2,
  pipeRead: 2,
  pipeWrite: 2,
}
export const transfers = { pread: 6, pwrite: 6, fileSum: 4 }
