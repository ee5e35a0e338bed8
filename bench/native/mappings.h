/* A process with many mappings: single pages whose protection alternates, so that none merges with its neighbour. */
#ifndef PINSCOPE_MAPPINGS_H
#define PINSCOPE_MAPPINGS_H
#include "bench.h"

static inline void many_mappings(size_t count)
{
    if (count == 0) return;
    char *at = mmap(NULL, count * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) skip("mmap");
    for (size_t i = 1; i < count; i += 2)
        if (mprotect(at + i * PAGE, PAGE, PROT_READ | PROT_WRITE) != 0) skip("mprotect (vm.max_map_count?)");
}
#endif
