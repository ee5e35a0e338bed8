/**
 * Transparent huge pages, and what happens to any huge PMD entry (THP, huge zero folio, large page-cache
 * folio, hugetlb) when page tables are walked.
 *
 * thp-fault.ts faults and write-protect faults · thp-map.ts split, zap, fork, mprotect, move
 */
export { doHugePmdAnonymousPage, doHugePmdWpPage, largeAnonReuse, thpAllowed } from './thp-fault.ts'
export { changeHugePmd, copyHugePmd, moveHugePmd, splitHugePmd, zapHugePmd, type ZapHow } from './thp-map.ts'
