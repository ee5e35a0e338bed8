/*
 * The oracle agent: executes steps on the running kernel and reports what can be seen of them. Started twice:
 * the first image reads the options and fixes the address space, the second one, which has a constant argument
 * vector, environment and layout, does the work. docs/oracle-protocol.md is its manual.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "agent.h"

struct shared *const shared = (struct shared *)SHARED_AT;
struct buffers *const buffers = (struct buffers *)BUFFERS_AT;
struct process *me;
int my_slot, fresh_child;
/* Spent waiting for somebody else since the last reset. */
long idle_us;
__typeof__(probes) probes;

static const char magic[16] = "pinscope-agent1";
static char input[INPUT_BYTES];
static size_t input_used, input_at;

enum { UNSEEN, SEEN, LOOKED, RELAYED };

static const struct {
	const char *name;
	command *run;
	int kind;
} commands[] = {
	{ "sys", cmd_sys, SEEN },
	{ "poke", cmd_poke, SEEN },
	{ "peek", cmd_peek, SEEN },
	{ "touch", cmd_touch, SEEN },
	{ "fill", cmd_fill, SEEN },
	{ "sum", cmd_sum, SEEN },
	{ "put", cmd_put, UNSEEN },
	{ "get", cmd_get, UNSEEN },
	{ "let", cmd_let, UNSEEN },
	{ "child", cmd_child, RELAYED },
	{ "fork", cmd_fork, SEEN },
	{ "reap", cmd_reap, SEEN },
	{ "kill", cmd_kill, SEEN },
	{ "start", cmd_start, UNSEEN },
	{ "wait", cmd_wait, RELAYED },
	{ "exec", cmd_exec, SEEN },
	{ "memfd", cmd_memfd, SEEN },
	{ "secret", cmd_secret, SEEN },
	{ "open", cmd_open, SEEN },
	{ "fdfill", cmd_fdfill, SEEN },
	{ "fdsum", cmd_fdsum, SEEN },
	{ "fdpages", cmd_fdpages, SEEN },
	{ "pipe", cmd_pipe, SEEN },
	{ "vmsplice", cmd_vmsplice, SEEN },
	{ "drain", cmd_drain, SEEN },
	{ "feed", cmd_feed, SEEN },
	{ "sockets", cmd_sockets, SEEN },
	{ "stall", cmd_stall, SEEN },
	{ "flow", cmd_flow, SEEN },
	{ "close", cmd_close, SEEN },
	{ "ring", cmd_ring, SEEN },
	{ "reg", cmd_reg, SEEN },
	{ "bufs", cmd_bufs, SEEN },
	{ "bufs2", cmd_bufs2, SEEN },
	{ "upd", cmd_upd, SEEN },
	{ "upd2", cmd_upd2, SEEN },
	{ "unreg", cmd_unreg, SEEN },
	{ "clone", cmd_clone, SEEN },
	{ "pbuf", cmd_pbuf, SEEN },
	{ "unpbuf", cmd_unpbuf, SEEN },
	{ "sqe", cmd_sqe, SEEN },
	{ "submit", cmd_submit, SEEN },
	{ "cqes", cmd_cqes, SEEN },
	{ "pvm", cmd_pvm, SEEN },
	{ "mem", cmd_mem, SEEN },
	{ "ptrace", cmd_ptrace, SEEN },
	{ "uffd", cmd_uffd, SEEN },
	{ "uffd-orphan", cmd_uffd_orphan, SEEN },
	{ "uffd-reg", cmd_uffd_reg, SEEN },
	{ "uffd-unreg", cmd_uffd_unreg, SEEN },
	{ "uffd-do", cmd_uffd_do, SEEN },
	{ "uffd-handler", cmd_uffd_handler, SEEN },
	{ "uffd-read", cmd_uffd_read, SEEN },
	{ "xdp", cmd_xdp, SEEN },
	{ "xdp-socket", cmd_xdp_socket, SEEN },
	{ "xdp-reg", cmd_xdp_reg, SEEN },
	{ "ksm", cmd_ksm, SEEN },
	{ "limit", cmd_limit, SEEN },
	{ "room", cmd_room, SEEN },
	{ "heap", cmd_heap, SEEN },
	{ "shm", cmd_shm, SEEN },
	{ "shm-key", cmd_shm_key, SEEN },
	{ "nattch", cmd_nattch, SEEN },
	{ "cap", cmd_cap, SEEN },
	{ "nop", cmd_nop, SEEN },
	{ "look", cmd_nop, LOOKED },
	{ "settle", cmd_settle, SEEN },
	{ "lock", cmd_lock, UNSEEN },
	{ "unlock", cmd_unlock, UNSEEN },
	{ "obs", cmd_obs, UNSEEN },
	{ "maps", cmd_maps, UNSEEN },
	{ "hello", cmd_hello, UNSEEN },
	{ "reset", cmd_reset, UNSEEN },
	{ "quit", cmd_quit, UNSEEN },
};

