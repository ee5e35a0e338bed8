import { describe, expect, test } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { RELEASES, RemoteRig, outcome } from './remote-rig.ts'

const text = new TextEncoder()

describe.each(RELEASES)('/proc/PID/cmdline and environ on %s', (release) => {
  /** arguments and environment in the memory of the target, as exec leaves them */
  function rigWith(args: string, env: string, options: ConstructorParameters<typeof RemoteRig>[1] = {}) {
    const rig = new RemoteRig(release, options)
    const bytes = text.encode(args + env)
    const a = rig.map(Math.ceil(bytes.length / PAGE_SIZE) + 1)
    rig.target.store(a, bytes)
    const mm = rig.target.mm!
    mm.argStart = a
    mm.argEnd = mm.envStart = a + args.length
    mm.envEnd = a + bytes.length
    return { rig, a, mm }
  }
  function cmdline(rig: RemoteRig, count = 4 * PAGE_SIZE, at = 0): string {
    const file = rig.caller.remote.openCmdline(rig.target.pid)
    const got = file.pread(rig.buffer, count, at)
    file.close()
    return new TextDecoder().decode(rig.caller.load(rig.buffer, got))
  }
  const environ = (rig: RemoteRig, count: number) =>
    rig.caller.remote.openEnviron(rig.target.pid).read(rig.buffer, count)

  test('R-CMD-3 arguments, from a position on', () => {
    const { rig, mm } = rigWith('ls\0-l\0', 'A=1\0')
    expect(cmdline(rig)).toBe('ls\0-l\0')
    expect([cmdline(rig, 3, 4), cmdline(rig, 10, 6), cmdline(rig, 10, 10)]).toEqual(['l\0', '', ''])
    expect(environ(rig, 100)).toBe(4)
    mm.envEnd = 0
    expect([cmdline(rig), environ(rig, 100)]).toEqual(['', 0])
  })

  test('R-CMD-3 an environment that lies elsewhere is left out', () => {
    const { rig, mm, a } = rigWith('ls\0', 'A=1\0')
    mm.envStart = a + 4
    expect(cmdline(rig)).toBe('ls\0')
    rig.target.store(mm.argEnd - 1, text.encode('x'))
    expect(cmdline(rig)).toBe('lsx')
    mm.argEnd = mm.argStart
    expect(cmdline(rig)).toBe('')
  })

  test('REMOTE vector 25, R-CMD-1: argument pages replaced by a file, copied or not', () => {
    const { rig, a, mm } = rigWith('ls\0', 'A=1\0')
    rig.mapFile('ext4', { at: a })
    expect([cmdline(rig), environ(rig, 10)]).toEqual(['', 0])
    rig.target.store(a, text.encode('ls\0A=1\0'))
    expect([cmdline(rig), environ(rig, 10)]).toEqual(['', 0])
    rig.mapFile('memfd', { at: a, shared: true, touched: true })
    expect(cmdline(rig)).toBe('')
    rig.map(1, { at: a, touched: true })
    expect(cmdline(rig)).toHaveLength(mm.argEnd - mm.argStart)
    rig.target.mprotect(a, PAGE_SIZE, '')
    expect(cmdline(rig)).toBe('')
    rig.target.munmap(a, PAGE_SIZE)
    expect(cmdline(rig)).toBe('')
  })

  test('REMOTE vector 26: the last argument byte overwritten', () => {
    const { rig, mm } = rigWith('ls\0-l\0', 'A=1\0B=2\0')
    rig.target.store(mm.argStart, text.encode('title: x'))
    expect(cmdline(rig)).toBe('title: x1\0')
    expect([cmdline(rig, 4), cmdline(rig, 100, 6), cmdline(rig, 100, PAGE_SIZE)]).toEqual([
      'titl',
      ' x1\0',
      '',
    ])
  })

  test('R-CMD-4 a title is at most a page', () => {
    const { rig, mm } = rigWith('a'.repeat(100), 'b'.repeat(5000))
    expect(cmdline(rig)).toHaveLength(PAGE_SIZE)
    expect(mm.envEnd - mm.argStart).toBe(5100)
  })

  test('REMOTE vector 27: environ forgets what it has copied when a page cannot be read', () => {
    const { rig, mm } = rigWith('ls\0'.padEnd(357, '\0'), 'E'.repeat(16_004))
    const broken = Math.ceil(mm.envEnd / PAGE_SIZE) * PAGE_SIZE - PAGE_SIZE
    rig.target.mprotect(broken, PAGE_SIZE, '')
    const big = rig.caller.mmap({ length: 131_072 })
    const file = rig.caller.remote.openEnviron(rig.target.pid)
    expect([file.read(big, 131_072), file.position]).toEqual([0, broken - mm.envStart])
    expect(rig.caller.load(big, 1)[0]).toBe(0x45)
    file.seek(0)
    expect([file.read(big, 1000), file.position]).toEqual([1000, 1000])
  })

  test('R-CMD-6 environ: the buffer’s EFAULT overrides, and the position stays', () => {
    const { rig } = rigWith('ls\0', 'E'.repeat(10_000))
    const file = rig.caller.remote.openEnviron(rig.target.pid)
    rig.caller.munmap(rig.buffer + PAGE_SIZE, PAGE_SIZE)
    expect(outcome(() => file.read(rig.buffer, 2 * PAGE_SIZE))).toBe('-EFAULT')
    expect(file.position).toBe(0)
  })

  test('R-CMD-5 cmdline: EFAULT only when nothing could be copied', () => {
    const { rig } = rigWith('abcdefghij\0', 'A=1\0')
    const file = rig.caller.remote.openCmdline(rig.target.pid)
    rig.caller.munmap(rig.buffer + PAGE_SIZE, PAGE_SIZE)
    expect([file.read(rig.buffer + PAGE_SIZE - 2, 8), file.position]).toEqual([2, 2])
    expect(outcome(() => file.read(rig.buffer + PAGE_SIZE, 8))).toBe('-EFAULT')
  })

  test('R-CMD-2 cmdline needs no right, environ does', () => {
    const { rig } = rigWith('ls\0', 'A=1\0', { target: { uid: 0 } })
    expect(cmdline(rig)).toBe('ls\0')
    expect(outcome(() => environ(rig, 10))).toBe('-EACCES')
  })

  test('R-CMD-2 they cannot be written; a process that is gone', () => {
    const { rig } = rigWith('ls\0', 'A=1\0')
    const [args, env] = [
      rig.caller.remote.openCmdline(rig.target.pid),
      rig.caller.remote.openEnviron(rig.target.pid),
    ]
    expect(outcome(() => args.write(rig.buffer, 1))).toBe('-EINVAL')
    rig.target.exit()
    expect([args.read(rig.buffer, 8), env.read(rig.buffer, 8)]).toEqual([0, 0])
    expect(outcome(() => rig.caller.remote.openEnviron(rig.target.pid))).toBe('-ESRCH')
  })
})
