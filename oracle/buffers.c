/* What a ring has registered: buffers, clones of them, rings of provided buffers. */
#include <linux/io_uring.h>
#include <signal.h>
#include <sys/time.h>

#include "agent.h"

static void on_alarm(int number)
{
	(void)number;
}

/* Kernels that wait for requests in flight are interrupted after a while: nothing else would end it. */
long unregister_buffers(struct ring *ring)
{
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_ONSTACK };
	struct itimerval timer = { .it_value = { 0, 100000 } }, none = { 0 };
	int waits = shared->rings[ring->shared].submitted;
	long result;

	if (waits) {
		sigaction(SIGALRM, &action, NULL);
		RAW(SYS_setitimer, ITIMER_REAL, &timer, 0);
	}
	result = RAW(SYS_io_uring_register, ring->fd, IORING_UNREGISTER_BUFFERS, 0, 0);
	if (waits) {
		RAW(SYS_setitimer, ITIMER_REAL, &none, 0);
		signal(SIGALRM, SIG_DFL);
	}
	return result;
}

static struct ring *named_ring(void)
{
	struct ring *ring = ring_find(word(1));

	if (!ring)
		usage("no ring of this name");
	return ring;
}

static long registered(struct ring *ring, uint64_t opcode, void *argument, uint64_t nr)
{
	struct shared_ring *known = &shared->rings[ring->shared];
	long before = creator_pin(known->creator);
	long result, after;

	do
		result = RAW(SYS_io_uring_register, ring->fd, opcode, argument, nr);
	while (charge_may_go(result));
	after = creator_pin(known->creator);
	if (before >= 0 && after >= 0)
		known->pinned += after - before;
	return result;
}

static struct {
	uint64_t base, length;
} vectors[MAX_WORDS / 2];
static uint64_t tags[MAX_WORDS / 3];

static int take_vectors(int from)
{
	int n = 0;

	for (int i = from; i < nwords; i += 2, n++) {
		vectors[n].base = number_word(i);
		vectors[n].length = number_word(i + 1);
	}
	return n;
}

void cmd_reg(void)
{
	struct ring *ring = named_ring();

	reply(registered(ring, number_word(2), (void *)number_word_or(3, 0), number_word_or(4, 0)));
}

void cmd_bufs(void)
{
	struct ring *ring = named_ring();
	int n = take_vectors(2);

	reply(registered(ring, IORING_REGISTER_BUFFERS, vectors, n));
}

void cmd_bufs2(void)
{
	struct ring *ring = named_ring();
	struct io_uring_rsrc_register arg = { .flags = number_word(2), .nr = number_word(3) };
	int n = 0;

	for (int i = 4; i < nwords; i += 3, n++) {
		vectors[n].base = number_word(i);
		vectors[n].length = number_word(i + 1);
		tags[n] = number_word(i + 2);
	}
	if (n && (uint64_t)n != arg.nr)
		usage("as many triples as entries, or none");
	if (n) {
		arg.data = (uint64_t)vectors;
		arg.tags = (uint64_t)tags;
	}
	reply(registered(ring, IORING_REGISTER_BUFFERS2, &arg, sizeof(arg)));
}

/*
 * A huge page is charged once. The page that takes the place of another one of the same huge page costs nothing, and
 * the one that goes takes the charge with it (R-URING-46): then VmPin does not tell what is pinned.
 */
static long updated(struct ring *ring, uint64_t opcode, struct io_uring_rsrc_update2 *arg)
{
	long result = registered(ring, opcode, arg, sizeof(*arg));
	struct shared_ring *known = &shared->rings[ring->shared];

	for (long i = 0; i < result && known->pinned <= 0; i++)
		if (vectors[i].base)
			known->loose = 1;
	return result;
}

void cmd_upd(void)
{
	struct ring *ring = named_ring();
	struct io_uring_rsrc_update2 arg = { .offset = number_word(2), .data = (uint64_t)vectors };

	arg.nr = take_vectors(3);
	reply(updated(ring, IORING_REGISTER_BUFFERS_UPDATE, &arg));
}

/* With tags. */
void cmd_upd2(void)
{
	struct ring *ring = named_ring();
	struct io_uring_rsrc_update2 arg = { .offset = number_word(2), .data = (uint64_t)vectors, .tags = (uint64_t)tags };

	for (int i = 3; i < nwords; i += 3, arg.nr++) {
		vectors[arg.nr].base = number_word(i);
		vectors[arg.nr].length = number_word(i + 1);
		tags[arg.nr] = number_word(i + 2);
	}
	reply(updated(ring, IORING_REGISTER_BUFFERS_UPDATE, &arg));
}

void cmd_clone(void)
{
	/* struct io_uring_clone_buffers, which older headers lack or know shorter */
	struct {
		uint32_t src_fd, flags, src_off, dst_off, nr, pad[3];
	} arg = { 0 };
	struct ring *ring = named_ring();

	arg.src_fd = number_word(2);
	arg.flags = number_word(3);
	arg.src_off = number_word(4);
	arg.dst_off = number_word(5);
	arg.nr = number_word(6);
	shared->rings[ring->shared].loose = 1;
	for (int i = 0; i < MAX_RINGS; i++)
		if (rings[i].text[0] && rings[i].fd == (int)arg.src_fd)
			shared->rings[rings[i].shared].loose = 1;
	reply(registered(ring, 30, &arg, 1));
}

static void pbuf(uint64_t opcode, uint64_t address, uint64_t entries, uint64_t group, uint64_t flags)
{
	struct {
		uint64_t ring_addr;
		uint32_t ring_entries;
		uint16_t bgid, flags;
		uint64_t resv[3];
	} arg = { address, entries, group, flags, { 0 } };

	shared->rings[named_ring()->shared].loose = 1;
	reply(registered(named_ring(), opcode, &arg, 1));
}

void cmd_pbuf(void)
{
	pbuf(22, number_word(2), number_word(3), number_word(4), number_word_or(5, 0));
}

void cmd_unpbuf(void)
{
	pbuf(23, 0, 0, number_word(2), 0);
}

void cmd_unreg(void)
{
	struct ring *ring = named_ring();
	struct shared_ring *known = &shared->rings[ring->shared];
	long before = creator_pin(known->creator), result = unregister_buffers(ring);
	long after = creator_pin(known->creator);

	if (before >= 0 && after >= 0)
		known->pinned += after - before;
	reply(result);
}
