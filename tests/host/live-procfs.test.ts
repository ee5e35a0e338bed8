import { closeSync, openSync, readSync, readlinkSync, statSync } from 'node:fs'
import { afterAll, describe, expect, test } from 'vitest'
import { translateError } from '../../src/host/access.ts'
import { parseMaps } from '../../src/host/maps.ts'
import { readLatin1 } from '../../src/host/proc-files.ts'
import { asNobody, isRoot, NOBODY, python, startTarget } from './live.ts'

const codeOf = (action: () => unknown): string => {
  try {
    action()
    return ''
  } catch (error) {
    return (error as { code: string }).code
  }
}

describe('what the readers rely on', () => {
  test('HOST vector 7: a read of maps returns whole lines, at most a page of them', () => {
    const fd = openSync('/proc/self/maps', 'r')
    try {
      const buffer = Buffer.alloc(2 ** 20)
      let total = 0
      for (let n = readSync(fd, buffer); n > 0; n = readSync(fd, buffer)) {
        expect(buffer[n - 1]).toBe(0x0a)
        expect(n).toBeLessThanOrEqual(4096)
        total += n
      }
      expect(total).toBeGreaterThan(1000)
    } finally {
      closeSync(fd)
    }
  })

  test('HOST vector 15: pagemap reads must be aligned to words and end at the task size', () => {
    const fd = openSync('/proc/self/pagemap', 'r')
    try {
      const buffer = Buffer.alloc(16)
      expect(codeOf(() => readSync(fd, buffer, 0, 8, 4))).toBe('EINVAL')
      expect(codeOf(() => readSync(fd, buffer, 0, 7, 0))).toBe('EINVAL')
      expect(readSync(fd, buffer, 0, 8, (2 ** 47 / 4096) * 8)).toBe(0)
    } finally {
      closeSync(fd)
    }
  })
})

describe.skipIf(python === null)('another process (needs python3)', async () => {
  const target = python === null ? null! : startTarget('life')
  const [zombie, , changing] =
    python === null ? [0, 0, 0] : ((await target.line()) as [number, number, number])
  afterAll(() => target.end())

  test('HOST vector 9: files of a zombie open empty or not at all', () => {
    expect(readLatin1(`/proc/${zombie}/maps`)).toBe('')
    expect(codeOf(() => readLatin1(`/proc/${zombie}/smaps_rollup`))).toBe('ESRCH')
  })

  test('HOST vector 8: an open maps file is of the old address space after an exec', async () => {
    const fd = openSync(`/proc/${changing}/maps`, 'r')
    try {
      const buffer = Buffer.alloc(4096)
      expect(readSync(fd, buffer, 0, 4096, 0)).toBeGreaterThan(0)
      target.step()
      await target.line()
      expect(readSync(fd, buffer, 0, 4096, 0)).toBe(0)
      expect(readLatin1(`/proc/${changing}/maps`)).toContain('sleep')
    } finally {
      closeSync(fd)
    }
  })
})

test.skipIf(python === null || !isRoot)(
  'HOST vector 14: map_files links are readable to the owner, their files are not (needs python3 and root)',
  async () => {
    const target = startTarget('huge', [], NOBODY)
    await target.line()
    const { records } = parseMaps(readLatin1(`/proc/${target.pid}/maps`))
    const file = records.find((record) => record.inode !== 0)!
    const link = `/proc/${target.pid}/map_files/${file.start.toString(16)}-${file.end.toString(16)}`
    const [shown, opened] = asNobody(() => [readlinkSync(link), codeOf(() => statSync(link))])
    await target.end()
    expect(shown).toBe(file.rawName)
    expect(opened).toBe('EPERM')
  },
)

describe('R-ACC-4 failures in words', () => {
  const failing = (code: string) =>
    translateError(Object.assign(new Error(code), { code }), 42, null, '/proc/42/maps')

  test.each([
    ['ENOENT', 'vanished', 'process 42 ended while it was being read'],
    ['ESRCH', 'vanished', 'process 42 ended'],
    ['EACCES', 'denied', 'may not read /proc/42/maps'],
    ['EPERM', 'denied', 'run as that user, or as root'],
    ['EIO', 'unreadable', 'cannot read /proc/42/maps: EIO'],
  ])('%s is %s', (code, kind, words) => {
    const error = failing(code)
    expect(error.kind).toBe(kind)
    expect(error.message).toContain(words)
  })

  test('R-ACC-4 an error that is no system call’s is not swallowed', () => {
    expect(() => translateError(new TypeError('a bug'), 42, null, '/proc/42/maps')).toThrow('a bug')
  })
})
