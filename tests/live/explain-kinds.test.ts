/**
 * The main job on real input: for every mapping kind on the running kernel, explain is asked about the live process
 * first, then the same range is registered, and both must name the same errno.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { explain } from '../../src/explain/explain.ts'
import { raiseHugePool, usesHugePool } from './huge-pool.ts'
import { KindsProgram, asUser } from './kinds.ts'
import { HUGE_POOL_PAGES, listKinds, modesFrom, prepare } from './modes.ts'

const program = prepare()

if ('skip' in program) it.skip(`explain on live mappings: ${program.skip}`, () => {})
else {
  for (const mode of modesFrom(65534)) {
    const listed = await listKinds(program.path, mode)
    describe(`explain --kernel host = io_uring_register, ${mode.name}`, () => {
      let running: KindsProgram
      let restorePool = (): void => {}

      beforeAll(async () => {
        restorePool = await raiseHugePool(HUGE_POOL_PAGES)
        running = await KindsProgram.start(program.path, mode.options)
      })
      afterAll(async () => {
        await running?.stop()
        restorePool()
      })

      for (const { kind: name, skip } of listed) {
        if (skip !== undefined) {
          it.skip(`R-URING-24 ${name}: skipped, ${skip}`, () => {})
          continue
        }
        it(`R-URING-24 ${name}: the errno explained is the errno returned`, async (context) => {
          const kind = running.kind(name)
          if (kind.skip !== undefined && usesHugePool(name)) return context.skip(`${kind.skip} this time`)
          if (kind.skip !== undefined) throw new Error(`${name} was there a moment ago: ${kind.skip}`)
          const ask = () =>
            explain({
              pid: running.pid,
              range: { start: kind.addr, length: kind.len },
              request: 'io_uring:register-buffers',
              release: 'host',
            })
          const answer = await (mode.options.uid === undefined ? ask() : asUser(mode.options.uid, ask))
          const seen = await running.register(name)
          expect({ kind: kind.note, errno: answer.verdict.errno, ok: answer.verdict.ok }).toEqual({
            kind: kind.note,
            errno: seen.errno,
            ok: seen.errno === null,
          })
        })
      }
    })
  }
}
