/*
 * userfaultfd: registration, answers on command, and a helper that answers while the agent itself is the one
 * that waits. The helper is a clone that shares the address space: a forked one would turn every page of the
 * arena into a shared one and change what is measured.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "agent.h"

#ifndef UFFDIO_POISON
struct uffdio_poison {
	struct uffdio_range range;
	uint64_t mode;
	int64_t updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 8, struct uffdio_poison)
#endif

enum answer { COPY, ZERO, WP, UNWP, CONTINUE, POISON, WAKE, OFF };
static const char *const answers[] = { "copy", "zero", "wp", "unwp", "continue", "poison", "wake", "off" };

#define MAX_EVENTS 256

static struct {
	int pid, fd;
	volatile int busy, answer;
	volatile uint64_t seed;
	volatile int count;
	struct {
		int event;
		uint64_t flags;
		int64_t page;
		long result;
	} events[MAX_EVENTS];
	char stack[32768] __attribute__((aligned(16)));
	unsigned char bytes[PAGE];
} helper;

static long give(int fd, enum answer answer, uint64_t start, uint64_t length, const void *bytes, int64_t *done)
{
	struct uffdio_range range = { start, length };
	struct uffdio_copy copy = { .dst = start, .src = (uint64_t)bytes, .len = length };
	struct uffdio_zeropage zero = { .range = range };
	struct uffdio_writeprotect protect = { .range = range };
	struct uffdio_continue continued = { .range = range };
	struct uffdio_poison poison = { .range = range };
	long result;

	*done = 0;
	switch (answer) {
	case COPY:
		result = RAW(SYS_ioctl, fd, UFFDIO_COPY, &copy);
		*done = copy.copy;
		return result;
	case ZERO:
		result = RAW(SYS_ioctl, fd, UFFDIO_ZEROPAGE, &zero);
		*done = zero.zeropage;
		return result;
	case WP:
	case UNWP:
		protect.mode = answer == WP ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
		return RAW(SYS_ioctl, fd, UFFDIO_WRITEPROTECT, &protect);
	case CONTINUE:
		result = RAW(SYS_ioctl, fd, UFFDIO_CONTINUE, &continued);
		*done = continued.mapped;
		return result;
	case POISON:
		result = RAW(SYS_ioctl, fd, UFFDIO_POISON, &poison);
		*done = poison.updated;
		return result;
	default:
		return RAW(SYS_ioctl, fd, UFFDIO_WAKE, &range);
	}
}

static void answer_event(const struct uffd_msg *message)
{
	uint64_t address = message->arg.pagefault.address & ~(PAGE - 1);
	int at = helper.count;
	int64_t done;
	long result = 0;

	if (message->event == UFFD_EVENT_PAGEFAULT) {
		if (helper.answer == COPY)
			fill_bytes(helper.bytes, PAGE, helper.seed, 0);
		result = give(helper.fd, helper.answer, address, PAGE, helper.bytes, &done);
	}
	if (at == MAX_EVENTS)
		return;
	helper.events[at].event = message->event;
	helper.events[at].flags = message->arg.pagefault.flags;
	helper.events[at].page = (int64_t)(address - ARENA) / (int64_t)PAGE;
	helper.events[at].result = result;
	helper.count = at + 1;
}

static int helper_main(void *ignored)
{
	struct uffd_msg message;

	(void)ignored;
	RAW(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		struct pollfd poll = { helper.fd, POLLIN, 0 };
		long n;

		/* For a blocking descriptor poll answers POLLERR at once, and the read is what waits. */
		RAW(SYS_poll, &poll, 1, -1);
		n = RAW(SYS_read, helper.fd, &message, sizeof(message));
		if (n == -EAGAIN || n == -EINTR)
			continue;
		if (n != sizeof(message))
			return 0;
		/* Set before the answer: whoever is woken by it waits until the event is written down. */
		__atomic_store_n(&helper.busy, 1, __ATOMIC_SEQ_CST);
		answer_event(&message);
		__atomic_store_n(&helper.busy, 0, __ATOMIC_SEQ_CST);
	}
}

void handler_stop(void)
{
	if (!helper.pid)
		return;
	RAW(SYS_kill, helper.pid, SIGKILL);
	RAW(SYS_wait4, helper.pid, 0, __WALL, 0);
	helper.pid = helper.busy = helper.count = 0;
}

