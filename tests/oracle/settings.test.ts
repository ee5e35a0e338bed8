import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { OracleSettings } from '../../src/host/oracle-settings.ts'
import { noRoot } from './live.ts'

const pool = '/sys/kernel/mm/hugepages/hugepages-2048kB/'
const watched = [
  '/sys/kernel/mm/transparent_hugepage/enabled',
  '/sys/kernel/mm/transparent_hugepage/khugepaged/defrag',
  '/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs',
  '/sys/kernel/mm/ksm/run',
  '/sys/kernel/mm/ksm/sleep_millisecs',
  '/proc/sys/vm/compaction_proactiveness',
  '/proc/sys/vm/compact_unevictable_allowed',
  `${pool}nr_hugepages`,
  `${pool}surplus_hugepages`,
  '/proc/swaps',
]

/** Another run of pinscope on this machine has its settings in force: nothing can be said about ours. */
const held = (settings: OracleSettings) => settings.notSet.find((why) => why.startsWith('another run'))

const look = () => watched.map((path) => (existsSync(path) ? readFileSync(path, 'latin1') : 'none'))
const other = () => (readFileSync(watched[0]!, 'latin1').includes('[never]') ? 'madvise' : 'never')

test.skipIf(noRoot)('R-AG-6: settings are in force, and afterwards as they were', async (context) => {
  const before = look()
  const settings = OracleSettings.apply({ thp: other(), hugepages: 3, swap: 16 << 20 })
  if (held(settings)) {
    await settings.restore()
    return context.skip(held(settings))
  }
  expect(look()).not.toEqual(before)
  // what is promised to others is not ours; where memory is short it says so
  const counter = (name: string) => BigInt.asIntN(64, BigInt(readFileSync(pool + name, 'latin1').trim()))
  if (settings.notSet.length === 0)
    expect(counter('free_hugepages') - counter('resv_hugepages')).toBeGreaterThanOrEqual(3n)
  for (const { path, now } of settings.changed) expect(readFileSync(path, 'latin1')).toContain(now)
  if (settings.swapDevice) expect(readFileSync('/proc/swaps', 'latin1')).toContain(settings.swapDevice)
  const second = OracleSettings.apply({ thp: 'always' })
  expect(held(second)).toBeDefined()
  expect(second.changed).toEqual([])
  await second.restore()
  expect(look()).not.toEqual(before)
  await settings.restore()
  expect(look()).toEqual(before)
  await settings.restore()
})

test.skipIf(noRoot).for(['SIGKILL', 'SIGINT'] as const)(
  'R-AG-6: %s of the one who set them puts everything back',
  async (signal, context) => {
    // The process that restored for the test before this one may still be leaving.
    let why: string | undefined = 'not tried'
    for (let tries = 0; tries < 20 && why !== undefined; tries++) {
      const probe = OracleSettings.apply()
      await probe.restore()
      why = held(probe)
      if (why !== undefined) await sleep(50)
    }
    if (why !== undefined) return context.skip(why)
    const before = look()
    const module = JSON.stringify(
      fileURLToPath(new URL('../../src/host/oracle-settings.ts', import.meta.url)),
    )
    const child = spawn(
      process.execPath,
      [
        '--import',
        'tsx',
        '--input-type=module',
        '-e',
        `const { OracleSettings } = await import(${module})
         OracleSettings.apply({ thp: '${other()}', hugepages: 2 })
         setInterval(() => {}, 1000)
         console.log('set')`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'], cwd: fileURLToPath(new URL('../..', import.meta.url)) },
    )
    await once(child.stdout, 'data')
    expect(look()).not.toEqual(before)
    const gone = once(child, 'exit')
    child.kill(signal)
    await gone
    for (let tries = 0; tries < 100 && look().join() !== before.join(); tries++) await sleep(20)
    expect(look()).toEqual(before)
  },
)
