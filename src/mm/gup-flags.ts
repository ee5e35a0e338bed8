/**
 * FOLL_* flags, as include/linux/mm_types.h names them.
 *
 * The bits are the engine's own: kernels renumber them (0x2 is FOLL_TOUCH in 6.1 and FOLL_GET later,
 * 1 << 12 is FOLL_SAME_FILE in the series and FOLL_HONOR_NUMA_FAULT after it), so the numbers of a
 * release are data: `release.gup.flagValues` (R-GUP-5).
 */
export const FOLL_WRITE = 1 << 0
export const FOLL_GET = 1 << 1
export const FOLL_DUMP = 1 << 2
export const FOLL_FORCE = 1 << 3
export const FOLL_NOWAIT = 1 << 4
export const FOLL_NOFAULT = 1 << 5
export const FOLL_HWPOISON = 1 << 6
export const FOLL_ANON = 1 << 7
export const FOLL_LONGTERM = 1 << 8
export const FOLL_SPLIT_PMD = 1 << 9
export const FOLL_PCI_P2PDMA = 1 << 10
export const FOLL_INTERRUPTIBLE = 1 << 11
/**
 * All VMAs of the range must share one vm_file; exists in the series only (R-GUP-17).
 * @rule R-COM-24
 */
export const FOLL_SAME_FILE = 1 << 12
export const FOLL_HONOR_NUMA_FAULT = 1 << 13
export const FOLL_TOUCH = 1 << 16
export const FOLL_TRIED = 1 << 17
export const FOLL_REMOTE = 1 << 18
export const FOLL_PIN = 1 << 19
export const FOLL_FAST_ONLY = 1 << 20
export const FOLL_UNLOCKABLE = 1 << 21
export const FOLL_MADV_POPULATE = 1 << 22

/** Every flag by name, in bit order. */
export const FOLL_FLAGS: Readonly<Record<string, number>> = {
  FOLL_WRITE,
  FOLL_GET,
  FOLL_DUMP,
  FOLL_FORCE,
  FOLL_NOWAIT,
  FOLL_NOFAULT,
  FOLL_HWPOISON,
  FOLL_ANON,
  FOLL_LONGTERM,
  FOLL_SPLIT_PMD,
  FOLL_PCI_P2PDMA,
  FOLL_INTERRUPTIBLE,
  FOLL_SAME_FILE,
  FOLL_HONOR_NUMA_FAULT,
  FOLL_TOUCH,
  FOLL_TRIED,
  FOLL_REMOTE,
  FOLL_PIN,
  FOLL_FAST_ONLY,
  FOLL_UNLOCKABLE,
  FOLL_MADV_POPULATE,
}
