/**
 * Failures that users reported (drivers.md §15), made to happen on the running kernel: what `explain` says of the live
 * process first is what the call then returns. Only as root, who can become everybody else and has a network to himself.
 */
import { spawn, spawnSync } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, it } from 'vitest'
import { build } from '../../../scripts/cc.ts'
import type { Answer } from '../../../src/explain/answer.ts'
import { explain } from '../../../src/explain/explain.ts'
import type { GivenOptions } from '../../../src/explain/requests.ts'
import { noIoUring } from '../kinds.ts'

const P = 4096
const KiB = 1024

/** The program, started by a command that ends as it. */
class Calls {
  readonly pid: number
  readonly memory: number
  readonly #ask: (line: string) => Promise<string>
  readonly end: () => void

  private constructor(pid: number, memory: number, ask: (line: string) => Promise<string>, end: () => void) {
    this.pid = pid
    this.memory = memory
    this.#ask = ask
    this.end = end
  }

  static async start(command: readonly string[]): Promise<Calls> {
    const child = spawn(command[0]!, command.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] })
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const next = async (): Promise<string> => {
      const { done, value } = await lines.next()
      if (done === true) throw new Error(`${command.join(' ')} ended early`)
      return value
    }
    const [pid, memory] = (await next()).split(' ').map(Number)
    const ask = (line: string): Promise<string> => {
      child.stdin.write(`${line}\n`)
      return next()
    }
    return new Calls(pid!, memory!, ask, () => child.stdin.end())
  }

  /** The errno of a call, '0' for none. */
  call(...words: (string | number)[]): Promise<string> {
    return this.#ask(words.join(' '))
  }

  explain(request: string, offset: number, length: number, more: GivenOptions = {}): Answer {
    const range = { start: this.memory + offset, length }
    return explain({ pid: this.pid, range, request, release: 'host', ...more })
  }
}

const here = import.meta.dirname
const program = build({
  name: 'reported-calls',
  sources: [path.join(here, 'calls.c')],
  headers: [],
  flags: ['-std=gnu11', '-O1', '-Wall', '-Wextra', '-Werror'],
})

/** Why nothing can be tried here. */
function missing(): string | null {
  if ('skip' in program) return program.skip
  if (process.getuid?.() !== 0) return 'not root'
  const tools = ['prlimit', 'setpriv', 'unshare'].filter(
    (tool) => spawnSync(tool, ['--version']).error !== undefined,
  )
  if (tools.length > 0) return `no ${tools.join(', ')}`
  const { status } = spawnSync(program.path, ['--own-network'], { input: 'socket\n' })
  return status === 0 ? noIoUring() : 'no network namespaces or no AF_XDP'
}

