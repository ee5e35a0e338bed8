import { E2BIG, EFAULT } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { utf8 } from '../base/utf8.ts'
import { loadImage, newExecMm, setupArgPages, stackTopOf, type ExecImage } from '../mm/exec-mm.ts'
import { mmput } from '../mm/exit-mmap.ts'
import { FOLL_WRITE } from '../mm/gup-flags.ts'
import { PageArray, getUserPagesRemote } from '../mm/gup.ts'
import type { CurrentTask, Kernel } from '../mm/kernel.ts'
import { READ_IMPLIES_EXEC } from '../mm/mman.ts'
import type { Mm } from '../mm/mm.ts'
import { NO_RANDOM, pickMmapLayout, type LayoutRandom } from '../mm/mmap-layout.ts'
import type { MmapReadGuard } from '../mm/mmap-lock.ts'
import { expandStack } from '../mm/stack.ts'
import { putPage } from '../mm/unpin.ts'
import { storeUser } from '../mm/user-access.ts'
import { isReadable, type UnreadablePointer, type UserString } from '../mm/user-string.ts'

/*
 * @caller execve argument pages
 * @entry execve(2)
 * @gup get_user_pages_remote FOLL_WRITE
 * @lock mmap_lock for read, kept
 * @budget none
 * @errno E2BIG
 * @release when the next page is begun
 * @test tests/task/exec.test.ts
 */

/** Bytes of one string, at most, with the one that ends it (MAX_ARG_STRLEN). */
const MAX_ARG_STRLEN = 32 * PAGE_SIZE
/** Bytes of all strings and pointers that are always allowed (ARG_MAX). */
const ARG_MAX = 131_072
/** … and what RLIMIT_STACK can raise that to: three quarters of 8 MiB. */
const MOST_ARGS = 6 * 1024 * 1024
const POINTER = 8

/** `argv` or `envp` in the caller's memory. */
export type ArgVector = readonly UserString[] | UnreadablePointer

export interface ExecRequest {
  readonly path: string
  readonly argv: ArgVector
  readonly envp: ArgVector
  readonly image: ExecImage
  /** ASLR; default none */
  readonly random?: LayoutRandom
  /** entries of the auxiliary vector, type and value; AT_NULL is added */
  readonly auxv?: readonly (readonly [number, number])[]
}

/**
 * execve(2), the part about memory: argument strings go page by page into a new address space, then the old one
 * is dropped and the program mapped. Pages of the old one that somebody has pinned stay with the pinner.
 *
 * @param task whose address space is replaced: `current`
 * @param pastReturn called when there is no way back, after the old address space is gone: descriptors marked
 *   O_CLOEXEC are closed then
 * @returns 0; -E2BIG, -EFAULT, -ENOMEM with everything as it was; 'killed': the old program is gone and the new
 *   one cannot be set up, which is a SIGSEGV
 * @rule R-AS-155
 * @rule R-EXE-2
 */
export function* execve(
  k: Kernel,
  task: CurrentTask,
  request: ExecRequest,
  pastReturn: () => void,
): Kthread<number | 'killed'> {
  const { random = NO_RANDOM } = request
  const stackLimit = task.rlimit('stack')
  const strings = countStrings(k, request)
  if (typeof strings === 'number') return strings
  const limit = stringLimit(k, stackLimit, strings)
  if (limit < 0) return limit
  const stackTop = stackTopOf(random)
  const mm = newExecMm(k, task.mm, task.comm, stackTop)
  if (typeof mm === 'number') return mm
  const bprm = new Bprm(k, mm, stackTop, limit)
  const error = yield* copyStrings(bprm, request.path, strings)
  if (error < 0) {
    yield* mmput(k, mm)
    return error
  }
  // there is no way back from here
  for (const hook of k.exitHooks) hook(task)
  for (const hook of k.execHooks) yield* hook(task)
  const old = task.mm
  task.mm = mm
  if (old !== null) yield* mmput(k, old)
  if (task.personality !== undefined) task.personality &= ~READ_IMPLIES_EXEC
  pastReturn()
  pickMmapLayout(k, mm, stackLimit, random)
  const executable = request.image.executableStack === true
  const ready =
    (yield* setupArgPages(k, mm, stackTop, stackLimit, executable)) === 0 &&
    (yield* loadImage(k, mm, request.image, random)) === 0 &&
    (yield* createTables(bprm, strings, request.auxv ?? []))
  return ready ? 0 : 'killed'
}

interface Strings {
  readonly argv: readonly UserString[]
  readonly envp: readonly UserString[]
}

/** @rule R-EXE-2 */
function countStrings(k: Kernel, { argv, envp }: ExecRequest): Strings | number {
  if (isReadable(argv) && isReadable(envp)) return { argv, envp }
  return refuse(k.current, EFAULT, 'R-EXE-2', { why: 'the array of arguments cannot be read' })
}

/**
 * `bprm_stack_limits`.
 * @returns bytes that strings may take, -E2BIG when the pointers alone take all
 * @rule R-EXE-3
 */
function stringLimit(k: Kernel, stackLimit: number, { argv, envp }: Strings): number {
  const limit = Math.max(Math.min(Math.floor(stackLimit / 4), MOST_ARGS), ARG_MAX)
  const pointers = POINTER * (Math.max(argv.length, 1) + envp.length)
  if (pointers < limit) return limit - pointers
  return tooBig(k, 'the pointers to the arguments alone take all there is')
}

