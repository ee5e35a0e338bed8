/**
 * What a fault that cannot be served without sleeping answers instead of a VM_FAULT code. All are
 * negative, so that one comparison tells them from results.
 */
/** nothing there and a userfaultfd wants to fill it */
export const NEEDS_USERFAULT = -1
/** the page is being read from storage */
export const NEEDS_IO = -2
/** a write to what a userfaultfd has protected */
export const NEEDS_USERFAULT_WP = -3
/** the page is in its file's cache, and a userfaultfd decides when it is mapped */
export const NEEDS_USERFAULT_MINOR = -4

/** the entry is a migration entry; nothing is left to do when it is gone */
export const NEEDS_MIGRATION = -5
/** the page in the cache is locked by somebody who moves it */
export const NEEDS_UNLOCKED = -6

/** the entry is a NUMA hint and the page is on another node than who touches it */
export const NEEDS_NUMA_MOVE = -7

/** Which kind of event a userfault is. */
export type UserfaultReason =
  typeof NEEDS_USERFAULT | typeof NEEDS_USERFAULT_WP | typeof NEEDS_USERFAULT_MINOR
