/*
 * userfaultfd: registration, answers on command, and what a descriptor has to tell.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "uffd.h"

#ifndef UFFDIO_POISON
struct uffdio_poison {
	struct uffdio_range range;
	uint64_t mode;
	int64_t updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 8, struct uffdio_poison)
#endif
#ifndef UFFDIO_MOVE
struct uffdio_move {
	uint64_t dst, src, len, mode;
	int64_t move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 5, struct uffdio_move)
#endif

static const char *const answers[] = { "copy", "zero", "wp", "unwp", "continue", "poison", "wake", "move", "off" };

#define MOST_BYTES (8UL << 20)

long give(int fd, const struct request *r, const void *bytes, int64_t *done)
{
	struct uffdio_range range = { r->start, r->length };
	struct uffdio_copy copy = { .dst = r->start, .src = (uint64_t)bytes, .len = r->length, .mode = r->mode };
	struct uffdio_zeropage zero = { .range = range, .mode = r->mode };
	struct uffdio_writeprotect protect = { .range = range, .mode = r->mode };
	struct uffdio_continue continued = { .range = range, .mode = r->mode };
	struct uffdio_poison poison = { .range = range, .mode = r->mode };
	struct uffdio_move move = { .dst = r->start, .src = r->argument, .len = r->length, .mode = r->mode };
	long result;

	*done = 0;
	switch (r->answer) {
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
		if (r->answer == WP)
			protect.mode |= UFFDIO_WRITEPROTECT_MODE_WP;
		return RAW(SYS_ioctl, fd, UFFDIO_WRITEPROTECT, &protect);
	case CONTINUE:
		result = RAW(SYS_ioctl, fd, UFFDIO_CONTINUE, &continued);
		*done = continued.mapped;
		return result;
	case POISON:
		result = RAW(SYS_ioctl, fd, UFFDIO_POISON, &poison);
		*done = poison.updated;
		return result;
	case MOVE:
		result = RAW(SYS_ioctl, fd, UFFDIO_MOVE, &move);
		*done = move.move;
		return result;
	default:
		return RAW(SYS_ioctl, fd, UFFDIO_WAKE, &range);
	}
}

long give_bytes(int fd, const struct request *request, unsigned char *room, uint64_t size, int64_t *done)
{
	uint64_t length = request->length;
	unsigned char *from = room;
	long result;

	*done = 0;
	if (request->answer != COPY)
		return give(fd, request, 0, done);
	if (length > size) {
		long at = RAW(SYS_mmap, 0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (failed(at))
			return at;
		from = (unsigned char *)at;
	}
	fill_bytes(from, length, request->argument, 0);
	result = give(fd, request, from, done);
	if (from != room)
		RAW(SYS_munmap, from, length);
	return result;
}

int64_t arena_page(uint64_t address)
{
	return (int64_t)((address & ~(PAGE - 1)) - ARENA) / (int64_t)PAGE;
}

long named_fd(void)
{
	struct name *name = name_find(word(1));

	if (!name)
		usage("no such name");
	return name->value;
}

enum answer answer_word(int index)
{
	for (int i = 0; i <= OFF; i++)
		if (same(answers[i], word(index)))
			return i;
	usage("not an answer");
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
	struct uffdio_api api = { .api = number_word_or(4, UFFD_API), .features = number_word_or(3, 0) };
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
	struct request request = { .answer = answer_word(2),
				   .start = number_word(3),
				   .length = number_word(4),
				   .argument = number_word_or(5, 0),
				   .mode = number_word_or(6, 0) };
	int64_t done;

	if (request.answer == OFF)
		usage("not an answer");
	if (request.answer == COPY && request.length > MOST_BYTES) {
		/* A length that cannot be meant: the kernel is to refuse it, from memory that need not be there. */
		result = give(fd, &request, work, &done);
	} else {
		result = give_bytes(fd, &request, work, sizeof(work), &done);
	}
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
		out_number(arena_page(messages[i].arg.pagefault.address));
		out_char(']');
	}
	out_char(']');
}
