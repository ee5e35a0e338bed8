/**
 * vm_flags. Kernel bits 0..31 keep their numbers (R-AS-5) in `vma.flags`; the few above bit 31 live in
 * `vma.highFlags` under numbers of our own, because bitwise operators end at 32 bits.
 */
export const VM_READ = 1 << 0
export const VM_WRITE = 1 << 1
export const VM_EXEC = 1 << 2
export const VM_SHARED = 1 << 3
export const VM_MAYREAD = 1 << 4
export const VM_MAYWRITE = 1 << 5
export const VM_MAYEXEC = 1 << 6
export const VM_MAYSHARE = 1 << 7
export const VM_GROWSDOWN = 1 << 8
export const VM_UFFD_MISSING = 1 << 9
export const VM_PFNMAP = 1 << 10
export const VM_MAYBE_GUARD = 1 << 11
export const VM_UFFD_WP = 1 << 12
export const VM_LOCKED = 1 << 13
export const VM_IO = 1 << 14
export const VM_SEQ_READ = 1 << 15
export const VM_RAND_READ = 1 << 16
export const VM_DONTCOPY = 1 << 17
export const VM_DONTEXPAND = 1 << 18
export const VM_LOCKONFAULT = 1 << 19
export const VM_ACCOUNT = 1 << 20
export const VM_NORESERVE = 1 << 21
export const VM_HUGETLB = 1 << 22
export const VM_SYNC = 1 << 23
export const VM_ARCH_1 = 1 << 24
export const VM_WIPEONFORK = 1 << 25
export const VM_DONTDUMP = 1 << 26
export const VM_SOFTDIRTY = 1 << 27
export const VM_MIXEDMAP = 1 << 28
export const VM_HUGEPAGE = 1 << 29
export const VM_NOHUGEPAGE = 1 << 30
export const VM_MERGEABLE = 1 << 31

/** kernel bit 37/38 */
export const VMH_UFFD_MINOR = 1 << 0
/** kernel bit 37 from 6.6 on */
export const VMH_SHADOW_STACK = 1 << 1
/** kernel bit 40 */
export const VMH_DROPPABLE = 1 << 2
/** kernel bit 63 */
export const VMH_SEALED = 1 << 3
/** VM_MTE of arm64, kernel bit 33 */
export const VMH_MTE = 1 << 4

export const VM_ACCESS_FLAGS = VM_READ | VM_WRITE | VM_EXEC
/** "not mergeable, not mlockable" (R-AS-6) */
export const VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP
export const VM_LOCKED_MASK = VM_LOCKED | VM_LOCKONFAULT
export const VM_MAY_ALL = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC

/** `is_cow_mapping`: private and may become writable. */
export function isCowMapping(flags: number): boolean {
  return (flags & (VM_SHARED | VM_MAYWRITE)) === VM_MAYWRITE
}

const lowMnemonics =
  'rd wr ex sh mr mw me ms gd um pf gu uw lo io sr rr dc de lf ac nr ht sf ar wf dd sd mm hg nh mg'.split(' ')
/** in the order of the kernel's bits */
const highMnemonics: readonly (readonly [name: string, flag: number])[] = [
  ['mt', VMH_MTE],
  ['ui', VMH_UFFD_MINOR],
  ['ss', VMH_SHADOW_STACK],
  ['dp', VMH_DROPPABLE],
  ['sl', VMH_SEALED],
]

/**
 * The `VmFlags:` mnemonics of /proc/PID/smaps in ascending bit order (R-AS-5).
 * @param lockOnFault what VM_LOCKONFAULT is called: `??` on releases without a name for it
 * @rule R-AS-5
 */
export function vmFlagMnemonics(flags: number, highFlags: number, lockOnFault = 'lf'): string[] {
  return [
    ...lowMnemonics
      .filter((_, bit) => (flags & (1 << bit)) !== 0)
      .map((name) => (name === 'lf' ? lockOnFault : name)),
    ...highMnemonics.filter(([, flag]) => (highFlags & flag) !== 0).map(([name]) => name),
  ]
}

/** Reads mnemonics back; unknown ones are returned, not dropped. */
export function parseVmFlagMnemonics(mnemonics: readonly string[]): {
  flags: number
  highFlags: number
  unknown: string[]
} {
  let flags = 0
  let highFlags = 0
  const unknown: string[] = []
  for (const mnemonic of mnemonics) {
    const low = lowMnemonics.indexOf(mnemonic)
    const high = highMnemonics.find(([name]) => name === mnemonic)
    if (low >= 0) flags |= 1 << low
    else if (high !== undefined) highFlags |= high[1]
    else unknown.push(mnemonic)
  }
  return { flags, highFlags, unknown }
}
