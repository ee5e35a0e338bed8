/* What belongs to the agent and not to the program: its own mappings, counters, limits, capabilities. */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "agent.h"

#define OWN_RANGES 64
#define STACK_IN_USE (128 * 1024)

static struct {
	uint64_t start, end;
} own[OWN_RANGES];
static int nown;
static uint64_t brk_at_start;

static __attribute__((noinline)) void touch_stack(void)
{
	volatile char bytes[STACK_IN_USE];

	for (size_t i = 0; i < sizeof(bytes); i += PAGE)
		bytes[i] = 0;
}

static void touch_mapping(char *line, size_t n, void *ignored)
{
	struct mapping mapping;

	(void)ignored;
	/* The kernel's own pages ([vvar], [vdso], [vsyscall]) need no preparation. */
	if (!parse_mapping(line, n, &mapping) || arena_overlaps(&mapping) || mapping.perms[0] != 'r' ||
	    (mapping.name_bytes > 2 && mapping.name[0] == '[' && mapping.name[1] == 'v'))
		return;
	for (int i = 0; nown && !(mapping.start >= own[i].start && mapping.start < own[i].end); i++)
		if (i == nown - 1)
			return;
	/* MADV_POPULATE_READ and _WRITE: as if every page were touched, also where that means a copy after fork. */
	RAW(SYS_madvise, mapping.start, mapping.end - mapping.start, mapping.perms[1] == 'w' ? 23 : 22);
}

#define first_look (buffers->first_look)

/* A child starts without them (MADV_DONTFORK). */
long map_buffers(void)
{
	long at = RAW(SYS_mmap, BUFFERS_AT, sizeof(*buffers), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return failed(at) ? at : RAW(SYS_madvise, at, sizeof(*buffers), MADV_DONTFORK);
}

/* Brings in everything of its own that the agent will ever touch, so that its own faults never show in the counters. */
void prefault(void)
{
	char *at = first_look, *end;

	touch_stack();
	/* Walks its own copy: touching must not change the list under the walk. */
	if (read_all(FD_MAPS, first_look, sizeof(first_look)) < 0)
		return;
	while ((end = strchr(at, '\n'))) {
		touch_mapping(at, end - at, NULL);
		at = end + 1;
	}
}

static void remember(char *line, size_t n, void *ignored)
{
	struct mapping mapping;

	(void)ignored;
	if (!parse_mapping(line, n, &mapping))
		return;
	if (nown && own[nown - 1].end == mapping.start) {
		own[nown - 1].end = mapping.end;
	} else if (nown < OWN_RANGES) {
		own[nown].start = mapping.start;
		own[nown++].end = mapping.end;
	}
}

void remember_mappings(void)
{
	nown = 0;
	for_each_mapping(remember, NULL);
	brk_at_start = RAW(SYS_brk, 0);
	heap_remember();
}

static void unmap_outside_own(char *line, size_t n, void *left)
{
	struct mapping mapping;
	uint64_t at;

	if (!parse_mapping(line, n, &mapping))
		return;
	at = mapping.start;
	for (int i = 0; i <= nown && at < mapping.end; i++) {
		uint64_t stop = i < nown && own[i].start < mapping.end ? own[i].start : mapping.end;

		/* A stack that has grown belongs to the agent. */
		if (mapping.name_bytes == 7 && memcmp(mapping.name, "[stack]", 7) == 0)
			return;
		if (at < stop && failed(RAW(SYS_munmap, at, stop - at)))
			*(int *)left = 1;
		if (i < nown && own[i].end > at)
			at = own[i].end;
	}
}

/* Unmaps what the program has mapped, anywhere. Returns 1 when something cannot be unmapped (a sealed mapping). */
int unmap_foreign(void)
{
	int left = 0;

	RAW(SYS_munmap, ARENA, shared->config.pages * PAGE);
	heap_back(brk_at_start);
	RAW(SYS_brk, brk_at_start);
	for_each_mapping(unmap_outside_own, &left);
	return left;
}

/* A new image. What was pinned and released on the way to it belongs to the step that made it. */
void rebase_image(void)
{
	read_status(&me->base);
}

void rebase(void)
{
	read_status(&me->base);
	/* While another agent pins, it would be a program's. */
	if (pin_counters(&shared->acquired, &shared->released) && (shared->locked || !shared->config.lock[0]))
		shared->outstanding = shared->acquired - shared->released;
}

/* A child starts with pages of its parent in the arena; locked and pinned memory is not inherited. */
void rebase_child(void)
{
	struct status now;
	long arena[3];

	arena_rss(arena);
	read_status(&now);
	for (int i = 0; i < 3; i++)
		me->base.rss[i] = now.rss[i] - arena[i];
	me->base.lck = me->base.pin = me->base.swap = 0;
}

/* Whatever the agent maps for itself in between does not show in the observation. */
void absorb_begin(struct status *before)
{
	read_status(before);
}

void absorb_end(const struct status *before)
{
	struct status after;

	read_status(&after);
	me->base.size += after.size - before->size;
	me->base.lck += after.lck - before->lck;
	for (int i = 0; i < 3; i++)
		me->base.rss[i] += after.rss[i] - before->rss[i];
}

void save_limits(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < RLIM_NLIMITS; i++)
		RAW(SYS_prlimit64, 0, i, 0, shared->limits[i]);
	RAW(SYS_capget, &header, data);
	shared->effective = data[0].effective | (uint64_t)data[1].effective << 32;
}

