/**
 * A device caller on real input: for every mapping kind on the running kernel, explain is asked about XDP_UMEM_REG on
 * the live process first, then the same range is registered, and both must name the same errno. As root only: without
 * CAP_IPC_LOCK every short pin would leave a charge with the user for good (R-XDP-10).
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { explain } from '../../src/explain/explain.ts'
import { raiseHugePool, usesHugePool } from './huge-pool.ts'
import { KindsProgram } from './kinds.ts'
import { HUGE_POOL_PAGES, listKinds, modesFrom, prepare } from './modes.ts'

const program = prepare()
const root = modesFrom(65532).find(({ name }) => name === 'root')

if ('skip' in program) it.skip(`XDP_UMEM_REG on live mappings: ${program.skip}`, () => {})
else if (root === undefined) it.skip('XDP_UMEM_REG on live mappings: not root', () => {})
else {
  const listed = await listKinds(program.path, root)
  describe('explain --kernel host = setsockopt(XDP_UMEM_REG)', () => {
    let running: KindsProgram
    let restorePool = (): void => {}

    beforeAll(async () => {
      restorePool = await raiseHugePool(HUGE_POOL_PAGES)
      running = await KindsProgram.start(program.path, root.options)
    })
    afterAll(async () => {
      await running?.stop()
      restorePool()
    })

    for (const { kind: name, skip } of listed) {
      if (skip !== undefined) {
        it.skip(`R-DRV-10 ${name}: skipped, ${skip}`, () => {})
        continue
      }
      it(`R-DRV-10 ${name}: the errno explained is the errno returned`, async (context) => {
        const kind = running.kind(name)
        if (kind.skip !== undefined && usesHugePool(name)) return context.skip(`${kind.skip} this time`)
        if (kind.skip !== undefined) throw new Error(`${name} was there a moment ago: ${kind.skip}`)
        const range = { start: kind.addr, length: kind.len }
        const { verdict } = explain({ pid: running.pid, range, request: 'xdp:umem-reg', release: 'host' })
        const seen = await running.register(name, 'xdp')
        expect({ kind: kind.note, errno: verdict.errno, ok: verdict.ok }).toEqual({
          kind: kind.note,
          errno: seen.errno,
          ok: seen.errno === null,
        })
      })
    }
  })
}
