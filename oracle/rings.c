/* Rings: set up, mapped outside the arena, closed and waited for. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <time.h>

#include "agent.h"

#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

struct ring rings[MAX_RINGS];

struct ring *ring_find(const char *name)
{
	for (int i = 0; i < MAX_RINGS; i++)
		if (rings[i].text[0] && same(rings[i].text, name))
			return &rings[i];
	return NULL;
}

long now_us(void)
{
	struct timespec now;

	RAW(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

long now_ms(void)
{
	return now_us() / 1000;
}

void sleep_ms(long ms)
{
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };

	RAW(SYS_nanosleep, &pause, 0);
}

/*
 * Until nothing has moved for 40 ms; where only VmPin is to be seen, a little longer. With nothing of the agent's own
 * left, the machine must come back to what it had pinned before: on a busy one that takes longer, and somebody else
 * may have pinned something for good in the meantime.
 */
static void settle_down(int to_nothing)
{
	long quiet = !probes.refresh ? 80 : to_nothing ? 400 : 40;
	long acquired = 0, released = 0, pin, last = -1, since = now_ms(), stop = since + 2000;
	struct status status;

	for (;;) {
		read_status(&status);
		pin = status.pin;
		if (pin_counters(&acquired, &released)) {
			/* The machine has no more pages pinned than before: there is nothing to wait for. */
			if (to_nothing && pin == 0 && acquired - released == shared->outstanding)
				return;
			pin += acquired - released;
		}
		if (pin != last)
			since = now_ms();
		last = pin;
		if (now_ms() - since >= quiet || now_ms() >= stop)
			return;
		sleep_ms(to_nothing ? 1 : 2);
	}
}

void settle(void)
{
	settle_down(0);
}

/* Every ring and socket is closed: until all of their pages are released. */
void settle_all(void)
{
	settle_down(1);
}

/* Some ring nobody holds any more is released: to nothing where it was the last one. */
void settle_released(void)
{
	int used = 0;

	for (int i = 0; i < MAX_SHARED_RINGS; i++)
		used |= shared->rings[i].used;
	settle_down(!used);
}

/*
 * The memory of a ring is charged to the user until some time after its end, and nothing shows an ordinary user how
 * much that is: what fails for want of it is tried again for a while. Says whether to, after a pause.
 */
int charge_may_go(long result)
{
	int charged = !(shared->effective >> CAP_IPC_LOCK & 1);

	if (result != -ENOMEM || !charged || !shared->ring_gone || now_ms() - shared->ring_gone > 300)
		return 0;
	sleep_ms(5);
	return 1;
}

long creator_pin(int creator)
{
	struct status status;

	if (creator != my_slot)
		return shared->processes[creator].alive ? status_of(shared->processes[creator].pid, "VmPin") : -1;
	read_status(&status);
	return status.pin;
}

/* A ring nobody holds any more lets go of its buffers from a work item: wait for it (R-AG-10). */
void settle_ring(int index)
{
	struct shared_ring *ring = &shared->rings[index];
	long others = 0, stop = now_ms() + 2000, pin;

	ring->used = 0;
	shared->ring_gone = now_ms();
	if (ring->loose) {
		settle();
		return;
	}
	if (ring->pinned <= 0)
		return;
	for (int i = 0; i < MAX_SHARED_RINGS; i++)
		if (shared->rings[i].used && shared->rings[i].creator == ring->creator)
			others += shared->rings[i].pinned;
	for (;;) {
		pin = creator_pin(ring->creator);
		if (pin < 0) {
			settle();
			return;
		}
		if (pin <= others || now_ms() >= stop)
			return;
		sleep_ms(1);
	}
}

/* Lets go of the buffers at once instead of some time after the end (R-AG-10). Returns whether a ring may not. */
int rings_release(void)
{
	int refused = 0;

	for (int i = 0; i < MAX_RINGS; i++)
		if (rings[i].text[0])
			refused |= unregister_buffers(&rings[i]) == -EACCES;
	return refused;
}

