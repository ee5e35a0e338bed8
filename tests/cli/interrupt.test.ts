import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isRunning, main, run, start } from './run.ts'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'pinscope-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** Until the process waits for standard input with its event loop, which is after it has begun to catch signals. */
async function untilWaitingForInput(pid: number): Promise<void> {
  const polls = (fd: string): boolean => /^tfd:\s+0 /m.test(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))
  for (;;) {
    try {
      if (readdirSync(`/proc/${pid}/fdinfo`).some(polls)) return
    } catch {
      // an fd that has been closed again
    }
    await sleep(5)
  }
}

function children(pid: number): number[] {
  const list = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return list === '' ? [] : list.split(' ').map(Number)
}

describe('Ctrl-C', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s while waiting: exit %i, not a word', async (signal, status) => {
    const child = start(['explain', '--snapshot', '-', '--request', 'gup:pin'])
    const output = Promise.all([text(child.stdout), text(child.stderr)])
    await untilWaitingForInput(child.pid!)
    child.kill(signal)
    const [code] = await once(child, 'close')
    expect({ code, output: await output }).toEqual({ code: status, output: ['', ''] })
  })

  it('while the kernel keeps it waiting in a read: ends at once all the same; says what it does after five seconds', async () => {
    const fifo = join(directory, 'never.json')
    execFileSync('sh', ['-c', 'mkfifo "$0"', fifo])
    const child = start(['explain', '--snapshot', fifo, '--request', 'gup:pin'])
    const stdout = text(child.stdout)
    const started = performance.now()
    const [progress] = await once(child.stderr, 'data')
    expect(String(progress)).toBe(`pinscope: reading ${fifo} …\n`)
    expect(performance.now() - started).toBeGreaterThan(4900)
    const began = performance.now()
    child.kill('SIGINT')
    // the shell shows both as 130; on a busy machine the thread may not have come to its read yet
    const [code, signal] = await once(child, 'close')
    expect([130, 'SIGINT']).toContain(code ?? signal)
    expect(performance.now() - began).toBeLessThan(2000)
    expect(await stdout).toBe('')
  })

  it('leaves no half-written file, whenever it comes', async () => {
    for (let delay = 40; delay <= 440; delay += 40) {
      const file = join(directory, `${delay}.json`)
      const child = start(['snapshot', '--pid', String(process.pid), '-o', file])
      const closed = once(child, 'close')
      await sleep(delay)
      child.kill('SIGINT')
      const [code, signal] = await closed
      expect([0, 130, 'SIGINT']).toContain(code ?? signal)
    }
    for (const name of readdirSync(directory)) {
      expect(name).toMatch(/^\d+\.json$/)
      JSON.parse(readFileSync(join(directory, name), 'utf8'))
    }
  })

  it.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)(
    '%s ends the process of the demo too',
    async (signal) => {
      const child = start(['demo'])
      child.stdout.resume()
      const closed = once(child, 'close')
      let started: number[] = []
      while (started.length === 0 && child.exitCode === null) {
        started = children(child.pid!)
        await sleep(2)
      }
      expect(started).toHaveLength(1)
      child.kill(signal)
      await closed
      const until = performance.now() + 3000
      while (isRunning(started[0]!) && performance.now() < until) await sleep(10)
      expect(isRunning(started[0]!)).toBe(false)
    },
  )
})

/** What a busy machine adds after a second. */
function withoutProgress(stderr: string): string {
  return stderr.replace(/^pinscope: reading process \d+ …\n/, '')
}

describe('a reader that has seen enough', () => {
  it('is not an error', async () => {
    const child = start(['snapshot', '--pid', String(process.pid)])
    const stderr = text(child.stderr)
    child.stdout.destroy()
    const [code] = await once(child, 'close')
    expect({ code, stderr: withoutProgress(await stderr) }).toEqual({ code: 0, stderr: '' })
  })

  it('nor in a shell', async () => {
    const shell = spawn('sh', [
      '-c',
      `"${process.execPath}" "${main}" snapshot --pid ${process.pid} | head -c 10`,
    ])
    const [stdout, stderr] = await Promise.all([text(shell.stdout), text(shell.stderr)])
    expect({ stdout, stderr: withoutProgress(stderr) }).toEqual({ stdout: '{"schemaVe', stderr: '' })
  })
})

describe('a quick answer', () => {
  it('comes without progress', async () => {
    expect((await run(['--version'])).stderr).toBe('')
  })
})
