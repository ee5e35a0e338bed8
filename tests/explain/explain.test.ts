/** The front door: ranges, releases, coverage, and what is asked wrongly. */
import { describe, expect, it } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { explain } from '../../src/explain/explain.ts'
import { HostError } from '../../src/host/host-error.ts'
import { answerTo } from './asking.ts'
import { A, anonymous, snapshot, unprivileged } from './snapshots.ts'

const P = PAGE_SIZE
const range = { start: A, length: 4 * P }
const seen = snapshot({ mappings: [{ backing: { kind: 'heap' }, look: [['anon', 4]] }] })
const asks = (options: object) => () => explain({ snapshot: seen, range, request: 'gup:pin', ...options })

describe('explain', () => {
  it('R-ACC-7 says what it saw and how', () => {
    const answer = answerTo(unprivileged(seen), {})
    expect(answer).toMatchObject({
      request: 'io_uring:register-buffers',
      process: { pid: 1234, name: 'app', uid: 1000 },
      seen: { tier: 'T1', consistency: 'stable' },
      range: { start: `0x${A.toString(16)}`, length: 4 * P, pages: 4 },
    })
  })

  it('R-GUP-5 names the flags that were asked with', () => {
    expect(answerTo(seen, { name: 'gup:pin', flags: ['FOLL_LONGTERM'] }).flags.sort()).toEqual([
      'FOLL_LONGTERM',
      'FOLL_WRITE',
    ])
    expect(answerTo(seen, { name: 'gup:get', access: 'read' }).flags).toEqual([])
  })

  it('R-MAPS-3 a range may be named', () => {
    expect(explain({ snapshot: seen, range: '[heap]', request: 'gup:pin' }).range).toMatchObject({
      length: 4 * P,
    })
  })

  it('R-ACC-7 the release nearest to the kernel the process was seen on is the default', () => {
    const older = snapshot({ mappings: [{}], kernel: '6.1.0-44-amd64' })
    expect(explain({ snapshot: older, range, request: 'gup:pin' })).toMatchObject({ release: '6.1' })
  })

  it('R-SMAPS-4 derived VmFlags are an assumption', () => {
    const derived = { ...seen, mappings: seen.mappings.map((m) => ({ ...m, flagsFrom: 'derived' as const })) }
    expect(answerTo(derived).assumptions.join()).toMatch(/VmFlags were not read/)
    expect(answerTo(seen).assumptions).toEqual([])
  })

  it('R-MAP-2 open files that are taken for one are an assumption, in the range only', () => {
    const file = {
      backing: { kind: 'shmem' as const, source: 'memfd' as const, label: 'm' },
      inode: 7,
      name: '/memfd:m',
      flags: 'rd wr sh mr mw me ms',
    }
    const two = snapshot({
      mappings: [
        { ...file, pages: 2, offset: 8 * P },
        { ...file, start: A + 2 * P, pages: 2 },
        { start: A + 8 * P, backing: anonymous },
      ],
    })
    expect(answerTo(two, { pages: 4 }).assumptions.join()).toMatch(/taken for one open file/)
    expect(answerTo(two, { start: A + 8 * P }).assumptions).toEqual([])
  })

  it('R-CONS-3 a snapshot answers only for what it looked at', () => {
    const part = { ...seen, ranges: [{ start: A, end: A + P, note: null }] }
    expect(() =>
      explain({ snapshot: part, range: `0x${A.toString(16)}+4k`, request: 'gup:pin' }),
    ).not.toThrow()
    expect(() => explain({ snapshot: part, range: `0x${A.toString(16)}+16k`, request: 'gup:pin' })).toThrow(
      /the snapshot holds pages of/,
    )
    expect(() => explain({ snapshot: part, range, request: 'gup:pin' })).toThrow(
      /the snapshot holds pages of/,
    )
  })

  it('R-ACC-4 what is asked wrongly is one line', () => {
    for (const [options, message] of [
      [{ request: 'gup:hold' }, /unknown request "gup:hold"/],
      [{ flags: ['FOLL_SPLICE'] }, /unknown flag "FOLL_SPLICE"/],
      [{ request: 'io_uring:register-buffers', flags: ['FOLL_WRITE'] }, /chooses its own/],
      [{ release: '2.6' }, /unknown kernel "2.6"/],
      [{ snapshot: undefined }, /needs a process/],
      [{ range: { start: A, length: 2 ** 37 } }, /longer than 64 GiB/],
      [{ range: { start: A, length: 0 } }, /at least one byte/],
    ] as const) {
      const call = asks(options)
      expect(call).toThrow(HostError)
      expect(call).toThrow(message)
    }
  })
})
