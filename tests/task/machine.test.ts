import { describe, expect, it } from 'vitest'
import { Machine } from '../../src/task/machine.ts'
import type { SignalError } from '../../src/task/signal-error.ts'
import type { SyscallError } from '../../src/task/syscall-error.ts'
import { MADV_DONTNEED } from '../../src/mm/mman.ts'
import { watchMachine } from '../support/kernel.ts'

function caught(call: () => unknown): unknown {
  try {
    call()
  } catch (error) {
    return error
  }
  throw new Error('the call succeeded')
}

describe('machine', () => {
  it('splits its memory into zones', () => {
    const { kernel } = watchMachine(new Machine({ memory: '64M', movable: '16M', cma: '4M' }))
    expect([...kernel.memory.buddy.managed]).toEqual([44 * 256, 16 * 256, 4 * 256])
  })

  it('refuses releases and sizes it does not know, by name', () => {
    expect(() => new Machine({ release: '5.10' as '6.1' })).toThrow(
      "'5.10' is not a release; known are gup-v3, 6.1",
    )
    expect(() => new Machine({ memory: 'much' })).toThrow("'much' is not a size")
    expect(() => new Machine({ memory: '1M', movable: '1M' })).toThrow('memory must be larger')
  })

  it('tells an observer about maps, COW copies and unmaps', () => {
    const machine = watchMachine(new Machine({ memory: '16M' }))
    const seen: string[] = []
    const app = machine.spawn('app')
    machine.observe((event) => seen.push(event.type))
    const address = app.mmap({ length: '8k' })
    app.touch(address, '8k')
    const child = app.fork()
    app.store(address, new Uint8Array([2]))
    app.munmap(address, '8k')
    machine.observe(null)
    child.exit()
    app.exit()
    expect(seen.filter((type) => type === 'map' || type === 'cow' || type === 'unmap')).toEqual([
      'map',
      'cow',
      'unmap',
    ])
  })
})

describe('process', () => {
  it('loads what it stored, also across a page border', () => {
    const app = watchMachine(new Machine({ memory: '16M' })).spawn('app')
    const address = app.mmap({ length: '8k' })
    app.store(address + 4094, new Uint8Array([1, 2, 3, 4]))
    expect([...app.load(address + 4093, 6)]).toEqual([0, 1, 2, 3, 4, 0])
  })

  it('R-FLT-20 an access outside any mapping is SIGSEGV with SEGV_MAPERR, a forbidden one SEGV_ACCERR', () => {
    const app = watchMachine(new Machine({ memory: '16M' })).spawn('app')
    const address = app.mmap({ length: '4k', prot: 'r' })
    const outside = caught(() => app.load(0x1000, 1)) as SignalError
    const forbidden = caught(() => app.store(address, new Uint8Array(1))) as SignalError
    expect([outside.signal, outside.code, outside.address]).toEqual(['SIGSEGV', 1, 0x1000])
    expect([forbidden.signal, forbidden.code]).toEqual(['SIGSEGV', 2])
  })

  it('throws a SyscallError with the rule that refused', () => {
    const app = watchMachine(new Machine({ memory: '16M' })).spawn('app', { limits: { memlock: '64k' } })
    const address = app.mmap({ length: '1M' })
    const error = caught(() => app.mlock(address, '128k')) as SyscallError
    expect([error.code, error.errno, error.syscall]).toEqual(['ENOMEM', 12, 'mlock'])
    expect(error.reason?.rule).toBe('R-AS-90')
    expect(error.message).toContain('R-AS-90')
  })

  it('keeps a file alive through its mapping and drops it with the last one', () => {
    const machine = watchMachine(new Machine({ memory: '16M' }))
    const app = machine.spawn('app')
    const fd = app.memfdCreate('m', '8k')
    const address = app.mmap({ length: '8k', shared: true, fd })
    app.close(fd)
    app.store(address, new Uint8Array([7]))
    expect(machine.kernel.mappings.size).toBe(1)
    app.munmap(address, '8k')
    expect(machine.kernel.mappings.size).toBe(0)
  })

  it('R-FLT-74 truncation takes pages beyond the new end away from the mapping', () => {
    const app = watchMachine(new Machine({ memory: '16M' })).spawn('app')
    const fd = app.openFile('/data', '8k')
    const address = app.mmap({ length: '8k', shared: true, fd })
    app.touch(address, '8k')
    app.ftruncate(fd, '4k')
    expect((caught(() => app.load(address + 4096, 1)) as SignalError).signal).toBe('SIGBUS')
    expect([...app.load(address, 1)]).toEqual([1])
  })

  it('forks: memory is shared until written, descriptors are shared, limits are inherited', () => {
    const machine = watchMachine(new Machine({ memory: '16M' }))
    const app = machine.spawn('app', { limits: { memlock: '64k' } })
    const address = app.mmap({ length: '4k' })
    app.store(address, new Uint8Array([1]))
    const child = app.fork()
    child.store(address, new Uint8Array([2]))
    expect([app.load(address, 1)[0], child.load(address, 1)[0], child.rlimit('memlock')]).toEqual([
      1, 2, 65536,
    ])
    child.exit()
    app.exit()
    expect(machine.kernel.mms.size).toBe(0)
  })

  it('R-FLT-72 MADV_DONTNEED brings zeros back', () => {
    const app = watchMachine(new Machine({ memory: '16M' })).spawn('app')
    const address = app.mmap({ length: '4k' })
    app.store(address, new Uint8Array([9]))
    app.madvise(address, '4k', MADV_DONTNEED)
    expect([...app.load(address, 1)]).toEqual([0])
  })

  it('EBADF for closed descriptors, EMFILE when the table is full', () => {
    const app = watchMachine(new Machine({ memory: '16M' })).spawn('app', { limits: { nofile: 1 } })
    app.memfdCreate('only', '4k')
    expect((caught(() => app.memfdCreate('more', '4k')) as SyscallError).code).toBe('EMFILE')
    expect((caught(() => app.mmap({ length: '4k', fd: 7 })) as SyscallError).code).toBe('EBADF')
    expect((caught(() => app.close(7)) as SyscallError).code).toBe('EBADF')
  })
})
