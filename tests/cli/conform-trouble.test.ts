/** A run that is ended, loses an agent or may not do what it wants: it says so, and the machine is as it was. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PrivateMachine, noPrivateMachine, type PrivateRun } from './private-machine.ts'

/** ms; other runs may keep the processors busy */
const timeout = 90_000
let machine: PrivateMachine

beforeEach(() => {
  if (noPrivateMachine === null) machine = new PrivateMachine()
})
afterEach(() => {
  if (noPrivateMachine === null) machine.remove()
})

/** The lines on stderr that are no progress. */
function said(stderr: string): string[] {
  return stderr
    .split('\n')
    .filter(
      (line) => line !== '' && !/^pinscope: (\d+ programs?, .* a minute|starting the agents …)$/.test(line),
    )
}

/** Nothing of a run is left: settings, processes, directories. */
async function expectNothingLeft(run: PrivateRun, before: Record<string, string>): Promise<void> {
  // what was killed is put back by others, a moment later
  for (let tries = 0; tries < 200 && run.processes().length > 0; tries++) await sleep(20)
  expect(run.processes()).toEqual([])
  expect(machine.state()).toEqual(before)
  expect(machine.directories()).toEqual([])
}

describe.skipIf(noPrivateMachine)('a run of conform that is ended', () => {
  it.each([
    ['SIGINT', 130, 'interrupted'],
    ['SIGTERM', 143, 'ended by SIGTERM'],
  ] as const)(
    'by %s: one line, what was found so far, and the machine as it was',
    { timeout },
    async (signal, status, words) => {
      const before = machine.state()
      const run = machine.conform(['--programs', '100000', '--jobs', '2'])
      await run.working()
      expect(machine.state()).not.toEqual(before)
      // one for each worker, and what their programs have forked just then
      const agents = run.processes().filter(({ command }) => command.startsWith('pinscope-agent'))
      expect(agents.length).toBeGreaterThanOrEqual(2)
      run.child.kill(signal)
      const { code, stdout, stderr } = await run.ran
      expect(code).toBe(status)
      const [line, ...more] = said(stderr)
      expect(more).toEqual([])
      const programs = new RegExp(`^pinscope: ${words} after (\\d+) programs, 0 differences; stopping$`).exec(
        line!,
      )![1]
      expect(stdout).toMatch(/^rules: \d+ of \d+ in functions of the engine that ran/m)
      expect(stdout.trimEnd().split('\n').at(-1)).toMatch(
        new RegExp(`^${programs} programs, \\d+ steps, 0 differences; not complete, ended by ${signal}$`),
      )
      await expectNothingLeft(run, before)
    },
  )

  it('by SIGINT with --json: the output is still one whole object', { timeout }, async () => {
    const run = machine.conform(['--programs', '100000', '--jobs', '1', '--json'])
    await run.working()
    run.child.kill('SIGINT')
    const { code, stdout } = await run.ran
    expect(code).toBe(130)
    const report = JSON.parse(stdout) as {
      readonly programs: number
      readonly rules: { readonly of: number }
    }
    expect(report).toMatchObject({ interrupted: 'SIGINT', differences: 0, found: [] })
    expect(report.programs).toBeGreaterThan(0)
    expect(report.rules.of).toBeGreaterThan(400)
  })

  it('by SIGKILL: its agents notice, and the machine is as it was', { timeout }, async () => {
    const before = machine.state()
    const run = machine.conform(['--programs', '100000', '--jobs', '2'])
    await run.working()
    expect(machine.state()).not.toEqual(before)
    run.child.kill('SIGKILL')
    expect((await run.ran).signal).toBe('SIGKILL')
    await expectNothingLeft(run, before)
  })
})

