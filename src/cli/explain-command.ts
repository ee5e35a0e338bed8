import { text } from 'node:stream/consumers'
import { RELEASE_NAMES, isReleaseName, type ReleaseName } from '../base/release.ts'
import { parseSize } from '../base/units.ts'
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
  const access = accessOf(options)
  const release = releaseOf(kernel)
  const source = await sourceOf(options)
  const job: ExplainJob = {
    kind: 'explain',
    source,
    range: options.range ?? null,
    request: options.request,
    access,
    flags: (options.flags ?? '').split(',').flatMap((flag) => flag.trim() || []),
    offset: offsetOf(options),
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

function offsetOf({ offset }: ExplainOptions): number | undefined {
  if (offset === undefined) return undefined
  const bytes = parseSize(offset)
  if (bytes === null)
    throw new UserError(`--offset ${offset} is no position in a file; write 4096, 0x1000, 64k or 2M`)
  return bytes
}

function releaseOf(kernel: string): ReleaseName | 'host' {
  if (kernel === 'host' || kernel === 'all') return 'host'
  if (isReleaseName(kernel)) return kernel
  throw new UserError(`unknown kernel "${kernel}"; known are host, ${RELEASE_NAMES.join(', ')}, all`)
}