void observe_handler(void)
{
	if (!helper.pid)
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
	helper.pid = helper.busy = helper.count = 0;
}

static long named_fd(void)
{
	struct name *name = name_find(word(1));

	if (!name)
		usage("no such name");
	return name->value;
}

static enum answer answer_word(int index)
{
	for (int i = 0; i <= OFF; i++)
		if (same(answers[i], word(index)))
			return i;
	usage("not an answer");
}

void cmd_uffd_handler(void)
{
	int fd = named_fd();
	enum answer answer = answer_word(2);
	uint64_t seed = number_word_or(3, 0);

	if (answer == WP || answer == WAKE)
		usage("a handler answers with copy, zero, unwp, continue, poison, or is off");
	if (answer == OFF || (helper.pid && helper.fd != fd))
		handler_stop();
	if (answer == OFF) {
		reply(0);
		return;
	}
	helper.answer = answer;
	helper.seed = seed;
	if (!helper.pid) {
		helper.fd = fd;
		helper.pid = clone(helper_main, helper.stack + sizeof(helper.stack), CLONE_VM | CLONE_FILES | SIGCHLD,
				   NULL);
	}
	reply(helper.pid > 0 ? 0 : -11);
}

static void hex_field(const char *name, uint64_t value)
{
	field(name);
	out_text("\"0x");
	out_hex(value);
	out_char('"');
}

void cmd_uffd(void)
{
	const char *name = word(1);
	uint64_t flags = number_word(2);
	struct uffdio_api api = { .api = UFFD_API, .features = number_word_or(3, 0) };
	long fd, result;

	name_check(name);
	fd = RAW(SYS_userfaultfd, flags);
	if (!failed(fd)) {
		result = RAW(SYS_ioctl, fd, UFFDIO_API, &api);
		if (failed(result)) {
			RAW(SYS_close, fd);
			fd = result;
		} else {
			name_store(name, fd);
		}
	}
	reply(fd);
	if (!failed(fd)) {
		hex_field("features", api.features);
		hex_field("ioctls", api.ioctls);
	}
}

void cmd_uffd_reg(void)
{
	long fd = named_fd(), result;
	struct uffdio_register arg = { .range = { number_word(2), number_word(3) }, .mode = number_word(4) };

	result = RAW(SYS_ioctl, fd, UFFDIO_REGISTER, &arg);
	reply(result);
	if (!failed(result))
		hex_field("ioctls", arg.ioctls);
}

void cmd_uffd_unreg(void)
{
	long fd = named_fd();
	struct uffdio_range range = { number_word(2), number_word(3) };

	reply(RAW(SYS_ioctl, fd, UFFDIO_UNREGISTER, &range));
}

void cmd_uffd_do(void)
{
	long fd = named_fd(), result;
	enum answer answer = answer_word(2);
	uint64_t start = number_word(3), length = number_word(4), seed = number_word_or(5, 0);
	int64_t done;

	if (answer == OFF)
		usage("not an answer");
	if (answer == COPY) {
		if (length > sizeof(work))
			usage("copy takes at most 65536 bytes");
		fill_bytes(work, length, seed, 0);
	}
	result = give(fd, answer, start, length, work, &done);
	reply(result);
	field_number("done", done);
}

void cmd_uffd_read(void)
{
	struct uffd_msg messages[16];
	long fd = named_fd(), n;
	long flags = RAW(SYS_fcntl, fd, F_GETFL);

	RAW(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
	n = RAW(SYS_read, fd, messages, sizeof(messages));
	RAW(SYS_fcntl, fd, F_SETFL, flags);
	if (n == -EAGAIN)
		n = 0;
	reply(n > 0 ? n / (long)sizeof(messages[0]) : n);
	field("events");
	out_char('[');
	for (long i = 0; i < n / (long)sizeof(messages[0]); i++) {
		out_text(i ? ",[" : "[");
		out_number(messages[i].event);
		out_char(',');
		out_number(messages[i].arg.pagefault.flags);
		out_char(',');
		out_number((int64_t)((messages[i].arg.pagefault.address & ~(PAGE - 1)) - ARENA) / (int64_t)PAGE);
		out_char(']');
	}
	out_char(']');
}
