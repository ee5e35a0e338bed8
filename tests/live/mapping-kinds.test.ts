/** What the running kernel does with the mapping kinds, without the engine: the ground the other live tests stand on. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { raiseHugePool, usesHugePool } from './huge-pool.ts'
import { type Kind, KindsProgram } from './kinds.ts'
import { HUGE_POOL_PAGES, listKinds, modesFrom, prepare } from './modes.ts'

const program = prepare()

if ('skip' in program) it.skip(`mapping kinds on the running kernel: ${program.skip}`, () => {})
else {
  for (const mode of modesFrom(65532)) {
    const listed = await listKinds(program.path, mode)
    describe(`io_uring_register on the running kernel, ${mode.name}`, () => {
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

      it('the same kinds are there on every start', () => {
        const lasting = (kinds: readonly Kind[]): string[] =>
          kinds.filter(({ kind }) => !usesHugePool(kind)).map(({ kind, skip }) => `${kind} ${skip ?? ''}`)
        expect(lasting(running.kinds)).toEqual(lasting(listed))
      })

      it('a kernel answers the same when it is asked twice', async () => {
        const changed: string[] = []
        for (const { kind, skip } of running.kinds) {
          if (skip !== undefined) continue
          const first = await running.register(kind)
          const second = await running.register(kind)
          if (first.errno !== second.errno) changed.push(`${kind}: ${first.errno}, then ${second.errno}`)
        }
        expect(changed).toEqual([])
      })

      it('a kernel takes at least one reference for each page and keeps at most one', async () => {
        const wrong: string[] = []
        for (const kind of running.kinds) {
          if (kind.skip !== undefined) continue
          const { errno, acq, rel } = await running.register(kind.kind)
          if (errno !== null || acq === null || rel === null) continue
          // The lockless attempt may take a page and give it back before the slow path pins it.
          if (acq < kind.pages || acq - rel > kind.pages || acq === rel)
            wrong.push(`${kind.kind}: ${acq} - ${rel}`)
        }
        expect(wrong).toEqual([])
      })
    })
  }
}
