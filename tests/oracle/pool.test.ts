import { afterEach, expect, test } from 'vitest'
import { OracleSettings } from '../../src/host/oracle-settings.ts'
import { agent, last, noRoot } from './live.ts'

const settings: OracleSettings[] = []
afterEach(async () => {
  for (const each of settings.splice(0)) await each.restore()
})

test.skipIf(noRoot)(
  'R-AG-4 a program finds a pool of the size asked for and sees what it takes',
  async (context) => {
    settings.push(OracleSettings.apply({ hugepages: 6 }))
    const at = await agent({ pages: 2048, pool: 3 })
    if (at.hello.hugetlbFree < 3) return context.skip('the hugetlb pool is in use')
    const [free, reserved] = at.hello.pool!
    expect(free - reserved).toBe(3)
    expect(at.hello.hugetlbFree).toBe(3)
    const map = (page: number, pages: number): string => `sys mmap @${page} ${pages * 2 ** 21} 3 0x40032 -1 0`
    // what the agent holds is not in its address space
    expect(await last(at, 'obs 4', 'nop')).toMatchObject({ size: 0, pool: [free, reserved] })
    expect(await last(at, map(0, 4))).toMatchObject({ e: 12, pool: [free, reserved] })
    expect(await last(at, map(0, 3))).toMatchObject({ e: 0, pool: [free, reserved + 3] })
    expect(await last(at, 'touch w @0')).toMatchObject({ e: 0, pool: [free - 1, reserved + 2] })
    expect(await last(at, 'fork a', 'child a touch w @0')).toMatchObject({
      e: 'SIGBUS',
      pool: [free - 1, reserved + 2],
    })
    expect(await last(at, 'reset', 'nop')).toMatchObject({ size: 0, pool: [free, reserved] })
  },
)
