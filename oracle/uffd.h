/*
 * What the two files about userfaultfd share: how a range is answered, and the words of the protocol for it.
 */
#ifndef PINSCOPE_UFFD_H
#define PINSCOPE_UFFD_H

#include <linux/userfaultfd.h>

#include "agent.h"

enum answer { COPY, ZERO, WP, UNWP, CONTINUE, POISON, WAKE, MOVE, OFF };

/* `argument`: the seed of the bytes copied, for move the source; `mode`: bits of the request's own. */
struct request {
	enum answer answer;
	uint64_t start, length, argument, mode;
};

/* The answer at a descriptor; `done`: the bytes that were answered. r = errno or 0 */
long give(int fd, const struct request *request, const void *bytes, int64_t *done);
/* `give` with bytes of the pattern. More than fits into `room` lies in memory that is mapped for it alone. */
long give_bytes(int fd, const struct request *request, unsigned char *room, uint64_t size, int64_t *done);

/* The descriptor of the name that is the command's first word. */
long named_fd(void);
enum answer answer_word(int index);

/* Which page of the arena an address lies on. */
int64_t arena_page(uint64_t address);

#endif
