/* Shared by the native halves of the benchmarks: a clock, a median, resident memory, and giving up by name. */
#ifndef PINSCOPE_BENCH_H
#define PINSCOPE_BENCH_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t)4096)

static inline double now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static inline int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the samples. */
static inline double median(double *samples, size_t count)
{
    qsort(samples, count, sizeof *samples, compare_doubles);
    return count % 2 ? samples[count / 2] : (samples[count / 2 - 1] + samples[count / 2]) / 2;
}

/* This machine cannot run the benchmark: said on stdout, and no failure. */
static inline void skip(const char *what)
{
    printf("{\"skip\":\"%s: %s\"}\n", what, strerror(errno));
    exit(0);
}

static inline void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline long number_of(const char *file, const char *key)
{
    char line[256];
    long value = -1;
    FILE *stream = fopen(file, "r");
    if (!stream) return -1;
    while (fgets(line, sizeof line, stream))
        if (strncmp(line, key, strlen(key)) == 0) {
            value = strtol(line + strlen(key), NULL, 10);
            break;
        }
    fclose(stream);
    return value;
}

/* Anonymous memory in small pages, written in a shuffled order so that neighbours do not lie in neighbouring frames. */
static inline char *resident_pages(size_t pages)
{
    long available = number_of("/proc/meminfo", "MemAvailable:");
    if (available >= 0 && (size_t)available < pages * 4 * 3 / 2) {
        errno = ENOMEM;
        skip("not enough free memory");
    }
    char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) skip("mmap");
    /* EINVAL: a kernel without huge pages, where all pages are small anyway. */
    if (madvise(at, pages * PAGE, MADV_NOHUGEPAGE) != 0 && errno != EINVAL) fail("MADV_NOHUGEPAGE");
    uint32_t *order = malloc(pages * sizeof *order);
    if (!order) skip("malloc");
    for (size_t i = 0; i < pages; i++) order[i] = (uint32_t)i;
    uint64_t state = 88172645463325252u;
    for (size_t i = pages - 1; i > 0; i--) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        size_t j = (size_t)(state % (i + 1));
        uint32_t other = order[i];
        order[i] = order[j];
        order[j] = other;
    }
    for (size_t i = 0; i < pages; i++) at[order[i] * PAGE] = 1;
    free(order);
    return at;
}
#endif
