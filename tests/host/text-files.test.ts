import { describe, expect, test } from 'vitest'
import { parseLimits } from '../../src/host/limits.ts'
import { decimalDevice, mountOf, parseMountinfo } from '../../src/host/mountinfo.ts'
import {
  CAP_IPC_LOCK,
  CAP_SYS_ADMIN,
  CAP_SYS_RESOURCE,
  hasCapability,
  parseStatus,
} from '../../src/host/status.ts'
import {
  activeChoice,
  hugepageDirectorySize,
  parseMeminfo,
  parseVmstatPins,
} from '../../src/host/system-files.ts'
import { nearestRelease } from '../../src/host/kernel-release.ts'

const status = [
  'Name:\tapp with blank',
  'State:\tS (sleeping)',
  'Tgid:\t12',
  'Pid:\t13',
  'TracerPid:\t0',
  'Uid:\t1000\t1001\t1002\t1003',
  'Gid:\t100\t100\t100\t100',
  'VmSize:\t    3060 kB',
  'VmLck:\t       4 kB',
  'VmPin:\t      16 kB',
  'VmRSS:\t    1712 kB',
  'RssAnon:\t     116 kB',
  'THP_enabled:\t0',
  'Threads:\t3',
  'CapEff:\t000001fffeffffff',
].join('\n')

describe('status', () => {
  test('R-ST-1 the keys the model needs, sizes in bytes', () => {
    expect(parseStatus(status)).toMatchObject({
      name: 'app with blank',
      state: 'S',
      tgid: 12,
      pid: 13,
      threads: 3,
      uid: { real: 1000, effective: 1001, saved: 1002, fs: 1003 },
      thpEnabled: false,
      kernelThread: null,
      memory: { size: 3060 * 1024, locked: 4096, pinned: 16384, rssAnon: 116 * 1024 },
    })
  })

  test('R-ST-4 capabilities are bits of a hex set', () => {
    expect(hasCapability('000001fffeffffff', CAP_IPC_LOCK)).toBe(true)
    expect(hasCapability('000001fffeffffff', CAP_SYS_ADMIN)).toBe(true)
    expect(hasCapability('000001fffeffffff', CAP_SYS_RESOURCE)).toBe(false)
    expect(hasCapability('0000000000004000', CAP_IPC_LOCK)).toBe(true)
    expect(hasCapability('0000000000000000', CAP_IPC_LOCK)).toBe(false)
  })

  test('R-ACC-4 zombies and kernel threads have no memory', () => {
    const zombie = status
      .split('\n')
      .filter((line) => !line.startsWith('Vm'))
      .join('\n')
      .replace('S (sleeping)', 'Z (zombie)')
    expect(parseStatus(zombie)).toMatchObject({ state: 'Z', memory: null })
  })

  test('R-ST-1 other text is refused', () => {
    expect(() => parseStatus('hello')).toThrow(/not a \/proc\/PID\/status/)
  })
})

test('R-ST-4 limits are bytes or unlimited', () => {
  const text = [
    'Limit                     Soft Limit           Hard Limit           Units     ',
    'Max data size             unlimited            unlimited            bytes     ',
    'Max stack size            8388608              unlimited            bytes     ',
    'Max open files            20000                40000                files     ',
    'Max locked memory         65536                8388608              bytes     ',
    'Max address space         unlimited            unlimited            bytes     ',
  ].join('\n')
  expect(parseLimits(text)).toEqual({
    memlock: { soft: 65536, hard: 8388608 },
    addressSpace: { soft: null, hard: null },
    data: { soft: null, hard: null },
    stack: { soft: 8388608, hard: null },
    openFiles: { soft: 20000, hard: 40000 },
  })
  expect(() => parseLimits('')).toThrow(/Max locked memory/)
})

describe('mountinfo', () => {
  const mounts = parseMountinfo(
    [
      '22 27 0:21 / /proc rw,relatime - proc proc rw',
      '27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard',
      '40 27 254:0 /srv /srv/a\\040b rw - ext4 /dev/vda rw,dax=always',
      'garbage',
    ].join('\n'),
  )

  test('R-MNT-1 optional fields end at the dash, blanks are octal', () => {
    expect(mounts).toHaveLength(3)
    expect(mounts[1]).toMatchObject({
      device: '254:0',
      mountPoint: '/',
      fstype: 'ext4',
      source: '/dev/vda',
      superOptions: 'rw,discard',
    })
    expect(mounts[2]!.mountPoint).toBe('/srv/a b')
  })

  test('R-MNT-1 the device comes first, then the longest mount point above the path', () => {
    expect(decimalDevice('fe:00')).toBe('254:0')
    expect(mountOf(mounts, 'fe:00', '/srv/a b/file')!.mountPoint).toBe('/srv/a b')
    expect(mountOf(mounts, 'fe:00', '/srv/a bc')!.mountPoint).toBe('/')
    expect(mountOf(mounts, '00:15', '/somewhere')!.fstype).toBe('proc')
  })

  test('R-MAPS-4 a kernel-internal device is on no mount', () => {
    expect(mountOf(mounts, '00:01', '/memfd:x')).toBeNull()
  })
})

describe('system files', () => {
  test('R-GLOB-4 the active choice is the one in brackets', () => {
    expect(activeChoice('always [madvise] never\n')).toBe('madvise')
    expect(() => activeChoice('always madvise never')).toThrow(/brackets/)
  })

  test('R-GLOB-3 meminfo in bytes, HugePages_* as counts', () => {
    expect(
      parseMeminfo('MemTotal:       24684092 kB\nHugePages_Free:      12\nActive(anon): 4 kB\n'),
    ).toEqual({
      MemTotal: 24684092 * 1024,
      HugePages_Free: 12,
      'Active(anon)': 4096,
    })
  })

  test('R-GLOB-1 pin counters of vmstat, absent before they existed', () => {
    expect(parseVmstatPins('nr_foo 1\nnr_foll_pin_acquired 5576124\nnr_foll_pin_released 5576100\n')).toEqual(
      {
        acquired: 5576124,
        released: 5576100,
      },
    )
    expect(parseVmstatPins('nr_foo 1\n')).toBeNull()
  })

  test('R-GLOB-3 huge page directories name their size', () => {
    expect(hugepageDirectorySize('hugepages-1048576kB')).toBe(2 ** 30)
    expect(hugepageDirectorySize('khugepaged')).toBeNull()
  })
})

describe('the nearest release', () => {
  test.each([
    ['6.18.44-fc-v657', '6.18', true],
    ['6.1.0-13-amd64', '6.1', true],
    ['6.12.1', '6.12', true],
    ['6.8.0-45-generic', '6.6', false],
    ['6.10.3', '6.12', false],
    ['6.9.0', '6.6', false],
    ['5.15.0-91', '6.1', false],
    ['7.2.0', '6.18', false],
  ])('R-OUT-6 %s runs as %s', (uname, release, exact) => {
    expect(nearestRelease(uname)).toMatchObject({ release, exact })
    expect(nearestRelease(uname).note).toContain(uname)
  })

  test('R-OUT-3 a string without a version is refused', () => {
    expect(() => nearestRelease('unknown')).toThrow(/--kernel/)
  })
})
