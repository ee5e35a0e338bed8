/* memfds, files in the private directories, pipes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>

#include "agent.h"

/* Older headers do not know it. */
#define SYS_MEMFD_SECRET 447

static long stored_fd(const char *name)
{
	struct name *found = name_find(name);

	if (!found)
		usage("no such name");
	return found->value;
}

static long write_pattern(long fd, uint64_t offset, uint64_t n, uint64_t seed)
{
	uint64_t done = 0;

	while (done < n) {
		size_t part = n - done < sizeof(work) ? n - done : sizeof(work);
		long wrote;

		fill_bytes(work, part, seed, done);
		wrote = RAW(SYS_pwrite64, fd, work, part, offset + done);
		if (wrote <= 0)
			return done ? (long)done : wrote;
		done += wrote;
	}
	return done;
}

/* Gives a fresh file its size and, with a seed, its bytes. Negative errno or 0. */
static long set_content(long fd, uint64_t size, int seeded, uint64_t seed)
{
	long result = size ? RAW(SYS_ftruncate, fd, size) : 0;

	if (result == 0 && seeded) {
		result = write_pattern(fd, 0, size, seed);
		if (result >= 0)
			result = RAW(SYS_fsync, fd);
	}
	return result;
}

static void reply_file(const char *name, long fd, uint64_t size, int seeded, uint64_t seed)
{
	if (!failed(fd)) {
		long result = set_content(fd, size, seeded, seed);

		if (failed(result)) {
			RAW(SYS_close, fd);
			fd = result;
		} else {
			name_store(name, fd);
		}
	}
	reply(fd);
}

void cmd_memfd(void)
{
	const char *name = word(1);
	uint64_t flags = number_word(2), size = number_word(3), seed = number_word_or(4, 0);

	name_check(name);
	reply_file(name, RAW(SYS_memfd_create, name, flags), size, nwords > 4, seed);
}

void cmd_secret(void)
{
	const char *name = word(1);
	uint64_t flags = number_word_or(2, 0);

	name_check(name);
	reply_file(name, RAW(SYS_MEMFD_SECRET, flags), 0, 0, 0);
}

void cmd_open(void)
{
	const char *name = word(1), *where = word(2), *path = word(3);
	uint64_t flags = number_word(4), size = number_word_or(5, 0), seed = number_word_or(6, 0);
	int tmp = same(where, "tmp");
	long fd;

	name_check(name);
	if (!tmp && !same(where, "disk"))
		usage("open wants disk or tmp");
	if (strchr(path, '/') || strlen(path) >= sizeof(shared->created[0].path) || same(path, "..") ||
	    same(path, "."))
		usage("a path is one name of at most 63 characters");
	if (!(tmp ? shared->config.tmp : shared->config.disk)[0])
		usage("the agent was started without this directory");
	fd = RAW(SYS_openat, tmp ? FD_TMP : FD_DISK, path, flags, 0600);
	if (!failed(fd)) {
		int known = 0;

		for (int i = 0; i < shared->ncreated; i++)
			known |= shared->created[i].tmp == tmp && same(shared->created[i].path, path);
		if (!known && shared->ncreated == MAX_CREATED) {
			RAW(SYS_close, fd);
			usage("more than 64 files");
		}
		if (!known) {
			strcpy(shared->created[shared->ncreated].path, path);
			shared->created[shared->ncreated++].tmp = tmp;
		}
	}
	reply_file(name, fd, size, nwords > 6, seed);
}

void cmd_fdfill(void)
{
	long fd = stored_fd(word(1));
	uint64_t offset = number_word(2), n = number_word(3), seed = number_word(4);

	reply(write_pattern(fd, offset, n, seed));
}

void cmd_fdsum(void)
{
	long fd = stored_fd(word(1)), got = 0;
	uint64_t offset = number_word(2), n = number_word(3), done = 0;
	uint32_t h = 0;

	while (done < n) {
		size_t part = n - done < sizeof(work) ? n - done : sizeof(work);

		got = RAW(SYS_pread64, fd, work, part, offset + done);
		if (got <= 0)
			break;
		h = sum_bytes(work, got, h);
		done += got;
	}
	/* The bytes read decide, not the length asked for: a sum over less is told by `bytes`. */
	reply(got < 0 && !done ? got : (int64_t)h);
	field_number("bytes", done);
}

/* One byte of every page: each is read in alone, whatever is beside it. */
void cmd_fdpages(void)
{
	long fd = stored_fd(word(1)), got = 0;
	uint64_t end = number_word(2), at = 0;

	for (; at < end; at += PAGE) {
		got = RAW(SYS_pread64, fd, work, 1, at);
		if (got <= 0)
			break;
	}
	reply(got < 0 ? got : (int64_t)(at / PAGE));
}

static void half(char *into, const char *name, const char *end)
{
	if (strlen(name) > NAME_BYTES - 3)
		usage("a pipe's name has at most 20 characters");
	strcpy(into, name);
	strcat(into, end);
}

void cmd_pipe(void)
{
	char reader[NAME_BYTES], writer[NAME_BYTES];
	int fds[2];
	long result;

	name_check(word(1));
	half(reader, word(1), ".r");
	half(writer, word(1), ".w");
	result = RAW(SYS_pipe2, fds, O_NONBLOCK);
	if (!failed(result)) {
		name_store(reader, fds[0]);
		name_store(writer, fds[1]);
	}
	reply(result);
}

static long half_fd(const char *name, const char *end)
{
	char text_of_half[NAME_BYTES];

	half(text_of_half, name, end);
	return stored_fd(text_of_half);
}

void cmd_vmsplice(void)
{
	long fd = half_fd(word(1), ".w");
	struct {
		uint64_t base, length;
	} vector = { number_word(2), number_word(3) };

	reply(RAW(SYS_vmsplice, fd, &vector, 1, number_word_or(4, 0)));
}

void cmd_drain(void)
{
	long fd = half_fd(word(1), ".r"), result;
	uint64_t n = number_word(2);

	if (n > sizeof(work))
		usage("drain takes at most 65536 bytes");
	result = RAW(SYS_read, fd, work, n);
	reply(result);
	if (result >= 0)
		field_number("sum", sum_bytes(work, result, 0));
}

void cmd_feed(void)
{
	long fd = half_fd(word(1), ".w");
	uint64_t n = number_word(2), seed = number_word(3);

	if (n > sizeof(work))
		usage("feed gives at most 65536 bytes");
	fill_bytes(work, n, seed, 0);
	reply(RAW(SYS_write, fd, work, n));
}

void cmd_close(void)
{
	const char *name = word(1);
	struct ring *ring = ring_find(name);
	char halves[2][NAME_BYTES];
	struct name *found;
	long fd;

	if (ring) {
		name_forget(name);
		reply(ring_close(ring));
		return;
	}
	found = name_find(name);
	if (found) {
		fd = found->value;
		name_forget(name);
		if (xdp_pages(fd)) {
			xdp_close(fd);
			reply(0);
		} else {
			handler_closed(fd);
			reply(RAW(SYS_close, fd));
		}
		return;
	}
	half(halves[0], name, ".r");
	half(halves[1], name, ".w");
	if (!name_find(halves[0]) && !name_find(halves[1]))
		usage("no such name");
	for (int i = 0; i < 2; i++) {
		if (!name_find(halves[i]))
			continue;
		RAW(SYS_close, name_find(halves[i])->value);
		name_forget(halves[i]);
	}
	reply(0);
}
