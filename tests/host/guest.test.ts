/** Debian's kernels in QEMU with the agent as process 1: the real thing, a few seconds for each boot. */
import { afterAll, describe, expect, test } from 'vitest'
import { GUEST_SERIES, guestKernel, type GuestSeries } from '../../src/host/guest/kernel.ts'
import { GuestAgent, type GuestAgentOptions } from '../../src/host/guest/guest-agent.ts'
import { guestTools } from '../../src/host/guest/tools.ts'
import { guestInitramfs } from '../../src/host/guest/initramfs.ts'
import { RunningMachine } from '../../src/host/guest/machine.ts'
import { qemuArguments } from '../../src/host/guest/command-line.ts'
import { OracleChannel } from '../../src/host/oracle-channel.ts'
import { buildOracleAgent } from '../../src/host/oracle-build.ts'

/** Why a series cannot be booted here; null when it can. */
async function hindrance(series: GuestSeries): Promise<string | null> {
  if (process.env['PINSCOPE_GUESTS'] !== '1')
    return 'PINSCOPE_GUESTS=1 boots Debian kernels, fetched the first time'
  for (const part of [guestTools(), buildOracleAgent()]) if ('skip' in part) return part.skip
  const kernel = await guestKernel(series)
  return 'skip' in kernel ? kernel.skip : null
}

const hindrances = new Map<GuestSeries, string | null>()
for (const series of GUEST_SERIES) hindrances.set(series, await hindrance(series))

const running = new Map<GuestSeries, Promise<GuestAgent>>()

/** One guest for each series, booted when a test first needs it; booted again after it died. */
async function guest(kernel: GuestSeries, options: Partial<GuestAgentOptions> = {}): Promise<GuestAgent> {
  const started = await running.get(kernel)
  if (started?.alive) return started
  const booting = started?.restart() ?? GuestAgent.start({ kernel, pages: 2048, ...shape, ...options })
  running.set(kernel, booting)
  return booting
}

/** What every test of a series can count on. */
const shape = { hugepages: 8, swap: 64 << 20 }

afterAll(async () => {
  for (const booted of running.values()) await (await booted).stop()
})

const RING = 'ring r 8 0'
const DISK = 'open d disk d 0x42 8192 1'
const OK = 0
const EFAULT = 14
const EINVAL = 22
const EOPNOTSUPP = 95

function map(flags: number, file = '-1', page = 0, prot = 3): string {
  return `sys mmap @${page} 4096 ${prot} ${flags} ${file} 0`
}
const SHARED = 0x11
const PRIVATE = 0x12
const ANON = 0x32

/** Rows of docs/spec/io-uring.md §6: lines that end with a registration, errno on 6.1 and on 6.12. */
const acceptance: [name: string, lines: string[], errno: Record<GuestSeries, number>][] = [
  ['private anonymous', [map(ANON), RING, 'bufs r @0 4096'], { '6.1': OK, '6.12': OK }],
  ['memfd shared', ['memfd m 0 8192', map(SHARED, '$m'), RING, 'bufs r @0 4096'], { '6.1': OK, '6.12': OK }],
  ['ext4 shared', [DISK, map(SHARED, '$d'), RING, 'bufs r @0 4096'], { '6.1': EOPNOTSUPP, '6.12': EFAULT }],
  ['ext4 private', [DISK, map(PRIVATE, '$d'), RING, 'bufs r @0 4096'], { '6.1': EOPNOTSUPP, '6.12': OK }],
  [
    'SysV shared memory',
    ['sys 29 0 4096 0x380', 'let s', 'sys 30 $s @0 0', 'sys 31 $s 0 0', RING, 'bufs r @0 4096'],
    { '6.1': EOPNOTSUPP, '6.12': OK },
  ],
  ['read-only', [map(ANON, '-1', 0, 1), RING, 'bufs r @0 4096'], { '6.1': EFAULT, '6.12': EFAULT }],
  [
    'hugetlb',
    [`sys mmap @512 2097152 3 ${ANON | 0x40000} -1 0`, RING, 'bufs r @512 8192'],
    { '6.1': OK, '6.12': OK },
  ],
  [
    'secret memory',
    ['sys 447 0', 'let s', 'sys ftruncate $s 8192', map(SHARED, '$s'), RING, 'bufs r @0 4096'],
    { '6.1': EFAULT, '6.12': EFAULT },
  ],
  [
    'anonymous, then memfd',
    ['memfd m 0 8192', map(ANON), map(SHARED, '$m', 1), RING, 'bufs r @0 8192'],
    { '6.1': EINVAL, '6.12': OK },
  ],
  [
    'memfd, then ext4 shared',
    [DISK, 'memfd m 0 8192', map(SHARED, '$m'), map(SHARED, '$d', 1), RING, 'bufs r @0 8192'],
    { '6.1': EINVAL, '6.12': EFAULT },
  ],
  [
    'ext4 private, then anonymous',
    [DISK, map(PRIVATE, '$d'), map(ANON, '-1', 1), RING, 'bufs r @0 8192'],
    { '6.1': EOPNOTSUPP, '6.12': OK },
  ],
]

