/**
 * `pinscope`: a Linux kernel's memory management, as far as page pinning reaches, as an object.
 *
 * Build a machine, start processes, let them call the kernel, look at what is pinned and whether every
 * counter is what it must be. Nothing here needs Node: the same code runs in a browser.
 *
 * ```ts
 * import { Machine, MADV_DONTNEED, SyscallError, openIoUring } from 'pinscope'
 *
 * const machine = new Machine({ release: '6.12', memory: '64M' })
 * const app = machine.spawn('app', { limits: { memlock: '64k' } })
 * const ring = openIoUring(app, { entries: 8 })
 *
 * const buffer = app.mmap({ length: '128k', prot: 'rw' })
 * try {
 *   ring.registerBuffers([{ base: buffer, length: 131072 }])
 * } catch (error) {
 *   if (!(error instanceof SyscallError)) throw error
 *   error.code // => 'ENOMEM'
 *   error.reason?.rule // => 'R-URING-42'
 * }
 *
 * ring.registerBuffers([{ base: buffer, length: 65536 }])
 * machine.pins()[0]?.pins // => 16
 * app.madvise(buffer, 65536, MADV_DONTNEED) // the pins stay, the process sees other pages from now on
 *
 * ring.close()
 * app.exit()
 * machine.audit() // => []
 * ```
 *
 * Subpaths: `pinscope/kernel` for kernel-side code, `pinscope/devices` for RDMA, VFIO, AF_XDP and the like, `pinscope/explain` and `pinscope/host` for processes
 * of a live Linux (these two need Node).
 */

// the machine and its processes
export { Machine } from './task/machine.ts'
export type { MachineOptions, PinOwner } from './task/machine.ts'
export { Process } from './task/process.ts'
export type { MapOptions, ProcessOptions, Protection, Size } from './task/process.ts'
export type { ProcCalls, ProcFileName } from './task/proc-calls.ts'
export type { ProcHandle } from './task/proc-handle.ts'
export type { RemoteCalls } from './task/remote-calls.ts'
export type { UprobeCalls, UprobeHandle, UprobeOptions } from './task/uprobe-calls.ts'
export type { UprobeHit } from './task/trace-uprobe.ts'
export type { SwbpOutcome } from './task/uprobe-register.ts'
export type { MapFilesLink } from './task/proc/map-files.ts'
export type { ProcmapAnswer, ProcmapQuery } from './task/proc/procmap-query.ts'
export { SyscallError } from './task/syscall-error.ts'
export { SignalError } from './task/signal-error.ts'

// who pins
export { openIoUring } from './io_uring/facade.ts'
export type { FixedRequest, IoUringHandle, IoUringOptions, SendRequest } from './io_uring/facade.ts'
export { IORING_CQE_F_MORE, IORING_CQE_F_NOTIF } from './io_uring/io-uring.ts'
export type { Cqe } from './io_uring/io-uring.ts'
export type { Sqe } from './io_uring/request.ts'

export { connectSockets } from './net/facade.ts'
export type { ConnectOptions, SocketHandle } from './net/facade.ts'

// which kernel it is
export { RELEASE_NAMES, isReleaseName, releases } from './base/release.ts'
export type { Release, ReleaseName } from './base/release.ts'

// why it said no
export { errnoName } from './base/errno.ts'
export type { ErrnoName } from './base/errno.ts'
export { rootRefusal } from './base/refusal.ts'
export type { Refusal, RefusalFacts, VmaFacts } from './base/refusal.ts'
export { Unmodelled } from './base/unmodelled.ts'
export { DeadlockError } from './base/scheduler.ts'
export { StaleVmaError } from './mm/mmap-lock.ts'

// what happened, and whether the books balance
export type { MmEvent, MmObserver } from './mm/events.ts'
export type { Iovec, IovecArray } from './mm/iovec.ts'
export type { AuditFinding } from './mm/audit.ts'
export type { Capability, MmSettings, RlimitName } from './mm/kernel.ts'

// files a mapping can have behind it
export {
  DEV_ZERO,
  HUGETLBFS,
  RAMFS,
  SECRETMEM,
  SHMEM,
  SYSV_SHM,
  driverKind,
  regularFileKind,
} from './mm/file.ts'
export type { FileKind } from './mm/file.ts'

// units and <sys/mman.h>
export { PAGE_SIZE, formatSize, pageAlign, pageAlignDown, parseSize } from './base/units.ts'
export * from './mm/mman.ts'
