/* The observation after a step: mappings, sizes and whatever the level adds (R-AG-4). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/resource.h>

#include "agent.h"

static long faults_before;

uint64_t arena_end(void)
{
	return ARENA + shared->config.pages * PAGE;
}

int arena_overlaps(const struct mapping *mapping)
{
	return mapping->start < arena_end() && mapping->end > ARENA;
}

/* Two agent processes may look at the same time when one of them was started without waiting. */
void lock_shared(void)
{
	int nobody = 0;

	while (!__atomic_compare_exchange_n(&shared->lock, &nobody, me->pid, 0, __ATOMIC_ACQUIRE,
					    __ATOMIC_RELAXED)) {
		if (failed(RAW(SYS_kill, nobody, 0)))
			__atomic_compare_exchange_n(&shared->lock, &nobody, 0, 0, __ATOMIC_RELAXED,
						    __ATOMIC_RELAXED);
		nobody = 0;
		RAW(SYS_sched_yield);
	}
}

void unlock_shared(void)
{
	__atomic_store_n(&shared->lock, 0, __ATOMIC_RELEASE);
}

static int file_id(const struct mapping *mapping)
{
	int i;

	if (!mapping->inode)
		return 0;
	for (i = 0; i < shared->nfiles; i++)
		if (shared->files[i].device == mapping->device && shared->files[i].inode == mapping->inode)
			return i + 1;
	if (i == MAX_FILES)
		return -1;
	shared->files[i].device = mapping->device;
	shared->files[i].inode = mapping->inode;
	shared->nfiles++;
	return i + 1;
}

static void show_mapping(char *line, size_t n, void *first)
{
	struct mapping mapping;

	if (!parse_mapping(line, n, &mapping) || !arena_overlaps(&mapping))
		return;
	out_text(*(int *)first ? "[" : ",[");
	*(int *)first = 0;
	out_number((int64_t)(mapping.start - ARENA) / (int64_t)PAGE);
	out_char(',');
	out_number((int64_t)(mapping.end - ARENA) / (int64_t)PAGE);
	out_text(",\"");
	out_text(mapping.perms);
	out_text("\",");
	out_number(mapping.offset / PAGE);
	out_char(',');
	out_number(file_id(&mapping));
	out_char(',');
	out_mapping_name(&mapping);
	out_char(']');
}

static long page_faults(void)
{
	struct rusage use;

	RAW(SYS_getrusage, RUSAGE_SELF, &use);
	return use.ru_minflt + use.ru_majflt;
}

/*
 * New and unlocked pages wait in per-processor batches, during which their flags and reference counts are those of
 * another moment (R-AG-9). MADV_COLD, here on a page of the agent's own, empties this processor's batches; the
 * agent never leaves its processor.
 */
static void drain_batches(void)
{
	static char page[PAGE] __attribute__((aligned(PAGE)));
	long fd;

	if (!failed(RAW(SYS_madvise, page, PAGE, 20)))
		return;
	/* After mlockall there is no memory to advise about; sealing a file looks for its pinned pages, and so does it. */
	fd = RAW(SYS_memfd_create, "batches", MFD_ALLOW_SEALING);
	if (failed(fd))
		return;
	RAW(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_WRITE);
	RAW(SYS_close, fd);
}

/* The command in hand made the agent itself fault: its own faults say nothing about the program. */
void observe_no_faults(void)
{
	faults_before = -1;
}

/* Before the command: what is reported as a difference. */
void observe_begin(void)
{
	if (me->level < 2)
		forget_all();
	if (me->level >= 4)
		faults_before = page_faults();
}

static void observe_pins(long faults)
{
	long acquired, released;

	if (!me->nopins && pin_counters(&acquired, &released)) {
		field_number("acq", acquired - shared->acquired);
		field_number("rel", released - shared->released);
		shared->acquired = acquired;
		shared->released = released;
	}
	if (faults >= 0)
		field_number("flt", faults);
}

static void show(int looking)
{
	struct status now;
	int first = 1;

	/* smaps repeats the lines of maps. */
	if (read_arena(me->level >= 5 ? FD_SMAPS : FD_MAPS) < 0)
		proc_text[0] = 0;
	field("maps");
	out_char('[');
	for_each_line(show_mapping, &first);
	out_char(']');
	if (me->level >= 5)
		observe_smaps();
	read_status(&now);
	field_number("size", now.size - me->base.size);
	field_number("lck", now.lck - me->base.lck);
	field_number("pin", now.pin - me->base.pin);
	field_number("swap", now.swap - me->base.swap);
	field("rss");
	if (probes.rss) {
		for (int i = 0; i < 3; i++) {
			out_char(i ? ',' : '[');
			out_number(now.rss[i] - me->base.rss[i]);
		}
		out_char(']');
	} else {
		out_text("null");
	}
	if (me->level >= 2)
		observe_pages(looking);
	if (me->level >= 5)
		observe_rings();
}

void observe(void)
{
	long faults = faults_before < 0 || me->level < 4 ? -1 : page_faults() - faults_before;

	if (me->level < 1)
		return;
	drain_batches();
	lock_shared();
	show(0);
	if (me->level >= 4) {
		observe_pins(faults);
		observe_pool();
	}
	unlock_shared();
}

/* What another process's command left here: it has just looked at everything and counted the pins. */
void look(void)
{
	if (me->level < 1)
		return;
	lock_shared();
	show(1);
	unlock_shared();
}
