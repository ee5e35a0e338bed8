/* Bookkeeping of the kinds, address slots, files, and reading of /proc/self. No malloc: the heap is a kind. */
#include "mapping-kinds.h"
#include "kind-list.h"
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

struct kind kind_list[KINDS_MAX];
size_t kind_count;

static struct kind *kind_new(const char *name)
{
    for (size_t i = 0; i < kind_count; i++)
        if (strcmp(kind_list[i].name, name) == 0) {
            dprintf(2, "kind %s is made twice\n", name);
            exit(3);
        }
    if (kind_count == KINDS_MAX) {
        dprintf(2, "more than %d kinds\n", KINDS_MAX);
        exit(3);
    }
    struct kind *kind = &kind_list[kind_count++];
    kind->name = name;
    return kind;
}

void kind_add(const char *name, const void *addr, size_t len, const char *note)
{
    struct kind *kind = kind_new(name);
    kind->addr = (uintptr_t)addr;
    kind->len = len;
    kind->note = note;
}

void kind_skip(const char *name, const char *format, ...)
{
    struct kind *kind = kind_new(name);
    va_list args;
    va_start(args, format);
    vsnprintf(kind->skip, sizeof kind->skip, format, args);
    va_end(args);
}

void kind_skip_errno(const char *name, const char *what)
{
    int saved = errno;
    kind_skip(name, "%s: %s", what, errno_name(saved));
}

