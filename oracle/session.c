/* hello, levels, reset and the end. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent.h"

static void out_bool(const char *name, int value)
{
	field(name);
	out_text(value ? "true" : "false");
}

static void out_filesystem(const char *name, const char *path)
{
	static const struct {
		long magic;
		const char *name;
	} kinds[] = { { 0xef53, "ext4" },     { 0x01021994, "tmpfs" },	   { 0x858458f6, "ramfs" },
		      { 0x58465342, "xfs" },  { 0x9123683e, "btrfs" }, { 0x794c7630, "overlay" } };
	struct statfs about;

	field(name);
	if (!path[0] || statfs(path, &about)) {
		out_text("null");
		return;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (kinds[i].magic == (long)about.f_type) {
			out_json(kinds[i].name, strlen(kinds[i].name));
			return;
		}
	out_text("\"other\"");
}

static long sysfs_number(const char *path)
{
	char digits[32];
	uint64_t n = 0;

	if (read_file(path, digits, sizeof(digits)) <= 0)
		return -1;
	text_to_number(digits, strcspn(digits, "\n"), &n);
	return n;
}

#define BIG_POOL "/sys/kernel/mm/hugepages/hugepages-1048576kB/"

static void out_hugetlb(void)
{
	long free_pages = sysfs_number(POOL "free_hugepages"), reserved = sysfs_number(POOL "resv_hugepages");
	int big = sysfs_number(BIG_POOL "free_hugepages") >= 0;

	field("hugetlb");
	out_text(free_pages >= 0 ? big ? "[2048,1048576]" : "[2048]" : big ? "[1048576]" : "[]");
	field_number("hugetlbFree", free_pages < 0 ? 0 : free_pages - reserved);
	observe_pool();
}

static void out_hidden(void)
{
	static const char *const sentences[] = {
		"frame numbers are hidden: which pages are the same page is unknown",
		"/proc/kpageflags and /proc/kpagecount cannot be read",
		"pin counters cannot be refreshed: acq and rel are missing",
		"io_uring is not available",
		"userfaultfd is not available",
		"userfaultfd only handles faults of user mode",
		"AF_XDP sockets are not available",
		"resident counters of this kernel are approximate: rss is null",
		"every anonymous page is called a KSM page here: the flag KSM is left out",
		"no directory on a disk file system",
	};
	int hidden[] = { !probes.pfn,
			 !probes.kpageflags,
			 !probes.refresh,
			 !probes.uring,
			 !probes.uffd,
			 probes.uffd && !probes.uffd_kernel,
			 !probes.xdp,
			 !probes.rss,
			 probes.ksm_always,
			 !shared->config.disk[0] };
	int first = 1;

	field("hidden");
	out_char('[');
	for (size_t i = 0; i < sizeof(hidden) / sizeof(*hidden); i++) {
		if (!hidden[i])
			continue;
		if (!first)
			out_char(',');
		first = 0;
		out_json(sentences[i], strlen(sentences[i]));
	}
	out_char(']');
}

void cmd_hello(void)
{
	struct utsname names;
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[2];
	struct rlimit limit;
	char devices[4096];

	RAW(SYS_uname, &names);
	RAW(SYS_capget, &header, caps);
	RAW(SYS_prlimit64, 0, RLIMIT_MEMLOCK, 0, &limit);
	reply(0);
	field_number("version", 1);
	field("release");
	out_json(names.release, strlen(names.release));
	field_number("arena", ARENA);
	field_number("pages", shared->config.pages);
	field_number("uid", RAW(SYS_getuid));
	out_bool("pid1", shared->config.pid1);
	field("capEff");
	out_char('"');
	out_hex(caps[0].effective | (uint64_t)caps[1].effective << 32);
	out_char('"');
	out_bool("pfn", probes.pfn);
	out_bool("kpageflags", probes.kpageflags);
	out_bool("refresh", probes.refresh);
	out_bool("uring", probes.uring);
	out_bool("uffd", probes.uffd);
	out_bool("uffdKernel", probes.uffd_kernel);
	out_bool("memoryFailure", probes.memory_failure);
	out_bool("xdp", probes.xdp);
	out_hugetlb();
	out_bool("thp", shared->config.thp);
	out_bool("rss", probes.rss);
	out_bool("heap", heap_moves());
	out_bool("names", names_known());
	/* One line is the heading. */
	field_number("swap", read_file("/proc/swaps", devices, sizeof(devices)) > 0 && strchr(devices, '\n') &&
				     strchr(devices, '\n')[1]);
	out_bool("ksm", RAW(SYS_faccessat, AT_FDCWD, "/sys/kernel/mm/ksm/run", W_OK) == 0);
	out_bool("ksmShown", !probes.ksm_always);
	field_number("memlock", limit.rlim_cur == RLIM_INFINITY ? -1 : (int64_t)limit.rlim_cur);
	out_filesystem("disk", shared->config.disk);
	out_filesystem("tmp", shared->config.tmp);
	field_number("own", me->base.size);
	field_number("data", data_segment());
	field_number("locked", locked_by_others());
	out_hidden();
}

