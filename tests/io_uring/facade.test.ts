import { describe, expect, it } from 'vitest'
import { openIoUring } from '../../src/io_uring/facade.ts'
import type { Kernel } from '../../src/mm/kernel.ts'
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

  it('R-URING-65 a ring lives as long as a descriptor of it, in any process', () => {
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
})
