import { describe, expect, test } from 'vitest'
import { RELEASE_NAMES } from '../../src/base/release.ts'
import { openIoUring } from '../../src/io_uring/facade.ts'
import { hugetlbPool } from '../../src/mm/hugetlb.ts'
import { MADV_DONTNEED, MADV_HUGEPAGE, MADV_PAGEOUT, MAP_FIXED } from '../../src/mm/mman.ts'
import { Machine, type MachineOptions } from '../../src/task/machine.ts'
import type { Process } from '../../src/task/process.ts'
import {
  PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
  PROCMAP_QUERY_FILE_BACKED_VMA,
  PROCMAP_QUERY_VMA_SHARED,
  PROCMAP_QUERY_VMA_WRITABLE,
} from '../../src/task/proc/procmap-query.ts'
import { SyscallError } from '../../src/task/syscall-error.ts'
import { watchMachine } from '../support/kernel.ts'

const P = 4096
const H = 512 * P
const A = 0x100000000000

function start(options: MachineOptions = {}): { machine: Machine; app: Process } {
  const machine = watchMachine(new Machine({ release: '6.18', memory: '64M', ...options }))
  return { machine, app: machine.spawn('app') }
}

function code(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    if (error instanceof SyscallError) return error.code
    throw error
  }
  return 'ok'
}

/** Pages with a hole behind each: every one is a line of 49 bytes. */
function mapApart(app: Process, count: number): void {
  for (let i = 0; i < count; i++) app.mmap({ address: A + 2 * i * P, length: P, fixed: true })
}

function value(text: string, key: string): number {
  return Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(text)![1])
}

function line(text: string, key: string): string {
  return new RegExp(`^${key}:.*$`, 'm').exec(text)![0]
}

/** A pagemap word as hexadecimal, the upper half first. */
function words(bytes: Uint8Array): string[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return Array.from({ length: bytes.length / 8 }, (_, i) => view.getBigUint64(i * 8, true).toString(16))
}

