/* userfaultfds about an address space that is gone. */
#define _GNU_SOURCE
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

/* Of the new process: makes the descriptor, tells its number and stays until it is killed. */
static _Noreturn void make_and_wait(int to_parent, uint64_t flags, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	long fd, result;

	RAW(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	fd = RAW(SYS_userfaultfd, flags);
	result = failed(fd) ? fd : RAW(SYS_ioctl, fd, UFFDIO_API, &api);
	if (!failed(result))
		result = fd;
	RAW(SYS_write, to_parent, &result, sizeof(result));
	for (;;)
		RAW(SYS_pause);
}

static long fetch(int pid, long fd)
{
	long pidfd = RAW(SYS_pidfd_open, pid, 0), result;

	if (failed(pidfd))
		return pidfd;
	result = RAW(SYS_pidfd_getfd, pidfd, fd, 0);
	RAW(SYS_close, pidfd);
	return result;
}

void cmd_uffd_orphan(void)
{
	const char *name = word(1);
	uint64_t flags = number_word(2), features = number_word_or(3, 0);
	int ends[2];
	long pid, fd = -1;

	name_check(name);
	RAW(SYS_pipe2, ends, 0);
	out_flush();
	pid = RAW(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		make_and_wait(ends[1], flags, features);
	RAW(SYS_close, ends[1]);
	if (failed(pid)) {
		fd = pid;
	} else {
		if (RAW(SYS_read, ends[0], &fd, sizeof(fd)) == sizeof(fd) && !failed(fd))
			fd = fetch(pid, fd);
		RAW(SYS_kill, pid, SIGKILL);
		RAW(SYS_wait4, pid, 0, __WALL, 0);
		/* The fork made the agent's own memory copy-on-write. */
		prefault();
	}
	RAW(SYS_close, ends[0]);
	if (!failed(fd))
		name_store(name, fd);
	observe_no_faults();
	reply(fd);
}