static void finish_reply(int kind)
{
	if (kind == SEEN || kind == LOOKED)
		observe_handler();
	if (kind == SEEN)
		observe();
	else if (kind == LOOKED)
		look();
	out_text("}\n");
}

void run_line(char *line, size_t n)
{
	int found;
	static int which;


	if (n && line[n - 1] == '\r')
		n--;
	line[n] = 0;
	which = -1;
	found = n < LINE_BYTES ? split(line) : -1;
	if (found == 0)
		return;
	for (size_t i = 0; found > 0 && i < sizeof(commands) / sizeof(*commands); i++)
		if (same(commands[i].name, words[0]))
			which = i;
	if (sigsetjmp(usage_jump, 0)) {
		finish_reply(UNSEEN);
		return;
	}
	if (which < 0)
		usage(found < 0 ? "the line is too long" : "unknown command");
	/* Only what is written is known when a step ends the agent, or never ends (R-AG-13). */
	if (commands[which].kind != UNSEEN)
		out_flush();
	if (commands[which].kind == SEEN)
		observe_begin();
	commands[which].run();
	if (!fresh_child)
		finish_reply(commands[which].kind);
}

/* Lines already read belong to the next image. */
void keep_input(void)
{
	shared->pending = input_used - input_at;
	memcpy(shared->input, input + input_at, shared->pending);
}

static _Noreturn void serve(void)
{
	for (;;) {
		char *end;
		long n;

		while ((end = memchr(input + input_at, '\n', input_used - input_at))) {
			char *line = input + input_at;

			input_at = end + 1 - input;
			run_line(line, end - line);
			if (fresh_child)
				fresh_child = input_used = input_at = 0;
		}
		out_flush();
		if (input_at) {
			memmove(input, input + input_at, input_used - input_at);
			input_used -= input_at;
			input_at = 0;
		}
		if (input_used == sizeof(input)) {
			/* No line is that long: answer once and go on after its end. */
			run_line(input, LINE_BYTES);
			input_used = 0;
		}
		idle_us -= now_us();
		n = RAW(SYS_read, 0, input + input_used, sizeof(input) - input_used);
		idle_us += now_us();
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0) {
			/* Nobody is there any more: leave nothing behind. A virtio port would block the reply. */
			if (shared->config.pid1)
				RAW(SYS_exit_group, 0);
			split(strcpy(input, "quit"));
			cmd_quit();
		}
		input_used += n;
	}
}

static uint64_t option_number(const char *value)
{
	uint64_t v;

	if (same(value, "unlimited"))
		return RLIM_INFINITY;
	if (!text_to_number(value, strlen(value), &v))
		RAW(SYS_exit_group, 2);
	return v;
}

static void take_option(struct config *config, const char *name, const char *value)
{
	if (same(name, "thp")) {
		config->thp = 1;
	} else if (!value) {
		RAW(SYS_exit_group, 2);
	} else if (same(name, "arena-pages")) {
		config->pages = option_number(value);
	} else if (same(name, "memlock")) {
		config->memlock = option_number(value);
	} else if (same(name, "cpu")) {
		config->cpu = option_number(value);
	} else if (same(name, "pool")) {
		config->pool = option_number(value);
	} else if (same(name, "stack")) {
		config->stack = option_number(value);
	} else if ((same(name, "disk") || same(name, "tmp") || same(name, "lock")) &&
		   strlen(value) < sizeof(config->disk)) {
		strcpy(same(name, "disk") ? config->disk : same(name, "tmp") ? config->tmp : config->lock, value);
	} else {
		RAW(SYS_exit_group, 2);
	}
}

/* `pinscope.NAME=VALUE` on the kernel's command line. */
static void options_of_kernel(struct config *config)
{
	static char line[4096];
	char *at = line;

	read_file("/proc/cmdline", line, sizeof(line));
	while ((at = strstr(at, "pinscope."))) {
		char *name = at + 9, *value;
		size_t n = strcspn(name, " \n");
		int last = !name[n];

		name[n] = 0;
		value = strchr(name, '=');
		if (value)
			*value++ = 0;
		/* init.c has taken these. */
		if (!same(name, "hugepages") && !same(name, "swap") && !same(name, "console"))
			take_option(config, name, value);
		if (last)
			return;
		at = name + n + 1;
	}
}

static void soft_limit(int resource, uint64_t wanted)
{
	struct rlimit limit;

	RAW(SYS_prlimit64, 0, resource, 0, &limit);
	limit.rlim_cur = wanted;
	if (wanted > limit.rlim_max)
		limit.rlim_max = wanted;
	if (failed(RAW(SYS_prlimit64, 0, resource, &limit, 0))) {
		RAW(SYS_prlimit64, 0, resource, 0, &limit);
		limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
		RAW(SYS_prlimit64, 0, resource, &limit, 0);
	}
}

