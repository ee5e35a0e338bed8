import { describe, expect, test } from 'vitest'
import { decodeMapsName, firstRecordAbove, parseMaps, parseMapsLine } from '../../src/host/maps.ts'
import { HostError } from '../../src/host/host-error.ts'

describe('one line', () => {
  test('HOST vector 1: an anonymous record has an empty name, trailing blank or not', () => {
    const line = '7fab2d9f0000-7fab2d9f1000 rw-p 00000000 00:00 0 '
    const expected = {
      start: 0x7fab2d9f0000,
      end: 0x7fab2d9f1000,
      perms: 'rw-p',
      offset: 0,
      device: '00:00',
      inode: 0,
      rawName: '',
    }
    expect(parseMapsLine(line)).toEqual(expected)
    expect(parseMapsLine(line.trimEnd())).toEqual(expected)
  })

  test('HOST vector 2: escapes and a name that itself ends in (deleted)', () => {
    const line =
      '7f0000000000-7f0000001000 rw-s 00000000 fe:00 2312697                    /d/new\\012line\\back (deleted) (deleted)'
    const record = parseMapsLine(line)
    expect(record).toMatchObject({ device: 'fe:00', inode: 2312697, perms: 'rw-s' })
    expect(decodeMapsName(record.rawName)).toEqual({
      name: '/d/new\nline\\back (deleted)',
      deleted: true,
      ambiguous: true,
    })
  })

  test('HOST vector 3: a SysV segment with key 0 and shmid 0', () => {
    const record = parseMapsLine(
      '7f0000000000-7f0000001000 rw-s 00000000 00:01 0                          /SYSV00000000 (deleted)',
    )
    expect(record).toMatchObject({ inode: 0, device: '00:01' })
    expect(decodeMapsName(record.rawName)).toEqual({ name: '/SYSV00000000', deleted: true, ambiguous: false })
  })

  test('R-MAPS-1 a name may contain blanks and start after the inode at any column', () => {
    expect(parseMapsLine('00400000-00401000 r-xp 00002000 fe:00 12 /a b  c').rawName).toBe('/a b  c')
    expect(parseMapsLine('00400000-00401000 r-xp 00002000 fe:00 12 /a b  c').offset).toBe(0x2000)
  })

  test('R-MAPS-2 names are bytes: UTF-8 is decoded, anything else stays latin1', () => {
    expect(decodeMapsName('/tmp/\xc3\xa9').name).toBe('/tmp/é')
    expect(decodeMapsName('/tmp/\xe9').name).toBe('/tmp/\xe9')
  })

  test.each([
    '',
    'nonsense',
    '10-20',
    '7f00-7e00 rw-p 0 00:00 0 ',
    '00400000-00401000 rwzp 0 00:00 0 ',
    '7f00-8f00 rw-p 0 0000 0 ',
  ])('R-MAPS-1 %j is refused in one line', (line) => {
    expect(() => parseMapsLine(line)).toThrow(HostError)
  })
})

describe('a listing', () => {
  test('HOST vector 4: [vsyscall] is no VMA', () => {
    const text =
      '7ffc05dd3000-7ffc05df4000 rw-p 00000000 00:00 0                          [stack]\n' +
      'ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n'
    expect(parseMaps(text).records.map((record) => record.rawName)).toEqual(['[stack]'])
  })

  test('HOST vector 5: of two overlapping records the second is kept and the listing is torn', () => {
    const text =
      '200000bb8000-200000bc1000 rw-p 00000000 00:00 0 \n200000bb8000-200000bd2000 rw-p 00000000 00:00 0 \n'
    const { records, torn } = parseMaps(text)
    expect(torn).toBe(true)
    expect(records.map((record) => [record.start, record.end])).toEqual([[0x200000bb8000, 0x200000bd2000]])
  })

  test('R-CONS-2 a record that goes back over several drops all it overlaps', () => {
    const text = ['1000-2000', '2000-3000', '5000-6000', '2800-7000', '8000-9000']
      .map((range) => `${range} rw-p 00000000 00:00 0 \n`)
      .join('')
    const { records, torn } = parseMaps(text)
    expect(torn).toBe(true)
    expect(records.map((record) => record.start)).toEqual([0x1000, 0x2800, 0x8000])
  })

  test('R-CONS-2 touching records are not torn; a missing last LF does no harm', () => {
    const { records, torn } = parseMaps('1000-2000 rw-p 00000000 00:00 0 \n2000-3000 r--p 00000000 00:00 0 ')
    expect(torn).toBe(false)
    expect(records).toHaveLength(2)
  })

  test('R-AS-8 the first record above an address contains it or lies beyond', () => {
    const records = [{ end: 0x2000 }, { end: 0x4000 }]
    expect(firstRecordAbove(records, 0x1fff)).toBe(0)
    expect(firstRecordAbove(records, 0x2000)).toBe(1)
    expect(firstRecordAbove(records, 0x4000)).toBe(2)
  })
})
