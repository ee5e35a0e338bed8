import { PAGE_SIZE, PMD_SIZE, pageAlign, pageAlignDown } from '../base/units.ts'
import type { Mapping } from '../host/snapshot.ts'
import { FOLL_WRITE } from '../mm/gup-flags.ts'
import {
  MADV_GUARD_REMOVE,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
} from '../mm/mman.ts'
import { madvise } from '../mm/madvise.ts'
import { mmap } from '../mm/mmap.ts'
import { vmaLookup } from '../mm/mmap-lock.ts'
import { mprotect } from '../mm/mprotect.ts'
import { shmemFileSetup } from '../mm/shmem.ts'
import { truncateFile } from '../mm/truncate.ts'
import type { OpenFile } from '../mm/file.ts'
import type { Asked, Preparation, Question } from './ask.ts'
import { mappingsOf } from './mappings.ts'
import { pagesOf, type RequestOptions, type RequestRange } from './request.ts'
import type { Restored } from './restore.ts'
import { settle } from './settle.ts'
import { hex } from './verdict.ts'

/** A change that might help: what to tell people, and how to try it in the engine. */
interface Candidate {
  readonly text: string
  readonly prepare?: Preparation
  /** asked for instead of the range, each by itself */
  readonly ranges?: readonly RequestRange[]
  readonly options?: Partial<RequestOptions>
}

/** Yields what may help and is told whether it did. */
type Candidates = Generator<Candidate, void, boolean>

/** Pieces of a range that are tried one by one. */
const MOST_PIECES = 16

/**
 * What would make a refused request succeed. Every candidate is tried on a fresh copy of the process; only
 * those after which the request succeeds are returned.
 */
export function hintsFor(question: Question, asked: Asked): string[] {
  if (asked.verdict.ok !== false) return []
  const hints: string[] = []
  const candidates = candidatesFor(question, asked)
  for (let next = candidates.next(false); next.done !== true;) {
    const helps = succeeds(question, next.value)
    if (helps) hints.push(next.value.text)
    next = candidates.next(helps)
  }
  return hints
}

function succeeds(question: Question, candidate: Candidate): boolean {
  const { ranges = [question.range], prepare } = candidate
  const options = { ...question.options, ...candidate.options }
  return ranges.every((range) => settle({ ...question, range, options }, prepare)?.verdict.ok === true)
}

function* candidatesFor(question: Question, asked: Asked): Candidates {
  yield* memlockCandidates(question, asked)
  yield* argumentCandidates(question)
  yield* pieceCandidates(question, asked)
  yield* mappingCandidates(question)
  yield* fileCandidates(question)
  const { access, flags } = question.options
  if (question.request.takes.includes('access') && access === 'write') {
    const options = { access: 'read' as const, flags: flags & ~FOLL_WRITE }
    yield { text: 'ask for read access only (--access read)', options }
  }
}

/** The limit that would do: what the request charges without one, on top of what is charged already. */
function* memlockCandidates(question: Question, { memlock }: Asked): Candidates {
  if (memlock === null || memlock.limit === null || memlock.needed + memlock.used <= memlock.limit) return
  const limitTo =
    (bytes: number): Preparation =>
    ({ task }) => {
      task.setLimit('memlock', bytes)
      return 0
    }
  const free = settle(question, limitTo(Infinity))
  if (free === null || free.memlock === null || free.verdict.ok !== true) return
  const bytes = (free.memlock.used + free.memlock.needed) * PAGE_SIZE
  const { process } = question.snapshot
  const more =
    memlock.budget === 'user->locked_vm'
      ? `, more if uid ${process.uid.real} has registrations that could not be seen`
      : ''
  yield {
    text: `raise RLIMIT_MEMLOCK to at least ${bytes} bytes (ulimit -l ${bytes / 1024} where the program is started; prlimit --pid ${process.pid} --memlock=${bytes} for this one)${more}${obstacles(question, bytes)}`,
    prepare: limitTo(bytes),
  }
  if (memlock.liftedBy === null) return
  yield {
    text: `give the process CAP_IPC_LOCK (in the initial user namespace): no limit applies then${alreadyHeld[memlock.capability]}`,
    prepare: ({ task }) => {
      task.grant('CAP_IPC_LOCK')
      return 0
    },
  }
}

/** What keeps a process from raising its limit by itself. */
function obstacles({ snapshot: { process } }: Question, bytes: number): string {
  const { hard } = process.limits.memlock
  if (hard === null || hard >= bytes) return ''
  const filtered = process.seccomp === 2 ? '; a seccomp filter may refuse that to the process itself' : ''
  return `; its hard limit is ${hard}, raising that needs CAP_SYS_RESOURCE${filtered}`
}

/** Why a capability that people see somewhere does not count. */
const alreadyHeld: Readonly<Record<NonNullable<Asked['memlock']>['capability'], string>> = {
  effective: '',
  'user-namespace': '; the one it has counts in its own user namespace only',
  permitted: '; it is permitted, and must be made effective',
  bounding:
    '; to be in the bounding set gives nothing: it must be effective (run as uid 0, ambient set, file capability)',
  missing: '',
  'not-effective': '',
}

