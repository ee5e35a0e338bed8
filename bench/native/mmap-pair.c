/*
 * Time of mmap + munmap of one page while COUNT other mappings are there.
 *
 *   mmap-pair [COUNT [PAIRS]]      one JSON line
 */
#include "mappings.h"

#define BATCHES 20

int main(int argc, char **argv)
{
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 10;
    size_t pairs = argc > 2 ? strtoul(argv[2], NULL, 10) : 200000;
    if (pairs < BATCHES) {
        fprintf(stderr, "usage: mmap-pair [COUNT [PAIRS]]\n");
        return 2;
    }
    many_mappings(count);
    size_t batch = pairs / BATCHES;
    double samples[BATCHES];
    for (size_t i = 0; i <= BATCHES; i++) {
        double start = now_ns();
        for (size_t j = 0; j < batch; j++) {
            /* Write-only: a protection no neighbour has, so every pair makes and removes a mapping of its own. */
            void *at = mmap(NULL, PAGE, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (at == MAP_FAILED) fail("mmap");
            if (munmap(at, PAGE) != 0) fail("munmap");
        }
        if (i > 0) samples[i - 1] = (now_ns() - start) / (double)batch;
    }
    printf("{\"name\":\"mmap-pair\",\"mappings\":%zu,\"pairs\":%zu,\"nsPerPair\":%.3f}\n", count, batch * BATCHES,
           median(samples, BATCHES));
    return 0;
}
