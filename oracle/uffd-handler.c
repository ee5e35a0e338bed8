/*
 * Who answers a userfaultfd while the agent itself is the one that waits: a clone that shares the address space. A
 * forked one would turn every page of the arena into a shared one and change what is measured.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "uffd.h"

#ifndef UFFD_PAGEFAULT_FLAG_MINOR
#define UFFD_PAGEFAULT_FLAG_MINOR 4
#endif

#define HUGE (2UL << 20)
#define MAX_EVENTS 4096
#define MAX_SERVED 8
/* The same page asked for so often, and no answer that helps: its range is given up. */
#define MOST_FAILURES 3

static struct {
	int pid;
	volatile int busy;
	int nserved;
	struct served {
		int fd, failures;
		/* The 2 MiB that would not be answered as a whole, and how: not tried for each of its pages. */
		volatile uint64_t refused;
		volatile int refused_answer;
		volatile int answer;
		volatile uint64_t seed, mode;
	} served[MAX_SERVED];
	volatile int count;
	struct {
		int event;
		int64_t flags, page;
		long result;
	} events[MAX_EVENTS];
	char stack[32768] __attribute__((aligned(16)));
	unsigned char bytes[PAGE];
} helper;

/* 4 KiB, and where the kernel will not have that, the 2 MiB around it: huge pages are answered as a whole. */
static long answer_page(struct served *served, struct request request)
{
	int64_t done;
	long result;

	request.length = PAGE;
	result = give_bytes(served->fd, &request, helper.bytes, PAGE, &done);
	if (result != -EINVAL)
		return result;
	request.start &= ~(HUGE - 1);
	request.length = HUGE;
	if (served->refused == request.start && served->refused_answer == (int)request.answer)
		return result;
	result = give_bytes(served->fd, &request, helper.bytes, PAGE, &done);
	if (result == -EINVAL) {
		served->refused = request.start;
		served->refused_answer = request.answer;
	}
	return result;
}

static enum answer right_answer(const struct served *served, uint64_t flags)
{
	if (flags & UFFD_PAGEFAULT_FLAG_WP)
		return UNWP;
	if (flags & UFFD_PAGEFAULT_FLAG_MINOR)
		return served->answer == POISON ? POISON : CONTINUE;
	return served->answer;
}

/* Whoever waits tries again; when nothing helps the range is not watched any more. */
static void answer_failed(struct served *served, uint64_t address)
{
	struct uffdio_range page = { address, PAGE }, huge = { address & ~(HUGE - 1), HUGE };

	if (++served->failures >= MOST_FAILURES) {
		served->failures = 0;
		if (RAW(SYS_ioctl, served->fd, UFFDIO_UNREGISTER, &page) == -EINVAL)
			RAW(SYS_ioctl, served->fd, UFFDIO_UNREGISTER, &huge);
	}
	RAW(SYS_ioctl, served->fd, UFFDIO_WAKE, &huge);
}

static void note(int event, int64_t flags, int64_t page, long result)
{
	int at = helper.count;

	if (at == MAX_EVENTS)
		return;
	helper.events[at].event = event;
	helper.events[at].flags = flags;
	helper.events[at].page = page;
	helper.events[at].result = result;
	helper.count = at + 1;
}

/* The address space of a child that was forked with UFFD_FEATURE_EVENT_FORK is served like its parent's. */
static void serve_child(const struct served *parent, int fd)
{
	if (helper.nserved == MAX_SERVED) {
		RAW(SYS_close, fd);
		return;
	}
	RAW(SYS_fcntl, fd, F_SETFL, O_NONBLOCK);
	helper.served[helper.nserved] = *parent;
	helper.served[helper.nserved].fd = fd;
	helper.served[helper.nserved].failures = 0;
	helper.served[helper.nserved].refused = 0;
	helper.nserved++;
}

static void answer_event(struct served *served, const struct uffd_msg *message)
{
	uint64_t address = message->arg.pagefault.address & ~(PAGE - 1);
	uint64_t flags = message->arg.pagefault.flags;
	long result;

	switch (message->event) {
	case UFFD_EVENT_PAGEFAULT: {
		struct request request = { right_answer(served, flags), address, PAGE, served->seed, 0 };

		if (request.answer == COPY)
			request.mode = served->mode;
		result = answer_page(served, request);
		note(message->event, flags, arena_page(address), result);
		if (failed(result))
			answer_failed(served, address);
		else
			served->failures = 0;
		return;
	}
	case UFFD_EVENT_FORK:
		note(message->event, 0, 0, 0);
		serve_child(served, message->arg.fork.ufd);
		return;
	case UFFD_EVENT_REMAP:
		note(message->event, message->arg.remap.len / PAGE, arena_page(message->arg.remap.from),
		     arena_page(message->arg.remap.to));
		return;
	default:
		note(message->event, arena_page(message->arg.remove.end), arena_page(message->arg.remove.start), 0);
	}
}

