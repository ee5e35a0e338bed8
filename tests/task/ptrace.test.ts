import { describe, expect, test } from 'vitest'
import { rootRefusal } from '../../src/base/refusal.ts'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { SECRETMEM, regularFileKind } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { MAP_GROWSDOWN } from '../../src/mm/mman.ts'
import type { ProcessOptions } from '../../src/task/process.ts'
import { ptracePeekData } from '../../src/task/ptrace.ts'
import { result } from '../support/kernel.ts'
import { AT, RELEASES, RemoteRig, outcome } from './remote-rig.ts'

const WORD = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8])

describe.each(RELEASES)('PTRACE_PEEKDATA and PTRACE_POKEDATA on %s', (release) => {
  function traced(options: ConstructorParameters<typeof RemoteRig>[1] = {}): RemoteRig {
    const rig = new RemoteRig(release, options)
    rig.caller.remote.attach(rig.target.pid)
    return rig
  }
  const peek = (rig: RemoteRig, address: number) =>
    outcome(() => [...rig.caller.remote.peek(rig.target.pid, address)])
  const poke = (rig: RemoteRig, address: number) =>
    outcome(() => rig.caller.remote.poke(rig.target.pid, address, WORD))
  const ok = undefined
  const zero = [0, 0, 0, 0, 0, 0, 0, 0]

  test('R-PTR-8 Yama: who may take hold of a process of the same user', () => {
    const capable = { capabilities: ['CAP_SYS_PTRACE' as const] }
    const hold = (ptraceScope: 0 | 1 | 2 | 3, caller: ProcessOptions = {}): unknown[] => {
      const rig = new RemoteRig(release, { settings: { ptraceScope }, caller })
      const child = rig.caller.fork('child')
      const grandchild = child.fork('grandchild')
      const vector = [{ base: rig.buffer, length: 8 }]
      const answers = [rig.target, child, grandchild, rig.caller].map(({ pid }) =>
        outcome(() => rig.caller.remote.vmRead(pid, vector, vector)),
      )
      // looking at it is not what Yama is asked about
      expect(outcome(() => rig.caller.remote.openEnviron(rig.target.pid))).not.toBe('-EACCES')
      const attached = outcome(() => rig.caller.remote.attach(rig.target.pid))
      child.exit()
      answers.push(outcome(() => rig.caller.remote.vmRead(grandchild.pid, vector, vector)))
      grandchild.exit()
      return [...answers, attached]
    }
    // the target has nothing where the buffer is
    expect(hold(0)).toEqual(['-EFAULT', 8, 8, 8, 8, undefined])
    expect(hold(1)).toEqual(['-EPERM', 8, 8, 8, '-EPERM', '-EPERM'])
    expect(hold(1, capable)).toEqual(['-EFAULT', 8, 8, 8, 8, undefined])
    expect(hold(2)).toEqual(['-EPERM', '-EPERM', '-EPERM', 8, '-EPERM', '-EPERM'])
    expect(hold(2, capable)).toEqual(['-EFAULT', 8, 8, 8, 8, undefined])
    expect(hold(3, capable)).toEqual(['-EPERM', '-EPERM', '-EPERM', 8, '-EPERM', '-EPERM'])
  })

  test('REMOTE vector 1: PEEK of untouched PROT_NONE maps the zero page', () => {
    const rig = traced()
    const a = rig.map(1, { prot: '' })
    expect(peek(rig, a)).toEqual(zero)
    expect(rig.pfn(rig.target, a)).toBe(rig.kernel.zeroPfn)
    expect(rig.mapping(rig.target, a)).toMatchObject({ readable: false, writable: false })
  })

  test('REMOTE vector 2: POKE of PROT_NONE makes a page, the protection stays', () => {
    const rig = traced()
    const a = rig.map(1, { prot: '' })
    expect(poke(rig, a)).toBe(ok)
    expect(rig.pfn(rig.target, a)).not.toBe(rig.kernel.zeroPfn)
    expect(rig.target.mm!.rssAnon).toBe(1)
    expect(rig.mapping(rig.target, a)).toMatchObject({ readable: false, writable: false })
    expect(peek(rig, a)).toEqual([...WORD])
  })

  test('REMOTE vector 3: POKE of a private read-only file mapping copies the page', () => {
    const rig = traced()
    const a = rig.mapFile('ext4', { prot: 'r' })
    rig.target.load(a, 1)
    const cached = rig.pfn(rig.target, a)
    const { rssFile, rssAnon } = rig.target.mm!
    expect(poke(rig, a)).toBe(ok)
    expect(rig.target.load(a, 8)).toEqual(WORD)
    expect(rig.target.mm).toMatchObject({ rssFile: rssFile - 1, rssAnon: rssAnon + 1 })
    const content = new Uint8Array(8)
    rig.kernel.memory.contents.read(cached, 0, content)
    expect([...content]).toEqual(zero)
  })

  test('REMOTE vector 4: a shared read-only mapping cannot be poked', () => {
    const rig = traced()
    const a = rig.mapFile('memfd', { prot: 'r', shared: true })
    expect(poke(rig, a)).toBe('-EIO')
    expect(peek(rig, a)).toEqual(zero)
    rig.target.mprotect(a, PAGE_SIZE, 'rw')
    expect(poke(rig, a)).toBe(ok)
  })

  test('REMOTE vector 5, R-PTR-5: POKE across a border writes what it can and fails', () => {
    const rig = traced()
    const a = rig.map(1, { touched: true })
    expect(poke(rig, a + PAGE_SIZE - 4)).toBe('-EIO')
    expect([...rig.target.load(a + PAGE_SIZE - 4, 4)]).toEqual([1, 2, 3, 4])
  })

  test('REMOTE vector 6: PEEK across a border fails', () => {
    const rig = traced()
    expect(peek(rig, rig.map(1, { touched: true }) + PAGE_SIZE - 4)).toBe('-EIO')
  })

  test('REMOTE vector 7: any alignment, across two mapped pages', () => {
    const rig = traced()
    const a = rig.map(2)
    rig.target.store(a + PAGE_SIZE - 3, WORD)
    expect(peek(rig, a + PAGE_SIZE - 3)).toEqual([...WORD])
  })

  test('REMOTE vector 8: secretmem', () => {
    const rig = traced()
    const a = rig.mapFile(SECRETMEM, { shared: true })
    expect([peek(rig, a), poke(rig, a)]).toEqual(['-EIO', '-EIO'])
  })

  test('R-PTR-6, R-GAT-4 beyond the end of a file, address 0, kernel addresses, the vsyscall page', () => {
    const rig = traced()
    const fd = rig.target.memfdCreate('short', PAGE_SIZE)
    const a = rig.target.mmap({ length: 2 * PAGE_SIZE, fd, shared: true })
    for (const address of [a + PAGE_SIZE, 0, 2 ** 64 - 4096, 0xffffffffff600000]) {
      expect([peek(rig, address), poke(rig, address)]).toEqual(['-EIO', '-EIO'])
    }
  })

  test('R-PTR-6 what a POKE may overrule, mapping by mapping', () => {
    const rig = traced()
    const { target, kernel: k } = rig
    const closed = (): number =>
      target.install(
        createFile(k, regularFileKind('ext4'), { path: '/ro', size: PAGE_SIZE, writable: false }),
      )
    const rows: [string, number, string | undefined][] = [
      ['private, PROT_READ', target.mmap({ length: PAGE_SIZE, prot: 'r' }), ok],
      ['private, PROT_NONE', target.mmap({ length: PAGE_SIZE, prot: '' }), ok],
      ['private, PROT_WRITE', target.mmap({ length: PAGE_SIZE, prot: 'w' }), ok],
      ['private file opened for reading', target.mmap({ length: PAGE_SIZE, prot: 'r', fd: closed() }), ok],
      ['shared file, read-only', rig.mapFile('ext4', { prot: 'r', shared: true }), '-EIO'],
      [
        'shared file opened for reading',
        target.mmap({ length: PAGE_SIZE, prot: 'r', shared: true, fd: closed() }),
        '-EIO',
      ],
      ['shared file, writable', rig.mapFile('ext4', { shared: true, at: AT + PAGE_SIZE }), ok],
    ]
    const before = rows.map(([, at]) => rig.mapping(target, at))
    expect(rows.map(([name, at]) => [name, poke(rig, at)])).toEqual(rows.map(([name, , as]) => [name, as]))
    expect(rows.map(([, at]) => rig.mapping(target, at))).toEqual(before)
    const seen = rows.map(([, at, as]) => [peek(rig, at), as === ok ? [...WORD] : zero])
    for (const [got, wanted] of seen) expect(got).toEqual(wanted)
    const image = { segments: [], startBrk: 0x407000, code: [0, 0], data: [0, 0] } as const
    target.exec({ path: '/bin/x', image })
    const guard = target.mm!.mmapLock.tryRead()!
    let vma = guard.vmas.first
    while (vma !== null && vma.specialName !== '[vvar]') vma = vma.next
    const vvar = vma!.start
    guard.release()
    expect([peek(rig, vvar), poke(rig, vvar)]).toEqual(['-EIO', '-EIO'])
  })

  const hugetlbForced = release === '6.18'
  test(
    hugetlbForced
      ? 'REMOTE vector 10, R-COM-8: a forced write to private hugetlb, the parent keeps its copy'
      : 'REMOTE vector 9, R-COM-8: no forced write to private hugetlb',
    () => {
      const rig = traced()
      hugetlbPool(rig.kernel, 2 ** 21).resize(3)
      const a = rig.map(512, { at: 0x40000000, hugetlb: true })
      rig.target.touch(a, 1)
      const child = rig.target.fork()
      rig.target.mprotect(a, 2 ** 21, 'r')
      expect(poke(rig, a)).toBe(hugetlbForced ? ok : '-EIO')
      if (!hugetlbForced) expect(rootRefusal(rig.caller.refusal!).rule).toBe('R-GUP-16.8')
      expect(child.load(a, 1)[0]).toBe(1)
      child.exit()
    },
  )

  test('REMOTE vector 11: a tracee that runs', () => {
    const rig = traced()
    const a = rig.map(1)
    rig.caller.remote.cont(rig.target.pid)
    expect([peek(rig, a), poke(rig, a)]).toEqual(['-ESRCH', '-ESRCH'])
  })

  test('R-PTR-1 no tracee, somebody else’s, a dead one, an unknown pid', () => {
    const rig = new RemoteRig(release)
    const a = rig.map(1)
    expect(peek(rig, a)).toBe('-ESRCH')
    rig.machine.spawn('other').remote.attach(rig.target.pid)
    expect(peek(rig, a)).toBe('-ESRCH')
    expect(outcome(() => rig.caller.remote.attach(rig.target.pid))).toBe('-EPERM')
    expect(outcome(() => rig.caller.remote.attach(rig.caller.pid))).toBe('-EPERM')
    rig.target.exit()
    expect(peek(rig, a)).toBe('-ESRCH')
    expect(outcome(() => rig.caller.remote.attach(4711))).toBe('-ESRCH')
  })

  test('R-PTR-1 detached, and when the tracer is gone', () => {
    const rig = traced()
    const a = rig.map(1)
    rig.caller.remote.detach(rig.target.pid)
    expect(peek(rig, a)).toBe('-ESRCH')
    rig.caller.remote.attach(rig.target.pid)
    rig.caller.exit()
    expect(rig.target).toMatchObject({ trace: null, stopped: false })
  })

  test('REMOTE vector 12: a tracee that stops being dumpable', () => {
    const rig = traced()
    const a = rig.map(1)
    rig.target.store(a, WORD)
    const { pid } = rig.target
    const { remote } = rig.caller
    const mem = remote.openMem(pid)
    rig.target.mm!.dumpable = false
    expect([peek(rig, a), poke(rig, a)]).toEqual(['-EIO', '-EIO'])
    const piece = { length: 8 }
    expect(outcome(() => remote.vmRead(pid, [{ base: rig.buffer, ...piece }], [{ base: a, ...piece }]))).toBe(
      '-EPERM',
    )
    expect(mem.pread(rig.buffer, 8, a)).toBe(8)
    expect(rig.caller.load(rig.buffer, 8)).toEqual(WORD)
    expect(outcome(() => remote.openMem(pid))).toBe('-EACCES')
  })

  test('R-PTR-2 a tracer that had CAP_SYS_PTRACE when it attached looks on', () => {
    const rig = traced({ caller: { capabilities: ['CAP_SYS_PTRACE'] } })
    const a = rig.map(1)
    rig.target.mm!.dumpable = false
    expect(peek(rig, a)).toEqual(zero)
  })

  test(`${release === 'gup-v3' || release === '6.6' ? 'R-ARV-9' : 'REMOTE vector 13:'} PEEK below a stack grows it`, () => {
    const rig = traced()
    const stack = rig.map(2, { at: 0x20000000, flags: MAP_GROWSDOWN, touched: true })
    expect(peek(rig, stack - 3 * PAGE_SIZE)).toEqual(zero)
    expect(rig.mapping(rig.target, stack)!.start).toBe(stack - 3 * PAGE_SIZE)
  })

  test(`${release === '6.12' || release === '6.18' ? 'REMOTE vector 14:' : 'R-ARV-9'} the caller’s RLIMIT_STACK bounds it`, () => {
    const rig = traced({ caller: { limits: { stack: '256k' } } })
    const stack = rig.map(1, { at: 0x20000000, flags: MAP_GROWSDOWN, touched: true })
    const mem = rig.caller.remote.openMem(rig.target.pid)
    expect(outcome(() => mem.pread(rig.buffer, 1, stack - 512 * 1024))).toBe('-EIO')
    expect(peek(rig, stack - 512 * 1024)).toBe('-EIO')
    expect(rig.mapping(rig.target, stack)!.start).toBe(stack)
    rig.target.setLimit('stack', '64k')
    rig.caller.setLimit('stack', '8M')
    expect(mem.pread(rig.buffer, 1, stack - 512 * 1024)).toBe(1)
  })

  test('R-PTR-4 the raw call stores the word, or fails with EFAULT', () => {
    const rig = traced()
    const a = rig.map(1)
    rig.target.store(a, WORD)
    const raw = (data: number) => result(rig.caller.run(ptracePeekData(rig.kernel, rig.target.pid, a, data)))
    expect(raw(rig.buffer)).toBe(0)
    expect(rig.caller.load(rig.buffer, 8)).toEqual(WORD)
    expect([raw(8), raw(2 ** 47)]).toEqual(['-EFAULT', '-EFAULT'])
    rig.caller.mprotect(rig.buffer, PAGE_SIZE, 'r')
    expect(raw(rig.buffer)).toBe('-EFAULT')
  })

  test('R-COM-3 plain references: the pin counters stand still, nothing stays held', () => {
    const rig = traced()
    const a = rig.map(1, { touched: true })
    expect(rig.pins(() => [peek(rig, a), poke(rig, a)])).toEqual([0, 0])
    expect(rig.kernel.memory.frames.refcount[rig.pfn(rig.target, a)]).toBe(1)
    expect(rig.target.mm!.hasPinned).toBe(false)
  })

  test('R-PTR-6 the parent’s copy of a shared page is not touched', () => {
    const rig = traced()
    const a = rig.map(1, { at: AT, touched: true })
    const child = rig.target.fork()
    expect(poke(rig, a)).toBe(ok)
    expect(child.load(a, 1)[0]).toBe(1)
  })
})
