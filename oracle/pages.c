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

#define window (buffers->window)
#define WINDOW (sizeof(window) / sizeof(*window))
/* Adjacent frames that are asked about at once. */
#define GROUP 512

static struct {
	int pid, open;
	uint64_t execs;
} others[MAX_PROCESSES];
/* kpageflags and kpagecount of the page frames in hand, adjacent ones, from `first` on. */
static struct {
	uint64_t first, n, counted, flags[GROUP], counts[GROUP];
} group;

/* Pages in a row that look alike; nothing yet where `n` is 0. */
static struct {
	uint64_t index, n, bits, flags, count, word;
	enum { NUMBER, HIDDEN, SWAP, MARKER } kind;
	int64_t id;
	int flagged, others;
} run;

/* Frames that lie together stay together, eight to a cache line or two. */
static uint64_t hash(uint64_t pfn)
{
	return ((pfn >> 3) * 0x9e3779b97f4a7c15UL >> 50 << 3 | (pfn & 7)) & (ID_SLOTS - 1);
}

static void drop_old_ids(void)
{
	struct page_id *kept = shared->kept;
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

/* Words of kpageflags or kpagecount; what cannot be read is 0. */
static void frame_words(int fd, uint64_t pfn, uint64_t *into, uint64_t n)
{
	long got = probes.kpageflags ? RAW(SYS_pread64, fd, into, n * 8, pfn * 8) : 0;

	for (uint64_t i = got > 0 ? got / 8 : 0; i < n; i++)
		into[i] = 0;
}

/* A word that may be the huge zero page: it has no map count and counts as a file page. */
static int maybe_huge_zero(uint64_t word)
{
	return (word & (PRESENT | FILE_PAGE | ONCE)) == (PRESENT | FILE_PAGE);
}

/*
 * Reads what is needed about the adjacent frames that words[0] and the words behind it name, all at once. Returns
 * how many words that were.
 */
static uint64_t take_group(const uint64_t *words, uint64_t n, int counted)
{
	uint64_t first = FRAME(words[0]), taken = 1;
	int flags = counted || maybe_huge_zero(words[0]);

	if (!(words[0] & PRESENT) || !first)
		return 1;
	for (; taken < n && taken < GROUP && FRAME(words[taken]) == first + taken && (words[taken] & PRESENT); taken++)
		flags |= maybe_huge_zero(words[taken]);
	group.first = first;
	group.n = flags ? taken : 0;
	group.counted = counted;
	if (flags)
		frame_words(FD_KPAGEFLAGS, first, group.flags, taken);
	if (counted)
		frame_words(FD_KPAGECOUNT, first, group.counts, taken);
	return taken;
}

static uint64_t compared_flags(uint64_t flags)
{
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

/* 1 = the zero page, 2 = a part of the huge one. The word's frame is in the group. */
static int zero_kind(uint64_t word)
{
	if (FRAME(word) == probes.zero_pfn)
		return 1;
	if (maybe_huge_zero(word) && FRAME(word) - group.first < group.n &&
	    (group.flags[FRAME(word) - group.first] & KPF_ZERO))
		return 2;
	return 0;
}

static void out_run(void)
{
	if (!run.n)
		return;
	out_text(run.others ? ",[" : "[");
	run.others = 1;
	out_number(run.index);
	out_char(',');
	out_number(run.bits);
	out_char(',');
	switch (run.kind) {
	case NUMBER:
		out_number(run.id);
		break;
	case HIDDEN:
		out_text("null");
		break;
	case SWAP:
		out_text("\"swap\"");
		break;
	case MARKER:
		out_text("\"0x");
		out_hex(run.word);
		out_char('"');
	}
	if (run.flagged) {
		out_char(',');
		out_number(run.flags);
		out_char(',');
		out_number(run.count);
	} else if (run.n > 1) {
		out_text(",null,null");
	}
	if (run.n > 1) {
		out_char(',');
		out_number(run.n);
	}
	out_char(']');
	run.n = 0;
}

static void show_page(uint64_t index, uint64_t word, int level)
{
	uint64_t flags = 0, count = 0, marker = 0;
	int64_t id = 0;
	int kind = NUMBER, flagged = 0;

	if (!(word & PRESENT)) {
		kind = !(word & SWAPPED) ? HIDDEN : (word & 31) >= MARKER_TYPES ? MARKER : SWAP;
		marker = kind == MARKER ? word & 0xffffffff : 0;
	} else if (!FRAME(word)) {
		kind = HIDDEN;
	} else {
		int zero = zero_kind(word);

		id = zero == 1 ? 0 : zero == 2 ? -1 : (int64_t)id_of(FRAME(word), 1);
		if (!zero && !id)
			kind = HIDDEN;
		flagged = level >= 3 && probes.kpageflags;
		if (flagged) {
			flags = compared_flags(group.flags[FRAME(word) - group.first]);
			count = zero ? 0 : group.counts[FRAME(word) - group.first];
		}
	}
	if (run.n && me->runs && index == run.index + run.n && BITS(word) == run.bits && kind == (int)run.kind &&
	    flagged == run.flagged && flags == run.flags && count == run.count && marker == run.word &&
	    id == (run.id > 0 ? run.id + (int64_t)run.n : run.id)) {
		run.n++;
		return;
	}
	out_run();
	run.index = index;
	run.n = 1;
	run.bits = BITS(word);
	run.kind = kind;
	run.id = id;
	run.word = marker;
	run.flagged = flagged;
	run.flags = flags;
	run.count = count;
}

/* Walks the arena words of one process: shows them (level > 0) or only keeps the ids of what is there. */
static void walk(int fd, int level, int fresh, uint64_t skip_start, uint64_t skip_end)
{
	uint64_t page = 0, pages = shared->config.pages;
	int counted = level >= 3 && probes.kpageflags;

	while (page < pages) {
		uint64_t n = pages - page < WINDOW ? pages - page : WINDOW, grouped = 0;
		long got = RAW(SYS_pread64, fd, window, n * 8, (ARENA / PAGE + page) * 8);

		if (got <= 0)
			return;
		n = got / 8;
		/* Soft-dirty belongs to the whole machine's history, and many kernels lack it (R-OUT-4). */
		for (uint64_t i = 0; i < n; i++)
			window[i] &= ~SOFT_DIRTY;
		for (uint64_t i = 0; i < n; i++) {
			uint64_t address = ARENA + (page + i) * PAGE;

			if (!window[i] || (address >= skip_start && address < skip_end))
				continue;
			if (i >= grouped)
				grouped = i + take_group(window + i, n - i, counted);
			if (level)
				show_page(page + i, window[i], level);
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
			walk(FD_OTHERS + next, 0, fresh, 0, 0);
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
	uint64_t flags;

	frame_words(FD_KPAGEFLAGS, FRAME(word), &flags, 1);
	return FRAME(word) && (flags & KPF_KSM) != 0;
}

/* After a look at everything only this process has to be shown: nothing has moved since. */
void observe_pages(int looking)
{
	if (!looking)
		next_round();
	run.n = run.others = 0;
	field("pm");
	out_char('[');
	walk(FD_PAGEMAP, me->level, 1, 0, 0);
	out_run();
	out_char(']');
	if (probes.pfn && !looking)
		walk_others(1);
}

/*
 * A step that frees frames and allocates others may get the same frames back, or not. To make identity the same in
 * every run, frames mapped only in the range that goes lose their ids before the step.
 */
void forget_range(uint64_t start, uint64_t end)
{
	if (!probes.pfn || !shared->nids)
		return;
	lock_shared();
	next_round();
	walk(FD_PAGEMAP, 0, 0, start, end);
	walk_others(0);
	unlock_shared();
}

/* No frame keeps its id, wherever it is mapped. */
void forget_frames(void)
{
	if (!probes.pfn || !shared->nids)
		return;
	lock_shared();
	next_round();
	next_round();
	unlock_shared();
}

void forget_all(void)
{
	if (!shared->nids)
		return;
	memset(shared->ids, 0, sizeof(shared->ids));
	shared->nids = 0;
}
