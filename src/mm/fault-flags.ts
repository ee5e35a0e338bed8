/** What a fault is asked to do (FAULT_FLAG_*) and how it ended (VM_FAULT_*). Kernel values. */
export const FAULT_FLAG_WRITE = 1 << 0
export const FAULT_FLAG_ALLOW_RETRY = 1 << 2
export const FAULT_FLAG_RETRY_NOWAIT = 1 << 3
export const FAULT_FLAG_KILLABLE = 1 << 4
export const FAULT_FLAG_TRIED = 1 << 5
export const FAULT_FLAG_USER = 1 << 6
export const FAULT_FLAG_REMOTE = 1 << 7
export const FAULT_FLAG_INTERRUPTIBLE = 1 << 9
export const FAULT_FLAG_UNSHARE = 1 << 10

export const VM_FAULT_OOM = 0x1
export const VM_FAULT_SIGBUS = 0x2
export const VM_FAULT_MAJOR = 0x4
export const VM_FAULT_HWPOISON = 0x10
export const VM_FAULT_HWPOISON_LARGE = 0x20
export const VM_FAULT_SIGSEGV = 0x40
export const VM_FAULT_NOPAGE = 0x100
export const VM_FAULT_RETRY = 0x400
export const VM_FAULT_FALLBACK = 0x800
export const VM_FAULT_COMPLETED = 0x4000
export const VM_FAULT_ERROR =
  VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV | VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE
