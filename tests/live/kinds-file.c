/* File mappings: the program's own image, shmem in all its shapes, disk files, and file systems mounted here. */
#include "mapping-kinds.h"
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/shm.h>

static char data_pages[4 * 4096] __attribute__((aligned(4096))) = {1};
static char bss_pages[4 * 4096] __attribute__((aligned(4096)));
static const char rodata_pages[2 * 4096] __attribute__((aligned(4096))) = {2};

void kinds_image(void)
{
    touch(data_pages, 2);
    kind_add("image-data", data_pages, sizeof data_pages, ".data: private file mapping, 2 of 4 pages written");
    touch(bss_pages, 2);
    kind_add("image-bss", bss_pages, sizeof bss_pages, ".bss, 2 of 4 pages written");
    kind_add("image-rodata", rodata_pages, sizeof rodata_pages, ".rodata");
    kind_add("image-text", (void *)((uintptr_t)kinds_image & ~(PAGE - 1)), PAGE, ".text");
}

/* Maps fd, touches, adds; or passes on why there is no fd. */
static void fd_kind(const char *name, int fd, size_t pages, size_t touched, int prot, int flags, const char *note)
{
    if (fd < 0) kind_skip_errno(name, "open");
    else simple_kind(name, pages, touched, prot, flags, fd, note);
}

static void sealed_kinds(void)
{
    int fd = make_memfd("sealed", 4, MFD_ALLOW_SEALING);
    if (fd < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != 0) {
        kind_skip_errno("memfd-sealed-private", "F_SEAL_WRITE");
        kind_skip_errno("memfd-sealed-shared-ro", "F_SEAL_WRITE");
        return;
    }
    simple_kind("memfd-sealed-private", 4, 1, RW, MAP_PRIVATE, fd, "F_SEAL_WRITE, private rw, 1 of 4 pages written");
    simple_kind("memfd-sealed-shared-ro", 4, 0, PROT_READ, MAP_SHARED, fd, "F_SEAL_WRITE, shared read-only");
}

static void sysv_kind(const char *name, size_t len, int flags, const char *note)
{
    int id = shmget(IPC_PRIVATE, len, IPC_CREAT | 0600 | flags);
    if (id < 0) {
        kind_skip_errno(name, "shmget");
        return;
    }
    char *at = shmat(id, slot(len), 0);
    int saved = errno;
    shmctl(id, IPC_RMID, NULL);
    errno = saved;
    if (at == (char *)-1) kind_skip_errno(name, "shmat");
    else {
        touch(at, 1);
        kind_add(name, at, len, note);
    }
}

void kinds_shmem(void)
{
    simple_kind("shared-anon-touched", 4, 4, RW, SHAR, -1, "MAP_SHARED|MAP_ANONYMOUS, written");
    simple_kind("shared-anon-untouched", 4, 0, RW, SHAR, -1, "MAP_SHARED|MAP_ANONYMOUS, untouched");
    simple_kind("shared-anon-ro", 4, 0, PROT_READ, SHAR, -1, "MAP_SHARED|MAP_ANONYMOUS, PROT_READ");
    int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
    fd_kind("dev-zero-shared", zero, 4, 2, RW, MAP_SHARED, "/dev/zero MAP_SHARED");
    fd_kind("dev-zero-private", zero, 4, 2, RW, MAP_PRIVATE, "/dev/zero MAP_PRIVATE");
    fd_kind("memfd-shared-touched", make_memfd("shared-t", 4, 0), 4, 4, RW, MAP_SHARED, "memfd shared, written");
    fd_kind("memfd-shared-untouched", make_memfd("shared-u", 4, 0), 4, 0, RW, MAP_SHARED, "memfd shared, untouched");
    fd_kind("memfd-private-touched", make_memfd("private-t", 4, 0), 4, 4, RW, MAP_PRIVATE, "memfd private, written");
    fd_kind("memfd-private-untouched", make_memfd("private-u", 4, 0), 4, 0, RW, MAP_PRIVATE, "memfd private, untouched");
    fd_kind("memfd-shared-ro", make_memfd("shared-ro", 4, 0), 4, 0, PROT_READ, MAP_SHARED, "memfd shared, PROT_READ");
    fd_kind("tmpfs-shared", make_file("/dev/shm", "shared", 4, NULL, 0), 4, 2, RW, MAP_SHARED, "/dev/shm file shared");
    fd_kind("tmpfs-private", make_file("/dev/shm", "private", 4, NULL, 0), 4, 2, RW, MAP_PRIVATE, "/dev/shm file private");
    sysv_kind("sysv-shm", 4 * PAGE, 0, "SysV shared memory, small pages");
    sysv_kind("sysv-shm-hugetlb", HUGE, SHM_HUGETLB, "SysV shared memory, SHM_HUGETLB");
    sealed_kinds();
    fd_kind("memfd-beyond-eof-part", make_memfd("eof-part", 2, 0), 4, 2, RW, MAP_SHARED, "file of 2 pages mapped over 4");
    fd_kind("memfd-beyond-eof-all", make_memfd("eof-all", 0, 0), 4, 0, RW, MAP_SHARED, "empty file mapped over 4 pages");
}

static void disk_kind(const char *name, const char *file, size_t file_pages, size_t pages, size_t touched, int prot, int flags,
                      const char *note)
{
    const char *reason = no_disk_files();
    if (reason) kind_skip(name, "%s", reason);
    else fd_kind(name, make_file(work_dir, file, file_pages, NULL, 0), pages, touched, prot, flags, note);
}

