/* A heap in the arena, limits relative to what is used, names, personality. */
#define _GNU_SOURCE
#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>

#include "agent.h"

#define PERSONALITY ADDR_NO_RANDOMIZE

/* The resources that an exec of the agent itself must not run into. */
static const int lifted[] = { RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK };
#define NLIFTED ((int)(sizeof(lifted) / sizeof(*lifted)))

static uint64_t start_brk;

/* Fields 26 ... 51 of /proc/self/stat, counted from the state (field 3). */
static int read_stat(uint64_t *fields, int n)
{
	static char line[2048];
	char *at;

	if (read_file("/proc/self/stat", line, sizeof(line)) <= 0 || !(at = strrchr(line, ')')))
		return 0;
	at += 2;
	for (int i = 3; i < n; i++) {
		size_t digits = strcspn(at, " \n");

		fields[i] = 0;
		text_to_number(at, digits, &fields[i]);
		if (!at[digits])
			return i == n - 1;
		at += digits + 1;
	}
	return 1;
}

/* Says that the heap begins and ends elsewhere; nothing is mapped or unmapped. */
static long heap_say(uint64_t start, uint64_t end)
{
	uint64_t f[53];
	struct prctl_mm_map map = { 0 };

	if (!read_stat(f, 52))
		return -1;
	map.start_code = f[26];
	map.end_code = f[27];
	map.start_stack = f[28];
	map.start_data = f[45];
	map.end_data = f[46];
	map.start_brk = start;
	map.brk = end;
	map.arg_start = f[48];
	map.arg_end = f[49];
	map.env_start = f[50];
	map.env_end = f[51];
	map.exe_fd = -1;
	return RAW(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0);
}

void heap_remember(void)
{
	uint64_t f[53];

	start_brk = read_stat(f, 52) ? f[47] : 0;
}

/* Bytes of the data segment, which RLIMIT_DATA counts besides the heap. */
uint64_t data_segment(void)
{
	uint64_t f[53];

	return read_stat(f, 52) ? f[46] - f[45] : 0;
}

/* Back to the agent's own heap. */
void heap_back(uint64_t end)
{
	uint64_t f[53];

	if (start_brk && read_stat(f, 52) && f[47] != start_brk)
		heap_say(start_brk, end);
}

int heap_moves(void)
{
	long end = RAW(SYS_brk, 0);

	return start_brk && !failed(heap_say(start_brk, end));
}

void cmd_heap(void)
{
	uint64_t at = number_word(1), limit[2];
	long result;

	/* The call looks at the size of the data segment, which is the agent's own business. */
	RAW(SYS_prlimit64, 0, RLIMIT_DATA, 0, limit);
	RAW(SYS_prlimit64, 0, RLIMIT_DATA, shared->limits[RLIMIT_DATA], 0);
	result = heap_say(at, at);
	RAW(SYS_prlimit64, 0, RLIMIT_DATA, limit, 0);
	reply(result);
}

void cmd_room(void)
{
	uint64_t resource = number_word(1), room = number_word(2);
	struct rlimit limit;
	long used, result = RAW(SYS_prlimit64, 0, resource, 0, &limit);

	if (resource != RLIMIT_AS && resource != RLIMIT_DATA)
		usage("room knows the resources 9 (AS) and 2 (DATA)");
	used = status_of(RAW(SYS_getpid), resource == RLIMIT_AS ? "VmSize" : "VmData");
	limit.rlim_cur = used * 1024 + room;
	if (!failed(result))
		result = RAW(SYS_prlimit64, 0, resource, &limit, 0);
	reply(result);
}

/* The program's limits wait while the agent starts anew. */
void limits_lift(void)
{
	for (int i = 0; i < NLIFTED; i++) {
		RAW(SYS_prlimit64, 0, lifted[i], 0, me->limits[i]);
		RAW(SYS_prlimit64, 0, lifted[i], shared->limits[lifted[i]], 0);
	}
}

void limits_return(void)
{
	for (int i = 0; i < NLIFTED; i++)
		RAW(SYS_prlimit64, 0, lifted[i], me->limits[i], 0);
}

void personality_reset(void)
{
	RAW(SYS_personality, PERSONALITY);
}

int names_known(void)
{
	static char page[PAGE] __attribute__((aligned(4096)));

	return !failed(RAW(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, page, PAGE, 0));
}
