import { PAGE_SIZE } from '../../src/base/units.ts'
import { madvise } from '../../src/mm/madvise.ts'
import { MADV_DONTNEED, MADV_POPULATE_WRITE } from '../../src/mm/mman.ts'
import { Machine } from '../../src/task/machine.ts'
import type { Process } from '../../src/task/process.ts'
import type { BenchCase } from '../case.ts'
import { nanoseconds } from '../machine.ts'
import { nativePopulate } from '../native.ts'

const MEBIBYTES = 512
const BYTES = MEBIBYTES * 2 ** 20

let subject: { readonly process: Process; readonly address: number } | null = null

/** ns per page that each of the two calls takes, once. */
function measure(): { populate: number; dontneed: number } {
  if (subject === null) {
    const machine = new Machine({ release: '6.18', memory: '1G', settings: { thpEnabled: 'never' } })
    const process = machine.spawn('bench')
    subject = { process, address: process.mmap({ length: BYTES }) }
  }
  const { process, address } = subject
  const advise = (advice: number): number =>
    nanoseconds(() => {
      const done = process.run(madvise(process.kernel, process.mm!, address, BYTES, advice))
      if (done !== 0) throw new Error(`madvise ${advice}: ${done}`)
    }) /
    (BYTES / PAGE_SIZE)
  return { populate: advise(MADV_POPULATE_WRITE), dontneed: advise(MADV_DONTNEED) }
}

export const cases: BenchCase[] = [
  {
    name: 'MADV_POPULATE_WRITE of 512 MiB in small pages',
    unit: 'ns/page',
    limit: 0.1,
    native: () => nativePopulate(MEBIBYTES, 'populateNs'),
    engine: async () => measure().populate,
  },
  {
    name: 'MADV_DONTNEED of 512 MiB in small pages',
    unit: 'ns/page',
    limit: 0.5,
    native: () => nativePopulate(MEBIBYTES, 'dontneedNs'),
    engine: async () => measure().dontneed,
  },
]