static int helper_main(void *ignored)
{
	struct pollfd polled[MAX_SERVED];
	struct uffd_msg message;

	(void)ignored;
	RAW(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		int n = helper.nserved;

		for (int i = 0; i < n; i++)
			polled[i] = (struct pollfd){ helper.served[i].fd, POLLIN, 0 };
		RAW(SYS_poll, polled, n, -1);
		for (int i = 0; i < n; i++) {
			if (!(polled[i].revents & POLLIN))
				continue;
			/* Set before the message is gone: who is woken by the answer waits until it is written down. */
			__atomic_store_n(&helper.busy, 1, __ATOMIC_SEQ_CST);
			if (RAW(SYS_read, helper.served[i].fd, &message, sizeof(message)) == sizeof(message))
				answer_event(&helper.served[i], &message);
			__atomic_store_n(&helper.busy, 0, __ATOMIC_SEQ_CST);
		}
	}
}

static void helper_kill(void)
{
	if (!helper.pid)
		return;
	RAW(SYS_kill, helper.pid, SIGKILL);
	RAW(SYS_wait4, helper.pid, 0, __WALL, 0);
	helper.pid = helper.busy = 0;
}

void handler_stop(void)
{
	helper_kill();
	helper.nserved = helper.count = 0;
}

int handler_serves(void)
{
	return helper.nserved > 0;
}

void observe_handler(void)
{
	if (!helper.pid && !helper.count)
		return;
	for (long stop = now_ms() + 1000; __atomic_load_n(&helper.busy, __ATOMIC_SEQ_CST) && now_ms() < stop;)
		RAW(SYS_sched_yield);
	field("uffd");
	out_char('[');
	for (int i = 0; i < helper.count; i++) {
		out_text(i ? ",[" : "[");
		out_number(helper.events[i].event);
		out_char(',');
		out_number(helper.events[i].flags);
		out_char(',');
		out_number(helper.events[i].page);
		out_char(',');
		out_number(helper.events[i].result);
		out_char(']');
	}
	out_char(']');
	helper.count = 0;
}

/* In a child the helper is the parent's; this process has none. */
void handler_forget(void)
{
	helper.pid = helper.busy = helper.count = helper.nserved = 0;
}

/* r = 0, or -EAGAIN */
static long helper_start(void)
{
	if (helper.pid || helper.nserved == 0)
		return 0;
	helper.pid = clone(helper_main, helper.stack + sizeof(helper.stack), CLONE_VM | CLONE_FILES | SIGCHLD, NULL);
	if (helper.pid > 0)
		return 0;
	helper.pid = 0;
	return -EAGAIN;
}

static struct served *served_find(int fd)
{
	for (int i = 0; i < helper.nserved; i++)
		if (helper.served[i].fd == fd)
			return &helper.served[i];
	return 0;
}

static void serve_no_more(struct served *served)
{
	helper_kill();
	*served = helper.served[--helper.nserved];
}

/* A descriptor is closed: what was made of it by fork stays. */
void handler_closed(int fd)
{
	struct served *served = served_find(fd);

	if (!served)
		return;
	serve_no_more(served);
	helper_start();
}

void cmd_uffd_handler(void)
{
	int fd = named_fd();
	enum answer answer = answer_word(2);
	uint64_t seed = number_word_or(3, 0), mode = number_word_or(4, 0);
	struct served *served = served_find(fd);

	if (answer == WP || answer == WAKE || answer == MOVE)
		usage("a handler answers with copy, zero, unwp, continue, poison, or is off");
	if (answer == OFF) {
		if (served)
			serve_no_more(served);
	} else if (served) {
		served->answer = answer;
		served->seed = seed;
		served->mode = mode;
		served->refused = 0;
	} else if (helper.nserved == MAX_SERVED) {
		usage("too many are served");
	} else {
		helper_kill();
		/* poll answers POLLERR at once for a blocking one. */
		RAW(SYS_fcntl, fd, F_SETFL, O_NONBLOCK);
		helper.served[helper.nserved++] = (struct served){ .fd = fd, .answer = answer, .seed = seed, .mode = mode };
	}
	reply(helper_start());
}
