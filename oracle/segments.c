/* System V shared memory: segments that nobody finds, and segments found by their keys. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#include "agent.h"

/* Above these the keys of agents lie, each KEYS of its own. */
#define FIRST_KEY 0x70000000U
#define LAST_KEY 0x7fffffffU

static int key_is_free(uint32_t key)
{
	return RAW(SYS_shmget, key, 0, 0) == -ENOENT;
}

/*
 * Keys belong to the whole machine. An agent's own begin where its process id says; where somebody has one of them, an
 * agent that was killed, say, the next are tried.
 */
static void choose_keys(void)
{
	uint32_t from = FIRST_KEY + (uint32_t)me->pid * KEYS % (LAST_KEY - FIRST_KEY), key;

	for (int tries = 0; tries < 4096; tries++) {
		key = from + 1;
		while (key < from + KEYS && key_is_free(key))
			key++;
		if (key == from + KEYS)
			break;
		from = from + 2 * KEYS > LAST_KEY ? FIRST_KEY : from + KEYS;
	}
	shared->keys = from;
}

/* The name of a segment with a key of the program's own: the key as the program knows it. */
int key_shown(const struct mapping *mapping, char *into)
{
	uint64_t key;
	char digits[11] = "0x";

	if (!shared->keys || mapping->name_bytes < 13 || memcmp(mapping->name, "/SYSV", 5) != 0)
		return 0;
	memcpy(digits + 2, mapping->name + 5, 8);
	if (!text_to_number(digits, 10, &key) || key <= shared->keys || key >= shared->keys + KEYS)
		return 0;
	key -= shared->keys;
	memcpy(into, mapping->name, mapping->name_bytes);
	into[mapping->name_bytes] = 0;
	memset(into + 5, '0', 8);
	into[12] = "0123456789abcdef"[key];
	return 1;
}

static int is_known(long id)
{
	for (int i = 0; i < shared->nsegments; i++)
		if (shared->segments[i] == id)
			return 1;
	return 0;
}

/* shmget; what it makes is removed at the end. */
static void get_segment(const char *name, uint32_t key, uint64_t size, int flags)
{
	long id;

	name_check(name);
	if (shared->nsegments == MAX_SEGMENTS)
		usage("too many segments");
	id = RAW(SYS_shmget, key, size, flags);
	/* The first one of a machine has the inode number 0, which in maps looks like no file. */
	if (id == 0) {
		RAW(SYS_shmctl, id, IPC_RMID, 0);
		id = RAW(SYS_shmget, key, size, flags);
	}
	if (!failed(id)) {
		if (!is_known(id))
			shared->segments[shared->nsegments++] = id;
		name_store(name, id);
	}
	reply(id);
}

void cmd_shm(void)
{
	get_segment(word(1), IPC_PRIVATE, number_word(2), IPC_CREAT | number_word_or(3, 0600));
}

void cmd_shm_key(void)
{
	uint64_t key = number_word(2);

	if (key < 1 || key >= KEYS)
		usage("keys are 1 to 15");
	if (!shared->keys)
		choose_keys();
	get_segment(word(1), shared->keys + key, number_word(3), number_word(4));
}

void cmd_nattch(void)
{
	struct shmid_ds about;
	long result = RAW(SYS_shmctl, evaluate(word(1)), IPC_STAT, &about);

	reply(failed(result) ? result : (long)about.shm_nattch);
}

void segments_remove(void)
{
	while (shared->nsegments)
		RAW(SYS_shmctl, shared->segments[--shared->nsegments], IPC_RMID, 0);
	shared->keys = 0;
}
