/** What an agent leaves behind when it cannot leave by itself. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { isRunning } from '../cli/run.ts'
import { agent, last, noAgent } from './live.ts'

/** System V segments that a process has made. */
function segmentsOf(pid: number): number {
  const lines = readFileSync('/proc/sysvipc/shm', 'latin1').split('\n')
  return lines.filter((line) => line.trim().split(/\s+/)[4] === String(pid)).length
}

test.skipIf(noAgent)(
  'R-AG-13: an agent and a child that wait in the kernel for ever do not outlive the one who ran them',
  { timeout: 30_000 },
  async () => {
    const atEnd: string[][] = []
    const started = await agent({ timeout: 0, settings: { atEnd: (...words) => void atEnd.push(words) } })
    const own = started.pid
    await last(started, 'shm s 8192', 'fork a', 'start a sys 34')
    const [child] = readFileSync(`/proc/${own}/task/${own}/children`, 'latin1').trim().split(' ')
    expect(segmentsOf(own)).toBe(1)
    const stuck = started.send(['sys 34'])
    const end = atEnd.find((words) => words.includes(String(own)))!
    // somebody else may have got the number in the meantime
    const [shell, ...rest] = end.with(-1, '1')
    execFileSync(shell!, rest)
    expect(isRunning(own)).toBe(true)
    execFileSync(end[0]!, end.slice(1))
    expect(await stuck).toMatchObject([{ e: 'DIED', status: 9 }])
    expect(segmentsOf(own)).toBe(0)
    for (let tries = 0; tries < 100 && isRunning(Number(child)); tries++) await sleep(20)
    expect([isRunning(own), isRunning(Number(child))]).toEqual([false, false])
  },
)

test.skipIf(noAgent)('R-AG-13: the segments of an agent that somebody kills are removed', async () => {
  const started = await agent()
  await last(started, 'shm s 8192')
  expect(segmentsOf(started.pid)).toBe(1)
  process.kill(started.pid, 'SIGKILL')
  expect(await last(started, 'nop')).toMatchObject({ e: 'DIED' })
  await started.stop()
  expect(segmentsOf(started.pid)).toBe(0)
})
