import { describe, expect, it } from 'vitest'
import { result } from '../support/kernel.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { regularFileKind, SYSV_SHM } from '../../src/mm/file.ts'
import { UFFD_FEATURE_WP_ASYNC } from '../../src/mm/userfaultfd-flags.ts'
import { shmemFileSetup } from '../../src/mm/shmem.ts'
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_RETRY_NOWAIT,
  VM_FAULT_RETRY,
  VM_FAULT_SIGBUS,
} from '../../src/mm/fault-flags.ts'
import {
  createUserfaultfd,
  uffdClose,
  uffdCopy,
  uffdRegister,
  uffdUnregister,
  uffdZeropage,
  UFFDIO_REGISTER_MODE_MINOR,
  UFFDIO_REGISTER_MODE_MISSING,
  UFFDIO_REGISTER_MODE_WP,
  type Userfaultfd,
  type UserfaultfdOptions,
} from '../../src/mm/userfaultfd.ts'
import { accessUser, loadUser, type AccessResult } from '../../src/mm/user-access.ts'
import type { Kthread } from '../../src/base/kthread.ts'
import { PROT_READ } from '../../src/mm/mman.ts'
import { P, World } from './fault-support.ts'

const MISSING = UFFDIO_REGISTER_MODE_MISSING
const SIGBUS = { ok: false, signal: 'SIGBUS', code: 2 }

function armed(pages: number, options: UserfaultfdOptions = {}): { w: World; at: number; uffd: Userfaultfd } {
  const w = new World()
  const at = w.map(pages)
  const uffd = createUserfaultfd(w.k, options)
  expect(w.task.run(uffdRegister(w.k, uffd, w.mm, at, pages * P, MISSING))).toBe(0)
  return { w, at, uffd }
}

/** Starts an access that will sleep; `finish` runs everything to the end and gives its result. */
function sleeping(w: World, body: Kthread<AccessResult>): () => AccessResult {
  const task = w.k.scheduler.spawn('faulting', w.task, body)
  expect(w.k.scheduler.runUntilIdle()).toBe(false)
  expect(w.mm.mmapLock.locked).toBe(false)
  return () => {
    w.k.scheduler.run()
    return task.result!
  }
}

