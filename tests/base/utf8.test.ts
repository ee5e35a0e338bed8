import { expect, it } from 'vitest'
import { utf8 } from '../../src/base/utf8.ts'

it.each(['', 'plain', 'é', '€', '𝄞', 'a\0b'])('utf8(%j) is what the platform makes of it', (text) => {
  expect([...utf8(text)]).toEqual([...new TextEncoder().encode(text)])
})
