/**
 * What a fault that cannot be served without sleeping answers instead of a VM_FAULT code. All are
 * negative, so that one comparison tells them from results.
 */
/** nothing there and a userfaultfd wants to fill it */
export const NEEDS_USERFAULT = -1
/** the page is being read from storage */
export const NEEDS_IO = -2
