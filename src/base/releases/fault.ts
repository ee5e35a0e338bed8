import type { ReleaseName } from '../release.ts'

/** What differs in faults, COW and huge pages between releases (faults.md 0.1, huge-pages.md). */
export interface FaultSwitches {
  /** FAULT_FLAG_UNSHARE on a non-anonymous page of a COW mapping copies: 6.2 on; 6.1 does nothing (R-FLT-45) */
  readonly unshareCopiesFilePages: boolean
  /** wp fault on a non-exclusive page of a large folio (R-HUGE-20) */
  readonly largeFolioReuse: 'last-mapped-page' | 'never' | 'sole-mm'
  /**
   * what stands for "others map this large folio, too": the mappings of one of its pages, a guess from its first page
   * and their number, or a count for two address spaces (R-HUGE-67)
   */
  readonly largeFolioSharing: 'page' | 'first-page' | 'two-mms'
  /** a write to the huge zero PMD allocates a whole THP: 6.18 (R-HUGE-14) */
  readonly hugeZeroWriteAllocatesThp: boolean
  /** the page cache has a hugetlb folio once for each of its pages, as any other: from 6.7 on; before once, by its number in the file (R-HUGE-1, R-AS-111) */
  readonly hugetlbCachePerPage: boolean
  /** read swap-in of an exclusive entry gives a writable pte: 6.12 on (R-FLT-52) */
  readonly swapInReadWritable: boolean
  /** a lazily freed page that could not be dropped for a reference becomes an ordinary one: up to 6.12 (R-FLT-73) */
  readonly failedDiscardSwapbacks: boolean
  /** NUMA hints leave pages of COW mappings alone that may be pinned: 6.12 on (R-FLT-56, R-GUP-79) */
  readonly hintsSparePinned: boolean
  /** merged pages are unmerged by unsharing, as for a read pin, not by a write: 6.2 on (R-KSM-1) */
  readonly ksmBreaksByUnshare: boolean
  /** guard markers exist: 6.13 on (R-FLT-78) */
  readonly guardMarkers: boolean
  /** PGFAULT counts every attempt of a fault that is retried: 6.1 (R-FLT-22) */
  readonly countsEveryAttempt: boolean
  /** MADV_DONTNEED gives back page tables it has emptied: 6.14 on (R-AS-148) */
  readonly dontneedFreesTables: boolean
  /** unmapping a page of a private hugetlb mapping gives its owner the reservation back: 6.12 on, there only when no child maps it any more (R-HUGE-51, R-HUGE-52) */
  readonly hugetlbZapRestoresReservation: 'never' | 'last-mapping' | 'always'
  /** fork leaves a present hugetlb entry its uffd-wp bit also where nobody watches the child: seen on 6.1, not on 6.12 and 6.18 (R-HUGE-50) */
  readonly hugetlbForkKeepsUffdWp: boolean
  /** a hole that ends inside the first page of a disk file unmaps the file from there on, as it always does with a memory file: seen on 6.12 and 6.18 (R-FLT-75) */
  readonly holeInFirstPageUnmapsDiskFile: boolean
  /** fault-around maps nothing when the first folio it finds is the file's last one and the page table is new: seen on 6.12 and 6.18, not on 6.1 (R-FLT-39) */
  readonly lastFolioBringsNoTable: boolean
  /** a fault in an executable mapping reads a file from its page on, up to the end of the mapping: seen on 6.18 (R-FLT-39) */
  readonly codeIsReadAhead: boolean
  /** write(2) looks whether the memory can be read before it takes a page of the file: not in 6.18 (R-FLT-174) */
  readonly writePrefaults: boolean
  /** … and with memory files at as many bytes as a huge page of the file may have: seen on 6.12 (R-FLT-174) */
  readonly writePrefaultsHuge: boolean
  /** a write(2) to a pipe that stops at memory it cannot read leaves an empty piece there: up to 6.12 (R-PIPE-2) */
  readonly failedPipeWriteTakesPlace: boolean
  /** direct I/O looks at the alignment of all memory that is left before it takes a page of it: not in 6.18 (R-DIO-3) */
  readonly directChecksMemoryFirst: boolean
  /** a direct write that stops in a new block has written what it could, and the file has grown: seen on 6.12 and 6.18, not on 6.1 (R-DIO-12) */
  readonly directWriteStopsEarly: boolean
  /** ftruncate that makes a disk file longer zeroes what its last page had beyond the old end: seen on 6.18 (R-DIO-10) */
  readonly growingZeroesTail: boolean
  /** MADV_COLLAPSE wants at least one page that may be written: up to 6.12 (R-HUGE-30) */
  readonly collapseNeedsWritable: boolean
  /** MADV_COLLAPSE where a userfaultfd watches a page that is not there: EBUSY, seen on 6.12 and 6.18; EINVAL on 6.1 (R-HUGE-61) */
  readonly collapseTellsUffd: boolean
  /** what MADV_COLLAPSE makes of memory files is known: seen on 6.18 (R-HUGE-63) */
  readonly collapsesMemoryFiles: boolean
  /** write(2) to a file of ext4 makes large folios in its page cache: seen on 6.18; not before, its ext4 has small ones only (R-HUGE-31) */
  readonly writeMakesLargeFolios: boolean
  /** a huge page that is split leaves the zero page where it held nothing but zeros: seen on 6.12 and 6.18 (R-HUGE-62) */
  readonly splitMapsZeroPage: boolean
  /** pagemap's bit 56 of a PMD-mapped page tells of the head page alone: 6.1 and 6.18, not 6.12 (R-HUGE-38) */
  readonly onceOfHead: boolean
  /** pages of a shared table of hugetlb entries are not shown as mapped once: seen on 6.12 and 6.18, not on 6.1 (R-HUGE-56) */
  readonly sharedTableIsNotOnce: boolean
  /** kpageflags shows the folio head's word for every page of it, not the page's own: seen on 6.12 and 6.18, not on 6.1 (R-PM-4, R-FLT-167) */
  readonly pageFlagsOfHead: boolean
  /**
   * make_device_exclusive_range over a range, whose entries are no mappings any more; make_device_exclusive for one page
   * only, whose entry stays one and is restored with MMU_NOTIFY_CLEAR: 6.18, seen on 7.2 (R-DEX-2, R-DEX-7)
   */
  readonly deviceExclusive: 'range' | 'page'
}

