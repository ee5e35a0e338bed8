/* Child agents: made by fork, spoken to over pipes, gone with their parent. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "agent.h"

#define relayed (buffers->relayed)

static int to_child(const struct child *child)
{
	return FD_CHILDREN + 2 * (child - me->children);
}

struct child *child_find(const char *name)
{
	for (int i = 0; i < MAX_CHILDREN; i++)
		if (me->children[i].text[0] && same(me->children[i].text, name))
			return &me->children[i];
	return NULL;
}

int child_pid(const char *name)
{
	struct child *child = child_find(name);

	if (child)
		return shared->processes[child->slot].pid;
	if (same(name, "self"))
		return me->pid;
	if (same(name, "parent") && me->parent >= 0)
		return shared->processes[me->parent].pid;
	usage("no such child");
}

static struct child *named_child(int busy)
{
	struct child *child = child_find(word(1));

	if (!child)
		usage("no such child");
	if (busy >= 0 && child->busy != busy)
		usage(busy ? "nothing was started in this child" : "this child is busy: wait for it first");
	return child;
}

/* Children die with their parent, but not in the same instant: wait until their memory is gone. */
static void bury_orphans(int slot)
{
	for (int i = 0; i < MAX_PROCESSES; i++) {
		struct process *orphan = &shared->processes[i];

		if (!orphan->alive || orphan->parent != slot)
			continue;
		RAW(SYS_kill, orphan->pid, SIGKILL);
		for (long stop = now_ms() + 1000; now_ms() < stop && status_of(orphan->pid, "VmPin") >= 0;)
			sleep_ms(1);
		orphan->alive = 0;
		bury_orphans(i);
		rings_drop(i);
	}
}

/* After the process has gone: forget it, wait for what its rings release. Returns its wait status. */
static int bury(struct child *child)
{
	int slot = child->slot, status = 0, pid = shared->processes[slot].pid;

	RAW(SYS_wait4, pid, &status, __WALL, 0);
	shared->processes[slot].alive = 0;
	if (shared->lock == pid)
		shared->lock = 0;
	RAW(SYS_close, to_child(child));
	RAW(SYS_close, to_child(child) + 1);
	child->text[0] = 0;
	bury_orphans(slot);
	rings_drop(slot);
	return status;
}

static void reply_gone(struct child *child, const char *how)
{
	int status = bury(child);

	reply_text(how);
	field_number("status", status);
}

static int depth(void)
{
	int n = 0;

	for (int slot = me->parent; slot >= 0 && n < MAX_PROCESSES; slot = shared->processes[slot].parent)
		n++;
	return n;
}

/* One line of the child's: relayed (show) or thrown away. A parent waits longer than its child does. */
static void relay(struct child *child, int show)
{
	int fd = to_child(child) + 1, wait = depth() < 4 ? 5000 - 1000 * depth() : 1000;
	size_t used = 0;

	for (;;) {
		struct pollfd poll = { fd, POLLIN, 0 };
		long n = RAW(SYS_poll, &poll, 1, wait);

		if (n == 0) {
			RAW(SYS_kill, shared->processes[child->slot].pid, SIGKILL);
			reply_gone(child, "HUNG");
			return;
		}
		n = RAW(SYS_read, fd, relayed + used, sizeof(relayed) - used);
		if (n <= 0) {
			reply_gone(child, "DIED");
			return;
		}
		used += n;
		if (relayed[used - 1] == '\n') {
			child->busy = 0;
			/* Without the closing brace and the end of line, which the caller adds. */
			if (show)
				out_bytes(relayed, used - 2);
			return;
		}
		if (used == sizeof(relayed)) {
			if (show)
				out_bytes(relayed, used - 2);
			memmove(relayed, relayed + used - 2, 2);
			used = 2;
		}
	}
}

