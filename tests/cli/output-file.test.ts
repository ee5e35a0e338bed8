import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { writeOutputFile } from '../../src/cli/output-file.ts'
import { UserError } from '../../src/cli/user-error.ts'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'pinscope-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

describe('writeOutputFile', () => {
  it('replaces the old file by a new one instead of writing into it', () => {
    const file = join(directory, 'app.json')
    writeFileSync(file, 'old')
    const { ino } = statSync(file)
    writeOutputFile(file, 'new')
    expect(readFileSync(file, 'utf8')).toBe('new')
    expect(statSync(file).ino).not.toBe(ino)
    expect(readdirSync(directory)).toEqual(['app.json'])
  })

  it('keeps the old file when writing fails, and leaves nothing else', () => {
    const file = join(directory, 'app.json')
    writeFileSync(file, 'old')
    // somebody sits where the new one is prepared
    mkdirSync(`${file}.${process.pid}.tmp`)
    expect(() => writeOutputFile(file, 'new')).toThrow(UserError)
    expect(readFileSync(file, 'utf8')).toBe('old')
  })

  it('writes behind a symbolic link and keeps the link', () => {
    const link = join(directory, 'latest.json')
    writeFileSync(join(directory, 'app.json'), 'old')
    symlinkSync('app.json', link)
    writeOutputFile(link, 'new')
    expect(lstatSync(link).isSymbolicLink()).toBe(true)
    expect(readFileSync(join(directory, 'app.json'), 'utf8')).toBe('new')
  })

  it('never replaces what is not a regular file', () => {
    const { ino } = statSync('/dev/null')
    writeOutputFile('/dev/null', 'new')
    expect(statSync('/dev/null').ino).toBe(ino)
    expect(statSync('/dev/null').isCharacterDevice()).toBe(true)
  })

  it('says in one line why it cannot', () => {
    expect(() => writeOutputFile(directory, 'new')).toThrow(`cannot write ${directory}: it is a directory`)
    expect(() => writeOutputFile(`${directory}/no/app.json`, 'new')).toThrow('its directory does not exist')
  })
})
