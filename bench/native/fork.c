/*
 * Time to fork a process with resident anonymous memory in small pages. The child exits at once.
 *
 *   fork [MEBIBYTES [ROUNDS]]      one JSON line: inside fork() as the parent sees it, and up to the child's reaping
 */
#include "bench.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
    size_t pages = (argc > 1 ? strtoul(argv[1], NULL, 10) : 512) * 256;
    size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 5;
    if (pages == 0 || rounds == 0 || rounds > 1000) {
        fprintf(stderr, "usage: fork [MEBIBYTES [ROUNDS]]\n");
        return 2;
    }
    char *at = resident_pages(pages);
    double *in_fork = malloc(rounds * sizeof *in_fork), *whole = malloc(rounds * sizeof *whole);
    if (!in_fork || !whole) skip("malloc");
    for (size_t i = 0; i <= rounds; i++) {
        /* Every round starts with pages that are writable and exclusive, as before a first fork. */
        for (size_t page = 0; page < pages; page++) at[page * PAGE] = (char)i;
        double start = now_ns();
        pid_t child = fork();
        if (child == 0) _exit(0);
        double forked = now_ns();
        if (child < 0) skip("fork");
        if (waitpid(child, NULL, 0) != child) fail("waitpid");
        double end = now_ns();
        if (i == 0) continue;
        in_fork[i - 1] = (forked - start) / (double)pages;
        whole[i - 1] = (end - start) / (double)pages;
    }
    printf("{\"name\":\"fork\",\"pages\":%zu,\"rounds\":%zu,\"forkExitWaitNs\":%.3f,\"nsPerPage\":%.3f}\n", pages, rounds,
           median(whole, rounds), median(in_fork, rounds));
    return 0;
}
