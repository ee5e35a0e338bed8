import pc from 'picocolors'
import { describe, expect, it } from 'vitest'
import type { Answer } from '../../src/explain/answer.ts'
import { reportExplain } from '../../src/cli/report-explain.ts'
import { plainTerminal } from '../../src/cli/terminal.ts'
import { terminalControl } from './run.ts'
import { failure, success, undecided } from './answers.ts'

const wide = plainTerminal(100)

// the made-up answers' rules, by role: this file tests none of these rules
const [outer, decider] = failure.verdict.chain.map((step) => step.rule)
const older = failure.otherReleases[0]!.rule

function report(answer: Answer, changes: Partial<Answer> = {}): string {
  return reportExplain({ ...answer, ...changes }, wide)
}

describe('the first line', () => {
  const lines: readonly [answer: Answer, line: string][] = [
    [success, 'would succeed on 6.18 (verified on a running 6.18 kernel)'],
    [failure, 'would fail with EFAULT on 6.18 (not verified on a running 6.18 kernel)'],
    [undecided, 'cannot be said on 6.18 (verified on a running 6.18 kernel)'],
    [
      { ...failure, verdict: { ...failure.verdict, errno: null } },
      'would fail on 6.18 (not verified on a running 6.18 kernel)',
    ],
  ]

  it.each(lines)('is the verdict in words: %#', (answer, line) => {
    expect(reportExplain(answer, wide).split('\n')[0]).toBe(line)
  })

  it('R-OUT-2 says so when the facts are racy', () => {
    const { seen } = success
    const [first] = report(success, { seen: { ...seen, consistency: 'racy' } }).split('\n')
    expect(first).toContain('racy: the process changed while it was read')
    expect(report(success)).not.toContain('racy')
  })
})

describe('a failure', () => {
  const text = report(failure)

  it('shows page, mapping, reason, rule and how the errno came of it', () => {
    expect(text).toContain(
      [
        '  refused   page 3 of 0..15, at 0x7f12a4c03000',
        '  mapping   0x7f12a4c03000-0x7f12a4c28000  rw-s  ext4  /var/lib/app/data.bin',
        '            VmFlags rd wr sh mr mw me ms sd',
        '  because   a long-term write pin of a mapping whose writes are tracked',
        `  rule      ${decider}: A long-term write pin of a mapping that needs dirty tracking is refused.`,
        `            → EFAULT: fewer pages were pinned than asked for (${outer})`,
      ].join('\n'),
    )
  })

  it('lists the hints, wrapped under their bullets', () => {
    expect(text).toContain(
      [
        '  fix       - map the file MAP_PRIVATE (data then stays in memory: it does not reach',
        '              /var/lib/app/data.bin)',
        '            - use a memfd or a tmpfs file, if the memory must be shared',
      ].join('\n'),
    )
  })

  it('compares with the other releases', () => {
    expect(text).toContain(
      [
        '  elsewhere another answer on gup-v3, 6.1, 6.12',
        `            gup-v3  not verified  EOPNOTSUPP  the file is neither shmem nor hugetlb (${older})`,
        `            6.1     verified      EOPNOTSUPP  the file is neither shmem nor hugetlb (${older})`,
        '            6.6     not verified  EFAULT      same reason',
        '            6.12    not verified  succeeds',
      ].join('\n'),
    )
  })

  it('shows some assumptions and counts the rest', () => {
    expect(text.match(/taken for a page/g)).toHaveLength(4)
    expect(text).toContain('and 2 more; --json lists all')
  })

  it('fits a screen', () => {
    expect(text.split('\n').length).toBeLessThanOrEqual(32)
  })
})

describe('--kernel all', () => {
  it('begins with the table, its own release marked and in order', () => {
    const text = reportExplain(failure, wide, { allReleases: true })
    const names = [...text.matchAll(/^([> ]) (gup-v3|6\.\d+) /gm)].map(([, mark, name]) => `${mark}${name}`)
    expect(names).toEqual([' gup-v3', ' 6.1', ' 6.6', ' 6.12', '>6.18'])
    expect(text.indexOf('> 6.18')).toBeLessThan(text.indexOf('would fail'))
    expect(text).not.toContain('elsewhere')
  })
})

