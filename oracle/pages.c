/*
 * Page-table words and page identity. Raw frame numbers differ from run to run; what is reported is a small
 * number for each frame, given in order of first appearance and taken away when no agent process maps the
 * frame any more.
 *
 * Every look at the arena is a round. A frame keeps its id when it was seen in the round before this one.
 */
#include <fcntl.h>

#include "agent.h"

#define BITS(word) ((word) >> 55)
#define FRAME(word) ((word) & ((1UL << 55) - 1))
#define PRESENT (1UL << 63)
#define SWAPPED (1UL << 62)
#define FILE_PAGE (1UL << 61)
#define ONCE (1UL << 56)
#define SOFT_DIRTY (1UL << 55)

#define KPF_BIT(n) (1UL << (n))
#define KPF_ANON KPF_BIT(12)
#define KPF_KSM KPF_BIT(21)
#define KPF_ZERO KPF_BIT(24)
#define KPF_EXCLUSIVE KPF_BIT(34)
#define KPF_COMPOUND (KPF_BIT(15) | KPF_BIT(16) | KPF_BIT(22))
#define KPF_COMPARED \
	(KPF_BIT(11) | KPF_ANON | KPF_BIT(14) | KPF_COMPOUND | KPF_BIT(17) | KPF_KSM | KPF_ZERO | KPF_BIT(33))

/* Swap types of real devices are small; the topmost are the kernel's own kinds of non-present entries. */
#define MARKER_TYPES 20

static uint64_t window[4096];
static struct {
	int pid, open;
	uint64_t execs;
} others[MAX_PROCESSES];
static struct page_id kept[ID_SLOTS];

static uint64_t hash(uint64_t pfn)
{
	return pfn * 0x9e3779b97f4a7c15UL >> 50 & (ID_SLOTS - 1);
}

static void drop_old_ids(void)
{
	uint32_t n = 0;

	for (int i = 0; i < ID_SLOTS; i++)
		if (shared->ids[i].id && shared->ids[i].round + 1 >= shared->round)
			kept[n++] = shared->ids[i];
	memset(shared->ids, 0, sizeof(shared->ids));
	shared->nids = n;
	while (n--) {
		uint64_t at = hash(kept[n].pfn);

		while (shared->ids[at].id)
			at = (at + 1) & (ID_SLOTS - 1);
		shared->ids[at] = kept[n];
	}
}

/* The id of a frame seen in this round; `fresh` = give one when it has none. 0 = none. */
static uint32_t id_of(uint64_t pfn, int fresh)
{
	uint64_t at = hash(pfn);
	struct page_id *entry;

	while (shared->ids[at].id && shared->ids[at].pfn != pfn)
		at = (at + 1) & (ID_SLOTS - 1);
	entry = &shared->ids[at];
	if (entry->id && entry->round + 1 >= shared->round) {
		entry->round = shared->round;
		return entry->id;
	}
	if (!fresh)
		return 0;
	if (!entry->id) {
		if (shared->nids >= ID_SLOTS / 4 * 3)
			return 0;
		shared->nids++;
	}
	entry->pfn = pfn;
	entry->round = shared->round;
	entry->id = ++shared->next_id;
	return entry->id;
}

static uint64_t frame_word(int fd, uint64_t pfn)
{
	uint64_t word = 0;

	RAW(SYS_pread64, fd, &word, 8, pfn * 8);
	return word;
}

static uint64_t flags_of(uint64_t pfn)
{
	uint64_t flags = probes.kpageflags ? frame_word(FD_KPAGEFLAGS, pfn) : 0;
	uint64_t compared = flags & KPF_COMPARED;

	/* R-AG-8: the zero page belongs to the whole system. */
	if (flags & KPF_ZERO)
		return compared & (KPF_ZERO | KPF_COMPOUND);
	/* Some kernels call every anonymous page a KSM page: there the flag says nothing. */
	if (probes.ksm_always)
		flags &= ~KPF_KSM, compared &= ~KPF_KSM;
	/* R-PM-4 */
	if ((flags & KPF_ANON) && !(flags & KPF_KSM))
		compared |= flags & KPF_EXCLUSIVE;
	return compared;
}

/* A huge zero page has no map count and counts as a file page: only such words need a look at the flags. */
static int zero_kind(uint64_t word)
{
	if (FRAME(word) == probes.zero_pfn)
		return 1;
	if ((word & (FILE_PAGE | ONCE)) == FILE_PAGE && probes.kpageflags &&
	    (frame_word(FD_KPAGEFLAGS, FRAME(word)) & KPF_ZERO))
		return 2;
	return 0;
}