/** The same memory, asked for in another way. */
function* argumentCandidates({ snapshot, request, range, options }: Question): Candidates {
  const first = pageAlignDown(range.start)
  const aligned = { start: first, length: range.length }
  const pages = pagesOf(range)
  if (first !== range.start && pagesOf(aligned) < pages)
    yield {
      text: `begin it with a page: at ${hex(first)} the same ${range.length} bytes take ${pagesOf(aligned)} pages instead of ${pages}`,
      ranges: [aligned],
    }
  const { iova, iovaBits, forkSafe } = options
  if (request.takes.includes('iovaBits') && (iova ?? range.start) + range.length > 2 ** iovaBits) {
    const low = PMD_SIZE + (range.start % PMD_SIZE)
    yield {
      text: `map it where the IOMMU has addresses, below 2^${iovaBits}: ${hex(low)} was tried`,
      options: { iova: low },
    }
  }
  if (!forkSafe && !options.hugepagesSafe) return
  if (mappingsOf(snapshot, range).some(({ pageSize }) => pageSize > PAGE_SIZE))
    yield {
      text: 'set RDMAV_HUGEPAGES_SAFE before ibv_fork_init(3) (--hugepages-safe): whole huge pages are advised then',
      options: { hugepagesSafe: true },
    }
  yield {
    text: 'do without ibv_fork_init(3): where ibv_is_fork_initialized(3) says IBV_FORK_UNNEEDED, pinned pages are copied at fork',
    options: { forkSafe: false, hugepagesSafe: false },
  }
}

function* pieceCandidates(question: Question, asked: Asked): Candidates {
  const { snapshot, request, range } = question
  const { start, length } = range
  if (length > request.longest) {
    const pieces = Math.ceil(length / request.longest)
    if (pieces > MOST_PIECES) return
    yield {
      text: `ask for it in ${pieces} pieces of at most ${request.longest} bytes (each was tried by itself)`,
      ranges: Array.from({ length: pieces }, (_, i) => ({
        start: start + i * request.longest,
        length: Math.min(request.longest, length - i * request.longest),
      })),
    }
    return
  }
  const mappings = mappingsOf(snapshot, range)
  if (mappings.length > 1 && mappings.length <= MOST_PIECES) {
    const helps = yield {
      text: `ask for each of the ${mappings.length} mappings separately: the range crosses from one into another`,
      ranges: mappings.map((mapping) => clip(range, mapping)),
    }
    if (helps) return
  }
  const { page } = asked.verdict
  if (page === null || page === 0) return
  const shorter = pageAlignDown(start) + page * PAGE_SIZE - start
  yield {
    text: `stop before the refused page: the first ${shorter} bytes can be pinned`,
    ranges: [{ start, length: shorter }],
  }
}

function* mappingCandidates(question: Question): Candidates {
  const { range } = question
  const start = pageAlignDown(range.start)
  const length = pageAlign(range.start + range.length) - start
  yield {
    text: 'make it writable first: mprotect(…, PROT_READ|PROT_WRITE)',
    prepare: ({ kernel, task, mm }) =>
      kernel.run(task, mprotect(kernel, mm, start, length, PROT_READ | PROT_WRITE)),
  }
  yield {
    text: 'take the guard region away first: madvise(…, MADV_GUARD_REMOVE)',
    prepare: ({ kernel, task, mm }) =>
      kernel.run(task, madvise(kernel, mm, start, length, MADV_GUARD_REMOVE)),
  }
  yield {
    text: 'use private anonymous memory (mmap MAP_PRIVATE|MAP_ANONYMOUS, malloc) and copy',
    prepare: mapOver(start, length, MAP_PRIVATE | MAP_ANONYMOUS, () => null),
  }
}

function* fileCandidates(question: Question): Candidates {
  const { snapshot, range } = question
  const start = pageAlignDown(range.start)
  const length = pageAlign(range.start + range.length) - start
  const mappings = mappingsOf(snapshot, range)
  const only = mappings.length === 1 ? mappings[0]! : null
  if (only === null || only.inode === 0 || only.backing.kind === 'hugetlb') return
  const needed = only.offset + (start + length - only.start)
  if (only.fileSize !== null && only.fileSize < needed) {
    yield {
      text: `make the file long enough first: ftruncate to at least ${needed} bytes (it has ${only.fileSize})`,
      prepare: (restored) =>
        onFile(restored, start, (file) =>
          restored.kernel.run(restored.task, truncateFile(restored.kernel, file.mapping, needed)),
        ),
    }
  }
  if (only.backing.kind !== 'file' || !only.perms.endsWith('s')) return
  yield {
    text: `map the file MAP_PRIVATE (data then stays in memory: it does not reach ${only.name})`,
    prepare: mapOver(
      start,
      length,
      MAP_PRIVATE,
      (restored) => fileAt(restored, start),
      only.offset + (start - only.start),
    ),
  }
  yield {
    text: 'use a memfd or a tmpfs file, if the memory must be shared',
    prepare: mapOver(start, length, MAP_SHARED, (restored) =>
      shmemFileSetup(restored.kernel, 'pinscope', length),
    ),
  }
}

/** Maps something read-write over the range, as a program would that was changed to use it. */
function mapOver(
  start: number,
  length: number,
  flags: number,
  fileFor: (restored: Restored) => OpenFile | null,
  offset = 0,
): Preparation {
  return (restored) => {
    const { kernel, task, mm } = restored
    const file = fileFor(restored)
    const args = { addr: start, length, prot: PROT_READ | PROT_WRITE, flags: flags | MAP_FIXED, file, offset }
    return kernel.run(task, mmap(kernel, mm, args))
  }
}

function fileAt(restored: Restored, address: number): OpenFile | null {
  const guard = restored.mm.mmapLock.tryRead()!
  const file = vmaLookup(guard, address)?.file ?? null
  guard.release()
  return file
}

function onFile(restored: Restored, address: number, change: (file: OpenFile) => number): number {
  const file = fileAt(restored, address)
  return file === null ? -1 : change(file)
}

function clip(range: RequestRange, mapping: Mapping): RequestRange {
  const start = Math.max(range.start, mapping.start)
  return { start, length: Math.min(range.start + range.length, mapping.end) - start }
}
