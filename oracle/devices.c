/* AF_XDP memory and the KSM daemon. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_xdp.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "agent.h"

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

#define MAX_SOCKETS 16

static struct {
	int fd;
	long pages;
} registered[MAX_SOCKETS];

long xdp_pages(int fd)
{
	for (int i = 0; i < MAX_SOCKETS; i++)
		if (registered[i].pages && registered[i].fd == fd)
			return registered[i].pages;
	return 0;
}

void xdp_forget(int fd)
{
	for (int i = 0; i < MAX_SOCKETS; i++)
		if (fd < 0 || registered[i].fd == fd)
			registered[i].pages = 0;
}

/* The pages are let go from a work item after the last holder has closed the socket (R-XDP-12). */
void xdp_close(int fd)
{
	xdp_forget(fd);
	RAW(SYS_close, fd);
	settle();
}

/* struct xdp_umem_reg, which older headers know shorter */
struct packet_memory {
	uint64_t address, length;
	uint32_t chunk, headroom, flags, metadata;
};

/* Five words from `from` on, and how many bytes of them are passed. */
static long register_memory(long fd, int from)
{
	int bytes = number_word_or(from + 5, sizeof(struct packet_memory));
	struct packet_memory arg = { number_word(from), number_word(from + 1), number_word(from + 2), number_word_or(from + 3, 0),
		  number_word_or(from + 4, 0), 0 };
	long result = RAW(SYS_setsockopt, fd, SOL_XDP, XDP_UMEM_REG, &arg, bytes);

	for (int i = 0; i < MAX_SOCKETS && !failed(result); i++)
		if (!registered[i].pages) {
			registered[i].fd = fd;
			registered[i].pages = (arg.length + PAGE - 1) / PAGE;
			break;
		}
	return result;
}

/* Whether memory of one page more would be over a limit of so many pages. Nothing is mapped where it is said to be. */
static int is_over(int fd, uint64_t pages, const struct rlimit *limit)
{
	struct packet_memory arg = { ARENA, PAGE, PAGE, 0, 0, 0 };
	struct rlimit now = { pages * PAGE, limit->rlim_max };

	if (now.rlim_cur > now.rlim_max)
		now.rlim_max = now.rlim_cur;
	if (failed(RAW(SYS_prlimit64, 0, RLIMIT_MEMLOCK, &now, 0)))
		return 0;
	return RAW(SYS_setsockopt, fd, SOL_XDP, XDP_UMEM_REG, &arg, sizeof(arg)) == -ENOBUFS;
}

/*
 * Pages that other processes of this user have charged to RLIMIT_MEMLOCK: the limit is looked at before the memory is
 * (R-XDP-8). 0 also where it cannot be told: without AF_XDP.
 */
uint64_t locked_by_others(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[2], without[2];
	uint64_t low = 0, high = 1 << 24;
	struct rlimit limit;
	long fd = RAW(SYS_socket, AF_XDP, SOCK_RAW, 0);

	if (failed(fd))
		return 0;
	RAW(SYS_capget, &header, caps);
	memcpy(without, caps, sizeof(caps));
	without[0].effective &= ~(1U << CAP_IPC_LOCK);
	RAW(SYS_prlimit64, 0, RLIMIT_MEMLOCK, 0, &limit);
	RAW(SYS_capset, &header, without);
	/* The smallest limit that one page more keeps within. */
	while (low < high) {
		uint64_t middle = (low + high) / 2;

		if (is_over(fd, middle, &limit))
			low = middle + 1;
		else
			high = middle;
	}
	RAW(SYS_prlimit64, 0, RLIMIT_MEMLOCK, &limit, 0);
	RAW(SYS_capset, &header, caps);
	RAW(SYS_close, fd);
	return low ? low - 1 : 0;
}

static long xdp_socket(int type, int protocol)
{
	shared->sockets = 1;
	return RAW(SYS_socket, AF_XDP, type, protocol);
}

void cmd_xdp_socket(void)
{
	const char *name = word(1);
	long fd;

	name_check(name);
	fd = xdp_socket(number_word_or(2, SOCK_RAW), number_word_or(3, 0));
	if (!failed(fd))
		name_store(name, fd);
	reply(fd);
}

void cmd_xdp_reg(void)
{
	struct name *name = name_find(word(1));

	if (!name)
		usage("no such name");
	reply(register_memory(name->value, 2));
}

void cmd_xdp(void)
{
	const char *name = word(1);
	long fd, result;

	name_check(name);
	for (int i = 2; i < 5; i++)
		(void)number_word(i);
	fd = xdp_socket(SOCK_RAW, 0);
	if (!failed(fd)) {
		result = register_memory(fd, 2);
		if (failed(result)) {
			RAW(SYS_close, fd);
			fd = result;
		} else {
			name_store(name, fd);
		}
	}
	reply(fd);
}

#define KSM "/sys/kernel/mm/ksm/"

static long full_scans(void)
{
	char digits[32];
	uint64_t n = 0;

	read_file(KSM "full_scans", digits, sizeof(digits));
	text_to_number(digits, strcspn(digits, "\n"), &n);
	return n;
}

/* A page that may be merged and is not there: ksmd forgets address spaces without one, and rests without any. */
long enter_ksm(void)
{
	long at = RAW(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!failed(at))
		RAW(SYS_madvise, at, PAGE, 12 /* MADV_MERGEABLE */);
	return at;
}

void leave_ksm(long at)
{
	if (!failed(at))
		RAW(SYS_munmap, at, PAGE);
}

void cmd_ksm(void)
{
	uint64_t wanted = number_word(1);
	char before[16];
	long lock = RAW(SYS_openat, AT_FDCWD, KSM "run", O_RDWR | O_CLOEXEC), start, stop, result;
	long page = enter_ksm();

	/* The daemon is one for the machine: one agent at a time starts and stops it. */
	if (!failed(lock))
		RAW(SYS_flock, lock, LOCK_EX);
	start = full_scans();
	stop = now_ms() + 4000;
	read_file(KSM "run", before, sizeof(before));
	result = failed(lock) ? lock : write_file(KSM "run", "1");
	if (!failed(result)) {
		while (full_scans() - start < (long)wanted && now_ms() < stop)
			sleep_ms(1);
		write_file(KSM "run", before);
	}
	if (!failed(lock))
		RAW(SYS_close, lock);
	leave_ksm(page);
	reply(result);
	if (!failed(result))
		field_number("scans", full_scans() - start >= (long)wanted ? (long)wanted : full_scans() - start);
}