static void show_page(uint64_t index, uint64_t word, int level, int *first)
{
	int zero = 0;

	out_text(*first ? "[" : ",[");
	*first = 0;
	out_number(index);
	out_char(',');
	out_number(BITS(word));
	out_char(',');
	if (!(word & PRESENT)) {
		unsigned type = word & 31;

		if ((word & SWAPPED) && type >= MARKER_TYPES) {
			out_text("\"0x");
			out_hex(word & 0xffffffff);
			out_char('"');
		} else {
			out_text(word & SWAPPED ? "\"swap\"" : "null");
		}
		out_char(']');
		return;
	}
	if (!FRAME(word)) {
		out_text("null]");
		return;
	}
	zero = zero_kind(word);
	if (zero) {
		out_text(zero == 1 ? "0" : "-1");
	} else {
		uint32_t id = id_of(FRAME(word), 1);

		if (id)
			out_number(id);
		else
			out_text("null");
	}
	if (level >= 3 && probes.kpageflags) {
		out_char(',');
		out_number(flags_of(FRAME(word)));
		out_char(',');
		out_number(zero ? 0 : frame_word(FD_KPAGECOUNT, FRAME(word)));
	}
	out_char(']');
}

/* Walks the arena words of one process: shows them (level > 0) or only keeps the ids of what is there. */
static void walk(int fd, int level, int *first, int fresh, uint64_t skip_start, uint64_t skip_end)
{
	uint64_t page = 0, pages = shared->config.pages;

	while (page < pages) {
		uint64_t n = pages - page < 4096 ? pages - page : 4096;
		long got = RAW(SYS_pread64, fd, window, n * 8, (ARENA / PAGE + page) * 8);

		if (got <= 0)
			return;
		n = got / 8;
		for (uint64_t i = 0; i < n; i++) {
			uint64_t address = ARENA + (page + i) * PAGE;

			/* Soft-dirty belongs to the whole machine's history, and many kernels lack it (R-OUT-4). */
			window[i] &= ~SOFT_DIRTY;
			if (!window[i] || (address >= skip_start && address < skip_end))
				continue;
			if (level)
				show_page(page + i, window[i], level, first);
			else if ((window[i] & PRESENT) && FRAME(window[i]) && !zero_kind(window[i]))
				id_of(FRAME(window[i]), fresh);
		}
		page += n;
	}
}

static int pagemap_of(int slot)
{
	struct process *other = &shared->processes[slot];
	char path[40] = "/proc/", digits[12];
	int n = 0, at = 6, pid = other->pid;

	if (others[slot].open && others[slot].pid == pid && others[slot].execs == other->execs)
		return FD_OTHERS + slot;
	do
		digits[n++] = '0' + pid % 10;
	while (pid /= 10);
	while (n)
		path[at++] = digits[--n];
	strcpy(path + at, "/pagemap");
	others[slot].open = open_at(FD_OTHERS + slot, path, O_RDONLY) == 0;
	others[slot].pid = other->pid;
	others[slot].execs = other->execs;
	return others[slot].open ? FD_OTHERS + slot : -1;
}

static void walk_others(int fresh)
{
	uint64_t done = 0;
	int ignored = 0;

	for (;;) {
		int next = -1;

		for (int i = 0; i < MAX_PROCESSES; i++)
			if (shared->processes[i].alive && shared->processes[i].order > done &&
			    (next < 0 || shared->processes[i].order < shared->processes[next].order))
				next = i;
		if (next < 0)
			return;
		done = shared->processes[next].order;
		if (next != my_slot && pagemap_of(next) >= 0)
			walk(FD_OTHERS + next, 0, &ignored, fresh, 0, 0);
	}
}

static void next_round(void)
{
	shared->round++;
	if (shared->nids >= ID_SLOTS / 2)
		drop_old_ids();
}

/* `word` of a page that is anonymous and nothing else. */
int shown_as_ksm(uint64_t word)
{
	return FRAME(word) && probes.kpageflags && (frame_word(FD_KPAGEFLAGS, FRAME(word)) & KPF_KSM) != 0;
}

void observe_pages(int level)
{
	int first = 1;

	next_round();
	field("pm");
	out_char('[');
	walk(FD_PAGEMAP, level, &first, 1, 0, 0);
	out_char(']');
	if (probes.pfn)
		walk_others(1);
}

/*
 * A step that frees frames and allocates others may get the same frames back, or not. To make identity the same in
 * every run, frames mapped only in the range that goes lose their ids before the step.
 */
void forget_range(uint64_t start, uint64_t end)
{
	int ignored = 0;

	if (!probes.pfn || !shared->nids)
		return;
	lock_shared();
	next_round();
	walk(FD_PAGEMAP, 0, &ignored, 0, start, end);
	walk_others(0);
	unlock_shared();
}

void forget_all(void)
{
	if (!shared->nids)
		return;
	memset(shared->ids, 0, sizeof(shared->ids));
	shared->nids = 0;
}
