import { EFAULT, EINVAL, EIO, ENOTSUPP } from '../base/errno.ts'
import type { Kthread } from '../base/kthread.ts'
import { refuse } from '../base/refusal.ts'
import { Unmodelled } from '../base/unmodelled.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { mmput } from '../mm/exit-mmap.ts'
import type { OpenFile } from '../mm/file.ts'
import { cachedPage } from '../mm/file-io.ts'
import type { Kernel } from '../mm/kernel.ts'
import type { Mm } from '../mm/mm.ts'
import { vmaLookup, type MmapReadGuard } from '../mm/mmap-lock.ts'
import { kmalloc } from './device/charge.ts'
import { isTrapAtAddr, updateRefCtrAt, uprobeWriteOpcode } from './uprobes.ts'
import {
  Uprobe,
  UprobeTable,
  addressOfOffset,
  logUprobe,
  uprobeTable,
  validVma,
  vmaOfUprobe,
  type UprobeConsumer,
} from './uprobe-table.ts'

/** Most bytes of an instruction that are kept. */
const MAX_UINSN_BYTES = 16

/**
 * First bytes of instructions that x86-64 does not execute out of line: traps, port I/O, hlt, cli, prefixes of
 * segments, the lock prefix, what 64-bit code does not have. Seen on 6.18, with nops behind.
 */
const REFUSED: ReadonlySet<number> = new Set(
  [
    '06 07 0e 16 17 1e 1f 26 27 2e 2f 36 37 3e 3f 60 61 6c 6d 6e 6f 82 8e 9a cc cd ce cf',
    'd4 d6 e4 e5 e6 e7 ea ec ed ee ef f0 f1 f4 fa fb',
  ].flatMap((row) => row.split(' ').map((byte) => parseInt(byte, 16))),
)

/**
 * `uprobe_register`: from now on a consumer is told when a process reaches a place of a file. Every process that
 * maps the place so that it can be executed and not written gets a breakpoint there, now or when it maps it.
 * @param offset bytes into the file
 * @param refCtrOffset of a 16-bit counter in the same file that says how many breakpoints there are; 0 for none
 * @returns the uprobe, to be given back to `uprobeUnregister`; -EINVAL, -EIO, -ENOMEM, -ENOTSUPP (the instruction is
 *   a trap, or cannot be executed elsewhere), or why a breakpoint could not be put; then none is left
 * @rule R-UPR-4
 */
export function* uprobeRegister(
  k: Kernel,
  file: OpenFile,
  offset: number,
  refCtrOffset: number,
  consumer: UprobeConsumer,
): Kthread<Uprobe | number> {
  const { mapping } = file
  const refused = (errno: number, why: string): number => refuse(k.current, errno, 'R-UPR-4', { why })
  if (consumer.handler === null) return refused(EINVAL, 'the consumer has no handler')
  if (mapping.kind.unclassified !== undefined)
    throw new Unmodelled(mapping.kind.unclassified.what, mapping.kind.unclassified.rule)
  if (mapping.kind.readWrite !== 'page-cache') return refused(EIO, 'the file has no page cache to read from')
  if (offset > mapping.size) return refused(EINVAL, 'the place lies beyond the end of the file')
  if (refCtrOffset % 2 !== 0) return refused(EINVAL, 'the counter lies at an odd place')
  for (;;) {
    const uprobe = allocUprobe(k, file, offset, refCtrOffset)
    if (typeof uprobe === 'number') return uprobe
    yield* uprobe.lock.lock()
    // it may have been freed while its lock was waited for
    if (uprobe.gone) {
      uprobe.lock.unlock()
      continue
    }
    uprobe.consumers.add(consumer)
    uprobe.file ??= file.get()
    const error = yield* registerForEachVma(k, uprobe, true)
    const { refusal } = k.current
    if (error < 0) yield* unregisterLocked(k, uprobe, consumer)
    uprobe.lock.unlock()
    if (error === 0) return uprobe
    k.current.refusal = refusal
    return error
  }
}

