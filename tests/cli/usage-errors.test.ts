import { describe, expect, it } from 'vitest'
import { run } from './run.ts'

const pid = String(process.pid)
const explain = ['explain', '--pid', pid, '--range', '[stack]', '--request', 'gup:pin']

/** What is typed, and what the one line on stderr must say. */
const mistakes: readonly [name: string, args: readonly string[], says: RegExp][] = [
  [
    'a kernel that cannot be booted',
    ['conform', '--kernel', '5.10'],
    /"5\.10"; known are host, 6\.1, 6\.12$/m,
  ],
  ['a kernel named like a property', ['conform', '--kernel', 'constructor'], /known are host, 6\.1, 6\.12$/m],
  ['an unknown command', ['explian'], /unknown command 'explian'.*explain.*pinscope --help/],
  ['an unknown option', [...explain, '--colour'], /unknown option '--colour'.*pinscope explain --help/],
  [
    'an option without its value',
    ['explain', '--pid'],
    /--pid <PID>.*argument missing.*pinscope explain --help/,
  ],
  ['a word too many', [...explain, 'please'], /too many arguments.*pinscope explain --help/],
  [
    'neither process nor snapshot',
    ['explain', '--range', '[heap]', '--request', 'gup:pin'],
    /--pid or --snapshot is missing/,
  ],
  [
    'both process and snapshot',
    [...explain, '--snapshot', 'app.json'],
    /--pid and --snapshot exclude each other/,
  ],
  ['no range', ['explain', '--pid', pid, '--request', 'gup:pin'], /--range is missing/],
  ['no request', ['explain', '--pid', pid, '--range', '[heap]'], /--request is missing/],
  [
    'a PID that is no number',
    ['explain', '--pid', 'app', '--range', '[heap]', '--request', 'gup:pin'],
    /--pid "app" is not a process id/,
  ],
  [
    'an unknown request',
    ['explain', '--pid', pid, '--range', '[stack]', '--request', 'rdma'],
    /unknown request "rdma"; known are io_uring:register-buffers, direct-io:read, .*rdma:reg-mr, .*vfio:map-dma, .*gup:get, gup:pin/,
  ],
  [
    'a request named like a property of every object',
    ['explain', '--pid', pid, '--range', '[stack]', '--request', 'constructor'],
    /unknown request "constructor"; known are/,
  ],
  [
    'an unknown flag',
    [...explain, '--flags', 'FOLL_LONGTERM,FOLL_ME'],
    /unknown flag "FOLL_ME"; known are .*FOLL_LONGTERM/,
  ],
  [
    'a flag named like a property of every object',
    [...explain, '--flags', 'toString'],
    /unknown flag "toString"/,
  ],
  [
    'flags for a request that takes none',
    [
      'explain',
      '--pid',
      pid,
      '--range',
      '[stack]',
      '--request',
      'io_uring:register-buffers',
      '--flags',
      'FOLL_WRITE',
    ],
    /--flags goes with gup:get and gup:pin/,
  ],
  [
    'read access for a request that writes',
    [
      'explain',
      '--pid',
      pid,
      '--range',
      '[stack]',
      '--request',
      'io_uring:register-buffers',
      '--access',
      'read',
    ],
    /--access read goes with rdma:reg-mr, vfio:map-dma, .* and gup:pin; io_uring:register-buffers decides that itself/,
  ],
  [
    'an unknown access',
    [...explain, '--access', 'execute'],
    /unknown access "execute"; known are write, read/,
  ],
  [
    'an unknown kernel',
    [...explain, '--kernel', '5.4'],
    /unknown kernel "5\.4"; known are host, gup-v3, 6\.1, 6\.6, 6\.12, 6\.18, all/,
  ],
  [
    'an empty range',
    ['explain', '--pid', pid, '--range', '0x1000+0', '--request', 'gup:pin'],
    /range "0x1000\+0" is empty/,
  ],
  [
    'a range that is none',
    ['explain', '--pid', pid, '--range', 'heap', '--request', 'gup:pin'],
    /range "heap" is not understood; write START\+SIZE/,
  ],
  [
    'a size that is none',
    ['explain', '--pid', pid, '--range', '0x1000+4q', '--request', 'gup:pin'],
    /"4q".* is not a size/,
  ],
  [
    'a name that nothing has',
    ['explain', '--pid', pid, '--range', '/no/such/file', '--request', 'gup:pin'],
    /no mapping of the process is named \/no\/such\/file/,
  ],
  ['a snapshot of nothing', ['snapshot'], /--pid is missing/],
]

describe('wrong usage is one clear line and exit 2', () => {
  it.each(mistakes)('%s', async (_, args, says) => {
    const { code, stdout, stderr } = await run(args)
    expect(stderr).toMatch(/^pinscope: [^\n]+\n$/)
    expect(stderr).toMatch(says)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  })

  it('no command at all prints the help on stderr', async () => {
    const { code, stdout, stderr } = await run([])
    expect(stderr).toContain('Usage: pinscope COMMAND')
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  })
})
