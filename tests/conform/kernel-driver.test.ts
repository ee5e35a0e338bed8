import { describe, expect, it } from 'vitest'
import { KernelDriver, MACHINE_TAKEN } from '../../src/conform/kernel-driver.ts'
import { PROGRAM_FORMAT, isMachineWide, type Program } from '../../src/conform/program.ts'
import type { OracleReply } from '../../src/host/oracle-reply.ts'

const program: Program = {
  formatVersion: PROGRAM_FORMAT,
  theme: 'fork-pins',
  steps: [
    { by: 0, op: 'mmap', at: 0, length: 4096, prot: 3, flags: 0x32, file: null, offset: 0 },
    { by: 0, op: 'ring', ring: 1, entries: 4 },
    { by: 0, op: 'register', ring: 1, buffers: [{ at: 0, length: 4096 }] },
  ],
}

/** An agent for whom the machine is taken the first `times` times. */
function taken(times: number): { readonly asked: () => number; readonly driver: KernelDriver } {
  let asked = 0
  const reply = (line: string): OracleReply => {
    const e = line === 'lock' && ++asked <= times ? 4 : 0
    return { r: 0, e, all: [], maps: [], size: 0, lck: 0, pin: 0, swap: 0, acq: 0, rel: 0 }
  }
  const agent = { send: async (lines: readonly string[]) => lines.map(reply) }
  return { asked: () => asked, driver: new KernelDriver(agent, { start: 2 ** 44, pages: 64 }) }
}

describe('a program that needs the machine for itself', () => {
  it('asks again while a worker that is stuck may have it, and gives up at last', async () => {
    expect(isMachineWide(program)).toBe(true)
    const soon = taken(2)
    expect(await soon.driver.run(program)).toHaveLength(3)
    expect(soon.asked()).toBe(3)
    const never = taken(Infinity)
    await expect(never.driver.run(program)).rejects.toThrow(MACHINE_TAKEN)
    expect(never.asked()).toBe(3)
  })
})