/** Bytes of a string with its end, as words for `put`. */
function words(text: string): string {
  const bytes = Buffer.alloc((text.length + 8) & ~7)
  bytes.write(text, 'latin1')
  return Array.from(
    { length: bytes.length / 8 },
    (_, i) => `0x${bytes.readBigUInt64LE(8 * i).toString(16)}`,
  ).join(' ')
}

/** A kernel ends itself when a c is written there. */
const CRASH = [
  `put 0 ${words('/proc/sysrq-trigger')}`,
  `put 64 ${words('c')}`,
  'sys 257 -100 &0 1 0',
  'let t',
  'sys write $t &64 1',
]

describe.each(GUEST_SERIES)("guest %s (needs QEMU, a C compiler and Debian's kernel)", (series) => {
  const run = test.skipIf(hindrances.get(series) !== null)

  run('R-AG-3: the agent is process 1 of that kernel and sees everything', { timeout: 180_000 }, async () => {
    const { hello, kernel, bootTime } = await guest(series)
    expect(hello.release).toMatch(new RegExp(`^${series.replace('.', '\\.')}\\.`))
    expect(kernel.release).toBe(hello.release)
    expect(hello).toMatchObject({
      pid1: true,
      uid: 0,
      pages: 2048,
      disk: 'ext4',
      tmp: 'tmpfs',
      hugetlbFree: 8,
      swap: 1,
    })
    expect(hello).toMatchObject({
      pfn: true,
      kpageflags: true,
      refresh: true,
      uring: true,
      uffd: true,
      xdp: true,
    })
    expect(bootTime).toBeGreaterThan(0)
  })

  run('R-AG-4: maps, touches and observes', { timeout: 180_000 }, async () => {
    const agent = await guest(series)
    const replies = await agent.send(['reset', 'obs 4', 'sys mmap @2 8192 3 0x32 -1 0', 'touch w @3', 'nop'])
    expect(replies[2]).toMatchObject({
      r: 0x100000000000 + 8192,
      e: 0,
      maps: [[2, 4, 'rw-p', 0, 0, '']],
      pm: [],
    })
    // one write fault, not a read fault and a write fault
    expect(replies[3]).toMatchObject({ e: 0, flt: 1 })
    expect(replies[3]!.pm).toHaveLength(1)
    expect(replies[3]!.pm![0]!.slice(0, 3)).toEqual([3, 258, 1])
    expect(replies[4]).toMatchObject({ e: 0, flt: 0, pm: replies[3]!.pm })
  })

  run('R-PM-2: a page that was swapped out', { timeout: 180_000 }, async () => {
    const agent = await guest(series)
    const lines = ['reset', 'obs 2', map(ANON), 'poke @0 90', 'sys madvise @0 4096 21', 'obs 0', 'peek @0']
    const replies = await agent.send(lines)
    expect(replies[4]).toMatchObject({ e: 0, swap: 4, pm: [[0, 128, 'swap']] })
    expect(replies[6]).toMatchObject({ r: 90, e: 0 })
  })

  run.each(acceptance)('R-URING-24: registering %s', { timeout: 180_000 }, async (_, lines, errno) => {
    const agent = await guest(series)
    const replies = await agent.send(['reset', 'obs 0', ...lines])
    expect(replies.slice(0, -1).filter(({ e }) => e !== 0)).toEqual([])
    expect(replies.at(-1)!.e).toBe(errno[series])
  })

  run(
    'R-AG-13: a guest that dies is reported with its line, and another one boots',
    { timeout: 180_000 },
    async () => {
      const agent = await guest(series)
      const replies = await agent.send(['reset', 'obs 0', ...CRASH, 'nop', 'nop'])
      expect(replies.map(({ e }) => e)).toEqual([0, 0, 0, 0, 0, 0, 'DIED', 'NOT RUN', 'NOT RUN'])
      expect(agent.alive).toBe(false)
      expect(agent.death!.line).toBe('sys write $t &64 1')
      expect(agent.death!.message).toContain(agent.hello.release)
      expect(agent.death!.message).toMatch(/Kernel panic - not syncing/)
      expect((await agent.send(['nop']))[0]!.e).toBe('NOT RUN')
      const next = await guest(series)
      expect(next).not.toBe(agent)
      expect(next.hello).toEqual(agent.hello)
      expect((await next.send(['nop']))[0]).toEqual({ r: 0, e: 0 })
    },
  )
})

