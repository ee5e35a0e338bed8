import { describe, expect, test } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { genericAccessPhys, ioMemoryKind } from '../../src/mm/io-memory.ts'
import type { FileKind } from '../../src/mm/file.ts'
import { AT, RELEASES, RemoteRig, outcome } from './remote-rig.ts'

const P = PAGE_SIZE

/** A device mapped by the target, ordinary memory behind it, and a tracer attached to the target. */
function world(release: (typeof RELEASES)[number], access?: FileKind['access'] | null) {
  const rig = new RemoteRig(release, { caller: { uid: 0, capabilities: ['CAP_SYS_PTRACE'] } })
  const bar = rig.kernel.memory.io.request('bar', 4)
  const kind = ioMemoryKind('pci', bar, access === undefined ? {} : { access })
  const fd = rig.target.openFile('/dev/bar', 0, kind)
  rig.target.mmap({ length: 4 * P, shared: true, fd, address: AT, fixed: true })
  rig.map(1, { at: AT + 4 * P, touched: true })
  rig.caller.remote.attach(rig.target.pid)
  return { rig, bar }
}

describe.each(RELEASES)('device memory of another process on %s', (release) => {
  test('R-ARV-3 R-ARV-4 PEEK and POKE reach it through vm_ops->access', () => {
    const { rig, bar } = world(release)
    bar.bytes[8] = 5
    expect(rig.caller.remote.peek(rig.target.pid, AT + 8)).toEqual(Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0))
    rig.caller.remote.poke(rig.target.pid, AT + P - 4, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8))
    expect([...bar.bytes.subarray(P - 4, P + 4)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    // read-only for the program: the entry decides, force or not
    rig.target.mprotect(AT, P, 'r')
    expect(outcome(() => rig.caller.remote.poke(rig.target.pid, AT, new Uint8Array(8)))).toBe('-EIO')
    rig.target.mprotect(AT, P, '')
    expect(rig.caller.remote.peek(rig.target.pid, AT + 8)[0]).toBe(5)
  })

  test('R-ARV-6 without access it is out of reach', () => {
    const { rig } = world(release, null)
    expect(outcome(() => rig.caller.remote.peek(rig.target.pid, AT))).toBe('-EIO')
    expect(outcome(() => rig.caller.remote.poke(rig.target.pid, AT, new Uint8Array(8)))).toBe('-EIO')
    expect(rig.caller.remote.peek(rig.target.pid, AT + 4 * P)[0]).toBe(1)
  })

  test('R-MEM-3 R-ARV-5 /proc/PID/mem reads and writes it, a page after the other', () => {
    const { rig, bar } = world(release)
    bar.bytes.fill(3)
    const mem = rig.caller.remote.openMem(rig.target.pid)
    rig.caller.store(rig.buffer, new Uint8Array(2 * P))
    expect(mem.pread(rig.buffer, 2 * P, AT + 10)).toBe(2 * P)
    expect(rig.caller.load(rig.buffer, 2 * P).every((byte) => byte === 3)).toBe(true)
    rig.caller.store(rig.buffer, Uint8Array.of(8, 9))
    expect(mem.pwrite(rig.buffer, 2, AT + P - 1)).toBe(2)
    expect([bar.bytes[P - 1], bar.bytes[P]]).toEqual([8, 9])
  })

  test('R-FLT-44 copies of the kernel reach it, what takes pages does not', () => {
    const { rig, bar } = world(release)
    bar.bytes.fill(6)
    const { target } = rig
    const pipe = target.pipe()
    expect(target.io.write(pipe.write, AT, 10)).toBe(10)
    expect(target.io.read(pipe.read, AT + 2 * P, 10)).toBe(10)
    const file = target.openFile('/data', 0)
    bar.bytes.fill(9, P, 2 * P)
    expect(target.io.write(file, AT + P, P, 0)).toBe(P)
    expect(target.io.read(file, AT + 3 * P, P, 0)).toBe(P)
    expect([bar.bytes[2 * P], bar.bytes[3 * P - 1], bar.bytes[3 * P], bar.bytes[4 * P - 1]]).toEqual([
      6, 6, 9, 9,
    ])
    expect(outcome(() => target.io.vmsplice(pipe.write, [{ base: AT, length: P }]))).toBe('-EFAULT')
    const direct = target.io.openDirect(file)
    expect(outcome(() => target.io.read(direct, AT, P, 0))).toBe('-EFAULT')
    expect(target.mm!.rssAnon).toBe(1)
  })

  test('R-PVM-1 R-GUP-16.1 process_vm_readv and writev never do', () => {
    const { rig } = world(release)
    const from = [{ base: AT, length: 8 }]
    const to = [{ base: rig.buffer, length: 8 }]
    expect(outcome(() => rig.caller.remote.vmRead(rig.target.pid, to, from))).toBe('-EFAULT')
    expect(outcome(() => rig.caller.remote.vmWrite(rig.target.pid, to, from))).toBe('-EFAULT')
  })

  test('R-ARV-3 a method that moves part of it is asked again, one that moves nothing ends the transfer', () => {
    const asked: number[] = []
    const { rig, bar } = world(release, function* (k, vma, address, buffer, write) {
      asked.push(buffer.length)
      if (asked.length >= 3) return 0
      return yield* genericAccessPhys(k, vma, address, buffer.subarray(0, 3), write)
    })
    bar.bytes.fill(7)
    const mem = rig.caller.remote.openMem(rig.target.pid)
    expect(mem.pread(rig.buffer, 20, AT)).toBe(6)
    // the file tries once more where the call before it ended
    expect(asked).toEqual([20, 17, 14, 14])
  })
})

test('R-PM-6 pagemap, mincore and smaps pass raw mappings over', () => {
  for (const release of RELEASES) {
    const { rig, bar } = world(release)
    rig.target.store(AT, Uint8Array.of(1))
    expect(bar.bytes[0]).toBe(1)
    const pagemap = rig.target.proc.open(rig.target.pid, 'pagemap')
    const buffer = rig.target.mmap({ length: P })
    expect(pagemap.pread(buffer, 5 * 8, (AT / P) * 8)).toBe(40)
    const bytes = rig.target.load(buffer, 40)
    expect([bytes.subarray(0, 32).every((byte) => byte === 0), bytes[39]! >>> 7]).toEqual([true, 1])
    const smaps = rig.target.proc.text(rig.target.pid, 'smaps')
    const device = smaps.slice(smaps.indexOf('/dev/bar'))
    expect(device.match(/^Rss: +(\d+) kB/m)![1]).toBe('0')
    expect(device.match(/^VmFlags: (.*) $/m)![1]).toBe('rd wr sh mr mw me ms pf io de dd')
  }
})