static void disk_read_only(const char *name, const char *file, int flags, const char *note)
{
    const char *reason = no_disk_files();
    if (reason) {
        kind_skip(name, "%s", reason);
        return;
    }
    char path[256];
    int fd = make_file(work_dir, file, 4, path, sizeof path);
    if (fd >= 0) {
        close(fd);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    fd_kind(name, fd, 4, 0, PROT_READ, flags, note);
}

static void disk_deleted(void)
{
    const char *reason = no_disk_files();
    if (reason) {
        kind_skip("disk-private-deleted", "%s", reason);
        kind_skip("disk-shared-deleted", "%s", reason);
        return;
    }
    char path[256];
    int fd = make_file(work_dir, "deleted", 4, path, sizeof path);
    if (fd >= 0) unlink(path);
    fd_kind("disk-private-deleted", fd, 4, 1, RW, MAP_PRIVATE, "unlinked file, private rw");
    fd_kind("disk-shared-deleted", fd, 4, 0, RW, MAP_SHARED, "unlinked file, shared rw");
}

void kinds_disk(void)
{
    disk_kind("disk-private-touched", "priv-t", 4, 4, 4, RW, MAP_PRIVATE, "disk file private rw, written");
    disk_kind("disk-private-partly", "priv-p", 4, 4, 2, RW, MAP_PRIVATE, "disk file private rw, 2 of 4 pages written");
    disk_kind("disk-private-untouched", "priv-u", 4, 4, 0, RW, MAP_PRIVATE, "disk file private rw, untouched");
    disk_kind("disk-shared-touched", "shar-t", 4, 4, 4, RW, MAP_SHARED, "disk file shared rw, written");
    disk_kind("disk-shared-untouched", "shar-u", 4, 4, 0, RW, MAP_SHARED, "disk file shared rw, untouched");
    disk_read_only("disk-shared-ro", "shar-ro", MAP_SHARED, "disk file shared, PROT_READ, read-only descriptor");
    disk_read_only("disk-private-ro", "priv-ro", MAP_PRIVATE, "disk file private, PROT_READ, read-only descriptor");
    disk_kind("disk-shared-prot-read", "shar-pr", 4, 4, 0, PROT_READ, MAP_SHARED, "disk file shared, PROT_READ, rw descriptor");
    disk_kind("disk-private-beyond-eof", "eof", 2, 4, 2, RW, MAP_PRIVATE, "disk file of 2 pages mapped over 4, private");
    disk_kind("disk-private-beyond-eof-all", "eof-all", 0, 4, 0, RW, MAP_PRIVATE, "empty disk file mapped over 4, private");
    disk_deleted();
}

/* Mounts TYPE on a new directory in our own mount namespace. */
static bool mount_here(const char *type, const char *options, char *path, size_t size)
{
    if (!own_mounts() || !make_directory(type, path, size)) return false;
    if (mount("none", path, type, 0, options) != 0) return false;
    remember_mount(path);
    return true;
}

static void ramfs_kinds(void)
{
    char path[256];
    if (!mount_here("ramfs", "", path, sizeof path)) {
        kind_skip_errno("ramfs-shared", "mount ramfs");
        kind_skip_errno("ramfs-private", "mount ramfs");
        return;
    }
    fd_kind("ramfs-shared", make_file(path, "shared", 4, NULL, 0), 4, 2, RW, MAP_SHARED, "ramfs file shared rw");
    fd_kind("ramfs-private", make_file(path, "private", 4, NULL, 0), 4, 2, RW, MAP_PRIVATE, "ramfs file private rw");
}

static void overlay_kinds(void)
{
    char lower[256], upper[256], work[256], path[256], options[900];
    const char *reason = no_disk_files();
    bool fit = !reason && make_directory("lower", lower, sizeof lower) && make_directory("upper", upper, sizeof upper) &&
               make_directory("work", work, sizeof work);
    if (fit) {
        snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work);
        char inner[300];
        snprintf(inner, sizeof inner, "%s/work", work);
        remember_path(inner);
        fit = mount_here("overlay", options, path, sizeof path);
    }
    if (!fit) {
        int saved = errno;
        kind_skip("overlay-shared", "mount overlay: %s", reason ? reason : errno_name(saved));
        kind_skip("overlay-private", "mount overlay: %s", reason ? reason : errno_name(saved));
        return;
    }
    fd_kind("overlay-shared", make_file(path, "shared", 4, NULL, 0), 4, 2, RW, MAP_SHARED, "overlay file shared rw");
    fd_kind("overlay-private", make_file(path, "private", 4, NULL, 0), 4, 2, RW, MAP_PRIVATE, "overlay file private rw");
    /* What make_file created on top also lies in the upper directory and has to go before that can. */
}

static void hugetlbfs_kind(void)
{
    char path[256];
    if (!mount_here("hugetlbfs", "pagesize=2M", path, sizeof path)) {
        kind_skip_errno("hugetlbfs-shared", "mount hugetlbfs");
        kind_skip_errno("hugetlbfs-private", "mount hugetlbfs");
        return;
    }
    int fd = make_file(path, "huge", 0, NULL, 0);
    if (fd < 0 || ftruncate(fd, (off_t)(2 * HUGE)) != 0) fd = -1;
    fd_kind("hugetlbfs-shared", fd, HUGE / PAGE, 1, RW, MAP_SHARED, "hugetlbfs file shared");
    fd_kind("hugetlbfs-private", fd, HUGE / PAGE, 0, RW, MAP_PRIVATE, "hugetlbfs file private, untouched");
}

void kinds_mounts(void)
{
    ramfs_kinds();
    overlay_kinds();
    hugetlbfs_kind();
}
