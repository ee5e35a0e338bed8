/* The list of kinds, shared by the book-keeping and the protocol only. */
#ifndef KIND_LIST_H
#define KIND_LIST_H
#define KINDS_MAX 192
struct kind {
    const char *name;
    uintptr_t addr;
    size_t len;
    const char *note;
    char skip[128]; /* empty: the kind is there */
};
extern struct kind kind_list[KINDS_MAX];
extern size_t kind_count;
#endif