void cmd_obs(void)
{
	int64_t level = number_word(1);

	int runs = 0, nopins = 0;

	if (level < 0 || level > 5)
		usage("levels are 0 to 5");
	for (int i = 2; i < nwords; i++) {
		if (same(words[i], "runs"))
			runs = 1;
		else if (same(words[i], "nopins"))
			nopins = 1;
		else
			usage("obs wants a level, runs, nopins");
	}
	me->level = level;
	me->runs = runs;
	me->nopins = nopins;
	reply(level);
}

void cmd_nop(void)
{
	reply(0);
}

void cmd_settle(void)
{
	settle();
	reply(0);
}

static void remove_files(void)
{
	segments_remove();
	while (shared->ncreated) {
		shared->ncreated--;
		RAW(SYS_unlinkat, shared->created[shared->ncreated].tmp ? FD_TMP : FD_DISK,
		    shared->created[shared->ncreated].path, 0);
	}
}

static void wait_unpinned(void)
{
	struct status status;

	for (long stop = now_ms() + 2000; now_ms() < stop; sleep_ms(1)) {
		read_status(&status);
		if (status.pin == 0)
			return;
	}
}

static void close_rings(void)
{
	/* What a socket has pinned and charged goes some time after its last holder. */
	int elsewhere = shared->sockets;

	for (int i = 0; i < MAX_SHARED_RINGS; i++) {
		elsewhere |= shared->rings[i].used && shared->rings[i].creator != my_slot && shared->rings[i].pinned;
		if (shared->rings[i].used)
			shared->ring_gone = now_ms();
	}
	elsewhere |= rings_release();
	for (int i = 0; i < MAX_RINGS; i++) {
		if (rings[i].queues)
			RAW(SYS_munmap, rings[i].queues, rings[i].queues_bytes);
		if (rings[i].sqes)
			RAW(SYS_munmap, rings[i].sqes, rings[i].sqes_bytes);
	}
	RAW(SYS_close_range, 3, FD_SHARED - 1, 0);
	memset(rings, 0, sizeof(rings));
	memset(shared->rings, 0, sizeof(shared->rings));
	xdp_forget(-1);
	shared->sockets = 0;
	wait_unpinned();
	if (elsewhere)
		settle_all();
}

void cmd_reset(void)
{
	static long since;
	long now;

	if (me->parent >= 0)
		usage("only the first agent can be reset");
	handler_stop();
	kill_everyone();
	restore_limits();
	personality_reset();
	close_rings();
	RAW(SYS_munlockall);
	RAW(SYS_prctl, 67 /* PR_SET_MEMORY_MERGE */, 0, 0, 0, 0);
	RAW(SYS_prctl, PR_SET_THP_DISABLE, !shared->config.thp, 0, 0, 0);
	remove_files();
	memset(me->names, 0, sizeof(me->names));
	memset(scratch, 0, sizeof(scratch));
	forget_all();
	shared->next_id = 0;
	shared->nfiles = 0;
	/* ksmd takes address spaces in the order in which they asked for it: this one always did so first. */
	leave_ksm(enter_ksm());
	/* A sealed mapping stays until the address space goes. */
	if (unmap_foreign())
		exec_again(4);
	rebase();
	reply(0);
	now = now_us();
	field_number("busy", since ? now - since - idle_us : 0);
	since = now;
	idle_us = 0;
	me->last = 0;
}

static void show_outside(char *line, size_t n, void *count)
{
	struct mapping mapping;

	if (!parse_mapping(line, n, &mapping) || arena_overlaps(&mapping) ||
	    mapping.start >= 1UL << 47)
		return;
	out_text(*(int *)count ? ",[" : "[");
	++*(int *)count;
	out_number(mapping.start);
	out_char(',');
	out_number(mapping.end);
	out_text(",\"");
	out_text(mapping.perms);
	out_text("\",");
	if (strncmp(mapping.name, "/", 1) == 0 && mapping.start < 0x1000000)
		out_text("\"agent\"");
	else
		out_mapping_name(&mapping);
	out_char(']');
}

void cmd_maps(void)
{
	int count = 0;

	reply(0);
	field("all");
	out_char('[');
	for_each_mapping(show_outside, &count);
	out_char(']');
}

void cmd_quit(void)
{
	handler_stop();
	if (me->parent < 0) {
		kill_everyone();
		remove_files();
		/* Whoever made the directories may have been killed: empty ones go with the agent. */
		RAW(SYS_rmdir, shared->config.disk);
		RAW(SYS_rmdir, shared->config.tmp);
	}
	reply(0);
	out_text("}\n");
	out_flush();
	RAW(SYS_exit_group, 0);
}