/* Per-processor state (batches of pages) must not depend on where the scheduler puts the agent. */
static void stay(int cpu)
{
	cpu_set_t set;
	unsigned here = 0;

	if (cpu < 0)
		RAW(SYS_getcpu, &here, 0, 0);
	CPU_ZERO(&set);
	CPU_SET(cpu < 0 ? (int)here : cpu, &set);
	RAW(SYS_sched_setaffinity, 0, sizeof(set), &set);
}

static long map_shared(void)
{
	return RAW(SYS_mmap, SHARED_AT, sizeof(struct shared), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED_NOREPLACE, FD_SHARED, 0);
}

static void first_image(int argc, char **argv)
{
	static struct config config = { .pages = 64, .memlock = 8 << 20, .stack = 8 << 20, .cpu = -1, .pool = -1 };
	long fd;

	if (RAW(SYS_getpid) == 1) {
		config.pid1 = 1;
		strcpy(config.tmp, "/run");
		init_as_first();
		if (!failed(RAW(SYS_access, "/disk/lost+found", 0)))
			strcpy(config.disk, "/disk");
		options_of_kernel(&config);
		leave_first();
	}
	for (int i = 1; i < argc && !config.pid1; i++) {
		int plain = same(argv[i], "--thp");

		if (strncmp(argv[i], "--", 2) != 0)
			RAW(SYS_exit_group, 2);
		take_option(&config, argv[i] + 2, plain ? NULL : i + 1 < argc ? argv[i + 1] : NULL);
		i += !plain;
	}
	if (config.pages < 1 || config.pages > 1UL << 22)
		RAW(SYS_exit_group, 2);
	fd = RAW(SYS_memfd_create, "agent", 0);
	if (failed(fd) || failed(RAW(SYS_ftruncate, fd, sizeof(struct shared))))
		RAW(SYS_exit_group, 5);
	RAW(SYS_dup3, fd, FD_SHARED, 0);
	RAW(SYS_close, fd);
	RAW(SYS_close_range, FD_SHARED + 1, ~0U, 0);
	if (failed(map_shared()))
		RAW(SYS_exit_group, 5);
	memcpy(shared->magic, magic, sizeof(magic));
	shared->config = config;
	me = &shared->processes[0];
	me->alive = 1;
	me->parent = -1;
	me->order = shared->next_order = 1;
	soft_limit(RLIMIT_STACK, config.stack);
	soft_limit(RLIMIT_MEMLOCK, config.memlock);
	RAW(SYS_umask, 0);
	stay(config.cpu);
	personality_reset();
	exec_again(0);
}

static void second_image(void)
{
	int kind = shared->exec_kind;

	my_slot = shared->executing - 1;
	me = &shared->processes[my_slot];
	me->pid = RAW(SYS_getpid);
	shared->executing = 0;
	input_used = shared->pending;
	memcpy(input, shared->input, input_used);
	shared->pending = 0;
	if (kind == 0)
		RAW(SYS_close_range, 3, FD_SHARED - 1, 0);
	open_proc();
	if (kind == 0)
		open_lock();
	open_at(FD_DISK, shared->config.disk, O_RDONLY | O_DIRECTORY);
	open_at(FD_TMP, shared->config.tmp, O_RDONLY | O_DIRECTORY);
	if (me->parent < 0)
		RAW(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	if (!shared->config.thp)
		RAW(SYS_prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0);
	install_handlers();
	if (kind == 0 || kind == 4)
		save_limits();
	/* With a lock the pool is somebody's program's until `lock` is granted. */
	if (kind == 0 && !shared->config.lock[0])
		pool_hold();
	prefault();
	probe();
	remember_mappings();
	if (kind == 2 || kind == 3) {
		rebase_image();
		limits_return();
	} else {
		rebase();
	}
	if (kind == 3)
		settle_released();
	if (kind == 0 && shared->config.pid1)
		out_text("{\"r\":0,\"e\":0,\"ready\":true}\n");
	if (kind >= 2) {
		observe_no_faults();
		reply(0);
		finish_reply(kind != 4 ? SEEN : UNSEEN);
	}
}

int main(int argc, char **argv)
{
	if (failed(map_buffers()))
		RAW(SYS_exit_group, 5);
	if (!same(argv[0], "pinscope-agent") || failed(map_shared()) ||
	    memcmp(shared->magic, magic, sizeof(magic)) != 0)
		first_image(argc, argv);
	/* The image that many arguments were for: the next one is like any other. */
	if (argc > 1) {
		RAW(SYS_prlimit64, 0, RLIMIT_STACK, shared->limits[RLIMIT_STACK], 0);
		exec_plain();
	}
	second_image();
	serve();
}
