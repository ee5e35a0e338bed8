import { PAGE_SIZE, TASK_SIZE } from '../base/units.ts'
import type { Kernel } from './kernel.ts'
import { ADDR_COMPAT_LAYOUT } from './mman.ts'
import type { Mm } from './mm.ts'
import { alignUp } from './user-range.ts'

const MIN_GAP = 128 * 1024 * 1024
const MAX_GAP = (TASK_SIZE / 6) * 5

/** The random parts of an address space (ASLR), all 0 without it. */
export interface LayoutRandom {
  /** pages by which mappings begin lower (or, bottom-up, higher) */
  readonly mmap: number
  /** bytes by which the stack ends lower than user space; a multiple of a page */
  readonly stack: number
  /** bytes between the end of the program and its heap; a multiple of a page */
  readonly brk: number
}

export const NO_RANDOM: LayoutRandom = { mmap: 0, stack: 0, brk: 0 }

/**
 * `arch_pick_mmap_layout`: where searches for free addresses begin, from the stack limit in force at exec and
 * the personality.
 * @param stackLimit bytes, Infinity for none
 * @rule R-AS-30
 */
export function pickMmapLayout(k: Kernel, mm: Mm, stackLimit: number, random: LayoutRandom): void {
  mm.legacyLayout = ((k.current.personality ?? 0) & ADDR_COMPAT_LAYOUT) !== 0
  const shift = random.mmap * PAGE_SIZE
  // with ASLR the stack may end this much lower than user space
  const wander = random === NO_RANDOM ? 0 : 0x3fffff * PAGE_SIZE
  const gap = stackLimit + k.settings.stackGuardGap * PAGE_SIZE + wander
  const clamped = Math.min(Math.max(gap, MIN_GAP), MAX_GAP)
  mm.mmapBase = alignUp(TASK_SIZE - clamped - shift)
  mm.mmapLegacyBase = alignUp(TASK_SIZE / 3) + shift
}
