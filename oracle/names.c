/* What `let`, `memfd`, `ring` and their like have stored under a name. */
#include "agent.h"

void name_check(const char *text)
{
	size_t n = strlen(text);

	if (n == 0 || n >= NAME_BYTES)
		usage("a name has 1 to 23 characters");
	for (; *text; text++) {
		char c = *text | 32;

		if (!((c >= 'a' && c <= 'z') || (*text >= '0' && *text <= '9') || *text == '_' || *text == '.'))
			usage("a name is made of letters, digits, _ and .");
	}
}

struct name *name_find(const char *text)
{
	for (int i = 0; i < MAX_NAMES; i++)
		if (same(me->names[i].text, text))
			return *text ? &me->names[i] : NULL;
	return NULL;
}

void name_store(const char *text, int64_t value)
{
	struct name *name = name_find(text);

	for (int i = 0; !name && i < MAX_NAMES; i++)
		if (!me->names[i].text[0])
			name = &me->names[i];
	if (!name)
		usage("more than 128 names");
	strcpy(name->text, text);
	name->value = value;
}

void name_forget(const char *text)
{
	struct name *name = name_find(text);

	if (name)
		name->text[0] = 0;
}
