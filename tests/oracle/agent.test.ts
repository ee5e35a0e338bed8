import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { last, agent, noAgent, noRoot } from './live.ts'
import { randomScript } from './random-script.ts'

test.skipIf(noRoot)(
  'HOST vector 55: the same 3000 steps twice, in different environments, get the same replies',
  async () => {
    const lines = randomScript(20260, 3000)
    const runs: string[][] = []
    for (const env of [{}, { FILLER: 'x'.repeat(6000), PATH: '/bin' }]) {
      const started = await agent({ env })
      const replies: string[] = []
      for (let at = 0; at < lines.length; at += 200)
        replies.push(...(await started.send(lines.slice(at, at + 200))).map((reply) => JSON.stringify(reply)))
      expect(started.alive).toBe(true)
      runs.push(replies)
    }
    const differs = runs[0]!.findIndex((reply, index) => reply !== runs[1]![index])
    expect(differs < 0 ? null : [lines[differs], runs[0]![differs], runs[1]![differs]]).toBeNull()
    // The script is no idle one: memory was mapped, stored to, refused and caught faulting.
    const seen = runs[0]!.join('\n')
    for (const part of ['"e":12', '"e":"SIGSEGV"', '"rw-s"', ',258,', ',0,16777216,'])
      expect(seen).toContain(part)
  },
)

test.skipIf(noRoot)('R-AG-3: a script after `reset` gets the replies of a fresh agent', async () => {
  const lines = randomScript(77, 400)
  const started = await agent()
  const fresh = await started.send(lines)
  await started.send(randomScript(78, 300))
  await last(
    started,
    'cap 14 off',
    'limit 8 65536',
    'sys brk 0x10000000',
    'sys mmap 0 40960 3 0x22 -1 0',
    'reset',
  )
  expect(await started.send(lines)).toEqual(fresh)
})

test.skipIf(noRoot)('HOST vector 56: level 3 without privileges shows words without frames', async () => {
  const started = await agent({ uid: 65534 })
  expect(started.hello).toMatchObject({ uid: 65534, pfn: false, kpageflags: false, refresh: false })
  expect(started.hello.hidden).toContain('/proc/kpageflags and /proc/kpagecount cannot be read')
  const reply = await last(started, 'obs 3', 'sys mmap @0 8192 3 0x32 -1 0', 'poke @0 1', 'touch r @1')
  // 258 = present and mapped once, 256 = the zero page; nothing beyond the unseen id.
  expect(reply.pm).toEqual([
    [0, 258, null],
    [1, 256, null],
  ])
})

test.skipIf(noAgent)('R-AG-1: the agent has a constant stack, no randomness and one processor', async () => {
  const started = await agent()
  const proc = (name: string) => readFileSync(`/proc/${started.pid}/${name}`, 'latin1')
  expect(proc('cmdline')).toBe('pinscope-agent\0')
  expect(proc('environ')).toBe('PINSCOPE=agent\0')
  expect(proc('status')).toMatch(/^Threads:\t1$/m)
  expect(proc('status')).toMatch(/^Cpus_allowed_list:\t\d+$/m)
  const { all } = await last(started, 'maps all')
  const other = await last(await agent({ env: { A: 'b' } }), 'maps all')
  expect(all).toEqual(other.all)
  expect(all!.some(([, , , name]) => name === '[stack]')).toBe(true)
})

test.skipIf(noAgent)('R-AG-2: the arena has the size asked for and is empty', async () => {
  const started = await agent({ pages: 1024 })
  expect(started.hello.pages).toBe(1024)
  const reply = await last(started, 'obs 2', `sys mmap @0 ${1024 * 4096} 3 0x32 -1 0`, 'touch w @1023')
  expect(reply.maps).toEqual([[0, 1024, 'rw-p', 0, 0, '']])
  expect(reply.pm?.map(([index, bits]) => [index, bits])).toEqual([[1023, 258]])
  expect((await last(started, 'reset', 'nop')).maps).toEqual([])
})

test.skipIf(noAgent)('R-AG-13: a line that ends the agent is `DIED`, later lines are `NOT RUN`', async () => {
  const started = await agent()
  const { all } = await last(started, 'maps all')
  const [start, end] = all!.find(([, , perms, name]) => perms === 'r-xp' && name === 'agent')!
  const replies = await started.send(['nop', `sys munmap ${start} ${end - start}`, 'nop', 'nop'])
  expect(replies.map(({ e }) => e)).toEqual([0, 'DIED', 'NOT RUN', 'NOT RUN'])
  expect(replies[1]!.status! & 127).toBe(11)
  expect(started.alive).toBe(false)
  expect(await last(started, 'nop')).toEqual({ r: -1, e: 'NOT RUN' })
})

test.skipIf(noAgent)('R-AG-13: an agent that does not answer is killed', async () => {
  const started = await agent({ timeout: 300 })
  // The kernel waits for a byte that never comes: both ends of the pipe are here.
  const replies = await started.send(['pipe p', 'sys fcntl $p.r 4 0', 'sys read $p.r &0 1', 'nop'])
  expect(replies.map(({ e }) => e)).toEqual([0, 0, 'HUNG', 'NOT RUN'])
  expect(replies[2]!.status).toBe(9)
})

test.skipIf(noAgent)('R-AG-3: the agent takes its children with it', async () => {
  const started = await agent()
  await started.send(['fork a', 'child a fork b', 'child a child b sys getpid'])
  await started.send(['fork c', 'let pid #c', 'let deep #a'])
  const pids = (await started.send(['let x #a', 'let y #c'])).map(({ r }) => r as number)
  await started.stop()
  for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow('ESRCH')
})

test.skipIf(noAgent)('R-AG-1: wrong lines are answered and nothing is done', async () => {
  const started = await agent()
  const lines = [
    'frobnicate',
    'poke',
    'sys mmap nonsense',
    'peek $nothing',
    'child a nop',
    'put 32768 1',
    `put 0 ${'1 '.repeat(600)}`,
    'sys nosuchcall',
    'obs 9',
    'open f disk ../x 0',
    'close nothing',
    `let ${'n'.repeat(24)} 1`,
    'reset extra',
  ]
  const replies = await started.send(lines)
  expect(replies.slice(0, -1).map(({ e }) => e)).toEqual(lines.slice(1).map(() => 'USAGE'))
  expect(replies.every(({ why, e }) => e === 0 || why!.length > 0)).toBe(true)
  await expect(async () => started.send(['nop\nnop'])).rejects.toThrow(TypeError)
  await expect(async () => started.send([' '])).rejects.toThrow(TypeError)
  expect(await started.send([`let a ${'0'.repeat(17000)}`, 'nop'])).toMatchObject([{ e: 'USAGE' }, { e: 0 }])
})

test.skipIf(noAgent)('R-AG-1: ten thousand lines in one batch', async () => {
  const started = await agent()
  const replies = await started.send(Array.from({ length: 10_000 }, (_, i) => `let n ${i}`))
  expect(replies).toHaveLength(10_000)
  expect(replies[9_999]).toEqual({ r: 9_999, e: 0 })
  expect(started.throughput.perSecond).toBeGreaterThan(1000)
})