describe('maps', () => {
  test('R-AS-160, R-AS-161, R-AS-162 lines: names in column 73, a blank without one, the page that is no mapping', () => {
    const { app } = start()
    const fd = app.memfdCreate('file', 4 * P)
    app.mmap({ address: A, length: P, fixed: true, prot: 'r' })
    app.mmap({ address: A + 2 * P, length: 2 * P, fixed: true, shared: true, fd, offset: P })
    app.mmap({ address: 0x10000, length: P, fixed: true, prot: 'rx' })
    const lines = app.proc.text(app.pid, 'maps').split('\n')
    expect(lines[0]).toBe('00010000-00011000 r-xp 00000000 00:00 0 ')
    expect(lines[1]).toBe('100000000000-100000001000 r--p 00000000 00:00 0 ')
    expect(lines[2]).toMatch(/^100000002000-100000004000 rw-s 00001000 00:01 \d+ +\/memfd:file \(deleted\)$/)
    expect(lines[2]!.indexOf('/memfd')).toBe(73)
    expect(lines[3]).toBe(
      'ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]',
    )
    expect(lines.slice(4)).toEqual([''])
  })

  test('HOST vector 7: a read returns whole lines, less than a page of them', () => {
    const { app } = start()
    mapApart(app, 200)
    const maps = app.proc.open(app.pid, 'maps')
    const sizes = [1, 2, 3, 4].map(() => app.read(maps.fd, 1 << 20).length)
    expect(sizes).toEqual([83 * 49, 83 * 49, 34 * 49 + 84, 0])
  })

  test('R-MAPS-7 what a short read leaves over comes first, and then as much as is asked for', () => {
    const { app } = start()
    mapApart(app, 100)
    const whole = app.proc.text(app.pid, 'maps')
    const maps = app.proc.open(app.pid, 'maps')
    const text = [10, 100, 300, 60].map((count) => Buffer.from(app.read(maps.fd, count)).toString()).join('')
    expect(text).toBe(whole.slice(0, 470))
    expect(maps.position).toBe(470)
    // what was left over, and a page of new lines behind it
    expect(app.read(maps.fd, 1 << 20)).toHaveLength(490 - 470 + 83 * 49)
    expect(Buffer.from(app.read(maps.fd, 60, 55)).toString()).toBe(whole.slice(55, 115))
    maps.seek(1 << 20)
    expect(app.read(maps.fd, 60)).toHaveLength(0)
  })

  test('R-AS-163 between two reads: the first mapping that ends behind the last line', () => {
    const { app } = start()
    mapApart(app, 100)
    const maps = app.proc.open(app.pid, 'maps')
    app.read(maps.fd, 1 << 20)
    const end = A + 2 * 82 * P + P
    app.mmap({ address: end, length: P, fixed: true, prot: 'r' })
    const next = Buffer.from(app.read(maps.fd, 1 << 20)).toString()
    expect(next.slice(0, 25)).toBe('1000000a5000-1000000a6000')
  })

  test('R-MAPS-7 a buffer that can be written in part', () => {
    const { app } = start()
    mapApart(app, 4)
    const buffer = app.mmap({ length: P })
    const maps = app.proc.open(app.pid, 'maps')
    expect(maps.read(buffer + P - 30, 300)).toBe(30)
    expect(maps.position).toBe(30)
    expect(code(() => maps.read(8, 100))).toBe('EFAULT')
    expect(maps.read(buffer, 10)).toBe(10)
    expect(code(() => maps.write(buffer, 1))).toBe('EINVAL')
  })

  test('HOST vector 8: after an exec the files opened before are empty', () => {
    const { app } = start()
    mapApart(app, 3)
    const [maps, pagemap, rollup] = (['maps', 'pagemap', 'smaps_rollup'] as const).map((name) =>
      app.proc.open(app.pid, name),
    )
    app.exec({ path: '/bin/next' })
    expect(app.read(maps!.fd, 100)).toHaveLength(0)
    expect(app.read(pagemap!.fd, 8, (A / P) * 8)).toHaveLength(0)
    expect(code(() => app.read(rollup!.fd, 100))).toBe('ESRCH')
    expect(app.proc.text(app.pid, 'maps')).toContain('[stack]')
    expect(value(app.proc.text(app.pid, 'status'), 'VmStk')).toBe(132)
  })
})

describe('R-ACC-2 who may read', () => {
  test('HOST vector 12: another user reads status, and nothing else', () => {
    const { machine, app } = start()
    const other = machine.spawn('other', { uid: 65534 })
    const denied = ['maps', 'smaps', 'smaps_rollup', 'pagemap'] as const
    expect(denied.map((name) => code(() => other.proc.open(app.pid, name)))).toEqual(Array(4).fill('EACCES'))
    expect(code(() => other.proc.mapFiles(app.pid))).toBe('EACCES')
    expect(code(() => other.proc.text(app.pid, 'status'))).toBe('ok')
    expect(code(() => other.proc.text(app.pid, 'statm'))).toBe('ok')
    expect(code(() => other.proc.open(4711, 'maps'))).toBe('ENOENT')
    expect(code(() => other.proc.openFrames('kpageflags'))).toBe('EACCES')
  })

  test('HOST vector 13, FLT vector 70: frame numbers only for whoever had CAP_SYS_ADMIN at the open', () => {
    const { machine, app } = start()
    app.mmap({ address: A, length: P, fixed: true })
    app.touch(A, P)
    const pagemap = app.proc.open(app.pid, 'pagemap')
    expect(words(app.read(pagemap.fd, 8, (A / P) * 8))).toEqual(['8100000000000000'])
    const root = machine.spawn('root', { uid: 0, capabilities: ['CAP_SYS_ADMIN', 'CAP_SYS_PTRACE'] })
    const shown = words(root.read(root.proc.open(app.pid, 'pagemap').fd, 8, (A / P) * 8))[0]!
    expect(shown).toMatch(/^8100000000[0-9a-f]{6}$/)
    expect(shown).not.toBe('8100000000000000')
  })

  test.each(RELEASE_NAMES)('HOST vector 9, HOST vector 10: a task without address space on %s', (release) => {
    const { machine, app } = start({ release })
    const idle = machine.spawn('idle')
    const space = idle.mm!
    idle.mm = null
    const opened = release === '6.12' || release === '6.18' ? 'ESRCH' : 'ok'
    expect(code(() => app.proc.open(idle.pid, 'pagemap'))).toBe(opened)
    expect(code(() => app.proc.open(idle.pid, 'smaps_rollup'))).toBe('ESRCH')
    expect(app.proc.text(idle.pid, 'maps')).toBe('')
    expect(app.proc.text(idle.pid, 'smaps')).toBe('')
    expect(app.proc.text(idle.pid, 'status')).not.toContain('Vm')
    expect(app.proc.text(idle.pid, 'statm')).toBe('0 0 0 0 0 0 0\n')
    idle.mm = space
    idle.exit()
  })
})