/** `alloc_uprobe`: the uprobe of the place, which may be there already. */
function allocUprobe(k: Kernel, file: OpenFile, offset: number, refCtrOffset: number): Uprobe | number {
  const table = uprobeTable(k) ?? new UprobeTable(k, { install: installBreakpoint, count: updateRefCtrAt })
  k.uprobes = table
  const noMemory = kmalloc(k, 'R-UPR-4')
  if (noMemory < 0) return noMemory
  const known = table.find(file.mapping, offset)
  if (known === null) {
    const uprobe = new Uprobe(k, file, offset, refCtrOffset)
    table.insert(uprobe)
    return uprobe
  }
  if (known.refCtrOffset === refCtrOffset) return known
  logUprobe(k, 'ref_ctr_offset mismatch')
  return refuse(k.current, EINVAL, 'R-UPR-4', { why: 'the place has a uprobe with another counter' })
}

/**
 * `uprobe_unregister`: the consumer is told no longer. With the last one the breakpoints go. Where one cannot be
 * removed the uprobe stays for good, and so do its breakpoints: the caller does not hear of it.
 * @rule R-UPR-7
 */
export function* uprobeUnregister(k: Kernel, uprobe: Uprobe, consumer: UprobeConsumer): Kthread<void> {
  yield* uprobe.lock.lock()
  if (uprobe.consumers.has(consumer)) yield* unregisterLocked(k, uprobe, consumer)
  uprobe.lock.unlock()
}

function* unregisterLocked(k: Kernel, uprobe: Uprobe, consumer: UprobeConsumer): Kthread<void> {
  uprobe.consumers.delete(consumer)
  if (uprobe.consumers.size > 0) return
  const error = yield* registerForEachVma(k, uprobe, false)
  if (error === 0) uprobeTable(k)!.remove(uprobe)
  else if (k.release.uprobes.tellsOfLeaks) logUprobe(k, 'failed to unregister, leaking uprobe')
  uprobe.file?.put()
  uprobe.file = null
}

/** One mapping of the place, with a user reference on its address space. */
interface MapInfo {
  readonly mm: Mm
  readonly address: number
}

/**
 * `register_for_each_vma`: puts or removes the breakpoints of all mappings there are.
 * @returns 0, or the error that stopped installing; removing goes on, and any error will do
 * @rule R-UPR-5
 */
function* registerForEachVma(k: Kernel, uprobe: Uprobe, install: boolean): Kthread<number> {
  yield* k.dupMmapSem.write()
  const places: MapInfo[] = []
  let error = buildMapInfo(k, uprobe, install, places)
  const unlisted = error < 0
  for (const { mm, address } of places) {
    if (!unlisted && !(install && error < 0)) {
      const guard = mm.mmapLock.tryWrite() ?? (yield* mm.mmapLock.write())
      const vma = vmaOfUprobe(guard, uprobe, address)
      if (vma !== null && validVma(vma, install)) {
        const result = install
          ? yield* installBreakpoint(k, guard, uprobe, address)
          : yield* removeBreakpoint(k, guard, uprobe, address)
        if (result < 0) error = result
      }
      guard.release()
    }
    yield* mmput(k, mm)
  }
  k.dupMmapSem.releaseWrite()
  return error
}

/**
 * Lists the mappings: those that begin latest in the file come first, of several that begin alike the youngest.
 * @returns 0, or -ENOMEM with what was listed so far
 */
function buildMapInfo(k: Kernel, uprobe: Uprobe, install: boolean, places: MapInfo[]): number {
  const mappers = [...uprobe.mapping.mappers].sort((a, b) => a.pgoff - b.pgoff).reverse()
  for (const vma of mappers) {
    const { mm } = vma
    const address = addressOfOffset(vma, uprobe.offset)
    if (mm === null || address === null || !validVma(vma, install)) continue
    const noMemory = kmalloc(k, 'R-UPR-4')
    if (noMemory < 0) return noMemory
    // an address space whose last user has gone is being taken down
    if (mm.users === 0) continue
    mm.users++
    places.push({ mm, address })
  }
  return 0
}

