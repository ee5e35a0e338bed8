/** Numbers of the userfaultfd interface (ioctl_userfaultfd(2)). Kernel values. */

/** userfaultfd(2) */
export const UFFD_USER_MODE_ONLY = 1

export const UFFD_API = 0xaa
export const UFFD_FEATURE_EVENT_FORK = 1 << 1
export const UFFD_FEATURE_EVENT_REMAP = 1 << 2
export const UFFD_FEATURE_EVENT_REMOVE = 1 << 3
export const UFFD_FEATURE_EVENT_UNMAP = 1 << 6
export const UFFD_FEATURE_SIGBUS = 1 << 7
export const UFFD_FEATURE_EXACT_ADDRESS = 1 << 11
export const UFFD_FEATURE_WP_UNPOPULATED = 1 << 13
export const UFFD_FEATURE_POISON = 1 << 14
export const UFFD_FEATURE_WP_ASYNC = 1 << 15
export const UFFD_FEATURE_MOVE = 1 << 16

export const UFFDIO_REGISTER_MODE_MISSING = 1
export const UFFDIO_REGISTER_MODE_WP = 2
export const UFFDIO_REGISTER_MODE_MINOR = 4

/** UFFDIO_COPY */
export const UFFDIO_COPY_MODE_DONTWAKE = 1
export const UFFDIO_COPY_MODE_WP = 2
/** UFFDIO_ZEROPAGE, UFFDIO_POISON */
export const UFFDIO_ZEROPAGE_MODE_DONTWAKE = 1
export const UFFDIO_POISON_MODE_DONTWAKE = 1
/** UFFDIO_WRITEPROTECT */
export const UFFDIO_WRITEPROTECT_MODE_WP = 1
export const UFFDIO_WRITEPROTECT_MODE_DONTWAKE = 2
/** UFFDIO_CONTINUE */
export const UFFDIO_CONTINUE_MODE_DONTWAKE = 1
export const UFFDIO_CONTINUE_MODE_WP = 2
/** UFFDIO_MOVE */
export const UFFDIO_MOVE_MODE_DONTWAKE = 1
export const UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES = 2

export const UFFD_PAGEFAULT_FLAG_WRITE = 1
export const UFFD_PAGEFAULT_FLAG_WP = 2
export const UFFD_PAGEFAULT_FLAG_MINOR = 4

/** numbers of requests about a range: bit N of `ioctls` means request N */
export const NR_ZEROPAGE = 4
export const NR_MOVE = 5
export const NR_WRITEPROTECT = 6
export const NR_CONTINUE = 7