int ring_close(struct ring *ring)
{
	struct status before;
	int index = ring->shared, result;

	absorb_begin(&before);
	if (ring->queues)
		RAW(SYS_munmap, ring->queues, ring->queues_bytes);
	if (ring->sqes)
		RAW(SYS_munmap, ring->sqes, ring->sqes_bytes);
	absorb_end(&before);
	result = RAW(SYS_close, ring->fd);
	memset(ring, 0, sizeof(*ring));
	shared->rings[index].holders &= ~(1UL << my_slot);
	if (!shared->rings[index].holders)
		settle_ring(index);
	return result;
}

void rings_inherit(int child)
{
	for (int i = 0; i < MAX_SHARED_RINGS; i++)
		if (shared->rings[i].used && (shared->rings[i].holders >> my_slot & 1))
			shared->rings[i].holders |= 1UL << child;
}

/* The process in this slot is gone, or is about to exec, and its rings with it. Returns kB that may be released. */
long rings_drop(int slot)
{
	long pinned = 0;

	for (int i = 0; i < MAX_SHARED_RINGS; i++) {
		if (!shared->rings[i].used || !(shared->rings[i].holders >> slot & 1))
			continue;
		shared->rings[i].holders &= ~(1UL << slot);
		if (shared->rings[i].holders)
			continue;
		pinned += shared->rings[i].pinned;
		settle_ring(i);
	}
	return pinned;
}

static void map_queues(struct ring *ring, struct io_uring_params *params)
{
	struct status before;
	size_t sq = params->sq_off.array + params->sq_entries * 4;
	size_t cqe_bytes = params->flags & IORING_SETUP_CQE32 ? 32 : 16;
	size_t cq = params->cq_off.cqes + params->cq_entries * cqe_bytes;
	long at;

	ring->queues_bytes = sq > cq ? sq : cq;
	ring->sqes_bytes = params->sq_entries * (params->flags & IORING_SETUP_SQE128 ? 128 : 64);
	absorb_begin(&before);
	at = RAW(SYS_mmap, 0, ring->queues_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
		 IORING_OFF_SQ_RING);
	if (!failed(at)) {
		char *base = (char *)at;

		ring->queues = base;
		ring->sq_head = (unsigned *)(base + params->sq_off.head);
		ring->sq_tail = (unsigned *)(base + params->sq_off.tail);
		ring->sq_mask = (unsigned *)(base + params->sq_off.ring_mask);
		ring->sq_array = params->flags & IORING_SETUP_NO_SQARRAY ? NULL :
								   (unsigned *)(base + params->sq_off.array);
		ring->cq_head = (unsigned *)(base + params->cq_off.head);
		ring->cq_tail = (unsigned *)(base + params->cq_off.tail);
		ring->cq_mask = (unsigned *)(base + params->cq_off.ring_mask);
		ring->cqes = (unsigned char *)base + params->cq_off.cqes;
		at = RAW(SYS_mmap, 0, ring->sqes_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			 ring->fd, IORING_OFF_SQES);
		if (!failed(at))
			ring->sqes = (unsigned char *)at;
	}
	absorb_end(&before);
}

void cmd_ring(void)
{
	const char *name = word(1);
	struct io_uring_params params = { 0 };
	struct ring *ring = NULL;
	int index = 0;
	long fd;

	name_check(name);
	if (ring_find(name))
		usage("there is a ring of this name");
	for (int i = 0; i < MAX_RINGS && !ring; i++)
		if (!rings[i].text[0])
			ring = &rings[i];
	while (index < MAX_SHARED_RINGS && shared->rings[index].used)
		index++;
	if (!ring || index == MAX_SHARED_RINGS)
		usage("too many rings");
	params.flags = number_word_or(3, 0);
	do
		fd = RAW(SYS_io_uring_setup, number_word(2), &params);
	while (charge_may_go(fd));
	if (!failed(fd)) {
		name_store(name, fd);
		memset(ring, 0, sizeof(*ring));
		strcpy(ring->text, name);
		ring->fd = fd;
		ring->shared = index;
		ring->flags = params.flags;
		ring->sq_entries = params.sq_entries;
		ring->cq_entries = params.cq_entries;
		shared->rings[index] = (struct shared_ring){ 1, my_slot, 1UL << my_slot, 0, 0, 0 };
		map_queues(ring, &params);
	}
	reply(fd);
	if (!failed(fd))
		field_number("features", params.features);
}
