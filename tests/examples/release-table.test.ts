import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { tableCells } from '../../scripts/rules/spec.ts'
import { Machine, SyscallError, isReleaseName, openIoUring, type Process } from '../../src/index.ts'
import { root } from '../ground/root.ts'

const PAGES = 2 * 4096

/** Buffers of the table in docs/how-it-works.md, as programs make them. @returns address and bytes */
const buffers: Record<string, (app: Process) => [number, number]> = {
  'anonymous memory and the memfd behind it, as one buffer': (app) => {
    const address = app.mmap({ length: 2 * PAGES })
    const fd = app.memfdCreate('ring', PAGES)
    app.mmap({ address: address + PAGES, fixed: true, length: PAGES, fd, shared: true })
    return [address, 2 * PAGES]
  },
  'a private mapping of an ext4 file': (app) => {
    return [app.mmap({ length: PAGES, fd: app.openFile('/srv/data', PAGES) }), PAGES]
  },
  'a shared mapping of an ext4 file': (app) => {
    return [app.mmap({ length: PAGES, fd: app.openFile('/srv/data', PAGES), shared: true }), PAGES]
  },
}

const lines = readFileSync(`${root}/docs/how-it-works.md`, 'utf8').split('\n').map(tableCells)
const header = lines.findIndex((cells) => cells?.[0] === 'registering with io_uring')
const releases = lines[header]!.slice(1)
const rows = lines.slice(header + 2, lines.indexOf(undefined, header)).map((cells) => cells!)
const cells = rows.flatMap(([buffer, ...answers]) =>
  answers.map((answer, column) => ({ buffer: buffer!, release: releases[column]!, answer })),
)

describe('the table of docs/how-it-works.md that shows how releases differ', () => {
  it('has the buffers of this test', () => {
    expect(rows.map((row) => row[0])).toEqual(Object.keys(buffers))
  })

  it.each(cells)('$buffer on $release: $answer', ({ buffer, release, answer }) => {
    if (!isReleaseName(release)) throw new Error(`${release} is no release`)
    const machine = new Machine({ release, memory: '16M' })
    const app = machine.spawn('app')
    const ring = openIoUring(app, { entries: 8 })
    const [base, length] = buffers[buffer]!(app)
    const answered = (): string => {
      try {
        ring.registerBuffers([{ base, length }])
        return 'ok'
      } catch (error) {
        if (error instanceof SyscallError && error.reason !== null) return error.code
        throw error
      }
    }
    expect(answered()).toBe(answer)
    app.exit()
    expect(machine.audit()).toEqual([])
  })
})
