import { expect, test } from 'vitest'
import { agent, last, noRoot } from './live.ts'

const SWAPBACKED = 2 ** 14
const isSet = (flags: number | null | undefined, bit: number): boolean => Math.floor(flags! / bit) % 2 === 1

test.skipIf(noRoot).each([
  ['plain', []],
  ['with all memory locked', ['sys mlockall 3', 'sys munlock @0 4096']],
])('R-AG-9 %s, what waits in a batch shows at once', async (_, before) => {
  const at = await agent()
  const mapped = ['obs 3', 'sys mmap @0 4096 3 0x32 -1 0', 'touch w @0', ...before]
  expect(isSet((await last(at, ...mapped)).pm![0]![3], SWAPBACKED)).toBe(true)
  // MADV_FREE
  expect(isSet((await last(at, 'sys madvise @0 4096 8')).pm![0]![3], SWAPBACKED)).toBe(false)
})
