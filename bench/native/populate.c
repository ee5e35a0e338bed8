/*
 * Time to fill private anonymous memory with small pages (MADV_POPULATE_WRITE), and to give them back (MADV_DONTNEED).
 *
 *   populate [MEBIBYTES [ROUNDS]]       one JSON line
 */
#include "bench.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int main(int argc, char **argv)
{
    size_t pages = (argc > 1 ? strtoul(argv[1], NULL, 10) : 512) * 256;
    size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 5;
    if (pages == 0 || pages > 262144 || rounds == 0 || rounds > 1000) {
        fprintf(stderr, "usage: populate [MEBIBYTES [ROUNDS]]\n");
        return 2;
    }
    long available = number_of("/proc/meminfo", "MemAvailable:");
    if (available >= 0 && (size_t)available < pages * 4 * 3 / 2) {
        errno = ENOMEM;
        skip("not enough free memory");
    }
    char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) skip("mmap");
    if (madvise(at, pages * PAGE, MADV_NOHUGEPAGE) != 0 && errno != EINVAL) fail("MADV_NOHUGEPAGE");
    double *populate = malloc(rounds * sizeof *populate), *dontneed = malloc(rounds * sizeof *dontneed);
    if (!populate || !dontneed) skip("malloc");
    for (size_t i = 0; i <= rounds; i++) {
        double start = now_ns();
        if (madvise(at, pages * PAGE, MADV_POPULATE_WRITE) != 0) skip("MADV_POPULATE_WRITE");
        double middle = now_ns();
        if (madvise(at, pages * PAGE, MADV_DONTNEED) != 0) fail("MADV_DONTNEED");
        double end = now_ns();
        if (i == 0) continue; /* the first round warms the caches */
        populate[i - 1] = (middle - start) / (double)pages;
        dontneed[i - 1] = (end - middle) / (double)pages;
    }
    printf("{\"name\":\"populate\",\"pages\":%zu,\"rounds\":%zu,\"populateNs\":%.3f,\"dontneedNs\":%.3f}\n", pages, rounds,
           median(populate, rounds), median(dontneed, rounds));
    return 0;
}
