import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { run } from './run.ts'

let directory = ''
beforeAll(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'pinscope-test-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

describe('pinscope conform', () => {
  it('says in one line that the agent does not compile', async () => {
    const compiler = path.join(directory, 'cc')
    const complaint = 'agent.h:7:10: fatal error: linux/io_uring.h: No such file'
    writeFileSync(
      compiler,
      `#!/bin/sh\n[ "$1" = --version ] && exec echo cc 1.0\necho "${complaint}" >&2\nexit 1\n`,
    )
    chmodSync(compiler, 0o755)
    const { code, stdout, stderr } = await run(['conform', '--programs', '1'], { env: { CC: compiler } })
    expect([code, stdout]).toEqual([2, ''])
    // on a busy machine a second has gone by
    expect(stderr.replace('pinscope: starting the agents …\n', '')).toBe(
      `pinscope: ${compiler} could not compile pinscope-agent: ${complaint}\n`,
    )
  })

  it('says in one line that there is no QEMU', async () => {
    const { code, stdout, stderr } = await run(['conform', '--kernel', '6.12', '--programs', '1'], {
      env: { PATH: directory },
    })
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr.replace('pinscope: starting the kernel 6.12 …\n', '')).toBe(
      'pinscope: no guest can be started: no qemu-system-x86_64; as root: apt-get install qemu-system-x86\n',
    )
  })
})
