/* Raw system calls, stored values, the scratch area, limits and capabilities. */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "agent.h"

unsigned char scratch[SCRATCH_BYTES] __attribute__((aligned(4096)));

static const struct {
	const char *name;
	long number;
} calls[] = {
	{ "mmap", SYS_mmap },
	{ "munmap", SYS_munmap },
	{ "mremap", SYS_mremap },
	{ "mprotect", SYS_mprotect },
	{ "madvise", SYS_madvise },
	{ "process_madvise", SYS_process_madvise },
	{ "mlock", SYS_mlock },
	{ "mlock2", SYS_mlock2 },
	{ "munlock", SYS_munlock },
	{ "mlockall", SYS_mlockall },
	{ "munlockall", SYS_munlockall },
	{ "brk", SYS_brk },
	{ "msync", SYS_msync },
	{ "mincore", SYS_mincore },
	{ "remap_file_pages", SYS_remap_file_pages },
	{ "mseal", 462 },
	{ "read", SYS_read },
	{ "write", SYS_write },
	{ "readv", SYS_readv },
	{ "writev", SYS_writev },
	{ "pread64", SYS_pread64 },
	{ "pwrite64", SYS_pwrite64 },
	{ "ftruncate", SYS_ftruncate },
	{ "fallocate", SYS_fallocate },
	{ "fsync", SYS_fsync },
	{ "lseek", SYS_lseek },
	{ "dup", SYS_dup },
	{ "close", SYS_close },
	{ "fcntl", SYS_fcntl },
	{ "ioctl", SYS_ioctl },
	{ "memfd_create", SYS_memfd_create },
	{ "memfd_secret", 447 },
	{ "splice", SYS_splice },
	{ "vmsplice", SYS_vmsplice },
	{ "process_vm_readv", SYS_process_vm_readv },
	{ "process_vm_writev", SYS_process_vm_writev },
	{ "io_uring_setup", SYS_io_uring_setup },
	{ "io_uring_enter", SYS_io_uring_enter },
	{ "io_uring_register", SYS_io_uring_register },
	{ "setsockopt", SYS_setsockopt },
	{ "socket", SYS_socket },
	{ "shmget", SYS_shmget },
	{ "shmat", SYS_shmat },
	{ "shmdt", SYS_shmdt },
	{ "shmctl", SYS_shmctl },
	{ "prctl", SYS_prctl },
	{ "personality", SYS_personality },
	{ "pidfd_open", SYS_pidfd_open },
	{ "prlimit64", SYS_prlimit64 },
	{ "futex", SYS_futex },
	{ "membarrier", SYS_membarrier },
};

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static long call_number(const char *text_of_number)
{
	if (*text_of_number >= '0' && *text_of_number <= '9')
		return evaluate(text_of_number);
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		if (same(calls[i].name, text_of_number))
			return calls[i].number;
	usage("a system call this agent does not know by name: give its number");
}

void cmd_sys(void)
{
	long number = call_number(word(1)), a[6];

	for (int i = 0; i < 6; i++)
		a[i] = number_word_or(2 + i, 0);
	if (me->level >= 2) {
		if (number == SYS_mmap && (a[3] & MAP_FIXED))
			forget_range(a[0], a[0] + a[1]);
		if (number == SYS_mremap && (a[3] & MREMAP_FIXED))
			forget_range(a[4], a[4] + a[2]);
		/* Pages of a file are replaced wherever they are mapped. */
		if (number == SYS_madvise && a[2] == MADV_COLLAPSE)
			forget_frames();
	}
	reply(raw6(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

void cmd_let(void)
{
	const char *name = word(1);
	int64_t value = number_word_or(2, me->last);

	name_check(name);
	name_store(name, value);
	/* A value is no errno, also when it is negative. */
	out_text("{\"r\":");
	out_number(value);
	out_text(",\"e\":0");
}

static uint64_t scratch_words(uint64_t offset, uint64_t n)
{
	if (offset > SCRATCH_BYTES || n > (SCRATCH_BYTES - offset) / 8)
		usage("outside the scratch area");
	return offset;
}

void cmd_put(void)
{
	int n = nwords - 2;
	uint64_t offset = number_word(1);

	if (n < 1)
		usage("put wants words");
	scratch_words(offset, n);
	for (int i = 0; i < n; i++) {
		uint64_t value = number_word(2 + i);

		memcpy(scratch + offset + 8 * i, &value, 8);
	}
	out_text("{\"r\":");
	out_number(n);
	out_text(",\"e\":0");
}

void cmd_get(void)
{
	uint64_t offset = number_word(1), n = number_word(2);

	scratch_words(offset, n);
	out_text("{\"r\":");
	out_number(n);
	out_text(",\"e\":0");
	field("w");
	out_char('[');
	for (uint64_t i = 0; i < n; i++) {
		uint64_t value;

		memcpy(&value, scratch + offset + 8 * i, 8);
		out_text(i ? ",\"0x" : "\"0x");
		out_hex(value);
		out_char('"');
	}
	out_char(']');
}

void cmd_limit(void)
{
	uint64_t resource = number_word(1);
	struct rlimit limit;
	long result = RAW(SYS_prlimit64, 0, resource, 0, &limit);

	limit.rlim_cur = number_word(2);
	limit.rlim_max = number_word_or(3, limit.rlim_max);
	if (!failed(result))
		result = RAW(SYS_prlimit64, 0, resource, &limit, 0);
	reply(result);
}

void cmd_cap(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	uint64_t number = number_word(1);
	int on = same(word(2), "on");

	if (number > 63 || (!on && !same(word(2), "off")))
		usage("cap wants a capability's number and on or off");
	RAW(SYS_capget, &header, data);
	if (on)
		data[number / 32].effective |= 1U << number % 32;
	else
		data[number / 32].effective &= ~(1U << number % 32);
	reply(RAW(SYS_capset, &header, data));
}
