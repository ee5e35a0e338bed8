import { describe, expect, test } from 'vitest'
import { SmapsStream, parseSmapsRecord } from '../../src/host/smaps.ts'
import type { SmapsRecord } from '../../src/host/smaps.ts'

function record(range: string, name: string, values: Record<string, string>, flags: string): string {
  const lines = Object.entries(values).map(([key, value]) => `${key}:${value.padStart(24 - key.length)}\n`)
  return `${range} rw-p 00000000 00:00 0 ${name}\n${lines.join('')}VmFlags: ${flags} \n`
}

const anonymous = record(
  '7f0000000000-7f0000400000',
  '',
  {
    Size: '4096 kB',
    KernelPageSize: '4 kB',
    Rss: '2052 kB',
    Anonymous: '2052 kB',
    AnonHugePages: '2048 kB',
    Swap: '8 kB',
    SomethingNew: '12 kB',
    THPeligible: '1',
    ProtectionKey: '0',
  },
  'rd wr mr mw me ac hg',
)
const hugetlb = record(
  '7f0000400000-7f0000800000',
  '/anon_hugepage (deleted)',
  {
    KernelPageSize: '2048 kB',
    Rss: '0 kB',
    Shared_Hugetlb: '2048 kB',
    Private_Hugetlb: '2048 kB',
    THPeligible: '0',
  },
  'rd wr mr mw me de ht',
)
const tail = record(
  '7f0000900000-7f0000901000',
  '[stack]',
  { KernelPageSize: '4 kB', Locked: '4 kB' },
  'rd wr mr mw me gd lo ac',
)
const text = anonymous + hugetlb + tail

describe('one record', () => {
  test('R-SMAPS-1 sizes are bytes, unknown keys and missing keys do no harm', () => {
    const parsed = parseSmapsRecord(anonymous)
    expect(parsed).toMatchObject({
      start: 0x7f0000000000,
      kernelPageSize: 4096,
      rss: 2052 * 1024,
      anonymous: 2052 * 1024,
      anonHugePages: 2 ** 21,
      swap: 8192,
      hugetlb: 0,
      thpEligible: true,
      flags: ['rd', 'wr', 'mr', 'mw', 'me', 'ac', 'hg'],
    })
  })

  test('R-SMAPS-3 hugetlb pages are in no Rss; the page size is KernelPageSize', () => {
    expect(parseSmapsRecord(hugetlb)).toMatchObject({ rss: 0, hugetlb: 2 ** 22, kernelPageSize: 2 ** 21 })
    expect(parseSmapsRecord(hugetlb).flags).toContain('ht')
  })

  test('R-SMAPS-1 [6.1] prints THPeligible without padding', () => {
    expect(
      parseSmapsRecord('1000-2000 rw-p 00000000 00:00 0 \nTHPeligible:    1\nVmFlags: rd \n').thpEligible,
    ).toBe(true)
  })
})

function feed(
  chunkSize: number,
  interest: (start: number, end: number) => 'take' | 'skip' | 'stop',
): SmapsRecord[] {
  const stream = new SmapsStream(interest)
  const bytes = Buffer.from(text, 'latin1')
  const chunk = Buffer.alloc(chunkSize)
  const records: SmapsRecord[] = []
  for (let at = 0; at < bytes.length && !stream.stopped; at += chunkSize) {
    // The same chunk buffer every time, as a reader of a file does it.
    const length = bytes.copy(chunk, 0, at, at + chunkSize)
    records.push(...stream.push(chunk.subarray(0, length)))
  }
  return records
}

describe('a stream', () => {
  test.each([1, 7, 100, 4096])('R-SMAPS-1 chunks of %i bytes give the same records', (size) => {
    const records = feed(size, () => 'take')
    expect(records.map((r) => [r.start, r.end, r.flags.length])).toEqual([
      [0x7f0000000000, 0x7f0000400000, 7],
      [0x7f0000400000, 0x7f0000800000, 7],
      [0x7f0000900000, 0x7f0000901000, 8],
    ])
  })

  test('R-SMAPS-1 records before are skipped and nothing is read past the last wanted', () => {
    const asked: number[] = []
    const records = feed(64, (start, end) => {
      asked.push(start)
      return end <= 0x7f0000400000 ? 'skip' : start >= 0x7f0000800000 ? 'stop' : 'take'
    })
    expect(records.map((r) => r.start)).toEqual([0x7f0000400000])
    expect(asked).toEqual([0x7f0000000000, 0x7f0000400000, 0x7f0000900000])
  })

  test('R-SMAPS-1 bytes that are no smaps are refused', () => {
    expect(() => new SmapsStream(() => 'take').push(Buffer.from('hello\nVmFlags: rd \n'))).toThrow(
      /not a record/,
    )
  })
})
