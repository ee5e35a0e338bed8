/*
 * A program that probes itself: it maps pages of a file where it is told to, switches uprobes in that file on and
 * off through tracefs, and says after each step what it and its child see of it.
 *
 *     agent DIRECTORY     steps on standard input, an answer to each; DIRECTORY is its own
 *     agent --clean DIR   removes what agents that have died left in tracefs
 *
 * tracefs is mounted in a mount namespace of its own, which goes with the process.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096L
#define BASE 0x10000000L
#define PAGES 32
#define PREFIX "pinscope_uprobe_"

static char directory[256], tracing[300], program[300], group[64];
static char names[32][32];
static int name_count, file = -1;
static pid_t child;

static int write_to(const char *path, const char *text, int flags)
{
	int fd = open(path, O_WRONLY | flags);
	if (fd < 0)
		return errno;
	int error = write(fd, text, strlen(text)) < 0 ? errno : 0;
	close(fd);
	return error;
}

static int write_events(const char *line)
{
	char path[400];
	snprintf(path, sizeof(path), "%s/uprobe_events", tracing);
	return write_to(path, line, O_APPEND);
}

static int enable(const char *in_group, const char *name, int on)
{
	char path[500];
	snprintf(path, sizeof(path), "%s/events/%s/%s/enable", tracing, in_group, name);
	return write_to(path, on ? "1" : "0", 0);
}

static int delete(const char *in_group, const char *name)
{
	char line[200];
	snprintf(line, sizeof(line), "-:%s/%s\n", in_group, name);
	return write_events(line);
}

static const char *mount_tracefs(void)
{
	static char why[200];
	snprintf(tracing, sizeof(tracing), "%s/tracing", directory);
	mkdir(tracing, 0700);
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		snprintf(why, sizeof(why), "no mount namespace: %s", strerror(errno));
	else if (mount("tracefs", tracing, "tracefs", 0, NULL) < 0)
		snprintf(why, sizeof(why), "no tracefs: %s", strerror(errno));
	else {
		char path[400];
		snprintf(path, sizeof(path), "%s/uprobe_events", tracing);
		if (access(path, W_OK) == 0)
			return NULL;
		snprintf(why, sizeof(why), "no uprobe_events: %s", strerror(errno));
	}
	return why;
}

/* Removes the events of agents that are not there any more. */
static void clean_up_after_the_dead(void)
{
	char path[400], line[600];
	snprintf(path, sizeof(path), "%s/uprobe_events", tracing);
	FILE *list = fopen(path, "r");
	static char found[64][2][64];
	int count = 0;
	while (list && count < 64 && fgets(line, sizeof(line), list))
		if (sscanf(line, "p:%63[^/]/%63s", found[count][0], found[count][1]) == 2 &&
		    strncmp(found[count][0], PREFIX, strlen(PREFIX)) == 0)
			count++;
	if (list)
		fclose(list);
	for (int i = 0; i < count; i++) {
		if (kill(atoi(found[i][0] + strlen(PREFIX)), 0) == 0 || errno != ESRCH)
			continue;
		enable(found[i][0], found[i][1], 0);
		delete(found[i][0], found[i][1]);
	}
}

static void leave(void)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	for (int i = 0; i < name_count; i++) {
		enable(group, names[i], 0);
		delete(group, names[i]);
	}
}

static void terminated(int signal)
{
	(void)signal;
	exit(1);
}

/* What this kernel keeps in lists of its own counts as a reference: MADV_COLD empties those of this processor. */
static void drain(void)
{
	static char *dummy;
	if (!dummy)
		dummy = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*dummy = 1;
	madvise(dummy, PAGE, MADV_COLD);
}

static void see(pid_t pid)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	int mem = open(path, O_RDONLY);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	int map = open(path, O_RDONLY);
	for (long i = 0; i < PAGES; i++) {
		unsigned char bytes[112];
		uint64_t word = 0;
		long at = BASE + i * PAGE;
		if (pread(mem, bytes, sizeof(bytes), at) != sizeof(bytes)) {
			printf(" -");
			continue;
		}
		if (pread(map, &word, 8, at / PAGE * 8) != 8)
			word = 0;
		printf(" %02x,%02x,%02x%02x,%c", bytes[0x65], bytes[0x69], bytes[17], bytes[16],
		       !(word >> 63) ? '?' : (word >> 61) & 1 ? 'f' : 'a');
	}
	close(mem);
	close(map);
}