/**
 * `install_breakpoint`. Needs `mmap_lock`.
 * @returns 0 or -errno
 */
export function* installBreakpoint(
  k: Kernel,
  guard: MmapReadGuard,
  uprobe: Uprobe,
  address: number,
): Kthread<number> {
  if (uprobe.instruction === null) {
    const error = yield* prepareUprobe(k, uprobe)
    if (error < 0) return error
  }
  guard.mm.hasUprobes = true
  return yield* uprobeWriteOpcode(k, guard, uprobe, address, true)
}

function* removeBreakpoint(
  k: Kernel,
  guard: MmapReadGuard,
  uprobe: Uprobe,
  address: number,
): Kthread<number> {
  if (!guard.mm.hasUprobes || uprobe.instruction === null) return 0
  return yield* uprobeWriteOpcode(k, guard, uprobe, address, false)
}

/**
 * `prepare_uprobe`: reads the instruction from the file and looks whether it can be executed elsewhere, by its
 * first byte.
 */
function* prepareUprobe(k: Kernel, uprobe: Uprobe): Kthread<number> {
  const { mapping, offset } = uprobe
  const length = Math.min(MAX_UINSN_BYTES, mapping.size - offset)
  if (length <= 0)
    return refuse(k.current, EIO, 'R-UPR-5', { why: 'there is no instruction at the end of the file' })
  const bytes = new Uint8Array(length)
  for (let done = 0; done < length;) {
    const at = offset + done
    const part = bytes.subarray(done, done + PAGE_SIZE - (at % PAGE_SIZE))
    const pfn = yield* cachedPage(k, mapping, Math.floor(at / PAGE_SIZE), mapping.slowIo)
    if (pfn < 0) return pfn
    k.memory.contents.read(pfn, at % PAGE_SIZE, part)
    done += part.length
  }
  if (REFUSED.has(bytes[0]!))
    return refuse(k.current, ENOTSUPP, 'R-UPR-5', {
      why: 'the instruction is a trap, or cannot be executed elsewhere',
    })
  uprobe.instruction = bytes
  return 0
}

/** How a task goes on that has executed a breakpoint. */
export type SwbpOutcome = 'handled' | 'restart' | 'SIGTRAP'

/**
 * `handle_swbp`: the current task has executed a breakpoint.
 * @param address of the breakpoint
 * @returns `handled`: the consumers were told; `restart`: it executes the place again; `SIGTRAP`: the trap is its own
 * @rule R-UPR-30
 */
export function* handleSwbp(k: Kernel, address: number): Kthread<SwbpOutcome> {
  const { mm } = k.current
  if (mm === null) throw new Error('a kernel thread executes no breakpoints')
  const guard = mm.mmapLock.tryRead() ?? (yield* mm.mmapLock.read())
  const vma = vmaLookup(guard, address)
  const uprobe = vma === null ? null : uprobeOf(k, vma, address)
  const trap = uprobe !== null ? 0 : vma === null ? -EFAULT : yield* isTrapAtAddr(k, guard, address)
  guard.release()
  if (uprobe === null) return trap > 0 ? 'SIGTRAP' : 'restart'
  for (const { handler } of uprobe.consumers) handler?.(k.current, address)
  return 'handled'
}

function uprobeOf(k: Kernel, vma: ReturnType<typeof vmaLookup>, address: number): Uprobe | null {
  if (vma === null || !validVma(vma, false)) return null
  const offset = address - vma.start + vma.pgoff * PAGE_SIZE
  const uprobe = uprobeTable(k)?.find(vma.file!.mapping, offset) ?? null
  return uprobe?.instruction === null ? null : uprobe
}
