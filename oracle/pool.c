/* The pool of 2 MiB pages, which belongs to the whole machine: how much of it a program finds, and what is left. */
#define _GNU_SOURCE
#include <linux/memfd.h>
#include <sys/stat.h>

#include "agent.h"

#define HUGE_PAGE (2UL << 20)

static int pool_counter(int fd, long *value)
{
	char digits[32];
	uint64_t n;
	long bytes = RAW(SYS_pread64, fd, digits, sizeof(digits) - 1, 0);

	if (bytes <= 0)
		return 0;
	digits[bytes] = 0;
	/* The number of reserved pages can be below zero and wraps (R-HUGE-52). */
	if (!text_to_number(digits, strcspn(digits, "\n"), &n))
		return 0;
	*value = n;
	return 1;
}

/*
 * Takes what the pool has free beyond `--pool`, so that a program meets the end of a large pool as soon as that
 * of a small one. A file that nobody maps holds the pages: no counter of a process shows them. Called again, it takes
 * what another agent has held and given back.
 */
void pool_hold(void)
{
	long free_pages, reserved, extra, fd;
	struct stat held;

	if (shared->config.pool < 0 || !pool_counter(FD_POOL_FREE, &free_pages) ||
	    !pool_counter(FD_POOL_RESERVED, &reserved))
		return;
	extra = free_pages - reserved - shared->config.pool;
	if (extra <= 0)
		return;
	if (failed(RAW(SYS_fstat, FD_POOL, &held))) {
		fd = RAW(SYS_memfd_create, "pool", MFD_HUGETLB);
		if (failed(fd))
			return;
		RAW(SYS_dup3, fd, FD_POOL, 0);
		RAW(SYS_close, fd);
	}
	/* One call may end with a part of a large pool: what it has taken stays, and the next goes on behind it. */
	while (extra > 0 && !failed(RAW(SYS_fstat, FD_POOL, &held))) {
		long before = extra;

		RAW(SYS_fallocate, FD_POOL, 0, 0, held.st_blocks * 512 + extra * HUGE_PAGE);
		if (!pool_counter(FD_POOL_FREE, &free_pages) || !pool_counter(FD_POOL_RESERVED, &reserved))
			return;
		extra = free_pages - reserved - shared->config.pool;
		if (extra >= before)
			return;
	}
}

/* Free pages and promised ones. */
void observe_pool(void)
{
	long free_pages, reserved;

	if (shared->config.pool < 0 || !pool_counter(FD_POOL_FREE, &free_pages) ||
	    !pool_counter(FD_POOL_RESERVED, &reserved))
		return;
	field("pool");
	out_char('[');
	out_number(free_pages);
	out_char(',');
	out_number(reserved);
	out_char(']');
}
