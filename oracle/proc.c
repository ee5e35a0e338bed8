/* Reading /proc into fixed buffers. */
#include <fcntl.h>
#include <sys/stat.h>

#include "agent.h"

/* The seq files of /proc give at most a page a read and whole lines only: go on until nothing comes. */
long read_all(int fd, char *into, size_t room)
{
	size_t used = 0;

	while (used < room - 1) {
		long n = RAW(SYS_pread64, fd, into + used, room - 1 - used, used);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		used += n;
	}
	into[used] = 0;
	return used;
}

long read_file(const char *path, char *into, size_t room)
{
	long fd = RAW(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	long n;

	into[0] = 0;
	if (failed(fd))
		return fd;
	n = RAW(SYS_read, fd, into, room - 1);
	RAW(SYS_close, fd);
	if (n >= 0)
		into[n] = 0;
	return n;
}

static uint64_t hex(const char **at)
{
	uint64_t v = 0;

	for (;; (*at)++) {
		char c = **at;

		if (c >= '0' && c <= '9')
			v = v * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v * 16 + (c - 'a' + 10);
		else
			return v;
	}
}

/*
 * maps or smaps into `proc_text`, up to the first mapping that lies behind the arena: what is above, the agent's shared
 * memory and stack, is not even asked for.
 */
long read_arena(int fd)
{
	size_t used = 0, line = 0;
	char *end;

	while (used < sizeof(proc_text) - 1) {
		long n = RAW(SYS_pread64, fd, proc_text + used, sizeof(proc_text) - 1 - used, used);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		used += n;
		proc_text[used] = 0;
		while ((end = strchr(proc_text + line, '\n'))) {
			const char *at = proc_text + line;

			/* Keys of smaps begin with a capital letter, addresses with a lower-case digit (R-SMAPS-1). */
			if ((*at < 'A' || *at > 'Z') && hex(&at) >= arena_end()) {
				proc_text[line] = 0;
				return line;
			}
			line = end + 1 - proc_text;
		}
	}
	proc_text[used] = 0;
	return used;
}

int write_file(const char *path, const char *value)
{
	long fd = RAW(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
	long n;

	if (failed(fd))
		return fd;
	n = RAW(SYS_write, fd, value, strlen(value));
	RAW(SYS_close, fd);
	return n < 0 ? n : 0;
}

int open_at(int target, const char *path, int flags)
{
	long fd = RAW(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC);

	RAW(SYS_close, target);
	if (failed(fd))
		return fd;
	if (fd != target) {
		RAW(SYS_dup3, fd, target, O_CLOEXEC);
		RAW(SYS_close, fd);
	}
	return 0;
}

/* Where there is one node, its own file has the counters and is a third as long as the machine's. */
static void open_pin_counters(void)
{
	char nodes[16];

	if (read_file("/sys/devices/system/node/online", nodes, sizeof(nodes)) <= 0 || strcmp(nodes, "0\n") != 0 ||
	    open_at(FD_VMSTAT, "/sys/devices/system/node/node0/vmstat", O_RDONLY) != 0 ||
	    read_all(FD_VMSTAT, proc_text, sizeof(proc_text)) <= 0 || !strstr(proc_text, "nr_foll_pin_released "))
		open_at(FD_VMSTAT, "/proc/vmstat", O_RDONLY);
}

/* Descriptors on a process belong to its address space (R-ACC-6): a child and a new image open their own. */
void open_proc(void)
{
	open_at(FD_MAPS, "/proc/self/maps", O_RDONLY);
	open_at(FD_STATUS, "/proc/self/status", O_RDONLY);
	open_at(FD_SMAPS, "/proc/self/smaps", O_RDONLY);
	open_at(FD_PAGEMAP, "/proc/self/pagemap", O_RDONLY);
	open_pin_counters();
	if (shared->config.pool >= 0) {
		open_at(FD_POOL_FREE, POOL "free_hugepages", O_RDONLY);
		open_at(FD_POOL_RESERVED, POOL "resv_hugepages", O_RDONLY);
	}
	probes.kpageflags = open_at(FD_KPAGEFLAGS, "/proc/kpageflags", O_RDONLY) == 0 &&
			    open_at(FD_KPAGECOUNT, "/proc/kpagecount", O_RDONLY) == 0;
	probes.refresh = open_at(FD_REFRESH, "/proc/sys/vm/stat_refresh", O_WRONLY) == 0;
}

static long key_value(const char *from, const char *key)
{
	size_t n = strlen(key);
	long v = 0;

	while (from && *from) {
		if (strncmp(from, key, n) == 0 && (from[n] == ':' || from[n] == ' ')) {
			from += n + 1;
			while (*from == ' ' || *from == '\t')
				from++;
			while (*from >= '0' && *from <= '9')
				v = v * 10 + (*from++ - '0');
			return v;
		}
		from = strchr(from, '\n');
		if (from)
			from++;
	}
	return 0;
}

void read_status(struct status *into)
{
	if (read_all(FD_STATUS, proc_text, sizeof(proc_text)) < 0)
		proc_text[0] = 0;
	into->size = key_value(proc_text, "VmSize");
	into->lck = key_value(proc_text, "VmLck");
	into->pin = key_value(proc_text, "VmPin");
	into->swap = key_value(proc_text, "VmSwap");
	into->rss[0] = key_value(proc_text, "RssAnon");
	into->rss[1] = key_value(proc_text, "RssFile");
	into->rss[2] = key_value(proc_text, "RssShmem");
}

/* A figure of another process; -1 when it is gone. */
long status_of(int pid, const char *key)
{
	char path[40] = "/proc/", digits[12];
	int n = 0, at = 6;

	do
		digits[n++] = '0' + pid % 10;
	while (pid /= 10);
	while (n)
		path[at++] = digits[--n];
	strcpy(path + at, "/status");
	if (read_file(path, proc_text, sizeof(proc_text)) <= 0 || !strstr(proc_text, "VmSize"))
		return -1;
	return key_value(proc_text, key);
}

/* Pages pinned and unpinned since boot, complete only after the per-processor parts were folded in. */
int pin_counters(long *acquired, long *released)
{
	if (!probes.refresh)
		return 0;
	RAW(SYS_write, FD_REFRESH, "1", 1);
	if (read_all(FD_VMSTAT, proc_text, sizeof(proc_text)) <= 0)
		return 0;
	*acquired = key_value(proc_text, "nr_foll_pin_acquired");
	*released = key_value(proc_text, "nr_foll_pin_released");
	return 1;
}

void for_each_mapping(void (*visit)(char *line, size_t n, void *), void *argument)
{
	if (read_all(FD_MAPS, proc_text, sizeof(proc_text)) >= 0)
		for_each_line(visit, argument);
}

/* Every line of `proc_text` that describes a mapping. */
void for_each_line(void (*visit)(char *line, size_t n, void *), void *argument)
{
	char *at = proc_text, *end;

	while ((end = strchr(at, '\n'))) {
		if (*at < 'A' || *at > 'Z')
			visit(at, end - at, argument);
		at = end + 1;
	}
}

/* R-MAPS-1 */
int parse_mapping(const char *line, size_t n, struct mapping *into)
{
	const char *at = line, *end = line + n;
	uint64_t major;

	into->start = hex(&at);
	if (*at++ != '-')
		return 0;
	into->end = hex(&at);
	if (*at++ != ' ')
		return 0;
	memcpy(into->perms, at, 4);
	into->perms[4] = 0;
	at += 5;
	into->offset = hex(&at);
	at++;
	major = hex(&at);
	at++;
	into->device = major << 20 | hex(&at);
	at++;
	into->inode = 0;
	while (*at >= '0' && *at <= '9')
		into->inode = into->inode * 10 + (*at++ - '0');
	while (at < end && *at == ' ')
		at++;
	into->name = at;
	into->name_bytes = end - at;
	return 1;
}

/* Directories differ from run to run; what lies in them does not. */
void out_mapping_name(const struct mapping *mapping)
{
	static char shown[512];
	const char *from[2] = { shared->config.disk, shared->config.tmp };

	for (int i = 0; i < 2; i++) {
		size_t n = strlen(from[i]);

		if (n && mapping->name_bytes > n && mapping->name_bytes - n < sizeof(shown) - 8 &&
		    memcmp(mapping->name, from[i], n) == 0 && mapping->name[n] == '/') {
			strcpy(shown, i ? "tmp" : "disk");
			memcpy(shown + strlen(shown), mapping->name + n, mapping->name_bytes - n);
			out_json(shown, (i ? 3 : 4) + mapping->name_bytes - n);
			return;
		}
	}
	if (key_shown(mapping, shown)) {
		out_json(shown, strlen(shown));
		return;
	}
	out_json(mapping->name, mapping->name_bytes);
}