static void answer(int error)
{
	printf("%d", error);
	see(getpid());
	if (child > 0) {
		printf(" |");
		see(child);
	}
	printf("\n");
	fflush(stdout);
}

static int failed(long result)
{
	return result < 0 ? errno : 0;
}

static int poke(long at, int byte)
{
	unsigned char value = byte;
	int mem = open("/proc/self/mem", O_RDWR);
	int error = failed(pwrite(mem, &value, 1, at) == 1 ? 0 : -1);
	close(mem);
	return error;
}

static int fork_child(void)
{
	child = fork();
	if (child != 0)
		return failed(child);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
}

static int make_event(const char *name, long offset, long counter)
{
	char line[600];
	int length = snprintf(line, sizeof(line), "p:%s/%s %s:0x%lx", group, name, program, offset);
	if (counter)
		length += snprintf(line + length, sizeof(line) - length, "(0x%lx)", counter);
	snprintf(line + length, sizeof(line) - length, "\n");
	int error = write_events(line);
	if (error == 0)
		snprintf(names[name_count++ % 32], sizeof(names[0]), "%s", name);
	return error;
}

static int step(const char *line)
{
	char verb[16], name[32];
	long a, b, c, d, e;
	int n = sscanf(line, "%15s %ld %ld %ld %ld %ld", verb, &a, &b, &c, &d, &e);
	void *at = n > 1 ? (void *)(BASE + a * PAGE) : NULL;
	if (strcmp(verb, "map") == 0)
		return mmap(at, b * PAGE, d, (e ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, file, c * PAGE) ==
				       MAP_FAILED
			       ? errno
			       : 0;
	if (strcmp(verb, "unmap") == 0)
		return failed(munmap(at, b * PAGE));
	if (strcmp(verb, "protect") == 0)
		return failed(mprotect(at, b * PAGE, c));
	if (strcmp(verb, "advise") == 0)
		return failed(madvise(at, b * PAGE, c));
	if (strcmp(verb, "lock") == 0)
		return failed(mlock(at, b * PAGE));
	if (strcmp(verb, "unlock") == 0)
		return failed(munlock(at, b * PAGE));
	if (strcmp(verb, "remap") == 0)
		return mremap(at, b * PAGE, c * PAGE, d < 0 ? 0 : MREMAP_MAYMOVE | MREMAP_FIXED,
			      (void *)(BASE + d * PAGE)) == MAP_FAILED
			       ? errno
			       : 0;
	if (strcmp(verb, "poke") == 0)
		return poke(BASE + a * PAGE + b, c);
	if (strcmp(verb, "write") == 0) {
		unsigned char byte = b;
		return failed(pwrite(file, &byte, 1, a));
	}
	if (strcmp(verb, "fork") == 0)
		return fork_child();
	if (strcmp(verb, "reap") == 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		child = 0;
		return 0;
	}
	if (sscanf(line, "%15s %31s %ld %ld", verb, name, &a, &b) < 2)
		return ENOSYS;
	if (strcmp(verb, "event") == 0)
		return make_event(name, a, b);
	drain();
	if (strcmp(verb, "on") == 0)
		return enable(group, name, 1);
	if (strcmp(verb, "off") == 0)
		return enable(group, name, 0);
	if (strcmp(verb, "delete") == 0)
		return delete(group, name);
	return ENOSYS;
}

int main(int argc, char **argv)
{
	int cleaning = argc == 3 && strcmp(argv[1], "--clean") == 0;
	if (argc != 2 && !cleaning)
		return 2;
	snprintf(directory, sizeof(directory), "%s", argv[argc - 1]);
	const char *why = mount_tracefs();
	if (why) {
		printf("skip %s\n", why);
		return 0;
	}
	clean_up_after_the_dead();
	if (cleaning)
		return 0;
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	snprintf(group, sizeof(group), PREFIX "%d", getpid());
	snprintf(program, sizeof(program), "%s/program", directory);
	file = open(program, O_RDWR | O_CREAT | O_TRUNC, 0700);
	static unsigned char page[PAGE];
	for (int i = 0; i < 4; i++) {
		memset(page, i < 3 ? 0x90 : 0, PAGE);
		if (write(file, page, PAGE) != PAGE)
			return 1;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signal(SIGTERM, terminated);
	signal(SIGINT, terminated);
	signal(SIGPIPE, SIG_IGN);
	atexit(leave);
	printf("ready\n");
	fflush(stdout);
	char line[256];
	while (fgets(line, sizeof(line), stdin))
		answer(step(line));
	return 0;
}
