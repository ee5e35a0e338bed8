/*
 * Holds COUNT mappings and a written buffer of 64 KiB behind them, prints one JSON line with the buffer's address, and
 * waits for the end of its input.
 *
 *   many-mappings [COUNT]
 */
#include "mappings.h"

int main(int argc, char **argv)
{
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 60000, length = 16 * PAGE;
    /* Made first, so it lies above the others: a reader of /proc/PID/maps meets it last. */
    char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) skip("mmap");
    memset(at, 1, length);
    many_mappings(count);
    printf("{\"name\":\"many-mappings\",\"ready\":true,\"mappings\":%zu,\"addr\":\"0x%lx\",\"len\":%zu}\n", count,
           (unsigned long)at, length);
    fflush(stdout);
    char byte;
    ssize_t got;
    do got = read(0, &byte, 1);
    while (got > 0 || (got < 0 && errno == EINTR));
    return 0;
}
