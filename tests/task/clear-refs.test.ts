import { describe, expect, test } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { PM_SOFT_DIRTY } from '../../src/task/proc/pagemap.ts'
import { AT, RELEASES, RemoteRig, outcome } from './remote-rig.ts'

const P = PAGE_SIZE

const bytes = (text: string): Uint8Array => Uint8Array.from(text, (letter) => letter.charCodeAt(0))

/** Writes text to a process's clear_refs. */
function write(rig: RemoteRig, text: string, pid = rig.target.pid): number | string {
  const file = rig.caller.proc.open(pid, 'clear_refs')
  rig.caller.store(rig.buffer, bytes(text))
  const result = outcome(() => file.write(rig.buffer, text.length))
  expect(file.position).toBe(0)
  file.close()
  return result
}

const referenced = (rig: RemoteRig, at: number): string => {
  const smaps = rig.target.proc.text(rig.target.pid, 'smaps')
  const mapping = smaps.slice(smaps.indexOf(at.toString(16)))
  return /^Referenced: +(\d+) kB/m.exec(mapping)![1]!
}

/** bit 55 of the pagemap words of some pages */
function softDirty(rig: RemoteRig, at: number, pages: number): number[] {
  const file = rig.caller.proc.open(rig.target.pid, 'pagemap')
  file.pread(rig.buffer, pages * 8, (at / P) * 8)
  file.close()
  const words = new DataView(rig.caller.load(rig.buffer, pages * 8).buffer)
  return Array.from({ length: pages }, (_, i) =>
    (words.getUint32(i * 8 + 4, true) & PM_SOFT_DIRTY) === 0 ? 0 : 1,
  )
}

describe.each(RELEASES)('/proc/PID/clear_refs on %s', (release) => {
  test.each<[string, number | string]>([
    ['1', 1],
    [' 1', 2],
    ['01', 2],
    ['+1', 2],
    ['1\n\n\n', 4],
    ['\t2\n', 3],
    ['2\0x', 3],
    ['1'.padEnd(20), 12],
    ['000000000001', 12],
    ['3', 1],
    ['4', 1],
    ['5', 1],
    ['0', '-EINVAL'],
    ['6', '-EINVAL'],
    ['-1', '-EINVAL'],
    ['abc', '-EINVAL'],
    ['1x', '-EINVAL'],
    ['0x1', '-EINVAL'],
    ['- 1', '-EINVAL'],
    [' ', '-EINVAL'],
    ['', '-EINVAL'],
    ['0000000000001', '-EINVAL'],
    ['2147483648', '-ERANGE'],
    ['12345678901234567890123', '-ERANGE'],
  ])('R-CLR-1 %j is %s', (text, expected) => {
    expect(write(new RemoteRig(release), text)).toBe(expected)
  })

  test('R-CLR-1 who may, when it is too late, and what cannot be read', () => {
    const rig = new RemoteRig(release)
    const other = rig.machine.spawn('other', { uid: 1001 })
    expect(outcome(() => other.proc.open(rig.target.pid, 'clear_refs'))).toBe('-EACCES')
    const root = rig.machine.spawn('root', { uid: 0 })
    root.proc.open(rig.target.pid, 'clear_refs').close()
    const file = rig.caller.proc.open(rig.target.pid, 'clear_refs')
    expect(outcome(() => file.read(rig.buffer, 8))).toBe('-EINVAL')
    expect(outcome(() => file.write(8, 1))).toBe('-EFAULT')
    rig.target.mm!.dumpable = false
    expect(outcome(() => rig.caller.proc.open(rig.target.pid, 'clear_refs'))).toBe('-EACCES')
    rig.target.exit()
    rig.caller.store(rig.buffer, bytes('1'))
    expect(outcome(() => file.write(rig.buffer, 1))).toBe('-ESRCH')
  })

  test('R-CLR-2 2 is for mappings without a file, 3 for those with one, 1 for all', () => {
    const rig = new RemoteRig(release)
    const anonymous = rig.map(4, { at: AT, touched: true })
    const file = rig.mapFile('ext4', { at: AT + 0x100000, pages: 4, touched: true })
    const memory = rig.mapFile('memfd', { at: AT + 0x200000, pages: 4, shared: true, touched: true })
    const all = (): string[] => [anonymous, file, memory].map((at) => referenced(rig, at))
    expect(all()).toEqual(['16', '16', '16'])
    expect([write(rig, '2'), all()]).toEqual([1, ['0', '16', '16']])
    rig.target.touch(anonymous, 4 * P)
    expect([write(rig, '3'), all()]).toEqual([1, ['16', '0', '0']])
    rig.target.touch(file, 4 * P)
    expect([write(rig, '4'), all()]).toEqual([1, ['16', '16', '0']])
    expect([write(rig, '1'), all()]).toEqual([1, ['0', '0', '0']])
  })

  test('R-CLR-2 5 brings VmHWM down', () => {
    const rig = new RemoteRig(release)
    const hwm = (): string => /^VmHWM:\s+(\d+) kB/m.exec(rig.target.proc.text(rig.target.pid, 'status'))![1]!
    rig.map(64, { touched: true })
    rig.target.munmap(AT, 64 * P)
    const before = Number(hwm())
    expect([before >= 256, write(rig, '5'), Number(hwm()) <= before - 256]).toEqual([true, 1, true])
  })

  test('R-FLT-163 R-PM-1 4 and bit 55 of pagemap, where the kernel has it', () => {
    const rig = new RemoteRig(release, { settings: { softDirty: true } })
    rig.map(4)
    rig.target.store(AT, bytes('x'))
    // never cleared: also what is not there, but not what is not mapped
    expect(softDirty(rig, AT, 5)).toEqual([1, 1, 1, 1, 0])
    expect(write(rig, '4')).toBe(1)
    expect(softDirty(rig, AT, 5)).toEqual([0, 0, 0, 0, 0])
    rig.target.store(AT, bytes('y'))
    rig.target.load(AT + P, 1)
    rig.target.store(AT + 2 * P, bytes('z'))
    expect(softDirty(rig, AT, 4)).toEqual([1, 0, 1, 0])
    // another process that reads does not matter, one that writes does
    rig.caller.remote.vmWrite(
      rig.target.pid,
      [{ base: rig.buffer, length: 1 }],
      [{ base: AT + P, length: 1 }],
    )
    expect(softDirty(rig, AT, 4)).toEqual([1, 1, 1, 0])
    rig.map(1, { at: AT + 3 * P })
    expect(softDirty(rig, AT, 4)).toEqual([1, 1, 1, 1])
  })

  test('R-PM-1 without the setting bit 55 is 0', () => {
    const rig = new RemoteRig(release)
    rig.map(2, { touched: true })
    expect([softDirty(rig, AT, 2), write(rig, '4'), softDirty(rig, AT, 2)]).toEqual([[0, 0], 1, [0, 0]])
  })
})
