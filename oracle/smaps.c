/* Level 5: flags and page sums of every arena mapping, buffer tables of rings. */
#include "agent.h"

static const char *const keys[] = { "Rss", "Anonymous", "Swap", "Locked", "AnonHugePages", "ShmemPmdMapped" };
#define KEYS (int)(sizeof(keys) / sizeof(*keys))

struct sums {
	long values[KEYS], hugetlb;
	const char *flags;
	size_t flags_bytes;
};

static void take_line(const char *line, size_t n, struct sums *sums)
{
	size_t key = strcspn(line, ":");
	const char *at = line + key + 1;
	long v = 0;

	while (*at == ' ')
		at++;
	if (key == 7 && memcmp(line, "VmFlags", 7) == 0) {
		sums->flags = at;
		sums->flags_bytes = line + n - at;
		while (sums->flags_bytes && at[sums->flags_bytes - 1] == ' ')
			sums->flags_bytes--;
		return;
	}
	while (*at >= '0' && *at <= '9')
		v = v * 10 + (*at++ - '0');
	for (int i = 0; i < KEYS; i++)
		if (strlen(keys[i]) == key && memcmp(line, keys[i], key) == 0)
			sums->values[i] = v;
	if (key > 8 && memcmp(line + key - 8, "_Hugetlb", 8) == 0)
		sums->hugetlb += v;
}

/* Calls visit for every mapping that overlaps the arena, of the smaps in `proc_text`, which holds some 200. */
static void for_each_arena(void (*visit)(struct mapping *, struct sums *, void *), void *argument)
{
	struct mapping mapping = { 0 };
	struct sums sums = { 0 };
	int inside = 0;
	char *at = proc_text, *end;

	while ((end = strchr(at, '\n'))) {
		if (*at < 'A' || *at > 'Z') {
			inside = parse_mapping(at, end - at, &mapping) && arena_overlaps(&mapping);
			memset(&sums, 0, sizeof(sums));
		} else if (inside) {
			take_line(at, end - at, &sums);
			if (sums.flags) {
				visit(&mapping, &sums, argument);
				inside = 0;
			}
		}
		at = end + 1;
	}
}

/* Without `sd`: soft-dirty is no fact about the program (R-OUT-4). */
static void out_flags(const char *flags, size_t n)
{
	char shown[128];
	size_t used = 0;

	for (size_t i = 0; i + 1 < n && used + 3 < sizeof(shown); i += 3) {
		if (flags[i] == 's' && flags[i + 1] == 'd')
			continue;
		if (used)
			shown[used++] = ' ';
		shown[used++] = flags[i];
		shown[used++] = flags[i + 1];
	}
	out_json(shown, used);
}

static void show(struct mapping *mapping, struct sums *sums, void *first)
{
	(void)mapping;
	out_text(*(int *)first ? "[" : ",[");
	*(int *)first = 0;
	out_flags(sums->flags, sums->flags_bytes);
	for (int i = 0; i < KEYS; i++) {
		out_char(',');
		out_number(sums->values[i]);
	}
	out_char(',');
	out_number(sums->hugetlb);
	out_char(']');
}

/* `proc_text` holds the smaps. */
void observe_smaps(void)
{
	int first = 1;

	field("vma");
	out_char('[');
	for_each_arena(show, &first);
	out_char(']');
}

static void add_rss(struct mapping *mapping, struct sums *sums, void *argument)
{
	long *rss = argument;
	int shmem = mapping->inode &&
		    (mapping->device == probes.shmem_device || mapping->device == probes.tmp_device);

	rss[0] += sums->values[1];
	rss[shmem ? 2 : 1] += sums->values[0] - sums->values[1];
}

/* Exact, from the page tables: kB of the arena that are anonymous, of files, of shmem. */
void arena_rss(long rss[3])
{
	rss[0] = rss[1] = rss[2] = 0;
	if (read_arena(FD_SMAPS) >= 0)
		for_each_arena(add_rss, rss);
}

static void show_buffers(const char *line)
{
	int first = 1;

	out_char('[');
	/* `    1: 0x100000000064/5000`, `<none>` when empty; older kernels print an all-ones address (R-FD rules). */
	while (line && (*line == ' ' || (*line >= '0' && *line <= '9'))) {
		const char *at = line + strspn(line, " 0123456789");

		if (*at != ':')
			break;
		at += 1 + strspn(at + 1, " ");
		if (!first)
			out_char(',');
		first = 0;
		if (*at == '<' || strncmp(at, "0xffffffffffffffff/", 19) == 0)
			out_text("\"none\"");
		else
			out_json(at + 2, strcspn(at + 2, "\n"));
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	out_char(']');
}

void observe_rings(void)
{
	int first = 1;

	field("rings");
	out_char('{');
	for (int i = 0; i < MAX_RINGS; i++) {
		char path[48] = "/proc/self/fdinfo/", digits[12];
		const char *found;
		int n = 0, at = 18, fd = rings[i].fd;

		if (!rings[i].text[0])
			continue;
		do
			digits[n++] = '0' + fd % 10;
		while (fd /= 10);
		while (n)
			path[at++] = digits[--n];
		path[at] = 0;
		if (!first)
			out_char(',');
		first = 0;
		out_json(rings[i].text, strlen(rings[i].text));
		out_char(':');
		found = NULL;
		{
			long file = RAW(SYS_openat, -100, path, 02000000);

			if (!failed(file)) {
				if (read_all(file, proc_text, sizeof(proc_text)) > 0)
					found = strstr(proc_text, "UserBufs:");
				RAW(SYS_close, file);
			}
		}
		/* Without SqMask the ring was busy and nothing below is to be believed. */
		if (!found || !strstr(proc_text, "SqMask") || strncmp(found, "UserBufs:\t0\n", 12) == 0)
			out_text("null");
		else
			show_buffers(strchr(found, '\n') ? strchr(found, '\n') + 1 : NULL);
	}
	out_char('}');
}