describe('map_files', () => {
  test('HOST vector 14, R-AS-167: links for mappings with a file, by their exact range', () => {
    const { app } = start()
    const fd = app.memfdCreate('file', 8 * P)
    app.mmap({ address: A, length: P, fixed: true })
    app.mmap({ address: A + 4 * P, length: 2 * P, fixed: true, shared: true, fd })
    const name = '100000004000-100000006000'
    const target = '/memfd:file (deleted)'
    expect(app.proc.mapFiles(app.pid)).toEqual([{ name, mode: 'lrw-------', target }])
    expect(app.proc.readMapFile(app.pid, name)).toBe(target)
    for (const wrong of [
      '100000004000-100000005000',
      '0100000004000-100000006000',
      '100000000000-100000001000',
    ])
      expect(code(() => app.proc.readMapFile(app.pid, wrong))).toBe('ENOENT')
  })
})

describe('smaps', () => {
  test('R-SMAPS-7 shares are rounded down page by page', () => {
    const { app } = start()
    app.mmap({ address: A, length: 3 * P, fixed: true })
    app.touch(A, 3 * P)
    const children = [app.fork(), app.fork()]
    const rollup = app.proc.text(app.pid, 'smaps_rollup')
    expect(rollup.split('\n')[0]).toBe(
      '100000000000-100000003000 ---p 00000000 00:00 0                          [rollup]',
    )
    expect(['Rss', 'Pss', 'Pss_Anon', 'Shared_Dirty'].map((key) => value(rollup, key))).toEqual([
      12, 3, 3, 12,
    ])
    children[0]!.madvise(A, P, MADV_DONTNEED)
    expect(value(app.proc.text(app.pid, 'smaps'), 'Pss')).toBe(Math.floor((2 * 4) / 3 + 2))
    for (const child of children) child.exit()
    expect(line(app.proc.text(app.pid, 'smaps'), 'Private_Dirty')).toBe('Private_Dirty:        12 kB')
  })

  test('R-FLT-170 pins do not show', () => {
    const { app } = start()
    app.mmap({ address: A, length: 3 * P, fixed: true })
    app.touch(A, 2 * P)
    const child = app.fork()
    child.touch(A, P)
    const before = app.proc.text(app.pid, 'smaps')
    const ring = openIoUring(child, { entries: 1 })
    ring.registerBuffers([{ base: A, length: P }])
    app.store(A, new Uint8Array([1]))
    const own = openIoUring(app, { entries: 1 })
    own.registerBuffers([{ base: A, length: P }])
    expect(app.proc.text(app.pid, 'smaps')).toBe(before)
    own.close()
    child.exit()
  })

  test('R-FLT-95 swapped pages: the share of a slot that two name; those of a file have none', () => {
    const { machine, app } = start()
    machine.kernel.swap.swapon(64)
    app.mmap({ address: A, length: P, fixed: true })
    app.touch(A, P)
    app.madvise(A, P, MADV_PAGEOUT)
    const child = app.fork()
    const shares = (): number[] =>
      ['Rss', 'Swap', 'SwapPss'].map((key) => value(app.proc.text(app.pid, 'smaps'), key))
    expect(shares()).toEqual([0, 4, 2])
    child.exit()
    expect(shares()).toEqual([0, 4, 4])
    app.mmap({ address: A + 4 * P, length: 2 * P, fixed: true, shared: true })
    app.touch(A + 4 * P, 2 * P)
    app.madvise(A + 4 * P, 2 * P, MADV_PAGEOUT)
    const file = app.proc.text(app.pid, 'smaps').split(/^(?=[0-9a-f]+-)/m)[1]!
    expect([value(file, 'Swap'), value(file, 'SwapPss')]).toEqual([8, 0])
  })

  test.each([
    ['6.1', false],
    ['6.12', true],
    ['6.18', true],
  ] as const)('R-AS-164 what %s prints of KSM and THPeligible', (release, newer) => {
    const { app } = start({ release })
    app.mmap({ address: A, length: P, fixed: true })
    const text = app.proc.text(app.pid, 'smaps')
    expect(/^KSM:/m.test(text)).toBe(newer)
    expect(line(text, 'THPeligible')).toBe(newer ? 'THPeligible:           0' : 'THPeligible:    0')
    expect(line(text, 'VmFlags')).toBe('VmFlags: rd wr mr mw me ac ')
  })

  test('R-AS-164 a line for the protection key where the processor has keys', () => {
    const { app } = start({ settings: { protectionKeys: true, vsyscall: false } })
    app.mmap({ address: A, length: P, fixed: true })
    expect(app.proc.text(app.pid, 'smaps')).toContain('ProtectionKey:         0\n')
    expect(app.proc.text(app.pid, 'maps')).not.toContain('vsyscall')
  })
})

