import { describe, expect, it } from 'vitest'
import { isRunning, run } from './run.ts'

describe('demo', () => {
  it('shows a request that succeeds and one that fails, on real memory, in a few seconds', async () => {
    const began = performance.now()
    const { code, stdout, stderr } = await run(['demo'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^1\. [\s\S]+^would succeed on [\s\S]+^2\. [\s\S]+^would fail with E[A-Z]+ on /m)
    const [, pid] = /of process (\d+), started for this/.exec(stdout.replaceAll('\n', ' '))!
    expect(isRunning(Number(pid))).toBe(false)
    expect(performance.now() - began).toBeLessThan(5000)
  })
})
