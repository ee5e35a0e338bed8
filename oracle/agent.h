/* What the parts of the oracle agent share. docs/oracle-protocol.md is its manual. */
#ifndef ORACLE_AGENT_H
#define ORACLE_AGENT_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "raw.h"

#define PAGE 4096UL
#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define ARENA 0x100000000000UL
#define SCRATCH_BYTES 32768
#define SHARED_AT 0x600000000000UL
#define BUFFERS_AT 0x610000000000UL

#define MAX_PROCESSES 64
#define MAX_NAMES 128
#define NAME_BYTES 24
#define MAX_CHILDREN 32
#define MAX_RINGS 16
#define MAX_SHARED_RINGS 64
#define MAX_FILES 256
#define MAX_CREATED 64
#define MAX_SEGMENTS 64
#define KEYS 16
#define ID_SLOTS 16384
#define INPUT_BYTES 65536
#define LINE_BYTES 16384
#define MAX_WORDS 512

/* Descriptors of the agent itself; a program's own start at 3 and stay below. */
enum {
	FD_SHARED = 510,
	FD_DISK,
	FD_TMP,
	FD_POOL,
	FD_MAPS = 520,
	FD_STATUS,
	FD_PAGEMAP,
	FD_KPAGEFLAGS,
	FD_KPAGECOUNT,
	FD_VMSTAT,
	FD_REFRESH,
	FD_SMAPS,
	FD_POOL_FREE,
	FD_POOL_RESERVED,
	FD_LOCK,
	FD_OTHERS = 540, /* + process slot: its pagemap */
	FD_CHILDREN = 620, /* + 2 * child: to it, + 1: from it */
	FD_END = 720,
};

struct config {
	uint64_t pages;
	uint64_t memlock; /* bytes; ~0 = unlimited */
	uint64_t stack;
	int thp, pid1, cpu;
	long pool; /* free 2 MiB pages for the program; -1: the pool is not looked at */
	char disk[256], tmp[256], lock[256];
};

/* kB figures of /proc/self/status. */
struct status {
	long size, lck, pin, swap, rss[3];
};

struct name {
	char text[NAME_BYTES];
	int64_t value;
};

struct child {
	char text[NAME_BYTES];
	int slot, busy;
};

struct ring {
	char text[NAME_BYTES];
	int fd, shared;
	unsigned flags, sq_entries, cq_entries;
	unsigned *sq_head, *sq_tail, *sq_mask, *sq_array;
	unsigned *cq_head, *cq_tail, *cq_mask;
	unsigned char *sqes, *cqes;
	void *queues;
	size_t queues_bytes, sqes_bytes;
};

/* One agent process. Lies in shared memory, so that it outlives an exec. */
struct process {
	int pid, alive, level, runs, nopins, parent;
	uint64_t order, execs;
	int64_t last;
	struct name names[MAX_NAMES];
	struct child children[MAX_CHILDREN];
	struct status base;
	uint64_t limits[3][2]; /* of the program, while the agent starts anew */
};

/* What all agent processes know about one ring, whoever holds it. */
struct shared_ring {
	int used, creator;
	uint64_t holders; /* bit = process slot */
	long pinned; /* kB charged to the creator's VmPin */
	int loose; /* VmPin does not tell what it pins: clones, rings of buffers, requests that wait */
	int submitted; /* requests may be in flight */
};

struct page_id {
	uint64_t pfn;
	uint32_t id, round;
};

struct shared {
	char magic[16];
	struct config config;
	int executing; /* slot + 1 of the process that is between its two images */
	int exec_kind;
	uint32_t pending;
	char input[INPUT_BYTES];
	uint64_t next_order;
	int lock;
	struct process processes[MAX_PROCESSES];
	struct shared_ring rings[MAX_SHARED_RINGS];
	struct { uint64_t device, inode; } files[MAX_FILES];
	int nfiles;
	struct { char path[64]; int tmp; } created[MAX_CREATED];
	int ncreated;
	int sockets; /* there were AF_XDP sockets, whoever has them now */
	int segments[MAX_SEGMENTS], nsegments; /* System V shared memory made and not removed */
	uint32_t keys; /* KEYS keys from here on are the program's and nobody else's; 0: it has used none */
	uint64_t effective, limits[16][2]; /* as they were at the start */
	long acquired, released; /* counters at the last reply that showed them */
	long outstanding; /* acquired - released with no ring of the agent's open */
	long ring_gone; /* ms: when the last ring lost its last holder; 0: none has */
	int locked; /* no other agent pins */
	uint32_t round, next_id, nids;
	struct page_id ids[ID_SLOTS], kept[ID_SLOTS];
};

/*
 * Buffers of one process, of no use between two commands. They lie above the arena, where reading smaps stops before
 * it counts their pages, and a child gets new ones instead of copies.
 */
struct buffers {
	char text[262144], first_look[65536], out[65536], relayed[LINE_BYTES + 65536];
	unsigned char work[65536];
	uint64_t window[4096];
};

extern struct shared *const shared;
extern struct buffers *const buffers;
extern struct process *me;
extern int my_slot;
extern struct ring rings[MAX_RINGS];
extern unsigned char scratch[SCRATCH_BYTES];
#define work (buffers->work)
extern struct {
	int pfn, kpageflags, refresh, uring, uffd, uffd_kernel, xdp, rss, ksm_always, memory_failure;
	uint64_t zero_pfn, shmem_device, tmp_device;
} probes;

