import { readFileSync } from 'node:fs'
import { beforeEach, describe, expect, test } from 'vitest'
import type { OracleAgent } from '../../src/host/oracle-agent.ts'
import type { OracleReply } from '../../src/host/oracle-reply.ts'
import { agent, last, noRoot } from './live.ts'

/** What `fill` stores (docs/oracle-protocol.md). */
const pattern = (seed: number, n: number) =>
  Array.from({ length: n }, (_, i) => (seed + i + 17 * (i >> 12)) & 255)
/** What `sum` answers. */
const sum = (bytes: readonly number[]) => bytes.reduce((h, byte) => (Math.imul(h, 31) + byte) >>> 0, 0)
const ANON = 'sys mmap @0 32768 3 0x32 -1 0'
/** Pages pinned or unpinned; the counters belong to the whole machine, so that others may add to them. */
const atLeast = (reply: OracleReply, key: 'acq' | 'rel', n: number) =>
  expect(reply[key]).toBeGreaterThanOrEqual(n)
const bits = (reply: OracleReply) => reply.pm!.map(([index, bit]) => [index, bit])
const ids = (reply: OracleReply) => reply.pm!.map(([, , id]) => id)
/** Bit 34 of kpageflags: the page belongs to this process alone. */
const exclusive = (reply: OracleReply) =>
  reply.pm!.map(([, , , flags]) => Math.floor(flags! / 2 ** 34) % 2 === 1)

/** The key of a segment, by its id. */
function keyOf(id: OracleReply['r']): string | undefined {
  const rows = readFileSync('/proc/sysvipc/shm', 'latin1').split('\n')
  return rows.map((row) => row.trim().split(/\s+/)).find((row) => row[1] === String(id))?.[0]
}