const char *errno_name(int number)
{
    static const struct { int number; const char *name; } names[] = {
        {EPERM, "EPERM"},   {ENOENT, "ENOENT"}, {EINTR, "EINTR"},   {EIO, "EIO"},       {ENXIO, "ENXIO"},
        {EBADF, "EBADF"},   {EAGAIN, "EAGAIN"}, {ENOMEM, "ENOMEM"}, {EACCES, "EACCES"}, {EFAULT, "EFAULT"},
        {EBUSY, "EBUSY"},   {EEXIST, "EEXIST"}, {ENODEV, "ENODEV"}, {EINVAL, "EINVAL"}, {EMFILE, "EMFILE"},
        {ENOTTY, "ENOTTY"}, {ENOSPC, "ENOSPC"}, {EROFS, "EROFS"},   {ENOSYS, "ENOSYS"},
        {EOVERFLOW, "EOVERFLOW"}, {EOPNOTSUPP, "EOPNOTSUPP"}, {EHWPOISON, "EHWPOISON"},
        {EAFNOSUPPORT, "EAFNOSUPPORT"}, {EPROTONOSUPPORT, "EPROTONOSUPPORT"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number) return names[i].name;
    static char other[24];
    snprintf(other, sizeof other, "E%d", number);
    return other;
}

/* Far below mmap_base and far above the program: nothing is placed here unless it asks for the address. */
static char *next_slot = (char *)0x100000000000;

char *slot(size_t len)
{
    char *at = next_slot;
    next_slot += ((len + HUGE - 1) & ~(HUGE - 1)) + 2 * HUGE;
    return at + HUGE;
}

char *map_at(char *at, size_t len, int prot, int flags, int fd, off_t offset)
{
    char *got = mmap(at, len, prot, flags | MAP_FIXED_NOREPLACE, fd, offset);
    if (got != MAP_FAILED && got != at) {
        munmap(got, len);
        errno = EEXIST;
        return MAP_FAILED;
    }
    return got;
}

char *map_slot(size_t len, int prot, int flags, int fd, off_t offset)
{
    return map_at(slot(len), len, prot, flags, fd, offset);
}

void touch(char *at, size_t pages)
{
    for (size_t i = 0; i < pages; i++) *(volatile char *)(at + i * PAGE) = (char)(i + 1);
}

char *simple_kind(const char *name, size_t pages, size_t touched, int prot, int flags, int fd, const char *note)
{
    char *at = map_slot(pages * PAGE, prot, flags, fd, 0);
    if (at == MAP_FAILED) {
        kind_skip_errno(name, "mmap");
        return NULL;
    }
    touch(at, touched);
    kind_add(name, at, pages * PAGE, note);
    return at;
}

static char paths[48][256];
static bool is_mount[48];
static size_t path_count;

void remember_path(const char *path)
{
    if (path_count == sizeof paths / sizeof *paths) {
        dprintf(2, "more paths than expected\n");
        exit(3);
    }
    snprintf(paths[path_count], sizeof *paths, "%s", path);
    is_mount[path_count++] = false;
}

void remember_mount(const char *path)
{
    remember_path(path);
    is_mount[path_count - 1] = true;
}

static bool forget_removed(size_t i)
{
    if (is_mount[i]) return umount2(paths[i], MNT_DETACH) == 0;
    return unlink(paths[i]) == 0 || rmdir(paths[i]) == 0;
}

void remove_files(void)
{
    for (size_t i = path_count; i-- > 0;) (void)forget_removed(i);
    path_count = 0;
}

int make_file(const char *directory, const char *name, size_t pages, char *path_out, size_t path_size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/pinscope-%d-%s", directory, getpid(), name);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    remember_path(path);
    if (path_out) snprintf(path_out, path_size, "%s", path);
    static char page[4096];
    memset(page, 'e', sizeof page);
    for (size_t i = 0; i < pages; i++)
        if (pwrite(fd, page, PAGE, (off_t)(i * PAGE)) != (ssize_t)PAGE) return -1;
    return fd;
}

int make_memfd(const char *name, size_t pages, unsigned flags)
{
    int fd = memfd_create(name, MFD_CLOEXEC | flags);
    if (fd >= 0 && ftruncate(fd, (off_t)(pages * PAGE)) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

bool make_directory(const char *name, char *path_out, size_t path_size)
{
    snprintf(path_out, path_size, "%s/%s-%d", work_dir, name, getpid());
    if (mkdir(path_out, 0700) != 0) return false;
    remember_path(path_out);
    return true;
}

bool own_mounts(void)
{
    static bool done;
    if (done) return true;
    if (unshare(CLONE_NEWNS) != 0) return false;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return false;
    done = true;
    return true;
}

const char *disk_name(void)
{
    struct statfs facts;
    if (statfs(work_dir, &facts) != 0) return "unknown";
    switch ((unsigned long)facts.f_type) {
    case 0xef53: return "ext4";
    case 0x58465342: return "xfs";
    case 0x9123683e: return "btrfs";
    case 0x794c7630: return "overlay";
    case 0x01021994: return "tmpfs";
    case 0x858458f6: return "ramfs";
    default: return "unknown";
    }
}

const char *no_disk_files(void)
{
    const char *name = disk_name();
    if (strcmp(name, "tmpfs") == 0 || strcmp(name, "ramfs") == 0) return "the work directory is not on a disk file system";
    if (strcmp(name, "unknown") == 0) return "the work directory is on an unknown file system";
    return NULL;
}

/* Line by line without stdio, whose buffers would come from the heap. */
static bool each_line(const char *file, bool (*visit)(char *line, void *data), void *data)
{
    static char buffer[8192];
    size_t have = 0;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    for (;;) {
        ssize_t got = read(fd, buffer + have, sizeof buffer - 1 - have);
        if (got <= 0) break;
        have += (size_t)got;
        buffer[have] = 0;
        char *line = buffer, *end;
        while ((end = strchr(line, '\n'))) {
            *end = 0;
            if (visit(line, data)) {
                close(fd);
                return true;
            }
            line = end + 1;
        }
        have -= (size_t)(line - buffer);
        memmove(buffer, line, have);
    }
    close(fd);
    return false;
}

struct mapping_query { const char *name; uintptr_t start, end; };

static bool visit_mapping(char *line, void *data)
{
    struct mapping_query *query = data;
    const char *name = strchr(line, '[');
    if (!name || strcmp(name, query->name) != 0) return false;
    return sscanf(line, "%lx-%lx", &query->start, &query->end) == 2;
}

bool find_mapping(const char *name, uintptr_t *start, uintptr_t *end)
{
    struct mapping_query query = {name, 0, 0};
    if (!each_line("/proc/self/maps", visit_mapping, &query)) return false;
    *start = query.start;
    *end = query.end;
    return true;
}

struct number_query { const char *key; long value; bool armed; uintptr_t start; };

static bool visit_number(char *line, void *data)
{
    struct number_query *query = data;
    size_t length = strlen(query->key);
    if (strncmp(line, query->key, length) != 0) return false;
    query->value = strtol(line + length, NULL, 10);
    return true;
}

long proc_number(const char *file, const char *key)
{
    struct number_query query = {key, -1, false, 0};
    each_line(file, visit_number, &query);
    return query.value;
}

static bool visit_smaps(char *line, void *data)
{
    struct number_query *query = data;
    uintptr_t start, end;
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && line[0] != 'A') query->armed = start == query->start;
    return query->armed && visit_number(line, data);
}

long huge_kib(const char *start)
{
    struct number_query query = {"AnonHugePages:", -1, false, (uintptr_t)start};
    each_line("/proc/self/smaps", visit_smaps, &query);
    return query.value;
}