describe.skipIf(noPrivateMachine)('a run of conform that loses something goes on:', () => {
  it('an agent that somebody kills', { timeout }, async () => {
    const before = machine.state()
    const run = machine.conform(['--programs', '400', '--jobs', '2', '--seed', '7'])
    await run.working()
    const agent = run.processes().find(({ command }) => command.startsWith('pinscope-agent'))!
    process.kill(agent.pid, 'SIGKILL')
    const { code, stdout, stderr } = await run.ran
    expect(said(stderr)).toEqual([])
    expect(stdout).toMatch(
      /^not repeatable: [a-z]+-\d+: the agent ended in ".+", by SIGKILL; it went well another time$/m,
    )
    expect(stdout).toMatch(/\n400 programs, \d+ steps, 0 differences\n$/)
    expect(code).toBe(0)
    await expectNothingLeft(run, before)
  })

  it('the process that is to put the settings back', { timeout }, async () => {
    const before = machine.state()
    const run = machine.conform(['--programs', '100', '--jobs', '1'])
    await run.working()
    const keeper = run.processes().find(({ command }) => command.startsWith('/bin/sh -c lines='))!
    process.kill(keeper.pid, 'SIGKILL')
    expect((await run.ran).code).toBe(0)
    await expectNothingLeft(run, before)
  })

  it('the kernel settings, when they are read-only', { timeout }, async () => {
    const run = machine.conform(
      ['--programs', '20', '--jobs', '1', '--only', 'basic,swap,ksm'],
      'mount -o remount,bind,ro /sys; for file in "$state"/*; do mount -o remount,bind,ro "/$(basename "$file" | tr : /)"; done',
    )
    const before = machine.state()
    const { code, stdout, stderr } = await run.ran
    expect(said(stderr)).toEqual([])
    for (const [file, value] of Object.entries(before))
      expect(stdout).toContain(`not set: /${file.replaceAll(':', '/')} stays ${value}\n`)
    expect(stdout).toMatch(/^not set: no zram device for swap could be added$/m)
    expect(stdout).toMatch(/^themes off: .*ksm \(KSM cannot be started\)/m)
    expect(stdout).toMatch(/\n20 programs, \d+ steps, 0 differences\n$/)
    expect(code).toBe(0)
    expect(machine.state()).toEqual(before)
    expect(machine.directories()).toEqual([])
  })

  it('a lock, when /run cannot be written', { timeout }, async () => {
    const before = machine.state()
    const run = machine.conform(['--programs', '20', '--jobs', '1'], 'mount -o remount,ro /run')
    const { code, stdout, stderr } = await run.ran
    expect(said(stderr)).toEqual([])
    expect(stdout).toMatch(
      /^not set: a lock: \/run cannot be written, so other runs on this machine may disturb/m,
    )
    expect(stdout).toMatch(/\n20 programs, \d+ steps, 0 differences\n$/)
    expect(code).toBe(0)
    expect(machine.state()).toEqual(before)
  })
})

describe.skipIf(noPrivateMachine)('a run of conform whose output', () => {
  it('cannot be written says so in one line', { timeout }, async () => {
    const before = machine.state()
    const run = machine.conform(['--programs', '20', '--jobs', '1'], 'exec >/dev/full')
    const { code, stderr } = await run.ran
    expect(said(stderr)).toEqual([
      'pinscope: the output cannot be written: ENOSPC: no space left on device, write',
    ])
    expect(code).toBe(2)
    expect(machine.state()).toEqual(before)
  })

  it('nobody reads is no error', { timeout }, async () => {
    const before = machine.state()
    const run = machine.conform(['--programs', '20', '--jobs', '1'])
    run.child.stdout.destroy()
    const { code, stderr } = await run.ran
    expect({ code, said: said(stderr) }).toEqual({ code: 0, said: [] })
    expect(machine.state()).toEqual(before)
    expect(machine.directories()).toEqual([])
  })
})

describe.skipIf(noPrivateMachine)('without what a guest needs conform says what is missing:', () => {
  it('no network', { timeout }, async () => {
    // nothing fetched before is to be seen
    const run = machine.conform(
      ['--kernel', '6.12', '--programs', '1'],
      'export XDG_CACHE_HOME="$TMPDIR/cache"; hide="$(dirname "$2")/../../build"; mkdir -p "$hide"; mount -t tmpfs -o ro none "$hide"; set -- unshare -n "$@"',
    )
    const { code, stdout, stderr } = await run.ran
    const [line, ...more] = said(stderr).filter((each) => each !== 'pinscope: starting the kernel 6.12 …')
    expect(more).toEqual([])
    expect(line).toMatch(/^pinscope: no guest can be started: .*(apt-get|no qemu|no apt)/)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  })
})