static void become_child(int slot, int in, int out_end)
{
	long mapped;

	my_slot = slot;
	me = &shared->processes[slot];
	me->pid = RAW(SYS_getpid);
	/* The agent's own mappings are not for the program's limits to refuse. */
	limits_lift();
	mapped = map_buffers();
	limits_return();
	if (failed(mapped))
		RAW(SYS_exit_group, 5);
	RAW(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	RAW(SYS_dup3, in, 0, 0);
	RAW(SYS_dup3, out_end, 1, 0);
	RAW(SYS_close, in);
	RAW(SYS_close, out_end);
	RAW(SYS_close_range, FD_CHILDREN, FD_END, 0);
	close_lock();
	handler_forget();
	open_proc();
	prefault();
	rebase_child();
	out_text("{}\n");
	out_flush();
}

void cmd_fork(void)
{
	const char *name = word(1);
	int index = 0, slot = 0, down[2], up[2];
	struct process *process;
	long pid;

	name_check(name);
	if (strlen(name) > 8 || same(name, "self") || same(name, "parent"))
		usage("a child's name has at most 8 characters and is not self or parent");
	if (child_find(name))
		usage("there is a child of this name");
	while (index < MAX_CHILDREN && me->children[index].text[0])
		index++;
	while (slot < MAX_PROCESSES && shared->processes[slot].alive)
		slot++;
	if (index == MAX_CHILDREN || slot == MAX_PROCESSES)
		usage("too many children");
	RAW(SYS_pipe2, down, 0);
	RAW(SYS_pipe2, up, 0);
	process = &shared->processes[slot];
	*process = *me;
	memset(process->children, 0, sizeof(process->children));
	process->parent = my_slot;
	process->order = ++shared->next_order;
	process->alive = 1;
	out_flush();
	pid = RAW(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		RAW(SYS_close, down[1]);
		RAW(SYS_close, up[0]);
		become_child(slot, down[0], up[1]);
		fresh_child = 1;
		return;
	}
	RAW(SYS_close, down[0]);
	RAW(SYS_close, up[1]);
	if (failed(pid)) {
		process->alive = 0;
		RAW(SYS_close, down[1]);
		RAW(SYS_close, up[0]);
		reply(pid);
		return;
	}
	process->pid = pid;
	strcpy(me->children[index].text, name);
	me->children[index].slot = slot;
	me->children[index].busy = 0;
	RAW(SYS_dup3, down[1], FD_CHILDREN + 2 * index, 0);
	RAW(SYS_dup3, up[0], FD_CHILDREN + 2 * index + 1, 0);
	RAW(SYS_close, down[1]);
	RAW(SYS_close, up[0]);
	rings_inherit(slot);
	relay(&me->children[index], 0);
	/* The fork made the agent's own memory copy-on-write: copy it now, not during some later step. */
	prefault();
	observe_no_faults();
	if (child_find(name))
		reply(0);
}

/* The rest of the line, words joined again. */
static size_t rest_of_line(char *into, size_t room)
{
	size_t used = 0;

	if (nwords < 3)
		usage("a command for the child is missing");
	for (int i = 2; i < nwords; i++) {
		size_t n = strlen(words[i]);

		if (used + n + 2 > room)
			usage("the line is too long");
		memcpy(into + used, words[i], n);
		used += n;
		into[used++] = i + 1 < nwords ? ' ' : '\n';
	}
	return used;
}

static int forward(struct child *child)
{
	size_t n = rest_of_line(relayed, LINE_BYTES);

	return RAW(SYS_write, to_child(child), relayed, n) == (long)n;
}

void cmd_child(void)
{
	struct child *child = named_child(0);

	if (forward(child))
		relay(child, 1);
	else
		reply_gone(child, "DIED");
}

void cmd_start(void)
{
	struct child *child = named_child(0);

	if (!forward(child)) {
		reply_gone(child, "DIED");
		return;
	}
	child->busy = 1;
	reply(0);
}

void cmd_wait(void)
{
	relay(named_child(1), 1);
}

void cmd_reap(void)
{
	struct child *child = named_child(0);
	int status;

	RAW(SYS_write, to_child(child), "quit\n", 5);
	status = bury(child);
	reply(0);
	field_number("status", status);
}

void cmd_kill(void)
{
	struct child *child = named_child(-1);
	long number = number_word(2), result;
	int status;

	/* Signals the child survives would leave this process waiting for ever. */
	if (number != SIGKILL && number != SIGTERM && number != SIGHUP && number != SIGUSR1)
		usage("kill knows the signals 1, 9, 10 and 15");
	result = RAW(SYS_kill, shared->processes[child->slot].pid, number);
	status = bury(child);
	reply(result);
	field_number("status", status);
}

/* Every other agent process, grandchildren too: they are this process's to wait for (child subreaper). */
void kill_everyone(void)
{
	for (int i = 0; i < MAX_PROCESSES; i++) {
		if (i == my_slot || !shared->processes[i].alive)
			continue;
		RAW(SYS_kill, shared->processes[i].pid, SIGKILL);
		shared->processes[i].alive = 0;
	}
	while (!failed(RAW(SYS_wait4, -1, 0, __WALL, 0)))
		;
	memset(me->children, 0, sizeof(me->children));
	RAW(SYS_close_range, FD_CHILDREN, FD_END, 0);
	shared->lock = 0;
}

static char *const environment[] = { "PINSCOPE=agent", NULL };

static void prepare_exec(int kind)
{
	shared->executing = my_slot + 1;
	shared->exec_kind = kind;
	me->execs++;
	keep_input();
	out_flush();
}

void exec_plain(void)
{
	static char *const arguments[] = { "pinscope-agent", NULL };

	RAW(SYS_execve, "/proc/self/exe", arguments, environment);
	RAW(SYS_exit_group, 4);
}

/* A new image of this agent. What must survive lies in shared memory; the next image answers. */
void exec_again(int kind)
{
	prepare_exec(kind);
	exec_plain();
}

/* The rings go with the image. Returns whether they leave pages to wait for. */
static int rings_leave(void)
{
	int waits = 0;

	for (int i = 0; i < MAX_SHARED_RINGS; i++) {
		struct shared_ring *ring = &shared->rings[i];

		if (!ring->used)
			continue;
		/* Whom its pages are charged to has no address space any more that would tell, whoever holds it. */
		if (ring->creator == my_slot)
			ring->loose = 1;
		if (!(ring->holders >> my_slot & 1))
			continue;
		ring->holders &= ~(1UL << my_slot);
		if (!ring->holders) {
			waits |= ring->pinned || ring->loose;
			ring->used = 0;
		}
	}
	for (int i = 0; i < MAX_RINGS; i++)
		if (rings[i].text[0])
			name_forget(rings[i].text);
	return waits;
}

#define MOST_ARGUMENTS (1UL << 20)
#define MOST_LETTERS (1UL << 20)

/*
 * execve with COUNT arguments of LENGTH letters and one of LAST, under a soft RLIMIT_STACK of STACK bytes. The image
 * they are for replaces itself at once. Refused, everything is as it was.
 */
static void exec_with_arguments(void)
{
	uint64_t count = number_word(1), length = number_word(2), last = number_word(3);
	uint64_t stack[2] = { number_word(4), shared->limits[RLIMIT_STACK][1] };
	uint64_t longest = length > last ? length : last, bytes;
	struct kept {
		struct shared_ring rings[MAX_SHARED_RINGS];
		struct name names[MAX_NAMES];
		char *arguments[];
	} *kept;
	char *letters;
	long result;

	if (count > MOST_ARGUMENTS || longest > MOST_LETTERS)
		usage("too many arguments");
	if (handler_serves())
		usage("exec with arguments while a userfaultfd is served here");
	limits_lift();
	bytes = sizeof(*kept) + (count + 3) * sizeof(char *) + longest + 1;
	kept = (struct kept *)RAW(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (failed((long)kept)) {
		limits_return();
		usage("no memory for the arguments");
	}
	memcpy(kept->rings, shared->rings, sizeof(kept->rings));
	memcpy(kept->names, me->names, sizeof(kept->names));
	letters = (char *)(kept->arguments + count + 3);
	memset(letters, 'x', longest);
	kept->arguments[0] = "pinscope-agent";
	for (uint64_t i = 1; i <= count; i++)
		kept->arguments[i] = letters + longest - length;
	kept->arguments[count + 1] = letters + longest - last;
	prepare_exec(rings_leave() ? 3 : 2);
	result = RAW(SYS_prlimit64, 0, RLIMIT_STACK, stack, 0);
	if (!failed(result))
		result = RAW(SYS_execve, "/proc/self/exe", kept->arguments, environment);
	shared->executing = 0;
	shared->pending = 0;
	memcpy(shared->rings, kept->rings, sizeof(kept->rings));
	memcpy(me->names, kept->names, sizeof(kept->names));
	RAW(SYS_munmap, kept, bytes);
	limits_return();
	observe_no_faults();
	reply(result);
}

void cmd_exec(void)
{
	if (nwords > 1) {
		exec_with_arguments();
		return;
	}
	handler_stop();
	limits_lift();
	exec_again(rings_leave() ? 3 : 2);
}
