/* Submission and completion of io_uring requests. */
#include <linux/io_uring.h>
#include <linux/time_types.h>

#include "agent.h"

static struct ring *mapped_ring(void)
{
	struct ring *ring = ring_find(word(1));

	if (!ring)
		usage("no ring of this name");
	if (!ring->sqes)
		usage("this ring's queues are not mapped");
	return ring;
}

/* What waits in the queue, which parent and child share: an entry that was refused to one, the other submits. */
static unsigned queued(struct ring *ring)
{
	return *ring->sq_tail - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE);
}

void cmd_sqe(void)
{
	struct ring *ring = mapped_ring();
	size_t bytes = ring->flags & IORING_SETUP_SQE128 ? 128 : 64;
	unsigned tail = *ring->sq_tail, slot = tail & *ring->sq_mask;
	struct io_uring_sqe *sqe = (struct io_uring_sqe *)(ring->sqes + slot * bytes);
	struct io_uring_sqe wanted = {
		.opcode = number_word(2),
		.fd = number_word(3),
		.addr = number_word(4),
		.len = number_word(5),
		.off = number_word(6),
		.buf_index = number_word_or(7, 0),
		.flags = number_word_or(8, 0),
		.user_data = number_word_or(9, 0),
		.rw_flags = number_word_or(10, 0),
		.ioprio = number_word_or(11, 0),
	};

	if (queued(ring) >= ring->sq_entries)
		usage("the submission queue is full");
	memset(sqe, 0, bytes);
	*sqe = wanted;
	if (ring->sq_array)
		ring->sq_array[slot] = slot;
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
	reply(queued(ring));
}

static struct {
	uint64_t user_data;
	int32_t res;
	uint32_t flags;
} taken[512];
static unsigned ntaken;

/* Everything, also what waits for room in the queue. Task work is only run on the way into the kernel. */
static void take_completions(struct ring *ring)
{
	size_t bytes = ring->flags & IORING_SETUP_CQE32 ? 32 : 16;
	unsigned before;

	do {
		unsigned head = *ring->cq_head;

		before = ntaken;
		RAW(SYS_io_uring_enter, ring->fd, 0, 0, IORING_ENTER_GETEVENTS, 0, 0);
		for (; head != __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) && ntaken < 512; head++) {
			struct io_uring_cqe *cqe =
				(struct io_uring_cqe *)(ring->cqes + (head & *ring->cq_mask) * bytes);

			taken[ntaken].user_data = cqe->user_data;
			taken[ntaken].res = cqe->res;
			taken[ntaken++].flags = cqe->flags;
		}
		__atomic_store_n(ring->cq_head, head, __ATOMIC_RELEASE);
	} while (ntaken != before);
}

static void show_completions(void)
{
	field("cqe");
	out_char('[');
	for (unsigned i = 0; i < ntaken; i++) {
		out_text(i ? ",[" : "[");
		out_number(taken[i].user_data);
		out_char(',');
		out_number(taken[i].res);
		out_char(',');
		out_number(taken[i].flags);
		out_char(']');
	}
	out_char(']');
}

void cmd_submit(void)
{
	struct ring *ring = mapped_ring();
	uint64_t wanted = same(word(2), "all") ? queued(ring) : number_word(2);
	struct __kernel_timespec limit = { 2, 0 };
	struct io_uring_getevents_arg arg = { .sigmask_sz = 8, .ts = (uint64_t)&limit };
	unsigned before;
	long result;

	ntaken = 0;
	take_completions(ring);
	before = ntaken;
	result = RAW(SYS_io_uring_enter, ring->fd, queued(ring), wanted,
		     IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
	if (result > 0)
		shared->rings[ring->shared].submitted = shared->rings[ring->shared].loose = 1;
	take_completions(ring);
	reply(result);
	show_completions();
	if (ntaken - before < wanted)
		field_number("missing", 1);
}

void cmd_cqes(void)
{
	struct ring *ring = mapped_ring();

	ntaken = 0;
	take_completions(ring);
	reply(ntaken);
	show_completions();
}