describe.skipIf(noRoot)('R-AG-5: every command of the agent', () => {
  let at: OracleAgent
  beforeEach(async () => {
    at = await agent()
  })
  const ok = async (...lines: string[]) => {
    const replies = await at.send(lines)
    expect(replies.map(({ e }, i) => (e === 0 ? '' : `${lines[i]} ${JSON.stringify(replies[i])}`))).toEqual(
      lines.map(() => ''),
    )
    return replies[replies.length - 1]!
  }

  test('sys, let, put, get and the words of a line', async () => {
    expect(await ok('put 8 0x10 @1+5 &8-8 -1')).toEqual({ r: 4, e: 0 })
    const words = (await ok('let here &0', 'get 8 4')).w!
    expect(words.slice(0, 2)).toEqual(['0x10', '0x100000001005'])
    expect(words[3]).toBe('0xffffffffffffffff')
    expect(await ok('let n 3', 'let n $n+4-1')).toEqual({ r: 6, e: 0 })
    expect(await last(at, 'sys munmap 1 4096')).toEqual({ r: -22, e: 22 })
    expect(await last(at, 'sys 9 @0 4096 3 0x32 -1 0', 'let a', 'sys munmap $a 4096')).toEqual({ r: 0, e: 0 })
  })

  test('peek, poke, touch, fill, sum and signals', async () => {
    await ok(ANON, 'poke @0 0x1122334455667788 8')
    expect((await ok('peek @0 2')).r).toBe(0x7788)
    expect((await ok('peek @0 8')).r).toBe('0x1122334455667788')
    expect((await ok('fill @1 8192 9')).r).toBe(8192)
    expect((await ok('sum @1 8192')).r).toBe(sum(pattern(9, 8192)))
    const address = at.hello.arena
    expect(await last(at, 'touch w @8')).toEqual({ r: -1, e: 'SIGSEGV', code: 1, addr: address + 8 * 4096 })
    expect(await last(at, 'sys mprotect @4 4096 1', 'poke @4 1')).toMatchObject({ e: 'SIGSEGV', code: 2 })
    expect(await last(at, 'fill @3 8192 0')).toMatchObject({ e: 'SIGSEGV', done: 4096 })
    expect(await last(at, 'memfd m 0 4096', 'sys mmap @8 8192 3 1 $m 0', 'touch r @9')).toMatchObject({
      e: 'SIGBUS',
      code: 2,
    })
  })

  test('R-AG-4: obs, nop and what each level shows', async () => {
    const keys: Record<number, string[]> = {}
    await ok(ANON, 'poke @0 1', 'touch r @1', 'ring r 4 0', 'bufs r @0 4096')
    for (let level = 0; level <= 5; level++)
      keys[level] = Object.keys(await ok(`obs ${level}`, 'nop'))
        .slice(2)
        .sort()
    expect(keys[0]).toEqual([])
    expect(keys[1]).toEqual(['maps', 'size', 'lck', 'pin', 'swap', 'rss'].sort())
    expect(keys[3]).toEqual([...keys[1]!, 'pm'].sort())
    expect(keys[4]).toEqual([...keys[3]!, 'acq', 'rel', 'flt'].sort())
    expect(keys[5]).toEqual([...keys[4]!, 'vma', 'rings'].sort())
    const full = await ok('sys mlock @0 4096')
    expect(full).toMatchObject({
      size: 32,
      lck: 4,
      pin: 4,
      vma: [
        ['rd wr mr mw me lo ac', 4, 4, 0, 4, 0, 0, 0],
        ['rd wr mr mw me ac', 0, 0, 0, 0, 0, 0, 0],
      ],
      rings: { r: ['100000000000/4096'] },
    })
    if (at.hello.rss) expect(full.rss).toEqual([4, 0, 0])
    expect(full.pm!.map(([index, bit, id]) => [index, bit, id])).toEqual([
      [0, 258, 1],
      [1, 256, 0],
    ])
  })

  test('R-AG-8: page ids follow the frame, across mappings and processes', async () => {
    await ok('obs 3', 'memfd m 0 8192', 'sys mmap @0 8192 3 0x11 $m 0', 'sys mmap @8 8192 3 0x11 $m 0')
    expect(ids(await ok('poke @0 1', 'poke @8 2', 'poke @9 3'))).toEqual([1, 1, 2])
    await ok('sys mmap @16 4096 3 0x32 -1 0', 'poke @16 1', 'fork a')
    expect(ids(await ok('child a poke @16 2'))).toEqual([4])
    // A read fault brings in the neighbours that are in the page cache.
    expect(ids(await ok('child a touch r @8'))).toEqual([1, 2, 4])
    // Nobody maps frame 3 of the parent after this: a new one has a new id, even if it is the same frame.
    expect(ids(await ok('sys mmap @16 4096 3 0x8032 -1 0'))).toEqual([1, 1, 2, 5])
    expect(ids(await ok('obs 1', 'nop', 'obs 3', 'nop'))).toEqual([6, 6, 7, 8])
  })

  test('memfd, open, fdfill, fdsum, close and O_DIRECT', async () => {
    expect((await ok('memfd m 0 8192 3', 'fdsum m 0 8192')).r).toBe(sum(pattern(3, 8192)))
    expect(await ok('fdsum m 4096 8192')).toMatchObject({ bytes: 4096 })
    expect([(await ok('fdpages m 8192')).r, (await ok('fdpages m 40960')).r]).toEqual([2, 2])
    if (at.hello.disk) {
      await ok('open f disk data 0x42 8192 7', 'open d disk data 0x4002', ANON)
      expect((await ok('sys pread64 $d @0 8192 0', 'sum @0 8192')).r).toBe(sum(pattern(7, 8192)))
      await ok('fill @2 4096 1', 'sys pwrite64 $d @2 4096 4096', 'obs 1', 'sys mmap @16 4096 1 0x11 $f 0')
      const reply = await ok('nop')
      expect(reply.maps!.map(([, , , , , name]) => name)).toContain('disk/data')
      expect((await ok('fdsum f 4096 4096')).r).toBe(sum(pattern(1, 4096)))
    }
    expect((await ok('open t tmp data 0x42', 'fdfill t 4096 100 5', 'fdsum t 4096 100')).r).toBe(
      sum(pattern(5, 100)),
    )
    await ok('close t')
    expect(await last(at, 'fdsum t 0 1')).toMatchObject({ e: 'USAGE' })
    // A file of an earlier program is gone.
    expect(await last(at, 'reset', 'open t tmp data 2')).toMatchObject({ r: -2, e: 2 })
  })

  test('pipe, feed, drain and vmsplice', async () => {
    await ok('pipe p', 'feed p 100 1')
    expect(await ok('drain p 200')).toEqual({ r: 100, e: 0, sum: sum(pattern(1, 100)) })
    expect(await last(at, 'drain p 1')).toEqual({ r: -11, e: 11 })
    await ok(ANON, 'fill @0 4096 1', 'vmsplice p @0 4096 0', 'fill @0 4096 2')
    // The pipe holds the page, not a copy.
    expect((await ok('drain p 4096')).sum).toBe(sum(pattern(2, 4096)))
    await ok('close p')
  })

  test('R-AG-10: ring, bufs, bufs2, upd, unreg, reg, sqe, submit, cqes and close', async () => {
    await ok('obs 4', ANON, 'ring r 4 0', 'pipe p')
    const registered = await ok('bufs r @0 8192')
    expect(registered.pin).toBe(8)
    atLeast(registered, 'acq', 2)
    expect(await last(at, 'bufs r @0 8192')).toMatchObject({ e: 16 })
    expect(await ok('upd r 0 @2 4096')).toMatchObject({ r: 1, pin: 4 })
    await ok('feed p 50 8', 'sqe r 4 $p.r @2 50 0 0 0 77')
    expect(await ok('submit r 1')).toMatchObject({ r: 1, cqe: [[77, 50, 0]] })
    expect((await ok('sum @2 50')).r).toBe(sum(pattern(8, 50)))
    await ok('sqe r 5 $p.w @2 50 0 0 0 78', 'submit r 1')
    expect((await ok('drain p 50')).sum).toBe(sum(pattern(8, 50)))
    expect(await ok('unreg r')).toMatchObject({ pin: 0 })
    expect(await last(at, 'reg r 1 0 0')).toMatchObject({ e: 6 })
    await ok('bufs2 r 0 2 @0 4096 5 @1 4096 6', 'unreg r')
    const tags = await ok('cqes r')
    expect(tags.cqe!.map(([data]) => data).sort()).toEqual([5, 6])
    await ok('bufs r @0 16384')
    // Its pins go some milliseconds after the last descriptor; the reply comes after that.
    const closed = await ok('close r')
    expect(closed.pin).toBe(0)
    atLeast(closed, 'rel', 4)
    await ok('settle')
  })

  test('fork, child, start, wait, reap and kill', async () => {
    await ok('obs 3', ANON, 'poke @0 1')
    const parent = await ok('fork a')
    expect([bits(parent), exclusive(parent)]).toEqual([[[0, 256]], [false]])
    const child = await ok('child a poke @0 2')
    expect([bits(child), exclusive(child)]).toEqual([[[0, 258]], [true]])
    expect((await ok('peek @0')).r).toBe(1)
    expect((await ok('child a fork b', 'child a child b peek @0')).r).toBe(2)
    expect(await ok('start a nop')).toEqual({ r: 0, e: 0 })
    expect(await last(at, 'child a nop')).toMatchObject({ e: 'USAGE' })
    expect(bits(await ok('wait a'))).toEqual([[0, 256]])
    expect(await ok('reap a')).toMatchObject({ status: 0 })
    expect(await ok('fork c', 'kill c 9')).toMatchObject({ status: 9 })
    // A child that is gone when it is asked.
    expect(await last(at, 'fork d', 'child d sys 231 7')).toEqual({ r: -1, e: 'DIED', status: 7 << 8 })
    expect(await last(at, 'child d nop')).toMatchObject({ e: 'USAGE' })
  })

  test('HOST vector 18: write, fork, child exits, parent writes', async () => {
    const seen: unknown[] = []
    await ok('obs 3', ANON)
    for (const line of ['poke @0 1', 'fork a', 'reap a', 'poke @0 2']) {
      const reply = await ok(line)
      const [, bit, , , count] = reply.pm![0]!
      seen.push([(bit & 2) / 2, Number(exclusive(reply)[0]), count])
    }
    expect(seen).toEqual([
      [1, 1, 1],
      [0, 0, 2],
      [1, 0, 1],
      [1, 1, 1],
    ])
  })

  test('uffd-orphan: a descriptor about an address space that is gone', async () => {
    await ok('obs 2', ANON, 'fill @0 8192 3', 'uffd-orphan u 0x80800 0')
    expect(await last(at, 'uffd-reg u @0 4096 1')).toMatchObject({ e: 12 })
    expect(await last(at, 'uffd-unreg u @0 4096')).toMatchObject({ e: 12 })
    expect(await last(at, 'uffd-do u copy @2 4096 1')).toMatchObject({ e: 3, done: 0 })
    expect(await last(at, 'uffd-orphan v 0x80800 8')).toMatchObject({ e: 0 })
    expect(await last(at, 'uffd-orphan w 4 0')).toMatchObject({ e: 22 })
    expect(await ok('close u', 'sum @0 8192')).toMatchObject({ r: sum(pattern(3, 8192)) })
  })

  test('exec with arguments: a new address space, or E2BIG and everything as it was', async () => {
    await ok('obs 2', ANON, 'fill @0 8192 3', 'memfd m 0 4096', 'fork a', 'ring r 4 0')
    // 131072 bytes under a stack of 512 KiB: 45 beside, 4 pointers, 1000 letters and an end
    const most = 131072 - 45 - 4 * 8 - 1001 - 1
    expect(await at.send([`exec 1 1000 ${most + 1} 524288`])).toMatchObject([{ r: -7, e: 7, pin: 0 }])
    expect((await ok('sum @0 8192')).r).toBe(sum(pattern(3, 8192)))
    expect((await ok('nop')).size).toBe(32)
    await ok('sqe r 0 -1 0 0 0 0 0 5')
    expect(await ok('submit r 1')).toMatchObject({ cqe: [[5, 0, 0]] })
    expect(await ok(`exec 1 1000 ${most} 524288`)).toMatchObject({ maps: [], pm: [], size: 0, lck: 0 })
    expect((await ok('fdsum m 0 4096', 'child a sum @0 8192')).r).toBe(sum(pattern(3, 8192)))
    expect(await last(at, 'submit r 0')).toMatchObject({ e: 'USAGE' })
  })

  test('exec: a new address space, the same descriptors, names and children', async () => {
    await ok(
      'obs 3',
      ANON,
      'poke @0 1',
      'memfd m 0 4096 9',
      'fork a',
      'ring r 4 0',
      'bufs r @0 4096',
      'let n 42',
    )
    expect(await ok('exec')).toMatchObject({ maps: [], pm: [], pin: 0, size: 0 })
    expect((await ok('let n $n')).r).toBe(42)
    expect((await ok('fdsum m 0 4096')).r).toBe(sum(pattern(9, 4096)))
    expect((await ok('child a peek @0')).r).toBe(1)
    expect(await last(at, 'unreg r')).toMatchObject({ e: 'USAGE' })
    expect(await ok('child a exec')).toMatchObject({ maps: [] })
  })

  test('pvm, mem and ptrace', async () => {
    await ok(ANON, 'poke @0 5', 'fork a', 'child a poke @0 6', 'pvm r a @0 1 @1')
    expect((await ok('peek @1')).r).toBe(6)
    await ok('poke @1 7', 'pvm w a @0 1 @1')
    expect((await ok('child a peek @0')).r).toBe(7)
    expect((await ok('child a pvm r parent @0 1 @2', 'child a peek @2')).r).toBe(5)
    await ok('sys mprotect @3 4096 0', 'put 0 9', 'mem w self @3 8 &0', 'mem r self @3 8 &8')
    expect((await ok('get 8 1')).w).toEqual(['0x9'])
    expect(await last(at, 'mem r self -4096 8 &8')).toEqual({ r: -22, e: 22 })
    expect(await last(at, 'mem r self -4096 4095 &8 seek')).toEqual({ r: -5, e: 5 })
    expect(await last(at, 'mem r self -4096 4096 &8 seek')).toEqual({ r: -75, e: 75 })
    expect((await ok('mem r self @0 1 &8 seek', 'get 8 1')).w).toEqual(['0x5'])
    await ok('ptrace poke a @4 0xabc')
    expect(await ok('ptrace peek a @4')).toEqual({ r: 0, e: 0, v: '0xabc' })
    expect(await last(at, 'ptrace peek a @60')).toEqual({ r: -5, e: 5 })
    expect((await ok('child a peek @4 2')).r).toBe(0xabc)
  })

  test.skipIf(noRoot)('userfaultfd: registration, answers, the handler', async () => {
    if (!at.hello.uffdKernel) return
    await ok('obs 2', ANON, 'uffd u 0x80000 0', 'uffd-reg u @0 32768 1')
    expect(await ok('uffd-do u copy @0 4096 3')).toMatchObject({ done: 4096 })
    expect((await ok('sum @0 4096')).r).toBe(sum(pattern(3, 4096)))
    await ok('uffd-handler u copy 4')
    expect(await ok('peek @1')).toMatchObject({ r: 4, uffd: [[18, 0, 1, 0]] })
    expect(await ok('uffd-handler u zero', 'poke @2 1')).toMatchObject({ uffd: [[18, 1, 2, 0]] })
    // A fault of the kernel's: the buffer's page is asked for while the system call waits.
    expect(await ok('ring r 4 0', 'bufs r @3 4096')).toMatchObject({ pin: 4, uffd: [[18, 1, 3, 0]] })
    // No event for a child of the handler's: the arena was never shared with another address space.
    expect(bits(await ok('nop'))).toEqual([0, 1, 2, 3].map((index) => [index, 258]))
    await ok('uffd-handler u off', 'fork a', 'uffd-unreg u @0 32768')
    expect(await ok('uffd-read u')).toMatchObject({ r: 0, events: [] })
  })

  test('xdp, xdp-socket and xdp-reg', async () => {
    if (!at.hello.xdp) return
    atLeast(await ok('obs 4', ANON, 'xdp x @0 16384 4096 0 0'), 'acq', 4)
    atLeast(await ok('close x'), 'rel', 4)
    expect(await last(at, 'xdp y @1+1 4096 4096 0 0')).toMatchObject({ e: 22 })
    await ok('xdp-socket z', 'xdp-reg z @0 4096 4096 0 0')
    expect(await last(at, 'xdp-reg z @0 4096 4096 0 0')).toMatchObject({ e: 16 })
    expect(await last(at, 'xdp-reg z @0 4096 4096 0 0 23')).toMatchObject({ e: 22 })
    expect(await last(at, 'xdp-socket w 2')).toMatchObject({ e: 94 })
    expect(await last(at, 'xdp-socket w 3 1')).toMatchObject({ e: 93 })
  })

  test('shm-key: keys are one agent’s own, and free again after reset', async () => {
    const make = `shm-key s 3 8192 ${0o1600}`
    const only = `shm-key t 3 4096 ${0o3600}`
    const { r: id } = await ok(make)
    expect(await last(at, only)).toMatchObject({ e: 17 })
    expect(await ok('fork a', `child a shm-key u 3 4096 ${0o600}`)).toMatchObject({ r: id })
    const maps = (await ok('obs 1', 'sys shmat $s @0 0')).maps
    expect(maps).toMatchObject([[0, 2, 'rw-s', 0, 1, '/SYSV00000003 (deleted)']])
    const other = await agent()
    expect((await last(other, only)).r).not.toBe(id)
    expect(await last(at, 'shm-key v 16 4096 0')).toMatchObject({ e: 'USAGE' })
    await ok('reset', only)
    await ok('reset')
    // a key that somebody has is left alone
    const theirs = await ok(make)
    const key = keyOf(theirs.r)
    await ok('reset', `sys shmget ${key} 4096 ${0o3600}`, 'let kept')
    const ours = await ok(only)
    const own = keyOf(ours.r)
    await ok('sys shmctl $kept 0 0')
    expect(own).not.toBe(key)
  })

  test('ksm merges equal pages on request', async () => {
    await ok('obs 3', ANON, 'sys madvise @0 32768 12', 'fill @0 4096 1', 'fill @1 4096 1')
    const merged = await last(at, 'ksm 3')
    if (merged.e === 2) return
    expect(merged).toMatchObject({ e: 0, scans: 3 })
    expect(ids(merged)[0]).toBe(ids(merged)[1])
    expect(ids(await ok('poke @1 9'))[0]).not.toBe(ids(await ok('nop'))[1])
  })

  test('limit and cap; reset gives them back', async () => {
    await ok(ANON, 'limit 8 8192', 'cap 14 off')
    expect(await last(at, 'sys mlock @0 16384')).toMatchObject({ e: 12 })
    await ok('cap 14 on', 'sys mlock @0 16384', 'cap 14 off', 'reset', ANON)
    await ok('sys mlock @0 32768')
    expect((await ok('hello')) as unknown).toMatchObject({
      capEff: at.hello.capEff,
      memlock: at.hello.memlock,
    })
  })

  test('reset: nothing is left, not even what cannot be unmapped', async () => {
    await ok('obs 5', ANON, 'memfd m 0 4096', 'fork a', 'ring r 4 0', 'bufs r @0 32768', 'sys mlockall 1')
    const before = (await ok('maps all')).all
    await last(at, 'sys mseal @0 4096', 'sys mmap 0 4096 3 0x22 -1 0')
    expect(await ok('reset')).toEqual({ r: 0, e: 0 })
    expect(await ok('nop')).toMatchObject({ maps: [], size: 0, lck: 0, pin: 0, pm: [], rings: {} })
    expect(await last(at, 'peek $m')).toMatchObject({ e: 'USAGE' })
    expect(await last(at, 'child a nop')).toMatchObject({ e: 'USAGE' })
    expect((await ok('memfd m 0 0')).r).toBe(3)
    expect((await ok('maps all')).all!.length).toBeLessThan(before!.length)
  })

  test('quit ends the agent', async () => {
    expect(await at.send(['quit', 'nop'])).toEqual([
      { r: 0, e: 0 },
      { r: -1, e: 'DIED', status: 0 },
    ])
  })
})