void restore_limits(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	RAW(SYS_capget, &header, data);
	data[0].effective = shared->effective;
	data[1].effective = shared->effective >> 32;
	RAW(SYS_capset, &header, data);
	for (int i = 0; i < RLIM_NLIMITS; i++)
		RAW(SYS_prlimit64, 0, i, shared->limits[i], 0);
}

/* Some kernels keep the resident counters per processor and show sums that lag behind. */
static int rss_is_exact(char *pages)
{
	struct status before, after;

	int exact = 1;

	for (int i = 0; i < 8; i++) {
		read_status(&before);
		pages[i * PAGE] = 1;
		read_status(&after);
		exact &= after.rss[0] == before.rss[0] + 4;
	}
	return exact;
}

void probe(void)
{
	struct io_uring_params params = { 0 };
	struct stat about;
	uint64_t word = 0;
	long at = RAW(SYS_mmap, 0, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long fd;

	(void)*(volatile char *)at;
	RAW(SYS_pread64, FD_PAGEMAP, &word, 8, at / PAGE * 8);
	probes.zero_pfn = word & ((1UL << 55) - 1);
	probes.pfn = probes.zero_pfn != 0;
	probes.rss = rss_is_exact((char *)at + 8 * PAGE);
	RAW(SYS_pread64, FD_PAGEMAP, &word, 8, (at / PAGE + 8) * 8);
	probes.ksm_always = shown_as_ksm(word);
	RAW(SYS_munmap, at, 16 * PAGE);
	fd = RAW(SYS_io_uring_setup, 1, &params);
	probes.uring = !failed(fd);
	if (probes.uring)
		RAW(SYS_close, fd);
	fd = RAW(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	probes.uffd = !failed(fd);
	if (probes.uffd)
		RAW(SYS_close, fd);
	fd = RAW(SYS_userfaultfd, O_CLOEXEC);
	probes.uffd_kernel = !failed(fd);
	if (probes.uffd_kernel)
		RAW(SYS_close, fd);
	probes.memory_failure = access("/proc/sys/vm/memory_failure_recovery", F_OK) == 0;
	fd = RAW(SYS_socket, AF_XDP, SOCK_RAW, 0);
	probes.xdp = !failed(fd);
	if (probes.xdp)
		RAW(SYS_close, fd);
	fstat(FD_SHARED, &about);
	probes.shmem_device = (uint64_t)major(about.st_dev) << 20 | minor(about.st_dev);
	if (shared->config.tmp[0] && stat(shared->config.tmp, &about) == 0)
		probes.tmp_device = (uint64_t)major(about.st_dev) << 20 | minor(about.st_dev);
}
