import { text } from 'node:stream/consumers'
import { RELEASE_NAMES, isReleaseName, type ReleaseName } from '../base/release.ts'
import { parseSize } from '../base/units.ts'
import type { GivenOptions } from '../explain/requests.ts'
import { runInBackground } from './background.ts'
import type { ExplainJob, Source } from './job.ts'
import { parsePid } from './options.ts'
import { reportExplain } from './report-explain.ts'
import { reportJson } from './report-json.ts'
import { outputTerminal } from './terminal.ts'
import { UserError } from './user-error.ts'

interface ExplainOptions {
  readonly pid?: string
  readonly snapshot?: string
  readonly range?: string
  readonly request?: string
  readonly access?: string
  readonly flags?: string
  readonly offset?: string
  readonly iova?: string
  readonly frameSize?: string
  readonly headroom?: string
  readonly unaligned?: true
  readonly bounceSize?: string
  readonly forkSafe?: true
  readonly hugepagesSafe?: true
  readonly iovaBits?: string
  readonly kernel?: string
  readonly json?: true
}

export async function runExplain(options: ExplainOptions): Promise<void> {
  const { kernel = 'host' } = options
  if (options.request === undefined) {
    throw new UserError(
      '--request is missing: what is asked for? e.g. --request io_uring:register-buffers; see pinscope explain --help',
    )
  }
  const given = givenOptions(options)
  const release = releaseOf(kernel)
  const source = await sourceOf(options)
  const job: ExplainJob = {
    kind: 'explain',
    source,
    range: options.range ?? null,
    request: options.request,
    options: given,
    release,
  }
  const answer = await runInBackground(job, doing(source))
  process.exitCode = answer.verdict.ok === true ? 0 : 1
  process.stdout.write(
    options.json
      ? reportJson(answer)
      : reportExplain(answer, outputTerminal(), { allReleases: kernel === 'all' }),
  )
}

function doing(source: Source): string {
  if ('pid' in source) return `reading process ${source.pid}`
  return `reading ${'file' in source ? source.file : source.origin}`
}

async function sourceOf({ pid, snapshot, range }: ExplainOptions): Promise<Source> {
  if (pid !== undefined && snapshot !== undefined)
    throw new UserError('--pid and --snapshot exclude each other: give one of them')
  if (snapshot === '-') return { text: await text(process.stdin), origin: 'standard input' }
  if (snapshot !== undefined) return { file: snapshot }
  if (pid === undefined)
    throw new UserError('--pid or --snapshot is missing: which process? see pinscope explain --help')
  if (range === undefined) {
    throw new UserError(
      "--range is missing: which memory of the process? e.g. --range 0x7f3a5c000000+64k or --range '[heap]'",
    )
  }
  return { pid: parsePid(pid) }
}

function accessOf({ access = 'write' }: ExplainOptions): 'write' | 'read' {
  if (access !== 'write' && access !== 'read')
    throw new UserError(`unknown access "${access}"; known are write, read`)
  return access
}

function givenOptions(options: ExplainOptions): GivenOptions {
  const { offset, iova, frameSize, headroom, bounceSize, unaligned, forkSafe, hugepagesSafe, iovaBits } =
    options
  return {
    access: accessOf(options),
    flags: (options.flags ?? '').split(',').flatMap((flag) => flag.trim() || []),
    offset: numberOf('--offset', offset, 'position in a file'),
    iova: numberOf('--iova', iova, 'address of a device'),
    frameSize: numberOf('--frame-size', frameSize, 'size'),
    headroom: numberOf('--headroom', headroom, 'size'),
    bounceSize: numberOf('--bounce-size', bounceSize, 'size'),
    unaligned,
    forkSafe,
    hugepagesSafe,
    iovaBits: numberOf('--iova-bits', iovaBits, 'number of address bits'),
  }
}

function numberOf(option: string, text: string | undefined, meaning: string): number | undefined {
  if (text === undefined) return undefined
  const value = parseSize(text)
  if (value === null) throw new UserError(`${option} ${text} is no ${meaning}; write 4096, 0x1000, 64k or 2M`)
  return value
}

function releaseOf(kernel: string): ReleaseName | 'host' {
  if (kernel === 'host' || kernel === 'all') return 'host'
  if (isReleaseName(kernel)) return kernel
  throw new UserError(`unknown kernel "${kernel}"; known are host, ${RELEASE_NAMES.join(', ')}, all`)
}
