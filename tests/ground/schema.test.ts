import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { schemaFiles } from '../../scripts/schema/files.ts'
import { root } from './root.ts'

describe('schema/', () => {
  const files = schemaFiles()

  it.each([...files])('%s is what `npm run schema` writes', (file, text) => {
    expect(existsSync(`${root}/${file}`) && readFileSync(`${root}/${file}`, 'utf8')).toBe(text)
  })

  it('holds nothing else', () => {
    expect(
      readdirSync(`${root}/schema`)
        .map((name) => `schema/${name}`)
        .sort(),
    ).toEqual([...files.keys()].sort())
  })
})
