/**
 * hugetlb: pages from a pool of their own, with reservations.
 *
 * hugetlb-pool.ts the pool · hugetlb-reserve.ts who was promised pages · hugetlb-file.ts files and their
 * cache · hugetlb-fault.ts faults · hugetlb-map.ts zap, fork, mprotect, move
 */
export { HugetlbPool, HugetlbSubpool, hugetlbPool } from './hugetlb-pool.ts'
export {
  hugetlbIndex,
  hugetlbReserve,
  hugetlbReserveMoved,
  hugetlbUnreserve,
  pagesPerHuge,
} from './hugetlb-reserve.ts'
export { hugetlbFileSetup, punchHugetlb, truncateHugetlb } from './hugetlb-file.ts'
export { hugetlbFault } from './hugetlb-fault.ts'
