import { describe, expect, test } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { procMemOpen } from '../../src/task/proc-mem.ts'
import { procRwAt } from '../../src/task/proc-file.ts'
import { result, testTask } from '../support/kernel.ts'
import { AT, RELEASES, RemoteRig, outcome } from './remote-rig.ts'

describe.each(RELEASES)('/proc/PID/mem on %s', (release) => {
  const open = (rig: RemoteRig) => rig.caller.remote.openMem(rig.target.pid)

  test('REMOTE vector 17, R-MEM-4: reads end at a hole', () => {
    const rig = new RemoteRig(release)
    const a = rig.mapHoleMap()
    const mem = open(rig)
    expect(mem.pread(rig.buffer, 3 * PAGE_SIZE, a)).toBe(PAGE_SIZE)
    expect(mem.pread(rig.buffer, 3 * PAGE_SIZE, a + 100)).toBe(PAGE_SIZE - 100)
    expect(mem.pwrite(rig.buffer, 3 * PAGE_SIZE, a + 100)).toBe(PAGE_SIZE - 100)
    // also where all of the caller's bytes were taken at once
    expect(mem.pwrite(rig.buffer, PAGE_SIZE, a + 100)).toBe(PAGE_SIZE - 100)
  })

  test('REMOTE vector 18: starting in a hole', () => {
    const rig = new RemoteRig(release)
    const a = rig.mapHoleMap() + PAGE_SIZE
    expect(outcome(() => open(rig).pread(rig.buffer, 1, a))).toBe('-EIO')
    expect(outcome(() => open(rig).pwrite(rig.buffer, 1, a))).toBe('-EIO')
    expect(open(rig).pread(rig.buffer, 0, a)).toBe(0)
  })

  test('REMOTE vector 19: the caller’s buffer overrides what was moved', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(2, { touched: true })
    const mem = open(rig)
    rig.caller.store(rig.buffer, new Uint8Array(PAGE_SIZE).fill(9))
    rig.caller.munmap(rig.buffer + PAGE_SIZE, PAGE_SIZE)
    expect(outcome(() => mem.pwrite(rig.buffer, 2 * PAGE_SIZE, a))).toBe('-EFAULT')
    expect(rig.target.load(a, PAGE_SIZE)).toEqual(new Uint8Array(PAGE_SIZE).fill(9))
    expect(rig.target.load(a + PAGE_SIZE, 1)[0]).toBe(1)
    mem.seek(a)
    expect(outcome(() => mem.write(rig.buffer, 2 * PAGE_SIZE))).toBe('-EFAULT')
    expect(outcome(() => mem.read(rig.buffer, 2 * PAGE_SIZE))).toBe('-EFAULT')
    expect(mem.position).toBe(a)
  })

  test('R-MEM-6 a short read moves the position by what it read', () => {
    const rig = new RemoteRig(release)
    const a = rig.mapHoleMap()
    const mem = open(rig)
    mem.seek(a + 96)
    expect([mem.read(rig.buffer, 3 * PAGE_SIZE), mem.position]).toEqual([PAGE_SIZE - 96, a + PAGE_SIZE])
    expect(outcome(() => mem.read(rig.buffer, 1))).toBe('-EIO')
  })

  test('R-MEM-7 offsets from 2^63 up need a position; past 2^64 they overflow', () => {
    const rig = new RemoteRig(release)
    const mem = open(rig)
    expect(outcome(() => mem.pread(rig.buffer, 10, -5))).toBe('-EINVAL')
    mem.seek(2 ** 64 - 4096)
    expect(outcome(() => mem.read(rig.buffer, 10))).toBe('-EIO')
    expect(outcome(() => mem.read(rig.buffer, 4095))).toBe('-EIO')
    expect(outcome(() => mem.read(rig.buffer, 4096))).toBe('-EOVERFLOW')
  })

  test('R-MEM-5 a buffer that is no user memory is EFAULT before anything, for no bytes, too', () => {
    const rig = new RemoteRig(release)
    const mem = open(rig)
    expect(outcome(() => mem.pread(2 ** 47, 0, 0))).toBe('-EFAULT')
    expect(outcome(() => mem.pread(rig.buffer, 2 ** 62, 0))).toBe('-EFAULT')
  })

  test('REMOTE vector 20, R-MEM-2: the address space of the time of opening', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(1, { touched: true })
    const mem = open(rig)
    rig.target.exit()
    expect([mem.pread(rig.buffer, 8, a), mem.pwrite(rig.buffer, 8, a)]).toEqual([0, 0])
  })

  const needsMm = release === '6.12' || release === '6.18'
  test(`${needsMm ? 'REMOTE vector 21:' : release === '6.1' ? 'REMOTE vector 22:' : 'R-MEM-1'} a task without address space`, () => {
    const rig = new RemoteRig(release)
    const thread = Object.assign(testTask(rig.kernel, { mm: null, uid: 0 }), {
      gid: 0,
      parent: null,
      trace: null,
      stopped: false,
    })
    const file = rig.caller.run(procMemOpen(rig.kernel, thread))
    if (typeof file === 'number') expect(result(file)).toBe(needsMm ? '-ESRCH' : 'opened')
    else expect(rig.caller.run(procRwAt(rig.kernel, file, false, rig.buffer, 8, 0))).toBe(0)
  })

  test('R-MEM-1 another user may not open it, oneself always', () => {
    const rig = new RemoteRig(release, { target: { uid: 5 } })
    expect(outcome(() => open(rig))).toBe('-EACCES')
    expect(outcome(() => rig.caller.remote.openMem(99))).toBe('-ESRCH')
    rig.caller.mm!.dumpable = false
    expect(rig.caller.remote.openMem(rig.caller.pid).pread(rig.buffer, 8, rig.buffer)).toBe(8)
  })

  const asks = release !== 'gup-v3'
  test(`${release === '6.1' || release === '6.12' ? 'REMOTE vector 23:' : 'R-MEM-9'} proc_mem.force_override=never`, () => {
    const rig = new RemoteRig(release, { settings: { procMemForce: 'never' } })
    const a = rig.map(2, { prot: 'r', touched: true })
    const mem = open(rig)
    expect(outcome(() => mem.pwrite(rig.buffer, 3, a))).toBe(asks ? '-EIO' : 3)
    expect(mem.pread(rig.buffer, 3, a)).toBe(3)
    rig.target.mprotect(a, PAGE_SIZE, '')
    expect(outcome(() => mem.pread(rig.buffer, 3, a))).toBe(asks ? '-EIO' : 3)
  })

  test(`${release === '6.6' ? 'R-MEM-8' : 'REMOTE vector 24:'} proc_mem.force_override=always`, () => {
    const rig = new RemoteRig(release)
    const a = rig.map(1, { prot: 'r', touched: true })
    rig.caller.store(rig.buffer, new Uint8Array([7, 8, 9]))
    expect(open(rig).pwrite(rig.buffer, 3, a)).toBe(3)
    expect([...rig.target.load(a, 4)]).toEqual([7, 8, 9, 0])
    rig.target.mprotect(a, PAGE_SIZE, '')
    expect(open(rig).pread(rig.buffer, 3, a)).toBe(3)
  })

  test('FLT vector 68: what a write may force: a private copy, not a shared page', () => {
    const rig = new RemoteRig(release)
    const { target } = rig
    const mem = open(rig)
    rig.caller.store(rig.buffer, new Uint8Array([7]))
    const own = rig.mapFile('ext4', { prot: 'r' })
    target.load(own, 1)
    const cached = rig.pfn(target, own)
    expect(mem.pwrite(rig.buffer, 1, own)).toBe(1)
    expect([rig.pfn(target, own) === cached, target.load(own, 1)[0]]).toEqual([false, 7])
    const shared = rig.mapFile('memfd', { prot: 'r', shared: true, at: AT + 16 * PAGE_SIZE })
    target.load(shared, 1)
    expect(outcome(() => mem.pwrite(rig.buffer, 1, shared))).toBe('-EIO')
    const closed = rig.map(1, { at: AT + 32 * PAGE_SIZE, touched: true, prot: '' })
    expect(mem.pwrite(rig.buffer, 1, closed)).toBe(1)
    target.mprotect(closed, PAGE_SIZE, 'r')
    expect(target.load(closed, 1)[0]).toBe(7)
  })

  test('R-MEM-8 proc_mem.force_override=ptrace asks who traces the process', () => {
    const rig = new RemoteRig(release, { settings: { procMemForce: 'ptrace' } })
    const a = rig.map(1, { prot: 'r', touched: true })
    const mem = open(rig)
    expect(outcome(() => mem.pwrite(rig.buffer, 3, a))).toBe(asks ? '-EIO' : 3)
    rig.caller.remote.attach(rig.target.pid)
    expect(outcome(() => mem.pwrite(rig.buffer, 3, a))).toBe(3)
  })
})
