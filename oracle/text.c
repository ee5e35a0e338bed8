/* Words in, JSON out. Nothing here allocates. */
#include "agent.h"

char *words[MAX_WORDS];
int nwords;
sigjmp_buf usage_jump;

#define out (buffers->out)
static size_t out_used;

void out_flush(void)
{
	size_t done = 0;

	while (done < out_used) {
		long n = RAW(SYS_write, 1, out + done, out_used - done);

		if (n == -4 || n == -11)
			continue;
		if (n <= 0)
			RAW(SYS_exit_group, 3);
		done += n;
	}
	out_used = 0;
}

void out_char(char c)
{
	if (out_used == sizeof(out))
		out_flush();
	out[out_used++] = c;
}

void out_bytes(const char *bytes, size_t n)
{
	while (n--)
		out_char(*bytes++);
}

void out_text(const char *bytes)
{
	out_bytes(bytes, strlen(bytes));
}

void out_number(int64_t value)
{
	char digits[24];
	int n = 0;
	uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;

	/* JSON numbers are doubles at the other end. */
	if (rest > 1UL << 53) {
		out_char('"');
		out_text("0x");
		out_hex(value);
		out_char('"');
		return;
	}
	if (value < 0)
		out_char('-');
	do
		digits[n++] = '0' + rest % 10;
	while (rest /= 10);
	while (n)
		out_char(digits[--n]);
}

void out_hex(uint64_t value)
{
	int shift = 60;

	while (shift && !(value >> shift & 15))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		out_char("0123456789abcdef"[value >> shift & 15]);
}

void out_json(const char *bytes, size_t n)
{
	out_char('"');
	for (; n--; bytes++) {
		unsigned char c = *bytes;

		if (c == '"' || c == '\\') {
			out_char('\\');
			out_char(c);
		} else if (c < 32 || c > 126) {
			out_text("\\u00");
			out_char("0123456789abcdef"[c >> 4]);
			out_char("0123456789abcdef"[c & 15]);
		} else {
			out_char(c);
		}
	}
	out_char('"');
}

void reply(int64_t result)
{
	me->last = result;
	out_text("{\"r\":");
	out_number(result);
	out_text(",\"e\":");
	out_number(failed(result) ? -result : 0);
}

void reply_text(const char *error)
{
	me->last = -1;
	out_text("{\"r\":-1,\"e\":");
	out_json(error, strlen(error));
}

void field(const char *name)
{
	out_text(",\"");
	out_text(name);
	out_text("\":");
}

void field_number(const char *name, int64_t value)
{
	field(name);
	out_number(value);
}

_Noreturn void usage(const char *why)
{
	reply_text("USAGE");
	field("why");
	out_json(why, strlen(why));
	siglongjmp(usage_jump, 1);
}

int same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

const char *word(int index)
{
	if (index >= nwords)
		usage("a word is missing");
	return words[index];
}

int text_to_number(const char *digits, size_t n, uint64_t *value)
{
	uint64_t v = 0;
	size_t i = 0;

	if (n > 2 && digits[0] == '0' && (digits[1] | 32) == 'x') {
		for (i = 2; i < n; i++) {
			char c = digits[i] | 32;

			if (c >= '0' && c <= '9')
				v = v * 16 + (c - '0');
			else if (c >= 'a' && c <= 'f')
				v = v * 16 + (c - 'a' + 10);
			else
				return 0;
		}
	} else {
		for (; i < n; i++) {
			if (digits[i] < '0' || digits[i] > '9')
				return 0;
			v = v * 10 + (digits[i] - '0');
		}
	}
	*value = v;
	return i > 0;
}

static uint64_t term(const char *start, size_t n)
{
	char kind = *start;
	char name[NAME_BYTES];
	uint64_t v;

	if (kind == '@' || kind == '&') {
		if (!text_to_number(start + 1, n - 1, &v))
			usage("@ and & want a number");
		return kind == '@' ? ARENA + v * PAGE : (uint64_t)scratch + v;
	}
	if (kind == '$' || kind == '#') {
		if (n - 1 >= sizeof(name) || n < 2)
			usage("a name is too long or empty");
		memcpy(name, start + 1, n - 1);
		name[n - 1] = 0;
		if (kind == '#')
			return child_pid(name);
		if (!name_find(name))
			usage("no such name");
		return name_find(name)->value;
	}
	if (!text_to_number(start, n, &v))
		usage("not a number");
	return v;
}

int64_t evaluate(const char *expression)
{
	uint64_t total = 0;
	int sign = 1;
	const char *at = expression;

	if (*at == '-') {
		sign = -1;
		at++;
	}
	for (;;) {
		size_t n = strcspn(at, "+-");

		if (n == 0)
			usage("not a number");
		total += sign * term(at, n);
		at += n;
		if (!*at)
			return total;
		sign = *at++ == '-' ? -1 : 1;
	}
}

int64_t number_word(int index)
{
	return evaluate(word(index));
}

int64_t number_word_or(int index, int64_t otherwise)
{
	return index < nwords ? evaluate(words[index]) : otherwise;
}

int split(char *line)
{
	nwords = 0;
	for (;;) {
		while (*line == ' ' || *line == '\t')
			line++;
		if (!*line)
			return nwords;
		if (nwords == MAX_WORDS)
			return -1;
		words[nwords++] = line;
		while (*line && *line != ' ' && *line != '\t')
			line++;
		if (*line)
			*line++ = 0;
	}
}
