import type { BenchCase } from '../case.ts'
import { nanoseconds, resident, type Resident } from '../machine.ts'
import { nativeFork } from '../native.ts'

const MEBIBYTES = 512
const REPEATS = 3

let machine: Resident | null = null

export const cases: BenchCase[] = [
  {
    name: 'fork, 512 MiB resident anonymous',
    unit: 'ns/page',
    limit: 0.5,
    native: () => nativeFork(MEBIBYTES),
    async engine() {
      machine ??= resident(MEBIBYTES * 2 ** 20, true, '2G')
      const { process, address, pages } = machine
      let time = 0
      for (let i = 0; i < REPEATS; i++) {
        // as the native program does: all pages exclusive and writable again before each fork
        process.touch(address, pages * 4096)
        let child = process
        time += nanoseconds(() => {
          child = process.fork()
        })
        child.exit()
      }
      return time / (REPEATS * pages)
    },
  },
]
