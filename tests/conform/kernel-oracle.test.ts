import { describe, expect, it } from 'vitest'
import { AgentDied } from '../../src/conform/kernel-driver.ts'
import { openOracle, type RunningAgent } from '../../src/conform/kernel-oracle.ts'
import { namedJobs } from '../../src/conform/job.ts'
import { PROGRAM_FORMAT, type Program } from '../../src/conform/program.ts'
import { ConformRun } from '../../src/conform/run.ts'
import { LocalWorker } from '../../src/conform/worker.ts'
import type { OracleHello, OracleReply } from '../../src/host/oracle-reply.ts'

const hello = {
  arena: 2 ** 44,
  pages: 64,
  uid: 0,
  capEff: '0',
  pfn: true,
  memlock: 65536,
  data: 0,
  locked: 0,
  thp: false,
} as OracleHello

/** An agent that answers every line with nothing mapped, and ends in the line `deadly`. */
function agent(deadly: string): RunningAgent & { readonly stopped: () => boolean } {
  let alive = true
  let stopped = false
  const answer = (line: string): OracleReply => {
    if (!alive) return { r: -1, e: 'NOT RUN' }
    if (line === deadly) {
      alive = false
      return { r: -1, e: 'DIED' }
    }
    if (line === 'hello') return { ...hello, r: 0, e: 0 } as unknown as OracleReply
    return { r: 0, e: 0, all: [], maps: [], size: 0, lck: 0, pin: 0, swap: 0, acq: 0, rel: 0 }
  }
  return {
    hello,
    get alive() {
      return alive
    },
    get death() {
      return alive ? null : { message: 'the guest ended: Kernel panic' }
    },
    send: (lines) => Promise.resolve(lines.map(answer)),
    stop: () => Promise.resolve(void (stopped = true)),
    stopped: () => stopped,
  }
}

function program(...steps: Program['steps']): Program {
  return { formatVersion: PROGRAM_FORMAT, theme: 'basic', steps }
}

describe('R-AG-13 a program that ends the kernel', () => {
  it('is reported by name, and the next one runs on a kernel started anew', async () => {
    const agents: ReturnType<typeof agent>[] = []
    const start = (): Promise<RunningAgent> => {
      agents.push(agent('sys munlockall'))
      return Promise.resolve(agents.at(-1)!)
    }
    const oracle = await openOracle({ release: '6.12', start })
    const jobs = namedJobs([
      { name: 'deadly', program: program({ by: 0, op: 'munlockall' }) },
      { name: 'harmless', program: program({ by: 0, op: 'munlock', at: 0, length: 0 }) },
    ])
    const summary = await new ConformRun([new LocalWorker(oracle)]).run(jobs)
    expect(summary.deaths).toEqual([{ name: 'deadly', message: 'the guest ended: Kernel panic' }])
    expect([summary.programs, summary.differing]).toEqual([1, 0])
    // the second one ran the harmless program, and ended in the second try of the deadly one
    expect(agents.map((each) => each.stopped())).toEqual([true, false])
    await oracle.stop()
    expect(agents[1]!.stopped()).toBe(true)
  })

  it('says in which line an agent without a death of its own ended', async () => {
    const start = (): Promise<RunningAgent> =>
      Promise.resolve(Object.defineProperty(agent('peek @0'), 'death', { value: null }))
    const oracle = await openOracle({ release: '6.12', start })
    const { agent: port, setup } = await oracle.of('basic')
    expect(setup.release).toBe('6.12')
    await expect(port.send(['nop', 'peek @0', 'nop'])).rejects.toThrow(
      new AgentDied('the agent ended in "peek @0"'),
    )
  })
})