describe('status and statm', () => {
  test('R-ST-7 the most there ever was; R-AS-166 the same in pages', () => {
    const { app } = start()
    app.mmap({ address: A, length: 8 * P, fixed: true })
    app.mmap({ address: A + 16 * P, length: 4 * P, fixed: true, shared: true })
    app.touch(A, 6 * P)
    app.touch(A + 16 * P, 2 * P)
    app.munmap(A, 4 * P)
    const status = app.proc.text(app.pid, 'status')
    const keys = ['VmPeak', 'VmSize', 'VmHWM', 'VmRSS', 'RssAnon', 'RssShmem', 'VmData', 'VmPTE']
    expect(keys.map((key) => value(status, key))).toEqual([48, 32, 32, 16, 8, 8, 16, 12])
    expect(line(status, 'VmSize')).toBe('VmSize:\t      32 kB')
    expect(app.proc.text(app.pid, 'statm')).toBe('8 4 2 0 0 4 0\n')
    app.munmap(A, 32 * P)
    expect(value(app.proc.text(app.pid, 'status'), 'VmPTE')).toBe(0)
  })
})

describe('pagemap and the files of frames', () => {
  test('HOST vector 15: positions, lengths and ends', () => {
    const { app } = start()
    const pagemap = app.proc.open(app.pid, 'pagemap')
    expect(code(() => app.read(pagemap.fd, 8, 4))).toBe('EINVAL')
    expect(code(() => app.read(pagemap.fd, 7, 0))).toBe('EINVAL')
    expect(code(() => app.read(pagemap.fd, 0, 4))).toBe('EINVAL')
    expect(app.read(pagemap.fd, 0, 0)).toHaveLength(0)
    expect(app.read(pagemap.fd, P, (0x7ffffffff000 / P) * 8)).toHaveLength(0)
    expect(app.read(pagemap.fd, P, (0x7ffffffff000 / P) * 8 - 64)).toHaveLength(64)
  })

  test('R-FLT-160 a buffer that is too short for the answer: EFAULT, and the position stays', () => {
    const { app } = start()
    app.mmap({ address: A, length: 4 * P, fixed: true })
    app.touch(A, 4 * P)
    app.munmap(A + 2 * P, P)
    const pagemap = app.proc.open(app.pid, 'pagemap')
    pagemap.seek((A / P) * 8)
    expect(code(() => pagemap.read(A + 2 * P - 16, 64))).toBe('EFAULT')
    expect(pagemap.position).toBe((A / P) * 8)
    expect(words(app.load(A + 2 * P - 16, 16))).toEqual(['8100000000000000', '8100000000000000'])
  })

  test.each([false, true])(
    'R-HUGE-38, R-HUGE-57 an entry for each small page of a huge one, hugetlb: %s',
    (hugetlb) => {
      const { machine, app } = start()
      hugetlbPool(machine.kernel, H).resize(2)
      const root = machine.spawn('root', {
        uid: 0,
        capabilities: ['CAP_SYS_ADMIN', 'CAP_SYS_PTRACE', 'CAP_DAC_OVERRIDE'],
      })
      const pagemap = root.proc.open(app.pid, 'pagemap')
      const flags = root.proc.openFrames('kpageflags')
      /** frames, the bits 63, 61 and 56 of the first and the last entry, HUGE and ANON of a page in the middle */
      const look = (at: number): [boolean, string[], boolean[]] => {
        const bytes = root.read(pagemap.fd, 512 * 8, (at / P) * 8)
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
        const pfn = (i: number): number => view.getUint32(i * 8, true)
        const frames = Array.from({ length: 512 }, (_, i) => pfn(i)).every((frame, i) => frame === pfn(0) + i)
        const word = root.read(flags.fd, 8, pfn(7) * 8)
        const low = new DataView(word.buffer, word.byteOffset).getUint32(0, true)
        const bits = [0, 511].map((i) => (view.getUint32(i * 8 + 4, true) >>> 0).toString(16))
        return [frames, bits, [17, 12].map((bit) => ((low >>> bit) & 1) === 1)]
      }
      app.mmap({ address: A, length: H, fixed: true, hugetlb })
      if (!hugetlb) app.madvise(A, H, MADV_HUGEPAGE)
      app.touch(A, P)
      expect(look(A)).toEqual([true, ['81000000', '81000000'], [hugetlb, true]])
      const smaps = app.proc.text(app.pid, 'smaps')
      expect([value(smaps, 'Rss'), value(smaps, 'Private_Hugetlb')]).toEqual(hugetlb ? [0, 2048] : [2048, 0])
      if (!hugetlb) return
      app.mmap({ address: A + H, length: H, fixed: true, hugetlb, shared: true })
      app.touch(A + H, P)
      expect(look(A + H)).toEqual([true, ['a1000000', 'a1000000'], [true, false]])
    },
  )

  test('HOST vector 18, R-FLT-165, R-FLT-167: fork, exit of the child, a write: bits 56 and 34, and the count', () => {
    const { machine, app } = start()
    const root = machine.spawn('root', {
      uid: 0,
      capabilities: ['CAP_SYS_ADMIN', 'CAP_SYS_PTRACE', 'CAP_DAC_OVERRIDE'],
    })
    const files = (['kpageflags', 'kpagecount'] as const).map((name) => root.proc.openFrames(name))
    const pagemap = root.proc.open(app.pid, 'pagemap')
    const look = (): [number, number, number] => {
      const half = (fd: number, at: number): number => {
        const bytes = root.read(fd, 8, at)
        return new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true)
      }
      const word = root.read(pagemap.fd, 8, (A / P) * 8)
      const pfn = new DataView(word.buffer, word.byteOffset).getUint32(0, true)
      const count = root.read(files[1]!.fd, 8, pfn * 8)[0]!
      return [(half(pagemap.fd, (A / P) * 8) >>> 24) & 1, (half(files[0]!.fd, pfn * 8) >>> 2) & 1, count]
    }
    app.mmap({ address: A, length: P, fixed: true })
    app.touch(A, P)
    expect(look()).toEqual([1, 1, 1])
    const child = app.fork()
    expect(look()).toEqual([0, 0, 2])
    child.exit()
    expect(look()).toEqual([1, 0, 1])
    app.touch(A, P)
    expect(look()).toEqual([1, 1, 1])
    const { count } = machine.kernel.memory.frames
    expect(root.read(files[0]!.fd, P, (count - 8) * 8)).toHaveLength(64)
    expect(root.read(files[0]!.fd, P, count * 8)).toHaveLength(0)
    expect(words(root.read(files[0]!.fd, 8, Math.floor(count / 2) * 8))).toEqual(['400'])
  })
})

