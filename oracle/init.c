/* The agent as process 1 of a virtual machine: file systems, modules, settings, the serial console. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/reboot.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include "agent.h"

#define MAX_MODULES 64

static void mount_at(const char *what, const char *where, const char *type)
{
	RAW(SYS_mkdir, where, 0755);
	RAW(SYS_mount, what, where, type, 0, 0);
}

static void load_modules(void)
{
	static char entries[16384], modules[MAX_MODULES][64];
	long fd = RAW(SYS_openat, AT_FDCWD, "/modules", O_RDONLY | O_DIRECTORY), bytes;
	int n = 0;

	if (failed(fd))
		return;
	bytes = RAW(SYS_getdents64, fd, entries, sizeof(entries));
	for (long at = 0; at < bytes;) {
		unsigned short length;
		const char *name = entries + at + 19;
		int i = n;

		memcpy(&length, entries + at + 16, 2);
		at += length;
		if (n == MAX_MODULES || strlen(name) >= sizeof(modules[0]) || !strstr(name, ".ko"))
			continue;
		for (; i > 0 && strcmp(modules[i - 1], name) > 0; i--)
			strcpy(modules[i], modules[i - 1]);
		strcpy(modules[i], name);
		n++;
	}
	for (int i = 0; i < n; i++) {
		long module = RAW(SYS_openat, fd, modules[i], O_RDONLY | O_CLOEXEC);

		if (failed(module))
			continue;
		RAW(SYS_finit_module, module, "", 0);
		RAW(SYS_close, module);
	}
	RAW(SYS_close, fd);
}

/* The value of `pinscope.NAME=VALUE` on the kernel's command line. */
static int kernel_option(const char *name, char *into, size_t room)
{
	static char line[4096];
	size_t n = strlen(name);

	read_file("/proc/cmdline", line, sizeof(line));
	for (char *at = line; (at = strstr(at, "pinscope."));) {
		at += 9;
		if (strncmp(at, name, n) != 0 || at[n] != '=')
			continue;
		at += n + 1;
		n = strcspn(at, " \n");
		if (n >= room)
			return 0;
		memcpy(into, at, n);
		into[n] = 0;
		return 1;
	}
	return 0;
}

/* R-AG-6: nothing may move pages behind the program's back. */
static void settle_machine(void)
{
	static const char *const settings[][2] = {
		{ "/sys/kernel/mm/transparent_hugepage/enabled", "madvise" },
		{ "/sys/kernel/mm/transparent_hugepage/khugepaged/defrag", "0" },
		{ "/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", "4294967295" },
		{ "/sys/kernel/mm/ksm/run", "0" },
		{ "/sys/kernel/mm/ksm/sleep_millisecs", "1" },
		{ "/sys/kernel/mm/ksm/smart_scan", "0" },
		{ "/sys/kernel/mm/ksm/pages_to_scan", "2000" },
		{ "/proc/sys/vm/page-cluster", "0" },
		{ "/proc/sys/kernel/numa_balancing", "0" },
		{ "/proc/sys/vm/compaction_proactiveness", "0" },
		{ "/proc/sys/vm/compact_unevictable_allowed", "0" },
		{ "/proc/sys/vm/unprivileged_userfaultfd", "1" },
		/* Faults that the agent catches are no news. */
		{ "/proc/sys/debug/exception-trace", "0" },
	};
	char pool[32];

	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++)
		write_file(settings[i][0], settings[i][1]);
	if (kernel_option("hugepages", pool, sizeof(pool)))
		write_file("/proc/sys/vm/nr_hugepages", pool);
}

/* The loopback device, for sends: nothing else of the network is there. */
static void open_network(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	long fd = RAW(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (failed(fd))
		return;
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	RAW(SYS_ioctl, fd, SIOCSIFFLAGS, &request);
	RAW(SYS_close, fd);
}

/* `pinscope.swap=BYTES`: a zram device in the layout that swapon(2) wants, version 1, no bad pages. */
static void open_swap(void)
{
	static union {
		unsigned char bytes[PAGE];
		uint32_t words[PAGE / 4];
	} header;
	char size[32];
	uint64_t bytes = 0;
	long fd;

	if (!kernel_option("swap", size, sizeof(size)))
		return;
	write_file("/sys/block/zram0/disksize", size);
	fd = RAW(SYS_openat, AT_FDCWD, "/dev/zram0", O_RDWR | O_CLOEXEC);
	if (failed(fd))
		return;
	RAW(SYS_ioctl, fd, BLKGETSIZE64, &bytes);
	header.words[256] = 1;
	header.words[257] = bytes / PAGE - 1;
	memcpy(header.bytes + PAGE - 10, "SWAPSPACE2", 10);
	if (RAW(SYS_pwrite64, fd, &header, PAGE, 0) == PAGE)
		RAW(SYS_swapon, "/dev/zram0", 0);
	RAW(SYS_close, fd);
}

static void open_console(void)
{
	char path[64] = "/dev/ttyS0";
	int own = kernel_option("console", path, sizeof(path));
	struct termios raw;
	long fd;

	fd = RAW(SYS_openat, AT_FDCWD, path, O_RDWR | O_NOCTTY);
	/* The port of a module that was loaded just now appears a little later. */
	for (int tries = 0; fd == -ENOENT && tries < 500; tries++) {
		sleep_ms(10);
		fd = RAW(SYS_openat, AT_FDCWD, path, O_RDWR | O_NOCTTY);
	}
	if (failed(fd))
		fd = RAW(SYS_openat, AT_FDCWD, "/dev/console", O_RDWR | O_NOCTTY);
	if (failed(fd))
		return;
	if (tcgetattr(fd, &raw) == 0) {
		cfmakeraw(&raw);
		tcsetattr(fd, TCSANOW, &raw);
	}
	for (int target = 0; target < 3; target++)
		if (fd != target)
			RAW(SYS_dup3, fd, target, 0);
	if (fd > 2)
		RAW(SYS_close, fd);
	/* Where the kernel writes as well, only its emergencies may still appear between the replies. */
	if (!own)
		RAW(SYS_syslog, 8, 0, 1);
}

void init_as_first(void)
{
	mount_at("proc", "/proc", "proc");
	mount_at("sysfs", "/sys", "sysfs");
	mount_at("devtmpfs", "/dev", "devtmpfs");
	mount_at("tmpfs", "/run", "tmpfs");
	load_modules();
	mount_at("hugetlbfs", "/hugetlb", "hugetlbfs");
	RAW(SYS_mkdir, "/disk", 0755);
	if (failed(RAW(SYS_mount, "/dev/vda", "/disk", "ext4", 0, 0)))
		RAW(SYS_mount, "/dev/sda", "/disk", "ext4", 0, 0);
	settle_machine();
	open_network();
	open_swap();
	open_console();
}

static _Noreturn void power_off(void)
{
	RAW(SYS_sync);
	RAW(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0);
	for (;;)
		RAW(SYS_pause);
}

/*
 * The agent proper is a child: process 1 must not die, and the kernel reports its faults even when it handles
 * them. Returns in the child.
 */
void leave_first(void)
{
	long agent = RAW(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	int status = 0;

	if (agent == 0)
		return;
	for (;;) {
		long gone = RAW(SYS_wait4, -1, &status, __WALL, 0);

		if (gone != agent && !(failed(gone) && gone == -ECHILD))
			continue;
		/* The line in flight has no other answer (R-AG-13). */
		if (status) {
			out_text("\n{\"r\":-1,\"e\":\"DIED\",\"status\":");
			out_number(status);
			out_text(",\"agent\":true}\n");
			out_flush();
		}
		power_off();
	}
}
