import { describe, expect, it } from 'vitest'
import { run } from './run.ts'

const small = ['-m', '1'] as const

describe('pinscope gup-test', () => {
  it('R-GUP-108 prints a line for each repeat of a benchmark', async () => {
    const { code, stdout, stderr } = await run(['gup-test', '-a', '-m', '2', '-r', '3'])
    expect(stdout).toMatch(/^(PIN_FAST_BENCHMARK: Time: get:\d+ put:\d+ us\n){3}$/)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  })

  it('R-GUP-107 R-GUP-108 says how far it got when that is less', async () => {
    const { code, stdout } = await run(['gup-test', '-u', '-a', '-z', ...small])
    expect(stdout).toMatch(/^PIN_FAST_BENCHMARK: Time: get:\d+ put:\d+ us, truncated \(size: 0\)\n$/)
    expect(code).toBe(0)
    expect((await run(['gup-test', '-b', '-z', ...small])).stdout).toBe(
      'PIN_BASIC_TEST: done\nTruncated (size: 0)\n',
    )
  })

  it('R-GUP-109 speaks TAP from 6.12 on', async () => {
    const { code, stdout } = await run(['gup-test', '-L', '-j', '2', ...small, '--kernel', '6.12'])
    const thread = String.raw`# PIN_LONGTERM_BENCHMARK: Time: get:\d+ put:\d+ us# \n`
    expect(stdout).toMatch(
      new RegExp(
        `^TAP version 13\\n1\\.\\.2\\n${thread}ok 1 ioctl status 0\\n${thread}ok 2 ioctl status 0\\n` +
          '# Totals: pass:2 fail:0 xfail:0 xpass:0 skip:0 error:0\\n$',
      ),
    )
    expect(code).toBe(0)
    expect((await run(['gup-test', '-b', '-z', ...small, '--kernel', '6.18'])).stdout).toBe(
      'TAP version 13\n1..1\n# PIN_BASIC_TEST: done\n# Truncated (size: 0)\nok 1 ioctl status 0\n' +
        '# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0\n',
    )
  })

  it('R-GUP-104 dumps the pages it is asked for', async () => {
    const { stdout, stderr } = await run(['gup-test', '-ct', '-F', '0x1', '0', '19', '0x1000', '-m', '4'])
    expect(stdout).toBe('DUMP_USER_PAGES_TEST: done\n')
    expect(stderr.match(/---- page #\d+/g)).toEqual(['---- page #0', '---- page #19'])
    expect(stderr).toContain('ZEROING due to out of range: .which_pages[2]: 4097')
    expect(stderr.match(/page: refcount:\d+ mapcount:1 .*pfn:0x/g)).toHaveLength(2)
  })

  it('takes the size and the kind of a file, and does not change it', async () => {
    const { code, stderr } = await run(['gup-test', '-f', '/etc/passwd', ...small])
    expect(stderr).toMatch(/^SIGBUS \(code 2\) at 0x[\da-f]+: memory of \/etc\/passwd \(\d+ bytes\)[^\n]*\n$/)
    expect(code).toBe(1)
  })

  it('--json', async () => {
    const { stdout } = await run(['gup-test', '-U', '-S', ...small, '--json', '--kernel', '6.6'])
    expect(JSON.parse(stdout)).toMatchObject({
      schemaVersion: 1,
      release: '6.6',
      command: 'GUP_BASIC_TEST',
      shared: true,
      threads: [{ rounds: [{ size: 2 ** 20 }], errno: null }],
    })
  })

  it.each([
    ['an unknown letter', ['-q'], /unknown option '-q'/],
    ['an unknown kernel', ['--kernel', '5.4'], /unknown kernel "5\.4"; known are gup-v3, 6\.1/],
    ['a size that is no number', ['-m', 'much'], /-m "much" is not a number from 1 to 65536/],
    ['a page that is no number', ['-c', 'x'], /page "x" is not a number of 32 bits/],
    ['too many pages', ['-c', ...'123456789'], /9 page numbers; at most 8/],
    ['a directory', ['-f', '/etc'], /-f \/etc is neither a regular file nor \/dev\/zero/],
    ['a file nowhere', ['-f', '/nonexistent/file'], /its directory does not exist/],
  ])('refuses %s with one line', async (_what, args, says) => {
    const { code, stdout, stderr } = await run(['gup-test', ...args])
    expect(stderr).toMatch(says)
    expect(stderr.trimEnd().split('\n')).toHaveLength(1)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  })

  it('says what it has no model of', async () => {
    const { code, stderr } = await run(['gup-test', '-F', '0x1000', '--kernel', '6.1', ...small])
    expect(stderr).toBe('pinscope: Unmodelled: what GUP makes of gup_flags bit 0x1000 (R-GUP-5)\n')
    expect(code).toBe(1)
  })
})
