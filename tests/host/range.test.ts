import { describe, expect, test } from 'vitest'
import { HostError } from '../../src/host/host-error.ts'
import { parseMaps } from '../../src/host/maps.ts'
import { parseRange, resolveRange } from '../../src/host/range.ts'

const { records } = parseMaps(
  [
    '00400000-00401000 r--p 00000000 fe:00 12                                 /usr/bin/app',
    '00401000-00403000 r-xp 00001000 fe:00 12                                 /usr/bin/app',
    '01000000-01021000 rw-p 00000000 00:00 0                                  [heap]',
    '7f0000000000-7f0000001000 rw-s 00000000 00:01 7                          /memfd:ring (deleted)',
  ].join('\n'),
)

describe('R-AS-3 addresses', () => {
  test.each([
    ['0x7f0000000000+64k', 0x7f0000000000, 65536],
    ['0x7f0000000000-0x7f0000001000', 0x7f0000000000, 4096],
    ['4194304+2M', 4194304, 2 ** 21],
    ['0x1001+5000', 0x1001, 5000],
    ['0x1000+0x2000', 0x1000, 0x2000],
    ['0X7F0000000000+1G', 0x7f0000000000, 2 ** 30],
    ['4096-8192', 4096, 4096],
  ])('%s', (text, start, length) => {
    expect(resolveRange(parseRange(text), [])).toEqual({ start, end: start + length, note: null })
  })

  test.each([
    ['', 'not understood'],
    ['7f0000000000+64k', 'not understood'],
    ['0x7f0000000000', 'not understood'],
    ['0x1000+lots', 'not a size'],
    ['0x1000-fish', 'not an address'],
    ['0x2000-0x1000', 'empty'],
    ['0x1000+0', 'empty'],
    ['0xffffffffff600000+4k', 'above user space'],
    ['0x7f0000000000+900T', 'above user space'],
  ])('%j is refused: %s', (text, why) => {
    const attempt = () => parseRange(text)
    expect(attempt).toThrow(HostError)
    expect(attempt).toThrow(why)
  })
})

describe('R-MAPS-3 names', () => {
  test('one mapping of that name', () => {
    expect(resolveRange(parseRange('[heap]'), records)).toEqual({
      start: 0x1000000,
      end: 0x1021000,
      note: null,
    })
    expect(resolveRange(parseRange('/memfd:ring'), records).start).toBe(0x7f0000000000)
    expect(resolveRange(parseRange('/memfd:ring (deleted)'), records).start).toBe(0x7f0000000000)
  })

  test('several: the first, and the others are listed', () => {
    const range = resolveRange(parseRange('/usr/bin/app'), records)
    expect(range).toMatchObject({ start: 0x400000, end: 0x401000 })
    expect(range.note).toBe(
      '/usr/bin/app is mapped 2 times, the first is used: 0x400000-0x401000 r--p (4 KiB), 0x401000-0x403000 r-xp (8 KiB)',
    )
  })

  test('none', () => {
    expect(() => resolveRange(parseRange('/usr/bin/other'), records)).toThrow(
      /no mapping of the process is named/,
    )
  })
})
