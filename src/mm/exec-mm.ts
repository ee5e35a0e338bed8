import { EFAULT, ENOMEM } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { PAGE_SIZE, TASK_SIZE } from '../base/units.ts'
import { changeProtection } from './change-protection.ts'
import type { OpenFile } from './file.ts'
import { getUnmappedArea } from './get-unmapped-area.ts'
import type { Kernel } from './kernel.ts'
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE } from './mman.ts'
import { Mm } from './mm.ts'
import type { MmapWriteGuard } from './mmap-lock.ts'
import type { LayoutRandom } from './mmap-layout.ts'
import { doMmap } from './mmap.ts'
import { expandStack } from './stack.ts'
import { alignUp } from './user-range.ts'
import { linkVma } from './vma-link.ts'
import { Vma } from './vma.ts'
import {
  VM_ACCOUNT,
  VM_DONTDUMP,
  VM_DONTEXPAND,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_IO,
  VM_MAYREAD,
  VM_MAY_ALL,
  VM_PFNMAP,
  VM_RAND_READ,
  VM_READ,
  VM_SEQ_READ,
  VM_WRITE,
} from './vm-flags.ts'

/** One piece of a program file in memory. */
export interface ExecSegment {
  /** page aligned */
  readonly start: number
  /** bytes, whole pages */
  readonly length: number
  /** PROT_* */
  readonly prot: number
  /** null: memory without a file (bss) */
  readonly file: OpenFile | null
  /** bytes into the file, page aligned */
  readonly offset: number
}

/** What an exec loads: the program as its ELF headers and those of its interpreter say, in address order. */
export interface ExecImage {
  readonly segments: readonly ExecSegment[]
  /** end of the program, where the heap begins; bytes */
  readonly startBrk: number
  /** [start, end) of code and of data, for /proc and RLIMIT_DATA; bytes */
  readonly code: readonly [number, number]
  readonly data: readonly [number, number]
  /** the program asks for an executable stack (PT_GNU_STACK) */
  readonly executableStack?: boolean
  /** vdso and vvar are left out */
  readonly withoutVdso?: boolean
}

const STACK_FLAGS = VM_READ | VM_WRITE | VM_MAY_ALL | VM_GROWSDOWN | VM_ACCOUNT
/** VM_STACK_INCOMPLETE_SETUP: page migration by reverse mapping stays away */
const INCOMPLETE_SETUP = VM_RAND_READ | VM_SEQ_READ
/** what the stack is grown to at once, bytes */
const STACK_EXPAND = 128 * 1024

/**
 * `mm_alloc` and `__bprm_mm_init`: an address space that holds nothing but the page on which argument strings
 * will be put. Kept of the old one: PR_SET_THP_DISABLE, PR_SET_MDWE.
 *
 * The kernel builds the stack at the very top and moves it to its place later; here it is built in its place.
 * @param stackTop bytes, page aligned
 * @rule R-AS-155
 * @rule R-EXE-1
 */
export function newExecMm(k: Kernel, old: Mm | null, name: string, stackTop: number): Mm | number {
  const mm = new Mm(k, name)
  if (old !== null) {
    mm.mdwe = old.mdwe
    mm.thpDisabled = old.thpDisabled
  }
  const guard = mm.mmapLock.tryWrite()!
  const start = stackTop - PAGE_SIZE
  const flags = STACK_FLAGS | INCOMPLETE_SETUP | k.newVmaFlags
  const stack = new Vma(start, stackTop, flags, start / PAGE_SIZE)
  const error = linkVma(k, guard, stack)
  guard.release()
  if (error === 0) return mm
  k.mms.delete(mm)
  return error
}

/** Where the stack ends. */
export function stackTopOf(random: LayoutRandom): number {
  return TASK_SIZE - random.stack
}

/**
 * `setup_arg_pages`: the stack becomes an ordinary one and is grown by 128 KiB, as far as RLIMIT_STACK goes.
 * @param limit RLIMIT_STACK as it was when the exec began, bytes
 * @returns 0, or -errno when the new program cannot live
 * @rule R-AS-155
 */
export function* setupArgPages(
  k: Kernel,
  mm: Mm,
  stackTop: number,
  limit: number,
  executable: boolean,
): Kthread<number> {
  const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
  const stack = guard.vmas.find(stackTop - 1)!
  stack.flags &= ~INCOMPLETE_SETUP
  if (executable) {
    stack.flags |= VM_EXEC
    yield* changeProtection(k, mm, stack, stack.start, stack.end)
  }
  const size = stackTop - stack.start
  const most = Math.floor(limit / PAGE_SIZE) * PAGE_SIZE
  const target = size + STACK_EXPAND > most ? stackTop - most : stack.start - STACK_EXPAND
  const error = target >= stack.start ? 0 : expandStack(k, guard, stack, target)
  guard.release()
  if (error === 0) return 0
  return refuse(
    k.current,
    EFAULT,
    'R-AS-155',
    { address: target, why: 'the stack of the new program cannot grow' },
    k.current.refusal,
  )
}

/**
 * The program, its heap, vvar and vdso.
 * @returns 0, or -errno when something cannot be mapped
 * @rule R-AS-156
 */
export function* loadImage(k: Kernel, mm: Mm, image: ExecImage, random: LayoutRandom): Kthread<number> {
  const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
  let error = 0
  for (const { start, length, prot, file, offset } of image.segments) {
    const mapped = yield* doMmap(k, guard, {
      addr: start,
      length,
      prot,
      flags: MAP_PRIVATE | MAP_FIXED | (file === null ? MAP_ANONYMOUS : 0),
      file,
      pgoff: offset / PAGE_SIZE,
    })
    if (mapped < 0) {
      error = mapped
      break
    }
  }
  if (error === 0) {
    mm.startBrk = alignUp(image.startBrk) + random.brk
    mm.brk = mm.startBrk
    ;[mm.startCode, mm.endCode] = image.code
    ;[mm.startData, mm.endData] = image.data
    if (image.withoutVdso !== true) error = mapVdso(k, guard)
  }
  guard.release()
  return error
}

/** `map_vdso`: data pages of the kernel and the code that reads them, one above the other. */
function mapVdso(k: Kernel, guard: MmapWriteGuard): number {
  const { mm, vmas } = guard
  const parts = k.release.mm.vdsoPages
  const pages = parts.reduce((sum, [, count]) => sum + count, 0)
  const start = getUnmappedArea(k, mm, vmas, 0, pages * PAGE_SIZE, 0, MAP_PRIVATE, null)
  if (start < 0) return start
  let at = start
  for (const [name, count] of parts) {
    const end = at + count * PAGE_SIZE
    const flags = (name === '[vdso]' ? VDSO_FLAGS : VVAR_FLAGS) | k.newVmaFlags
    const vma = new Vma(at, end, flags, at / PAGE_SIZE)
    vma.specialName = name
    if (linkVma(k, guard, vma) < 0) return -ENOMEM
    at = end
  }
  return 0
}

const VDSO_FLAGS = VM_READ | VM_EXEC | VM_MAY_ALL | VM_DONTEXPAND
const VVAR_FLAGS = VM_READ | VM_MAYREAD | VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP
