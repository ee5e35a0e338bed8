import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import type { BenchCase } from '../case.ts'
import { spawnManyMappings } from '../native.ts'

const run = promisify(execFile)

export const cases: BenchCase[] = [
  {
    name: 'pinscope explain on a process with 60,000 mappings, end to end',
    unit: 's',
    limit: 1,
    async engine() {
      const target = await spawnManyMappings(60_000)
      if ('skip' in target) return target
      const main = path.join(import.meta.dirname, '..', '..', 'dist', 'cli', 'main.js')
      const range = `0x${target.address.toString(16)}+${target.length}`
      const args = [
        main,
        'explain',
        '--pid',
        String(target.pid),
        '--range',
        range,
        '--request',
        'io_uring:register-buffers',
      ]
      const start = performance.now()
      try {
        await run(process.execPath, args)
      } finally {
        await target.stop()
      }
      return (performance.now() - start) / 1000
    },
  },
]
