/*
 * Makes one mapping of every kind an io_uring buffer registration can meet, then waits for orders.
 *
 *   mapping-kinds [--dir DIRECTORY] [--memlock BYTES] [--drop-privileges [--uid UID]]
 *
 * Output: one JSON line per kind, {"kind", "addr", "len", "pages", "note"} or {"kind", "skip"}, then "ready".
 * Input:  "register KIND" registers the range as the only buffer of a ring, takes it back, and answers
 *         {"kind", "errno", "acq", "rel"}: the errno's name or null, and the FOLL_PIN references taken and given
 *         back during the call (null without the permission to make the counters exact). "xdp KIND" registers it as
 *         the packet memory of an AF_XDP socket, closes that, and answers the same. "quit" or end of input ends.
 *
 * Every mapping lies alone between holes. Nothing touches a page after "ready" except the registration itself,
 * so an observer may look at a kind first and register it later.
 */
#include "mapping-kinds.h"
#include "kind-list.h"
#include <grp.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define UNPRIVILEGED_ID 65534

/*
 * One ring for all registrations: a closed ring gives its memory back to RLIMIT_MEMLOCK only some time later,
 * an unregistered buffer at once.
 */
static int ring = -1;
static int ring_errno;

const char *work_dir = "/tmp";

static void finish(int status)
{
    end_children();
    remove_files();
    _exit(status);
}

static void on_signal(int number)
{
    finish(128 + number);
}

static void die(const char *what)
{
    dprintf(2, "mapping-kinds: %s: %s\n", what, strerror(errno));
    finish(3);
}

static void print_kind(const struct kind *kind)
{
    if (kind->skip[0]) {
        dprintf(1, "{\"kind\":\"%s\",\"skip\":\"%s\"}\n", kind->name, kind->skip);
        return;
    }
    uintptr_t first = kind->addr / PAGE, last = (kind->addr + kind->len - 1) / PAGE;
    dprintf(1, "{\"kind\":\"%s\",\"addr\":\"0x%lx\",\"len\":%zu,\"pages\":%lu,\"note\":\"%s\"}\n", kind->name,
            (unsigned long)kind->addr, kind->len, (unsigned long)(last - first + 1), kind->note);
}

/* Pin counters of the whole machine; exact only after a refresh, which is root's. */
static bool pin_counters(long *acquired, long *released)
{
    int fd = open("/proc/sys/vm/stat_refresh", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool fresh = write(fd, "1", 1) == 1;
    close(fd);
    if (!fresh) return false;
    *acquired = proc_number("/proc/vmstat", "nr_foll_pin_acquired ");
    *released = proc_number("/proc/vmstat", "nr_foll_pin_released ");
    return *acquired >= 0 && *released >= 0;
}

static void make_ring(void)
{
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    ring = (int)syscall(__NR_io_uring_setup, 4, &params);
    ring_errno = errno;
}

static void register_kind(const struct kind *kind)
{
    if (ring < 0) {
        dprintf(1, "{\"kind\":\"%s\",\"error\":\"io_uring_setup: %s\"}\n", kind->name, errno_name(ring_errno));
        return;
    }
    struct iovec iovec = {(void *)kind->addr, kind->len};
    long before[2], after[2];
    bool counted = pin_counters(&before[0], &before[1]);
    long result = syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iovec, 1);
    int number = errno;
    counted = counted && pin_counters(&after[0], &after[1]);
    if (result == 0) syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
    dprintf(1, "{\"kind\":\"%s\",\"errno\":", kind->name);
    if (result == 0) dprintf(1, "null");
    else dprintf(1, "\"%s\"", errno_name(number));
    if (counted) dprintf(1, ",\"acq\":%ld,\"rel\":%ld}\n", after[0] - before[0], after[1] - before[1]);
    else dprintf(1, ",\"acq\":null,\"rel\":null}\n");
}