describe('userfaultfd, MISSING', () => {
  it.each([
    [false, 0],
    [true, 1],
  ])(
    'R-FLT-112 an access (write: %s) delivers flags %i and sleeps until the page is copied in',
    (write, flags) => {
      const { w, at, uffd } = armed(4)
      const finish = sleeping(w, accessUser(w.k, w.mm, at + P + 5, write))
      expect(uffd.read()).toEqual({ event: 'pagefault', flags, address: at + P })
      expect(uffd.read()).toBeNull()
      const page = new Uint8Array(P).fill(7)
      expect(w.task.run(uffdCopy(w.k, uffd, w.mm, at + P, page))).toBe(P)
      expect(finish()).toEqual({ ok: true })
      expect([w.shows(at + P), w.load(at + P + 9)]).toEqual(['anon X w', 7])
    },
  )

  it('R-FLT-113 ZEROPAGE gives the zero page; a write then allocates', () => {
    const { w, at, uffd } = armed(2)
    expect(w.task.run(uffdZeropage(w.k, uffd, w.mm, at, 2 * P))).toBe(2 * P)
    expect(w.shows(at)).toBe('zero')
    w.store(at, 1)
    expect(w.shows(at)).toBe('anon X w')
  })

  it('R-FLT-113 a page that is there: -EEXIST, or a short count', () => {
    const { w, at, uffd } = armed(4)
    w.task.run(uffdZeropage(w.k, uffd, w.mm, at + 2 * P, P))
    expect(result(w.task.run(uffdCopy(w.k, uffd, w.mm, at + 2 * P, new Uint8Array(P))))).toBe('-EEXIST')
    expect(w.task.run(uffdCopy(w.k, uffd, w.mm, at, new Uint8Array(4 * P)))).toBe(2 * P)
  })

  it('R-FLT-113 outside what is watched: -ENOENT', () => {
    const { w, uffd } = armed(1)
    const other = w.map(1, { prot: PROT_READ })
    expect(result(w.task.run(uffdZeropage(w.k, uffd, w.mm, other, P)))).toBe('-ENOENT')
  })

  it('R-FLT-111 shmem: a hole is announced, a cached page is not', () => {
    const w = new World()
    const file = shmemFileSetup(w.k, '/memfd:u', 2 * P)
    const plain = w.map(2, { file, shared: true })
    w.store(plain, 3)
    const at = w.map(2, { file, shared: true })
    const uffd = createUserfaultfd(w.k)
    w.task.run(uffdRegister(w.k, uffd, w.mm, at, 2 * P, MISSING))
    expect(w.load(at)).toBe(3)
    const finish = sleeping(w, accessUser(w.k, w.mm, at + P, true))
    w.task.run(uffdCopy(w.k, uffd, w.mm, at + P, new Uint8Array(P).fill(4)))
    expect(finish()).toEqual({ ok: true })
    expect(w.load(plain + P)).toBe(4)
  })

  it('FLT vector 56: FEATURE_SIGBUS: SIGBUS, no message', () => {
    const { w, at, uffd } = armed(1, { sigbus: true })
    expect(w.touch(at)).toEqual(SIGBUS)
    expect(w.task.refusal?.rule).toBe('R-FLT-120')
    expect(uffd.pending).toEqual([])
  })

  it('R-FLT-122 USER_MODE_ONLY: kernel copies fail, user accesses are announced', () => {
    const { w, at, uffd } = armed(1, { userModeOnly: true })
    expect(w.task.run(loadUser(w.k, w.mm, at, new Uint8Array(1), 'kernel'))).toEqual(SIGBUS)
    const finish = sleeping(w, accessUser(w.k, w.mm, at, false))
    w.task.run(uffdZeropage(w.k, uffd, w.mm, at, P))
    expect(finish()).toEqual({ ok: true })
  })

  it('FLT vector 55: a fault that must keep the lock gets SIGBUS and no message', () => {
    const { w, at, uffd } = armed(1)
    expect(w.fault(at, 0)).toBe(VM_FAULT_SIGBUS)
    expect(uffd.pending).toEqual([])
    expect(w.fault(at, FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_RETRY_NOWAIT)).toBe(VM_FAULT_RETRY)
    expect(uffd.pending).toEqual([])
  })

  it('R-FLT-121 closing while somebody waits lets him finish as if unregistered', () => {
    const { w, at, uffd } = armed(2)
    const finish = sleeping(w, accessUser(w.k, w.mm, at, true))
    w.task.run(uffdClose(w.k, uffd))
    expect(finish()).toEqual({ ok: true })
    expect(w.shows(at)).toBe('anon X w')
    expect(w.faults(at + P)).toBe(1)
  })

  it('R-FLT-121 unregistering does the same', () => {
    const { w, at, uffd } = armed(2)
    const finish = sleeping(w, accessUser(w.k, w.mm, at, false))
    expect(w.task.run(uffdUnregister(w.k, uffd, w.mm, at, P))).toBe(0)
    expect(finish()).toEqual({ ok: true })
    expect(w.shows(at)).toBe('zero')
    const still = sleeping(w, accessUser(w.k, w.mm, at + P, false))
    w.task.run(uffdZeropage(w.k, uffd, w.mm, at + P, P))
    expect(still()).toEqual({ ok: true })
  })

  it('R-FLT-120 a fatal signal ends the sleep and takes the message back', () => {
    const { w, at, uffd } = armed(1)
    const task = w.k.scheduler.spawn('faulting', w.task, accessUser(w.k, w.mm, at, false))
    w.k.scheduler.runUntilIdle()
    w.task.fatalSignalPending = true
    task.signalled(true)
    w.k.scheduler.run()
    expect(task.result).toEqual({ ok: false, signal: 'SIGKILL', code: 0 })
    expect([uffd.pending, uffd.waiters]).toEqual([[], []])
  })

  it('R-FLT-116 a forked child is not watched', () => {
    const { w, at } = armed(1)
    const child = w.fork()
    expect(w.touch(at, false, child)).toEqual({ ok: true })
    w.exit(child)
  })

  it('R-FLT-110 errors of registering', () => {
    const w = new World()
    const uffd = createUserfaultfd(w.k)
    const anon = w.map(4)
    const register = (address: number, length: number, mode: number, who = uffd): number | string =>
      result(w.task.run(uffdRegister(w.k, who, w.mm, address, length, mode)))
    expect(register(anon, 4 * P, 0)).toBe('-EINVAL')
    expect(register(anon, 4 * P, 8)).toBe('-EINVAL')
    expect(register(anon + 1, P, MISSING)).toBe('-EINVAL')
    expect(register(anon, 0, MISSING)).toBe('-EINVAL')
    expect(register(0x10000, P, MISSING)).toBe('-EINVAL')
    const file = createFile(w.k, regularFileKind('ext4'), { path: '/f', size: P })
    expect(register(w.map(1, { file }), P, MISSING)).toBe('-EINVAL')
    expect(register(w.map(1, { file: shmemFileSetup(w.k, '/memfd:p', P) }), P, MISSING)).toBe(0)
    const readOnly = shmemFileSetup(w.k, '/memfd:r', P)
    Object.assign(readOnly, { writable: false })
    expect(register(w.map(1, { file: readOnly, shared: true, prot: PROT_READ }), P, MISSING)).toBe('-EPERM')
    expect(register(anon, P, MISSING)).toBe(0)
    expect(register(anon, 4 * P, MISSING, createUserfaultfd(w.k))).toBe('-EBUSY')
    expect(register(anon, P, UFFDIO_REGISTER_MODE_MINOR)).toBe('-EINVAL')
  })

  it('R-FLT-110 SysV memory is watched for asynchronous writes only, and not filled', () => {
    const w = new World()
    const file = createFile(w.k, SYSV_SHM, { path: '/SYSV00000000 (deleted)', size: P })
    const at = w.map(1, { file, shared: true })
    const plain = createUserfaultfd(w.k)
    const async = createUserfaultfd(w.k, { features: UFFD_FEATURE_WP_ASYNC })
    const register = (uffd: Userfaultfd, mode: number): number | string =>
      result(w.task.run(uffdRegister(w.k, uffd, w.mm, at, P, mode)))
    for (let mode = 1; mode < 8; mode++) {
      expect(register(plain, mode)).toBe('-EINVAL')
      expect(register(async, mode)).toBe(mode === UFFDIO_REGISTER_MODE_WP ? 0 : '-EINVAL')
    }
    expect(result(w.task.run(uffdZeropage(w.k, async, w.mm, at, P)))).toBe('-EINVAL')
    w.task.run(uffdClose(w.k, async))
  })
})