const run = test.skipIf(hindrances.get('6.12') !== null)

run('R-AG-13: a guest that does not answer is given up (needs QEMU)', { timeout: 180_000 }, async () => {
  const agent = await GuestAgent.start({ kernel: '6.12', timeout: 1000 })
  process.kill(agent.pid, 'SIGSTOP')
  expect((await agent.send(['nop', 'nop'])).map(({ e }) => e)).toEqual(['HUNG', 'NOT RUN'])
  expect(agent.death).toMatchObject({
    line: 'nop',
    message: expect.stringContaining('did not answer any more'),
  })
})

run(
  'R-AG-13: an agent that dies alone ends the guest with its status (needs QEMU)',
  { timeout: 180_000 },
  async () => {
    const agent = await guest('6.12')
    const replies = await agent.send(['reset', 'obs 0', 'sys 62 #self 9', 'nop'])
    expect(replies.map(({ e }) => e)).toEqual([0, 0, 'DIED', 'NOT RUN'])
    expect(agent.death).toEqual({
      line: 'sys 62 #self 9',
      message: `the guest ${agent.hello.release} ended in "sys 62 #self 9": wait status 9 of the agent`,
    })
  },
)

run(
  'guest: a machine whose port nobody holds any more powers off (needs QEMU)',
  { timeout: 180_000 },
  async () => {
    const { kernel } = await guest('6.12')
    const agent = buildOracleAgent()
    const tools = guestTools()
    if ('skip' in agent || 'skip' in tools) throw new Error('both were there before')
    const initramfs = guestInitramfs(kernel, agent.path)
    const words = qemuArguments({ vmlinuz: kernel.vmlinuz, initramfs, disk: null, memory: 512, options: {} })
    const machine = new RunningMachine(tools.qemu, words)
    const channel = new OracleChannel(machine.agent, machine.agent, 0)
    expect(await machine.booted(channel.ready, 120_000)).not.toBeNull()
    machine.agent.destroy()
    await machine.gone
    expect(machine.stopped).toBe(false)
  },
)

run('guest: stopping is no death, and may be done twice (needs QEMU)', { timeout: 180_000 }, async () => {
  const agent = await GuestAgent.start({ kernel: '6.12' })
  const pid = agent.pid
  await agent.stop()
  await agent.stop()
  expect(agent.alive).toBe(false)
  expect((await agent.send(['nop']))[0]!.e).toBe('NOT RUN')
  expect(agent.death).toBeNull()
  expect(() => process.kill(pid, 0)).toThrow(/ESRCH/)
})
