/** direct-io:read and direct-io:write: the memory of O_DIRECT transfers. Columns as in acceptance.test.ts. */
import { describe, expect, it } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { explain } from '../../src/explain/explain.ts'
import { answerTo, row, verdictOn } from './asking.ts'
import { A, SHARED_RW, fileOn, memfd, snapshot, type MappingSpec } from './snapshots.ts'

const P = PAGE_SIZE
const readOnly = 'rd mr mw me ac'
const read = { name: 'direct-io:read' }
const write = { name: 'direct-io:write' }
const ext4Shared: MappingSpec = { backing: fileOn('ext4'), flags: SHARED_RW }

describe('direct-io:read and direct-io:write', () => {
  it('R-DIO-4 a read of the disk needs memory that can be written, a write memory that can be read', () => {
    const pages: MappingSpec = { flags: readOnly, look: [['anon', 4]] }
    expect([row([pages], read), row([pages], write)]).toEqual(['fa fa fa fa fa', '0 0 0 0 0'])
    expect(verdictOn(snapshot({ mappings: [pages] }), '6.18', read)).toMatchObject({
      errno: 'EFAULT',
      rule: 'R-GUP-16.8',
      page: 0,
    })
  })

  it('R-GUP-20 shared file mappings that no long-term pin may have work: the pins are short', () => {
    expect(row([ext4Shared], read)).toBe('0 0 0 0 0')
    expect(row([ext4Shared])).toBe('op op fa fa fa')
  })

  it('R-DIO-7 a page in the middle that cannot be had fails all of it', () => {
    const gap = [{ look: [['anon', 4]] }, { start: A + 6 * P, look: [['anon', 4]] }] as MappingSpec[]
    expect(row(gap, { ...read, pages: 8 })).toBe('fa fa fa fa fa')
    expect(verdictOn(snapshot({ mappings: gap }), '6.18', { ...read, pages: 8 })).toMatchObject({
      rule: 'R-GUP-15',
      page: 4,
    })
    expect(row(gap, { ...read, pages: 4 })).toBe('0 0 0 0 0')
  })

  it('R-DIO-2 length and position must be whole sectors', () => {
    expect(row([{}], { ...read, length: 1000 })).toBe('in in in in in')
    expect(row([{}], { ...write, length: 1024, offset: 100 })).toBe('in in in in in')
    expect(row([{}], { ...write, length: 1024, offset: 1536 })).toBe('0 0 0 0 0')
    expect(verdictOn(snapshot({ mappings: [{}] }), '6.18', { ...read, length: 1000 }).rule).toBe('R-DIO-2')
  })

  it('R-DIO-3 memory that is no multiple of a sector may not be spread over pages', () => {
    expect(row([{}], { ...read, start: A + 100, length: 8192 })).toBe('in in in in in')
    // until 6.12 each piece has to begin with one, too
    expect(row([{}], { ...read, start: A + 100, length: 512 })).toBe('in in in in 0')
  })

  it('says how many pages are held for the time of the transfer, and which it would bring in', () => {
    const answer = answerTo({ mappings: [{ backing: memfd, flags: SHARED_RW }] }, { ...read, pages: 3 })
    expect(answer).toMatchObject({
      verdict: { ok: true },
      pinned: { pages: 3, hugePages: 0 },
      faultedIn: 3,
      memlock: null,
    })
  })

  it('refuses an offset for a request that has no file', () => {
    const seen = snapshot({ mappings: [{}] })
    const range = { start: A, length: P }
    expect(() => explain({ snapshot: seen, range, request: 'gup:pin', offset: 0 })).toThrow(
      /--offset goes with/,
    )
    expect(() => explain({ snapshot: seen, range, request: 'direct-io:read', offset: -1 })).toThrow(
      /position/,
    )
  })
})
