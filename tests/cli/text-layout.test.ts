import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { table, wrap } from '../../src/cli/text-layout.ts'

const words = fc.array(fc.stringMatching(/^[a-z]{1,12}$/), { minLength: 1, maxLength: 30 })

describe('wrap', () => {
  it('loses no word and exceeds the width only by a word that is longer', () => {
    fc.assert(
      fc.property(words, fc.integer({ min: 4, max: 40 }), (list, width) => {
        const lines = wrap(list.join(' '), width)
        expect(lines.join(' ')).toBe(list.join(' '))
        for (const line of lines) if (line.includes(' ')) expect(line.length).toBeLessThanOrEqual(width)
      }),
    )
  })

  it('breaks as late as possible', () => {
    expect(wrap('aa bb cc', 5)).toEqual(['aa bb', 'cc'])
    expect(wrap('aa bb cc', 4)).toEqual(['aa', 'bb', 'cc'])
  })

  it('keeps columns of several blanks', () => {
    expect(wrap('0x1000-0x2000  r-xp  ext4', 40)).toEqual(['0x1000-0x2000  r-xp  ext4'])
  })

  it('has one line for no text', () => {
    expect(wrap('', 10)).toEqual([''])
  })
})

describe('table', () => {
  it('aligns columns and hangs the last one', () => {
    const rows = [
      ['6.1', 'EFAULT', 'the first reason is long'],
      ['gup-v3', 'ok', ''],
    ]
    expect(table(rows, 2, 38)).toEqual([
      ['  6.1     EFAULT  the first reason is', '                  long'],
      ['  gup-v3  ok'],
    ])
  })
})
