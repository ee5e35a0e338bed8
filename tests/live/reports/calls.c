/*
 * Makes the calls of drivers.md section 15 on the running kernel, on memory that stays as it is: prints the address of
 * 4 MiB, then answers each line with the name of an errno, or "0".
 *
 *   xdp OFFSET LENGTH CHUNK HEADROOM FLAGS   XDP_UMEM_REG of a socket of its own
 *   uring COUNT OFFSET LENGTH STEP           IORING_REGISTER_BUFFERS of a ring of its own
 *   memlock BYTES                            setrlimit of the soft limit
 *   socket                                   socket(AF_XDP)
 *   bind FLAGS                               bind to the first queue of lo, all rings there
 *   rebind WHEN                              the same again: "mapped" with the first socket closed but its ring mapped,
 *                                            "soon" right after that mapping is gone, "late" when it may be free
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef AF_XDP
#define AF_XDP 44
#endif

enum { MEMORY = 4 << 20, PAGE = 4096 };

static char *memory;
static int bound = -1;
static char *ring = MAP_FAILED;

static const char *name_of(long result)
{
	return result >= 0 ? "0" : strerrorname_np(errno);
}

static int xdp_socket(void)
{
	return socket(AF_XDP, SOCK_RAW, 0);
}

static long umem(int fd, unsigned long offset, unsigned long length, unsigned int chunk, unsigned int headroom,
		 unsigned int flags)
{
	struct xdp_umem_reg reg = {
		.addr = (unsigned long)memory + offset,
		.len = length,
		.chunk_size = chunk,
		.headroom = headroom,
		.flags = flags,
	};

	return setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg));
}

static const char *xdp(unsigned long offset, unsigned long length, unsigned int chunk, unsigned int headroom,
		       unsigned int flags)
{
	int fd = xdp_socket();
	const char *name;

	if (fd < 0)
		return name_of(fd);
	name = name_of(umem(fd, offset, length, chunk, headroom, flags));
	close(fd);
	return name;
}

static const char *uring(int count, unsigned long offset, unsigned long length, unsigned long step)
{
	struct io_uring_params params = { 0 };
	struct iovec buffers[64];
	int fd = syscall(SYS_io_uring_setup, 8, &params);
	const char *name;

	if (fd < 0)
		return name_of(fd);
	for (int i = 0; i < count && i < 64; i++)
		buffers[i] = (struct iovec){ memory + offset + i * step, length };
	name = name_of(syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, buffers, count));
	close(fd);
	/* the charge is taken back by a worker */
	usleep(100000);
	return name;
}

static const char *memlock(unsigned long bytes)
{
	struct rlimit limit;

	getrlimit(RLIMIT_MEMLOCK, &limit);
	limit.rlim_cur = bytes;
	return name_of(setrlimit(RLIMIT_MEMLOCK, &limit));
}

/* A socket with umem and rings, bound; -1 with errno. */
static int bind_one(unsigned int flags)
{
	int entries = 64, fd = xdp_socket();
	struct sockaddr_xdp address = { .sxdp_family = AF_XDP, .sxdp_ifindex = if_nametoindex("lo"), .sxdp_flags = flags };

	if (fd < 0 || umem(fd, 0, 16 * PAGE, PAGE, 0, 0) < 0)
		return -1;
	if (setsockopt(fd, SOL_XDP, XDP_RX_RING, &entries, sizeof(entries)) < 0 ||
	    setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &entries, sizeof(entries)) < 0 ||
	    setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &entries, sizeof(entries)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static const char *rebind(const char *when)
{
	const char *name;
	int fd;

	if (strcmp(when, "mapped") == 0) {
		bound = bind_one(XDP_COPY);
		ring = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, bound, XDP_PGOFF_RX_RING);
		if (bound < 0 || ring == MAP_FAILED)
			return name_of(-1);
		close(bound);
		usleep(300000);
	} else if (strcmp(when, "soon") == 0) {
		munmap(ring, PAGE);
	} else {
		usleep(300000);
	}
	fd = bind_one(XDP_COPY);
	name = name_of(fd);
	if (fd >= 0)
		close(fd);
	return name;
}

int main(int argc, char **argv)
{
	char line[256];

	if (argc > 1 && strcmp(argv[1], "--own-network") == 0) {
		struct ifreq up = { .ifr_name = "lo", .ifr_flags = IFF_UP };

		if (unshare(CLONE_NEWNET) < 0 || ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &up) < 0)
			return 77;
	}
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(memory, 1, MEMORY);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("%d %p\n", getpid(), (void *)memory);
	while (fgets(line, sizeof(line), stdin)) {
		unsigned long offset, length, step;
		unsigned int chunk, headroom, flags;
		char word[16];
		int count;

		if (sscanf(line, "xdp %lu %lu %u %u %u", &offset, &length, &chunk, &headroom, &flags) == 5)
			puts(xdp(offset, length, chunk, headroom, flags));
		else if (sscanf(line, "uring %d %lu %lu %lu", &count, &offset, &length, &step) == 4)
			puts(uring(count, offset, length, step));
		else if (sscanf(line, "memlock %lu", &length) == 1)
			puts(memlock(length));
		else if (strcmp(line, "socket\n") == 0)
			puts(name_of(xdp_socket()));
		else if (sscanf(line, "bind %u", &flags) == 1)
			puts(name_of(bind_one(flags)));
		else if (sscanf(line, "rebind %15s", word) == 1)
			puts(rebind(word));
		else
			puts("?");
	}
	return 0;
}