const r61: FaultSwitches = {
  unshareCopiesFilePages: false,
  largeFolioReuse: 'last-mapped-page',
  largeFolioSharing: 'page',
  hugeZeroWriteAllocatesThp: false,
  hugetlbCachePerPage: false,
  swapInReadWritable: false,
  failedDiscardSwapbacks: true,
  hintsSparePinned: false,
  ksmBreaksByUnshare: false,
  guardMarkers: false,
  countsEveryAttempt: true,
  dontneedFreesTables: false,
  hugetlbZapRestoresReservation: 'never',
  hugetlbForkKeepsUffdWp: true,
  holeInFirstPageUnmapsDiskFile: false,
  lastFolioBringsNoTable: false,
  codeIsReadAhead: false,
  writePrefaults: true,
  writePrefaultsHuge: false,
  failedPipeWriteTakesPlace: true,
  directChecksMemoryFirst: true,
  directWriteStopsEarly: false,
  growingZeroesTail: false,
  collapseNeedsWritable: true,
  collapseTellsUffd: false,
  collapsesMemoryFiles: false,
  writeMakesLargeFolios: false,
  splitMapsZeroPage: false,
  onceOfHead: true,
  sharedTableIsNotOnce: false,
  pageFlagsOfHead: false,
  deviceExclusive: 'range',
}
const v3: FaultSwitches = {
  ...r61,
  ksmBreaksByUnshare: true,
  unshareCopiesFilePages: true,
  countsEveryAttempt: false,
}
const r612: FaultSwitches = {
  ...v3,
  collapseTellsUffd: true,
  hintsSparePinned: true,
  largeFolioReuse: 'never',
  largeFolioSharing: 'first-page',
  hugetlbCachePerPage: true,
  directWriteStopsEarly: true,
  writePrefaultsHuge: true,
  splitMapsZeroPage: true,
  swapInReadWritable: true,
  hugetlbZapRestoresReservation: 'last-mapping',
  hugetlbForkKeepsUffdWp: false,
  holeInFirstPageUnmapsDiskFile: true,
  lastFolioBringsNoTable: true,
  onceOfHead: false,
  sharedTableIsNotOnce: true,
  pageFlagsOfHead: true,
}

export const faultSwitches: Readonly<Record<ReleaseName, FaultSwitches>> = {
  'gup-v3': v3,
  '6.1': r61,
  '6.6': { ...v3, onceOfHead: false },
  '6.12': r612,
  '6.18': {
    ...r612,
    largeFolioReuse: 'sole-mm',
    largeFolioSharing: 'two-mms',
    hugetlbZapRestoresReservation: 'always',
    hugeZeroWriteAllocatesThp: true,
    failedDiscardSwapbacks: false,
    guardMarkers: true,
    dontneedFreesTables: true,
    codeIsReadAhead: true,
    writePrefaults: false,
    failedPipeWriteTakesPlace: false,
    directChecksMemoryFirst: false,
    growingZeroesTail: true,
    collapseNeedsWritable: false,
    collapsesMemoryFiles: true,
    writeMakesLargeFolios: true,
    onceOfHead: true,
    deviceExclusive: 'page',
  },
}
