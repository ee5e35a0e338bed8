import type { ReleaseName } from '../../src/base/release.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { SHMEM, regularFileKind, type OpenFile } from '../../src/mm/file.ts'
import { createFile, openAgain } from '../../src/mm/filemap.ts'
import type { Kernel, KernelOptions } from '../../src/mm/kernel.ts'
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from '../../src/mm/mman.ts'
import { mmap, type MmapRequest } from '../../src/mm/mmap.ts'
import type { Mm } from '../../src/mm/mm.ts'
import { accessUser, loadUser, storeUser } from '../../src/mm/user-access.ts'
import { vmFlagMnemonics } from '../../src/mm/vm-flags.ts'
import type { Vma } from '../../src/mm/vma.ts'
import { result, testKernel, testTask, type TestTask, type TestTaskOptions } from '../support/kernel.ts'

export const P = PAGE_SIZE
export const R = PROT_READ
export const W = PROT_WRITE
export const X = PROT_EXEC
export const RW = PROT_READ | PROT_WRITE
export const ANON = MAP_PRIVATE | MAP_ANONYMOUS
export const SHARED_ANON = MAP_SHARED | MAP_ANONYMOUS
/** base of the isolated area that the vectors call q */
export const Q = 0x20_0000_0000
export const H = 2 ** 21
export const ALL: ReleaseName[] = ['gup-v3', '6.1', '6.6', '6.12', '6.18']
export const OLDER: ReleaseName[] = ['gup-v3', '6.1', '6.6']
export const NEWER: ReleaseName[] = ['6.12', '6.18']

/** One program and its mappings, listed in pages relative to q. */
export class Space {
  readonly k: Kernel
  readonly task: TestTask

  constructor(release: ReleaseName = 'gup-v3', task: TestTaskOptions = {}, options: KernelOptions = {}) {
    this.k = testKernel({ release, zones: { normal: 8192 }, ...options })
    this.task = testTask(this.k, task)
  }

  get mm(): Mm {
    return this.task.space
  }

  /** mmap(2) with what is left out being harmless. Returns the address or '-ERRNO'. */
  try(request: Partial<MmapRequest>): number | string {
    const full = { addr: 0, length: P, prot: RW, flags: ANON, file: null, offset: 0, ...request }
    return result(this.task.run(mmap(this.k, this.mm, full)))
  }

  /** As `try`, for calls that must work. */
  map(request: Partial<MmapRequest>): number {
    const address = this.try(request)
    if (typeof address === 'string') throw new Error(`mmap: ${address}`)
    return address
  }

  /** `rw(n)` of the vectors: n pages at q + page, MAP_FIXED. */
  at(page: number, pages: number, prot = RW, flags = ANON, file: OpenFile | null = null, offset = 0): number {
    return this.map({
      addr: Q + page * P,
      length: pages * P,
      prot,
      flags: flags | MAP_FIXED,
      file,
      offset: offset * P,
    })
  }

  /** Runs a call; errno results as '-ENAME'. */
  call(body: Parameters<TestTask['run']>[0]): number | string {
    return result(this.task.run(body) as number)
  }

  /** A user access to a page of the area: true when it worked. */
  touch(page: number, write = true): boolean {
    return this.task.run(accessUser(this.k, this.mm, Q + page * P, write)).ok
  }

  store(page: number, byte: number): void {
    const stored = this.task.run(storeUser(this.k, this.mm, Q + page * P, Uint8Array.of(byte)))
    if (!stored.ok) throw new Error(`store to page ${page}: ${stored.signal}`)
  }

  load(page: number): number {
    const into = new Uint8Array(1)
    const loaded = this.task.run(loadUser(this.k, this.mm, Q + page * P, into))
    if (!loaded.ok) throw new Error(`load from page ${page}: ${loaded.signal}`)
    return into[0]!
  }

  vmas(): Vma[] {
    const guard = this.mm.mmapLock.tryRead()!
    const all: Vma[] = []
    for (let vma = guard.vmas.first; vma !== null; vma = vma.next) all.push(vma)
    guard.release()
    return all
  }

  /** `0+4 rw-`: first page relative to q, pages, protection. */
  list(): string[] {
    return this.vmas().map((vma) => {
      const bit = (flag: number, letter: string): string => ((vma.flags & flag) !== 0 ? letter : '-')
      return `${(vma.start - Q) / P}+${vma.pages} ${bit(1, 'r')}${bit(2, 'w')}${bit(4, 'x')}`
    })
  }

  /** smaps mnemonics of the VMA at a page. */
  flags(page: number): string {
    const vma = this.vmas().find((one) => one.start <= Q + page * P && one.end > Q + page * P)!
    return vmFlagMnemonics(vma.flags, vma.highFlags).join(' ')
  }

  file(pages: number, access: { readable?: boolean; writable?: boolean } = {}): OpenFile {
    return createFile(this.k, regularFileKind('ext4'), { path: '/data', size: pages * P, ...access })
  }

  memfd(pages: number): OpenFile {
    return createFile(this.k, SHMEM, { path: '/memfd:m (deleted)', size: pages * P })
  }

  reopen(file: OpenFile, readable = true, writable = true): OpenFile {
    return openAgain(this.k, file.mapping, file.path, { readable, writable })
  }
}
