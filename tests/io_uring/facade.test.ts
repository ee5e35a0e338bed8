import { describe, expect, it } from 'vitest'
import { openIoUring } from '../../src/io_uring/facade.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
import { MADV_DONTNEED } from '../../src/mm/mman.ts'
import { Mm } from '../../src/mm/mm.ts'
import { FdTable } from '../../src/task/fd-table.ts'
import { Process, type ProcessOptions } from '../../src/task/process.ts'
import { SyscallError } from '../../src/task/syscall-error.ts'
import { testKernel } from '../support/kernel.ts'

function spawn(k: Kernel, options: ProcessOptions = {}): Process {
  return new Process(k, 'app', options, { mm: new Mm(k, 'app'), files: new FdTable() })
}

/** Pins held by rings. */
function pins(k: Kernel): number {
  let held = 0
  for (const holder of k.holders) holder.forEachReference((_pfn, _references, n) => (held += n))
  return held
}

function failure(call: () => unknown): SyscallError {
  try {
    call()
  } catch (error) {
    expect(error).toBeInstanceOf(SyscallError)
    return error as SyscallError
  }
  throw new Error('nothing was thrown')
}

describe('openIoUring', () => {
  it('R-URING-22 registers, unregisters, and registers again', () => {
    const k = testKernel()
    const app = spawn(k)
    const ring = openIoUring(app, { entries: 8 })
    const base = app.mmap({ length: '16k' })
    ring.registerBuffers([{ base: base + 100, length: 4096 }])
    expect(pins(k)).toBe(2)
    ring.unregisterBuffers()
    expect(pins(k)).toBe(0)
    ring.registerBuffers([
      { base, length: 4096 },
      { base: base + 8192, length: 8192 },
    ])
    expect(pins(k)).toBe(3)
    ring.close()
    expect(pins(k)).toBe(0)
  })

  it('R-GUP-16 a failure carries the reason from where it was decided', () => {
    const k = testKernel()
    const app = spawn(k)
    const ring = openIoUring(app, { entries: 8 })
    const base = app.mmap({ length: '16k' })
    app.mprotect(base + 8192, '4k', 'r')
    const error = failure(() => ring.registerBuffers([{ base, length: 16384 }]))
    expect(error.code).toBe('EFAULT')
    expect(error.syscall).toBe('io_uring_register')
    expect(error.reason?.cause).toMatchObject({ rule: 'R-GUP-16.8', page: 2, vma: { start: base + 8192 } })
    expect(pins(k)).toBe(0)
  })

  it.each([
    ['EBUSY', 'buffers are registered already'],
    ['ENXIO', 'nothing is registered'],
    ['EBADF', 'the descriptor is closed'],
    ['EOPNOTSUPP', 'the descriptor has become another file'],
  ])('R-URING-1 %s when %s', (code) => {
    const app = spawn(testKernel())
    const ring = openIoUring(app, { entries: 8 })
    const buffer = [{ base: app.mmap({ length: '4k' }), length: 4096 }]
    const call = {
      EBUSY: () => {
        ring.registerBuffers(buffer)
        ring.registerBuffers(buffer)
      },
      ENXIO: () => ring.unregisterBuffers(),
      EBADF: () => {
        ring.close()
        ring.registerBuffers(buffer)
      },
      EOPNOTSUPP: () => {
        ring.close()
        expect(app.memfdCreate('other', '4k')).toBe(ring.fd)
        ring.registerBuffers(buffer)
      },
    }[code]!
    expect(failure(call).code).toBe(code)
    app.files.closeAll()
  })

  it('R-URING-65, R-URING-9 a ring lives as long as a descriptor of it, in any process', () => {
    const k = testKernel()
    const app = spawn(k)
    const ring = openIoUring(app, { entries: 8 })
    ring.registerBuffers([{ base: app.mmap({ length: '4k' }), length: 4096 }])
    const child = app.fork()
    app.exit()
    expect(pins(k)).toBe(1)
    child.exit()
    expect(pins(k)).toBe(0)
  })

  it('R-URING-6 a setup that fails leaves no ring behind', () => {
    const k = testKernel({ release: '6.18' })
    const app = spawn(k, { limits: { nofile: 1 } })
    openIoUring(app, { entries: 8 })
    const holders = k.holders.size
    const charged = k.user(app.uid).lockedVm
    expect(charged).toBeGreaterThan(0)
    expect(failure(() => openIoUring(app, { entries: 8 })).code).toBe('EMFILE')
    expect(failure(() => openIoUring(app, { entries: 0 })).code).toBe('EINVAL')
    expect(k.holders.size).toBe(holders)
    expect(k.user(app.uid).lockedVm).toBe(charged)
    app.files.closeAll()
    expect(k.user(app.uid).lockedVm).toBe(0)
  })

  it('R-URING-60 fixed reads land in the pinned pages, which the process no longer sees', () => {
    const k = testKernel()
    const app = spawn(k)
    const ring = openIoUring(app, { entries: 8 })
    const base = app.mmap({ length: '8k' })
    app.store(base, new Uint8Array([1]))
    ring.registerBuffers([{ base, length: 8192 }])
    app.madvise(base, 8192, MADV_DONTNEED)
    const fd = app.memfdCreate('data', 0)
    app.write(fd, new Uint8Array([7, 8, 9]))
    ring.readFixed({ fd, address: base, length: 3, userData: 5 })
    ring.writeFixed({ fd, address: base, length: 4, offset: 10 })
    ring.readFixed({ fd: 99, address: base, length: 3 })
    expect(ring.completions().map(({ userData, res }) => [userData, res])).toEqual([
      [5, 3],
      [0, 4],
      [0, -9],
    ])
    expect([...app.load(base, 3)]).toEqual([0, 0, 0])
    expect([...app.read(fd, 4, 10)]).toEqual([7, 8, 9, 0])
    app.exit()
  })

  it('R-URING-96 a read from a pipe waits for bytes', () => {
    const k = testKernel()
    const app = spawn(k)
    const ring = openIoUring(app, { entries: 8 })
    const base = app.mmap({ length: '4k' })
    ring.registerBuffers([{ base, length: 4096 }])
    const pipe = app.pipe()
    ring.readFixed({ fd: pipe.read, address: base, length: 10 })
    expect(ring.completions()).toEqual([])
    app.write(pipe.write, new Uint8Array([1, 2]))
    expect([...app.load(base, 3)]).toEqual([1, 2, 0])
    expect(ring.completions()).toEqual([{ userData: 0, res: 2, flags: 0 }])
    ring.close()
    expect(ring.completions()).toEqual([])
    expect(failure(() => ring.submit({ opcode: 0 })).code).toBe('EBADF')
    expect(failure(() => app.read(99, 1)).code).toBe('EBADF')
    app.exit()
  })

  it('R-URING-87, R-URING-89 what /proc shows of a ring', () => {
    const k = testKernel({ release: '6.18' })
    const app = spawn(k)
    const ring = openIoUring(app, { entries: 8 })
    const parts = [0, 0x10000000, 0x8000000].map((offset) =>
      app.mmap({ length: '4k', shared: true, fd: ring.fd, offset }),
    )
    const maps = app.proc.text(app.pid, 'maps').split('\n')
    const shown = parts.map((at) => maps.find((line) => line.startsWith(at.toString(16).padStart(8, '0')))!)
    expect(shown.map((line) => line.split(/\s+/).slice(1, 3))).toEqual([
      ['rw-s', '00000000'],
      ['rw-s', '10000000'],
      ['rw-s', '08000000'],
    ])
    for (const line of shown) expect(line).toMatch(/ anon_inode:\[io_uring\]$/)
    const base = app.mmap({ length: '64k' })
    ring.registerBuffers([{ base, length: 65536 }])
    const child = app.fork()
    const pinned = (of: Process): string | undefined =>
      /VmPin:\s+(\d+) kB/.exec(app.proc.text(of.pid, 'status'))?.[1]
    expect([pinned(app), pinned(child)]).toEqual(['64', '0'])
    child.exit()
    app.exit()
  })

  it('URING vector 53, R-URING-68, R-URING-9: exec takes the ring along, or leaves it with the pins of the program that is gone', () => {
    const k = testKernel()
    for (const kept of [false, true]) {
      const app = spawn(k)
      const ring = openIoUring(app, { entries: 8 })
      const base = app.mmap({ length: '16k' })
      const pipe = app.pipe()
      ring.registerBuffers([{ base, length: 16384 }])
      ring.readFixed({ fd: pipe.read, address: base, length: 10 })
      if (kept) app.setCloseOnExec(ring.fd, false)
      const old = app.mm!
      app.exec({ path: '/bin/new' })
      expect([pins(k), app.mm!.pinnedVm, old.pinnedVm]).toEqual(kept ? [4, 0, 4] : [0, 0, 0])
      if (kept) {
        expect(ring.completions()).toEqual([{ userData: 0, res: -125, flags: 0 }])
        ring.unregisterBuffers()
        expect([pins(k), old.pinnedVm]).toEqual([0, 0])
      } else expect(failure(() => ring.unregisterBuffers()).code).toBe('EBADF')
      app.exit()
    }
  })
})
