import { PAGE_SIZE } from '../base/units.ts'

/** Byte i of what a step with a seed stores, as the agent's `fill` makes it. */
export function patternByte(seed: number, i: number): number {
  return (seed + i + 17 * Math.floor(i / PAGE_SIZE)) & 255
}

/** Within a page bytes count up: any page is a piece of this. */
const RAMP = Uint8Array.from({ length: PAGE_SIZE + 256 }, (_, i) => i & 255)

/** Bytes [from, from + length) of the pattern. */
export function pattern(seed: number, from: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length;) {
    const first = patternByte(seed, from + i)
    const part = Math.min(length - i, PAGE_SIZE - ((from + i) % PAGE_SIZE))
    bytes.set(RAMP.subarray(first, first + part), i)
    i += part
  }
  return bytes
}

/** The agent's checksum, continued from h: `h * 31 + byte` modulo 2^32. */
export function addUp(h: number, bytes: Uint8Array): number {
  let sum = h
  for (const byte of bytes) sum = (Math.imul(sum, 31) + byte) >>> 0
  return sum
}