test('R-FLT-151 a page is mlocked as long as a locked mapping shows it', () => {
  const { machine, app } = start()
  const root = machine.spawn('root', {
    uid: 0,
    capabilities: ['CAP_SYS_ADMIN', 'CAP_SYS_PTRACE', 'CAP_DAC_OVERRIDE'],
  })
  const flags = root.proc.openFrames('kpageflags')
  const pagemap = root.proc.open(app.pid, 'pagemap')
  const mlocked = (): boolean => {
    const word = root.read(pagemap.fd, 8, (A / P) * 8)
    const pfn = new DataView(word.buffer, word.byteOffset).getUint32(0, true)
    return (root.read(flags.fd, 8, pfn * 8)[4]! & 2) !== 0
  }
  app.mmap({ address: A, length: P, fixed: true, shared: true })
  app.touch(A, P)
  const child = app.fork()
  const seen = [
    () => app.mlock(A, P),
    () => child.mlock(A, P),
    () => app.munlock(A, P),
    () => child.munlock(A, P),
    () => child.mlock(A, P),
    () => child.munmap(A, P),
  ].map((step) => {
    step()
    return mlocked()
  })
  expect(seen).toEqual([true, true, true, false, true, false])
})

describe('R-MAPS-5 PROCMAP_QUERY', () => {
  const rig = (): { app: Process; ask: ReturnType<Process['proc']['open']> } => {
    const { app } = start()
    const fd = app.memfdCreate('file', 16 * P)
    app.mmap({ address: A, length: 4 * P, fixed: true })
    app.mmap({ address: A + 8 * P, length: 2 * P, fixed: true, prot: 'r' })
    app.mmap({ address: A + 16 * P, length: 4 * P, shared: true, fd, offset: 4 * P, flags: MAP_FIXED })
    return { app, ask: app.proc.open(app.pid, 'maps') }
  }

  test('one mapping, the next one, the next one that fits', () => {
    const { ask } = rig()
    expect(ask.procmapQuery({ address: A + P })).toMatchObject({
      start: A,
      end: A + 4 * P,
      flags: 3,
      name: '',
    })
    const next = PROCMAP_QUERY_COVERING_OR_NEXT_VMA
    expect(ask.procmapQuery({ address: A + 5 * P, flags: next }).start).toBe(A + 8 * P)
    const writable = next | PROCMAP_QUERY_VMA_WRITABLE
    const found = ask.procmapQuery({ address: A + 8 * P, flags: writable, nameSize: 22 })
    expect(found).toMatchObject({ start: A + 16 * P, flags: 11, offset: 4 * P, pageSize: P })
    expect(found.name).toBe('/memfd:file (deleted)')
  })

  test.each([
    ['a hole', { address: A + 5 * P }, 'ENOENT'],
    ['not a file', { address: A, flags: PROCMAP_QUERY_FILE_BACKED_VMA }, 'ENOENT'],
    ['not shared', { address: A, flags: PROCMAP_QUERY_VMA_SHARED }, 'ENOENT'],
    ['an unknown flag', { address: A, flags: 0x40 }, 'EINVAL'],
    ['no room for the end of the name', { address: A + 16 * P, nameSize: 21 }, 'ENAMETOOLONG'],
    ['above everything', { address: 0x7fff_ffff_f000, flags: 0x10 }, 'ENOENT'],
  ])('%s', (_, query, expected) => {
    const { ask } = rig()
    expect(code(() => ask.procmapQuery(query))).toBe(expected)
  })

  test('R-AS-168 of an address space that is gone, of another file, on an older release', () => {
    const { app, ask } = rig()
    const child = app.fork()
    const maps = app.proc.open(child.pid, 'maps')
    child.exit()
    expect(code(() => maps.procmapQuery({ address: A }))).toBe('ESRCH')
    expect(code(() => app.proc.open(app.pid, 'smaps').procmapQuery({ address: A }))).toBe('ENOTTY')
    ask.close()
    const old = start({ release: '6.1' }).app
    expect(code(() => old.proc.open(old.pid, 'maps').procmapQuery({ address: A }))).toBe('ENOTTY')
  })
})