function tooBig(k: Kernel, why: string): number {
  return refuse(k.current, E2BIG, 'R-EXE-3', { why })
}

/** `struct linux_binprm`: where the strings of an exec in progress have got to. */
class Bprm {
  readonly k: Kernel
  readonly mm: Mm
  readonly stackTop: number
  /** the lowest string so far */
  p: number
  /** no string may lie below */
  readonly argmin: number
  /** where each kind of string begins, filled in from the top */
  argStart = 0
  envStart = 0
  envEnd = 0

  constructor(k: Kernel, mm: Mm, stackTop: number, limit: number) {
    this.k = k
    this.mm = mm
    this.stackTop = stackTop
    this.p = stackTop - POINTER
    this.argmin = this.p - limit
  }
}

/** The name of the program, then the environment, then the arguments, the last of each first. */
function* copyStrings(bprm: Bprm, path: string, { argv, envp }: Strings): Kthread<number> {
  let error = yield* copyString(bprm, path)
  bprm.envEnd = bprm.p
  if (error === 0) error = yield* copyBackwards(bprm, envp)
  bprm.envStart = bprm.p
  if (error === 0) error = yield* copyBackwards(bprm, argv)
  // a program without arguments gets an empty one
  if (error === 0 && argv.length === 0) error = yield* copyString(bprm, '')
  bprm.argStart = bprm.p
  return error
}

function* copyBackwards(bprm: Bprm, strings: readonly UserString[]): Kthread<number> {
  for (let i = strings.length - 1; i >= 0; i--) {
    const text = strings[i]!
    // @rule R-EXE-5
    if (!isReadable(text))
      return refuse(bprm.k.current, EFAULT, 'R-EXE-5', { why: 'an argument cannot be read' })
    const error = yield* copyString(bprm, text)
    if (error < 0) return error
  }
  return 0
}

/** @rule R-EXE-4 */
function* copyString(bprm: Bprm, text: string): Kthread<number> {
  const bytes = utf8(`${text}\0`)
  if (bytes.length > MAX_ARG_STRLEN)
    return refuse(bprm.k.current, E2BIG, 'R-EXE-4', { why: 'one argument is longer than 131071 bytes' })
  if (bprm.p - bytes.length < bprm.argmin) return tooBig(bprm.k, 'the arguments are too long')
  const start = bprm.p - bytes.length
  // from its end, as the pages come
  for (let end = bprm.p; end > start;) {
    const page = Math.floor((end - 1) / PAGE_SIZE) * PAGE_SIZE
    const from = Math.max(page, start)
    const pfn = yield* getArgPage(bprm, from)
    if (pfn < 0) return pfn
    bprm.k.memory.contents.write(pfn, from - page, bytes.subarray(from - start, end - start))
    // @rule R-EXE-9
    putPage(bprm.k, pfn)
    end = from
  }
  bprm.p = start
  return 0
}

/**
 * `get_arg_page`: the page of the new stack at an address, grown to it where it must. Whatever goes wrong is
 * E2BIG.
 * @returns the pfn with a reference, or -E2BIG
 * @rule R-EXE-6
 */
function* getArgPage({ k, mm }: Bprm, address: number): Kthread<number> {
  const refused = (): number =>
    refuse(
      k.current,
      E2BIG,
      'R-EXE-6',
      { address, why: 'the stack cannot hold the arguments' },
      k.current.refusal,
    )
  let guard: MmapReadGuard
  if (k.release.gup.expandsStack) guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  else {
    const write = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
    const stack = write.vmas.find(address)!
    if (expandStack(k, write, stack, address) < 0) {
      write.release()
      return refused()
    }
    guard = write.downgrade()
  }
  const page = new PageArray(1)
  const got = yield* getUserPagesRemote(k, mm, address, 1, FOLL_WRITE, page, guard)
  guard.release()
  return got === 1 ? page.pfns[0]! : refused()
}

/**
 * `create_elf_tables`: argc, the pointers and the auxiliary vector below the strings.
 * @returns whether there was room
 * @rule R-EXE-7
 */
function* createTables(
  bprm: Bprm,
  { argv, envp }: Strings,
  auxv: readonly (readonly [number, number])[],
): Kthread<boolean> {
  const { k, mm } = bprm
  const argc = Math.max(argv.length, 1)
  const words: number[] = [argc]
  let at = bprm.argStart
  const pointers = (strings: readonly UserString[]): void => {
    for (const text of strings) {
      words.push(at)
      at += utf8(String(text)).length + 1
    }
    words.push(0)
  }
  pointers(argv.length === 0 ? [''] : argv)
  pointers(envp)
  for (const [type, value] of auxv) words.push(type, value)
  words.push(0, 0)
  const bytes = new Uint8Array(words.length * POINTER)
  const view = new DataView(bytes.buffer)
  words.forEach((word, i) => {
    view.setUint32(i * POINTER, word >>> 0, true)
    view.setUint32(i * POINTER + 4, Math.floor(word / 2 ** 32), true)
  })
  const sp = Math.floor((bprm.p - bytes.length) / 16) * 16
  mm.argStart = bprm.argStart
  mm.argEnd = bprm.envStart
  mm.envStart = bprm.envStart
  mm.envEnd = bprm.envEnd
  mm.startStack = sp
  return (yield* storeUser(k, mm, sp, bytes, 'kernel')).ok
}
