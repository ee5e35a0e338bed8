import type { BenchCase } from '../case.ts'
import { Machine } from '../../src/task/machine.ts'
import { nanoseconds } from '../machine.ts'
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_WRITE } from '../../src/mm/mman.ts'
import { mmap } from '../../src/mm/mmap.ts'
import { munmap } from '../../src/mm/munmap.ts'
import type { Process } from '../../src/task/process.ts'
import { nativeMmap } from '../native.ts'

const PAIRS = 20_000
const PAGE = 4096

const processes = new Map<number, Process>()

/** Neighbours of alternating protection never merge, so n mappings stay n mappings. */
function withMappings(count: number): Process {
  let process = processes.get(count)
  if (process === undefined) {
    process = new Machine({ release: '6.18', memory: '64M' }).spawn('bench')
    for (let i = 0; i < count; i++) process.mmap({ length: PAGE, prot: i % 2 === 0 ? 'r' : 'rw' })
    processes.set(count, process)
  }
  return process
}

function pairCase(mappings: number): BenchCase {
  return {
    name: `mmap + munmap of a page, ${mappings} mappings`,
    unit: 'ns/pair',
    limit: 1,
    native: () => nativeMmap(mappings),
    async engine() {
      const process = withMappings(mappings)
      const { kernel, mm } = process
      const args = {
        addr: 0,
        length: PAGE,
        prot: PROT_WRITE,
        flags: MAP_PRIVATE | MAP_ANONYMOUS,
        file: null,
        offset: 0,
      }
      const time = nanoseconds(() => {
        for (let i = 0; i < PAIRS; i++) {
          const address = process.run(mmap(kernel, mm!, args))
          process.run(munmap(kernel, mm!, address, PAGE))
        }
      })
      return time / PAIRS
    },
  }
}

export const cases: BenchCase[] = [pairCase(10), pairCase(60_000)]