describe('R-ST-3 the memlock arithmetic', () => {
  const USER = { capability: 'missing', budget: 'user->locked_vm', liftedBy: 'CAP_IPC_LOCK' } as const
  const rows: readonly [name: string, memlock: Answer['memlock'], says: string | null][] = [
    [
      'a limit',
      { needed: 16, used: 3, limit: 16, exempt: false, ...USER },
      'needs 16 pages (64 KiB); uid 1000 has 3 pages (12 KiB) in use (a lower bound); RLIMIT_MEMLOCK allows 16 pages (64 KiB) CAP_IPC_LOCK lifts the limit; the process does not have it',
    ],
    [
      'no limit',
      { needed: 1, used: 0, limit: null, exempt: false, ...USER },
      'needs 1 page (4 KiB); RLIMIT_MEMLOCK is unlimited',
    ],
    [
      'a capability',
      { needed: 1, used: 9, limit: 4, exempt: true, ...USER, capability: 'effective' },
      'no limit applies: the process has CAP_IPC_LOCK',
    ],
    [
      'VmPin, which no capability lifts',
      {
        needed: 9,
        used: 3,
        limit: 8,
        exempt: false,
        capability: 'missing',
        budget: 'mm->pinned_vm',
        liftedBy: null,
      },
      'the process has 3 pages (12 KiB) pinned (VmPin); RLIMIT_MEMLOCK allows 8 pages (32 KiB); CAP_IPC_LOCK does not lift it here',
    ],
    [
      'VmLck',
      { needed: 9, used: 0, limit: 80, exempt: false, ...USER, budget: 'mm->locked_vm' },
      'the process has none locked (VmLck); RLIMIT_MEMLOCK allows 80 pages (320 KiB)',
    ],
    [
      'a capability that counts elsewhere only',
      { needed: 9, used: 0, limit: 8, exempt: false, ...USER, capability: 'user-namespace' },
      'CAP_IPC_LOCK lifts the limit; the process has it in a user namespace of its own only, where it does not count',
    ],
    ['nothing charged', null, null],
  ]

  it.each(rows)('%s', (_, memlock, says) => {
    const text = report(success, { memlock }).replaceAll(/\s+/g, ' ')
    if (says === null) expect(text).not.toContain('memlock')
    else expect(text).toContain(says)
  })
})

it('shows what the kernel writes to its log', () => {
  const kernelLog = ['vfio_pin_pages_remote: RLIMIT_MEMLOCK (65536) exceeded']
  expect(report(failure, { kernelLog })).toMatch(
    /dmesg +vfio_pin_pages_remote: RLIMIT_MEMLOCK \(65536\) exceeded/,
  )
  expect(report(failure)).not.toContain('dmesg')
})

describe('the effect', () => {
  it('of a success: faults, copies, pins', () => {
    const text = report(success, { pinned: { pages: 1024, hugePages: 2 } }).replaceAll(/\s+/g, ' ')
    expect(text).toContain(
      'effect would fault in 3 absent pages, then give 1 shared page a private copy, then pin 1,024 pages (4 MiB), 2 large folios among them',
    )
  })

  it('of a failure: only what happens before it', () => {
    expect(report(failure, { faultedIn: 2 })).toContain('before it fails it would fault in 2 absent pages')
    expect(report(failure)).not.toContain('effect')
  })
})

describe('other releases that agree', () => {
  it('take one line', () => {
    expect(report(success)).toContain(
      'elsewhere the same on gup-v3, 6.1, 6.6, 6.12 (not verified on any of them)',
    )
  })

  it('take a table when some are verified and some are not', () => {
    const otherReleases = success.otherReleases.map((other, i) => ({ ...other, verified: i === 1 }))
    const text = report(success, { otherReleases })
    expect(text).toContain('elsewhere the same answer')
    expect(text).toMatch(/6\.1 +verified +succeeds/)
  })
})

describe('the terminal', () => {
  it.each([72, 80, 110])('of %i columns is not overrun', (width) => {
    for (const answer of [success, failure, undecided]) {
      const lines = reportExplain(answer, plainTerminal(width)).split('\n')
      // a single word, like a path, is not broken
      const overrun = lines.filter((line) => line.length > width && line.slice(12).trim().includes(' '))
      expect(overrun).toEqual([])
    }
  })

  it('gets colour without a change of the text', () => {
    const escapes = new RegExp(`${String.fromCharCode(27)}\\[\\d+m`, 'g')
    for (const options of [{}, { allReleases: true }]) {
      const colored = reportExplain(failure, { width: 100, colors: pc.createColors(true) }, options)
      expect(colored).toMatch(escapes)
      expect(colored.replaceAll(escapes, '')).toBe(reportExplain(failure, wide, options))
    }
  })

  it('is not steered by names of other people', () => {
    const mapping = { ...failure.verdict.mapping!, name: '/tmp/\u001b]0;owned\u0007\nwould succeed' }
    const text = report(failure, {
      verdict: { ...failure.verdict, mapping },
      process: { pid: 1, name: '\u001b[2J', uid: 0 },
    })
    expect(text).toContain('/tmp/\\x1b]0;owned\\x07\\x0awould succeed')
    expect(text).toContain('(\\x1b[2J)')
    expect(text).not.toMatch(terminalControl)
  })
})
