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

	if (tail - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE) >= ring->sq_entries)
		usage("the submission queue is full");
	memset(sqe, 0, bytes);
	*sqe = wanted;
	if (ring->sq_array)
		ring->sq_array[slot] = slot;
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
	ring->queued++;
	reply(ring->queued);
}

static int show_completions(struct ring *ring)
{
	size_t bytes = ring->flags & IORING_SETUP_CQE32 ? 32 : 16;
	unsigned head = *ring->cq_head, n = 0;

	field("cqe");
	out_char('[');
	for (; head != __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE); head++, n++) {
		struct io_uring_cqe *cqe =
			(struct io_uring_cqe *)(ring->cqes + (head & *ring->cq_mask) * bytes);

		out_text(n ? ",[" : "[");
		out_number(cqe->user_data);
		out_char(',');
		out_number(cqe->res);
		out_char(',');
		out_number(cqe->flags);
		out_char(']');
	}
	out_char(']');
	__atomic_store_n(ring->cq_head, head, __ATOMIC_RELEASE);
	return n;
}

void cmd_submit(void)
{
	struct ring *ring = mapped_ring();
	uint64_t wanted = number_word(2);
	struct __kernel_timespec limit = { 2, 0 };
	struct io_uring_getevents_arg arg = { .sigmask_sz = 8, .ts = (uint64_t)&limit };
	long result = RAW(SYS_io_uring_enter, ring->fd, ring->queued, wanted,
			  IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));

	if (result > 0)
		ring->queued -= result;
	reply(result);
	if ((uint64_t)show_completions(ring) < wanted)
		field_number("missing", 1);
}

void cmd_cqes(void)
{
	struct ring *ring = mapped_ring();
	unsigned n;

	/* Task work is only run on the way into the kernel. */
	RAW(SYS_io_uring_enter, ring->fd, 0, 0, IORING_ENTER_GETEVENTS, 0, 0);
	n = *ring->cq_tail - *ring->cq_head;
	reply(n);
	show_completions(ring);
}
