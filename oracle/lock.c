/* One program at a time where the whole machine is looked at: pin counters, the pool of huge pages. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>

#include "agent.h"

#define PATIENCE 40000

/* Whoever waits for the second byte holds the first one, so that nobody who comes later is served before. */
enum { TURN, MACHINE };

/* A description of its own: a new image of the agent keeps it, its children do not. */
void open_lock(void)
{
	long fd = shared->config.lock[0] ? RAW(SYS_openat, AT_FDCWD, shared->config.lock,
					       O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600) :
					   -1;

	if (failed(fd))
		return;
	RAW(SYS_dup3, fd, FD_LOCK, 0);
	RAW(SYS_close, fd);
}

void close_lock(void)
{
	RAW(SYS_close, FD_LOCK);
}

static long change(int type, int what)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = what, .l_len = 1 };

	return RAW(SYS_fcntl, FD_LOCK, type == F_UNLCK ? F_OFD_SETLK : F_OFD_SETLKW, &lock);
}

static void on_alarm(int number)
{
	(void)number;
}

/* Waits, but not for ever: the one who has it may have been stopped. */
static long take(int what, long stop)
{
	long result;

	do
		result = change(F_WRLCK, what);
	while (result == -EINTR && now_ms() < stop);
	return result;
}

void cmd_lock(void)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval ticks = { { 0, 100000 }, { 0, 100000 } }, none = { 0 };
	long stop = now_ms() + PATIENCE, result;

	if (me->parent >= 0)
		usage("only the first agent can lock");
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &ticks, NULL);
	idle_us -= now_us();
	result = take(TURN, stop);
	if (!failed(result)) {
		result = take(MACHINE, stop);
		change(F_UNLCK, TURN);
		shared->locked = !failed(result);
	}
	setitimer(ITIMER_REAL, &none, NULL);
	/* Only now: the clock's signal would interrupt it half-way. */
	if (!failed(result) && shared->config.lock[0])
		pool_hold();
	idle_us += now_us();
	/* No file to lock: this machine is the agent's own. */
	reply(result == -EBADF ? 0 : result);
}

void cmd_unlock(void)
{
	long result = change(F_UNLCK, MACHINE);

	shared->locked = 0;
	reply(result == -EBADF ? 0 : result);
}
