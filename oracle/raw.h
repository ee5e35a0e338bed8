/*
 * System calls without the C library's errno: results are the kernel's own (-errno on failure). The answering
 * clone of userfaultfd shares the address space and the thread-local storage, so errno would be shared too.
 */
#ifndef ORACLE_RAW_H
#define ORACLE_RAW_H

#include <stdint.h>
#include <sys/syscall.h>

static inline long raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

#define RAW_PAD(nr, a, b, c, d, e, f, ...) \
	raw6((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
/* RAW(SYS_munmap, address, length): missing arguments are 0. */
#define RAW(...) RAW_PAD(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

static inline int failed(long result)
{
	return result < 0 && result >= -4095;
}

#endif
