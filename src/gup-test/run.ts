import { errnoName } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { releases, type ReleaseName } from '../base/release.ts'
import { PAGE_SIZE, PMD_SIZE } from '../base/units.ts'
import { DEV_ZERO, type FileKind } from '../mm/file.ts'
import { hugetlbPool } from '../mm/hugetlb.ts'
import {
  DUMP_USER_PAGES_TEST,
  GUP_BASIC_TEST,
  GUP_FAST_BENCHMARK,
  GupTestFile,
  PIN_BASIC_TEST,
  PIN_FAST_BENCHMARK,
  PIN_LONGTERM_BENCHMARK,
  type GupTest,
} from '../mm/gup-test.ts'
import { MADV_HUGEPAGE, MADV_NOHUGEPAGE } from '../mm/mman.ts'
import { Machine } from '../task/machine.ts'
import type { Process } from '../task/process.ts'
import { flagsFromWord } from './flag-words.ts'

/** The ioctls the program can be asked for, by name. */
export const GUP_TEST_COMMANDS = {
  GUP_FAST_BENCHMARK,
  PIN_FAST_BENCHMARK,
  PIN_LONGTERM_BENCHMARK,
  GUP_BASIC_TEST,
  PIN_BASIC_TEST,
  DUMP_USER_PAGES_TEST,
} as const
export type GupTestCommand = keyof typeof GUP_TEST_COMMANDS

/** What stands behind the memory that is tested. */
export interface TestedFile {
  readonly path: string
  readonly kind: FileKind
  /** bytes */
  readonly size: number
}

export const devZero: TestedFile = { path: '/dev/zero', kind: DEV_ZERO, size: 0 }

/**
 * One run of the selftest program (R-GUP-106).
 * @rule R-GUP-110
 */
export interface GupTestRun {
  readonly release: ReleaseName
  readonly command: GupTestCommand
  /** `gup_flags`, in the numbers of the release */
  readonly gupFlags: number
  readonly testFlags: number
  /** bytes */
  readonly size: number
  readonly nrPagesPerCall: number
  /** of benchmarks; the other tests run once */
  readonly repeats: number
  readonly threads: number
  readonly thp: 'yes' | 'no' | 'unsaid'
  readonly file: TestedFile
  readonly shared: boolean
  readonly hugetlb: boolean
  /** store a byte in every page first */
  readonly touch: boolean
  /** pages to dump, counted from 1, at most 8 */
  readonly whichPages: readonly number[]
  /** µs */
  readonly clock: () => number
}

/** What one ioctl came back with. */
export interface GupTestRound {
  /** µs */
  readonly get: number
  readonly put: number
  /** bytes */
  readonly size: number
}

export interface ThreadResult {
  readonly rounds: readonly GupTestRound[]
  /** name of the errno that ended it, such as EINVAL; null: none */
  readonly errno: string | null
}

export interface GupTestResult {
  readonly threads: readonly ThreadResult[]
  /** lines of the kernel log */
  readonly log: readonly string[]
  /** counters that are not what they must be after everything has exited; empty */
  readonly audit: readonly string[]
}

/**
 * Runs the kernel's GUP test on the engine: a process maps the memory, and its threads ask gup_test for the same
 * test at the same time.
 * @throws SyscallError where mmap or madvise fails, SignalError where touching the memory does
 * @throws Unmodelled for flags that the release does not have
 * @rule R-GUP-106
 */
export function runGupTest(run: GupTestRun): GupTestResult {
  const machine = new Machine({ release: run.release, memory: machineMemory(run) })
  const { kernel } = machine
  const log: string[] = []
  if (run.hugetlb) hugetlbPool(kernel, PMD_SIZE).resize(Math.ceil(run.size / PMD_SIZE))
  const process = machine.spawn('gup_test', { uid: 0, capabilities: ['CAP_IPC_LOCK', 'CAP_SYS_ADMIN'] })
  const gupTest = new GupTestFile(kernel, { clock: run.clock, log: (line) => log.push(line) })
  const addr = mapMemory(process, run)
  if (run.touch) touchEveryPage(process, addr, run.size)
  const tasks = Array.from({ length: run.threads }, (_, i) =>
    kernel.scheduler.spawn(`gup_test/${i + 1}`, process, oneThread(gupTest, run, addr)),
  )
  kernel.scheduler.run()
  const threads = tasks.map(({ result }) => result!)
  gupTest.put()
  process.exit()
  return {
    threads,
    log,
    audit: machine.audit().map(({ what, expected, actual }) => `${what}: ${actual}, must be ${expected}`),
  }
}

/** Room for the memory that is tested twice over, and for the machine itself. */
function machineMemory({ size }: GupTestRun): number {
  return 2 * size + 256 * 2 ** 20
}

function mapMemory(process: Process, { file, size, shared, hugetlb, thp }: GupTestRun): number {
  const common = { length: size, prot: 'rw', shared } as const
  const addr = hugetlb
    ? process.mmap({ ...common, hugetlb })
    : process.mmap({ ...common, fd: process.openFile(file.path, file.size, file.kind) })
  if (thp !== 'unsaid') process.madvise(addr, size, thp === 'yes' ? MADV_HUGEPAGE : MADV_NOHUGEPAGE)
  return addr
}

function touchEveryPage(process: Process, addr: number, size: number): void {
  const byte = new Uint8Array(1)
  for (let at = addr; at < addr + size; at += PAGE_SIZE) process.store(at, byte)
}

function* oneThread(gupTest: GupTestFile, run: GupTestRun, addr: number): Kthread<ThreadResult> {
  const { command, size, nrPagesPerCall, testFlags } = run
  const gupFlags = flagsFromWord(run.gupFlags, releases[run.release])
  const rounds: GupTestRound[] = []
  const count = command.endsWith('_BENCHMARK') ? run.repeats : 1
  for (let i = 0; i < count; i++) {
    const whichPages = Array.from({ length: 8 }, (_, slot) => run.whichPages[slot] ?? 0)
    const test: GupTest = {
      getDeltaUsec: 0,
      putDeltaUsec: 0,
      addr,
      size,
      nrPagesPerCall,
      gupFlags,
      testFlags,
      whichPages,
    }
    const result = yield* gupTest.ioctl(GUP_TEST_COMMANDS[command], test)
    if (result < 0) return { rounds, errno: errnoName(result) }
    rounds.push({ get: test.getDeltaUsec, put: test.putDeltaUsec, size: test.size })
  }
  return { rounds, errno: null }
}