const reason = missing()
if (reason !== null) it.skip(`reported failures on the running kernel: ${reason}`, () => {})
else
  describe('on the running kernel', () => {
    const executable = 'path' in program ? program.path : ''
    let calls: Calls
    afterEach(() => calls.end())

    const asRoot = async (): Promise<void> => {
      calls = await Calls.start([executable, '--own-network'])
    }
    /** An ordinary user of his own: what he charges is given back late. */
    const asUser = async (uid: number, memlock: number | string): Promise<void> => {
      const become = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', executable]
      calls = await Calls.start(['prlimit', `--memlock=${memlock}`, ...become])
    }
    const errnoOf = ({ verdict }: Answer): string => (verdict.ok === true ? '0' : (verdict.errno ?? '?'))

    const frames: readonly [string, number, number, number, number, number, string][] = [
      ['DRV report 36: frames longer than a page', 0, 32 * 9746, 9746, 0, 0, 'EINVAL'],
      ['DRV report 37: frames of 2304 bytes', 0, 30 * 2304, 2304, 0, 0, 'EINVAL'],
      ['DRV report 38: the same, unaligned, in an odd length', 0, 31 * P + 100, 2304, 0, 1, '0'],
      ['DRV report 39: the defaults of the library', 0, 32 * P, P, 0, 0, '0'],
      ['DRV report 39: from malloc', 16, 32 * P, P, 0, 0, 'EINVAL'],
      ['DRV report 39: headroom', 0, 32 * P, P, P, 0, 'EINVAL'],
    ]
    it.each(frames)('%s', async (_name, offset, length, frameSize, headroom, flags, errno) => {
      await asRoot()
      const answer = calls.explain('xdp:umem-reg', offset, length, {
        frameSize,
        headroom,
        unaligned: flags === 1,
      })
      expect(errnoOf(answer)).toBe(errno)
      expect(await calls.call('xdp', offset, length, frameSize, headroom, flags)).toBe(errno)
    })

    it('DRV report 40: EBUSY while a ring is mapped, and for a while after (R-XDP-12, R-XDP-13)', async () => {
      await asRoot()
      const seen = [
        await calls.call('rebind mapped'),
        await calls.call('rebind soon'),
        await calls.call('rebind late'),
      ]
      expect(seen).toEqual(['EBUSY', 'EBUSY', '0'])
    })

    it('DRV report 41: no socket without CAP_NET_RAW (R-XDP-1)', async () => {
      await asUser(65526, 8192 * KiB)
      expect(await calls.call('socket')).toBe('EPERM')
      expect(calls.explain('xdp:umem-reg', 0, 32 * P).assumptions.join()).toContain(
        'CAP_NET_RAW, which it has not',
      )
    })

    it('DRV report 43: the loopback interface cannot do without copying (R-XDP-14)', async () => {
      await asRoot()
      expect([await calls.call('bind', 4), await calls.call('bind', 2)]).toEqual(['EOPNOTSUPP', '0'])
    })

    it('DRV report 45: 64 KiB of limit and a ring: 32 KiB in unaligned buffers of a page, not more', async () => {
      await asUser(65525, 64 * KiB + 2 * P)
      const one = calls.explain('io_uring:register-buffers', 512, 64 * KiB)
      expect(one).toMatchObject({ verdict: { errno: 'ENOMEM' }, memlock: { needed: 19, limit: 18 } })
      expect(await calls.call('uring', 1, 512, 64 * KiB, 0)).toBe('ENOMEM')
      expect(errnoOf(calls.explain('io_uring:register-buffers', 0, 64 * KiB))).toBe('0')
      expect(await calls.call('uring', 1, 0, 64 * KiB, 0)).toBe('0')
      expect(await calls.call('uring', 9, 64, P, P)).toBe('ENOMEM')
      expect(await calls.call('uring', 8, 64, P, P)).toBe('0')
    })

    it('DRV report 2, DRV report 5: the limit of the process and a capability that is in its bounding set only', async () => {
      await asUser(65524, `${64 * KiB}:${8192 * KiB}`)
      const answer = calls.explain('io_uring:register-buffers', 0, 128 * KiB)
      expect(answer).toMatchObject({
        verdict: { errno: 'ENOMEM' },
        memlock: { limit: 16, exempt: false, capability: 'bounding', liftedBy: 'CAP_IPC_LOCK' },
      })
      expect(await calls.call('uring', 1, 0, 128 * KiB, 0)).toBe('ENOMEM')
      // what the first hint says, done
      const [raise] = answer.hints
      const bytes = /prlimit --pid \d+ --memlock=(\d+)/.exec(raise!.text)![1]
      expect(await calls.call('memlock', bytes!)).toBe('0')
      expect(await calls.call('uring', 1, 0, 128 * KiB, 0)).toBe('0')
    })

    it('DRV report 8: root of a user namespace has the capability there only (R-DRV-3)', async () => {
      const inside = ['unshare', '--user', '--map-root-user', executable]
      const become = ['setpriv', '--reuid=65523', '--regid=65523', '--clear-groups', ...inside]
      calls = await Calls.start(['prlimit', `--memlock=${64 * KiB}`, ...become])
      const answer = calls.explain('io_uring:register-buffers', 0, 128 * KiB)
      expect(answer).toMatchObject({
        verdict: { errno: 'ENOMEM' },
        memlock: { limit: 16, exempt: false, capability: 'user-namespace' },
      })
      expect(await calls.call('uring', 1, 0, 128 * KiB, 0)).toBe('ENOMEM')
    })
  })
