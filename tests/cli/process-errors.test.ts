import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startDemoProcess, type DemoProcess } from '../../src/cli/demo-process.ts'
import { main, run } from './run.ts'

const NOBODY = 65534
const isRoot = process.getuid?.() === 0

let target: DemoProcess

beforeAll(async () => {
  target = await startDemoProcess()
})
afterAll(() => target.end())

function ask(pid: number, range = '[stack]') {
  return ['explain', '--pid', String(pid), '--range', range, '--request', 'gup:pin']
}

async function expectOneLine(args: readonly string[], says: RegExp, uid?: number): Promise<void> {
  const { code, stdout, stderr } = await run(args, uid === undefined ? {} : { uid })
  expect(stderr).toMatch(/^pinscope: [^\n]+\n$/)
  expect(stderr).toMatch(says)
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
}

/** A PID that was somebody's a moment ago. */
async function vanishedPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' })
  await once(child, 'exit')
  return child.pid!
}

function kernelThread(): boolean {
  try {
    return (
      /^Kthread:\s+1/m.test(readFileSync('/proc/2/status', 'utf8')) ||
      readFileSync('/proc/2/maps', 'utf8') === ''
    )
  } catch {
    return false
  }
}

/** Whether somebody without rights may start the command at all: a checkout below /root may not be entered. */
function nobodyMayStart(): boolean {
  const uid = { uid: NOBODY, gid: NOBODY }
  return (
    isRoot &&
    spawnSync(process.execPath, ['-e', `require('fs').accessSync(${JSON.stringify(main)})`], uid).status === 0
  )
}

describe('a process that cannot be read is one clear line and exit 2', () => {
  it('a process that has ended', async () => {
    const pid = await vanishedPid()
    await expectOneLine(ask(pid), new RegExp(`no process ${pid} here`))
    await expectOneLine(['snapshot', '--pid', String(pid)], new RegExp(`no process ${pid} here`))
  })

  it.skipIf(!kernelThread())('a kernel thread', async () => {
    await expectOneLine(ask(2), /process 2 \(.*\) is a kernel thread/)
  })

  it.skipIf(isRoot && !nobodyMayStart())("somebody else's process", async () => {
    const pid = isRoot ? target.pid : 1
    await expectOneLine(
      ask(pid),
      new RegExp(`process ${pid}.* belongs to somebody else; run as`),
      isRoot ? NOBODY : undefined,
    )
  })

  it('a range in which nothing is mapped', async () => {
    const maps = readFileSync(`/proc/${target.pid}/maps`, 'latin1')
    const first = Number.parseInt(maps, 16)
    expect(first).toBeGreaterThan(0x2000)
    await expectOneLine(
      ask(target.pid, '0x1000+4k'),
      new RegExp(
        `nothing is mapped in 0x1000-0x2000 of process ${target.pid}.*above it 0x${first.toString(16)}-`,
      ),
    )
  })
})
