import { expect, test } from 'vitest'
import { KPF_LRU, captureProcess, pageRunsIn } from '../../src/host/index.ts'
import { python, startTarget } from './live.ts'

/** Bits that come and go by themselves (R-AG-8): REFERENCED, LRU, ACTIVE; IDLE, where somebody watches for idle pages. */
const noise = 2 ** 2 + 2 ** KPF_LRU + 2 ** 6 + 2 ** 25

test.skipIf(python === null)(
  'HOST vector 22, HOST vector 31: a pin shows in VmPin, fdinfo and vmstat, in no page word (needs python3)',
  async (context) => {
    const target = startTarget('register')
    try {
      const [address, ring] = (await target.line()) as [number, number]
      if (ring < 0) return context.skip('io_uring is not available')
      const end = address + 16 * 4096
      const look = () => {
        const snapshot = captureProcess(target.pid, { ranges: [{ start: address, end, note: null }] })
        const pages = [...pageRunsIn(snapshot.pages, address, end)].flatMap((run) =>
          Array.from({ length: run.count }, (_, i) => ({
            bits: run.bits,
            frame: run.entry + i * run.step,
            // The noise bits all lie in the low half of the word.
            flags: run.kpageflags < 0 ? -1 : run.kpageflags - ((run.kpageflags % 2 ** 32) & noise),
            mapCount: run.mapCount,
          })),
        )
        return { snapshot, pages }
      }
      const before = look()
      expect(before.pages).toHaveLength(16)
      expect(before.snapshot.process.memory!.pinned).toBe(0)
      expect(before.snapshot.rings).toMatchObject([{ fd: ring, status: 'seen', buffers: [] }])

      target.step()
      const [result, errno] = (await target.line()) as [number, number]
      if (result !== 0) return context.skip(`registering failed with errno ${errno}`)
      const during = look()
      expect(during.pages).toEqual(before.pages)
      expect(during.snapshot.process.memory!.pinned).toBe(16 * 4096)
      expect(during.snapshot.rings).toMatchObject([
        { status: 'seen', buffers: [{ index: 0, address, length: 16 * 4096 }] },
      ])
      const counted = during.snapshot.system.pins!.acquired - before.snapshot.system.pins!.acquired
      if (before.snapshot.system.pins!.exact) expect(counted).toBeGreaterThanOrEqual(16)

      target.step()
      await target.line()
      const after = look()
      expect(after.snapshot.process.memory!.pinned).toBe(0)
      expect(after.snapshot.rings).toMatchObject([{ status: 'seen', buffers: [] }])
    } finally {
      await target.end()
    }
  },
)