static void register_xdp(const struct kind *kind)
{
    int xsk = socket(AF_XDP, SOCK_RAW, 0);
    if (xsk < 0) {
        dprintf(1, "{\"kind\":\"%s\",\"error\":\"socket: %s\"}\n", kind->name, errno_name(errno));
        return;
    }
    /* the structure as older interfaces have it: its tail differs between headers */
    struct { unsigned long long addr, len; unsigned chunk_size, headroom, flags, metadata; } reg = {
        (unsigned long long)kind->addr, kind->len, 4096, 0, 0, 0};
    int result = setsockopt(xsk, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg);
    int number = errno;
    close(xsk);
    dprintf(1, "{\"kind\":\"%s\",\"errno\":", kind->name);
    if (result == 0) dprintf(1, "null");
    else dprintf(1, "\"%s\"", errno_name(number));
    dprintf(1, ",\"acq\":null,\"rel\":null}\n");
}

static void obey(const char *line)
{
    if (strcmp(line, "quit") == 0) finish(0);
    bool xdp = strncmp(line, "xdp ", 4) == 0;
    if (xdp || strncmp(line, "register ", 9) == 0) {
        const char *name = line + (xdp ? 4 : 9);
        for (size_t i = 0; i < kind_count; i++)
            if (strcmp(kind_list[i].name, name) == 0 && !kind_list[i].skip[0]) {
                (xdp ? register_xdp : register_kind)(&kind_list[i]);
                return;
            }
        dprintf(1, "{\"kind\":\"%s\",\"error\":\"no such kind\"}\n", name);
        return;
    }
    dprintf(1, "{\"error\":\"unknown command\"}\n");
}

static void drop_privileges(unsigned id)
{
    if (setgroups(0, NULL) != 0) die("setgroups");
    if (setresgid(id, id, id) != 0) die("setresgid");
    if (setresuid(id, id, id) != 0) die("setresuid");
    /* Leaving root makes a process undumpable, and its /proc files unreadable to its own user. */
    if (prctl(PR_SET_DUMPABLE, 1) != 0) die("PR_SET_DUMPABLE");
}

static void read_options(int argc, char **argv)
{
    bool drop = false;
    unsigned id = UNPRIVILEGED_ID;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--dir") == 0 && i + 1 < argc) work_dir = argv[++i];
        else if (strcmp(argv[i], "--memlock") == 0 && i + 1 < argc) {
            rlim_t bytes = strtoull(argv[++i], NULL, 10);
            struct rlimit limit = {bytes, bytes};
            if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) die("RLIMIT_MEMLOCK");
        } else if (strcmp(argv[i], "--drop-privileges") == 0) drop = true;
        else if (strcmp(argv[i], "--uid") == 0 && i + 1 < argc) id = (unsigned)strtoul(argv[++i], NULL, 10);
        else {
            dprintf(2, "usage: mapping-kinds [--dir DIRECTORY] [--memlock BYTES] [--drop-privileges [--uid UID]]\n");
            _exit(2);
        }
    }
    if (drop) drop_privileges(id);
}

#define STACK_PAGES 8

int main(int argc, char **argv)
{
    read_options(argc, argv);
    /* A deep frame that is written once: the stack mapping keeps its size from here on. */
    volatile char deep[256 * 1024];
    for (size_t i = sizeof deep; i-- > 0;) deep[i] = 1;
    char *stack_pages = (char *)(((uintptr_t)deep + 2 * PAGE) & ~(PAGE - 1));

    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGHUP, on_signal);
    signal(SIGPIPE, on_signal);

    kinds_fork(); /* first: a fork shares whatever exists */
    kinds_anon(stack_pages, STACK_PAGES);
    kinds_image();
    kinds_shmem();
    kinds_disk();
    kinds_mounts();
    kinds_huge();
    kinds_special();
    kinds_device();
    kinds_multi();
    kinds_exhausted();
    kinds_below_stack();
    make_ring();
    for (size_t i = 0; i < kind_count; i++) print_kind(&kind_list[i]);
    dprintf(1, "ready\n");

    static char line[256];
    size_t used = 0;
    char byte;
    ssize_t got;
    while ((got = read(0, &byte, 1)) == 1 || (got < 0 && errno == EINTR)) {
        if (got < 0) continue;
        if (byte != '\n') {
            if (used + 1 < sizeof line) line[used++] = byte;
            continue;
        }
        line[used] = 0;
        used = 0;
        obey(line);
    }
    finish(0);
}
