import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import type { BenchCase } from '../case.ts'

const run = promisify(execFile)

export const cases: BenchCase[] = [
  {
    name: 'metadata, 4 GiB resident in 4 KiB pages',
    unit: 'bytes/page',
    limit: 32,
    /** In a process of its own, so that nothing else is counted. */
    async engine() {
      const program = path.join(import.meta.dirname, '..', 'memory-footprint.ts')
      const { stdout } = await run(process.execPath, ['--expose-gc', '--import', 'tsx', program])
      return Number(stdout)
    },
  },
]
