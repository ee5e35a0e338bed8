import type { ReleaseName } from '../release.ts'

/** What differs in kernel/events/uprobes.c between releases (remote-access.md, section 7). */
export interface UprobeSwitches {
  /**
   * where uprobe_write_opcode has the VMA from: the array that GUP fills, until 6.4; vma_lookup() of its own, in
   * the series; get_user_page_vma_remote(), 6.6 on (R-UPR-10, R-COM-20)
   */
  readonly vmaFrom: 'gup' | 'lookup' | 'helper'
  /** GUP that gets no page and gives no error counts as done: until 6.6 (R-UPR-10) */
  readonly noPageIsDone: boolean
  /** the zero page is refused: 6.12, and patched 6.1; not in the series (R-UPR-10) */
  readonly refusesZeroPage: boolean
  /** GUP breaks COW and the bytes are written in place: 6.18; before, the page is replaced by a copy (R-UPR-13) */
  readonly writesInPlace: boolean
  /** the log says that a uprobe leaks: 6.12 on; before, it leaks in silence (R-UPR-7) */
  readonly tellsOfLeaks: boolean
  /** is_trap_at_addr asks get_user_pages: 6.12 on; before, get_user_pages_remote (R-UPR-30) */
  readonly trapOfCurrent: boolean
}

const r61: UprobeSwitches = {
  vmaFrom: 'gup',
  noPageIsDone: true,
  refusesZeroPage: true,
  writesInPlace: false,
  tellsOfLeaks: false,
  trapOfCurrent: false,
}
const r612: UprobeSwitches = {
  ...r61,
  vmaFrom: 'helper',
  noPageIsDone: false,
  tellsOfLeaks: true,
  trapOfCurrent: true,
}

export const uprobeSwitches: Readonly<Record<ReleaseName, UprobeSwitches>> = {
  'gup-v3': { ...r61, vmaFrom: 'lookup', refusesZeroPage: false },
  '6.1': r61,
  // but for the look-up not known: taken from 6.1
  '6.6': { ...r61, vmaFrom: 'helper' },
  '6.12': r612,
  '6.18': { ...r612, writesInPlace: true },
}
