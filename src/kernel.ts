/**
 * `pinscope/kernel`: the names for people who write kernel-side code, spelled as the kernel spells them.
 *
 * Code that may sleep is a generator (`Kthread`), the mmap lock is a guard, and a VMA is reached through
 * a guard or not at all. Results are counts or negative errnos.
 *
 * ```ts
 * import { FOLL_LONGTERM, FOLL_WRITE, PageArray, pinUserPages, unpinUserPages, vmaLookup } from 'pinscope/kernel'
 * import type { Kernel, Kthread, Mm } from 'pinscope/kernel'
 * import { Machine } from 'pinscope'
 *
 * function* pinnedBacking(k: Kernel, mm: Mm, start: number, n: number): Kthread<string> {
 *   const pages = new PageArray(n)
 *   const guard = yield* mm.mmapLock.read()
 *   const pinned = yield* pinUserPages(k, guard, start, n, FOLL_WRITE | FOLL_LONGTERM, pages)
 *   const backing = pinned > 0 ? (vmaLookup(guard, start)?.backing ?? 'gone') : 'refused'
 *   guard.release()
 *   if (pinned > 0) unpinUserPages(k, pages, pinned)
 *   return backing
 * }
 *
 * const machine = new Machine({ memory: '16M' })
 * const app = machine.spawn('app')
 * const buffer = app.mmap({ length: 8192 })
 * app.run(pinnedBacking(machine.kernel, app.mm!, buffer, 2)) // => 'anonymous'
 * app.run(pinnedBacking(machine.kernel, app.mm!, 0x1000, 1)) // => 'refused'
 * app.refusal?.rule // => 'R-GUP-15'
 * machine.audit() // => []
 * ```
 */

// the kernel and what it is made of
export { Kernel } from './mm/kernel.ts'
export type { DueFailure, FailNth } from './mm/fail-nth.ts'
export type {
  Capability,
  CurrentTask,
  KernelOptions,
  MmSettings,
  PageHolder,
  PinCharge,
  RlimitName,
  UserStruct,
  Warning,
} from './mm/kernel.ts'
export { Memory } from './memory/memory.ts'
export { Frames, GUP_PIN_COUNTING_BIAS } from './memory/frames.ts'
export * from './memory/page-flags.ts'
export { RELEASE_NAMES, releases } from './base/release.ts'
export type { Release, ReleaseName } from './base/release.ts'

// coroutines and locks
export { Completion, PREEMPT, WaitQueue } from './base/kthread.ts'
export type { Kthread, Wait } from './base/kthread.ts'
export { Mutex, RwSemaphore } from './base/locks.ts'
export { DeadlockError, Scheduler } from './base/scheduler.ts'

// errors and reasons
export * from './base/errno.ts'
export { refuse, rootRefusal } from './base/refusal.ts'
export type { Refusal, RefusalFacts, VmaFacts } from './base/refusal.ts'
export { Unmodelled } from './base/unmodelled.ts'

// address spaces
export { Mm } from './mm/mm.ts'
export { MmapReadGuard, MmapWriteGuard, StaleVmaError, findVma, vmaLookup } from './mm/mmap-lock.ts'
export { vmaFacts } from './mm/vma.ts'
export type { Vma } from './mm/vma.ts'
export * from './mm/vm-flags.ts'
export { AddressSpace, OpenFile } from './mm/file.ts'
export type { FileKind } from './mm/file.ts'
export { PAGE_SIZE, PMD_SIZE, TASK_SIZE, pageAlign, pageAlignDown, pageNumber } from './base/units.ts'

// getting user pages
export {
  LockedGuard,
  PageArray,
  fixupUserFault,
  getDumpPage,
  getUserPages,
  getUserPagesFast,
  getUserPagesFastOnly,
  getUserPagesRemote,
  getUserPagesUnlocked,
  pinUserPages,
  pinUserPagesFast,
  pinUserPagesRemote,
  pinUserPagesUnlocked,
} from './mm/gup.ts'
export { memfdPinFolios, type FolioStretch } from './mm/gup-memfd.ts'
export * from './mm/gup-flags.ts'
export { accessRemoteVm } from './mm/access-remote-vm.ts'

// NUMA hints
export { changeProtNuma } from './mm/numa-hint.ts'

// memory of devices
export { IoMemory, IoSpace } from './memory/io-space.ts'
export {
  genericAccessPhys,
  ioMemoryKind,
  remapPfnRange,
  vmIomapMemory,
  vmfInsertPfn,
  type IoMemoryKindOptions,
} from './mm/io-memory.ts'
export { mmPopulate } from './mm/populate.ts'
export { faultInReadable, faultInSafeWriteable, faultInWriteable } from './mm/fault-in.ts'

// breakpoints in files
export { handleSwbp, uprobeRegister, uprobeUnregister } from './task/uprobe-register.ts'
export type { Uprobe, UprobeConsumer } from './task/uprobe-table.ts'

// letting them go
export {
  putPage,
  putPages,
  unpinUserPage,
  unpinUserPageRangeDirtyLock,
  unpinUserPages,
  unpinUserPagesDirtyLock,
} from './mm/unpin.ts'

// the books
export { audit } from './mm/audit.ts'
export type { AuditFinding } from './mm/audit.ts'
export type { MmEvent, MmObserver } from './mm/events.ts'