/* text.c: words in, JSON out */
extern char *words[MAX_WORDS];
extern int nwords;
void out_flush(void);
void out_char(char c);
void out_text(const char *text);
void out_bytes(const char *text, size_t n);
void out_number(int64_t value);
void out_hex(uint64_t value);
void out_json(const char *text, size_t n);
void reply(int64_t result);
void reply_text(const char *error);
void field(const char *name);
void field_number(const char *name, int64_t value);
_Noreturn void usage(const char *why);
extern sigjmp_buf usage_jump;
int64_t number_word(int index);
int64_t number_word_or(int index, int64_t otherwise);
const char *word(int index);
int same(const char *a, const char *b);
int64_t evaluate(const char *text);
int split(char *line);
int text_to_number(const char *text, size_t n, uint64_t *value);

/* names.c */
void name_store(const char *text, int64_t value);
struct name *name_find(const char *text);
void name_forget(const char *text);
void name_check(const char *text);

/* proc.c: reading /proc */
long read_all(int fd, char *into, size_t room);
long read_file(const char *path, char *into, size_t room);
int write_file(const char *path, const char *text);
void open_proc(void);
int open_at(int target, const char *path, int flags);
void read_status(struct status *into);
long status_of(int pid, const char *key);
int pin_counters(long *acquired, long *released);
long read_arena(int fd);
void for_each_line(void (*visit)(char *line, size_t n, void *), void *argument);
void for_each_mapping(void (*visit)(char *line, size_t n, void *), void *argument);
struct mapping {
	uint64_t start, end, offset, device, inode;
	char perms[5];
	const char *name;
	size_t name_bytes;
};
int parse_mapping(const char *line, size_t n, struct mapping *into);
void out_mapping_name(const struct mapping *mapping);
#define proc_text (buffers->text)

/* observe.c, pages.c, smaps.c */
void observe_begin(void);
void observe_no_faults(void);
void observe(void);
void look(void);
int arena_overlaps(const struct mapping *mapping);
uint64_t arena_end(void);
void observe_pages(int look);
int shown_as_ksm(uint64_t word);
void forget_range(uint64_t start, uint64_t end);
void forget_frames(void);
void forget_all(void);
void observe_smaps(void);
void arena_rss(long rss[3]);
void observe_rings(void);
void lock_shared(void);
void unlock_shared(void);

/* pool.c: the huge page pool */
void pool_hold(void);
void observe_pool(void);

/* baseline.c: what belongs to the agent */
long map_buffers(void);
void prefault(void);
void remember_mappings(void);
int unmap_foreign(void);
void rebase(void);
void rebase_image(void);
void rebase_child(void);
void absorb_begin(struct status *before);
void absorb_end(const struct status *before);
void probe(void);
void save_limits(void);
void restore_limits(void);

/* memory.c */
void install_handlers(void);
void fill_bytes(unsigned char *into, size_t n, uint64_t seed, uint64_t from);
uint32_t sum_bytes(const unsigned char *bytes, size_t n, uint32_t h);

/* rings.c */
struct ring *ring_find(const char *text);
int ring_close(struct ring *ring);
void rings_inherit(int child);
long rings_drop(int slot);
long xdp_pages(int fd);
void xdp_forget(int fd);
void xdp_close(int fd);
void settle(void);
void settle_all(void);
void settle_released(void);
int rings_release(void);
long creator_pin(int creator);

/* buffers.c */
long unregister_buffers(struct ring *ring);
void settle_ring(int index);
int charge_may_go(long result);
void sleep_ms(long ms);
long now_ms(void);
long now_us(void);

/* children.c */
struct child *child_find(const char *text);
int child_pid(const char *text);
void kill_everyone(void);
void exec_again(int kind);
void exec_plain(void);

/* space.c */
void heap_remember(void);
void heap_back(uint64_t end);
int heap_moves(void);
uint64_t data_segment(void);
uint64_t locked_by_others(void);
void limits_lift(void);
void limits_return(void);
void personality_reset(void);
int names_known(void);
void segments_remove(void);
int key_shown(const struct mapping *mapping, char *into);

/* uffd-handler.c */
void handler_stop(void);
int handler_serves(void);
void handler_forget(void);
void handler_closed(int fd);
void observe_handler(void);

/* main.c, init.c */
void run_line(char *line, size_t n);
void init_as_first(void);
void open_lock(void);
void close_lock(void);
void keep_input(void);
void leave_first(void);
extern int fresh_child;
extern long idle_us;

typedef void command(void);
command cmd_hello, cmd_obs, cmd_reset, cmd_maps, cmd_nop, cmd_settle, cmd_lock, cmd_unlock, cmd_quit, cmd_sys, cmd_let, cmd_put,
	cmd_get, cmd_limit, cmd_cap, cmd_peek, cmd_poke, cmd_touch, cmd_fill, cmd_sum, cmd_memfd, cmd_secret, cmd_open,
	cmd_fdfill, cmd_fdsum, cmd_fdpages, cmd_pipe, cmd_vmsplice, cmd_drain, cmd_feed, cmd_close, cmd_ring, cmd_reg,
	cmd_bufs, cmd_bufs2, cmd_upd, cmd_upd2, cmd_unreg, cmd_clone, cmd_pbuf, cmd_unpbuf, cmd_sqe, cmd_submit,
	cmd_cqes, cmd_fork, cmd_child, cmd_start, cmd_wait, cmd_reap, cmd_kill, cmd_exec, cmd_pvm, cmd_mem, cmd_ptrace, cmd_uffd, cmd_uffd_reg,
	cmd_uffd_orphan, cmd_uffd_unreg, cmd_uffd_do, cmd_uffd_handler, cmd_uffd_read, cmd_xdp, cmd_xdp_socket, cmd_xdp_reg,
	cmd_ksm, cmd_heap, cmd_room, cmd_shm, cmd_shm_key, cmd_nattch, cmd_sockets,
	cmd_stall, cmd_flow;
long enter_ksm(void);
void leave_ksm(long at);

#endif
