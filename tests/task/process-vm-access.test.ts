import { describe, expect, test } from 'vitest'
import { PAGE_SIZE, PMD_SIZE, TASK_SIZE } from '../../src/base/units.ts'
import { PG_DIRTY } from '../../src/memory/page-flags.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { MAP_GROWSDOWN } from '../../src/mm/mman.ts'
import { MAX_RW_COUNT, type IovecArray } from '../../src/mm/iovec.ts'
import { processVmRw, type ProcessVmCall } from '../../src/task/process-vm-access.ts'
import { addTask } from '../../src/task/task.ts'
import type { Process } from '../../src/task/process.ts'
import {
  UFFDIO_REGISTER_MODE_MISSING,
  createUserfaultfd,
  uffdCopy,
  uffdRegister,
} from '../../src/mm/userfaultfd.ts'
import { AT, RELEASES, RemoteRig, outcome } from './remote-rig.ts'
import { result, testTask } from '../support/kernel.ts'

const iov = (base: number, length: number) => ({ base, length })

describe.each(RELEASES)('process_vm_readv and process_vm_writev on %s', (release) => {
  /** the raw system call, with counts of its own */
  function raw(rig: RemoteRig, call: Partial<ProcessVmCall>, write = false): number | string {
    const full: ProcessVmCall = {
      pid: rig.target.pid,
      local: [iov(rig.buffer, 8)],
      localCount: 1,
      remote: [iov(AT, 8)],
      remoteCount: 1,
      flags: 0,
      ...call,
    }
    return result(rig.caller.run(processVmRw(rig.kernel, full, write)))
  }
  const read = (rig: RemoteRig, local: IovecArray, remote: IovecArray) =>
    outcome(() => rig.caller.remote.vmRead(rig.target.pid, local, remote))
  const write = (rig: RemoteRig, local: IovecArray, remote: IovecArray) =>
    outcome(() => rig.caller.remote.vmWrite(rig.target.pid, local, remote))

  test('R-PVM-4 whatever GUP says of the other process is EFAULT here', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(1, { touched: true })
    rig.caller.fatalSignalPending = true
    expect(raw(rig, {})).toBe('-EFAULT')
    expect(rig.caller.refusal).toMatchObject({ rule: 'R-PVM-4', errno: 14, cause: { errno: 4 } })
    rig.caller.fatalSignalPending = false
    rig.target.munmap(a, PAGE_SIZE)
    expect(raw(rig, {})).toBe('-EFAULT')
    expect(rig.target.mm!.mmapLock.locked).toBe(false)
  })

  test('R-PVM-5 copies both ways across pages and entries', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(3)
    const text = new Uint8Array(6000).map((_, i) => i % 251)
    rig.caller.store(rig.buffer, text)
    expect(write(rig, [iov(rig.buffer, 1000), iov(rig.buffer + 1000, 5000)], [iov(a + 3000, 6000)])).toBe(
      6000,
    )
    expect(rig.target.load(a + 3000, 6000)).toEqual(text)
    rig.caller.store(rig.buffer, new Uint8Array(6000))
    expect(read(rig, [iov(rig.buffer, 6000)], [iov(a + 3000, 10), iov(0, 0), iov(a + 3010, 5990)])).toBe(6000)
    expect(rig.caller.load(rig.buffer, 6000)).toEqual(text)
  })

  test('REMOTE vector 28: flags before everything, even bad pointers and pids', () => {
    const rig = new RemoteRig(release)
    expect(raw(rig, { flags: 1, pid: -1, local: 'unreadable', remote: 'unreadable' })).toBe('-EINVAL')
    expect(raw(rig, { flags: 2 ** 32 })).toBe('-EINVAL')
  })

  test('REMOTE vector 29: then the local vector', () => {
    const rig = new RemoteRig(release)
    expect(raw(rig, { local: 'unreadable', pid: -1 })).toBe('-EFAULT')
  })

  test('R-PVM-1 the local vector, fault by fault', () => {
    const rig = new RemoteRig(release)
    const { buffer } = rig
    const local = (array: IovecArray, localCount: number) => raw(rig, { pid: -1, local: array, localCount })
    expect(local([iov(buffer, 8)], 1025)).toBe('-EINVAL')
    expect(local([iov(buffer, 8)], -1)).toBe('-EINVAL')
    expect(local([iov(buffer, 8)], 2)).toBe('-EFAULT')
    // lengths are looked at while the entries are copied, addresses afterwards
    expect(local([iov(buffer, -1)], 2)).toBe('-EINVAL')
    expect(local([iov(-(2 ** 47), 8), iov(buffer, -1)], 2)).toBe('-EINVAL')
    expect(local([iov(-(2 ** 47), 8)], 2)).toBe('-EFAULT')
    for (const base of [TASK_SIZE, 2 ** 47, 2 ** 63, -16]) expect(local([iov(base, 8)], 1)).toBe('-EFAULT')
    expect(local([iov(TASK_SIZE - 8, 8)], 1)).toBe('-ESRCH')
    expect(local([iov(TASK_SIZE - 8, 16), iov(buffer, 8)], 2)).toBe('-EFAULT')
    // an entry without bytes may end where user memory does, not beyond
    expect(local([iov(TASK_SIZE, 0), iov(buffer, 8)], 2)).toBe('-ESRCH')
    expect(local([iov(2 ** 47, 0), iov(buffer, 8)], 2)).toBe('-EFAULT')
  })

  test('R-PVM-1 what exceeds MAX_RW_COUNT is cut, for one entry before it is looked at', () => {
    const rig = new RemoteRig(release)
    const local = (...array: { base: number; length: number }[]) =>
      raw(rig, { pid: -1, local: array, localCount: array.length })
    const edge = TASK_SIZE - MAX_RW_COUNT
    const cut = release === '6.12' || release === '6.18' ? '-ESRCH' : '-EFAULT'
    expect(local(iov(AT, 2 ** 62))).toBe(cut)
    expect(local(iov(edge, MAX_RW_COUNT + 4096))).toBe(cut)
    expect(local(iov(edge, MAX_RW_COUNT))).toBe('-ESRCH')
    expect(local(iov(edge + 1, MAX_RW_COUNT + 4096))).toBe('-EFAULT')
    expect(local(iov(rig.buffer, 0), iov(edge, MAX_RW_COUNT + 1))).toBe('-EFAULT')
    expect(local(iov(rig.buffer, MAX_RW_COUNT), iov(-(2 ** 47), 8))).toBe('-EFAULT')
    expect(local(iov(rig.buffer, 2 ** 47), iov(rig.buffer, 8))).toBe('-EFAULT')
  })

  test('REMOTE vector 30: nothing local, nothing else is looked at', () => {
    const rig = new RemoteRig(release)
    expect(raw(rig, { localCount: 0, remote: 'unreadable', remoteCount: 1025, pid: -1 })).toBe(0)
    expect(raw(rig, { local: [iov(rig.buffer, 0)], remote: 'unreadable', pid: -1 })).toBe(0)
  })

  test('REMOTE vector 31: then the remote vector, then whether it asks for anything', () => {
    const rig = new RemoteRig(release)
    expect(raw(rig, { remoteCount: 1025, pid: -1 })).toBe('-EINVAL')
    expect(raw(rig, { remoteCount: 0, pid: -1 })).toBe(0)
    expect(raw(rig, { remote: [iov(-4096, 0)], pid: -1 })).toBe(0)
    expect(raw(rig, { remote: 'unreadable', pid: -1 })).toBe('-EFAULT')
    expect(raw(rig, { remote: [iov(AT, -1)], remoteCount: 2, pid: -1 })).toBe('-EINVAL')
    expect(raw(rig, { remote: [iov(AT, 0)], remoteCount: 2, pid: -1 })).toBe('-EFAULT')
  })

  test('REMOTE vector 32: unknown pid, kernel thread, zombie', () => {
    const rig = new RemoteRig(release)
    const thread = Object.assign(testTask(rig.kernel, { mm: null, uid: 0 }), {
      gid: 0,
      parent: null,
      trace: null,
      stopped: false,
    })
    addTask(rig.kernel, thread)
    expect(raw(rig, { pid: 999_999 })).toBe('-ESRCH')
    expect(raw(rig, { pid: thread.pid })).toBe('-ESRCH')
    rig.target.exit()
    expect(raw(rig, {})).toBe('-ESRCH')
  })

  test('REMOTE vector 33: another user, and what gives the right', () => {
    const denied = (caller: object, target: object, change?: (target: Process) => void) => {
      const rig = new RemoteRig(release, { caller, target })
      rig.map(1)
      change?.(rig.target)
      return raw(rig, {})
    }
    expect(denied({ uid: 1000 }, { uid: 0 })).toBe('-EPERM')
    expect(denied({ uid: 1000 }, { uid: 1000, gid: 5 })).toBe('-EPERM')
    expect(denied({ uid: 1000 }, { uid: 1000, capabilities: ['CAP_SYS_NICE'] })).toBe('-EPERM')
    expect(denied({ uid: 0, capabilities: ['CAP_SYS_ADMIN'] }, { uid: 1000 })).toBe('-EPERM')
    const undumpable = (target: Process): void => void (target.mm!.dumpable = false)
    expect(denied({}, {}, undumpable)).toBe('-EPERM')
    expect(denied({}, {})).toBe(8)
    expect(denied({ capabilities: ['CAP_SYS_NICE'] }, { capabilities: ['CAP_SYS_NICE'] })).toBe(8)
    const tracer = { uid: 1, capabilities: ['CAP_SYS_PTRACE'] }
    expect(denied(tracer, { uid: 0, capabilities: ['CAP_SYS_ADMIN'] }, undumpable)).toBe(8)
  })

  test('R-PVM-1 one’s own memory is always permitted', () => {
    const rig = new RemoteRig(release)
    rig.caller.mm!.dumpable = false
    const remote = [iov(rig.buffer + 100, 8)]
    rig.caller.store(rig.buffer + 100, new Uint8Array([7]))
    expect(raw(rig, { pid: rig.caller.pid, remote })).toBe(8)
    expect(rig.caller.load(rig.buffer, 1)[0]).toBe(7)
  })

  test('REMOTE vector 34: what lies behind a hole is not reached', () => {
    const rig = new RemoteRig(release)
    const a = rig.mapHoleMap()
    const all = iov(rig.buffer, 3 * PAGE_SIZE)
    const pages = [0, 1, 2].map((i) => iov(a + i * PAGE_SIZE, PAGE_SIZE))
    expect(read(rig, [all], pages)).toBe(PAGE_SIZE)
    expect(read(rig, [all], [pages[1]!, pages[2]!])).toBe('-EFAULT')
    expect(read(rig, [all], [iov(a, 3 * PAGE_SIZE)])).toBe(PAGE_SIZE)
    expect(read(rig, [all], [iov(a + 100, 3 * PAGE_SIZE)])).toBe(PAGE_SIZE - 100)
  })

  test('REMOTE vector 35: the local side stops at the byte', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(2, { touched: true })
    rig.caller.mprotect(rig.buffer + PAGE_SIZE, PAGE_SIZE, 'r')
    expect(read(rig, [iov(rig.buffer + PAGE_SIZE - 100, 500)], [iov(a, 500)])).toBe(100)
    expect(read(rig, [iov(rig.buffer + PAGE_SIZE, 500)], [iov(a, 500)])).toBe('-EFAULT')
    rig.caller.mprotect(rig.buffer + PAGE_SIZE, PAGE_SIZE, '')
    expect(write(rig, [iov(rig.buffer + PAGE_SIZE - 100, 500)], [iov(a, 500)])).toBe(100)
    expect(write(rig, [iov(rig.buffer + PAGE_SIZE, 500)], [iov(a, 500)])).toBe('-EFAULT')
  })

  test('R-PVM-13 an overlapping copy reads what it has written', () => {
    const rig = new RemoteRig(release)
    const { buffer, caller } = { buffer: rig.buffer, caller: rig.caller }
    const self = caller.pid
    const start = (): void =>
      caller.store(
        buffer,
        new Uint8Array(20).map((_, i) => i + 1),
      )
    start()
    expect(caller.remote.vmWrite(self, [iov(buffer, 10)], [iov(buffer + 3, 10)])).toBe(10)
    expect([...caller.load(buffer, 14)]).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 14])
    start()
    expect(caller.remote.vmRead(self, [iov(buffer + 3, 10)], [iov(buffer, 10)])).toBe(10)
    expect([...caller.load(buffer, 14)]).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 14])
    start()
    expect(caller.remote.vmRead(self, [iov(buffer, 10)], [iov(buffer + 3, 10)])).toBe(10)
    expect([...caller.load(buffer, 14)]).toEqual([4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 11, 12, 13, 14])
  })

  test('R-PVM-7 entries of different lengths', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(1, { touched: true })
    const { buffer } = rig
    const local = [iov(buffer, 7), iov(buffer + 50, 0), iov(buffer + 100, 100)]
    expect(read(rig, local, [iov(a, 10), iov(a + 500, 20)])).toBe(30)
  })

  test('R-HTL-6 no force on huge pages either; PEEK makes one behind PROT_NONE', () => {
    const rig = new RemoteRig(release)
    hugetlbPool(rig.kernel, PMD_SIZE).resize(2)
    const a = rig.map(512, { at: 0x40000000, hugetlb: true, prot: 'r' })
    expect(write(rig, [iov(rig.buffer, 8)], [iov(a, 8)])).toBe('-EFAULT')
    const b = rig.map(512, { at: 0x40000000 + PMD_SIZE, hugetlb: true, prot: '' })
    rig.caller.remote.attach(rig.target.pid)
    expect(rig.caller.remote.peek(rig.target.pid, b + 9)).toEqual(new Uint8Array(8))
    expect(rig.pfn(rig.target, b)).toBeGreaterThan(0)
  })

  test('R-PVM-7 no force, no kernel addresses, no wrapping', () => {
    const rig = new RemoteRig(release)
    const here = [iov(rig.buffer, 8)]
    const a = rig.map(1, { prot: 'r', touched: true })
    expect(write(rig, here, [iov(a, 8)])).toBe('-EFAULT')
    expect(read(rig, here, [iov(a, 2 ** 62)])).toBe(8)
    rig.target.mprotect(a, PAGE_SIZE, '')
    expect(read(rig, here, [iov(a, 8)])).toBe('-EFAULT')
    expect(read(rig, here, [iov(-4096, 4096)])).toBe('-EFAULT')
    expect(read(rig, here, [iov(-4096, 8192)])).toBe('-EFAULT')
  })

  test('REMOTE vector 36, R-PVM-11, R-COM-3: a pin per page and batch, and none left', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(4, { touched: true })
    const four = [iov(rig.buffer, 4 * PAGE_SIZE)]
    expect(rig.pins(() => read(rig, four, [iov(a, 4 * PAGE_SIZE)]))).toEqual([4, 4])
  })

  test('REMOTE vector 37, R-COM-4: the zero page is mapped, and pinned by the series only', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(1)
    const counted = release === 'gup-v3' ? 1 : 0
    expect(rig.pins(() => expect(read(rig, [iov(rig.buffer, 8)], [iov(a, 8)])).toBe(8))).toEqual([
      counted,
      counted,
    ])
    expect(rig.pfn(rig.target, a)).toBe(rig.kernel.zeroPfn)
  })

  test('REMOTE vector 38, R-PVM-8: the remote length decides how much is faulted in and pinned', () => {
    const rig = new RemoteRig(release)
    const length = 16 * 2 ** 20
    const a = rig.map(length / PAGE_SIZE)
    const eight = [iov(rig.buffer, 8)]
    const before = rig.target.mm!.rssAnon
    expect(rig.pins(() => expect(write(rig, eight, [iov(a, length)])).toBe(8))).toEqual([1024, 1024])
    expect(rig.target.mm!.rssAnon - before).toBe(1024)
    expect(rig.pins(() => read(rig, eight, [iov(a, length)]))).toEqual([1024, 1024])
    expect(rig.target.mm!.rssAnon - before).toBe(1024)
  })

  test('R-PVM-3 batches of 1024 pages, the first one cut by the offset', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(1030)
    rig.target.store(a + 1024 * PAGE_SIZE, new Uint8Array([9]))
    const local = rig.caller.mmap({ length: 1030 * PAGE_SIZE })
    const wanted = 1024 * PAGE_SIZE + 50
    const pins = rig.pins(() => expect(write(rig, [iov(local, wanted)], [iov(a + 10, wanted)])).toBe(wanted))
    expect(pins).toEqual([1025, 1025])
  })

  test('REMOTE vector 39, R-COM-6, R-PVM-9: a shared page is unshared by a read, through mem it is not', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(1, { touched: true })
    const child = rig.target.fork()
    const shared = rig.pfn(child, a)
    rig.caller.remote.openMem(child.pid).pread(rig.buffer, 8, a)
    expect(rig.pfn(child, a)).toBe(shared)
    expect(rig.caller.remote.vmRead(child.pid, [iov(rig.buffer, 8)], [iov(a, 8)])).toBe(8)
    expect(rig.pfn(child, a)).not.toBe(shared)
    expect(rig.pfn(rig.target, a)).toBe(shared)
    expect(child.mm!.hasPinned).toBe(true)
  })

  test('REMOTE vector 40, R-PVM-6: writev dirties what it pinned, copied or not; readv does not', () => {
    const rig = new RemoteRig(release)
    const a = rig.mapFile('memfd', { shared: true, pages: 2 })
    rig.target.load(a, 1)
    const dirty = () => rig.kernel.memory.frames.has(rig.pfn(rig.target, a), PG_DIRTY)
    const clean = () => rig.kernel.memory.frames.clear(rig.pfn(rig.target, a), PG_DIRTY)
    clean()
    expect(read(rig, [iov(rig.buffer, 8)], [iov(a, 8)])).toBe(8)
    expect(dirty()).toBe(false)
    rig.caller.mprotect(rig.buffer, PAGE_SIZE, '')
    expect(write(rig, [iov(rig.buffer, 8)], [iov(a, 8)])).toBe('-EFAULT')
    expect(dirty()).toBe(true)
  })

  test('REMOTE vector 41, R-COM-2: a page that a userfaultfd serves is waited for, unless the lock must be kept', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(1)
    const { kernel: k, target, caller } = rig
    const uffd = createUserfaultfd(k)
    target.run(uffdRegister(k, uffd, target.mm!, a, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    caller.remote.attach(target.pid)
    expect(outcome(() => caller.remote.peek(target.pid, a))).toBe('-EIO')
    expect(outcome(() => caller.remote.openMem(target.pid).pread(rig.buffer, 8, a))).toBe('-EIO')
    const call = { local: [iov(rig.buffer, 8)], remote: [iov(a, 8)], localCount: 1, remoteCount: 1, flags: 0 }
    const waiting = k.scheduler.spawn('reader', caller, processVmRw(k, { ...call, pid: target.pid }, false))
    k.scheduler.runUntilIdle()
    expect(waiting.done).toBe(false)
    target.run(uffdCopy(k, uffd, target.mm!, a, new Uint8Array(PAGE_SIZE).fill(5)))
    k.scheduler.run()
    expect(waiting.result).toBe(8)
    expect(caller.load(rig.buffer, 1)[0]).toBe(5)
  })

  test('R-COM-5 faults are the caller’s, not those of the process it looks into', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(32)
    const mem = rig.caller.remote.openMem(rig.target.pid)
    const [reader, target] = [rig.caller.minFlt, rig.target.minFlt]
    for (let i = 0; i < 32; i++) mem.pread(rig.buffer, 1, a + i * PAGE_SIZE)
    // one more for the buffer
    expect([rig.caller.minFlt - reader, rig.target.minFlt - target]).toEqual([33, 0])
    const file = rig.mapFile('ext4', { at: AT + 64 * PAGE_SIZE })
    mem.pread(rig.buffer, 1, file)
    expect([rig.caller.majFlt, rig.target.majFlt, rig.kernel.pgmajfault]).toEqual([1, 0, 1])
  })

  test(
    release === 'gup-v3'
      ? 'REMOTE vector 16, R-PVM-10: below a stack, which grows'
      : 'REMOTE vector 15, R-PVM-10: below a stack, which does not grow',
    () => {
      const rig = new RemoteRig(release)
      const stack = rig.map(2, { at: 0x20000000, flags: MAP_GROWSDOWN, touched: true })
      expect(read(rig, [iov(rig.buffer, 8)], [iov(stack - 8, 8)])).toBe(release === 'gup-v3' ? 8 : '-EFAULT')
      expect(rig.mapping(rig.target, stack)!.start).toBe(release === 'gup-v3' ? stack - PAGE_SIZE : stack)
      const warned = rig.kernel.warnings.length
      expect(warned).toBe(release === 'gup-v3' || release === '6.1' ? 0 : 1)
      // from further off than 64 KiB nobody would have meant the stack
      const other = new RemoteRig(release)
      const far = other.map(2, { at: 0x20000000, flags: MAP_GROWSDOWN, touched: true }) - 65536 - 8
      expect(read(other, [iov(other.buffer, 8)], [iov(far, 8)])).toBe(release === 'gup-v3' ? 8 : '-EFAULT')
      expect(other.kernel.warnings).toEqual([])
    },
  )

  test('R-PVM-11 the target exits while the caller waits: its memory goes with the last user', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(2)
    const { kernel: k, target, caller } = rig
    const uffd = createUserfaultfd(k)
    target.run(uffdRegister(k, uffd, target.mm!, a, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING))
    const { mm } = target
    const call = { local: [iov(rig.buffer, 8)], remote: [iov(a, 8)], localCount: 1, remoteCount: 1, flags: 0 }
    const waiting = k.scheduler.spawn('reader', caller, processVmRw(k, { ...call, pid: target.pid }, false))
    k.scheduler.runUntilIdle()
    target.exit()
    expect(k.mms.has(mm!)).toBe(true)
    caller.run(uffdCopy(k, uffd, mm!, a, new Uint8Array(PAGE_SIZE)))
    k.scheduler.run()
    expect(waiting.result).toBe(8)
    expect(k.mms.has(mm!)).toBe(false)
  })
})
